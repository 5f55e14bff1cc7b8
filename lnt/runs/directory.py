"""The directory of a run or of a sweep's job: who owns it, which files it has, and how they are written (whole, or not)."""

import logging
import os
import platform
import secrets
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lnt.column_names import ADDED_LATER, ADDED_TO_OPTIONS, EXECUTION_SETTINGS, NOT_IN_RUN_ID
from lnt.errors import one_line, require
from lnt.files import DamagedFile, UnreadableNow, put_aside, read_json, read_yaml, write_json, write_yaml
from lnt.runs.owner import SILENT_SECONDS, Owner
from lnt.settings import flatten
from lnt.table_files import JOINED, join_parts, mend, parts_of, read_parts, write_table

if TYPE_CHECKING:  # tables.py imports PyTorch, which code that only looks at a directory does not need
    from lnt.runs.tables import Tables

PACKAGES = ("lnt", "torch", "numpy", "pandas", "pyarrow", "hydra-core")
# Another value of these does not keep a run from going on; the seed does, though seeds.* say what it stands for.
FREE_TO_CHANGE = {*EXECUTION_SETTINGS, *NOT_IN_RUN_ID} - {"seed"}
# A job that is requeued waits so long for the one before: it may be ending still, or on a node that was lost.
PATIENCE = SILENT_SECONDS + 15.0
log = logging.getLogger(__name__)


class RunDirectory:
    """Owns every path of a directory. A job's tables are folders of parts, a single run's are files; pandas reads both."""

    def __init__(self, path: Path, sweep: Path | None = None, job: int | None = None) -> None:
        self.path, self.in_parts = path, job is not None
        self.runs = path / "runs.parquet"
        self.curves = path / "curves.parquet"
        self.samples = path / "samples.parquet"
        self.networks = path / "networks"
        self.config = path / "config.yaml"
        self.provenance = path / "provenance.json"
        self.status = path / "status.json"
        # By the number of the job: a rerun gives it a further directory, and must not train beside the job of the first start.
        owner = path / ".owner" if sweep is None else sweep / ".owners" / str(job)
        self.owner = Owner(owner, status=self.status)

    @classmethod
    def claim(cls, path: Path, config: Mapping[str, Any]) -> "RunDirectory":
        """Take `path` for a run, new or broken off, until this process ends or releases it.

        Raises ConfigError if another process trains there, a run is complete there, or one of another configuration.
        """
        directory = cls(path)
        directory.owner.claim()
        # Only the owner may look: no other process can complete or begin a run between the check and the start.
        try:
            directory.check_free(config)
            with suppress(DamagedFile):  # there is none in a new directory
                before, now = map(version_of, (read_json(directory.provenance), provenance()))
                if before != now:
                    log.warning("%s was begun by %s, and goes on with %s", path, before, now)
        except BaseException:
            directory.release()
            raise
        return directory

    @classmethod
    def claim_for_job(cls, path: Path, sweep: Path, job: int, patience: float = PATIENCE) -> "RunDirectory":
        """Take `path` for a job of a sweep, new or requeued. Raises ConfigError if another process trains that job."""
        directory = cls(path, sweep, job)
        directory.owner.patience = patience
        directory.owner.claim()
        try:
            path.mkdir(parents=True, exist_ok=True)
            directory.mend()
        except BaseException:
            directory.release()
            raise
        return directory

    def release(self) -> None:
        """Release the directory: another process may go on here."""
        self.owner.release()

    def mend(self) -> None:
        """Put the tables of a job in order after a kill or a fault of the disk.

        Parts that cannot be read are put aside, with a warning, and so is what belongs to them in the other tables: without a
        row their runs are trained again, and then have one curve.
        """
        tables = (self.runs, self.curves, self.samples)
        found = [error for table in tables for error in mend(table)]
        for error in found:
            if isinstance(error, UnreadableNow):  # it may be in order
                raise error
            log.warning("%s %s", error.path, error.reason)
        damaged = {_group(error.path) for error in found}
        # Runs are written last: a part that has none there was cut off.
        whole = {_group(part) for part in parts_of(self.runs)} | {JOINED}
        for part in (part for table in tables for part in parts_of(table)) if self.in_parts else ():
            if _group(part) in damaged or _group(part) not in whole:
                log.warning("%s was put aside; its runs are trained again", put_aside(part))

    def check_free(self, config: Mapping[str, Any]) -> None:
        """Raise ConfigError unless a run with this configuration may start here, or go on, or try again after it failed."""
        for table in (self.runs, self.curves) if not self.runs.is_dir() else ():
            for error in read_parts(table)[1]:
                again = "remove it and runs.parquet, and the same command trains the run again"
                raise DamagedFile(error.path, f"{error.reason}; {again}")
        # sweep.yaml: the directory of a sweep has no runs.parquet of its own, and a single run must not go there.
        complete = (self.runs.exists() and not self._failed()) or (self.path / "sweep.yaml").exists()
        require(not complete, "output directory", self.path, "holds results already; choose another or leave it out")
        # A run that was killed before it described itself may be of any configuration.
        if not self.config.exists():
            return
        before, now = (_comparable(values) for values in (read_yaml(self.config), config))
        differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        shown = "; ".join(f"{key}: {before.get(key)} there, {now.get(key)} now" for key in differing[:3])
        require(not differing, "output directory", self.path, f"holds a run of another configuration ({shown}); choose another")

    def _failed(self) -> bool:
        """Whether the single run here has raised; such a row may be replaced."""
        return [row["status"] for row in self.rows()] == ["failed"]

    def rows(self) -> list[dict[str, Any]]:
        """The rows of runs.parquet. Raises DamagedFile."""
        parts, damaged = read_parts(self.runs)
        if damaged:
            raise damaged[0]
        return [row for part in parts for row in part.to_pylist()]

    def say(self, state: str, **more: object) -> None:
        """Replace status.json: running, completed, preempted, interrupted or failed, since when, and who said so."""
        who = {"host": platform.node(), "pid": os.getpid(), "slurm": slurm_job()}
        write_json(self.status, {"state": state, "time": _now(), **who, **more})

    def describe(self, config: Mapping[str, Any], device: str, threads: int) -> None:
        """Write the configuration, and where results come from: versions, code, device and command of this process."""
        write_yaml(self.config, config)
        write_json(self.provenance, {**provenance(), "device": device, "threads": threads})

    def save(self, tables: "Tables") -> None:
        """Write tables, or add a part to each of them; runs last, so that a row always has its curve."""
        self.owner.check()
        # A random name: a requeued job writes to the same folder again and must not replace its earlier parts.
        name = f"{secrets.token_hex(8)}.parquet"
        written = []
        try:
            for target, table in self._targets(tables):
                if self.in_parts:
                    target.mkdir(parents=True, exist_ok=True)
                file = target / name if self.in_parts else target
                written.append(file)
                write_table(file, table)
        except BaseException:
            # A later try writes all of it again, and no run may have two curves; a single run's files are written over.
            for file in written if self.in_parts else ():
                file.unlink(missing_ok=True)
            raise

    def join_parts(self) -> None:
        """Join the parts of each table into one file, so that the number of files grows with jobs and not with their time."""
        self.owner.check()
        # Runs last: a part of another table that has no part of the same name in runs is one whose runs have no row.
        for table in (self.samples, self.curves, self.runs):
            try:
                join_parts(table)
            except (ValueError, OSError) as error:
                # Parts are as good as a whole: a job that has saved all its runs has not failed.
                log.warning("the parts of %s stay parts: %s", table, one_line(error))
                return

    def _targets(self, tables: "Tables") -> list[tuple[Path, pa.Table]]:
        samples = [(self.samples, tables.samples)] if len(tables.samples) else []
        return [*samples, (self.curves, tables.curves), (self.runs, tables.runs)]


def _group(part: Path) -> str:
    """What parts of several tables share that hold the same runs."""
    return JOINED if part.name.startswith(JOINED) else part.name


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


def version_of(origin: Mapping[str, Any]) -> str:
    """The commit and the version of PyTorch in a provenance, in words."""
    versions = origin.get("versions")
    torch = versions.get("torch") if isinstance(versions, dict) else None
    return f"commit {str(origin.get('git'))[:10]}, torch {torch}"


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
