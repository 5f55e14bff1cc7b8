"""Find out from a sweep's directory which runs are done, which are missing, and which of them each job has to train.

DIR/sweep.yaml              the plan: composed configurations and axes; jobs read it, not conf/ as it is when they start
DIR/0/runs.parquet/*        results of job 0, in parts that appear whole or not at all
DIR/0/curves.parquet/*
DIR/0/status.json, provenance.json, train.log
"""

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lnt.errors import require
from lnt.files import DamagedFile, read_yaml
from lnt.table_files import read_parts

if TYPE_CHECKING:  # python -m lnt.status counts runs, and imports no PyTorch for it
    from lnt.training.experiment import Experiment

log = logging.getLogger(__name__)


def outcomes_so_far(path: Path, job: int | None = None) -> dict[str, str]:
    """run_id -> status of all runs, or a job's, that have a row; a run that failed once and completed later is completed.

    Files that cannot be read count as missing, with a warning.
    """
    failed: dict[str, str] = {}
    other: dict[str, str] = {}
    # Two dictionaries: files come in no order of time, and a later success must win over an earlier failure.
    for directory in job_directories(path, job):
        parts, damaged = read_parts(directory / "runs.parquet", ["run_id", "status"])
        for error in damaged:
            log.warning("%s %s: its runs count as missing", error.path, error.reason)
        for part in parts:
            rows = dict(zip(part["run_id"].to_pylist(), part["status"].to_pylist(), strict=True))
            other |= {run: status for run, status in rows.items() if status != "failed"}
            failed |= {run: status for run, status in rows.items() if status == "failed"}
    return failed | other


def job_directories(path: Path, job: int | None = None) -> list[Path]:
    """The directories of all jobs, or of one: a rerun gives a job a further directory. One that does not say whose it is may
    be any job's.
    """
    found = sorted(directory for directory in path.iterdir() if is_number(directory.name) and directory.is_dir())
    return found if job is None else [directory for directory in found if job_of(directory) in (job, None)]


def is_number(name: str) -> bool:
    """Whether a name is the number of a job."""
    return re.fullmatch(r"[0-9]{1,9}", name) is not None


def job_of(directory: Path) -> int | None:
    """The number of the job that a directory belongs to, None if it does not say."""
    try:
        number = read_yaml(directory / "config.yaml").get("job")
    except DamagedFile:
        return None
    return number if isinstance(number, int) else None


def missing_of_job(path: Path, batches: Sequence["Experiment"], runs_per_job: int, job: int) -> list["Experiment"]:
    """The runs of a job that have no row yet, or failed, batch by batch; other jobs' runs, maybe a million, are left alone."""
    # Cut by numbers alone, since run_ids need a hash for each run of the sweep.
    own, offset = [], 0
    for batch in batches:
        first, last = (np.clip(number * runs_per_job - offset, 0, batch.runs) for number in (job, job + 1))
        if first < last:
            own.append(batch if last - first == batch.runs else batch.take(np.arange(first, last)))
        offset += batch.runs
    # `own` counts as one job here: its runs are numbered anew, so that the size of jobs no longer matters.
    return [batch for _, batch in _missing(_done(path, own, job), own, sum(batch.runs for batch in own))]


def jobs_with_missing_runs(path: Path, batches: Sequence["Experiment"], runs_per_job: int) -> list[int]:
    """The numbers of the jobs that still have runs to train."""
    return sorted({job for job, _ in _missing(_done(path, batches), batches, runs_per_job)})


def _done(path: Path, batches: Sequence["Experiment"], job: int | None = None) -> set[str]:
    """The runs that need no further training. Raises ConfigError if there are rows of others than those of `batches`.

    Where this version draws other numbers than an earlier one, its runs have other run_ids: both in one sweep would be counted
    and averaged as if they were more seeds.
    """
    outcomes = outcomes_so_far(path, job)
    # Without a row no run_id need be computed.
    strange = set(outcomes).difference(*(batch.run_ids() for batch in batches)) if outcomes else set()
    allowed = f"holds {len(strange)} runs of a version that drew other labels or samples; choose another directory"
    require(not strange, "hydra.sweep.dir", path, allowed)
    return {run for run, status in outcomes.items() if status != "failed"}


def _missing(done: Collection[str], batches: Sequence["Experiment"], runs_per_job: int) -> Iterator[tuple[int, "Experiment"]]:
    """(job, its missing runs of one batch). Runs are numbered through all batches; a job is a range of numbers."""
    # Through all batches, done or not: a rerun then gives each run the same job, and the job finds its checkpoint.
    offset = 0
    for batch in batches:
        numbers = offset + np.arange(batch.runs)
        if done:  # else no run_id need be computed
            numbers = numbers[[run not in done for run in batch.run_ids()]]
        for job in np.unique(numbers // runs_per_job):
            own = numbers[numbers // runs_per_job == job] - offset
            yield int(job), batch if len(own) == batch.runs else batch.take(own)
        offset += batch.runs


def summary(path: Path, planned: int, command: str) -> tuple[bool, str]:
    """Say whether nothing is left to do, and describe in words how the sweep stands and which command finishes it."""
    counts = Counter(outcomes_so_far(path).values())
    missing = planned - counts.total()
    states = ", ".join(f"{counts[state]} {state}" for state in ("completed", "diverged", "failed"))
    line = f"{planned} runs: {states}, {missing} missing; results in {path}"
    finished = not missing and not counts["failed"]
    return finished, line if finished else f"{line}\nto finish the rest: {command}"
