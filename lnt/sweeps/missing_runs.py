"""Find out from a sweep's directory which runs are done, which are missing, and which of them each job has to train.

DIR/sweep.yaml              the plan: composed configurations and axes; jobs read it, not conf/ as it is when they start
DIR/0/runs.parquet/*        results of job 0, in parts that appear whole or not at all
DIR/0/curves.parquet/*
DIR/0/status.json, provenance.json, train.log
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lnt.errors import require
from lnt.files import DamagedFile, UnreadableNow, checked_text, stamp
from lnt.table_files import parts_of, read_parts

log = logging.getLogger(__name__)
ERRORS = 5  # so many errors of runs are shown
# For the directories of a job: stamps of its tables, how many runs ended how, and (run_id, error, directory) of failures.
Tallies = dict[tuple[Path, ...], tuple[list[tuple[int, ...]], Counter[str], list[tuple[str, str, Path]]]]

if TYPE_CHECKING:  # python -m lnt.status counts runs, and imports no PyTorch for it
    from lnt.sweeps.plan import Plan
    from lnt.training.experiment import Experiment


def outcomes_so_far(path: Path, directories: Iterable[Path] | None = None) -> dict[str, str]:
    """run_id -> status of the runs that have a row, in all directories or some; one that failed and completed is completed."""
    failed: dict[str, str] = {}
    other: dict[str, str] = {}
    # Two dictionaries: files come in no order of time, and a later success must win over an earlier failure.
    for directory in job_directories(path) if directories is None else directories:
        for part in rows(directory):
            for run, status in zip(part["run_id"].to_pylist(), part["status"].to_pylist(), strict=True):
                (failed if status == "failed" else other)[run] = status
    return failed | other


def rows(directory: Path, columns: Sequence[str] = ("run_id", "status")) -> list[pa.Table]:
    """Columns of the rows of a job. Files that cannot be read are warned of, and their runs count as missing."""
    parts, damaged = read_parts(directory / "runs.parquet", columns)
    for error in damaged:
        if isinstance(error, UnreadableNow):  # its runs may be done
            raise error
        log.warning("%s %s: its runs count as missing", error.path, error.reason)
    return parts


def job_directories(path: Path) -> list[Path]:
    """The directories of all jobs."""
    return sorted(directory for directory in path.iterdir() if is_number(directory.name) and directory.is_dir())


def is_number(name: str) -> bool:
    """Whether a name is the number of a job, or of its directory."""
    return re.fullmatch(r"[0-9]{1,9}", name) is not None


def directories_of_jobs(path: Path) -> dict[int | None, list[Path]]:
    """The directories of each job that has begun: a rerun gives a job a further one. None: of those that do not say whose."""
    found: dict[int | None, list[Path]] = {}
    for directory in job_directories(path):
        found.setdefault(job_of(directory), []).append(directory)
    return found


def job_of(directory: Path) -> int | None:
    """The number of the job that a directory belongs to, None if it does not say."""
    try:
        # Not as YAML, since each job looks at the directories of all others.
        job = re.search(r"^job: (\d{1,9})$", checked_text(directory / "config.yaml"), re.MULTILINE)
    except DamagedFile:
        return None
    return int(job[1]) if job else None


def tally(path: Path, known: Tallies | None = None) -> tuple[Counter[str], list[str]]:
    """How many runs have ended in which status, and a line for each error of runs that failed for good.

    `known` is what an earlier call has found: only jobs whose files have changed since are read again.
    """
    counts: Counter[str] = Counter()
    errors: dict[str, dict[str, Path]] = {}
    jobs = directories_of_jobs(path)
    # Job by job: what belongs together is small, and two jobs have no run in common; but all at once if one does not say whose.
    for directories in [job_directories(path)] if None in jobs else jobs.values():
        own, failures = _of_job(path, directories, {} if known is None else known)
        counts.update(own)
        for run, error, directory in failures:
            errors.setdefault(error, {})[run] = directory
    lines = []
    for error, runs in errors.items():
        run, directory = next(iter(runs.items()))
        lines.append(f"  {len(runs)} failed: {error} (run {run} in {directory})")
    more = [f"  and {len(lines) - ERRORS} more errors"] if len(lines) > ERRORS else []
    return counts, lines[:ERRORS] + more


def _of_job(path: Path, directories: Sequence[Path], known: Tallies) -> tuple[Counter[str], list[tuple[str, str, Path]]]:
    """How many of a job's runs have ended in which status, and (run_id, error, directory) of those that failed for good."""
    # Before reading: what is written meanwhile makes for other stamps the next time.
    key, now = tuple(directories), [stamp(part) for directory in directories for part in parts_of(directory / "runs.parquet")]
    if key in known and known[key][0] == now:
        return known[key][1:]
    own, failures = _of_distinct_runs(directories), []
    if own is None:
        outcomes = outcomes_so_far(path, directories)
        own = Counter(outcomes.values())
        failures = [failure for failure in _failures(directories) if outcomes.get(failure[0]) == "failed"]
    known[key] = now, own, failures
    return own, failures


def _of_distinct_runs(directories: Iterable[Path]) -> Counter[str] | None:
    """The statuses of a job's rows, if each run has one row and none failed; 10^7 runs take seconds this way."""
    parts = [part for directory in directories for part in rows(directory)]
    runs, statuses = (
        pa.chunked_array([chunk for part in parts for chunk in part[name].cast(pa.string()).chunks], pa.string())
        for name in ("run_id", "status")
    )
    counts = Counter({str(pair["values"]): int(pair["counts"]) for pair in pc.value_counts(statuses).to_pylist()})
    return None if "failed" in counts or pc.count_distinct(runs).as_py() < len(runs) else counts


def _failures(directories: Iterable[Path]) -> Iterator[tuple[str, str, Path]]:
    """(run_id, error in one line, directory) of each row that failed."""
    columns = ("run_id", "status", "error")
    for directory in directories:
        for part in rows(directory, columns):
            for run, status, error in zip(*(part[name].to_pylist() for name in columns), strict=True):
                if status == "failed":
                    yield run, " ".join(str(error).split()), directory


def missing_of_job(
    path: Path,
    batches: Sequence["Experiment"],
    directories: Iterable[Path],
    others: Iterable[Path] = (),
    asked: np.ndarray | None = None,
) -> list["Experiment"]:
    """The runs of a job, `batches`, that have no row yet in its directories, or failed. Raises ConfigError for rows of others.

    `asked` says of each of them whether it is to be trained; default: all.

    Where this version draws other numbers than an earlier one, its runs have other run_ids: both in one sweep would be counted
    and averaged as if they were more seeds. `others` are directories that may be this job's, or another's.
    """
    own, more = outcomes_so_far(path, directories), outcomes_so_far(path, others)
    outcomes = {**more, **own}
    wanted = list(batches) if asked is None else _taken(batches, asked)
    if not outcomes:  # then no run_id need be computed
        return wanted
    strange = set(own).difference(*(batch.run_ids() for batch in wanted))
    if strange and asked is not None:  # runs that are not asked for, or not any more
        strange = strange.difference(*(batch.run_ids() for batch in batches))
    allowed = f"holds {len(strange)} runs of a version that drew other labels or samples; choose another directory"
    require(not strange, "hydra.sweep.dir", path, allowed)
    missing = [outcomes.get(run, "failed") == "failed" for batch in wanted for run in batch.run_ids()]
    return _taken(wanted, np.array(missing))


def _taken(batches: Sequence["Experiment"], chosen: np.ndarray) -> list["Experiment"]:
    """Of all runs of the batches together, those that are chosen; batches without any are left out."""
    found, first = [], 0
    for batch in batches:
        numbers = np.flatnonzero(chosen[first : first + batch.runs])
        first += batch.runs
        if numbers.size:
            found.append(batch if len(numbers) == batch.runs else batch.take(numbers))
    return found


def jobs_with_missing_runs(path: Path, plan: "Plan") -> list[int]:
    """The numbers of the jobs that still have runs to train."""
    begun = directories_of_jobs(path)
    others = begun.get(None, [])

    def misses(job: int) -> bool:
        own, asked = begun.get(job, []), plan.asked_of_job(job)
        if asked is not None and not asked.any():
            return False
        # Without any row of it, all its runs are missing, and none need be built.
        return not (own or others) or bool(missing_of_job(path, plan.of_job(job), own, others, asked))

    return [job for job in plan.jobs() if misses(job)]


def summary(path: Path, planned: int) -> tuple[bool, list[str]]:
    """Say whether nothing is left to do, and describe in lines how the runs of the sweep have ended."""
    counts, errors = tally(path)
    # More than planned: a sweep with refine=boundary whose plan was lost chooses again what it has.
    missing = max(planned - counts.total(), 0)
    states = ", ".join(f"{counts[state]} {state}" for state in ("completed", "diverged", "failed"))
    lines = [f"{planned} runs: {states}, {missing} missing; results in {path}", *errors]
    return not missing and not counts["failed"], lines
