"""Image data sets from the files in which they are published, kept beside them as one checked file that loads at once.

MNIST and its kin (four IDX files, packed by gzip or not) and CIFAR (pickled batches). No code in a file is run.
"""

import gzip
import hashlib
import io
import json
import logging
import pickle
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock

from lnt.errors import ConfigError
from lnt.files import check_regular, put_aside, write_atomically
from lnt.settings import check_writable

log = logging.getLogger(__name__)
Arrays = Mapping[str, np.ndarray]  # train and test images [N, C, H, W] uint8, train_labels and test_labels [N] int64
MEMBERS = ("train", "train_labels", "test", "test_labels")
SECONDS_FOR_ANOTHER = 3600  # how long a process waits for the download of another one
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


class DataSet(NamedTuple):
    """The arrays of a data set, and what tells them from the published ones: a hash of them, empty if they are those."""

    arrays: Arrays
    fingerprint: str


class Format(NamedTuple):
    """How a data set is published."""

    folder: str  # below the root, where torchvision puts it
    files: Mapping[str, str]  # name -> MD5 of the published content
    read: Callable[[Mapping[str, bytes]], Arrays]  # raises ValueError with the name of a file in front
    classes: int


@lru_cache
def load(name: str, root: str, download: bool, verify: bool) -> DataSet:
    """The data set `name` (as torchvision spells it) in the folder `root`, one below or one above it.

    `verify` wants the published files, not others of their form. Raises ConfigError if a file is missing or damaged.
    """
    folder = Path(root).expanduser()
    if download:
        fetch(name, folder)
    form, cache = format_of(name), folder / f"lnt-{name.lower()}.npz"
    there = locate(form, folder)
    raw = {file: content(path) for file, path in there.items()}
    sums = {file: hashlib.md5(data).hexdigest() for file, data in raw.items()}
    if (cached := read_cache(cache, sums, form.classes)) is not None:
        return cached
    missing = [file for file in form.files if file not in there]
    if missing:
        raise ConfigError("root", root, f"{name} needs {missing[0]} there; {found_instead(form, folder)}")
    others = [file for file, md5 in form.files.items() if md5 != sums[file]]
    if others and verify:
        allowed = "is damaged: its MD5 is not the published one; put a fresh copy there, or give data.verify=false for your own"
        raise ConfigError("root", there[others[0]], allowed)
    arrays = read_raw(form, raw, there)
    found = DataSet(arrays, hash_of(arrays) if others else "")
    try:
        write_atomically(cache, partial(_save, found=found, source=json.dumps(sums)))
    # A data folder may be read-only, for example one that many users share.
    except OSError as error:
        log.warning("%s cannot be written (%s): the raw files are read each time", cache, error)
    return found


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


def places(form: Format, root: Path) -> list[Path]:
    """Where the files may lie: where torchvision puts them, in the root, in a folder below it, or beside it."""
    below = [path for path in sorted(root.iterdir()) if path.is_dir()] if root.is_dir() else []
    own = Path(form.folder)
    # A root that is one folder off: data/MNIST for data, or data/MNIST/raw.
    return [root / own, root, *(path / own for path in below), *below, root.parent / own, root.parent]


def names_of(file: str) -> list[str]:
    """The names under which a file is known: with dots in place of hyphens, packed or not."""
    dotted = file.replace("-idx", ".idx")
    return list(dict.fromkeys([file, dotted, f"{file}.gz", f"{dotted}.gz"]))


def locate(form: Format, root: Path) -> dict[str, Path]:
    """The first place that has all files; if none has, what the first place has that holds any."""
    partly: dict[str, Path] = {}
    for place in places(form, root):
        found = {file: path for file in form.files for name in reversed(names_of(file)) if (path := place / name).is_file()}
        if len(found) == len(form.files):
            return found
        partly = partly or found
    return partly


def found_instead(form: Format, root: Path) -> str:
    """What to do, given what lies there."""
    if not root.is_dir():
        return f"there is no folder {root}; put {', '.join(form.files)} into it, or give data.download=true to try"
    archives = [path for path in sorted(root.iterdir()) if path.name.endswith((".tar.gz", ".tgz", ".zip", ".tar"))]
    if archives:
        return f"unpack {archives[0].name} there"
    there = locate(form, root)
    if there:
        place = next(iter(there.values())).parent
        return f"{place} has {', '.join(path.name for path in there.values())} only; put the others there"
    names = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
    return f"{root} holds {names}; put {', '.join(form.files)} into {root / form.folder}, or give data.download=true to try"


def content(path: Path) -> bytes:
    """The content of a file, unpacked if it is packed by gzip, whatever its name says. Raises ConfigError."""
    check_regular(path)
    data = path.read_bytes()
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError("root", path, f"is damaged: {error}; put a fresh copy there") from error


def fetch(name: str, root: Path) -> None:
    """Let torchvision download what is missing, one process at a time. Raises ConfigError if it cannot."""
    import torchvision.datasets

    form = format_of(name)
    if len(locate(form, root)) == len(form.files):
        return
    check_writable(root)
    root.mkdir(parents=True, exist_ok=True)
    # Jobs of a sweep start together, and all of them would fetch the same files.
    with FileLock(root / ".download.lock", timeout=SECONDS_FOR_ANOTHER):
        # Again, with the lock held: another process may have fetched them meanwhile.
        if len(locate(form, root)) == len(form.files):
            return
        try:
            getattr(torchvision.datasets, name)(root, download=True)
        except Exception as error:
            names = ", ".join(f"{form.folder}/{file}" for file in form.files)
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ConfigError("download", True, f"failed ({reason}); put {names} into {root}") from error


def read_raw(form: Format, raw: Mapping[str, bytes], there: Mapping[str, Path]) -> Arrays:
    """The files as arrays of one form. Raises ConfigError naming the file that is not what it should be."""
    try:
        arrays = form.read(raw)
    except ValueError as error:
        file, _, reason = str(error).partition(": ")
        raise ConfigError("root", there[file], f"is damaged: {reason}; put a fresh copy there") from error
    if (problem := fault(arrays, form.classes)) is not None:
        raise ConfigError("root", next(iter(there.values())).parent, f"{problem}; put fresh copies of its files there")
    return arrays


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
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


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


def hash_of(arrays: Arrays) -> str:
    """A hash of the shapes and the values of all arrays."""
    found = hashlib.sha256()
    for member in MEMBERS:
        found.update(str(arrays[member].shape).encode())
        found.update(np.ascontiguousarray(arrays[member]).data)
    return found.hexdigest()[:16]


def read_cache(cache: Path, sums: Mapping[str, str], classes: int) -> DataSet | None:
    """The data set in a cache that is whole (every member of the file has a checksum) and was made of the raw files.

    `sums` are the MD5 of those that are there; a cache without any is used as it is.
    """
    if not cache.is_file():
        return None
    try:
        # A pickle could run code, and the folder may be another user's.
        with np.load(cache, allow_pickle=False) as found:
            arrays = dict(found)
        source, fingerprint = json.loads(str(arrays.pop("source"))), str(arrays.pop("fingerprint", ""))
        if not isinstance(source, dict):
            return None  # of an earlier version
        if (problem := fault(arrays, classes)) is not None:
            raise ValueError(problem)
        if fingerprint and fingerprint != hash_of(arrays):
            raise ValueError("its fingerprint does not fit")
    except Exception as error:  # the module raises errors of many kinds for bytes that are no zip file
        log.warning("%s is damaged (%s): the raw files are read instead", cache, error)
        with suppress(OSError):  # a folder that may be read only, or another process was faster
            put_aside(cache)
        return None
    return DataSet(arrays, fingerprint) if sums.items() <= source.items() else None


def _save(path: Path, found: DataSet, source: str) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, source=np.array(source), fingerprint=np.array(found.fingerprint), **found.arrays)
