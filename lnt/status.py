"""How a sweep stands, from its files alone, and from squeue where there is one: python -m lnt.status DIR [--watch]."""

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from lnt.cluster import queued
from lnt.config import ConfigError, require
from lnt.sweep import BEAT_SECONDS, outcomes_so_far, planned_runs

SILENT_SECONDS = 4 * BEAT_SECONDS  # a running job that gave no sign of life for so long has died
WATCH_SECONDS = 2.0


@dataclass(frozen=True)
class Job:
    """One job's directory."""

    number: int
    state: str  # running, completed, preempted, interrupted, failed, died
    done: int
    of: int
    since: datetime
    place: str  # SLURM's name of it, or host and process
    queue: str  # SLURM's state, empty if it has none


def jobs(path: Path) -> list[Job]:
    """All jobs that have begun, by number."""
    found: list[tuple[int, dict[str, Any], float]] = []
    for status in path.glob("*/status.json"):
        if status.parent.name.isdigit():
            found.append((int(status.parent.name), json.loads(status.read_text()), status.stat().st_mtime))
    slurm = {said["slurm"] for _, said, _ in found if said.get("slurm")}
    states = (queued(slurm) if slurm else None) or {}
    rows = []
    for number, said, beat in sorted(found, key=lambda entry: entry[0]):
        state = said["state"]
        if state == "running" and time.time() - beat > SILENT_SECONDS:
            state = "died"
        done = said.get("done", said.get("runs", 0))
        place = said.get("slurm") or f"{said['host']}:{said['pid']}"
        since = datetime.fromisoformat(said["time"])
        rows.append(Job(number, state, done, said.get("of", done), since, place, states.get(said.get("slurm") or "", "")))
    return rows


def describe(path: Path) -> tuple[str, bool]:
    """The sweep in words, and whether nothing is left to do. Raises ConfigError if there is no sweep."""
    require((path / "sweep.yaml").is_file(), "DIR", path, "holds no sweep (no sweep.yaml)")
    plan = yaml.safe_load((path / "sweep.yaml").read_text())
    planned, counts = planned_runs(plan), Counter(outcomes_so_far(path))
    missing, found = planned - counts.total(), jobs(path)
    states = ", ".join(f"{counts[state]} {state}" for state in ("completed", "diverged", "failed"))
    lines = [f"{planned} runs: {states}, {missing} missing; {path}"]
    if found:
        of_jobs = Counter(job.state for job in found)
        lines.append(f"{len(found)} jobs begun: " + ", ".join(f"{count} {state}" for state, count in of_jobs.items()))
    for job in found:
        if job.state != "completed":
            queue = f", SLURM: {job.queue}" if job.queue else ""
            lines.append(
                f"  job {job.number}: {job.state}, {job.done} of {job.of} runs, {job.place}, {job.since:%H:%M:%S}{queue}"
            )
    seconds = estimate(path, missing, found)
    if seconds is not None:
        lines.append(f"about {seconds:.0f} s left at the pace so far")
    complete = not missing and not counts["failed"]
    if not complete and not any(job.state == "running" or job.queue for job in found):
        lines.append(f"to finish the rest: {plan['command']}")
    return "\n".join(lines), complete


def estimate(path: Path, missing: int, found: list[Job]) -> float | None:
    """Seconds to the end, if the running jobs go on as they did; None without one that has finished a run."""
    running = [job for job in found if job.state == "running"]
    starts = [
        json.loads((path / str(job.number) / "provenance.json").read_text())["time"]
        for job in running
        if (path / str(job.number) / "provenance.json").exists()
    ]
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
