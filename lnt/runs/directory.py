"""The directory of a run or of a sweep's job: who owns it, which files it has, and how they are written (whole, or not)."""

import json
import os
import platform
import secrets
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml
from filelock import FileLock, Timeout
from pyarrow import parquet as pq

from lnt.column_names import ADDED_LATER, ADDED_TO_OPTIONS, EXECUTION_SETTINGS, NOT_IN_RUN_ID
from lnt.errors import ConfigError, require
from lnt.files import join_parts, read_parts, write_atomically
from lnt.settings import flatten

if TYPE_CHECKING:  # tables.py imports PyTorch, which code that only looks at a directory does not need
    from lnt.runs.tables import Tables

PACKAGES = ("lnt", "torch", "numpy", "pandas", "pyarrow", "hydra-core")
# Another value of these does not keep a run from going on; the seed does, though seeds.* say what it stands for.
FREE_TO_CHANGE = {*EXECUTION_SETTINGS, *NOT_IN_RUN_ID} - {"seed"}
SECONDS_FOR_A_DEAD_OWNER = 10.0  # a job that is requeued may begin before the last process of the one before has ended


class RunDirectory:
    """Owns every path of a directory. A job's tables are folders of parts, a single run's are files; pandas reads both."""

    def __init__(self, path: Path, in_parts: bool = False) -> None:
        self.path, self.in_parts = path, in_parts
        self.runs = path / "runs.parquet"
        self.curves = path / "curves.parquet"
        self.samples = path / "samples.parquet"
        self.networks = path / "networks"
        self.config = path / "config.yaml"
        self.provenance = path / "provenance.json"
        self.status = path / "status.json"
        # The kernel frees it when its process ends, so a killed run leaves no lock behind.
        self.lock = FileLock(path / ".lock")

    @classmethod
    def claim(cls, path: Path, config: Mapping[str, Any]) -> "RunDirectory":
        """Take `path` for a run, new or broken off, until this process ends or releases it.

        Raises ConfigError if another process trains there, a run is complete there, or one of another configuration.
        """
        directory = cls(path)
        # No waiting: a user who starts the same run twice is told at once.
        directory._acquire(0)
        # After the lock is taken, so that no other process can complete or begin a run between the check and the start.
        directory.check_free(config)
        return directory

    @classmethod
    def claim_for_job(cls, path: Path) -> "RunDirectory":
        """Take `path` for a job of a sweep, new or requeued. Raises ConfigError if another process trains there."""
        directory = cls(path, in_parts=True)
        directory._acquire(SECONDS_FOR_A_DEAD_OWNER)
        return directory

    def _acquire(self, seconds: float) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire(timeout=seconds)
        except Timeout:
            raise ConfigError("output directory", self.path, "holds a run that is in training") from None

    def release(self) -> None:
        """Release the directory: another process may go on here, unless the run is complete."""
        self.lock.release()
        if self.runs.exists():
            Path(self.lock.lock_file).unlink(missing_ok=True)

    def check_free(self, config: Mapping[str, Any]) -> None:
        """Raise ConfigError unless a run with this configuration may start here, or go on, or try again after it failed."""
        # sweep.yaml: the directory of a sweep has no runs.parquet of its own, and a single run must not go there.
        complete = (self.runs.exists() and not self._failed()) or (self.path / "sweep.yaml").exists()
        require(not complete, "output directory", self.path, "holds results already; choose another or leave it out")
        # A run that was killed before it described itself may be of any configuration.
        if not self.config.exists():
            return
        before, now = (_comparable(values) for values in (yaml.safe_load(self.config.read_text()) or {}, config))
        differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        shown = "; ".join(f"{key}: {before.get(key)} there, {now.get(key)} now" for key in differing[:3])
        require(not differing, "output directory", self.path, f"holds a run of another configuration ({shown}); choose another")

    def _failed(self) -> bool:
        """Whether the single run here has raised; such a row may be replaced."""
        return [row["status"] for row in self.rows()] == ["failed"]

    def rows(self) -> list[dict[str, Any]]:
        """The rows of runs.parquet."""
        return [row for part in read_parts(self.runs) for row in part.to_pylist()]

    def say(self, state: str, **more: object) -> None:
        """Replace status.json: running, completed, preempted, interrupted or failed, since when, and who said so."""
        who = {"host": platform.node(), "pid": os.getpid(), "slurm": slurm_job()}
        write_atomically(self.status, lambda file: file.write_text(_json({"state": state, "time": _now(), **who, **more})))

    def describe(self, config: Mapping[str, Any], device: str, threads: int) -> None:
        """Write the configuration, and where results come from: versions, code, device and command of this process."""
        write_atomically(self.config, lambda file: file.write_text(yaml.safe_dump(dict(config), sort_keys=False)))
        origin = {**provenance(), "device": device, "threads": threads}
        write_atomically(self.provenance, lambda file: file.write_text(_json(origin)))

    def save(self, tables: "Tables") -> None:
        """Write tables, or add a part to each of them; runs last, so that a row always has its curve."""
        # A random name: a requeued job writes to the same folder again and must not replace its earlier parts.
        name = f"{secrets.token_hex(8)}.parquet"
        for target, table in self._targets(tables):
            if self.in_parts:
                target.mkdir(parents=True, exist_ok=True)
            write_atomically(target / name if self.in_parts else target, partial(pq.write_table, table))

    def join_parts(self) -> None:
        """Join the parts of each table into one file, so that the number of files grows with jobs and not with their time."""
        for table in (self.samples, self.curves, self.runs):
            join_parts(table)

    def _targets(self, tables: "Tables") -> list[tuple[Path, pa.Table]]:
        samples = [(self.samples, tables.samples)] if len(tables.samples) else []
        return [*samples, (self.curves, tables.curves), (self.runs, tables.runs)]


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values that make a configuration the same run. The place of a class is left out, since classes move."""
    added_later = {f"choices.{group}": option for group, option in ADDED_LATER.items()}
    # Of all options: which one was chosen is compared too.
    added_later |= {f"{group}.{key}": value for (group, _), later in ADDED_TO_OPTIONS.items() for key, value in later.items()}
    return {
        key: value
        for key, value in flatten(config)
        if key not in FREE_TO_CHANGE and not key.endswith("._target_") and (key not in added_later or added_later[key] != value)
    }


def provenance() -> dict[str, Any]:
    """Versions, code and command of this process."""
    return {
        "command": sys.argv,
        "time": _now(),
        "git": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
    }


def slurm_job() -> str | None:
    """SLURM's name of the job that this process is, if submitit has started it: 17_0 in an array, else 18."""
    # SLURM_JOB_ID is set in a shell of salloc too, and that is no job of the sweep.
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return None
    array, task, alone = (os.environ.get(f"SLURM_{name}_ID") for name in ("ARRAY_JOB", "ARRAY_TASK", "JOB"))
    return f"{array}_{task}" if array else alone


def _git(*arguments: str) -> str | None:
    """Ask git about the checkout that this package runs from; None without one."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
