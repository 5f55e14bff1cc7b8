"""Label noise: which class is observed for each sample. Classes count 0 .. K - 1; with two, +1 is class 0 and -1 is class 1."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lnt.config import ConfigError, PerRunFloat, require
from lnt.seeding import draw_per_run, generator

RESAMPLE_BLOCK = 64  # steps whose labels are drawn together
NO_CONFUSIONS: Mapping[int, int] = {}


@dataclass(frozen=True)
class Classes:
    """The K classes of a task: their numbers in the data set, and which of them people customarily confuse (from -> to)."""

    numbers: tuple[int, ...] = (1, -1)
    confusions: Mapping[int, int] | None = None

    @property
    def count(self) -> int:
        """K."""
        return len(self.numbers)


@dataclass(frozen=True)
class Samples:
    """What label noise may depend on: the samples of R runs."""

    labels: np.ndarray  # [R, n] true classes
    classes: Classes = Classes()
    seeds: np.ndarray | None = None  # [R] of the stream noise
    features: Callable[[int], np.ndarray] | None = None  # of run r: [n, S], standardised pixels
    index: np.ndarray | None = None  # [R, n] positions in the files of the training set


class LabelNoise(ABC):
    """How true classes turn into observed ones. Numbers may be arrays [R]."""

    resample = False
    exact = False
    for_test = True  # whether test samples have observed labels too

    def check(self, classes: Classes) -> None:  # noqa: B027
        """Raise ConfigError if this noise cannot act on these classes."""

    def fingerprint(self) -> str:
        """Stands for the content of a file that the labels come from; empty without one."""
        return ""

    def flip_rate(self, samples: Samples) -> np.ndarray:
        """P(observed != true), the mean over these samples, [R or 1]."""
        right = np.take_along_axis(self.probabilities(samples), samples.labels[..., None], -1)
        return 1 - right[..., 0].mean(1)

    @abstractmethod
    def probabilities(self, samples: Samples) -> np.ndarray:
        """P(observed = k | sample), [R or 1, n, K]."""

    def strata(self, samples: Samples) -> np.ndarray:
        """Within which sets of samples `exact` keeps the rates: a number for each sample, [R, n]."""
        return samples.labels

    def observe(self, samples: Samples, uniforms: np.ndarray) -> np.ndarray:
        """Observed classes [R, n], given independent U(0, 1) [R, n]: a sample changes its class where these are small.

        So with the same uniforms a higher rate changes the samples of a lower one, and more. `exact` spreads the uniforms
        evenly over each stratum: then exactly round(rate size) samples of it change.
        """
        if self.exact:
            uniforms = evenly_spread(uniforms, self.strata(samples))
        return self._draw(samples, uniforms)

    def _draw(self, samples: Samples, uniforms: np.ndarray) -> np.ndarray:
        """Invert the distribution function of each sample, the true class last."""
        observed, below = samples.labels.copy(), np.zeros(1)
        for k, probability in enumerate(np.moveaxis(self.probabilities(samples), -1, 0)):
            upto = below + np.where(samples.labels == k, 0, probability)
            observed[(uniforms >= below) & (uniforms < upto)] = k
            below = upto
        return observed


def evenly_spread(uniforms: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Replace the uniforms [R, n] of each stratum by (rank + 1/2) / size."""
    spread = np.empty(uniforms.shape)
    for stratum in np.unique(strata):
        among = strata == stratum
        ranks = np.where(among, uniforms, 2.0).argsort(-1).argsort(-1)
        size = among.sum(-1, keepdims=True)
        spread[among] = np.divide(ranks + 0.5, size, where=size > 0, out=np.ones(uniforms.shape))[among]
    return spread


def column(rate: PerRunFloat | np.ndarray) -> np.ndarray:
    """A rate as [R, 1] (or [1, 1]), to act on samples [R, n]."""
    return np.atleast_1d(np.asarray(rate, float))[:, None]


@dataclass(frozen=True)
class NoNoise(LabelNoise):
    """Observed labels are the true ones."""

    def probabilities(self, samples: Samples) -> np.ndarray:
        return np.eye(samples.classes.count)[samples.labels]

    def observe(self, samples: Samples, uniforms: np.ndarray) -> np.ndarray:
        return samples.labels


class ClassNoise(LabelNoise):
    """Noise that depends on the true class alone: a transition matrix."""

    @abstractmethod
    def transition(self, classes: Classes) -> np.ndarray:
        """P(observed = column | true = row), [R or 1, K, K]."""

    def probabilities(self, samples: Samples) -> np.ndarray:
        matrix = self.transition(samples.classes)
        return matrix[np.arange(len(matrix))[:, None], samples.labels]

    def _draw(self, samples: Samples, uniforms: np.ndarray) -> np.ndarray:
        if samples.classes.count > 2:
            return super()._draw(samples, uniforms)
        matrix = self.transition(samples.classes)  # the same with fewer passes, for very many small runs
        changes = np.where(samples.labels == 0, matrix[:, :1, 1], matrix[:, 1:, 0])
        return np.where(uniforms < changes, 1 - samples.labels, samples.labels)


def _check_rate(component: object, key: str, below: float) -> None:
    rate = np.asarray(getattr(component, key))
    require((rate >= 0) & (rate < below), key, getattr(component, key), f"must lie in [0, {below:.4g})")


@dataclass(frozen=True)
class Symmetric(ClassNoise):
    """With probability `rate` one of the other classes, each as likely; `exact`: for exactly round(rate n) samples."""

    rate: PerRunFloat
    exact: bool
    resample: bool

    def check(self, classes: Classes) -> None:
        _check_rate(self, "rate", 1 - 1 / classes.count)

    def transition(self, classes: Classes) -> np.ndarray:
        others = (1 - np.eye(classes.count)) / (classes.count - 1)
        return np.eye(classes.count) + column(self.rate)[..., None] * (others - np.eye(classes.count))

    def strata(self, samples: Samples) -> np.ndarray:
        return np.zeros(samples.labels.shape, int)


@dataclass(frozen=True)
class Pair(ClassNoise):
    """With probability `rate` the next class (the first one after the last); `exact`: round(rate n_class) in each class.

    Source: Han et al., "Co-teaching", NeurIPS 2018.
    """

    rate: PerRunFloat
    exact: bool
    resample: bool

    def check(self, classes: Classes) -> None:
        _check_rate(self, "rate", 0.5)

    def transition(self, classes: Classes) -> np.ndarray:
        following = np.roll(np.eye(classes.count), 1, axis=1)
        return np.eye(classes.count) + column(self.rate)[..., None] * (following - np.eye(classes.count))


@dataclass(frozen=True)
class Asymmetric(ClassNoise):
    """Rates that differ by class; `exact`: round(tau n_class) samples of each class.

    Two classes: rate_positive = tau_plus = P(observed -1 | true +1), rate_negative = tau_minus = P(observed +1 | true -1); +1
    is the first of two image classes. Any number: source_rate = P(observed = map[c] | true = c) for each class c that `map`
    (pairs of class numbers; null: the customary map of the data set) names; other classes are observed as they are.
    Source of the customary maps: Patrini et al., "Making Deep Neural Networks Robust to Label Noise", CVPR 2017.
    """

    rate_positive: PerRunFloat | None
    rate_negative: PerRunFloat | None
    source_rate: PerRunFloat | None
    map: tuple[tuple[int, ...], ...] | None
    exact: bool
    resample: bool

    def __post_init__(self) -> None:
        keys = ("source_rate",) if self.source_rate is not None else ("rate_positive", "rate_negative")
        for key in ("source_rate", "rate_positive", "rate_negative"):
            given = getattr(self, key)
            if (given is None) == (key in keys):
                raise ConfigError(key, given, "give both rate_positive and rate_negative, or source_rate; the others are null")
            if given is not None:
                _check_rate(self, key, 1)

    def check(self, classes: Classes) -> None:
        if self.source_rate is None:
            allowed = f"are for two classes, of {classes.count} here; give source_rate"
            require(classes.count == 2, "rate_positive, rate_negative", f"{self.rate_positive}, {self.rate_negative}", allowed)
            return
        for pair in self.map or ():
            fits = len(pair) == 2 and pair[0] != pair[1] and set(pair) <= set(classes.numbers)
            require(fits, "map", list(pair), f"must be a pair [from, to] of two of the classes {list(classes.numbers)}")
        sources = [pair[0] for pair in self.map or ()]
        require(len(set(sources)) == len(sources), "map", self.map, "must name each class once as the first of a pair")
        pairs = self._pairs(classes)
        inside = {a: b for a, b in pairs.items() if a in classes.numbers and b in classes.numbers and a != b}
        allowed = f"must name a pair [from, to] among the classes {list(classes.numbers)}, of which there is no customary map"
        require(bool(inside), "map", self.map, allowed)

    def _pairs(self, classes: Classes) -> dict[int, int]:
        return dict(classes.confusions or NO_CONFUSIONS) if self.map is None else {pair[0]: pair[-1] for pair in self.map}

    def transition(self, classes: Classes) -> np.ndarray:
        if self.source_rate is None:
            plus, minus = (column(np.asarray(rate)) for rate in (self.rate_positive, self.rate_negative))
            plus, minus = np.broadcast_arrays(plus, minus)
            return np.stack([np.concatenate([1 - plus, plus], 1), np.concatenate([minus, 1 - minus], 1)], 1)
        moved, place = np.eye(classes.count), {number: k for k, number in enumerate(classes.numbers)}
        for source, target in self._pairs(classes).items():
            if source in place and target in place:
                moved[place[source]] = np.eye(classes.count)[place[target]]
        return np.eye(classes.count) + column(self.source_rate)[..., None] * (moved - np.eye(classes.count))


@dataclass(frozen=True)
class Matrix(ClassNoise):
    """Any transition matrix P(observed = column | true = row), classes in the order of the task; `exact` within each class."""

    matrix: tuple[tuple[float, ...], ...]
    exact: bool
    resample: bool

    def check(self, classes: Classes) -> None:
        size = classes.count
        sizes = " x ".join(map(str, (len(self.matrix), *sorted({len(row) for row in self.matrix}))))
        square = len(self.matrix) == size and all(len(row) == size for row in self.matrix)
        require(square, "matrix", sizes, f"must be {size} rows of {size} probabilities, one row for each true class")
        for number, row in enumerate(self.matrix):
            require(min(row) >= 0, "matrix", list(row), f"row {number} has a negative probability")
            require(abs(sum(row) - 1) < 1e-6, "matrix", list(row), f"row {number} sums to {sum(row):.6g}, must sum to 1")

    def transition(self, classes: Classes) -> np.ndarray:
        return np.array([self.matrix])


class ObservedLabels:
    """The observed training labels of R runs at every step: fixed, or (`resample`) drawn afresh for each step."""

    def __init__(self, noise: LabelNoise, samples: Samples, seeds: np.ndarray, encode: Callable[[np.ndarray], Tensor]) -> None:
        self.noise, self.samples, self.seeds, self.encode = noise, samples, seeds, encode  # seeds [R]
        self._block = -1
        self._labels: Tensor

    def at(self, step: int) -> Tensor:
        """Labels [R, n] in force in the update from `step` to `step` + 1, as `encode` makes them from classes."""
        block, offset = divmod(step, RESAMPLE_BLOCK) if self.noise.resample else (0, 0)
        if block != self._block:
            self._block, self._labels = block, self.encode(self._draw(block))
        return self._labels[offset]

    def _draw(self, block: int) -> np.ndarray:
        """Classes [steps of the block, R, n]."""
        steps, n = (RESAMPLE_BLOCK if self.noise.resample else 1), self.samples.labels.shape[1]
        (uniforms,), index = draw_per_run(
            self.seeds[:, None], lambda seed: (generator("noise", seed, block).random((steps, n)),)
        )
        return np.stack([self.noise.observe(self.samples, u[index]) for u in uniforms.swapaxes(0, 1)])
