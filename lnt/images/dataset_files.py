"""Image data sets from the files that torchvision reads, kept beside them as one checked file that loads at once."""

import json
import logging
import zipfile
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from lnt.errors import ConfigError, require
from lnt.files import write_atomically
from lnt.settings import check_writable

log = logging.getLogger(__name__)
Arrays = Mapping[str, np.ndarray]  # train and test images [N, C, H, W] uint8, train_labels and test_labels [N] int64
MEMBERS = ("train", "train_labels", "test", "test_labels")
SECONDS_FOR_ANOTHER = 3600  # how long a process waits for the download of another one


@lru_cache
def load(name: str, root: str, download: bool) -> Arrays:
    """The data set `name` (as torchvision spells it) below `root`. Raises ConfigError if a file is missing or damaged."""
    import torchvision.datasets  # takes a second to import

    dataset, folder = getattr(torchvision.datasets, name), Path(root).expanduser()
    if download:
        fetch(dataset, folder)
    files, cache = raw_files(dataset, folder), folder / f"lnt-{name.lower()}.npz"
    # Before check_files: a whole cache is enough, also where the raw files were removed.
    if (cached := read_cache(cache, files)) is not None:
        return cached
    check_files(name, folder, files)
    arrays = read_raw(dataset, folder)
    try:
        write_atomically(cache, partial(_save, arrays=arrays, source=source_of(files)))
    # A data folder may be read-only, for example one that many users share.
    except OSError as error:
        log.warning("%s cannot be written (%s): the raw files are read each time", cache, error)
    return arrays


def raw_files(dataset: Any, root: Path) -> dict[Path, str | None]:
    """The files that torchvision wants, each with its published MD5 where it has one."""
    if hasattr(dataset, "train_list"):  # CIFAR
        listed = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
        return {root / dataset.base_folder / name: md5 for name, md5 in listed}
    # torchvision unpacks these: Path.stem drops the .gz. Published checksums are of the packed files, hence None.
    return {root / dataset.__name__ / "raw" / Path(url).stem: None for url, _ in dataset.resources}


def check_files(name: str, root: Path, files: Mapping[Path, str | None]) -> None:
    """Raise ConfigError naming the first file that is not there, or not what was published."""
    from torchvision.datasets.utils import check_integrity

    missing = [path for path in files if not path.is_file()]
    wanted = f"{name} needs {', '.join(str(path.relative_to(root)) for path in files)} in it"
    require(not missing, "root", root, f"{wanted}; put them there, or give data.download=true to try")
    for path, md5 in files.items():
        allowed = "is damaged: its MD5 is not the published one; put a fresh copy there"
        require(md5 is None or check_integrity(str(path), md5), "root", path, allowed)


def fetch(dataset: Any, root: Path) -> None:
    """Let torchvision download what is missing, one process at a time. Raises ConfigError if it cannot."""
    if all(path.is_file() for path in raw_files(dataset, root)):
        return
    check_writable(root)
    root.mkdir(parents=True, exist_ok=True)
    # Jobs of a sweep start together, and all of them would fetch the same files.
    with FileLock(root / ".download.lock", timeout=SECONDS_FOR_ANOTHER):
        # Again, with the lock held: another process may have fetched them meanwhile.
        if all(path.is_file() for path in raw_files(dataset, root)):
            return
        try:
            dataset(root, download=True)
        except Exception as error:
            names = ", ".join(str(path.relative_to(root)) for path in raw_files(dataset, root))
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ConfigError("download", True, f"failed ({reason}); put {names} into {root}") from error


def read_raw(dataset: Any, root: Path) -> Arrays:
    """Through torchvision's own readers, into arrays of one form. Raises ConfigError naming a file that cannot be read."""
    if hasattr(dataset, "train_list"):
        parts = {split: dataset(root, train=split == "train") for split in ("train", "test")}
        # torchvision has [N, H, W, C] here. Contiguous, as the kernels run along rows.
        images = {split: np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)) for split, part in parts.items()}
        arrays = {**images, **{f"{split}_labels": np.array(part.targets, np.int64) for split, part in parts.items()}}
        if (problem := fault(arrays)) is not None:
            raise ConfigError("root", root / dataset.base_folder, f"{problem}; put fresh copies of its files there")
        return arrays
    from torchvision.datasets import mnist

    arrays, files = {}, dict(zip(MEMBERS, raw_files(dataset, root), strict=True))  # torchvision lists them in this order
    for name, path in files.items():
        try:
            read = mnist.read_label_file if name.endswith("labels") else mnist.read_image_file
            array = read(str(path)).numpy()
        except Exception as error:
            raise ConfigError("root", path, f"is damaged: {error}; put a fresh copy there") from error
        # Grey images get their channel: [N, H, W] becomes [N, 1, H, W].
        arrays[name] = array if name.endswith("labels") else array[:, None]
    if (problem := fault(arrays)) is not None:
        raise ConfigError("root", files["train"].parent, f"{problem}; put fresh copies of its files there")
    return arrays


def fault(arrays: Arrays) -> str | None:
    """A description of what is wrong with the arrays of a data set, None if nothing is."""
    if set(arrays) != set(MEMBERS):
        return f"holds {', '.join(sorted(arrays))}, not {', '.join(MEMBERS)}"
    for split in ("train", "test"):
        images, labels = arrays[split], arrays[f"{split}_labels"]
        if images.dtype != np.uint8 or images.ndim != 4 or labels.dtype != np.int64 or labels.ndim != 1:
            return f"holds {split} images {images.dtype} {images.shape} and labels {labels.dtype} {labels.shape}"
        if len(images) != len(labels):
            return f"holds {len(images)} {split} images and {len(labels)} labels"
    return None


def source_of(files: Mapping[Path, str | None]) -> str:
    """Names, sizes and times of the raw files, which tell whether these have changed."""
    return json.dumps([[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files])


def read_cache(cache: Path, files: Mapping[Path, str | None]) -> Arrays | None:
    """The arrays of a cache that is whole (every member of the file has a checksum) and no older than the raw files."""
    if not cache.is_file():
        return None
    try:
        # A pickle could run code, and the folder may be another user's.
        with np.load(cache, allow_pickle=False) as found:
            arrays = dict(found)
        source = str(arrays.pop("source"))
        if (problem := fault(arrays)) is not None:
            raise ValueError(problem)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s is damaged (%s): it is made anew from the raw files", cache, error)
        return None
    there = all(path.is_file() for path in files)
    # Raw files that are there must be those that the cache was made of; a cache alone is trusted.
    return arrays if not there or source == source_of(files) else None


def _save(path: Path, arrays: Arrays, source: str) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, source=np.array(source), **arrays)
