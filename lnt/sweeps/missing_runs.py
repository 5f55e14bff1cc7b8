"""Find out from a sweep's directory which runs are done, which are missing, and which of them each job has to train.

DIR/sweep.yaml              the plan: composed configurations and axes; jobs read it, not conf/ as it is when they start
DIR/0/runs.parquet/*        results of job 0, in parts that appear whole or not at all
DIR/0/curves.parquet/*
DIR/0/status.json, provenance.json, train.log
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lnt.errors import require
from lnt.files import read_parts

ERRORS = 5  # so many errors of runs are shown

if TYPE_CHECKING:  # python -m lnt.status counts runs, and imports no PyTorch for it
    from lnt.sweeps.plan import Plan
    from lnt.training.experiment import Experiment


def outcomes_so_far(path: Path, directories: Iterable[Path] | None = None) -> dict[str, str]:
    """run_id -> status of the runs that have a row, in all directories or some; one that failed and completed is completed."""
    failed: dict[str, str] = {}
    other: dict[str, str] = {}
    # Two dictionaries: files come in no order of time, and a later success must win over an earlier failure.
    for directory in sorted(config.parent for config in path.glob("*/config.yaml")) if directories is None else directories:
        for run, status in _rows(directory):
            (failed if status == "failed" else other)[run] = status
    return failed | other


def _rows(directory: Path) -> Iterator[tuple[str, str]]:
    """(run_id, status) of each row of a job."""
    table = directory / "runs.parquet"
    for part in read_parts(table, ["run_id", "status"]) if table.exists() else ():
        yield from zip(part["run_id"].to_pylist(), part["status"].to_pylist(), strict=True)


def directories_of_jobs(path: Path) -> dict[int, list[Path]]:
    """The directories of each job that has begun: a rerun gives a job a further one."""
    found: dict[int, list[Path]] = {}
    for config in sorted(path.glob("*/config.yaml")):
        # Not as YAML, since each job looks at the directories of all others.
        job = re.search(r"^job: (\d+)$", config.read_text(), re.MULTILINE)
        if job:
            found.setdefault(int(job[1]), []).append(config.parent)
    return found


def tally(path: Path) -> tuple[Counter[str], list[str]]:
    """How many runs have ended in which status, and a line for each error of runs that failed for good."""
    counts: Counter[str] = Counter()
    errors: dict[str, dict[str, Path]] = {}
    # Job by job: what belongs together is small, and two jobs have no run in common.
    for directories in directories_of_jobs(path).values():
        own = _of_distinct_runs(directories)
        if own is None:
            outcomes = outcomes_so_far(path, directories)
            own = Counter(outcomes.values())
            for run, error, directory in _failures(directories):
                if outcomes[run] == "failed":
                    errors.setdefault(error, {})[run] = directory
        counts.update(own)
    lines = []
    for error, runs in errors.items():
        run, directory = next(iter(runs.items()))
        lines.append(f"  {len(runs)} failed: {error} (run {run} in {directory})")
    more = [f"  and {len(lines) - ERRORS} more errors"] if len(lines) > ERRORS else []
    return counts, lines[:ERRORS] + more


def _of_distinct_runs(directories: Iterable[Path]) -> Counter[str] | None:
    """The statuses of a job's rows, if each run has one row and none failed; 10^7 runs take seconds this way."""
    tables = [directory / "runs.parquet" for directory in directories]
    parts = [part for table in tables if table.exists() for part in read_parts(table, ["run_id", "status"])]
    runs, statuses = (
        pa.chunked_array([chunk for part in parts for chunk in part[name].cast(pa.string()).chunks], pa.string())
        for name in ("run_id", "status")
    )
    counts = Counter({str(pair["values"]): int(pair["counts"]) for pair in pc.value_counts(statuses).to_pylist()})
    return None if "failed" in counts or pc.count_distinct(runs).as_py() < len(runs) else counts


def _failures(directories: Iterable[Path]) -> Iterator[tuple[str, str, Path]]:
    """(run_id, error in one line, directory) of each row that failed."""
    columns = ["run_id", "status", "error"]
    for table in (directory / "runs.parquet" for directory in directories):
        for part in read_parts(table, columns) if table.exists() else ():
            for run, status, error in zip(*(part[name].to_pylist() for name in columns), strict=True):
                if status == "failed":
                    yield run, " ".join(str(error).split()), table.parent


def missing_of_job(path: Path, batches: Sequence["Experiment"], directories: Iterable[Path]) -> list["Experiment"]:
    """The runs of a job, `batches`, that have no row yet in its directories, or failed. Raises ConfigError for rows of others.

    Where this version draws other numbers than an earlier one, its runs have other run_ids: both in one sweep would be counted
    and averaged as if they were more seeds.
    """
    outcomes = outcomes_so_far(path, directories)
    if not outcomes:  # then no run_id need be computed
        return list(batches)
    strange = set(outcomes).difference(*(batch.run_ids() for batch in batches))
    allowed = f"holds {len(strange)} runs of a version that drew other labels or samples; choose another directory"
    require(not strange, "hydra.sweep.dir", path, allowed)
    found = []
    for batch in batches:
        numbers = [number for number, run in enumerate(batch.run_ids()) if outcomes.get(run, "failed") == "failed"]
        if numbers:
            found.append(batch if len(numbers) == batch.runs else batch.take(np.array(numbers)))
    return found


def jobs_with_missing_runs(path: Path, plan: "Plan") -> list[int]:
    """The numbers of the jobs that still have runs to train."""
    begun = directories_of_jobs(path)
    return [job for job in plan.jobs() if job not in begun or missing_of_job(path, plan.of_job(job), begun[job])]


def planned_runs(plan: Mapping[str, Any]) -> int:
    """How many runs a plan as YAML holds."""
    return sum(math.prod(len(axis["points"]) for axis in group["axes"]) for group in plan["groups"])


def summary(path: Path, planned: int) -> tuple[bool, list[str]]:
    """Say whether nothing is left to do, and describe in lines how the runs of the sweep have ended."""
    counts, errors = tally(path)
    missing = planned - counts.total()
    states = ", ".join(f"{counts[state]} {state}" for state in ("completed", "diverged", "failed"))
    lines = [f"{planned} runs: {states}, {missing} missing; results in {path}", *errors]
    return not missing and not counts["failed"], lines
