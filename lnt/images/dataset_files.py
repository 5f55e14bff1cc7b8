"""Image data sets from the files in which they are published, kept beside them as one checked file that loads at once."""

import gzip
import hashlib
import json
import logging
import zlib
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock

from lnt.errors import ConfigError
from lnt.files import check_regular, put_aside, write_atomically
from lnt.images.dataset_formats import MEMBERS, UNPACKED_MD5, Arrays, Format, fault, format_of
from lnt.settings import check_writable

log = logging.getLogger(__name__)
SECONDS_FOR_ANOTHER = 3600  # how long a process waits for the download of another one


class DataSet(NamedTuple):
    """The arrays of a data set, and what tells them from the published ones: a hash of them, empty if they are those."""

    arrays: Arrays
    fingerprint: str


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
    if (found := read_cache(cache, there, form.classes)) is None:
        missing = [file for file in form.files if file not in there]
        if missing:
            raise ConfigError("root", root, f"{name} needs {missing[0]} there; {found_instead(form, folder)}")
        found = read_raw(name, form, there, verify)
        try:
            write_atomically(cache, partial(_save, found=found, source=stamps(there)))
        # A data folder may be read-only, for example one that many users share.
        except OSError as error:
            log.warning("%s cannot be written (%s): the raw files are read each time", cache, error)
    if verify and found.fingerprint:
        raise ConfigError("root", root, f"{cache.name} was made of other files than the published ones; give data.verify=false")
    return found


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


def read_raw(name: str, form: Format, there: Mapping[str, Path], verify: bool) -> DataSet:
    """The files as arrays of one form. Raises ConfigError naming the file that is not what it should be."""
    raw = {file: content(path) for file, path in there.items()}
    sums = {file: hashlib.md5(data).hexdigest() for file, data in raw.items()}
    others = [file for file, md5 in form.files.items() if md5 != sums[file]]
    if others and verify:
        allowed = "is damaged: its MD5 is not the published one; put a fresh copy there, or give data.verify=false for your own"
        raise ConfigError("root", there[others[0]], allowed)
    place = next(iter(there.values())).parent
    for other, published in UNPACKED_MD5.items():  # their files have the same names
        if other != name and set(published) == set(sums.values()):
            raise ConfigError("root", place, f"holds the files of {other}, not of {name}")
    try:
        arrays = form.read(raw)
    except ValueError as error:
        file, _, reason = str(error).partition(": ")
        raise ConfigError("root", there[file], f"is damaged: {reason}; put a fresh copy there") from error
    if (problem := fault(arrays, form.classes)) is not None:
        raise ConfigError("root", place, f"{problem}; put fresh copies of its files there")
    return DataSet(arrays, hash_of(arrays) if others else "")


def hash_of(arrays: Arrays) -> str:
    """A hash of the shapes and the values of all arrays."""
    found = hashlib.sha256()
    for member in MEMBERS:
        found.update(str(arrays[member].shape).encode())
        found.update(np.ascontiguousarray(arrays[member]).data)
    return found.hexdigest()[:16]


def stamps(there: Mapping[str, Path]) -> dict[str, list[int]]:
    """Size and times of each file; the time of its last change of any kind cannot be set, so other files have other stamps."""
    found = {file: path.stat() for file, path in there.items()}
    return {file: [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for file, stat in found.items()}


def read_cache(cache: Path, there: Mapping[str, Path], classes: int) -> DataSet | None:
    """The data set in a cache that is whole (every member of the file has a checksum) and was made of the raw files.

    `there` are those that lie there now; a cache without any is used as it is.
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
    return DataSet(arrays, fingerprint) if stamps(there).items() <= source.items() else None


def _save(path: Path, found: DataSet, source: Mapping[str, list[int]]) -> None:
    about = {"source": np.array(json.dumps(source)), "fingerprint": np.array(found.fingerprint)}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **about, **found.arrays)
