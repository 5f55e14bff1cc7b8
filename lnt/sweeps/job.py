"""A job of a sweep, in whatever process the launcher starts."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lnt.errors import ConfigError
from lnt.files import DamagedFile, read_json, write_json
from lnt.plan_file import read_plan
from lnt.runs.directory import RunDirectory, slurm_job
from lnt.runs.trackers import Tracker
from lnt.runs.train_runs import NO_TRACKER, train_runs
from lnt.sweeps.missing_runs import directories_of_jobs, missing_of_job
from lnt.sweeps.plan import Plan
from lnt.sweeps.slurm import being_preempted
from lnt.training.checkpoint import Checkpoint

STARTS = 3  # of a job that saves nothing, before it is stopped


def run_job(
    path: Path, job: int, job_directory: Path, classes: Sequence[Sequence[str]] = (), tracker: Tracker = NO_TRACKER
) -> None:
    """Train the missing runs of job number `job` of the sweep at `path`; results go to `job_directory` in parts.

    `classes` are (group, option, class) as the launching process has them: conf/ may have changed since.
    """
    directory = RunDirectory.claim_for_job(job_directory, path, job)
    try:
        ended = _train(path, job, directory, classes, tracker)
    finally:
        directory.release()
    # Only SLURM looks at how a job's process ends; where jobs share one, the next must still begin.
    if slurm_job() and ended["failed"] == ended.total() > 0:
        sys.exit(f"all {ended.total()} runs failed; python -m lnt.status {path} shows why")


def _train(path: Path, job: int, directory: RunDirectory, classes: Sequence[Sequence[str]], tracker: Tracker) -> Counter[str]:
    """Train the missing runs of a job into a directory that this process has claimed; how many ended in which status."""
    found = Plan.from_plain(read_plan(path / "sweep.yaml"), {(group, option): c for group, option, c in classes})
    # Looked up when the job starts, not when it was submitted: a requeued job has rows already.
    begun = directories_of_jobs(path)
    planned = found.of_job(job)
    missing = missing_of_job(path, planned, begun.get(job, ()), begun.get(None, ()), found.asked_of_job(job))
    # By the number of the job, not by its directory: a rerun gets a further directory and must find the state.
    checkpoint = Checkpoint(path / "checkpoints" / str(job))
    check_progress(directory, sum(batch.runs for batch in missing), checkpoint.folder)
    description, logged = {"sweep": str(path), "job": job}, tracker.of_sweep(found.runs())
    return train_runs(missing, directory, description, checkpoint, being_preempted, planned=planned, tracker=logged)


def check_progress(directory: RunDirectory, missing: int, checkpoints: Path) -> None:
    """Raise ConfigError, and leave the same in the job's status, if it has been started STARTS times and has saved nothing new.

    A job that is requeued before it has saved anything would be so without end.
    """
    file = directory.path / "starts.json"
    states = sorted([state.name, state.stat().st_mtime_ns] for state in checkpoints.glob("[!.]*.pt"))
    now = {"missing": missing, "checkpoints": states}
    try:
        before = read_json(file)
    except DamagedFile:  # or the first start, which has none
        before = {}
    earlier = before.get("vain") if before.get("saved") == now else None
    vain = earlier + 1 if isinstance(earlier, int) else 0
    write_json(file, {"saved": now, "vain": vain})
    if vain >= STARTS:
        allowed = f"{STARTS} starts in a row have saved neither a result nor a checkpoint; give it more time or memory"
        error = ConfigError("job", directory.path, allowed)
        directory.say("failed", error=str(error), done=0, of=missing)
        raise error
