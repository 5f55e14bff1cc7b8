"""SLURM as seen from the launching process: waiting for the jobs of a sweep without depending on accounting.

Jobs are submitted by Hydra's submitit launcher and live on their own; results are files. submitit notices a job that died
without a result only through sacct, and without accounting waits for ever. So it waits in a thread, and this process ends when
squeue shows none of the jobs any more, whatever the thread is waiting for.
"""

import logging
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from lnt.errors import require
from lnt.sweeps.hydra_internals import JobLauncher

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LOOKS = 10.0  # the controller serves everybody
QUIET_LOOKS = 3  # so often squeue must show nothing: a requeued job is out of it for a moment
UNANSWERED_LOOKS = 60  # with nothing else to wait for, it is waited ten minutes for a controller that is down
SECONDS_FOR_AN_ANSWER = 30
SECONDS_BETWEEN_CHECKS = 30  # slurmctld's PERIODIC_TIMEOUT: a signal may come so much early


def submitted(path: Path) -> set[str]:
    """The SLURM jobs that submitit has made folders for below the sweep's directory: array tasks 17_0, 17_1, a lone job 18."""
    return {folder.name for folder in (path / ".submitit").glob("*") if re.fullmatch(r"\d+(_\d+)?", folder.name)}


def queued(ids: Collection[str]) -> Mapping[str, str] | None:
    """The SLURM state of those of the jobs that are waiting or running; None if squeue does not answer."""
    # --array: without it, waiting tasks of an array share one line, 17_[3-9].
    said = _ask("squeue", "--noheader", "--array", "--format=%i|%T", f"--jobs={_whole(ids)}")
    if said is None:
        return None
    if said.returncode != 0:
        return {} if "Invalid job id" in said.stderr else None  # all of them have left the controller's memory
    return _states(said.stdout, ids)


def ended(ids: Collection[str]) -> Mapping[str, str]:
    """The SLURM state of those of the jobs that accounting knows, such as TIMEOUT, OUT_OF_MEMORY; none without accounting."""
    # --allocations: jobs without their steps (17.batch, 17.0).
    said = _ask("sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID,State", f"--jobs={_whole(ids)}")
    return {} if said is None or said.returncode != 0 else _states(said.stdout, ids)


def being_preempted() -> bool:
    """Whether SLURM is ending the job that this process is for another one (not for scancel, or a time limit)."""
    said = _ask("scontrol", "show", "job", os.environ["SLURM_JOB_ID"]) if "SLURM_JOB_ID" in os.environ else None
    # The only trace: the signal, SIGTERM, is that of scancel too.
    found = re.search(r"\bPreemptTime=(\S+)", said.stdout) if said else None
    return found is not None and found[1] != "None"


def _ask(program: str, *options: str) -> subprocess.CompletedProcess[str] | None:
    """Ask one of SLURM's programs; None if it is not there, or does not answer."""
    if shutil.which(program) is None:
        return None
    try:
        return subprocess.run([program, *options], capture_output=True, text=True, timeout=SECONDS_FOR_AN_ANSWER, check=False)
    except subprocess.TimeoutExpired:
        return None


def _whole(ids: Iterable[str]) -> str:
    """Name arrays in place of their tasks: one name stands for thousands of jobs."""
    return ",".join(sorted({i.split("_")[0] for i in ids}))


def _states(lines: str, ids: Collection[str]) -> dict[str, str]:
    # An answer has all tasks of an array, `ids` maybe some of them.
    states = dict(line.split("|") for line in lines.splitlines())
    return {name: state for name, state in states.items() if name in ids}


def check_time(timeout_min: int, signal_delay_s: int) -> None:
    """Raise ConfigError if SLURM would tell a job that its time is over as soon as it starts."""
    limit = 60 * timeout_min - SECONDS_BETWEEN_CHECKS
    allowed = f"must be below {limit} with timeout_min={timeout_min}, or jobs are told to end as they start"
    holds = signal_delay_s < limit
    require(holds, "hydra.launcher.signal_delay_s", signal_delay_s, allowed)


def check_idle(path: Path) -> None:
    """Raise ConfigError if jobs of the sweep at `path` are still waiting or running: a rerun would train the same again."""
    own = submitted(path)
    states = (queued(own) if own else None) or {}
    # COMPLETING: SLURM cleans up after a job that has ended.
    busy = {name for name, state in states.items() if state != "COMPLETING"}
    allowed = f"{len(busy)} of its jobs are still waiting or running ({', '.join(sorted(busy))}); let them end, or scancel them"
    require(not busy, "hydra.sweep.dir", path, allowed)


def launch(launcher: JobLauncher, jobs: list[list[str]], first: int, path: Path) -> None:
    """Launch jobs and wait until none of them is left; a job that fails or dies is said, and does not end the wait."""
    # A rerun finds the folders of jobs that earlier starts have submitted.
    before, problems = submitted(path), []

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
        own = submitted(path) - before
        if not thread.is_alive() and not problems:
            return  # every job has brought its result
        if not thread.is_alive() and not own:
            raise problems[0]  # nothing was submitted
        states = queued(own) if own else None
        if states is None:
            # While submitit waits for results, a controller that is down costs nothing.
            unanswered += not thread.is_alive()
        else:
            quiet, unanswered = (0 if states else quiet + 1), 0
    for problem in problems:
        log.warning("a job ended without its result: %s", ([type(problem).__name__, *str(problem).strip().splitlines()])[-1])
