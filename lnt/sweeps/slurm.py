"""What SLURM's programs say of the jobs of a sweep.

squeue has three answers: a job is in the queue, it is not, or none, from a program that is slow or a controller that is down.
No answer says nothing about any job, and is raised as NoAnswer. Away from a cluster there is no squeue to ask.
"""

import logging
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lnt.files import last_line

log = logging.getLogger(__name__)
SECONDS_FOR_AN_ANSWER = 30
# Reasons of squeue that stay until somebody does something.
LASTING = re.compile(r"[Hh]eld|Hold|Never|Invalid|NotAllowed|BadConstraints|Partition(Time|Node)Limit|PerJob")
ATTEMPTS = 3  # of a job that is told to end and asks why


class NoAnswer(Exception):
    """A program of SLURM that does not answer, and what it says instead."""


@dataclass(frozen=True)
class Queued:
    """A job in the queue."""

    state: str  # RUNNING, PENDING, COMPLETING, ...
    reason: str  # why it waits: Priority, PartitionTimeLimit, ...; "None" if it does not


def submitted(path: Path) -> set[str]:
    """The SLURM jobs that submitit has made folders for below the sweep's directory: array tasks 17_0, 17_1, a lone job 18."""
    found = {folder.name for folder in (path / ".submitit").glob("*") if re.fullmatch(r"\d+(_\d+)?", folder.name)}
    # An array has a folder too, with the script of its submission.
    return found - {name.split("_")[0] for name in found if "_" in name}


def queued(ids: Collection[str]) -> Mapping[str, Queued] | None:
    """Those of the jobs that are waiting or running; None if there is no squeue here. Raises NoAnswer."""
    if not ids:
        return {}
    # --array: without it, waiting tasks of an array share one line, 17_[3-9].
    said = _ask("squeue", "--noheader", "--array", "--format=%i|%T|%r", f"--jobs={_whole(ids)}")
    if said is None:
        return None
    if said.returncode != 0:
        if "Invalid job id" in said.stderr:
            return {}  # all of them have left the controller's memory
        raise NoAnswer(f"squeue says: {_first_line(said.stderr)}")
    return {name: Queued(*words) for name, *words in _rows(said.stdout, 3) if _is_of(name, ids)}


def waiting(in_queue: Iterable[Queued]) -> dict[str, str]:
    """For each reason why jobs wait, a sentence: how many, and what follows if it does not pass by itself."""
    counts = Counter(job.reason for job in in_queue if job.state == "PENDING")
    advice = "; they do not start by themselves: scontrol release them, or scancel them and start again with other settings"
    return {
        reason: f"{count} jobs wait in SLURM's queue: {reason}{advice if LASTING.search(reason) else ''}"
        for reason, count in counts.items()
        if reason != "None"  # the scheduler has not looked at them yet
    }


def last_words(path: Path, name: str) -> tuple[str, Path] | None:
    """The last line that a job of the sweep at `path` has logged, and where; None if it has said nothing."""
    logs = [path / ".submitit" / name / f"{name}_0_log.{stream}" for stream in ("err", "out")]
    return next(((line, log) for log in logs if (line := last_line(log))), None)


def ended(ids: Collection[str]) -> Mapping[str, str]:
    """The SLURM state of those of the jobs that accounting knows, such as TIMEOUT, OUT_OF_MEMORY; none without an answer."""
    if not ids:
        return {}
    # --allocations: jobs without their steps (17.batch, 17.0).
    options = ("--noheader", "--allocations", "--parsable2", "--format=JobID,State", f"--jobs={_whole(ids)}")
    try:
        said = _ask("sacct", *options)
    except NoAnswer:
        return {}
    rows = _rows(said.stdout, 2) if said and said.returncode == 0 else ()
    return {name: state for names, state in rows for name in _tasks(names) if _is_of(name, ids)}


def largest_array() -> int | None:
    """How many tasks an array may have here; None if SLURM does not say."""
    try:
        said = _ask("scontrol", "show", "config")
    except NoAnswer:
        return None
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", said.stdout, re.MULTILINE) if said else None
    return max(1, int(found[1])) if found else None


def being_preempted() -> bool:
    """Whether SLURM is ending the job that this process is for another one (not for scancel, or a time limit)."""
    if "SLURM_JOB_ID" not in os.environ:
        return False
    for _ in range(ATTEMPTS):  # the work is saved, and nothing else is left to do
        try:
            said = _ask("scontrol", "show", "job", os.environ["SLURM_JOB_ID"])
        except NoAnswer:
            continue
        # The only trace: the signal, SIGTERM, is that of scancel too.
        found = re.search(r"\bPreemptTime=(\S+)", said.stdout) if said else None
        return found is not None and found[1] != "None"
    log.warning("SLURM does not say why it ends this job, which is not requeued; a rerun goes on")
    return False


def _ask(program: str, *options: str) -> subprocess.CompletedProcess[str] | None:
    """Ask one of SLURM's programs; None if it is not there. Raises NoAnswer if it takes too long."""
    if shutil.which(program) is None:
        return None
    try:
        return subprocess.run([program, *options], capture_output=True, text=True, timeout=SECONDS_FOR_AN_ANSWER, check=False)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{program} has not answered in {SECONDS_FOR_AN_ANSWER:.0f} s") from None


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "nothing")


def _whole(ids: Iterable[str]) -> str:
    """Name arrays in place of their tasks: one name stands for thousands of jobs."""
    return ",".join(sorted({i.split("_")[0] for i in ids}))


def _is_of(name: str, ids: Collection[str]) -> bool:
    # By the array too: submitit makes its folder first, and those of its tasks after.
    return name in ids or name.split("_")[0] in ids


def _rows(lines: str, columns: int) -> Iterator[list[str]]:
    """The lines of an answer as words; a line of another form is a remark of the program."""
    words = (line.split("|", columns - 1) for line in lines.splitlines())
    return (row for row in words if len(row) == columns)


def _tasks(name: str) -> Iterator[str]:
    """The tasks that one name of sacct stands for: 17_[0-2,5%3] is 17_0, 17_1, 17_2 and 17_5; another is itself."""
    array = re.fullmatch(r"(\d+)_\[([\d,-]+)(%\d+)?\]", name)
    if array is None:
        yield name
        return
    for part in array[2].split(","):
        first, _, last = part.partition("-")
        yield from (f"{array[1]}_{task}" for task in range(int(first), int(last or first) + 1))
