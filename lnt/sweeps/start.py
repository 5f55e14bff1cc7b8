"""Start a sweep, in the process that the user starts: write the plan, launch the jobs that have runs to train, sum up."""

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from lnt import signals
from lnt.errors import ConfigError, require
from lnt.files import DamagedFile, put_aside, read_json, write_yaml
from lnt.plan_file import read_plan
from lnt.runs.directory import RunDirectory, provenance
from lnt.runs.experiments_from_settings import current, without_classes
from lnt.runs.owner import Owner
from lnt.settings import check_writable, flatten
from lnt.sweeps import slurm
from lnt.sweeps.hydra_internals import JobLauncher
from lnt.sweeps.missing_runs import is_number, job_directories, job_of, jobs_with_missing_runs, summary
from lnt.sweeps.plan import Plan, outlook
from lnt.training.checkpoint import Checkpoint
from lnt.training.experiment import Experiment

log = logging.getLogger(__name__)


def start(found: Plan, path: Path, launcher: JobLauncher, dry_run: bool, command: str, analyze: str) -> None:
    """Run a plan: a new one, or the rest of one that `path` was started with.

    `command` is what started it, and finishes what is missing; `analyze` is what comes after it.
    """
    batches = found.batches()
    if launcher.slurm_limits:
        slurm.check_time(*launcher.slurm_limits)
    if dry_run:
        print(outlook(batches, found.runs_per_job))
        return
    check_writable(path)
    if not (path / "sweep.yaml").exists():
        check_distinct(batches)
        require(not (path / "status.json").exists(), "hydra.sweep.dir", path, "holds a single run; choose another directory")
    # One such process for each directory: two would launch the same jobs.
    with Owner(path / ".owner"):
        found = planned_there(path, found, command)
        # Again: the order of axes and the size of jobs are those of the plan on disk.
        run(found, found.batches(), path, launcher, command, analyze)


def planned_there(path: Path, found: Plan, command: str) -> Plan:
    """The plan on disk if it equals this one, in good order; this one, written to disk, if there is none."""
    file = path / "sweep.yaml"
    if file.exists():
        try:
            before = resumed(path, found, read_plan(file))
            mend(path)
            return before
        except DamagedFile as error:
            log.warning("%s; it was put aside as %s, and the sweep is planned anew", error, put_aside(file).name)
            mend(path)
    # Before the launch: jobs read it, and a rerun recognises the sweep by it.
    write_yaml(file, {"command": command, **found.to_plain()})
    return found


def mend(path: Path) -> None:
    """Put in order what killed jobs have left, not what live ones are writing; warn if the rest will be of another version."""
    versions: set[tuple[object, object]] = set()
    for directory in job_directories(path):
        number = job_of(directory)
        with suppress(ConfigError):  # a live process is at it
            RunDirectory.claim_for_job(directory, path, int(directory.name) if number is None else number, patience=0).release()
        with suppress(DamagedFile):
            versions.add(version_of(read_json(directory / "provenance.json")))
    now = version_of(provenance())
    if others := versions - {now}:
        before, here = (f"commit {git}, torch {torch}" for git, torch in (sorted(others, key=str)[0], now))
        log.warning("%s holds runs of %s; the rest are trained by %s", path, before, here)


def version_of(origin: Mapping[str, Any]) -> tuple[object, object]:
    """The commit and the version of PyTorch in a provenance."""
    versions = origin.get("versions")
    return str(origin.get("git"))[:10], versions.get("torch") if isinstance(versions, dict) else None


def run(found: Plan, batches: Sequence[Experiment], path: Path, launcher: JobLauncher, command: str, analyze: str) -> None:
    """Launch the jobs, wait for them, and sum up."""
    try:
        with signals.interruptible():
            launch(found, batches, path, launcher)
    except KeyboardInterrupt:
        on_cluster = " jobs on the cluster go on (python -m lnt.status DIR);" if launcher.slurm_limits else ""
        sys.exit(f"interrupted; runs that ended are kept;{on_cluster} to finish the rest: {command}")
    finished, line = summary(path, sum(batch.runs for batch in batches), command)
    print(line)
    # Checkpoints stay: the rerun goes on from them.
    if not finished:
        sys.exit(1)
    Checkpoint(path / "checkpoints").discard()
    print(f"next: {analyze}")


def resumed(path: Path, found: Plan, before: dict[str, Any]) -> Plan:
    """The plan on disk, if it equals this one; its order of axes and its size of jobs are kept."""
    check_same(before, found.to_plain(), path)
    slurm.check_idle(path)
    return Plan.from_plain(before, found.classes())


def launch(found: Plan, batches: Sequence[Experiment], path: Path, launcher: JobLauncher) -> None:
    """Launch a job for each number that has runs to train; the first number is one that no directory has."""
    jobs = jobs_with_missing_runs(path, batches, found.runs_per_job)
    if not jobs:
        return
    # sweep.yaml names options only, and conf/ may have changed when a job starts.
    launcher.carry(found.classes())
    # A rerun must not write into the directory of an earlier job: its rows stay, and count.
    used = [int(job.name) for job in path.iterdir() if is_number(job.name)]
    lines, first = [[f"+job={job}"] for job in jobs], max(used, default=-1) + 1
    if launcher.slurm_limits:
        slurm.launch(launcher, lines, first, path)
    else:
        launcher.launch(lines, initial_job_idx=first)


def check_same(before: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """Raise ConfigError, with the first differences, unless both plans are the same but for the size of jobs."""
    flat = [dict(flatten({"groups": dict(enumerate(_by_key(plan)))})) for plan in (before, now)]
    differing = [key for key in {**flat[0], **flat[1]} if flat[0].get(key) != flat[1].get(key)]
    shown = "; ".join(f"{key.split('.', 2)[2]}: {flat[0].get(key)} there, {flat[1].get(key)} now" for key in differing[:3])
    require(not differing, "hydra.sweep.dir", path, f"holds another sweep ({shown}); choose another directory")


def _by_key(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """For each group its configuration, with the swept values in place of the single ones."""
    return [
        dict(flatten(current(without_classes(group["config"]))))
        # The configuration has the first point of each swept key only.
        | {", ".join(axis["keys"]): str(axis["points"]) for axis in group["axes"]}
        for group in plan["groups"]
    ]


def check_distinct(batches: Sequence[Experiment]) -> None:
    """Raise ConfigError if two points of the sweep's grids are one and the same run."""
    identities = [(batch.runs, *batch.identity()) for batch in batches]
    if len({tuple(varying) for _, _, varying in identities}) > 1:
        # A key varies in one grid and is shared in another: only the ids tell that two of their points are one run.
        twice = int(pd.Series([run for batch in batches for run in batch.run_ids()]).duplicated().sum())
    else:
        # The inputs of the ids, since a large grid would wait for a hash of each run.
        points = [pd.DataFrame({"shared": shared, **varying}, range(runs)) for runs, shared, varying in identities]
        twice = int(pd.concat(points).duplicated().sum())
    allowed = "points name a run that another point names too; drop values that repeat, and axes that change no result"
    require(twice == 0, "sweep", twice, allowed)
