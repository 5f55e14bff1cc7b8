"""Show how a sweep stands, from its files and, where available, squeue and sacct: python -m lnt.status DIR [--watch]."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from lnt.errors import ConfigError, require
from lnt.runs.heartbeat import BEAT_SECONDS
from lnt.sweeps import slurm
from lnt.sweeps.missing_runs import outcomes_so_far, planned_runs
from lnt.sweeps.slurm import Queued

SILENT_SECONDS = 4 * BEAT_SECONDS  # a running job that has not touched its status for so long has died
WATCH_SECONDS = 5.0
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
    found = []
    for status in path.glob("*/status.json"):
        if status.parent.name.isdigit():
            said, beat = json.loads(status.read_text()), status.stat().st_mtime
            silent = said["state"] == "running" and time.time() - beat > SILENT_SECONDS
            # A job says `done` in training and when preempted, `runs` at its end, and neither if it was interrupted or raised.
            done = said.get("done", said.get("runs", 0))
            since = datetime.fromisoformat(said["time"])
            who = said["host"], said["pid"], said["slurm"], said.get("error", "")
            state = "died" if silent else said["state"]
            found.append(Job(int(status.parent.name), state, done, said.get("of", done), since, *who))
    return sorted(found, key=lambda job: job.number)


def describe(path: Path) -> tuple[str, bool]:
    """Describe the sweep in words, and say whether nothing is left to do. Raises ConfigError if there is no sweep."""
    require((path / "sweep.yaml").is_file(), "DIR", path, "holds no sweep (no sweep.yaml)")
    plan = yaml.safe_load((path / "sweep.yaml").read_text())
    planned, counts = planned_runs(plan), Counter(outcomes_so_far(path).values())
    missing, found, scheduler = planned - counts.total(), jobs(path), Scheduler.ask(path)
    states = ", ".join(f"{counts[state]} {state}" for state in ("completed", "diverged", "failed"))
    lines = [f"{planned} runs: {states}, {missing} missing; {path}"]
    if found:
        lines.append(f"{len(found)} jobs begun: {_counts(job.state for job in found)}")
    complete = not missing and not counts["failed"]
    lines += [] if complete else _not_begun(found, scheduler)
    # A completed job needs no line: its runs are in the counts above.
    shown = [_line(job, scheduler) for job in found if job.state != "completed"]
    lines += [*shown[:LINES], f"  and {len(shown) - LINES} more"] if len(shown) > LINES else shown
    seconds = estimate(path, missing, found)
    if seconds is not None:
        lines.append(f"about {seconds:.0f} s left at the pace so far")
    # Not while a job waits or runs: it may do the rest itself.
    if not complete and not scheduler.queued and not any(job.state == "running" for job in found):
        lines.append(_rest(scheduler, plan["command"]))
    return "\n".join(lines), complete


def _counts(states: Iterable[str]) -> str:
    return ", ".join(f"{count} {state}" for state, count in Counter(states).items())


def _not_begun(found: list[Job], scheduler: Scheduler) -> list[str]:
    """Count, in a line, the jobs that were submitted and have written nothing yet."""
    names = scheduler.submitted - {job.slurm for job in found if job.slurm}
    states = _counts(scheduler.state(name) or "of unknown state" for name in sorted(names))
    return [f"submitted, not begun: {states}"] if names else []


def _rest(scheduler: Scheduler, command: str) -> str:
    """How to finish what is missing, unless jobs that nothing is known of may be at it already."""
    if scheduler.silence:
        return f"jobs may still be waiting or running: {scheduler.silence}; ask again when it answers"
    if scheduler.away:
        return f"there is no squeue here; to finish the rest, if no job of the sweep is in the queue: {command}"
    return f"to finish the rest: {command}"


def _line(job: Job, scheduler: Scheduler) -> str:
    state = scheduler.state(job.slurm)
    place = f"SLURM {job.slurm}{f' {state}' if state else ''}" if job.slurm else f"{job.host}:{job.pid}"
    line = f"  job {job.number}: {job.state}, {job.done} of {job.of} runs, {place}, {job.since:%H:%M:%S} UTC"
    return f"{line}: {job.error}" if job.error else line


def estimate(path: Path, missing: int, found: list[Job]) -> float | None:
    """Seconds to the end, if the running jobs go on as they did; None without one that has finished a run."""
    running = [job for job in found if job.state == "running"]
    starts = [
        json.loads((path / str(job.number) / "provenance.json").read_text())["time"]
        for job in running
        if (path / str(job.number) / "provenance.json").exists()
    ]
    # Only of running jobs: those of earlier starts ended long ago and say nothing about the pace now.
    done = sum(job.done for job in running)
    if not starts or not done or not missing:
        return None
    elapsed = (datetime.now(UTC) - min(datetime.fromisoformat(start) for start in starts)).total_seconds()
    return missing * elapsed / done


def main() -> None:
    """Print once, or with --watch until nothing is left to do."""
    parser = argparse.ArgumentParser(prog="python -m lnt.status", description="How a sweep stands.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="the sweep's directory")
    parser.add_argument("--watch", action="store_true", help=f"again every {WATCH_SECONDS:.0f} s")
    options = parser.parse_args()
    try:
        text, complete = describe(options.directory)
        print(text, flush=True)
        while options.watch and not complete:
            time.sleep(WATCH_SECONDS)
            text, complete = describe(options.directory)
            print(("\x1b[H\x1b[2J" if sys.stdout.isatty() else "") + text, flush=True)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
