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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from lnt.config import check_writable, flatten, require, to_plain
from lnt.experiment import Experiment
from lnt.files import parts_of, write_atomically
from lnt.grid import Axis, axes_of, expand
from lnt.loop import train_chunk
from lnt.progress import Progress
from lnt.results import CURVES, RunDirectory, column_types, curves_table, failed_table, runs_table

log = logging.getLogger(__name__)
MOST_JOBS = 32  # of an automatic plan for a launcher that runs jobs side by side
SHARE_AT_RISK = 0.05  # a job that dies loses at most about this share of its time


@dataclass(frozen=True)
class Plan:
    """Composed configurations, each with the axes to sweep over it, and how many runs make a job."""

    groups: tuple[tuple[dict[str, Any], tuple[Axis, ...]], ...]
    runs_per_job: int

    def batches(self) -> list[Experiment]:
        """All runs, in batches that share shapes; validates every value. Raises ConfigError."""
        return [batch for config, axes in self.groups for batch in expand(config, axes)]

    def to_plain(self) -> dict[str, Any]:
        """The plan as YAML writes it."""
        groups = [{"config": config, "axes": [asdict(axis) for axis in axes]} for config, axes in self.groups]
        return yaml.safe_load(yaml.safe_dump({"groups": _listed(groups), "runs_per_job": self.runs_per_job}))

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Plan":
        groups = [
            (group["config"], tuple(Axis(tuple(axis["keys"]), tuple(map(tuple, axis["points"]))) for axis in group["axes"]))
            for group in plain["groups"]
        ]
        return cls(tuple(groups), plain["runs_per_job"])


def _listed(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


# Planning: in the process that the user starts.


def plan(overrides: Sequence[str], config: DictConfig, loader: ConfigLoader, runs_per_job: int | str) -> Plan:
    """Turn override lines into a plan, composing one configuration for each combination of group choices.

    Values of other axes are written into the composed configuration; an axis on which more than its own key depends (by
    interpolation) is composed value by value instead.
    """
    parsed = {o.key_or_group: o for o in OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))}
    fixed = [str(o.input_line) for o in parsed.values() if not o.is_sweep_override()]
    axes = axes_of([o for o in parsed.values() if o.is_sweep_override()])

    def compose(points: Sequence[tuple[Axis, tuple[Any, ...]]]) -> dict[str, Any]:
        lines = [f"{key}={_encode(value)}" for axis, point in points for key, value in zip(axis.keys, point, strict=True)]
        composed = loader.load_sweep_config(config, fixed + lines)
        return to_plain(composed, composed.hydra.runtime.choices)

    written: list[Axis] = []
    composed: list[Axis] = []
    for axis in axes:
        chosen = any(loader.get_group_options(key) for key in axis.keys)
        nulls = any(value is None for point in axis.points for value in point)  # where one of two keys must be given
        (composed if chosen or nulls or _others_depend_on(axis, axes, compose) else written).append(axis)
    groups = []
    for points in itertools.product(*(axis.points for axis in composed)):
        base = compose([*zip(composed, points, strict=True), *((axis, axis.points[0]) for axis in written)])
        groups.append((base, tuple(written)))
    found = Plan(tuple(groups), 1)
    return Plan(found.groups, _runs_per_job(runs_per_job, sum(b.runs for b in found.batches()), config))


def _others_depend_on(axis: Axis, axes: Sequence[Axis], compose: Any) -> bool:
    """Whether keys other than the axis' own change between its first and its last point."""
    first = [(other, other.points[0]) for other in axes]
    last = [(other, other.points[-1] if other is axis else other.points[0]) for other in axes]
    before, after = (dict(flatten(compose(points))) for points in (first, last))
    return any(before.get(key) != after.get(key) for key in {*before, *after} - set(axis.keys))


def _encode(value: Any) -> str:
    """A value as Hydra's grammar reads it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _runs_per_job(wanted: int | str, total: int, config: DictConfig) -> int:
    if wanted == "auto":
        alone = str(config.hydra.launcher._target_).endswith("BasicLauncher")
        return total if alone else -(-total // MOST_JOBS)
    require(isinstance(wanted, int) and wanted >= 1, "hydra.sweeper.runs_per_job", wanted, "must be auto or at least 1")
    return int(wanted)


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


def outlook(batches: Sequence[Experiment], runs_per_job: int) -> str:
    """What a sweep would do: batches, runs, jobs, and about how long and how large."""
    total = sum(batch.runs for batch in batches)
    lines = []
    for batch in batches:
        needed = min(batch.runs, batch.runs_at_once()) * batch.bytes_per_run()[1]
        shape = f"n = {batch.data.n_train}, m = {batch.model.width}, {batch.total_steps()} steps, {batch.settings.engine}"
        kind = " ".join(f"{key}={value}" for key, value in batch.choices.items())
        lines.append(
            f"{batch.runs:8d} runs  {shape}  {kind}  about {needed / 2**20:.0f} MiB, {batch.estimated_seconds():.1f} s"
        )
    seconds = sum(batch.estimated_seconds() for batch in batches)
    lines.append(f"{total} runs in {-(-total // runs_per_job)} jobs of at most {runs_per_job}, about {seconds:.1f} s in all")
    return "\n".join(lines)


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
