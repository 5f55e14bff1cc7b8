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
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from lnt import cluster, stopping
from lnt.checkpoint import Checkpoint
from lnt.config import check_writable, flatten, require
from lnt.experiment import Experiment
from lnt.files import read_parts, write_atomically
from lnt.loop import train_chunk
from lnt.plan import Plan, outlook
from lnt.progress import Progress, StepCount
from lnt.results import RunDirectory, Tables, failed_tables, runs_schema, save_networks, tables
from lnt.stopping import Stopped
from lnt.workers import spread

log = logging.getLogger(__name__)
NO_OUTCOMES = pd.DataFrame({"run_id": [], "status": []}, dtype="str")
Done = tuple[Tables, Path | None]  # results of a chunk, and its checkpoint, which they make superfluous
BEAT_SECONDS = 15.0
SHARE_AT_RISK = 0.05  # a job that dies loses at most about this share of its time


# Starting: in the process that the user starts.


def start(found: Plan, config: DictConfig, launcher: Launcher) -> None:
    """Write the plan (or check that it is the one that this directory was started with), launch what is missing, sum up."""
    path, batches = Path(config.hydra.sweep.dir), found.batches()
    on_slurm = str(config.hydra.launcher._target_).endswith("SlurmLauncher")
    if on_slurm:
        cluster.check_time(config.hydra.launcher.timeout_min, config.hydra.launcher.signal_delay_s)
    if config.dry_run:
        print(outlook(batches, found.runs_per_job))
        return
    check_writable(path)
    sweep = path / "sweep.yaml"
    command = shlex.join(
        ["python", *sys.argv, *([] if any("sweep.dir" in a for a in sys.argv) else [f"hydra.sweep.dir={path}"])]
    )
    if sweep.exists():
        before = yaml.safe_load(sweep.read_text())
        check_same(before, found.to_plain(), path)
        cluster.check_idle(path)
        found = Plan.from_plain(before)  # jobs read it from there: its order of axes and its size of jobs hold
        batches = found.batches()
    else:
        check_distinct(batches)
        require(not (path / "status.json").exists(), "hydra.sweep.dir", path, "holds a single run; choose another directory")
        path.mkdir(parents=True, exist_ok=True)
        plan = {"command": command, **found.to_plain()}
        write_atomically(sweep, lambda file: file.write_text(yaml.safe_dump(plan, sort_keys=False)))
    jobs = jobs_with_missing_runs(path, batches, found.runs_per_job)
    if jobs:
        used = [int(job.name) for job in path.iterdir() if job.name.isdigit()]
        lines, first = [[f"+job={job}"] for job in jobs], max(used, default=-1) + 1
        if on_slurm:
            cluster.launch(launcher, lines, first, path)
        else:
            launcher.launch(lines, initial_job_idx=first)
    finished, line = summary(path, sum(batch.runs for batch in batches), command)
    print(line)
    if not finished:
        sys.exit(1)
    Checkpoint(path / "checkpoints").discard()


def check_same(before: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """Raise ConfigError, with the first differences, unless both plans are the same but for the size of jobs."""
    flat = [dict(flatten({"groups": dict(enumerate(_by_key(plan)))})) for plan in (before, now)]
    differing = [key for key in {**flat[0], **flat[1]} if flat[0].get(key) != flat[1].get(key)]
    shown = "; ".join(f"{key.split('.', 2)[2]}: {flat[0].get(key)} there, {flat[1].get(key)} now" for key in differing[:3])
    require(not differing, "hydra.sweep.dir", path, f"holds another sweep ({shown}); choose another directory")


def check_distinct(batches: Sequence[Experiment]) -> None:
    """Raise ConfigError if two points of the grid are one and the same run."""
    identities = ((batch, *batch.identity()) for batch in batches)
    points = pd.concat(
        [pd.DataFrame({"shared": shared, **varying}, range(batch.runs)) for batch, shared, varying in identities]
    )
    twice = int(points.duplicated().sum())
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
    todo = missing_of_job(path, batches, found.runs_per_job, job)
    total = sum(batch.runs for batch in todo)
    directory.describe({"sweep": str(path), "job": job}, batches[0].like().device)
    parts, schema, checkpoint = Parts(directory, total), runs_schema(batches), Checkpoint(path / "checkpoints" / str(job))
    work = partial(train_or_fail, schema=schema, checkpoint=checkpoint, networks=directory.networks)
    lost = partial(died, schema=schema)
    with stopping.listening() as handlers, signs_of_life(directory):
        try:
            with Progress(sum(batch.runs * batch.total_steps() for batch in todo)) as progress:
                for workers, group in itertools.groupby(todo, lambda batch: batch.workers()):
                    pieces = (checkpoint.chunks(batch.by_test_set(), workers) for batch in group)
                    for done in spread(work, itertools.chain.from_iterable(pieces), workers, progress, halves, lost):
                        parts.add(done)
            parts.flush()
            directory.join_parts()
            directory.say("completed", runs=total)
        except Stopped:
            parts.flush()
            directory.say("preempted", done=parts.done, of=total)
            stopping.finish(handlers)
        except KeyboardInterrupt:
            parts.flush()
            directory.say("interrupted")
            raise
        except BaseException as error:
            parts.flush()
            directory.say("failed", error=f"{type(error).__name__}: {error}")
            log.exception("The job failed")
            raise


@contextmanager
def signs_of_life(directory: RunDirectory) -> Iterator[None]:
    """Touch status.json now and then, so that anyone who sees the files knows that the job lives."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with suppress(OSError):  # a file system that is away for a moment
                directory.status.touch()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def train_or_fail(
    chunk: Experiment, progress: StepCount, schema: pa.Schema, checkpoint: Checkpoint, networks: Path
) -> list[Done]:
    """Train a chunk. If it raises, its halves are tried; a single run that raises is a row `failed`."""
    before = progress.done
    try:
        curves = train_chunk(chunk, progress, checkpoint)
        if curves.kept is not None and chunk.settings.keep_networks:
            save_networks(networks, chunk, curves.kept)
        return [(tables(chunk, curves, schema), checkpoint.path(chunk))]
    except Exception as error:
        progress.update(before - progress.done)
        if chunk.runs == 1:
            log.exception("Run %s failed", chunk.run_ids()[0])
            progress.update(chunk.total_steps())
            return [(failed_tables(chunk, error, schema), None)]
    return [part for half in halves(chunk) for part in train_or_fail(half, progress, schema, checkpoint, networks)]


def halves(chunk: Experiment) -> list[Experiment]:
    """A chunk in two, none of a single run."""
    return [chunk.take(half) for half in np.array_split(np.arange(chunk.runs), 2)] if chunk.runs > 1 else []


def died(run: Experiment, schema: pa.Schema) -> list[Done]:
    """The row of a run that has ended its process: a crash below Python, or more memory than there is."""
    log.error("Run %s has ended its process", run.run_ids()[0])
    return [(failed_tables(run, RuntimeError("its process died: a crash below Python, or out of memory"), schema), None)]


class Parts:
    """Collects tables and writes them in parts, each when it has become a small share of the job's time."""

    def __init__(self, directory: RunDirectory, total: int) -> None:
        self.directory, self.total, self.done = directory, total, 0
        self.waiting: list[Done] = []
        self.start = self.flushed = time.monotonic()
        directory.say("running", done=0, of=total)

    def add(self, done: list[Done]) -> None:
        """Take in the tables of some runs."""
        self.waiting += done
        now = time.monotonic()
        if now - self.flushed > max(1.0, SHARE_AT_RISK * (now - self.start)):
            self.flush()
            self.flushed = time.monotonic()

    def flush(self) -> None:
        """Write what has been collected."""
        if not self.waiting:
            return
        found, checkpoints = zip(*self.waiting, strict=True)
        written = Tables(*map(pa.concat_tables, zip(*found, strict=True)))
        self.directory.save_part(written)
        for checkpoint in filter(None, checkpoints):  # only now: a run's row is on the disk
            checkpoint.unlink(missing_ok=True)
        self.done += len(written.runs)
        self.waiting = []
        self.directory.say("running", done=self.done, of=self.total)


# Reading a sweep's directory: in any process.


def outcomes_so_far(path: Path, job: int | None = None) -> pd.Series:
    """run_id -> status of all runs, or a job's, that have a row; a run that failed once and completed later is completed."""
    directories = [config.parent for config in sorted(path.glob("*/config.yaml")) if job is None or _job_of(config) == job]
    tables = [table for directory in directories if (table := directory / "runs.parquet").exists()]
    rows: pd.DataFrame = pd.concat(
        [NO_OUTCOMES, *(part for table in tables for part in read_parts(table, ["run_id", "status"]))]
    )
    failed = rows["status"] == "failed"
    return pd.concat([rows[~failed], rows[failed]]).drop_duplicates("run_id").set_index("run_id")["status"]


def _job_of(config: Path) -> int:
    """The number of the job that a directory belongs to: a rerun gives a job a further directory."""
    return yaml.safe_load(config.read_text())["job"]


def missing_of_job(path: Path, batches: Sequence[Experiment], runs_per_job: int, job: int) -> list[Experiment]:
    """The runs of a job that have no row yet, or failed, batch by batch; other jobs' runs, maybe a million, are left alone."""
    own, offset = [], 0
    for batch in batches:
        first, last = (np.clip(number * runs_per_job - offset, 0, batch.runs) for number in (job, job + 1))
        if first < last:
            own.append(batch if last - first == batch.runs else batch.take(np.arange(first, last)))
        offset += batch.runs
    return [batch for _, batch in _missing(outcomes_so_far(path, job), own, sum(batch.runs for batch in own))]


def jobs_with_missing_runs(path: Path, batches: Sequence[Experiment], runs_per_job: int) -> list[int]:
    """The jobs that have something to do."""
    return sorted({job for job, _ in _missing(outcomes_so_far(path), batches, runs_per_job)})


def _missing(status: pd.Series, batches: Sequence[Experiment], runs_per_job: int) -> Iterator[tuple[int, Experiment]]:
    """(job, its missing runs of one batch). Runs are numbered through all batches; a job is a range of numbers."""
    done = status.index[status != "failed"]
    offset = 0
    for batch in batches:
        numbers = offset + np.arange(batch.runs)
        if len(done):
            numbers = numbers[~pd.Index(batch.run_ids()).isin(done)]
        for job in np.unique(numbers // runs_per_job):
            own = numbers[numbers // runs_per_job == job] - offset
            yield int(job), batch if len(own) == batch.runs else batch.take(own)
        offset += batch.runs


def planned_runs(plan: dict[str, Any]) -> int:
    """How many runs a plan as YAML holds."""
    return sum(int(np.prod([len(axis["points"]) for axis in group["axes"]], dtype=int)) for group in plan["groups"])


def summary(path: Path, planned: int, command: str) -> tuple[bool, str]:
    """Whether nothing is left to do, and in words how a sweep stands and the command that finishes it."""
    counts = Counter(outcomes_so_far(path))
    missing = planned - counts.total()
    states = ", ".join(f"{counts[state]} {state}" for state in ("completed", "diverged", "failed"))
    line = f"{planned} runs: {states}, {missing} missing; results in {path}"
    finished = not missing and not counts["failed"]
    return finished, line if finished else f"{line}\nto finish the rest: {command}"
