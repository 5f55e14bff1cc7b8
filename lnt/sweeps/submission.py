"""Submitting the jobs of a sweep to SLURM, and waiting for them without depending on accounting.

Jobs are submitted by Hydra's submitit launcher and live on their own; results are files. submitit notices a job that died
without a result only through sacct, and without accounting waits for ever. So it waits in a thread, and this process ends when
squeue shows none of the jobs any more, whatever the thread is waiting for.
"""

import logging
import threading
import time
from pathlib import Path

from lnt.errors import ConfigError, require
from lnt.sweeps import slurm
from lnt.sweeps.hydra_internals import JobLauncher

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LOOKS = 10.0  # the controller serves everybody
QUIET_LOOKS = 3  # so often squeue must show nothing: a requeued job is out of it for a moment
UNANSWERED_LOOKS = 60  # with nothing else to wait for, it is waited ten minutes for a controller that is down
SECONDS_BETWEEN_CHECKS = 30  # slurmctld's PERIODIC_TIMEOUT: a signal may come so much early


def check_time(timeout_min: int, signal_delay_s: int) -> None:
    """Raise ConfigError if SLURM would tell a job that its time is over as soon as it starts."""
    limit = 60 * timeout_min - SECONDS_BETWEEN_CHECKS
    allowed = f"must be below {limit} with timeout_min={timeout_min}, or jobs are told to end as they start"
    holds = signal_delay_s < limit
    require(holds, "hydra.launcher.signal_delay_s", signal_delay_s, allowed)


def check_idle(path: Path) -> None:
    """Raise ConfigError unless no job of the sweep at `path` waits or runs: a rerun would train the same again."""
    try:
        in_queue = slurm.queued(slurm.submitted(path)) or {}
    except slurm.NoAnswer as silence:
        allowed = f"its jobs may still be waiting or running, since {silence}; try again when it answers"
        raise ConfigError("hydra.sweep.dir", path, allowed) from None
    # COMPLETING: SLURM cleans up after a job that has ended.
    busy = sorted(name for name, job in in_queue.items() if job.state != "COMPLETING")
    shown = ", ".join([*busy[:3], *(["..."] if len(busy) > 3 else [])])
    allowed = f"{len(busy)} of its jobs are still waiting or running ({shown}); let them end, or scancel them"
    require(not busy, "hydra.sweep.dir", path, allowed)


def launch(launcher: JobLauncher, jobs: list[list[str]], first: int, path: Path) -> None:
    """Launch jobs and wait until none of them is left; a job that fails or dies is said, and does not end the wait."""
    # A rerun finds the folders of jobs that earlier starts have submitted.
    before, problems = slurm.submitted(path), []

    def submit() -> None:
        try:
            launcher.launch(jobs, initial_job_idx=first)
        except Exception as error:  # submitit passes on what happened to the first job that has no result
            problems.append(error)

    # daemon: this process must be able to end while submitit still waits, as it does for ever without accounting.
    thread = threading.Thread(target=submit, daemon=True)
    thread.start()
    quiet = unanswered = 0
    while quiet < QUIET_LOOKS and unanswered < UNANSWERED_LOOKS:
        thread.join(SECONDS_BETWEEN_LOOKS) if thread.is_alive() else time.sleep(SECONDS_BETWEEN_LOOKS)
        own = slurm.submitted(path) - before
        if not thread.is_alive() and not problems:
            return  # every job has brought its result
        if not thread.is_alive() and not own:
            raise problems[0]  # nothing was submitted
        in_queue = _look(own)
        if in_queue is None:
            # While submitit waits for results, a controller that is down costs nothing.
            unanswered += not thread.is_alive()
        else:
            quiet, unanswered = (0 if in_queue else quiet + 1), 0
    for problem in problems:
        log.warning("a job ended without its result: %s", ([type(problem).__name__, *str(problem).strip().splitlines()])[-1])


def _look(own: set[str]) -> dict[str, slurm.Queued] | None:
    """What is in the queue of the jobs that were submitted; None if nothing can be said of them."""
    try:
        found = slurm.queued(own) if own else None
    except slurm.NoAnswer:
        return None
    return None if found is None else dict(found)
