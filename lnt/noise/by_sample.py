"""Label noise that depends on the sample, not only on its class: on its pixels, or on the labels that people gave."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lnt.errors import require
from lnt.noise.label_files import LabelFile, content_hash, read_labels
from lnt.noise.observed_labels import Classes, LabelNoise, Samples
from lnt.seeding import generator
from lnt.settings import PerRunFloat

# Keys, in the stream noise, of what is drawn once for each run. Labels have keys of one number (their block), so they never
# share a generator with these.
DIRECTIONS, CHANCES = (0, 1), (0, 2)
LAWS = ("ranked", "published")


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
class FileLabels(LabelNoise):
    """Observed labels of one's own, for training samples: those that come with the data (file=null), or those of a file.

    An .npy file holds a class for each sample in the order of the data's files; an .npz or .csv file has them under `column`,
    and may say under `positions` which samples they are for, and under `true` their true classes, which must then be those of
    the data set. Classes are numbered as in the data set, and all or some of them may be kept (data.classes).
    """

    file: str | None = None  # an .npy, .npz or .csv of classes by position; null = the observed labels that come with the data
    column: str | None = None  # which array or column of that file; null = observed, or the only one

    option = "file"
    needs_images = True
    needs_positions = True
    for_test = False

    def validate(self) -> None:
        require(
            self.file is not None or self.column is None, "column", self.column, "is that of a file; it must be null without"
        )

    @property
    def from_data(self) -> bool:
        return self.file is None

    def one_wrong_class(self) -> bool:
        return True

    def found(self) -> LabelFile:
        """What the file holds. Raises ConfigError."""
        assert self.file is not None
        return read_labels(self.file, self.column)

    def labels(self) -> np.ndarray:
        """Observed classes by position in the data's files, -1 where there is none. Raises ConfigError."""
        return self.found().labels

    def fingerprint(self) -> str:
        return "" if self.from_data else content_hash(self.labels())

    def check_truth(self, truth: np.ndarray) -> None:
        found = self.found()
        fits = len(found.labels) == len(truth) or (found.sparse and len(found.labels) < len(truth))
        of_each = "one for each training sample, or for each row of a data.file in one part"
        require(fits, "file", self.file, f"has {len(found.labels)} labels, not {len(truth)}: {of_each}")
        here = found.labels >= 0
        truth, labels = truth[: len(here)][here], found.labels[here]
        # The file may hold the true labels too: where these differ, it is in another order than the data set.
        if found.true is not None:
            differ = (found.true[here] != truth).sum()
            said = f"its {found.true_name} is not the data set's label in {differ} of {len(truth)} places"
            require(differ == 0, "file", self.file, said)
            if found.sparse:
                return  # lnt.noise has written it, for any rate
        agrees, classes = (labels == truth).mean(), len(np.unique(truth))
        # Three standard errors above what labels reach that have nothing to do with the samples.
        chance = 1 / classes + 3 * np.sqrt((1 - 1 / classes) / classes / len(truth))
        few = f"{agrees:.1%} of its labels are the true ones, as by chance: are they of other classes, or in another order?"
        require(agrees > chance, "file", self.file, few)

    def observed_of(self, samples: Samples) -> np.ndarray:
        """Observed classes 0 .. K - 1 of samples, [R, n]; -1 for those without a label of a class that is kept."""
        if self.from_data:
            require(samples.given is not None, "file", None, "must be given: no observed labels come with this data set")
            return np.asarray(samples.given)
        labels, places = self.labels(), samples.positions
        known = np.where(places < len(labels), labels[np.minimum(places, len(labels) - 1)], -1).clip(-1)
        place = np.full(max(labels.max(), *samples.classes.numbers) + 2, -1)  # the last one is that of no label, -1
        place[list(samples.classes.numbers)] = np.arange(samples.classes.count)
        return place[known]

    def covers(self, samples: Samples) -> np.ndarray:
        return self.observed_of(samples) >= 0

    def probabilities(self, samples: Samples) -> np.ndarray:
        observed = self.observed_of(samples)
        lacks = f"has no label of the classes {list(samples.classes.numbers)} for some of the samples"
        require((observed >= 0).all(), "file", self.file, lacks)
        # One-hot: the label is certain, so the uniforms decide nothing and the same labels come back each time.
        return np.eye(samples.classes.count)[observed]


@dataclass(frozen=True)
class Human(FileLabels):
    """Labels that people gave: `file` is CIFAR-10_human.pt or CIFAR-100_human.pt of CIFAR-N, `column` one of its arrays.

    Or a .npy file of integers, one for each training sample in the order of the data set's files (column is then null). All
    classes of the data set must be kept. Source: Wei et al., "Learning with Noisy Labels Revisited", ICLR 2022 (labels under
    CC BY-NC 4.0).
    """

    file: str = field()  # CIFAR-10_human.pt, CIFAR-100_human.pt, or a .npy of integers
    column: str | None = None  # worse_label, aggre_label, random_label1 .. 3 (CIFAR-10N); noisy_label (CIFAR-100N)

    def check(self, classes: Classes) -> None:
        found = self.labels()
        # The file numbers all classes of the data set; with some left out its labels could not be mapped to those kept.
        complete = classes.numbers == tuple(range(classes.count))
        allowed = f"holds classes from {found.min()} to {found.max()}; data.classes must be null (all classes)"
        require(complete and ((found >= 0) & (found < classes.count)).all(), "file", self.file, allowed)
