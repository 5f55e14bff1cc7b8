"""A job of a sweep, in whatever process the launcher starts."""

from collections.abc import Sequence
from pathlib import Path

from lnt.plan_file import read_plan
from lnt.runs.directory import RunDirectory
from lnt.runs.train_runs import train_runs
from lnt.sweeps.missing_runs import missing_of_job
from lnt.sweeps.plan import Plan
from lnt.sweeps.slurm import being_preempted
from lnt.training.checkpoint import Checkpoint


def run_job(path: Path, job: int, job_directory: Path, classes: Sequence[Sequence[str]] = ()) -> None:
    """Train the missing runs of job number `job` of the sweep at `path`; results go to `job_directory` in parts.

    `classes` are (group, option, class) as the launching process has them: conf/ may have changed since.
    """
    directory = RunDirectory.claim_for_job(job_directory, path, job)
    found = Plan.from_plain(read_plan(path / "sweep.yaml"), {(group, option): c for group, option, c in classes})
    # Looked up when the job starts, not when it was submitted: a requeued job has rows already.
    missing = missing_of_job(path, found.batches(), found.runs_per_job, job)
    # By the number of the job, not by its directory: a rerun gets a further directory and must find the state.
    checkpoint = Checkpoint(path / "checkpoints" / str(job))
    train_runs(missing, directory, {"sweep": str(path), "job": job}, checkpoint, being_preempted)
