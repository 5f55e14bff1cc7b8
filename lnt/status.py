"""Show how a sweep stands, from its files and, where available, squeue and sacct: python -m lnt.status DIR [--watch]."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from lnt.errors import ConfigError, one_line, printable, require
from lnt.files import DamagedFile, clock_of, read_json
from lnt.plan_file import planned_runs, read_plan
from lnt.runs.owner import SILENT_SECONDS
from lnt.sweeps import slurm
from lnt.sweeps.missing_runs import is_number, tally
from lnt.sweeps.slurm import Queued

WATCH_SECONDS = 15.0  # the controller serves everybody
QUIET_LOOKS = 3  # --watch ends when so often nothing is going on: between two jobs there may be a pause
LINES = 20  # so many jobs are shown one by one


@dataclass(frozen=True)
class Job:
    """One job's directory."""

    number: int
    state: str  # running, completed, preempted, interrupted, failed, died
    done: int
    of: int
    since: datetime
    host: str
    pid: int
    slurm: str | None  # SLURM's name of it
    error: str  # why it failed


@dataclass(frozen=True)
class Scheduler:
    """SLURM's answers about the jobs of a sweep, by the names that SLURM gives them."""

    submitted: set[str]
    queued: Mapping[str, Queued]  # waiting or running
    ended: Mapping[str, str]
    silence: str = ""  # what keeps squeue from answering
    away: bool = False  # there is no squeue on this machine

    @classmethod
    def ask(cls, path: Path) -> "Scheduler":
        """Ask squeue, and sacct for jobs that have left the queue; ask nothing if nothing was submitted."""
        ids = slurm.submitted(path)
        try:
            queued = slurm.queued(ids)
        except slurm.NoAnswer as silence:
            return cls(ids, {}, {}, str(silence))
        if queued is None:
            return cls(ids, {}, slurm.ended(ids), away=True)
        return cls(ids, queued, slurm.ended(ids - set(queued)))

    def state(self, name: str | None) -> str:
        """RUNNING, PENDING, TIMEOUT, ...; empty if unknown."""
        job = self.queued.get(name or "")
        return job.state if job else self.ended.get(name or "", "")


def jobs(path: Path) -> list[Job]:
    """All jobs that have begun, by number."""
    # File times are compared with file times: the clocks of the nodes and of this machine may differ.
    now = clock_of(path)
    files = [file for file in path.glob("*/status.json") if is_number(file.parent.name)]
    return sorted((_job(file, now) for file in files), key=lambda job: job.number)


def _job(status: Path, now: float) -> Job:
    number = int(status.parent.name)
    try:
        said, beat = read_json(status), status.stat().st_mtime
        silent = said["state"] == "running" and now - beat > SILENT_SECONDS
        # A job says `done` in training and when preempted, `runs` at its end, and neither if it was interrupted or raised.
        done = int(said.get("done", said.get("runs", 0)))
        since = datetime.fromisoformat(said["time"])
        who = str(said["host"]), int(said["pid"]), said["slurm"] and str(said["slurm"]), str(said.get("error", ""))
        return Job(number, "died" if silent else str(said["state"]), done, int(said.get("of", done)), since, *who)
    except DamagedFile as error:
        why = str(error)
    except (KeyError, TypeError, ValueError):
        why = f"{status} does not say how the job stands"
    return Job(number, "unreadable", 0, 0, datetime.fromtimestamp(0, UTC), "", 0, None, why)


class Standing(NamedTuple):
    """How a sweep stands."""

    text: str
    complete: bool  # nothing is left to do
    going: bool  # jobs wait or run, or may do so


def describe(path: Path) -> Standing:
    """Describe the sweep. Raises ConfigError if there is none."""
    require((path / "sweep.yaml").is_file(), "DIR", path, "holds no sweep (no sweep.yaml)")
    plan = read_plan(path / "sweep.yaml")
    (counts, errors), found, scheduler = tally(path), jobs(path), Scheduler.ask(path)
    planned, refine = planned_runs(plan), plan.get("refine")
    missing = max(planned - counts.total(), 0)
    states = ", ".join(f"{counts[state]} {state}" for state in ("completed", "diverged", "failed"))
    lines = [f"{planned} runs: {states}, {missing} missing; {path}", *errors]
    if refine:
        lines.append(refine["ended"] or f"refine=boundary has asked for these in {len(refine['rounds'])} rounds, and goes on")
    if found:
        lines.append(f"{len(found)} jobs begun: {_counts(job.state for job in found)}")
    complete = not missing and not counts["failed"] and (not refine or refine["ended"] != "")
    lines += [] if complete else [*_not_begun(path, found, scheduler), *slurm.waiting(scheduler.queued.values()).values()]
    # A completed job needs no line: its runs are in the counts above.
    lines += _some([_line(path, job, scheduler) for job in found if job.state != "completed"])
    seconds = estimate(path, missing, found)
    if seconds is not None:
        lines.append(f"about {seconds:.0f} s left at the pace so far")
    # Not while a job waits or runs: it may do the rest itself.
    known = bool(scheduler.queued) or any(job.state == "running" for job in found)
    if not complete and not known:
        lines.append(_rest(scheduler, str(plan.get("command", "the command that started it"))))
    return Standing("\n".join(map(printable, lines)), complete, known or bool(scheduler.silence))


def _some(lines: list[str]) -> list[str]:
    return [*lines[:LINES], f"  and {len(lines) - LINES} more"] if len(lines) > LINES else lines


def _counts(states: Iterable[str]) -> str:
    return ", ".join(f"{count} {state}" for state, count in Counter(states).items())


def _not_begun(path: Path, found: list[Job], scheduler: Scheduler) -> list[str]:
    """The jobs that were submitted and have written nothing yet: counted, and those that will not begin any more one by one."""
    names = sorted(scheduler.submitted - {job.slurm for job in found if job.slurm})
    # Without an answer of squeue, a job that accounting does not know may be in the queue.
    unknown = "of unknown state" if scheduler.silence or scheduler.away else "gone from the queue"
    states = {name: scheduler.state(name) or unknown for name in names}
    gone = [name for name in names if name not in scheduler.queued and states[name] != "of unknown state"]
    dead = _some([f"  SLURM {name}: {states[name]}{_last_words(path, name)}" for name in gone])
    return [f"submitted, not begun: {_counts(states.values())}", *dead] if names else []


def _last_words(path: Path, name: str) -> str:
    words = slurm.last_words(path, name)
    return f": {words[0]} ({words[1]})" if words else ""


def _rest(scheduler: Scheduler, command: str) -> str:
    """How to finish what is missing, unless jobs that nothing is known of may be at it already."""
    if scheduler.silence:
        return f"jobs may still be waiting or running: {scheduler.silence}; ask again when it answers"
    if scheduler.away:
        return f"there is no squeue here; to finish the rest, if no job of the sweep is in the queue: {command}"
    return f"to finish the rest: {command}"


def _line(path: Path, job: Job, scheduler: Scheduler) -> str:
    state = scheduler.state(job.slurm)
    place = f"SLURM {job.slurm}{f' {state}' if state else ''}" if job.slurm else f"{job.host}:{job.pid}"
    line = f"  job {job.number}: {job.state}, {job.done} of {job.of} runs, {place}, {job.since:%H:%M:%S} UTC"
    if job.error:
        return f"{line}: {job.error}"
    return f"{line}{_last_words(path, job.slurm)}" if job.state == "died" and job.slurm else line


def estimate(path: Path, missing: int, found: list[Job]) -> float | None:
    """Seconds to the end, if the running jobs go on as they did; None without one that has finished a run."""
    running = [job for job in found if job.state == "running"]
    files = [path / str(job.number) / "provenance.json" for job in running]
    starts = [file.stat().st_mtime for file in files if file.exists()]
    # Only of running jobs: those of earlier starts ended long ago and say nothing about the pace now.
    done = sum(job.done for job in running)
    if not starts or not done or not missing:
        return None
    return missing * (clock_of(path) - min(starts)) / done


def main() -> None:
    """Print once, or with --watch until nothing is going on any more."""
    parser = argparse.ArgumentParser(prog="python -m lnt.status", description="How a sweep stands.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="the sweep's directory")
    parser.add_argument("--watch", action="store_true", help=f"again every {WATCH_SECONDS:.0f} s, as long as anything goes on")
    options = parser.parse_args()
    try:
        now, quiet = describe(options.directory), 0
        print(now.text, flush=True)
        while options.watch and not now.complete and quiet < QUIET_LOOKS:
            time.sleep(WATCH_SECONDS)
            now = describe(options.directory)
            quiet = 0 if now.going else quiet + 1
            print(("\x1b[H\x1b[2J" if sys.stdout.isatty() else "") + now.text, flush=True)
    except (ConfigError, OSError) as error:
        sys.exit(f"error: {one_line(error)}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
