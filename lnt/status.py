"""Show how a sweep stands, from its files and, where available, squeue and sacct: python -m lnt.status DIR [--watch]."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lnt.errors import ConfigError, printable, require
from lnt.files import DamagedFile, read_json
from lnt.plan_file import planned_runs, read_plan
from lnt.runs.owner import SILENT_SECONDS
from lnt.sweeps import slurm
from lnt.sweeps.missing_runs import is_number, outcomes_so_far

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
    queued: Mapping[str, str] | None  # waiting or running; None: it does not say
    ended: Mapping[str, str]

    @classmethod
    def ask(cls, path: Path) -> "Scheduler":
        """Ask squeue, and sacct for jobs that have left the queue; ask nothing if nothing was submitted."""
        ids = slurm.submitted(path)
        queued = slurm.queued(ids) if ids else {}
        return cls(ids, queued, slurm.ended(ids - set(queued or {})) if ids else {})

    def state(self, name: str | None) -> str:
        """RUNNING, PENDING, TIMEOUT, ...; empty if unknown."""
        return {**self.ended, **(self.queued or {})}.get(name or "", "")


def jobs(path: Path) -> list[Job]:
    """All jobs that have begun, by number."""
    files = [file for file in path.glob("*/status.json") if is_number(file.parent.name)]
    return sorted(map(_job, files), key=lambda job: job.number)


def _job(status: Path) -> Job:
    number = int(status.parent.name)
    try:
        said, beat = read_json(status), status.stat().st_mtime
        silent = said["state"] == "running" and time.time() - beat > SILENT_SECONDS
        # A job says `done` in training and when preempted, `runs` at its end, and neither if it was interrupted or raised.
        done = int(said.get("done", said.get("runs", 0)))
        since = datetime.fromisoformat(said["time"])
        who = str(said["host"]), int(said["pid"]), said["slurm"] and str(said["slurm"]), str(said.get("error", ""))
        return Job(number, "died" if silent else str(said["state"]), done, int(said.get("of", done)), since, *who)
    except DamagedFile as error:
        return Job(number, "unreadable", 0, 0, datetime.fromtimestamp(0, UTC), "", 0, None, str(error))
    except (KeyError, TypeError, ValueError):
        return Job(
            number, "unreadable", 0, 0, datetime.fromtimestamp(0, UTC), "", 0, None, f"{status} does not say how the job stands"
        )


def describe(path: Path) -> tuple[str, bool]:
    """Describe the sweep in words, and say whether nothing is left to do. Raises ConfigError if there is no sweep."""
    require((path / "sweep.yaml").is_file(), "DIR", path, "holds no sweep (no sweep.yaml)")
    plan = read_plan(path / "sweep.yaml")
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
        lines.append(f"to finish the rest: {plan.get('command', 'the command that started it')}")
    return "\n".join(map(printable, lines)), complete


def _counts(states: Iterable[str]) -> str:
    return ", ".join(f"{count} {state}" for state, count in Counter(states).items())


def _not_begun(found: list[Job], scheduler: Scheduler) -> list[str]:
    """Count, in a line, the jobs that were submitted and have written nothing yet."""
    names = scheduler.submitted - {job.slurm for job in found if job.slurm}
    states = _counts(scheduler.state(name) or "of unknown state" for name in sorted(names))
    return [f"submitted, not begun: {states}"] if names else []


def _line(job: Job, scheduler: Scheduler) -> str:
    state = scheduler.state(job.slurm)
    place = f"SLURM {job.slurm}{f' {state}' if state else ''}" if job.slurm else f"{job.host}:{job.pid}"
    line = f"  job {job.number}: {job.state}, {job.done} of {job.of} runs, {place}, {job.since:%H:%M:%S} UTC"
    return f"{line}: {job.error}" if job.error else line


def estimate(path: Path, missing: int, found: list[Job]) -> float | None:
    """Seconds to the end, if the running jobs go on as they did; None without one that has finished a run."""
    running = [job for job in found if job.state == "running"]
    starts = list(filter(None, (_start(path / str(job.number) / "provenance.json") for job in running)))
    # Only of running jobs: those of earlier starts ended long ago and say nothing about the pace now.
    done = sum(job.done for job in running)
    if not starts or not done or not missing:
        return None
    elapsed = (datetime.now(UTC) - min(starts)).total_seconds()
    return missing * elapsed / done


def _start(provenance: Path) -> datetime | None:
    """When a job began, None if its file does not say."""
    try:
        return datetime.fromisoformat(read_json(provenance)["time"]).astimezone(UTC)
    except (DamagedFile, KeyError, TypeError, ValueError):
        return None


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
