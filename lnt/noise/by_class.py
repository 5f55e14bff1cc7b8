"""Label noise that depends on the true class alone: a rate, two rates, or any transition matrix."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lnt.errors import ConfigError, require
from lnt.noise.observed_labels import PLACES, Classes, LabelNoise, Samples
from lnt.settings import PerRunFloat, unless

NO_CONFUSIONS: Mapping[int, int] = {}


def column(rate: PerRunFloat | np.ndarray) -> np.ndarray:
    """A rate as [R, 1] (or [1, 1]), which broadcasts against samples [R, n]."""
    return np.atleast_1d(np.asarray(rate, float))[:, None]


@dataclass(frozen=True)
class NoNoise(LabelNoise):
    """Observed labels are the true ones."""

    option = "none"

    def one_wrong_class(self) -> bool:
        return True

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
        # Either [1, K, K] or [R, K, K]: the index of the first axis is [1, 1] or [R, 1] and broadcasts against labels [R, n].
        matrix = self.transition(samples.classes)
        return matrix[np.arange(len(matrix))[:, None], samples.labels]

    def _sample(self, samples: Samples, uniforms: np.ndarray, which: np.ndarray) -> np.ndarray:
        if samples.classes.count > 2:
            return super()._sample(samples, uniforms, which)
        # Gives the same labels as the general method with fewer passes over memory; sweeps have very many small runs.
        matrix = self.transition(samples.classes)
        changes = np.where(samples.labels == 0, matrix[:, :1, 1], matrix[:, 1:, 0])
        return np.where(uniforms < changes, 1 - samples.labels, samples.labels)


def _check_rate(component: object, key: str, below: float) -> None:
    rate = np.asarray(getattr(component, key))
    require((rate >= 0) & (rate < below), key, getattr(component, key), f"must lie in [0, {below:.4g})")


@dataclass(frozen=True)
class Symmetric(ClassNoise):
    """With probability `rate` one of the other classes, each as likely; `exact`: round(n P(observed != true)) samples change.

    `includes_true`: with probability `rate` any class, each as likely, the true one included (Zhang et al., "Understanding Deep
    Learning Requires Rethinking Generalization", ICLR 2017): then P(observed != true) = rate (K - 1) / K.
    """

    rate: PerRunFloat = 0.35  # P(observed != true), unless includes_true
    exact: bool = False  # flip exactly round(n P(observed != true)) samples
    resample: bool = False  # draw the labels afresh at every step
    includes_true: bool = False  # draw from all K classes with probability rate: P(observed != true) = rate (K - 1) / K
    rounding: str = "nearest"  # of the exact number: nearest | down (to the integer below)

    def validate(self) -> None:
        require(self.rounding in PLACES, "rounding", self.rounding, f"must be one of {', '.join(PLACES)}")
        require(self.exact or self.rounding == "nearest", "rounding", self.rounding, "is that of exact=true")
        # The exact bound 1 - 1/K has to wait for `check`: the number of classes is not known here.
        rate = np.asarray(self.rate)
        allowed = "must lie in [0, 1)" if self.includes_true else "must lie in [0, 1 - 1/K) for K classes"
        require((rate >= 0) & (rate < 1), "rate", self.rate, allowed)

    def check(self, classes: Classes) -> None:
        # Where the true class is among those drawn it stays the likeliest one at any rate below 1.
        _check_rate(self, "rate", 1 if self.includes_true else 1 - 1 / classes.count)

    def transition(self, classes: Classes) -> np.ndarray:
        same, count = np.eye(classes.count), classes.count
        drawn = np.full((count, count), 1 / count) if self.includes_true else (1 - same) / (count - 1)
        # The identity plus the change: column() gives [R, 1], and [R, 1, 1] broadcasts against [K, K].
        return same + column(self.rate)[..., None] * (drawn - same)

    def strata(self, samples: Samples) -> np.ndarray:
        # One stratum of all samples: the rate is the same for all classes, so the exact count holds over all of them.
        return np.zeros(samples.labels.shape, int)


@dataclass(frozen=True)
class Pair(ClassNoise):
    """With probability `rate` the next class (the first one after the last); `exact`: round(rate n_class) in each class.

    Source: Han et al., "Co-teaching", NeurIPS 2018.
    """

    rate: PerRunFloat = 0.35  # P(observed != true)
    exact: bool = False  # change exactly round(rate n_class) samples of each class
    resample: bool = False  # draw the labels afresh at every step

    def validate(self) -> None:
        _check_rate(self, "rate", 0.5)

    def one_wrong_class(self) -> bool:
        return True

    def transition(self, classes: Classes) -> np.ndarray:
        # Row k has its 1 in column k + 1, and the last row in column 0.
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

    rate_positive: PerRunFloat | None = unless("source_rate", value=0.4)  # tau_plus = P(observed = -1 | true = +1)
    rate_negative: PerRunFloat | None = unless("source_rate", value=0.1)  # tau_minus = P(observed = +1 | true = -1)
    source_rate: PerRunFloat | None = None  # instead of both, for any number of classes: P(observed = map[c] | true = c)
    map: tuple[tuple[int, ...], ...] | None = None  # pairs of classes [[from, to], ..]; null = the data set's customary ones
    exact: bool = False  # flip exactly round(tau n_class) samples of each class
    resample: bool = False  # draw the labels afresh at every step

    def validate(self) -> None:
        keys = ("source_rate",) if self.source_rate is not None else ("rate_positive", "rate_negative")
        for key in ("source_rate", "rate_positive", "rate_negative"):
            given = getattr(self, key)
            if (given is None) == (key in keys):
                raise ConfigError(key, given, "give both rate_positive and rate_negative, or source_rate; the others are null")
            if given is not None:
                _check_rate(self, key, 1)

    def one_wrong_class(self) -> bool:
        return True

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
        # A customary map covers all classes of the data set. Pairs outside the classes kept do nothing, so one must remain.
        inside = {a: b for a, b in pairs.items() if a in classes.numbers and b in classes.numbers and a != b}
        allowed = f"must name a pair [from, to] among the classes {list(classes.numbers)}, of which there is no customary map"
        require(bool(inside), "map", self.map, allowed)

    def _pairs(self, classes: Classes) -> dict[int, int]:
        return dict(classes.confusions or NO_CONFUSIONS) if self.map is None else {pair[0]: pair[-1] for pair in self.map}

    def transition(self, classes: Classes) -> np.ndarray:
        if self.source_rate is None:
            plus, minus = (column(np.asarray(rate)) for rate in (self.rate_positive, self.rate_negative))
            # One of the two rates may be swept [R, 1] and the other shared [1, 1].
            plus, minus = np.broadcast_arrays(plus, minus)
            return np.stack([np.concatenate([1 - plus, plus], 1), np.concatenate([minus, 1 - minus], 1)], 1)  # [R, 2, 2]
        moved, place = np.eye(classes.count), {number: k for k, number in enumerate(classes.numbers)}
        for source, target in self._pairs(classes).items():
            # The customary map names all classes of the data set, of which the task may keep a few.
            if source in place and target in place:
                moved[place[source]] = np.eye(classes.count)[place[target]]
        return np.eye(classes.count) + column(self.source_rate)[..., None] * (moved - np.eye(classes.count))


@dataclass(frozen=True)
class Matrix(ClassNoise):
    """Any transition matrix P(observed = column | true = row), classes in the order of the task.

    `exact`: round(n_class P(observed != true)) samples of each class change; which of the others they get is drawn.
    """

    matrix: tuple[tuple[float, ...], ...]  # P(observed = column | true = row), classes in the order of data.classes
    exact: bool = False  # change exactly round(n_class P(observed != true)) samples of each class
    resample: bool = False  # draw the labels afresh at every step

    def check(self, classes: Classes) -> None:
        self._check_size(classes.count)

    def _check_size(self, size: int) -> None:
        sizes = " x ".join(map(str, (len(self.matrix), *sorted({len(row) for row in self.matrix}))))
        square = len(self.matrix) == size and all(len(row) == size for row in self.matrix)
        require(square, "matrix", sizes, f"must be {size} rows of {size} probabilities, one row for each true class")

    def validate(self) -> None:
        # Only that it is square, with two classes at least: K is known to `check` only.
        self._check_size(max(len(self.matrix), 2))
        for number, row in enumerate(self.matrix):
            require(min(row) >= 0, "matrix", list(row), f"row {number} has a negative probability")
            require(abs(sum(row) - 1) < 1e-6, "matrix", list(row), f"row {number} sums to {sum(row):.6g}, must sum to 1")

    def one_wrong_class(self) -> bool:
        return all(sum(share > 0 for k, share in enumerate(row) if k != true) <= 1 for true, row in enumerate(self.matrix))

    def transition(self, classes: Classes) -> np.ndarray:
        return np.array([self.matrix])  # [1, K, K], shared by all runs


@dataclass(frozen=True)
class LabelMultipliers(ClassNoise):
    """Labels -1, +1 times a random number: y~ = eps y with eps ~ N(1, scale^2), or uniform with the same mean and spread.

    A sample has the loss l(eps y f), so its gradient is that of l at eps y f times eps y. What compares with observed labels
    takes the sign of y~, wrong with P(eps < 0). The label noise descent of Huang et al. 2025 has eps = -1 or 1, which is
    `Symmetric` with resample.
    """

    law: str = "normal"  # of eps: normal | uniform
    scale: PerRunFloat = 1.0  # standard deviation of eps, whose mean is 1
    resample: bool = True  # draw eps afresh at every step

    multiplies = True

    def validate(self) -> None:
        require(self.law in ("normal", "uniform"), "law", self.law, "must be normal or uniform")
        require(np.asarray(self.scale) > 0, "scale", self.scale, "must be positive")

    def one_wrong_class(self) -> bool:
        return True

    def check(self, classes: Classes) -> None:
        require(classes.count == 2, "scale", self.scale, "multiplies labels -1 and +1; use symmetric for K classes")

    def transition(self, classes: Classes) -> np.ndarray:
        from scipy.special import ndtr  # takes long to import, and few runs need it

        scale, same = column(self.scale)[..., None], np.eye(2)
        reach = np.sqrt(3) * scale  # eps is uniform on 1 - reach .. 1 + reach
        negative = ndtr(-1 / scale) if self.law == "normal" else np.maximum(0, (reach - 1) / (2 * reach))
        return same + negative * (same[::-1] - same)

    def sizes(self, uniforms: np.ndarray) -> np.ndarray:
        """|eps| at the quantiles `uniforms`: those below P(eps < 0) turn the label."""
        from scipy.special import ndtri

        scale = column(self.scale)
        # Half of the smallest uniform is added: 0 is the quantile of minus infinity.
        quantiles = ndtri(uniforms + 2.0**-54) if self.law == "normal" else np.sqrt(3) * (2 * uniforms - 1)
        return np.abs(1 + scale * quantiles)
