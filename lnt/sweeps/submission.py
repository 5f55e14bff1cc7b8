"""Submitting the jobs of a sweep to SLURM, and waiting for them without depending on accounting.

Jobs are submitted by Hydra's submitit launcher and live on their own; results are files. submitit notices a job that died
without a result only through sacct, and without accounting waits for ever. So it waits in a thread, and this process ends when
squeue shows none of the jobs any more, whatever the thread is waiting for.
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lnt.errors import ConfigError, require
from lnt.sweeps import slurm
from lnt.sweeps.hydra_internals import JobLauncher

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LOOKS = 10.0  # the controller serves everybody
SECONDS_BETWEEN_FOLDERS = 0.2  # an array is submitted when submitit has made the folders of its jobs
QUIET_LOOKS = 3  # so often squeue must show nothing: a requeued job is out of it for a moment
LINES = 5  # so many dead jobs are named
UNANSWERED_LOOKS = 60  # with nothing else to wait for, it is waited ten minutes for a controller that is down
SECONDS_BETWEEN_CHECKS = 30  # slurmctld's PERIODIC_TIMEOUT: a signal may come so much early
PROCESSES = ("nodes", "tasks_per_node", "ntasks_per_node", "ntasks", "ntasks_per_gpu")
GPUS = ("gpus", "gpus_per_node", "gpus_per_task", "gpus_per_socket", "gres")
# The first lines of a job. A signal in its first seconds, which are imports, would end it: so TERM and USR2 are ignored until
# Python runs, and from then on wait, blocked, until training listens (lnt/signals.py). srun starts its tasks with the signals
# as they are by default, so a function of its name wraps submitit's command, the last five words: PYTHON -u -m MODULE FOLDER.
BLOCK = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR2])"
PROGRAM = f'import runpy, signal; {BLOCK}; runpy.run_module("submitit.core._submit", run_name="__main__")'
IGNORE = 'trap "" TERM USR2'
JOB_SETUP = (
    "export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}",  # srun may not inherit it
    IGNORE,
    "srun() {",
    f"""command srun "${{@:1:$#-5}}" bash -c '{IGNORE}; exec "$@"' job "${{@: -5:1}}" -u -c '{PROGRAM}' "${{@: -1}}"\n""",
    "}",
)


def check_cluster() -> None:
    """Raise ConfigError unless jobs can be submitted from here."""
    require(shutil.which("sbatch"), "hydra/launcher", "slurm", "there is no sbatch here; start on a login node of the cluster")


def check(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError for settings of hydra.launcher with which jobs could not train, or would leave unused what they get."""
    limit = 60 * settings["timeout_min"] - SECONDS_BETWEEN_CHECKS
    holds, delay = settings["signal_delay_s"] < limit, settings["signal_delay_s"]
    allowed = f"must be below {limit} with timeout_min={settings['timeout_min']}, or jobs are told to end as they start"
    require(holds, "hydra.launcher.signal_delay_s", delay, allowed)
    both = settings.get("mem_gb") is None or settings.get("mem_per_cpu") is None
    allowed = "excludes mem_gb; add hydra.launcher.mem_gb=null"
    require(both, "hydra.launcher.mem_per_cpu", settings.get("mem_per_cpu"), allowed)
    own = {f"hydra.launcher.{key}": value for key, value in settings.items()}
    added = settings.get("additional_parameters") or {}
    for name, value in {
        **own,
        **{f"hydra.launcher.additional_parameters.{key}": value for key, value in added.items()},
    }.items():
        key = name.rpartition(".")[2].replace("-", "_")
        alone = key not in PROCESSES or value in (None, 1, "1")
        require(alone, name, value, "must be 1: a job is one process; hydra.sweeper.runs_per_job makes more jobs")
        one = key not in GPUS or gpus(key, value) <= 1
        require(one, name, value, "a job trains on one GPU; hydra.sweeper.runs_per_job makes more jobs, each with its own")


def gpus(key: str, value: Any) -> int:
    """How many GPUs a value of sbatch asks for: 2, a100:2, or in gres among other resources gpu:a100:2,shard:4."""
    items = [item for item in str(value or 0).split(",") if key != "gres" or "gpu" in item]
    numbers = (item.rpartition(":")[2] for item in items)
    return sum(int(number) if number.isdigit() else 1 for number in numbers)


def flags(added: Mapping[str, Any] | None) -> dict[str, Any]:
    """additional_parameters as submitit takes them: true makes a flag, false its opposite or nothing; the last word counts."""
    given: dict[str, Any] = {}
    for key, value in (added or {}).items():
        name = key.replace("_", "-")
        # One setting under two names; sbatch would heed the one that submitit happens to write last.
        given |= {"requeue": not value} if name == "no-requeue" else {name: value}
    if given.get("requeue") is False:
        given = {**given, "requeue": None, "no-requeue": True}
    return {key: value for key, value in given.items() if value is not None and value is not False}


def leave_allocation() -> None:
    """Forget the allocation that this process is in: sbatch would hand on, say, its SLURM_MEM_PER_CPU to jobs with --mem."""
    # submitit's clean_env also drops SLURM_CONF and SBATCH_*, which users and sites set.
    if "SLURM_JOB_ID" in os.environ:
        for name in [name for name in os.environ if name.startswith(("SLURM_", "SRUN_")) and name != "SLURM_CONF"]:
            del os.environ[name]


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


class Array(threading.Thread):
    """Jobs that are submitted together; the thread lives until submitit has a result of each of them."""

    def __init__(self, launcher: JobLauncher, jobs: list[list[str]], first: int) -> None:
        # daemon: this process must be able to end while submitit still waits, as it does for ever without accounting.
        super().__init__(daemon=True)
        self.launcher, self.jobs, self.first = launcher, jobs, first
        self.problem: Exception | None = None

    def run(self) -> None:
        try:
            self.launcher.launch(self.jobs, self.first)
        except Exception as error:
            self.problem = error  # what happened to the first job that has no result, or kept all from being submitted


def launch(launcher: JobLauncher, jobs: list[list[str]], first: int, path: Path) -> None:
    """Launch jobs and wait until none of them is left; a job that fails or dies is said, and does not end the wait.

    Raises ConfigError if sbatch refuses all of them.
    """
    leave_allocation()
    size = slurm.largest_array() or len(jobs)
    starts = range(0, len(jobs), size)
    settings, given = launcher.settings, dict(launcher.settings)
    settings["setup"] = [*JOB_SETUP, *(settings.get("setup") or [])]
    settings["additional_parameters"] = flags(settings.get("additional_parameters"))
    # The bound is one for the sweep, and SLURM heeds it array by array.
    settings["array_parallelism"] = max(1, settings["array_parallelism"] // len(starts))
    arrays = [Array(launcher, jobs[start : start + size], first + start) for start in starts]
    # A rerun finds the folders of jobs that earlier starts have submitted.
    before = slurm.submitted(path)
    try:
        submit(arrays, path)
        wait(arrays, before, path)
    finally:
        settings.update(given)  # refine=boundary launches again


def submit(arrays: list[Array], path: Path) -> None:
    """Submit one array after another, until sbatch refuses one. Raises ConfigError if that is the first."""
    for number, array in enumerate(arrays):
        before = slurm.submitted(path)
        array.start()
        while array.is_alive() and len(slurm.submitted(path)) < len(before) + len(array.jobs):
            array.join(SECONDS_BETWEEN_FOLDERS)
        if array.problem is None or slurm.submitted(path) != before:
            continue
        words = refusal(array.problem)
        if number == 0:
            total = sum(len(each.jobs) for each in arrays)
            allowed = (
                f"{words}; nothing is submitted, and the same command tries again, also with other hydra.launcher settings"
            )
            raise ConfigError("jobs", total, allowed) from None
        log.warning("%s; %d jobs are submitted, and a rerun submits the rest", words, sum(len(e.jobs) for e in arrays[:number]))
        del arrays[number:]
        return


def refusal(problem: Exception) -> str:
    """The words of sbatch. Raises anything else that keeps jobs from being submitted: a fault, which keeps its traceback."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if not isinstance(problem, FailedJobError | FailedSubmissionError):
        raise problem
    lines = (line.removeprefix("sbatch: error: ").strip() for line in str(problem).splitlines())
    return f"sbatch refuses them: {'; '.join(line for line in lines if line) or 'without a word'}"


def wait(arrays: list[Array], before: set[str], path: Path) -> None:
    """Wait until every job has brought its result, or none is in the queue any more; `before` are jobs of earlier starts."""
    quiet = unanswered = 0
    told: set[str] = set()
    while quiet < QUIET_LOOKS and unanswered < UNANSWERED_LOOKS:
        alive = [array for array in arrays if array.is_alive()]
        alive[0].join(SECONDS_BETWEEN_LOOKS) if alive else time.sleep(SECONDS_BETWEEN_LOOKS)
        ended = not any(array.is_alive() for array in arrays)
        if ended and not any(array.problem for array in arrays):
            return
        in_queue = _look(slurm.submitted(path) - before)
        if in_queue is None:
            # While submitit waits for results, a controller that is down costs nothing.
            unanswered += ended
            continue
        quiet, unanswered = (0 if in_queue else quiet + 1), 0
        for reason, sentence in slurm.waiting(in_queue.values()).items():
            if reason not in told:
                log.warning(sentence)
        told |= {job.reason for job in in_queue.values()}
    for problem in filter(None, (array.problem for array in arrays)):
        log.warning("a job has failed: %s", [type(problem).__name__, *str(problem).strip().splitlines()][-1])
    say_deaths(path, slurm.submitted(path) - before)


def say_deaths(path: Path, own: set[str]) -> None:
    """Say of the jobs that ended without a result what SLURM calls it, and what they said last."""
    # submitit writes one for a job that has raised too.
    lost = sorted(name for name in own if not (path / ".submitit" / name / f"{name}_0_result.pkl").exists())
    states = slurm.ended(lost)
    for name in lost[:LINES]:
        words = slurm.last_words(path, name)
        said = f": {words[0]} (in {words[1]})" if words else ", and has logged nothing"
        log.warning("SLURM job %s has ended without a result%s%s", name, f" ({states[name]})" if name in states else "", said)
    if len(lost) > LINES:
        log.warning("and %d more jobs", len(lost) - LINES)


def _look(own: set[str]) -> dict[str, slurm.Queued] | None:
    """What is in the queue of the jobs that were submitted; None if nothing can be said of them."""
    try:
        found = slurm.queued(own) if own else None
    except slurm.NoAnswer:
        return None
    return None if found is None else dict(found)
