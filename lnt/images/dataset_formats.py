"""The formats in which image data sets are published: MNIST and its kin (four IDX files), CIFAR (pickled batches).

Files become arrays of one form. No code in a file is run.
"""

import io
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Arrays = Mapping[str, np.ndarray]  # train and test images [N, C, H, W] uint8, train_labels and test_labels [N] int64
MEMBERS = ("train", "train_labels", "test", "test_labels")
UNPACKED_MD5 = {  # of the four files as unpacked, in torchvision's order; torchvision has those of the packed ones
    "MNIST": (
        *("6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624"),
        *("2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"),
    ),
    "FashionMNIST": (
        *("f4a8712d7a061bf5bd6d2ca38dc4d50a", "9018921c3c673c538a1fc5bad174d6f9"),
        *("8181f5470baa50b63fa0f6fddb340f0a", "15d484375f8d13e6eb1aabb0c3f46965"),
    ),
}
PICKLED = {  # all that the batches of CIFAR consist of, beside plain values
    *(("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")),
    *(("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")),
}


class Format(NamedTuple):
    """How a data set is published."""

    folder: str  # below the root, where torchvision puts it
    files: Mapping[str, str]  # name -> MD5 of the published content
    read: Callable[[Mapping[str, bytes]], Arrays]  # raises ValueError with the name of a file in front
    classes: int


def format_of(name: str) -> Format:
    """How the data set is published, from torchvision's list of its files."""
    import torchvision.datasets  # takes a second to import

    dataset: Any = getattr(torchvision.datasets, name)
    if hasattr(dataset, "train_list"):
        train, test = dict(dataset.train_list), dict(dataset.test_list)
        meta = {dataset.meta["filename"]: dataset.meta["md5"]}
        labels = "labels" if name == "CIFAR10" else "fine_labels"
        read = partial(_read_cifar, list(train), list(test), labels)
        return Format(dataset.base_folder, {**train, **test, **meta}, read, 10 if name == "CIFAR10" else 100)
    files = [Path(url).stem for url, _ in dataset.resources]  # stem drops the .gz
    known = dict(zip(files, UNPACKED_MD5[name], strict=True))
    return Format(f"{dataset.__name__}/raw", known, partial(_read_mnist, files), 10)


def _read_mnist(files: list[str], raw: Mapping[str, bytes]) -> Arrays:
    arrays = {}
    for member, file in zip(MEMBERS, files, strict=True):  # torchvision lists them in this order
        array = idx(file, raw[file], 1 if member.endswith("labels") else 3)
        # Grey images get their channel: [N, H, W] becomes [N, 1, H, W].
        arrays[member] = array.astype(np.int64) if member.endswith("labels") else array[:, None]
    return arrays


def idx(file: str, data: bytes, dimensions: int) -> np.ndarray:
    """An array in the IDX format: two zero bytes, the type (8: bytes), the number of dimensions, their sizes, the values.

    Raises ValueError. Source: LeCun, "The MNIST database of handwritten digits".
    """
    if data[:4] != bytes([0, 0, 8, dimensions]):
        raise ValueError(f"{file}: {looks_like(data)}")
    shape = np.frombuffer(data, ">i4", min(dimensions, (len(data) - 4) // 4), 4)
    start = 4 + 4 * dimensions
    if len(shape) < dimensions or (shape < 0).any() or len(data) - start != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{file}: it says {' x '.join(map(str, shape))} values and holds {max(0, len(data) - start)}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()  # PyTorch takes no memory that cannot be written


def looks_like(data: bytes) -> str:
    """What a file seems to be that is not what it should be."""
    start = data[:64].lstrip().lower()
    if not data:
        return "it is empty"
    if start.startswith((b"<!doctype", b"<html")):
        return "it is a web page"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS; fetch the file itself"
    return f"it begins with the bytes {data[:4].hex(' ')}, which is not its format"


def _read_cifar(train: list[str], test: list[str], labels: str, raw: Mapping[str, bytes]) -> Arrays:
    arrays = {}
    for split, files in (("train", train), ("test", test)):
        batches = [_batch(file, raw[file], labels) for file in files]
        arrays[split] = np.concatenate([images for images, _ in batches])
        arrays[f"{split}_labels"] = np.concatenate([numbers for _, numbers in batches])
    return arrays


def _batch(file: str, data: bytes, labels: str) -> tuple[np.ndarray, np.ndarray]:
    """The images [N, 3, 32, 32] and labels [N] of a batch. Raises ValueError."""
    try:
        found = _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
        images = np.ascontiguousarray(found["data"], np.uint8).reshape(-1, 3, 32, 32)
        return images, np.array(found[labels], np.int64)
    except Exception as error:  # the module raises errors of many kinds for bytes that are no pickle
        raise ValueError(f"{file}: {looks_like(data) if data[:1] != bytes([128]) else error}") from error


class _PlainUnpickler(pickle.Unpickler):
    """Builds arrays and plain values, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in PICKLED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no image needs")
        return super().find_class(module, name)


def fault(arrays: Arrays, classes: int) -> str | None:
    """A description of what is wrong with the arrays of a data set, None if nothing is."""
    if set(arrays) != set(MEMBERS):
        return f"holds {', '.join(sorted(arrays))}, not {', '.join(MEMBERS)}"
    for split in ("train", "test"):
        images, labels = arrays[split], arrays[f"{split}_labels"]
        if images.dtype != np.uint8 or images.ndim != 4 or labels.dtype != np.int64 or labels.ndim != 1:
            return f"holds {split} images {images.dtype} {images.shape} and labels {labels.dtype} {labels.shape}"
        if len(images) != len(labels):
            return f"holds {len(images)} {split} images and {len(labels)} labels"
        if len(labels) == 0:
            return f"holds no {split} images"
        if labels.min() < 0 or labels.max() >= classes:
            return f"holds {split} labels from {labels.min()} to {labels.max()}, where 0 to {classes - 1} are expected"
    train, test = arrays["train"].shape[1:], arrays["test"].shape[1:]
    if train != test or train[1] != train[2]:
        sizes = [" x ".join(map(str, shape)) for shape in (train, test)]
        return f"holds training images of {sizes[0]} and test images of {sizes[1]}; both must be the same squares"
    return None
