"""Image data sets, and data of one's own, as components: which samples of which classes are trained and tested on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lnt.errors import require
from lnt.images.dataset_files import DataSet, load
from lnt.images.dataset_formats import Arrays
from lnt.images.own_files import Keys, check_keys
from lnt.images.own_samples import OwnSamples, moments, read
from lnt.noise.observed_labels import Classes
from lnt.seeding import generator, is_seed
from lnt.training.experiment import Data

AUGMENTATIONS = ("none", "shift", "shift_flip")


@dataclass(frozen=True)
class Images(Data, ABC):
    """Images of some classes; the first class listed is class 0 of the task (and +1 of a binary one).

    n_train, n_test: how many, null for all of these classes; a subset is drawn from the streams data and test, the same one in
    whatever order the classes are listed. balanced: as many training samples of each class (where n_train is no multiple of K,
    one more of those with the lowest numbers). augment: training images are shifted by up to an eighth of their size each way,
    and with shift_flip mirrored half of the time. mixup: after that they are mixed, and their losses too.
    """

    n_train: int | None = None  # training samples; null = all of these classes
    n_test: int | None = None  # test samples; null = all of these classes
    classes: tuple[int, ...] | None = (0, 1)  # the classes kept, null = all; the first is +1 of a binary task
    balanced: bool = True  # as many training samples of each class
    augment: str = "none"  # none | shift | shift_flip, at random for each batch
    mixup: float = 0.0  # alpha of the Beta(alpha, alpha) by which training samples are mixed at each step; 0 = none

    kind = "images"
    all_classes: ClassVar[int] = 10
    confusions: ClassVar[Mapping[int, int] | None] = None

    def validate(self) -> None:
        for key in ("n_train", "n_test"):
            value = getattr(self, key)
            require(value is None or value >= 1, key, value, "must be at least 1")
        require(self.augment in AUGMENTATIONS, "augment", self.augment, f"must be one of {', '.join(AUGMENTATIONS)}")
        require(self.mixup >= 0, "mixup", self.mixup, "must be at least 0")
        if self.classes is not None:
            shown = list(self.classes)
            require(len(shown) >= 2, "classes", shown, "must be at least two")
            require(len(set(shown)) == len(shown), "classes", shown, "must differ")
            inside = all(0 <= number < self.all_classes for number in shown)
            require(inside, "classes", shown, f"must lie in 0 to {self.all_classes - 1}")

    @abstractmethod
    def arrays(self) -> Arrays:
        """All images and labels. Raises ConfigError if they are not there."""

    def is_vectors(self) -> bool:
        """Whether samples are vectors, [N, D, 1, 1] of float32: D channels of one pixel."""
        return bool(self.arrays()["train"].dtype != np.uint8)

    def knows_truth(self, split: str) -> bool:
        """Whether the labels of `split` (train, test) are the true ones, and not observed ones in their place."""
        return True

    def observed(self, split: str) -> np.ndarray | None:
        """The observed labels of `split` that come with the data, as numbers of the data set; None without such."""
        return None

    def rows(self) -> np.ndarray:
        """Where the training samples in `arrays` lie in the data's files, ascending."""
        return np.arange(len(self.arrays()["train_labels"]))

    def row_labels(self) -> np.ndarray:
        """The labels of all samples among which `rows` counts, in the order of the files."""
        return self.arrays()["train_labels"]

    def task(self) -> Classes:
        """The classes kept, in order."""
        numbers = tuple(range(self.all_classes)) if self.classes is None else self.classes
        return Classes(numbers, self.confusions)

    def counts(self) -> list[int]:
        """Training samples of each class, [K]. Raises ConfigError if there are not so many."""
        labels, classes = self.arrays()["train_labels"], self.task().numbers
        there = [int((labels == number).sum()) for number in classes]
        if self.balanced:
            # Without a number: as many of each class as the rarest class has.
            total = min(there) * len(there) if self.n_train is None else self.n_train
            # What is left over by the division goes to the classes with the lowest numbers, one each.
            wanted = [total // len(there) + (rank < total % len(there)) for rank in map(sorted(classes).index, classes)]
            enough = all(want <= have for want, have in zip(wanted, there, strict=True))
            most = f"must be at most {len(there) * min(there)} for {len(there)} balanced classes"
            require(enough, "n_train", self.n_train, most)
            require(min(wanted) >= 1, "n_train", self.n_train, f"must be at least {len(there)}, one for each class")
            return wanted
        require(self.n_train is None or self.n_train <= sum(there), "n_train", self.n_train, f"must be at most {sum(there)}")
        require(min(there) >= 1, "classes", list(classes), f"of these there are {there} training samples")
        return there

    def size(self) -> int:
        """n."""
        counts = self.counts()
        return sum(counts) if self.balanced or self.n_train is None else self.n_train

    def test_size(self) -> int:
        """N. Raises ConfigError if there are not so many."""
        there = int(np.isin(self.arrays()["test_labels"], self.task().numbers).sum())
        require(self.n_test is None or self.n_test <= there, "n_test", self.n_test, f"must be at most {there}")
        return there if self.n_test is None else self.n_test

    def sample_training_set(self, seed: int) -> np.ndarray:
        """Positions [n] of the training samples in the files, ascending."""
        labels, classes, rng = self.arrays()["train_labels"], self.task().numbers, generator("data", seed)
        if not self.balanced:
            return np.sort(rng.permutation(np.flatnonzero(np.isin(labels, classes)))[: self.size()])
        # By number: the order in which classes are listed says which is +1, and must not draw other images.
        drawn = [
            rng.permutation(np.flatnonzero(labels == number))[:count]
            for number, count in sorted(zip(classes, self.counts(), strict=True))
        ]
        return np.sort(np.concatenate(drawn))

    def redrawn(self) -> bool:
        """Whether the first version drew other training images: a balanced subset, in the order in which classes are listed."""
        numbers = self.task().numbers
        there = int(np.isin(self.arrays()["train_labels"], numbers).sum())
        return self.balanced and list(numbers) != sorted(numbers) and self.size() < there

    def sample_test_set(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions [N] of the test samples, ascending, and uniforms [N] that decide on their observed labels."""
        rng, there = generator("test", seed), np.flatnonzero(np.isin(self.arrays()["test_labels"], self.task().numbers))
        chosen = there if self.n_test is None else np.sort(rng.permutation(there)[: self.n_test])
        # Uniforms of the stream test, not noise: test labels stay the same when the noise seed changes.
        return chosen, rng.random(len(chosen))

    def as_classes(self, labels: np.ndarray) -> np.ndarray:
        """Classes 0 .. K - 1 for numbers of the data set."""
        # Classes that are left out stay -1; no position of a sample kept refers to them.
        place = np.full(self.all_classes, -1)
        place[list(self.task().numbers)] = np.arange(self.task().count)
        return place[labels]


@dataclass(frozen=True)
class Digits(Images):
    """The 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn (UCI); every third is a test sample."""

    def arrays(self) -> Arrays:
        return digits()


@dataclass(frozen=True)
class TorchvisionImages(Images):
    """A data set whose files lie below `root`, as torchvision lays them out; `download` lets it try to fetch them.

    Other files of the same form make other runs: a hash of their content enters the run_id (`fingerprint`).
    """

    root: str = "data"  # where the files lie
    download: bool = False  # try to fetch what is missing

    name: ClassVar[str]

    verify = False  # whether the files must be the published ones

    def loaded(self) -> DataSet:
        """The files. Raises ConfigError if they are not there."""
        return load(self.name, self.root, self.download, self.verify)

    def arrays(self) -> Arrays:
        return self.loaded().arrays

    def fingerprint(self) -> str:
        return self.loaded().fingerprint


class Mnist(TorchvisionImages):
    """LeCun et al., handwritten digits, 28 x 28; the customary confusions 7 -> 1, 2 -> 7, 5 <-> 6, 3 -> 8."""

    name, confusions = "MNIST", {7: 1, 2: 7, 5: 6, 6: 5, 3: 8}


class FashionMnist(TorchvisionImages):
    """Xiao et al. 2017, clothes, 28 x 28."""

    name = "FashionMNIST"


@dataclass(frozen=True)
class Cifar(TorchvisionImages):
    """Pickled batches; `verify` refuses files that are not the published ones, and is to be false for files of one's own."""

    verify: bool = True  # whether the files must be the published ones; false = files of your own in the same format


class Cifar10(Cifar):
    """Krizhevsky 2009, 32 x 32; truck -> automobile, bird -> airplane, deer -> horse, cat <-> dog are customary confusions."""

    name, confusions = "CIFAR10", {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}


TRUTHS, LAYOUTS = ("all", "test", "none"), (None, "nchw", "nhwc")


@dataclass(frozen=True)
class OwnData(Images):
    """Images or vectors of one's own, with true labels, observed ones, or both; any number of classes.

    `file` is an .npz, a table (.csv, .parquet) with a row for each sample, or a folder with a sub-folder of images for each
    class; docs/images.md lists the names of its parts. Without a split of its own round(test_share n_k) samples of each class k
    are test samples, drawn by split_seed. Features of vectors are standardised one by one, as channels of images are. Another
    content is another run: a hash of it enters the run_id.
    """

    classes: tuple[int, ...] | None = None  # the classes kept, null = all; the first is +1 of a binary task
    balanced: bool = False  # as many training samples of each class
    file: str = field(kw_only=True)  # an .npz, .csv or .parquet file, or a folder of images with a sub-folder for each class
    layout: str | None = None  # of images with channels: nchw | nhwc; null = told by the shape
    keys: tuple[tuple[str, ...], ...] = ()  # other names in the file, as [[y,diagnosis],[observed,vote],[ignore,patient]]
    test_share: float | None = None  # share of the samples for the test, where the file has no split; null = 0.2
    split_seed: int = 0  # draws these test samples, the same ones for every `seed`
    truth: str = "all"  # which labels are true where the file has but one kind: all | test | none (the others: observed only)

    option = "arrays"

    def validate(self) -> None:
        require(self.layout in LAYOUTS, "layout", self.layout, "must be nchw, nhwc or null")
        require(self.truth in TRUTHS, "truth", self.truth, f"must be one of {', '.join(TRUTHS)}")
        share = self.test_share
        require(share is None or 0 < share < 1, "test_share", share, "must lie in (0, 1)")
        require(is_seed(self.split_seed), "split_seed", self.split_seed, "must be an integer from 0 to 2^62")
        check_keys(self.keys)
        super().validate()

    def loaded(self) -> OwnSamples:
        """What the file holds. Raises ConfigError."""
        keys: Keys = self.keys
        return read(self.file, self.layout, keys, self.test_share, self.split_seed, self.truth)

    @property
    def all_classes(self) -> int:  # type: ignore[override]
        """K, of all labels in the file."""
        return self.loaded().classes

    def arrays(self) -> Arrays:
        return self.loaded().arrays

    def fingerprint(self) -> str:
        return self.loaded().fingerprint

    def knows_truth(self, split: str) -> bool:
        return self.loaded().known[split]

    def observed(self, split: str) -> np.ndarray | None:
        return self.loaded().observed.get(split)

    def rows(self) -> np.ndarray:
        return self.loaded().rows

    def row_labels(self) -> np.ndarray:
        return self.loaded().row_labels


# Fine classes of each of the 20 superclasses of CIFAR-100, as its authors list them; numbers are alphabetical positions.
SUPERCLASSES = (
    (4, 30, 55, 72, 95), (1, 32, 67, 73, 91), (54, 62, 70, 82, 92), (9, 10, 16, 28, 61), (0, 51, 53, 57, 83),
    (22, 39, 40, 86, 87), (5, 20, 25, 84, 94), (6, 7, 14, 18, 24), (3, 42, 43, 88, 97), (12, 17, 37, 68, 76),
    (23, 33, 49, 60, 71), (15, 19, 21, 31, 38), (34, 63, 64, 66, 75), (26, 45, 77, 79, 99), (2, 11, 35, 46, 98),
    (27, 29, 44, 78, 93), (36, 50, 65, 74, 80), (47, 52, 56, 59, 96), (8, 13, 48, 58, 90), (41, 69, 81, 85, 89),
)  # fmt: skip


class Cifar100(Cifar):
    """Krizhevsky 2009, 32 x 32; customary confusions go to the next class of the same superclass, in a circle."""

    name, all_classes = "CIFAR100", 100
    confusions: ClassVar[Mapping[int, int]] = {a[i]: a[(i + 1) % 5] for a in SUPERCLASSES for i in range(5)}


@lru_cache
def digits() -> Arrays:
    """scikit-learn's digits; grey values 0 .. 16 become 0 .. 240."""
    from sklearn.datasets import load_digits  # takes a second to import

    found = load_digits()
    # Times 15: uint8 like all other data sets. Scaling by 255 / 16 would give fractions.
    images, labels = (15 * found.images[:, None]).astype(np.uint8), found.target.astype(np.int64)
    # scikit-learn has no split of its own; a fixed one lets all seeds share one test set.
    test = np.arange(len(labels)) % 3 == 2
    return {"train": images[~test], "train_labels": labels[~test], "test": images[test], "test_labels": labels[test]}


def on_device(data: Images, device: torch.device) -> tuple[Tensor, Tensor]:
    """All training and all test images on the device, uint8; selections of one data set share them."""
    # The cache key is the data set without its selection, as all images are moved whatever is selected.
    everything = replace(data, n_train=None, n_test=None, classes=None, balanced=True, augment="none", mixup=0.0)
    return _on_device(everything, data.fingerprint(), device)


@lru_cache(maxsize=4)
def _on_device(data: Images, fingerprint: str, device: torch.device) -> tuple[Tensor, Tensor]:
    arrays = data.arrays()
    return torch.as_tensor(arrays["train"], device=device), torch.as_tensor(arrays["test"], device=device)


def pixel_statistics(data: Images) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over the training images of the classes kept, pixel values in [0, 1].

    Of vectors those of each feature. What does not vary has 1 for its standard deviation.
    """
    return _pixel_statistics(data, data.fingerprint())


@lru_cache
def _pixel_statistics(data: Images, fingerprint: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = data.arrays()
    images = arrays["train"][np.isin(arrays["train_labels"], data.task().numbers)]
    if data.is_vectors():
        return moments(images[:, :, 0, 0])
    # Exact, from 256 counts for each channel: a copy of all pixels as floats would take eight times the memory.
    counts = np.stack([np.bincount(images[:, c].ravel(), minlength=256) for c in range(images.shape[1])])
    share, values = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = share @ values
    varies = (counts > 0).sum(1) > 1
    return mean, np.sqrt(share @ values**2 - mean**2, where=varies, out=np.ones_like(mean))
