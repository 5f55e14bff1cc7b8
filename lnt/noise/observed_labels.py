"""Label noise decides which class is observed for each sample, once or afresh at every step.

Classes count 0 .. K - 1; with two, +1 is class 0 and -1 is class 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lnt.errors import ConfigError, require
from lnt.seeding import generator, sample_per_run
from lnt.settings import Component

# Steps whose labels are drawn together: one generator a block, not one a step. The block number is the key of the stream,
# so another value would give other labels to every run with `resample`.
RESAMPLE_BLOCK = 64

# Where `exact` uniforms lie between multiples of 1 / size, for each rounding. Not 1: 0.29 * 100 is a little less than 29.
PLACES = {"nearest": 0.5, "down": 1 - 1e-6}

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Classes:
    """The K classes of a task: their numbers in the data set, and which of them people customarily confuse (from -> to)."""

    numbers: tuple[int, ...] = (1, -1)
    confusions: Mapping[int, int] | None = None

    @property
    def count(self) -> int:
        """K."""
        return len(self.numbers)


def no_features(run: int) -> np.ndarray:
    """The `features` of samples that have no pixels. Raises ConfigError."""
    raise ConfigError("noise", "of this kind", "asks for the pixels of samples; it must declare needs_images = True")


@dataclass(frozen=True)
class Samples:
    """The samples of R runs: everything that label noise may depend on."""

    labels: np.ndarray  # [R, n] true classes
    classes: Classes = Classes()
    seeds: np.ndarray | None = None  # [R] of the stream noise
    features: Callable[[int], np.ndarray] = no_features  # of run r: [n, S], standardised pixels
    index: np.ndarray | None = None  # [R, n] positions in the files of the training set
    given: np.ndarray | None = None  # [R, n] observed classes that come with the data; -1 for a class that is not kept

    @property
    def positions(self) -> np.ndarray:
        """Positions of the samples in the files of their data set, [R, n]. Raises ConfigError where there are no files."""
        if self.index is None:
            raise ConfigError(
                "noise", "of this kind", "asks where samples lie in files; it must declare needs_positions = True"
            )
        return self.index


class LabelNoise(Component, ABC):
    """A rule that turns true classes into observed ones. Numbers may be arrays [R]."""

    needs_images: ClassVar[bool] = False  # whether it looks at the pixels of samples
    needs_positions: ClassVar[bool] = False  # whether it looks at where samples lie in the files of their data set
    for_test: ClassVar[bool] = True  # whether test samples have observed labels too
    multiplies: ClassVar[bool] = False  # whether observed labels -1, +1 have a size, too (`sizes`)

    @property
    def from_data(self) -> bool:
        """Whether observed labels are those that come with the data, `samples.given`."""
        return False

    resample = False  # the settings of most kinds of noise; a kind without them has these values
    exact = False
    rounding: str = "nearest"

    def check(self, classes: Classes) -> None:
        """Raise ConfigError if this noise cannot act on these classes."""

    def check_truth(self, truth: np.ndarray) -> None:
        """Raise ConfigError if it does not fit training samples of these true classes, in the order of the data's files."""

    def covers(self, samples: Samples) -> np.ndarray:
        """Which samples it has a label for, one of the classes kept, [R, n]."""
        return np.ones(samples.labels.shape, bool)

    def fingerprint(self) -> str:
        """A hash of the content of the file that the labels come from; empty without one."""
        return ""

    def one_wrong_class(self) -> bool:
        """Whether no sample can get more than one class other than its true one."""
        return False

    def flip_rate(self, samples: Samples) -> np.ndarray:
        """P(observed != true), the mean over these samples, [R or 1]."""
        return self._wrong(samples).mean(1)

    def flip_rate_of(self, label: int, samples: Samples) -> np.ndarray:
        """P(observed != true | true = label), the mean over those of these samples, [R or 1]; NaN if only pixels tell."""
        if self.needs_images and samples.index is None:
            return np.full(1, np.nan)
        wrong = self._wrong(samples)
        true = np.broadcast_to(samples.labels == label, wrong.shape)
        return np.where(true, wrong, 0).sum(1) / true.sum(1)

    def mean_transition(self, samples: Samples) -> np.ndarray:
        """P(observed = k | true = c), the mean over these samples of class c, [R or 1, K, K]; 1 on the diagonal without any.

        Raises ConfigError if only pixels tell.
        """
        known = not self.needs_images or samples.index is not None
        advice = "is not known of noise that looks at pixels; give it, or strategy=estimated_transition"
        require(known, "matrix", None, advice)
        chances = self.probabilities(samples)  # [R or 1, n, K]
        is_of = np.eye(samples.classes.count)[samples.labels]  # [R or 1, n, K]
        sizes = is_of.sum(1)[..., None]
        sums = np.einsum("rnc,rnk->rck", *np.broadcast_arrays(is_of, chances))
        return np.where(sizes > 0, sums / np.maximum(sizes, 1), np.eye(samples.classes.count))

    def _wrong(self, samples: Samples) -> np.ndarray:
        """P(observed != true) of each sample, [R or 1, n]."""
        right = np.take_along_axis(self.probabilities(samples), samples.labels[..., None], -1)
        return 1 - right[..., 0]

    @abstractmethod
    def probabilities(self, samples: Samples) -> np.ndarray:
        """P(observed = k | sample), [R or 1, n, K]."""

    def sizes(self, uniforms: np.ndarray) -> np.ndarray:
        """The size |y~| of observed labels -1, +1, given the uniforms [R, n] that decide about their signs; `multiplies`."""
        return np.ones_like(uniforms)

    def strata(self, samples: Samples) -> np.ndarray:
        """The stratum of each sample, [R, n]: `exact` keeps the rates within each stratum."""
        return samples.labels

    def observe(self, samples: Samples, uniforms: np.ndarray) -> np.ndarray:
        """Observed classes [R, n], given independent U(0, 1) [R, n]: a sample changes its class where its uniform is small.

        So with the same uniforms a higher rate changes all the samples that a lower rate changes, and more. Which wrong class
        a sample gets depends on P(observed | changed) alone, so at another rate it is the same one. `exact` spreads the
        uniforms evenly over each stratum: then exactly round(rate size) samples of it change, or by `rounding` fewer.
        """
        # With two classes there is one wrong class, whatever `which` says.
        which = np.zeros(1) if samples.classes.count == 2 else low_bits(uniforms)
        if self.exact:
            uniforms = evenly_spread(uniforms, self.strata(samples), PLACES[self.rounding])
        return self._sample(samples, uniforms, which)

    def _sample(self, samples: Samples, uniforms: np.ndarray, which: np.ndarray) -> np.ndarray:
        """`uniforms` decide which samples change, `which` to what: it inverts the distribution over the other classes."""
        change, upto = np.zeros(1), []
        for k, probability in enumerate(np.moveaxis(self.probabilities(samples), -1, 0)):
            # The true class gets no share: what it keeps lies above P(changed).
            change = change + np.where(samples.labels == k, 0, probability)
            upto.append(change)
        point, wrong = which * change, np.zeros_like(samples.labels)
        for edge in upto:
            wrong += edge <= point
        return np.where(uniforms < change, wrong, samples.labels)


def low_bits(uniforms: np.ndarray) -> np.ndarray:
    """A second U(0, 1) for each of the uniforms: their digits after the first 26 binary ones.

    A uniform double has 53 random bits. The high ones decide whether it lies below a rate, and the low ones are independent of
    that, up to 2^-26 / rate.
    """
    return uniforms * 2.0**26 % 1


def evenly_spread(uniforms: np.ndarray, strata: np.ndarray, place: float = 0.5) -> np.ndarray:
    """Replace the uniforms [R, n] of each stratum by (rank + place) / size, ranks from 0: so many lie below a rate r as
    r size - place rounded up."""
    spread = np.empty(uniforms.shape)
    for stratum in np.unique(strata):
        among = strata == stratum
        # 2 exceeds every uniform, so samples of other strata rank behind all of this one. argsort twice gives ranks.
        ranks = np.where(among, uniforms, 2.0).argsort(-1).argsort(-1)  # [R, n]
        size = among.sum(-1, keepdims=True)
        # A stratum can be empty in some of the runs: their size is 0, and `among` selects nothing there.
        spread[among] = np.divide(ranks + place, size, where=size > 0, out=np.ones(uniforms.shape))[among]
    return spread


class ObservedLabels:
    """The observed training labels of R runs at every step: fixed, or (`resample`) drawn afresh for each step."""

    def __init__(
        self, noise: LabelNoise, samples: Samples, seeds: np.ndarray, encode: "Callable[[np.ndarray], Tensor]"
    ) -> None:
        self.noise, self.samples, self.seeds, self.encode = noise, samples, seeds, encode  # seeds [R]
        self._block = -1  # none drawn yet
        self._labels: Tensor  # [steps of the block, R, n], on the device

    def of(self, runs: "Tensor") -> "PartOfLabels":
        """Those of some of the runs."""
        return PartOfLabels(self, runs)

    @property
    def changes(self) -> bool:
        """Whether labels differ between steps."""
        return self.noise.resample

    def at(self, step: int) -> "Tensor":
        """Labels [R, n] in force in the update from `step` to `step` + 1, as `encode` makes them from classes."""
        # A function of the step alone, so a checkpoint need not hold labels: a resumed run draws the same ones again.
        block, offset = divmod(step, RESAMPLE_BLOCK) if self.noise.resample else (0, 0)
        if block != self._block:
            self._block, self._labels = block, self._sample(block)
        return self._labels[offset]

    def _sample(self, block: int) -> "Tensor":
        """Labels [steps of the block, R, n]."""
        steps, n = (RESAMPLE_BLOCK if self.noise.resample else 1), self.samples.labels.shape[1]
        (uniforms,), index = sample_per_run(
            self.seeds[:, None], lambda seed: (generator("noise", seed, block).random((steps, n)),)
        )
        # Uniforms are [U, steps, n], one row for each distinct seed; the outer loop is over steps, `index` picks the runs.
        labels = self.encode(np.stack([self.noise.observe(self.samples, u[index]) for u in uniforms.swapaxes(0, 1)]))
        if self.noise.multiplies:
            labels *= labels.new_tensor(np.stack([self.noise.sizes(u[index]) for u in uniforms.swapaxes(0, 1)]))
        return labels


@dataclass(frozen=True)
class PartOfLabels:
    """The observed labels of some of the runs."""

    whole: ObservedLabels
    runs: "Tensor"  # [r] their numbers

    @property
    def changes(self) -> bool:
        """Whether labels differ between steps."""
        return self.whole.changes

    def at(self, step: int) -> "Tensor":
        """Labels [r, n] in force in the update from `step` to `step` + 1."""
        return self.whole.at(step)[self.runs]
