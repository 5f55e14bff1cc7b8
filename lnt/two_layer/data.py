"""Signal-noise data: every sample is a signal patch y*mu and a noise patch xi ~ N(0, s^2 I_d), or several of these.

Reduced coordinates. The 1 + n + P vectors mu, xi_i and w_r(0) span at most D = 1 + n + P dimensions (D = V + L n + P with V
signal directions and L noise patches of a sample). In an orthonormal basis adapted to them in that order (mu, the xi, the w)
Gaussian vectors' coordinates are independent with a known law (Bartlett's decomposition): below the pivot N(0, 1), on the pivot
chi with as many degrees of freedom as dimensions are left, beyond it 0. Nothing of size d is ever drawn, and the law is exact
for every d >= 1: once d dimensions are used up, no pivot is left and the rows are plain explicit Gaussian vectors of length d.
"""

# Mixture's dim and noise_std may be null when they are given, never in use: `validate` fills them in.
# mypy: disable-error-code="assignment"

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lnt.errors import require
from lnt.noise.observed_labels import Classes, evenly_spread
from lnt.seeding import generator
from lnt.settings import PerRunFloat, PerRunInt, require_one_of, unless
from lnt.training.experiment import Data

ROWS_AT_ONCE = 1024
CLASSES = (0, 0)  # key of true classes that have shares of their own; no other draw of these streams has one of two numbers


def adapted_rows(rng: np.random.Generator, dim: int, taken: int, count: int, width: int) -> np.ndarray:
    """Coordinates [count, width] of `count` vectors ~ N(0, I_dim), in the basis adapted to `taken` earlier vectors, then these.

    Row i has N(0, 1) in coordinates 0 .. taken + i - 1, chi with dim - taken - i degrees of freedom in the next one, and 0
    beyond. With taken >= dim there is no pivot, and each row is an explicit vector of length dim, padded with zeros.
    Source: Bartlett (1933); Muirhead, Aspects of Multivariate Statistical Theory, Theorem 3.2.14.
    """
    # All coordinates are drawn and most are cut off: one call, and no loop over rows of different lengths.
    rows = rng.standard_normal((count, width))
    pivot = taken + np.arange(count)
    for first in range(0, count, ROWS_AT_ONCE):  # a mask of all of them would be as large as they are
        block = slice(first, first + ROWS_AT_ONCE)
        rows[block] *= np.arange(width) < np.minimum(pivot[block], dim)[:, None]
    # A pivot at or beyond dim does not exist: all dimensions are used up.
    has_pivot = np.flatnonzero((pivot < dim) & (pivot < width))
    rows[has_pivot, pivot[has_pivot]] = np.sqrt(rng.chisquare(dim - pivot[has_pivot]))
    return rows


def require_distribution(key: str, shares: Sequence[float]) -> None:
    """Raise ConfigError unless shares are positive and sum to 1."""
    require(min(shares) > 0, key, shares, "must be positive")
    require(abs(sum(shares) - 1) < 1e-6, key, shares, f"sum to {sum(shares):.6g}, must sum to 1")


@dataclass(frozen=True)
class VectorData(Data):
    """Samples of one signal patch out of S and L noise patches xi ~ N(0, s^2 I_d), in any order. Subclasses say which signals.

    snr = |mu| / (s sqrt d) or signal_norm = |mu|: exactly one. orthogonal_noise projects every xi orthogonal to the signals.
    """

    n_train: int = 200  # n
    n_test: int = 2000  # N
    dim: PerRunInt = 2000  # d, the length of a patch
    snr: PerRunFloat | None = unless("signal_norm", value=0.25)  # |mu| / (noise_std sqrt(dim)); give this or signal_norm
    signal_norm: PerRunFloat | None = None  # |mu|
    noise_std: PerRunFloat = 1.0  # s
    orthogonal_noise: bool = False  # project xi orthogonal to the signal
    noise_patches: int = 1  # L, noise patches of each sample beside its signal patch
    mixup: PerRunFloat = 0.0  # alpha of the Beta(alpha, alpha) by which training samples are mixed at each step; 0 = none
    balanced: bool = False  # exactly the expected number of training samples of each class, rounded; else drawn

    kind = "vectors"
    one_patch: ClassVar[bool] = False  # whether a sample is one patch, signal plus noise
    softmax: ClassVar[bool] = False  # whether the network has an output for each class, not one whose sign is the label

    @property
    def signal_labels(self) -> tuple[int, ...]:
        """The true label that each of the S signal patches stands for: +mu, -mu."""
        return (1, -1)

    @property
    def axes(self) -> int:
        """V: the signal patches lie in the first so many coordinates. They are pairs (S = 2 V), u and -u, or not (S = V)."""
        return 1

    def task(self) -> Classes:
        """The classes, which are the labels; +1 is class 0, and -1 is class 1."""
        return Classes()

    @property
    def signal_classes(self) -> tuple[int, ...]:
        """The class that each of the S signal patches stands for."""
        return tuple(self.task().numbers.index(label) for label in self.signal_labels)

    @property
    def distinct_patches(self) -> int:
        """K = S + n L."""
        return len(self.signal_labels) + self.n_train * self.noise_patches

    def validate(self) -> None:
        for key in ("n_train", "n_test", "noise_patches"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "must be at least 1")
        alone = self.one_patch and self.noise_patches != 1
        require(not alone, "noise_patches", self.noise_patches, "must be 1: these samples are one patch, signal plus noise")
        # Noise orthogonal to the signal needs a dimension of its own.
        least = self.axes + self.orthogonal_noise
        require(np.asarray(self.dim) >= least, "dim", self.dim, f"must be at least {least}")
        require(np.asarray(self.noise_std) > 0, "noise_std", self.noise_std, "must be positive")
        require(np.asarray(self.mixup) >= 0, "mixup", self.mixup, "must be at least 0")
        require_one_of(self, "snr", "signal_norm")
        for key in ("snr", "signal_norm"):
            if (value := getattr(self, key)) is not None:
                require(np.asarray(value) >= 0, key, value, "must be at least 0")

    def norm(self) -> np.ndarray:
        """|mu|, a number or [R]."""
        if self.signal_norm is not None:
            return np.asarray(self.signal_norm, float)
        return np.asarray(self.snr, float) * np.asarray(self.noise_std, float) * np.sqrt(np.asarray(self.dim, float))

    def signals(self) -> np.ndarray:
        """The signal patches as multiples of |mu|: [S, V], or [R, S, V]."""
        return np.array([[1.0], [-1.0]])

    def class_shares(self) -> np.ndarray:
        """P(true class), [C], or [R, C] where runs differ in it."""
        count = self.task().count
        return np.full(count, 1 / count)

    def noise_scales(self) -> np.ndarray:
        """The standard deviation of the noise in each class as a multiple of s, [C], or [R, C]."""
        return np.ones(self.task().count)

    def rare(self) -> np.ndarray | None:
        """Which signal patches show the rarest feature, [S]; None where there is but one."""
        return None

    def sample_signals(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """The signal patch of each of `count` samples, drawn uniformly, [count]."""
        kinds = len(self.signal_labels)
        # Counted down, so that the draw 0 is the last signal patch (label -1). Turned around, every data set would change.
        return (kinds - 1 - rng.integers(kinds, size=count)).astype(np.int16)

    def with_shares(self, kinds: np.ndarray, shares: np.ndarray, stream: str, seed: int, balanced: bool) -> np.ndarray:
        """Signal patches [n] of classes that have the shares [C], in place of `kinds` [n], whose classes are uniform.

        A sample keeps its place among the signal patches of its class. `balanced`: round(n share) samples of each class.
        """
        if not balanced and (shares == shares[0]).all():
            return kinds
        # A stream of its own: at another share the same noise patches are drawn, and few samples change their class.
        uniforms = generator(stream, seed, *CLASSES).random(len(kinds))[None]
        if balanced:
            uniforms = evenly_spread(uniforms, np.zeros(uniforms.shape))
        drawn = (uniforms[0, :, None] >= shares[:-1].cumsum()).sum(1)
        classes = np.array(self.signal_classes)
        # Signal patches in the order of their classes, of which each has as many.
        ordered = classes.argsort(kind="stable").reshape(len(shares), -1)
        place = np.empty(len(classes), int)
        place[ordered] = np.arange(ordered.shape[1])
        return ordered[drawn, place[kinds]].astype(kinds.dtype)

    def sample_training_set(self, seed: int, dim: int, width: int, reduced: bool) -> tuple[np.ndarray, np.ndarray]:
        """Signal patches [n] and xi / s [L n, width], in reduced coordinates or (width = dim) explicitly.

        With several noise patches the first one of each sample comes first, then the second ones.
        """
        # dim is in the key, as the law of the pivots depends on it: runs that share seed and dim share this draw.
        rng = generator("data", seed, dim)
        kinds = self.sample_signals(rng, self.n_train)
        shape = (self.n_train * self.noise_patches, width)
        patches = adapted_rows(rng, dim, self.axes, *shape) if reduced else rng.standard_normal(shape)
        if self.orthogonal_noise:
            patches[:, : self.axes] = 0
        return kinds, patches

    def sample_test_set(self, seed: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Signal patches [N] and N(0, I) patches [L N, width].

        The scale s, the projection orthogonal to the signal and the cut at d < width act on the filters instead
        (SampledProblem.test_filters), so that all runs with this test seed share one set of patches.
        """
        # dim is not in the key: runs of all dimensions share the draw.
        rng, count = generator("test", seed), self.n_test
        kinds = self.sample_signals(rng, count)
        rng.random(count, np.float32)  # used by earlier versions; without it every test set would change
        return kinds, rng.standard_normal((count * self.noise_patches, width), np.float32)


@dataclass(frozen=True)
class SignalNoise(VectorData):
    """y on {-1, +1}; a patch y*mu and L = 1 (or more) patches xi ~ N(0, s^2 I_d), in any order.

    P(y = +1) = positive_share; xi has the standard deviation noise_ratio s in samples of class -1.
    Source: Cao et al. 2022; Kou et al. 2023; Han et al. 2025, Definition of the data model; several noise patches: Allen-Zhu,
    Li, "Towards Understanding Ensemble, Knowledge Distillation and Self-Distillation in Deep Learning", ICLR 2023.
    """

    positive_share: PerRunFloat = 0.5  # P(true label = +1)
    noise_ratio: PerRunFloat = 1.0  # standard deviation of the noise in class -1, as a multiple of noise_std

    def validate(self) -> None:
        super().validate()
        share = np.asarray(self.positive_share)
        require((share > 0) & (share < 1), "positive_share", self.positive_share, "must lie between 0 and 1")
        require(np.asarray(self.noise_ratio) > 0, "noise_ratio", self.noise_ratio, "must be positive")

    def class_shares(self) -> np.ndarray:
        share = np.asarray(self.positive_share, float)
        return np.stack([share, 1 - share], -1)

    def noise_scales(self) -> np.ndarray:
        ratio = np.asarray(self.noise_ratio, float)
        return np.stack([np.ones_like(ratio), ratio], -1)


@dataclass(frozen=True)
class Xor(SignalNoise):
    """Two signal directions u and v of norm |mu| with `angle` degrees between them: +u and -u stand for +1, +v and -v for -1.

    No linear function tells the classes apart. Source: Meng, Zou, Cao, "Benign Overfitting in Two-Layer ReLU Convolutional
    Neural Networks for XOR Data", ICML 2024, Definition 2.1 (with u = a + b, v = a - b).
    """

    angle: PerRunFloat = 90.0  # between u and v, in degrees

    signal_labels = (1, 1, -1, -1)  # +u, -u, +v, -v
    axes = 2

    def validate(self) -> None:
        super().validate()
        angle = np.asarray(self.angle)
        require((angle > 0) & (angle <= 90), "angle", self.angle, "must lie in (0, 90] degrees")

    def signals(self) -> np.ndarray:
        half = np.deg2rad(np.asarray(self.angle, float)) / 2
        u, v = (np.stack([np.cos(half), sign * np.sin(half)], -1) for sign in (1, -1))
        # u and v lie at half the angle on both sides of the first axis, so two coordinates hold all four patches.
        return np.stack([u, -u, v, -v], -2)


@dataclass(frozen=True)
class Mixture(SignalNoise):
    """Samples of one patch, x = y mu + xi with xi ~ N(0, s^2 I_d): a mixture of two Gaussians; the network is fully connected.

    With n_gamma instead of snr and noise_std, |mu|^2 = g and s^2 d = 1 - g for g = n_gamma / n:
    x = sqrt(g) y v + sqrt(1 - g) xi with |v| = 1, xi ~ N(0, I / d).
    Source: Frei, Chatterji, Bartlett, COLT 2022; Karhadkar et al., arXiv 2403.06903 (n_gamma).
    """

    dim: PerRunInt | None = unless("dim_over_n", value=2000)  # d, the length of a patch; give this or dim_over_n
    dim_over_n: PerRunFloat | None = None  # d / n
    snr: PerRunFloat | None = unless("signal_norm", "n_gamma", value=0.25)  # |mu| / (noise_std sqrt(dim)), or one of the next
    signal_norm: PerRunFloat | None = None  # |mu|
    n_gamma: PerRunFloat | None = None  # n |mu|^2 where |mu|^2 + noise_std^2 dim = 1
    noise_std: PerRunFloat | None = unless("n_gamma", value=1.0)  # s

    one_patch = True
    sets: ClassVar[Mapping[str, tuple[str, ...]]] = {"dim_over_n": ("dim",), "n_gamma": ("signal_norm", "noise_std")}

    def validate(self) -> None:
        if self.dim_over_n is not None:
            self._follows("dim", np.rint(np.asarray(self.dim_over_n) * self.n_train).astype(int), "dim_over_n")
        require(self.dim is not None, "dim", self.dim, "must be given, or dim_over_n")
        if self.n_gamma is not None:
            share = np.asarray(self.n_gamma, float) / self.n_train
            require((share > 0) & (share < 1), "n_gamma", self.n_gamma, "must lie between 0 and n_train")
            require(self.snr is None, "snr", self.snr, "follows from n_gamma; leave it out")
            self._follows("signal_norm", np.sqrt(share), "n_gamma")
            self._follows("noise_std", np.sqrt((1 - share) / np.asarray(self.dim, float)), "n_gamma")
        usual = "must be given where n_gamma is not, and so must snr or signal_norm: the usual ones are noise_std=1 snr=0.25"
        require(self.noise_std is not None, "noise_std", self.noise_std, usual)
        super().validate()

    def _follows(self, key: str, value: np.ndarray, source: str) -> None:
        """Set `key` to what `source` makes it."""
        given = getattr(self, key)
        # A copy of these settings has both.
        require(given is None or np.allclose(given, value), key, given, f"follows from {source}; leave it out")
        object.__setattr__(self, key, value if value.ndim else value.item())


@dataclass(frozen=True)
class XorMixture(Xor):
    """Samples of one patch, +-u + xi for class +1 and +-v + xi for class -1: four Gaussians, or XOR clusters.

    Source: Xu et al., "Benign Overfitting and Grokking in ReLU Networks for XOR Cluster Data", ICLR 2024.
    """

    one_patch = True


@dataclass(frozen=True)
class Features(SignalNoise):
    """Features k = 1, 2, .. of different strength and frequency: a sample's signal patch is y mu_k with probability
    frequencies[k], where |mu_k| = strengths[k] |mu|, and all mu_k are orthogonal.

    Source: Zou et al., "The Benefits of Mixup for Feature Learning", ICML 2023 (a common and a rare feature).
    """

    strengths: tuple[float, ...] = (1.0, 1.0)  # |mu_k| / |mu| of each feature k
    frequencies: tuple[float, ...] = (0.9, 0.1)  # P(a sample shows feature k)

    @property
    def signal_labels(self) -> tuple[int, ...]:
        return (1, -1) * self.axes

    @property
    def axes(self) -> int:
        return len(self.strengths)

    def validate(self) -> None:
        number = len(self.frequencies)
        require(number >= 1, "frequencies", self.frequencies, "must name at least one feature")
        require(len(self.strengths) == number, "strengths", self.strengths, f"must be {number} numbers, as frequencies are")
        require(min(self.strengths) > 0, "strengths", self.strengths, "must be positive")
        require_distribution("frequencies", self.frequencies)
        super().validate()

    def signals(self) -> np.ndarray:
        return np.kron(np.diag(self.strengths), [[1.0], [-1.0]])

    def rare(self) -> np.ndarray:
        return np.repeat(np.arange(self.axes) == np.argmin(self.frequencies), 2)

    def sample_signals(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """The signal patch of each of `count` samples, [count]: +mu_1, -mu_1, +mu_2, .."""
        shown = rng.choice(self.axes, count, p=np.array(self.frequencies) / sum(self.frequencies))
        return 2 * shown + rng.integers(2, size=count)


@dataclass(frozen=True)
class SignalNoiseClasses(VectorData):
    """K classes with orthogonal signals mu_1, .., mu_K of norm |mu|: a sample of class y is mu_y and L noise patches.

    The network has m filters and an output for each class, f_k = (1/m) sum_r sum_p sigma(<w_{k,r}, x_p>), and softmax.
    P(y = k) = shares[k]. Two classes are not `SignalNoise`, whose signals are +mu and -mu.
    Source: Allen-Zhu, Li, ICLR 2023, with one feature for each class.
    """

    class_count: int = 10  # K
    shares: tuple[float, ...] | None = None  # P(true class = k) of each class, as [0.5, 0.3, 0.2]; null = 1 / K

    softmax = True

    @property
    def signal_labels(self) -> tuple[int, ...]:
        return self.task().numbers

    @property
    def axes(self) -> int:
        return self.class_count

    def task(self) -> Classes:
        return Classes(tuple(range(self.class_count)))

    def validate(self) -> None:
        require(self.class_count >= 2, "class_count", self.class_count, "must be at least 2")
        if self.shares is not None:
            fits = len(self.shares) == self.class_count
            require(fits, "shares", self.shares, f"must be {self.class_count} numbers, one for each class")
            require_distribution("shares", self.shares)
        super().validate()

    def class_shares(self) -> np.ndarray:
        return super().class_shares() if self.shares is None else np.array(self.shares)

    def signals(self) -> np.ndarray:
        return np.eye(self.class_count)
