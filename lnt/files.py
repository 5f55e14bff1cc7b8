"""Write files so that they appear whole or not at all, and read them back only if they are what was written.

Nothing found on a disk is trusted: what is no regular file, is too large, was cut, or has one bit changed raises DamagedFile.
"""

import json
import os
import re
import secrets
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lnt.errors import ConfigError, printable

MAX_TEXT = 2**28  # bytes; the plan of ten million runs needs a hundredth of it
MAX_VALUES = 10**6  # in a YAML file: a few lines of aliases can stand for more than any memory holds
FIRST_LINE = "# what follows has the CRC-32 "
PLAIN, LONGEST = r"\w+([.-]\w+)*", 150  # a name of ASCII letters and digits, and how long it may be
TAIL_BYTES = 4096  # of a log, which may be large
# Written in C where libyaml is there, ten times as fast. Safe: plain values are all that they make.
LOADER, DUMPER = getattr(yaml, "CSafeLoader", yaml.SafeLoader), getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class DamagedFile(ConfigError):
    """A file that cannot be used: which one, and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__("file", path, reason)
        self.path, self.reason = path, reason


class UnreadableNow(DamagedFile):
    """A file that may be in order: the disk, a permission or the memory keeps it from being read."""


def write_atomically(target: Path, write: Callable[[Path], object]) -> None:
    """Write beside the target, flush to the disk, then rename over it."""
    # Beside the target: a rename is atomic only within one file system. ".tmp" last: no reader's *.parquet or *.pt matches it.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        write(temporary)
        # Without fsync a machine that crashes after the rename could leave an empty file under the final name.
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        # After the rename there is nothing to remove; after an error the incomplete file goes.
        temporary.unlink(missing_ok=True)


def write_new(target: Path, write: Callable[[Path], object]) -> None:
    """The same for a file that must not be there yet. Raises FileExistsError."""
    # Taken first: of two processes that write under one name the second one fails here.
    target.open("xb").close()
    try:
        write_atomically(target, write)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def check_regular(path: Path) -> int:
    """The size of a regular file. Raises DamagedFile if `path` is anything else: reading a pipe would wait for ever."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise DamagedFile(path, "is not there") from error
    except OSError as error:
        raise UnreadableNow(path, f"cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise DamagedFile(path, "is no regular file")
    return found.st_size


def stamp(path: Path) -> tuple[int, ...]:
    """What tells a file from others, and from itself with another content; empty if it is not there.

    The time of its last change of any kind cannot be set, so other files have other stamps.
    """
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def read_text(path: Path) -> str:
    """The text of a file. Raises DamagedFile."""
    if (size := check_regular(path)) > MAX_TEXT:
        raise DamagedFile(path, f"has {size >> 20} MiB; it should be a short text")
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UnreadableNow(path, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise DamagedFile(path, "is damaged: it holds bytes that are no text") from None


def write_json(target: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping with its checksum, under the key `checksum`."""
    text = json.dumps({**content, "checksum": _crc(_canonical(content))}, indent=2)
    write_atomically(target, lambda file: file.write_text(text + "\n", encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json`, or an earlier version without a checksum, has written. Raises DamagedFile."""
    text = read_text(path)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(path, f"is damaged: {_short(error)}") from None
    if not isinstance(found, dict):
        raise DamagedFile(path, "is damaged: it should hold keys and values")
    checksum = found.pop("checksum", None)
    if checksum is not None and checksum != _crc(_canonical(found)):
        raise DamagedFile(path, "is damaged: its checksum does not fit")
    return found


def write_yaml(target: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping, below a comment with its checksum."""
    text = yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False)
    write_atomically(target, lambda file: file.write_text(f"{FIRST_LINE}{_crc(text)}\n{text}", encoding="utf-8"))


def checked_text(path: Path) -> str:
    """The text that `write_yaml` has written below the checksum; without one, as in earlier versions, all of it."""
    text = read_text(path)
    if not text.startswith(FIRST_LINE):
        return text
    checksum, _, text = text.removeprefix(FIRST_LINE).partition("\n")
    if checksum != _crc(text):
        raise DamagedFile(path, "is damaged, or was changed by hand: its checksum does not fit")
    return text


def read_yaml(path: Path) -> dict[str, Any]:
    """What `write_yaml`, or an earlier version without a checksum, has written. Raises DamagedFile."""
    text = checked_text(path)
    try:
        found = yaml.load(text, LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DamagedFile(path, f"is damaged: {_short(error)}") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise DamagedFile(path, "is damaged: it should hold keys and values")
    if not _within(found, [MAX_VALUES], 100):
        raise DamagedFile(path, "is damaged: it holds more values, or deeper ones, than any file of this kind")
    return found


def check_zip(path: Path) -> None:
    """Raise DamagedFile unless every member of a zip file, such as PyTorch and NumPy write, has its checksum."""
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as file:
            wrong = file.testzip()
    # The module raises errors of many kinds for bytes that are no zip file.
    except Exception as error:
        raise DamagedFile(path, f"is damaged: {_short(error)}") from None
    if wrong is not None:
        raise DamagedFile(path, f"is damaged: the checksum of {wrong} does not fit")


def put_aside(path: Path) -> Path:
    """Rename a damaged file or folder, so that nothing reads it and nothing is lost; its new name."""
    # A dot first: pandas reads every file of a folder whose name has none.
    return path.rename(path.with_name(f".{path.name}.damaged-{secrets.token_hex(4)}"))


def is_plain(name: object) -> bool:
    """Whether a name from a file may become part of a file name: letters, digits, underscores, inner dots and hyphens."""
    return isinstance(name, str) and len(name) <= LONGEST and re.fullmatch(PLAIN, name, re.ASCII) is not None


def clock_of(folder: Path) -> float:
    """The time now by the clock that dates the files of `folder`; that of this machine, or of another node, may differ."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock.", suffix=".tmp") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # a folder that may be read only
        return time.time()


def last_line(file: Path) -> str:
    """The last line of a text that is not empty; none of a file that is not there."""
    try:
        check_regular(file)
        with file.open("rb") as text:
            text.seek(max(0, file.stat().st_size - TAIL_BYTES))
            lines = text.read().decode(errors="replace").splitlines()
    except (OSError, DamagedFile):
        return ""
    return printable(next((line.strip() for line in reversed(lines) if line.strip()), ""))


class _Dumper(DUMPER):  # type: ignore[misc, valid-type]
    """Writes out what an alias would stand for: readers need no aliases then."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _within(value: object, budget: list[int], depth: int) -> bool:
    """Whether a nested value has no more parts than the budget, which each of them lowers, and is no deeper than `depth`."""
    budget[0] -= 1
    if budget[0] < 0 or depth < 0:
        return False
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(_within(part, budget, depth - 1) for part in parts)


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True)


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _short(error: BaseException) -> str:
    """The first line of an error, or its kind: some have no text."""
    return printable(str(error).strip().partition("\n")[0]) or type(error).__name__
