"""Who trains here: one process at a time, by a file that it creates, keeps fresh while it lives, and removes at its end.

This holds on one machine and on file systems that several machines share, where locks of the kernel often do not.
"""

import json
import os
import platform
import secrets
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from lnt.errors import ConfigError
from lnt.files import clock_of

BEAT_SECONDS = 15.0
SILENT_SECONDS = 4 * BEAT_SECONDS  # an owner that has not touched its file for so long has died
SECONDS_BETWEEN_TRIES = 0.5


class Lost(ConfigError):
    """Another process has taken over what this one owned, since it seemed dead: nothing more may be written."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            "output directory", folder, "is another process's now: this one seemed dead; its last results are not saved"
        )


class Owner:
    """The claim of this process on what a file stands for; also a context manager that claims, and releases at its end."""

    def __init__(self, file: Path, patience: float = 0.0, status: Path | None = None) -> None:
        self.file, self.patience = file, patience
        self.status = status  # touched as well: lnt.status looks there for signs of life
        self._me = {**process(), "token": secrets.token_hex(8)}
        self._ended = threading.Event()

    def claim(self) -> None:
        """Own the file, and touch it every BEAT_SECONDS. Raises ConfigError if another process still has it after `patience`
        seconds; one that is gone is replaced.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + self.patience
        while not self._create():
            try:
                place, other = self.file.stat().st_ino, _read(self.file)
                gone = is_gone(self.file, other)
            except FileNotFoundError:
                continue  # its owner has released it
            except OSError as error:  # a file system that is away for a moment
                place, other, gone = 0, {"host": "another", "pid": f"process ({error.strerror})"}, False
            if gone:
                self._replace(place)
            elif time.monotonic() >= until:
                who = f"{other.get('host', 'another')}:{other.get('pid', 'process')}"
                raise ConfigError("output directory", self.file.parent, f"is in use: {who} trains there")
            else:
                time.sleep(SECONDS_BETWEEN_TRIES)
        # A thread, since a block of steps may take longer than a beat; daemon, so that it cannot keep a failing process alive.
        threading.Thread(target=self._beat, daemon=True).start()

    def check(self) -> None:
        """Raise Lost unless the file is still this process's; OSError if it cannot be read."""
        if not self._is_mine():
            raise Lost(self.file.parent)

    def release(self) -> None:
        """Let others claim it."""
        self._ended.set()
        with suppress(OSError):
            if self._is_mine():
                self.file.unlink()

    def _is_mine(self) -> bool:
        try:
            return _read(self.file).get("token") == self._me["token"]
        except FileNotFoundError:
            return False

    def __enter__(self) -> "Owner":
        self.claim()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _create(self) -> bool:
        """Create the file; whether it was not there."""
        whole = self.file.with_name(f".{self.file.name}.{self._me['token']}")
        whole.write_text(json.dumps(self._me))
        try:
            # A link appears whole; of several processes one succeeds, on NFS too.
            os.link(whole, self.file)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            try:
                with self.file.open("x") as file:
                    json.dump(self._me, file)
            except FileExistsError:
                return False
        finally:
            whole.unlink()
        return True

    def _replace(self, place: int) -> None:
        """Remove the file of an owner that is gone, known by its inode, but not one that yet another process has made."""
        aside = self.file.with_name(f".{self.file.name}.{self._me['token']}.gone")
        with suppress(FileNotFoundError):
            # A rename succeeds for one process only; what it has moved can be looked at in peace.
            self.file.rename(aside)
            if aside.stat().st_ino != place and not self.file.exists():
                aside.rename(self.file)
            else:
                aside.unlink()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(OSError):  # a file system that is away for a moment
                if not self._is_mine():  # it seemed dead, and must not keep its successor's claim fresh
                    return
                for file in filter(None, (self.file, self.status)):
                    os.utime(file)  # not touch, which would make a file that another process has removed


def process() -> dict[str, Any]:
    """Tells this process from all others: its machine, its number there, and when it started."""
    return {"host": platform.node(), "machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str:
    """When a process started: on Linux in ticks since the start of the machine, which no change of the clock moves."""
    facts = Path(f"/proc/{pid}/stat")
    if facts.exists():
        # The name of the program, in brackets, may hold spaces; the time of the start is the twentieth field after it.
        return facts.read_text().rpartition(")")[2].split()[19]
    return f"{psutil.Process(pid).create_time():.0f}"


def _machine() -> str:
    """Identifies this boot of this machine, and the container in it: within these, process numbers are unique."""
    # Machines may share a host name, as containers do.
    boot = Path("/proc/sys/kernel/random/boot_id")
    numbers = Path("/proc/self/ns/pid")
    found = boot.read_text().strip() if boot.exists() else str(psutil.boot_time())
    return f"{platform.node()} {found} {os.readlink(numbers) if numbers.is_symlink() else ''}".strip()


def is_gone(file: Path, owner: dict[str, Any]) -> bool:
    """Whether the process that the file names has ended; of one elsewhere, whether it has been silent for SILENT_SECONDS."""
    if owner.get("machine") != _machine():
        return silent_seconds(file) > SILENT_SECONDS
    try:
        # Numbers are given again: the time of its start tells a process from a later one.
        return not psutil.pid_exists(int(owner["pid"])) or _started(int(owner["pid"])) != owner["started"]
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError, KeyError, TypeError, ValueError, OverflowError):
        return True


def is_owned(file: Path) -> bool:
    """Whether a process that lives owns the file; only looks."""
    try:
        return not is_gone(file, _read(file))
    except OSError:
        return False


def silent_seconds(file: Path) -> float:
    """How long a file has not been touched; by the clock of its file system, as those of machines differ."""
    try:
        return clock_of(file.parent) - file.stat().st_mtime
    except OSError:
        return 0.0  # it was removed meanwhile, or cannot be looked at


def _read(file: Path) -> dict[str, Any]:
    """What an owner's file says; nothing if it is damaged. Raises OSError."""
    if not stat.S_ISREG(file.stat().st_mode):  # reading a pipe would wait for ever
        return {}
    try:
        found = json.loads(file.read_text())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
