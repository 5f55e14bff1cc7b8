"""Data of one's own as samples: images or vectors with labels, checked, in two splits, vectors standardised."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lnt.errors import ConfigError, printable
from lnt.files import stamp
from lnt.images.dataset_formats import Arrays
from lnt.images.own_files import INPUTS, SPLITS, Keys, Parts, contents
from lnt.seeding import generator

log = logging.getLogger(__name__)
CHANNELS = (1, 2, 3, 4)  # how many an image has, where the shape must tell
SHARE = 0.2  # of the samples that become test samples, unless another one is asked for
SPLIT_KEY = (0, 0)  # of what draws them, in the stream data
MOST_CLASSES = 2**15 - 1  # predictions and samples.parquet have 16 bits
ROWS_AT_ONCE = 4096  # of vectors in float64, a copy of which may not fit in memory


class OwnSamples(NamedTuple):
    """What a file holds, checked."""

    arrays: Arrays  # images uint8 [N, C, H, W], or vectors float32 [N, D, 1, 1]; where the truth is unknown, observed labels
    observed: Mapping[str, np.ndarray]  # train, test: observed labels [N], where the file has them
    known: Mapping[str, bool]  # train, test: whether the labels in `arrays` are the true ones
    rows: np.ndarray  # [n] where each training sample lies in the file, ascending
    row_labels: np.ndarray  # the labels of all samples in the order of the file, in which `rows` are positions
    classes: int  # K
    fingerprint: str


def read(file: str, layout: str | None, keys: Keys, test_share: float | None, split_seed: int, truth: str) -> OwnSamples:
    """The samples in a file or folder. Raises ConfigError if they are not there or do not fit each other."""
    path = Path(file).expanduser()
    # Of a folder those of the folders in it: they show what was added, renamed or removed, not what was written over.
    folders = (
        [path, *path.glob("*/"), *(place for name in SPLITS for place in path.glob(f"{name}/*/"))] if path.is_dir() else [path]
    )
    return _read(file, tuple(map(stamp, folders)), layout, keys, test_share, split_seed, truth)


# Arrays are asked for often. By its stamp a file that was written again is another one, as in a notebook.
@lru_cache(maxsize=4)
def _read(
    file: str, stamps: tuple[object, ...], layout: str | None, keys: Keys, test_share: float | None, split_seed: int, truth: str
) -> OwnSamples:
    path = Path(file).expanduser()
    try:
        parts = contents(path, keys)
        for name in INPUTS:
            if name in parts:
                parts[name] = as_inputs(name, parts[name], layout)
        classes = number_labels(parts)
        check_lengths(parts)
        rows, row_labels, parts = in_splits(parts, test_share, split_seed)
        labels, observed, known = told_apart(parts, truth)
    except ValueError as error:
        raise error if isinstance(error, ConfigError) else ConfigError("file", file, printable(str(error))) from error
    arrays = {name: parts[name] for name in SPLITS} | {f"{name}_labels": labels[name] for name in SPLITS}
    found = hash_of({**arrays, **{f"{name}_observed": array for name, array in observed.items()}})
    if arrays["train"].dtype != np.uint8:
        mean, std = moments(arrays["train"])
        arrays |= {name: standardised(arrays[name], mean, std) for name in SPLITS}
    return OwnSamples(arrays, observed, known, rows, row_labels, classes, found)


def as_inputs(name: str, array: np.ndarray, layout: str | None) -> np.ndarray:
    """uint8 images as [N, C, H, W], vectors of any numbers as float [N, D, 1, 1]. Raises ValueError."""
    shape = " x ".join(map(str, array.shape))
    if array.ndim == 2 and array.dtype.kind in "biuf" and array.shape[1]:
        vectors = array.astype(array.dtype if array.dtype in (np.float32, np.float64) else float)
        wrong = ~np.isfinite(vectors)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(f"holds {name} with {vectors[row, column]} in row {row}, feature {column}; all must be finite")
        return vectors[:, :, None, None]
    if array.ndim not in (3, 4) or array.dtype != np.uint8:
        said = "must be images of uint8 (N x H x W, N x H x W x C or N x C x H x W, values 0 to 255) or vectors (N x D)"
        raise ValueError(f"holds {name} of {array.dtype} {shape}, which {said}")
    images = array[:, None] if array.ndim == 3 else channels_first(name, array, layout)
    if images.shape[2] != images.shape[3]:
        raise ValueError(f"holds {name} of {images.shape[2]} x {images.shape[3]} pixels; crop or pad them to squares")
    if 0 in images.shape[1:]:
        raise ValueError(f"holds {name} of {shape}: images without pixels")
    return np.ascontiguousarray(images)


def channels_first(name: str, array: np.ndarray, layout: str | None) -> np.ndarray:
    """[N, C, H, W] from images with their channels first (nchw) or last (nhwc), which the shape may tell."""
    _, one, two, three = array.shape
    fits = [option for option, ok in (("nchw", two == three), ("nhwc", one == two)) if ok]
    count = {"nchw": one, "nhwc": three}
    told = [option for option in fits if count[option] in CHANNELS]
    if layout is None and len(told) != 1:
        said = f"holds {name} of {' x '.join(map(str, array.shape))}, where channels may be first or last or are neither 1 to 4"
        raise ValueError(f"{said}; square images need data.layout=nchw or nhwc")
    return array if (layout or told[0]) == "nchw" else array.transpose(0, 3, 1, 2)


def number_labels(parts: Parts) -> int:
    """Turn all labels into classes 0 .. K - 1 in place, those of text by their alphabetical order; return K."""
    names = [name for name in parts if name not in (*INPUTS, "split")]
    for name in names:
        if parts[name].ndim == 2 and parts[name].shape[1] == 1:
            parts[name] = parts[name][:, 0]
        if parts[name].ndim != 1 or not len(parts[name]):
            shape = " x ".join(map(str, parts[name].shape))
            raise ValueError(f"holds {name} of shape {shape}; there must be one label for each sample")
    if not names:
        raise ValueError("holds no labels: y, observed, train_labels, ... (docs/images.md), or name them with data.keys")
    text = [parts[name].dtype.kind in "US" for name in names]
    if any(text) and not all(text):
        raise ValueError(f"holds text in {names[text.index(True)]} and numbers in {names[text.index(False)]}")
    if all(text):
        words = np.unique(np.concatenate([parts[name].astype(str) for name in names]))
        log.info("classes: %s", ", ".join(f"{k} = {printable(word)}" for k, word in enumerate(words)))
        for name in names:
            parts[name] = np.searchsorted(words, parts[name].astype(str))
    for name in names:
        found = parts[name]
        if found.dtype.kind not in "biuf" or not (np.isfinite(found) & (found == np.rint(found))).all():
            raise ValueError(f"holds {name} of {found.dtype} that are no whole numbers; a label is a class from 0, or a word")
        if found.min() < 0 or found.max() >= MOST_CLASSES:
            raise ValueError(f"holds {name} from {found.min():g} to {found.max():g}; classes count from 0 to K - 1")
        parts[name] = found.astype(np.int64)
    count = 1 + max(int(parts[name].max()) for name in names)
    if count < 2:
        raise ValueError("holds one class only; there must be two at least")
    return count


def check_lengths(parts: Parts) -> None:
    """Raise ValueError unless the parts are those of one split or of two, and as long as they should be."""
    whole, split = "x" in parts, "train" in parts and "test" in parts
    if whole == split or (whole and ("train" in parts or "test" in parts)):
        there = ", ".join(parts) or "none of these"
        raise ValueError(f"must hold either train and test or x (docs/images.md); found: {there}")
    kin = {
        "train": ("train_labels", "train_observed"),
        "test": ("test_labels", "test_observed"),
        "x": ("y", "observed", "split"),
    }
    for name in ("x",) if whole else SPLITS:
        labels = [label for label in kin[name] if label in parts]
        if not any(label != "split" for label in labels):
            raise ValueError(f"holds no labels of {name}: {kin[name][0]} (true ones) or {kin[name][1]}")
        for label in labels:
            if len(parts[label]) != len(parts[name]):
                raise ValueError(f"holds {len(parts[name])} samples in {name} and {len(parts[label])} values in {label}")
    if split and (parts["train"].shape[1:] != parts["test"].shape[1:] or parts["train"].dtype != parts["test"].dtype):
        sizes = [f"{parts[name].dtype} {' x '.join(map(str, parts[name].shape[1:]))}" for name in SPLITS]
        raise ValueError(f"holds training samples of {sizes[0]} and test samples of {sizes[1]}; both must be alike")


def in_splits(parts: Parts, test_share: float | None, seed: int) -> tuple[np.ndarray, np.ndarray, Parts]:
    """Where training samples lie in the file, the labels there, and the parts with train and test apart. Raises ValueError."""
    drawn = "x" in parts and "split" not in parts
    if test_share is not None and not drawn:
        raise ConfigError("test_share", test_share, "must be null: the file says which are its test samples")
    if "x" not in parts:
        labels = parts.get("train_labels", parts.get("train_observed"))
        assert labels is not None
        return np.arange(len(labels)), labels, parts
    labels = parts.get("y", parts.get("observed"))
    assert labels is not None
    test = sampled_split(labels, test_share or SHARE, seed) if drawn else given_split(parts["split"])
    if not 0 < test.sum() < len(test):
        raise ValueError(f"has {test.sum()} test samples of {len(test)}; there must be test and training samples")
    found = {}
    for split, mask in (("train", ~test), ("test", test)):
        for old, new in (("x", split), ("y", f"{split}_labels"), ("observed", f"{split}_observed")):
            if old in parts:
                found[new] = parts[old][mask]
    return np.flatnonzero(~test), labels, found


def given_split(words: np.ndarray) -> np.ndarray:
    """Which samples are test samples, from the words train and test. Raises ValueError."""
    others = sorted(set(words.astype(str).tolist()) - set(SPLITS))
    if others:
        raise ValueError(f"has {others[0]} in its column of splits; a split is train or test")
    return words.astype(str) == "test"


def sampled_split(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Draw round(share n_k) test samples of each class k, [N] of bool."""
    rng, test = generator("data", seed, *SPLIT_KEY), np.zeros(len(labels), bool)
    for number in np.unique(labels):
        members = np.flatnonzero(labels == number)
        test[rng.permutation(members)[: round(share * len(members))]] = True
    return test


def told_apart(parts: Parts, truth: str) -> tuple[Parts, Parts, dict[str, bool]]:
    """The labels that stand for the truth, the observed ones that there are, and whether the former are true, by split."""
    labels, observed, known = {}, {}, {}
    for split in SPLITS:
        true, seen = parts.get(f"{split}_labels"), parts.get(f"{split}_observed")
        if truth == "none" or (truth == "test" and split == "train"):
            if true is not None and seen is not None:
                both = (
                    f"the file has true labels of {split} samples and observed ones; name the former with data.keys, or ignore"
                )
                raise ConfigError("truth", truth, both)
            true, seen = None, seen if true is None else true
        known[split] = true is not None
        if seen is not None:
            observed[split] = seen
        stands = seen if true is None else true
        assert stands is not None, "check_lengths has looked"
        labels[split] = stands
    return labels, observed, known


def hash_of(arrays: Mapping[str, np.ndarray]) -> str:
    """A hash of the names, the types, the shapes and the values of arrays."""
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()[:16]


def moments(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature, [D] in float64; 1 for a feature that is constant."""
    mean = vectors.mean(0, dtype=float)
    squares = sum(((part - mean) ** 2).sum(0) for part in blocks(vectors))
    std = np.sqrt(squares / len(vectors))
    # Relative to the mean: the sum over equal numbers is not exactly a multiple of them.
    return mean, np.where(std > 1e-12 * np.abs(mean), std, 1.0)


def standardised(vectors: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Vectors on the scale of the training set as float32: features far from 0 would lose their digits otherwise."""
    return np.concatenate([((part - mean) / std).astype(np.float32) for part in blocks(vectors)])


def blocks(vectors: np.ndarray) -> Iterator[np.ndarray]:
    """Vectors in float64, some at a time."""
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        yield vectors[start : start + ROWS_AT_ONCE].astype(float)
