"""A sweep is a directory: the plan it was started with, and one directory for each job with the results so far.

    DIR/sweep.yaml              the plan: composed configurations and axes; jobs read it, not conf/ as it is when they start
    DIR/0/runs.parquet/*        results of job 0, in parts that appear whole or not at all
    DIR/0/curves.parquet/*
    DIR/0/status.json, provenance.json, train.log

Everything else follows from these files: which runs are done, which are missing, what a rerun has to train.
"""

import itertools
import logging
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from lnt.config import check_writable, flatten, require
from lnt.experiment import Experiment
from lnt.files import parts_of, write_atomically
from lnt.loop import train_chunk
from lnt.plan import Plan, outlook
from lnt.progress import Progress
from lnt.results import CURVES, RunDirectory, column_types, curves_table, failed_table, runs_table

log = logging.getLogger(__name__)
SHARE_AT_RISK = 0.05  # a job that dies loses at most about this share of its time


# Starting: in the process that the user starts.


def start(found: Plan, config: DictConfig, launcher: Launcher) -> None:
    """Write the plan (or check that it is the one that this directory was started with), launch what is missing, sum up."""
    path, batches = Path(config.hydra.sweep.dir), found.batches()
    if config.dry_run:
        print(outlook(batches, found.runs_per_job))
        return
    check_writable(path)
    sweep = path / "sweep.yaml"
    if sweep.exists():
        before = yaml.safe_load(sweep.read_text())
        check_same(before, found.to_plain(), path)
        found = Plan.from_plain(before)  # jobs read it from there: its order of axes and its size of jobs hold
        batches = found.batches()
    else:
        check_distinct(batches)
        require(not (path / "status.json").exists(), "hydra.sweep.dir", path, "holds a single run; choose another directory")
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(sweep, lambda file: file.write_text(yaml.safe_dump(found.to_plain(), sort_keys=False)))
    jobs = jobs_with_missing_runs(path, batches, found.runs_per_job)
    if jobs:
        used = [int(job.name) for job in path.iterdir() if job.name.isdigit()]
        launcher.launch([[f"+job={job}"] for job in jobs], initial_job_idx=max(used, default=-1) + 1)
    command = shlex.join(
        ["python", *sys.argv, *([] if any("sweep.dir" in a for a in sys.argv) else [f"hydra.sweep.dir={path}"])]
    )
    finished, line = summary(path, sum(batch.runs for batch in batches), command)
    print(line)
    if not finished:
        sys.exit(1)


def check_same(before: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """Raise ConfigError, with the first differences, unless both plans are the same but for the size of jobs."""
    flat = [dict(flatten({"groups": dict(enumerate(_by_key(plan)))})) for plan in (before, now)]
    differing = [key for key in {**flat[0], **flat[1]} if flat[0].get(key) != flat[1].get(key)]
    shown = "; ".join(f"{key.split('.', 2)[2]}: {flat[0].get(key)} there, {flat[1].get(key)} now" for key in differing[:3])
    require(not differing, "hydra.sweep.dir", path, f"holds another sweep ({shown}); choose another directory")


def check_distinct(batches: Sequence[Experiment]) -> None:
    """Raise ConfigError if two points of the grid are one and the same run."""
    count = Counter(itertools.chain.from_iterable(batch.run_ids() for batch in batches))
    twice = sum(count.values()) - len(count)
    allowed = "points name a run that another point names too; drop values that repeat, and axes that change no result"
    require(twice == 0, "sweep", twice, allowed)


def _by_key(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """For each group its configuration, with the swept values in place of the single ones."""
    return [
        dict(flatten(group["config"])) | {", ".join(axis["keys"]): str(axis["points"]) for axis in group["axes"]}
        for group in plan["groups"]
    ]


# Running a job: in whatever process the launcher starts.


def run_job(path: Path, job: int, job_directory: Path) -> None:
    """Train the missing runs of job number `job` of the sweep at `path`; results go to `job_directory` in parts."""
    directory = RunDirectory(job_directory)
    found = Plan.from_plain(yaml.safe_load((path / "sweep.yaml").read_text()))
    batches = found.batches()
    todo = [batch for _, batch in missing_of_job(path, batches, found.runs_per_job, job)]
    total = sum(batch.runs for batch in todo)
    directory.describe({"sweep": str(path), "job": job}, batches[0].like().device)
    parts = Parts(directory, column_types(batches), total)
    try:
        with Progress(sum(batch.runs * batch.total_steps() for batch in todo)) as progress:
            for batch in todo:
                for chunk in batch.chunks():
                    for tables in train_or_fail(chunk, progress):
                        parts.add(*tables)
        parts.flush()
        directory.say("completed", runs=total)
    except BaseException as error:
        parts.flush()
        directory.say("failed", error=f"{type(error).__name__}: {error}")
        log.exception("The job failed")
        raise


def train_or_fail(chunk: Experiment, progress: Progress) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Tables (runs, curves) of a chunk. If it raises, its halves are tried; a single run that raises is a row `failed`."""
    before = progress.done
    try:
        curves = train_chunk(chunk, progress)
        runs = runs_table(chunk, curves)
        yield runs, curves_table(runs["run_id"].tolist(), curves)
        return
    except Exception as error:
        progress.update(before - progress.done)
        if chunk.runs == 1:
            log.exception("Run %s failed", chunk.run_ids()[0])
            progress.update(chunk.total_steps())
            yield failed_table(chunk, error), pd.DataFrame()
            return
    for half in np.array_split(np.arange(chunk.runs), 2):
        yield from train_or_fail(chunk.take(half), progress)


class Parts:
    """Collects tables and writes them in parts, each when it has become a small share of the job's time."""

    def __init__(self, directory: RunDirectory, types: dict[str, str], total: int) -> None:
        self.directory, self.types, self.total, self.done = directory, types, total, 0
        self.tables: list[tuple[pd.DataFrame, pd.DataFrame]] = []
        self.start = self.flushed = time.monotonic()
        directory.say("running", done=0, of=total)

    def add(self, runs: pd.DataFrame, curves: pd.DataFrame) -> None:
        """Take in the tables of some runs."""
        self.tables.append((runs, curves))
        now = time.monotonic()
        if now - self.flushed > max(1.0, SHARE_AT_RISK * (now - self.start)):
            self.flush()
            self.flushed = time.monotonic()

    def flush(self) -> None:
        """Write what has been collected."""
        if not self.tables:
            return
        runs, curves = (pd.concat(tables, ignore_index=True) for tables in zip(*self.tables, strict=True))
        runs = runs.reindex(columns=list(self.types)).astype(self.types)
        self.directory.save_part(runs, curves.reindex(columns=list(CURVES)).astype(CURVES))
        self.done += len(runs)
        self.tables = []
        self.directory.say("running", done=self.done, of=self.total)


# Reading a sweep's directory: in any process.


def outcomes_so_far(path: Path) -> dict[str, str]:
    """run_id -> status of all runs that have a row; a run that failed once and completed later is completed."""
    found: dict[str, str] = {}
    for part in (part for source in sorted(path.glob("*/runs.parquet")) for part in parts_of(source)):
        rows = pd.read_parquet(part, columns=["run_id", "status"])
        for run, status in zip(rows["run_id"], rows["status"], strict=True):
            if found.get(run, "failed") == "failed":
                found[run] = status
    return found


def missing_of_job(path: Path, batches: Sequence[Experiment], runs_per_job: int, job: int) -> list[tuple[int, Experiment]]:
    """The runs of a job that have no row yet, or failed, batch by batch."""
    return [(j, batch) for j, batch in _missing(path, batches, runs_per_job) if j == job]


def jobs_with_missing_runs(path: Path, batches: Sequence[Experiment], runs_per_job: int) -> list[int]:
    """The jobs that have something to do."""
    return sorted({job for job, _ in _missing(path, batches, runs_per_job)})


def _missing(path: Path, batches: Sequence[Experiment], runs_per_job: int) -> Iterator[tuple[int, Experiment]]:
    """(job, its missing runs of one batch). Runs are numbered through all batches; a job is a range of numbers."""
    done = {run for run, status in outcomes_so_far(path).items() if status != "failed"}
    offset = 0
    for batch in batches:
        numbers = offset + np.arange(batch.runs)
        if done:
            numbers = numbers[[run not in done for run in batch.run_ids()]]
        for job in np.unique(numbers // runs_per_job):
            own = numbers[numbers // runs_per_job == job] - offset
            yield int(job), batch if len(own) == batch.runs else batch.take(own)
        offset += batch.runs


def summary(path: Path, planned: int, command: str) -> tuple[bool, str]:
    """Whether nothing is left to do, and in words how a sweep stands and the command that finishes it."""
    counts = Counter(outcomes_so_far(path).values())
    missing = planned - sum(counts.values())
    states = ", ".join(f"{counts[state]} {state}" for state in ("completed", "diverged", "failed"))
    line = f"{planned} runs: {states}, {missing} missing; results in {path}"
    finished = not missing and not counts["failed"]
    return finished, line if finished else f"{line}\nto finish the rest: {command}"
