"""Start a sweep, in the process that the user starts: write the plan, launch the jobs that have runs to train, sum up."""

import logging
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lnt import signals
from lnt.errors import ConfigError, one_line, require
from lnt.files import DamagedFile, UnreadableNow, put_aside, read_json
from lnt.plan_file import read_plan, write_plan
from lnt.runs.directory import RunDirectory, provenance, version_of
from lnt.runs.experiments_from_settings import current, without_classes
from lnt.runs.owner import Owner
from lnt.settings import check_writable, flatten
from lnt.sweeps import submission
from lnt.sweeps.distinct_runs import check_distinct
from lnt.sweeps.hydra_internals import JobLauncher
from lnt.sweeps.missing_runs import (
    directories_of_jobs,
    is_number,
    job_directories,
    job_of,
    jobs_with_missing_runs,
    outcomes_so_far,
    summary,
)
from lnt.sweeps.plan import Plan, outlook
from lnt.sweeps.rounds import with_next_round
from lnt.table_files import parts_of
from lnt.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def start(found: Plan, path: Path, launcher: JobLauncher, dry_run: bool, command: str, analyze: str) -> None:
    """Run a plan: a new one, or the rest of one that `path` was started with.

    `command` is what started it, and finishes what is missing; `analyze` is what comes after it.
    """
    if launcher.on_slurm:
        submission.check(launcher.settings)
    if dry_run:
        print(outlook(found))
        return
    check_writable(path)
    if launcher.on_slurm:
        submission.check_cluster()
    if not (path / "sweep.yaml").exists():
        check_distinct(found)
        require(not (path / "status.json").exists(), "hydra.sweep.dir", path, "holds a single run; choose another directory")
    # One such process for each directory: two would launch the same jobs.
    with Owner(path / ".owner"):
        run(planned_there(path, found, command), path, launcher, command, analyze)


def run(found: Plan, path: Path, launcher: JobLauncher, command: str, analyze: str) -> None:
    """Launch the jobs, wait for them, and sum up."""
    try:
        with signals.interruptible():
            found = train(found, path, launcher, command)
    except KeyboardInterrupt:
        on_cluster = " jobs on the cluster go on (python -m lnt.status DIR);" if launcher.on_slurm else ""
        sys.exit(f"interrupted; runs that ended are kept;{on_cluster} to finish the rest: {command}")
    finished, lines = summary(path, found.runs_asked())
    print("\n".join([*lines, *([found.refine.ended] if found.refine and found.refine.ended else [])]))
    # Checkpoints stay: the rerun goes on from them.
    if not finished:
        print(f"to finish the rest: {command}")
        sys.exit(1)
    Checkpoint(path / "checkpoints").discard()
    print(f"next: {analyze}")


def train(found: Plan, path: Path, launcher: JobLauncher, command: str) -> Plan:
    """Launch the jobs that have runs to train; with refine=boundary round after round, while none is missing or failed.

    Returns the plan with what was asked for in the end.
    """
    launch(found, path, launcher)
    while found.refine and summary(path, found.runs_asked())[0]:
        found = replace(found, refine=with_next_round(found.refine, path, found.groups[0][1]))
        # Before the launch, as the plan: a rerun goes on with this round.
        write(found, path, command)
        if found.refine is None or found.refine.ended:
            break
        log.info("round %d: %d runs in all", len(found.refine.rounds), found.runs_asked())
        launch(found, path, launcher)
    return found


def planned_there(path: Path, found: Plan, command: str) -> Plan:
    """The plan on disk if it equals this one, its jobs in good order; this one, written to disk, if there is none."""
    file = path / "sweep.yaml"
    if file.exists():
        try:
            before = read_plan(file)
        except UnreadableNow:
            raise
        except DamagedFile as error:
            submission.check_idle(path)
            mend(path)
            check_planned(path, found)
            log.warning("%s; it was put aside as %s, and the sweep is planned anew", error, put_aside(file).name)
        else:
            return resumed(path, found, before, command)
    # Before the launch: jobs read it, and a rerun recognises the sweep by it.
    write(found, path, command)
    return found


def write(found: Plan, path: Path, command: str) -> None:
    """Write the plan, and the command that finishes what is missing."""
    write_plan(path, {"command": command, **found.to_plain()})


def resumed(path: Path, found: Plan, before: dict[str, Any], command: str) -> Plan:
    """The plan on disk, if it equals this one. Its order of axes is kept, and its size of jobs once anything is saved."""
    check_same(before, found.to_plain(), path)
    submission.check_idle(path)
    mend(path)
    kept = Plan.from_plain(before, found.classes())
    if kept.refine and found.refine:
        # These may change: the search goes on from the rounds so far.
        kept = replace(kept, refine=replace(kept.refine, width=found.refine.width, budget=found.refine.budget, ended=""))
    if kept.runs_per_job == found.runs_per_job:
        return kept
    # Rows and checkpoints are looked up by the number of the job, which stands for other runs at another size.
    if any(parts_of(job / "runs.parquet") for job in job_directories(path)) or any((path / "checkpoints").glob("*/*.pt")):
        log.info("jobs keep the size that this sweep has begun with: runs_per_job=%d", kept.runs_per_job)
        return kept
    resized = replace(kept, runs_per_job=found.runs_per_job)
    write(resized, path, command)
    return resized


def mend(path: Path) -> None:
    """Put in order what killed jobs have left, not what live ones are writing; warn if the rest will be of another version."""
    versions = set()
    for directory in job_directories(path):
        number = job_of(directory)
        try:
            RunDirectory.claim_for_job(directory, path, int(directory.name) if number is None else number, patience=0).release()
        except (ConfigError, OSError) as error:  # a live process is at it, or nothing may be written there
            log.warning("%s is left as it is: %s", directory, one_line(error))
        with suppress(DamagedFile):
            versions.add(version_of(read_json(directory / "provenance.json")))
    now = version_of(provenance())
    if others := sorted(versions - {now}):
        log.warning("%s holds runs of %s; the rest are trained by %s", path, others[0], now)


def check_planned(path: Path, found: Plan) -> None:
    """Raise ConfigError unless this plan gives all runs that have rows to the same jobs: others would be trained twice."""
    for job, directories in directories_of_jobs(path).items():
        own = found.of_job(job) if job is not None and job in found.jobs() else []
        rows = set(outcomes_so_far(path, directories)) if job is not None else set()
        strange = rows.difference(*(batch.run_ids() for batch in own)) if rows else set()
        allowed = (
            "holds results of other runs than this command plans; give the values and runs_per_job that it was started with"
        )
        require(not strange, "hydra.sweep.dir", directories[0], allowed)


def launch(found: Plan, path: Path, launcher: JobLauncher) -> None:
    """Launch a job for each number that has runs to train; the first number is one that no directory has."""
    jobs = jobs_with_missing_runs(path, found)
    if not jobs:
        return
    # sweep.yaml names options only, and conf/ may have changed when a job starts.
    launcher.carry(found.classes())
    # A rerun must not write into the directory of an earlier job: its rows stay, and count.
    used = [int(job.name) for job in path.iterdir() if is_number(job.name)]
    lines, first = [[f"+job={job}"] for job in jobs], max(used, default=-1) + 1
    if launcher.on_slurm:
        submission.launch(launcher, lines, first, path)
    else:
        launcher.launch(lines, initial_job_idx=first)


def check_same(before: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """Raise ConfigError, with the first differences, unless both plans are the same but for the size of jobs."""
    flat = [dict(flatten({"groups": dict(enumerate(_by_key(plan)))})) for plan in (before, now)]
    differing = [key for key in {**flat[0], **flat[1]} if flat[0].get(key) != flat[1].get(key)]
    shown = "; ".join(f"{key.split('.', 2)[2]}: {flat[0].get(key)} there, {flat[1].get(key)} now" for key in differing[:3])
    require(not differing, "hydra.sweep.dir", path, f"holds another sweep ({shown}); choose another directory")


def _by_key(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """For each group its configuration, with the swept values in place of the single ones, and which boundary is looked for."""
    refine = {f"hydra.sweeper.{key}": value for key, value in plan.get("refine", {}).items() if key in ("value", "level")}
    return [
        dict(flatten(current(without_classes(group["config"]))))
        | refine
        # The configuration has the first point of each swept key only.
        | {", ".join(axis["keys"]): str(axis["points"]) for axis in group["axes"]}
        for group in plan["groups"]
    ]
