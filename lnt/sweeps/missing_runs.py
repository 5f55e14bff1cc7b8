"""Find out from a sweep's directory which runs are done, which are missing, and which of them each job has to train.

DIR/sweep.yaml              the plan: composed configurations and axes; jobs read it, not conf/ as it is when they start
DIR/0/runs.parquet/*        results of job 0, in parts that appear whole or not at all
DIR/0/curves.parquet/*
DIR/0/status.json, provenance.json, train.log
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from lnt.errors import require
from lnt.files import read_parts

ERRORS = 5  # so many errors of runs are shown

if TYPE_CHECKING:  # python -m lnt.status counts runs, and imports no PyTorch for it
    from lnt.training.experiment import Experiment


def outcomes_so_far(path: Path, job: int | None = None) -> dict[str, str]:
    """run_id -> status of all runs, or a job's, that have a row; a run that failed once and completed later is completed."""
    directories = [config.parent for config in sorted(path.glob("*/config.yaml")) if job is None or _job_of(config) == job]
    failed: dict[str, str] = {}
    other: dict[str, str] = {}
    # Two dictionaries: files come in no order of time, and a later success must win over an earlier failure.
    for table in (directory / "runs.parquet" for directory in directories):
        for part in read_parts(table, ["run_id", "status"]) if table.exists() else []:
            rows = dict(zip(part["run_id"].to_pylist(), part["status"].to_pylist(), strict=True))
            other |= {run: status for run, status in rows.items() if status != "failed"}
            failed |= {run: status for run, status in rows.items() if status == "failed"}
    return failed | other


def errors(path: Path, outcomes: Mapping[str, str]) -> list[str]:
    """For each error of the runs that failed for good, a line: how often, what, and a directory that has such a run."""
    found: dict[str, dict[str, Path]] = {}
    for table in path.glob("*/runs.parquet") if "failed" in outcomes.values() else ():
        for part in read_parts(table, ["run_id", "status", "error"]):
            for run, status, error in zip(*(part[name].to_pylist() for name in ("run_id", "status", "error")), strict=True):
                if status == outcomes[run] == "failed":
                    found.setdefault(" ".join(str(error).split()), {})[run] = table.parent
    lines = []
    for error, runs in found.items():
        run, place = next(iter(runs.items()))
        lines.append(f"  {len(runs)} failed: {error} (run {run} in {place})")
    return [*lines[:ERRORS], f"  and {len(lines) - ERRORS} more errors"] if len(lines) > ERRORS else lines


def _job_of(config: Path) -> int:
    """The number of the job that a directory belongs to: a rerun gives a job a further directory."""
    return yaml.safe_load(config.read_text())["job"]


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


def planned_runs(plan: Mapping[str, Any]) -> int:
    """How many runs a plan as YAML holds."""
    return sum(math.prod(len(axis["points"]) for axis in group["axes"]) for group in plan["groups"])


def summary(path: Path, planned: int) -> tuple[bool, list[str]]:
    """Say whether nothing is left to do, and describe in lines how the runs of the sweep have ended."""
    outcomes = outcomes_so_far(path)
    counts = Counter(outcomes.values())
    missing = planned - counts.total()
    states = ", ".join(f"{counts[state]} {state}" for state in ("completed", "diverged", "failed"))
    lines = [f"{planned} runs: {states}, {missing} missing; results in {path}", *errors(path, outcomes)]
    return not missing and not counts["failed"], lines
