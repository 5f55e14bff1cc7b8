"""A run's directory, or that of a sweep's job: whose it is, what lies in it, and how files appear there (whole, or not)."""

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

from lnt.column_names import ADDED_LATER, EXECUTION_SETTINGS, NOT_IN_RUN_ID
from lnt.errors import ConfigError, require
from lnt.files import join_parts, read_parts, write_atomically
from lnt.settings import flatten

if TYPE_CHECKING:  # whoever only looks at a directory needs no PyTorch
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
        self.lock = FileLock(path / ".lock")

    @classmethod
    def claim(cls, path: Path, config: Mapping[str, Any]) -> "RunDirectory":
        """Take `path` for a run, new or broken off, until this process ends or releases it.

        Raises ConfigError if another process trains there, a run is complete there, or one of another configuration.
        """
        directory = cls(path)
        directory._acquire(0)
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
        """Let go of the directory: another process may go on here, unless the run is complete."""
        self.lock.release()
        if self.runs.exists():
            Path(self.lock.lock_file).unlink(missing_ok=True)

    def check_free(self, config: Mapping[str, Any]) -> None:
        """Raise ConfigError unless a run with this configuration may start here, or go on, or try again after it failed."""
        complete = (self.runs.exists() and not self._failed()) or (self.path / "sweep.yaml").exists()
        require(not complete, "output directory", self.path, "holds results already; choose another or leave it out")
        if not self.config.exists():
            return
        before, now = (_comparable(values) for values in (yaml.safe_load(self.config.read_text()) or {}, config))
        differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        shown = "; ".join(f"{key}: {before.get(key)} there, {now.get(key)} now" for key in differing[:3])
        require(not differing, "output directory", self.path, f"holds a run of another configuration ({shown}); choose another")

    def _failed(self) -> bool:
        """Whether the single run here has raised: then its row is nothing to keep."""
        return [row["status"] for row in self.rows()] == ["failed"]

    def rows(self) -> list[dict[str, Any]]:
        """The rows of runs.parquet."""
        return [row for part in read_parts(self.runs) for row in part.to_pylist()]

    def say(self, state: str, **more: object) -> None:
        """Replace status.json: running, completed, preempted, interrupted or failed, since when, and who said so."""
        who = {"host": platform.node(), "pid": os.getpid(), "slurm": slurm_job()}
        write_atomically(self.status, lambda file: file.write_text(_json({"state": state, "time": _now(), **who, **more})))

    def describe(self, config: Mapping[str, Any], device: str, threads: int) -> None:
        """Write what is trained here, and what results come from: versions, code, device and command of this process."""
        write_atomically(self.config, lambda file: file.write_text(yaml.safe_dump(dict(config), sort_keys=False)))
        origin = {**provenance(), "device": device, "threads": threads}
        write_atomically(self.provenance, lambda file: file.write_text(_json(origin)))

    def save(self, tables: "Tables") -> None:
        """Write tables, or add a part to each of them; runs last, so that a row always has its curve."""
        name = f"{secrets.token_hex(8)}.parquet"
        for target, table in self._targets(tables):
            if self.in_parts:
                target.mkdir(parents=True, exist_ok=True)
            write_atomically(target / name if self.in_parts else target, partial(pq.write_table, table))

    def join_parts(self) -> None:
        """One file in the place of the parts of each table: the number of files grows with jobs, not with their time."""
        for table in (self.samples, self.curves, self.runs):
            join_parts(table)

    def _targets(self, tables: "Tables") -> list[tuple[Path, pa.Table]]:
        samples = [(self.samples, tables.samples)] if len(tables.samples) else []
        return [*samples, (self.curves, tables.curves), (self.runs, tables.runs)]


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a configuration that make it the same run: where a class lies today is none of them."""
    added_later = {f"choices.{group}": option for group, option in ADDED_LATER.items()}
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
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return None
    array, task, alone = (os.environ.get(f"SLURM_{name}_ID") for name in ("ARRAY_JOB", "ARRAY_TASK", "JOB"))
    return f"{array}_{task}" if array else alone


def _git(*arguments: str) -> str | None:
    """What git says about the checkout that this package runs from, None without one."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
