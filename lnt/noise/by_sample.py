"""Label noise that depends on the sample, not only on its class: on its pixels, or on the labels that people gave."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lnt.errors import ConfigError, require
from lnt.noise.observed_labels import Classes, LabelNoise, Samples
from lnt.seeding import generator
from lnt.settings import PerRunFloat

# Keys, in the stream noise, of what is drawn once for each run. Labels have keys of one number (their block), so they never
# share a generator with these.
DIRECTIONS, CHANCES = (0, 1), (0, 2)
LAWS = ("ranked", "published")
# Only these may be unpickled from a .pt file: what an array of integers consists of. numpy 2 renamed numpy.core to
# numpy._core, and files of either version must load.
RECONSTRUCT = np.empty(0).__reduce__()[0]
NUMPY_ARRAYS: list[Any] = [
    *((RECONSTRUCT, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.int64, np.int32, np.uint8, np.int16)),
]


@dataclass(frozen=True)
class Instance(LabelNoise):
    """Feature-dependent noise: sample i is mislabelled with probability q_i, towards classes that its pixels point to.

    The class: P(observed = k | x, y) proportional to exp(<x, w_{y,k}>) over k != y, w ~ N(0, I): Xia et al., "Part-dependent
    Label Noise", NeurIPS 2020, Algorithm 2. law=published draws q_i as there, from a normal of mean `rate` and standard
    deviation `spread` truncated to [0, 1]: its mean exceeds a small rate (0.101 for 0.05 at spread 0.1), and which samples are
    mislabelled does not depend on their pixels, only towards which class. law=ranked takes the quantile of that normal at the
    rank of <x_i, w_0> among the samples, truncated at 0 (or 1) and as far on the other side of its mean: its mean is `rate`
    exactly, and its standard deviation less than `spread` (0.028 there).
    """

    rate: PerRunFloat = 0.35  # P(observed != true), on average over samples; published: the centre of its law
    spread: float = 0.1  # standard deviation of the normal law of that probability, before it is truncated
    law: str = "ranked"  # of that probability: ranked (by pixels; mean = rate) | published (random in [0, 1], Xia et al. 2020)

    needs_images = True

    def validate(self) -> None:
        rate = np.asarray(self.rate)
        require((rate >= 0) & (rate < 1), "rate", self.rate, "must lie in [0, 1)")
        require(self.spread > 0, "spread", self.spread, "must be positive")
        require(self.law in LAWS, "law", self.law, f"must be one of {', '.join(LAWS)}")

    def check(self, classes: Classes) -> None:
        allowed = 1 - 1 / classes.count
        require(np.asarray(self.rate) < allowed, "rate", self.rate, f"must lie in [0, {allowed:.4g})")

    def flip_rate(self, samples: Samples) -> np.ndarray:
        rate = self._rates()
        return rate if self.law == "ranked" else self._law(rate).mean()

    def _rates(self) -> np.ndarray:
        return np.atleast_1d(np.asarray(self.rate, float))

    def _law(self, rate: np.ndarray | float) -> Any:
        """The law of the probability to be mislabelled, as a frozen distribution of scipy."""
        from scipy.stats import truncnorm

        if self.law == "published":
            return truncnorm(-rate / self.spread, (1 - rate) / self.spread, rate, self.spread)
        # Cut at the same distance on both sides of the mean: a one-sided cut at 0 or 1 would move the mean off `rate`.
        half = np.minimum(rate, 1 - rate) / self.spread
        return truncnorm(-half, half, rate, self.spread)

    def probabilities(self, samples: Samples) -> np.ndarray:
        assert samples.seeds is not None
        rates = np.broadcast_to(self._rates(), (len(samples.labels),))
        rows = zip(samples.labels, samples.seeds, rates, strict=True)
        return np.stack([self._of_run(samples.features(r), *row, samples.classes.count) for r, row in enumerate(rows)])

    def _quantiles(self, projected: np.ndarray, seed: int) -> np.ndarray:
        """Where in its law the probability of each sample lies, [n], given <x, w_0> [n]."""
        if self.law == "published":
            return generator("noise", seed, *CHANCES).random(len(projected))
        # A rank rather than the value <x, w_0>: the distribution of q over samples is then the same whatever the pixels are.
        return (projected.argsort().argsort() + 0.5) / len(projected)

    def _of_run(self, features: np.ndarray, labels: np.ndarray, seed: int, rate: float, classes: int) -> np.ndarray:
        """[n, K] from features [n, S]."""
        # The seed alone decides on the directions, so training and test samples of a run share them.
        rng, (n, size) = generator("noise", int(seed), *DIRECTIONS), features.shape
        quantiles = self._quantiles(features @ rng.standard_normal(size, np.float32), int(seed))
        # At rate 0 the interval of law=ranked has no width, and its quantiles are undefined.
        flip = self._law(rate).ppf(quantiles) if rate > 0 or self.law == "published" else np.zeros(n)
        chances = np.zeros((n, classes))  # [n, K]
        for k in range(classes):
            # Drawn also for a class without samples: the draws of later classes must not depend on which classes occur.
            weights = rng.standard_normal((size, classes), np.float32)
            logits = (features[labels == k] @ weights).astype(float)
            # The true class takes no part: its share 1 - q is set below.
            logits[:, k] = -np.inf
            # The largest logit is subtracted, as exp overflows otherwise.
            odds = np.exp(logits - logits.max(1, keepdims=True))
            chances[labels == k] = flip[labels == k, None] * odds / odds.sum(1, keepdims=True)
        chances[np.arange(n), labels] = 1 - flip
        return chances


@dataclass(frozen=True)
class Human(LabelNoise):
    """Labels that people gave: `file` is CIFAR-10_human.pt or CIFAR-100_human.pt of CIFAR-N, `column` one of its arrays.

    Or a .npy file of integers, one for each training sample in the order of the data set's files (column is then null). All
    classes of the data set must be kept. Source: Wei et al., "Learning with Noisy Labels Revisited", ICLR 2022 (labels under
    CC BY-NC 4.0).
    """

    file: str  # CIFAR-10_human.pt, CIFAR-100_human.pt, or a .npy of integers
    column: str | None = None  # worse_label, aggre_label, random_label1 .. 3 (CIFAR-10N); noisy_label (CIFAR-100N)

    needs_images = True
    needs_positions = True
    for_test = False

    def one_wrong_class(self) -> bool:
        return True

    def labels(self) -> np.ndarray:
        """Observed classes of all samples in the files. Raises ConfigError."""
        return read_labels(self.file, self.column)

    def fingerprint(self) -> str:
        """A hash of the content of the file."""
        return hashlib.sha256(self.labels().tobytes()).hexdigest()[:16]

    def check(self, classes: Classes) -> None:
        found = self.labels()
        # The file numbers all classes of the data set; with some left out its labels could not be mapped to those kept.
        complete = classes.numbers == tuple(range(classes.count))
        allowed = f"holds classes from {found.min()} to {found.max()}; data.classes must be null (all classes)"
        require(complete and ((found >= 0) & (found < classes.count)).all(), "file", self.file, allowed)

    def check_truth(self, truth: np.ndarray) -> None:
        found = self.labels()
        require(len(found) == len(truth), "file", self.file, f"has {len(found)} labels, the training set has {len(truth)}")
        # CIFAR-N's files hold the true labels too: where these differ, the file is in another order than the data set.
        if self.column is not None:
            clean = read_labels(self.file, "clean_label")
            differ = f"its clean_label is not the data set's label in {(clean != truth).sum()} of {len(truth)} places"
            require((clean == truth).all(), "file", self.file, differ)

        agrees, classes = (found == truth).mean(), len(np.unique(truth))
        # Three standard errors above what labels reach that have nothing to do with the samples.
        chance = 1 / classes + 3 * np.sqrt((1 - 1 / classes) / classes / len(truth))
        few = f"{agrees:.1%} of its labels are the true ones, as by chance: are they of other classes, or in another order?"
        require(agrees > chance, "file", self.file, few)

    def probabilities(self, samples: Samples) -> np.ndarray:
        # One-hot: the label is certain, so the uniforms decide nothing and the same labels come back each time.
        return np.eye(samples.classes.count)[self.labels()[samples.positions]]


# Read several times for each experiment: by the checks, for the run_id and for the labels.
@lru_cache
def read_labels(file: str, column: str | None) -> np.ndarray:
    """Integer labels [N] from a .pt file of arrays by name, or from a .npy file; no code in a file is run."""
    path = Path(file)
    require(path.is_file(), "file", file, "is not a file; put the label file of CIFAR-N (CIFAR-10_human.pt) there")
    try:
        if path.suffix == ".npy":
            require(column is None, "column", column, "must be null for a .npy file")
            found = np.load(path, allow_pickle=False)
        else:
            with torch.serialization.safe_globals(NUMPY_ARRAYS):
                arrays = torch.load(path, weights_only=True)
            require(column in arrays, "column", column, f"must be one of {', '.join(arrays)}")
            found = np.asarray(arrays[column])
    # `require` above raises it with a message of its own, which the wrapper below would bury.
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError("file", file, f"cannot be read as labels: {str(error).splitlines()[0]}") from error
    require(found.ndim == 1 and found.dtype.kind in "iu", "file", file, "must hold one integer for each training sample")
    return found.astype(np.int64)
