"""How sweeps and single runs stand, from their files and, where available, squeue and sacct."""

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lnt.errors import ConfigError, one_line, printable, require
from lnt.files import DamagedFile, clock_of, read_json, stamp
from lnt.plan_file import planned_runs, read_plan
from lnt.progress import in_words
from lnt.runs.owner import SILENT_SECONDS, is_owned
from lnt.sweeps import slurm
from lnt.sweeps.missing_runs import Tallies, is_number, job_of, tally
from lnt.sweeps.slurm import Queued

SECONDS_BETWEEN_QUESTIONS = 15.0  # the controller serves everybody
LINES = 20  # so many jobs are shown one by one
LONGEST, LARGEST = 200, 10**12  # of a text and of a number that a file may hold to be shown
# Those that go on come first, then those that want something of the user.
ORDER = ("running", "waiting", "failed", "died", "unreadable", "incomplete", "preempted", "interrupted", "completed")


@dataclass(frozen=True)
class Job:
    """One job's directory, or a single run's."""

    number: int
    state: str  # running, completed, preempted, interrupted, failed, died
    done: int
    of: int
    since: datetime
    host: str
    pid: int
    slurm: str | None  # SLURM's name of it
    error: str  # why it failed
    age: float = 0.0  # seconds since its last sign of life
    share: float | None = None  # of its work that is done
    left: float | None = None  # seconds, by its own estimate
    at: str = ""  # the step or epoch of the runs in hand


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


@dataclass(frozen=True)
class Row:
    """A job of a sweep, or one of several sweeps and runs."""

    name: str
    state: str
    done: int
    of: int
    share: float  # of its work that is done
    age: float | None = None  # seconds since its last sign of life
    left: float | None = None  # seconds
    at: str = ""
    note: str = ""  # where it runs
    problem: str = ""  # why it failed

    def __str__(self) -> str:
        left = "" if self.left is None else f"about {in_words(self.left)} left"
        seen = f"seen {in_words(self.age)} ago" if self.age is not None and self.state in ("running", "died") else ""
        said = (self.state, f"{self.done} of {self.of} runs", self.note, self.at, left, seen)
        return f"  {self.name}: {', '.join(filter(None, said))}{f': {self.problem}' if self.problem else ''}"


@dataclass(frozen=True)
class Standing:
    """How a sweep stands, a single run, or several of them."""

    name: str
    done: int  # runs
    of: int
    counts: str  # of runs, by how they ended
    rows: Sequence[Row] = ()
    errors: Sequence[str] = ()  # of runs that failed
    jobs: Sequence[str] = ()  # about all jobs
    advice: Sequence[str] = ()  # what to do
    left: float | None = None  # seconds
    share: float = 0.0  # of the work that is done
    state: str = "incomplete"
    complete: bool = False  # nothing is left to do
    going: bool = False  # jobs wait or run, or may do so

    @property
    def text(self) -> str:
        """In plain lines."""
        # A completed job needs no line: its runs are in the counts above.
        rows, rest = some([row for row in self.rows if row.state != "completed"], LINES)
        left = [] if self.left is None else [f"about {in_words(self.left)} left"]
        lines = [f"{self.counts}; {self.name}", *self.errors, *self.jobs, *map(str, rows), *rest, *left, *self.advice]
        return "\n".join(map(printable, lines))


@dataclass
class Seen:
    """What somebody who looks again need not find out again."""

    tallies: Tallies = field(default_factory=dict)
    plans: dict[Path, tuple[tuple[int, ...], dict[str, Any]]] = field(default_factory=dict)
    answers: dict[Path, tuple[float, Scheduler]] = field(default_factory=dict)

    def plan(self, file: Path) -> dict[str, Any]:
        """The plan in a file, read again once that has changed. Raises DamagedFile."""
        now = stamp(file)
        if not now or self.plans.get(file, ((), {}))[0] != now:
            self.plans[file] = now, read_plan(file)
        return self.plans[file][1]

    def scheduler(self, path: Path) -> Scheduler:
        """What SLURM says, asked again after SECONDS_BETWEEN_QUESTIONS."""
        asked, answer = self.answers.get(path, (0.0, None))
        if answer is None or time.monotonic() - asked >= SECONDS_BETWEEN_QUESTIONS:
            answer = Scheduler.ask(path)
            self.answers[path] = time.monotonic(), answer
        return answer


def describe(path: Path, seen: Seen | None = None) -> Standing:
    """Describe a sweep, a run, or those below a folder. Raises ConfigError if there are none; OSError."""
    places, seen = studies_below(path), Seen() if seen is None else seen
    nothing = "holds no sweep and no run (no sweep.yaml, no status.json), and neither does a folder below it"
    require(bool(places), "DIR", path, nothing)
    return _one(path, seen) if places == [path] else _several(path, places, seen)


def studies_below(path: Path) -> list[Path]:
    """The directories of sweeps and of single runs: `path` itself, or those below it; links are not followed."""
    found = []
    for folder, below, files in os.walk(path):
        if {"sweep.yaml", "status.json"} & set(files):
            found.append(Path(folder))
            below.clear()
        below[:] = sorted(name for name in below if not name.startswith("."))
    return found


def _one(path: Path, seen: Seen) -> Standing:
    return _sweep(path, seen) if (path / "sweep.yaml").exists() else _run(path)


def _sweep(path: Path, seen: Seen) -> Standing:
    plan = seen.plan(path / "sweep.yaml")
    # Jobs first: what they say is done has rows then, and a run that ends meanwhile is not counted as one that nobody has.
    begun, (counts, errors), scheduler = jobs(path), tally(path, seen.tallies), seen.scheduler(path)
    found = latest(path, begun)
    planned, refine = planned_runs(plan), plan.get("refine")
    missing = max(planned - counts.total(), 0)
    ended = ", ".join(f"{counts[state]} {state}" for state in ("completed", "diverged", "failed"))
    if refine:
        errors.append(refine["ended"] or f"refine=boundary has asked for these in {len(refine['rounds'])} rounds, and goes on")
    complete = not missing and not counts["failed"] and (not refine or refine["ended"] != "")
    running = [job for job in found if job.state == "running"]
    known = bool(scheduler.queued or running) or is_owned(path / ".owner")
    # Not while a job waits or runs: it may do the rest itself.
    advice = [] if complete or known else [_rest(scheduler, str(plan.get("command", "the command that started it")))]
    to_come = 0 if refine or scheduler.submitted or complete else max(-(-planned // plan["runs_per_job"]) - len(found), 0)
    not_begun = f"; {to_come} not begun" if to_come else ""
    about = [f"{len(found)} jobs begun: {in_all(job.state for job in found)}{not_begun}"] if found else []
    about += [] if complete else [*_not_begun(path, begun, scheduler), *slurm.waiting(scheduler.queued.values()).values()]
    return Standing(
        name=str(path),
        done=planned - missing,
        of=planned,
        counts=f"{planned} runs: {ended}, {missing} missing",
        rows=sorted((_row(path, job, scheduler) for job in found), key=_place),
        errors=errors,
        jobs=about,
        advice=advice,
        left=seconds_left(missing, running),
        share=_share(planned, missing, running),
        state="completed" if complete else "running" if running else "waiting" if known else "incomplete",
        complete=complete,
        going=known or bool(scheduler.silence),
    )


def _run(path: Path) -> Standing:
    """A single run, or a job's directory by itself."""
    job = _job(path / "status.json", clock_of(path))
    if job is None:
        raise DamagedFile(path / "status.json", "is not there")
    of = max(job.of, 1)
    again = f"to go on: the command that started it, with hydra.run.dir={path}"
    return Standing(
        name=str(path),
        done=job.done,
        of=of,
        counts=f"{of} run{'s' if of > 1 else ''}: {job.state}",
        rows=[_row(path, job, Scheduler(set(), {}, {}), "run" if of == 1 else "job")],
        advice=[] if job.state in ("running", "completed") else [again],
        left=job.left,
        share=_done(job),
        state=job.state,
        complete=job.state == "completed",
        going=job.state == "running",
    )


def _several(path: Path, places: Sequence[Path], seen: Seen) -> Standing:
    """The sweeps and runs below a folder."""
    found, rows = [], []
    for place in places:
        name = str(place.relative_to(path))
        try:
            now = _one(place, seen)
        except (ConfigError, OSError) as error:
            rows.append(Row(name, "unreadable", 0, 0, 0.0, problem=one_line(error)))
            continue
        found.append(now)
        ages = [row.age for row in now.rows if row.age is not None]
        at = now.rows[0].at if len(now.rows) == 1 else ""
        note = f"jobs: {in_all(row.state for row in now.rows)}" if len(now.rows) > 1 else now.rows[0].note if now.rows else ""
        problem = next((row.problem for row in now.rows if row.problem), next(iter(now.errors), "").strip())
        problem = "" if now.state in ("running", "completed") else problem
        rows.append(Row(name, now.state, now.done, now.of, now.share, min(ages, default=None), now.left, at, note, problem))
    rows.sort(key=_place)
    states = in_all(row.state for row in rows)
    done, of = sum(now.done for now in found), sum(now.of for now in found)
    active = [now.left for now in found if now.going]
    complete, going = all(row.state == "completed" for row in rows), any(now.going for now in found)
    return Standing(
        name=str(path),
        done=done,
        of=of,
        counts=f"{len(places)} sweeps and runs: {states}; {done} of {of} runs done",
        rows=rows,
        # Of those that are at work: the last of them to end.
        left=max((left for left in active if left is not None), default=None) if None not in active else None,
        share=sum(now.share * now.of for now in found) / of if of else 0.0,
        state="completed" if complete else "running" if going else "incomplete",
        complete=complete,
        going=going,
    )


def jobs(path: Path) -> list[Job]:
    """All jobs that have begun, by the number of their directory."""
    # File times are compared with file times: the clocks of the nodes and of this machine may differ.
    now = clock_of(path)
    found = (_job(file, now) for file in path.glob("*/status.json") if is_number(file.parent.name))
    return sorted(filter(None, found), key=lambda job: job.number)


def latest(path: Path, begun: Sequence[Job]) -> list[Job]:
    """The jobs without those that a rerun has begun again: it gives them a further directory."""
    whose = {job.number: job_of(path / str(job.number)) for job in begun}
    last = {job: number for number, job in whose.items()}  # the highest number of each
    return [job for job in begun if whose[job.number] is None or last[whose[job.number]] == job.number]


def _job(status: Path, now: float) -> Job | None:
    """What a status.json says; None if it has vanished."""
    number = int(status.parent.name) if is_number(status.parent.name) else 0
    try:
        said, age = read_json(status), max(now - status.stat().st_mtime, 0.0)
        silent = said["state"] == "running" and age > SILENT_SECONDS
        # A job says `done` in training and when preempted, `runs` at its end, and neither if it was interrupted or raised.
        done = int(said.get("done", said.get("runs", 0)))
        of, pid, since = int(said.get("of", done)), int(said["pid"]), datetime.fromisoformat(said["time"])
        if not (0 <= done <= LARGEST and 0 <= of <= LARGEST and abs(pid) <= LARGEST):
            raise ValueError
        words = [str(said.get(key) or "")[:LONGEST] for key in ("state", "host", "slurm", "error", "at")]
        state, host, name, error, at = words
        job = Job(number, "died" if silent else state, done, of, since, host, pid, name or None, error, age)
        if job.state != "running":
            return job
        return replace(job, share=_in(said.get("share"), 1), left=_in(said.get("left"), LARGEST), at=at)
    except FileNotFoundError:
        return None
    except DamagedFile as error:
        if not status.exists():
            return None
        why = str(error)
    except (KeyError, TypeError, ValueError, OverflowError):
        why = f"{status} does not say how the job stands"
    return Job(number, "unreadable", 0, 0, datetime.fromtimestamp(0, UTC), "", 0, None, why)


def _in(value: object, most: float) -> float | None:
    """A number of a file, if it is one from 0 to `most`."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= most else None


def _row(path: Path, job: Job, scheduler: Scheduler, name: str = "") -> Row:
    state = scheduler.state(job.slurm)
    place = f"SLURM {job.slurm}{f' {state}' if state else ''}" if job.slurm else f"{job.host}:{job.pid}"
    problem = job.error or (_last_words(path, job.slurm) if job.state == "died" and job.slurm else "")
    note = f"{place}, {job.since:%H:%M:%S} UTC"
    own = name or f"job {job.number}"
    return Row(own, job.state, job.done, job.of, _done(job), job.age, job.left, job.at, note, problem)


def _done(job: Job) -> float:
    """The share of a job's work that is done."""
    if job.state == "completed":
        return 1.0
    return job.share if job.share is not None else min(job.done / job.of, 1.0) if job.of else 0.0


def _place(row: Row) -> int:
    """Rows that go on come first; others stay in their order."""
    return ORDER.index(row.state) if row.state in ORDER else len(ORDER)


def _share(planned: int, missing: int, running: Sequence[Job]) -> float:
    """The share of a sweep's runs that is done, with the parts of those that are in work."""
    in_work = sum(max(_done(job) * job.of - job.done, 0.0) for job in running)
    return min((planned - missing + in_work) / planned, 1.0) if planned else 1.0


def seconds_left(missing: int, running: Sequence[Job]) -> float | None:
    """Seconds to the end of `missing` runs, of which the running jobs do their own; None if none of them knows its time.

    A job that does not know its time yet is as fast as the others in the mean; these take up runs that no job has.
    """
    known = [job for job in running if job.left and job.share is not None and job.share < 1 and job.of]
    if not known or not missing:
        return None
    pace = sum((1 - (job.share or 0.0)) * job.of / (job.left or 1.0) for job in known) / len(known)  # runs a second of one job
    lefts = [job.left if job in known and job.left else max(job.of - job.done, 0) / pace for job in running]
    to_come = max(missing - sum(max(job.of - job.done, 0) for job in running), 0)
    return max(*lefts, sum(lefts) / len(running) + to_come / (pace * len(running)))


def some(rows: Sequence[Row], most: int) -> tuple[Sequence[Row], list[str]]:
    """The first rows, and a line that sums up the others."""
    if len(rows) <= most:
        return rows, []
    return rows[:most], [f"  and {len(rows) - most} more: {in_all(row.state for row in rows[most:])}"]


def in_all(states: Iterable[str]) -> str:
    """Counts of states, in words."""
    return ", ".join(f"{count} {state}" for state, count in Counter(states).items())


def _not_begun(path: Path, found: list[Job], scheduler: Scheduler) -> list[str]:
    """The jobs that were submitted and have written nothing yet: counted, and those that will not begin any more one by one."""
    names = sorted(scheduler.submitted - {job.slurm for job in found if job.slurm})
    # Without an answer of squeue, a job that accounting does not know may be in the queue.
    unknown = "of unknown state" if scheduler.silence or scheduler.away else "gone from the queue"
    states = {name: scheduler.state(name) or unknown for name in names}
    gone = [name for name in names if name not in scheduler.queued and states[name] != "of unknown state"]
    dead = [_never_began(path, name, states[name]) for name in gone[:LINES]]
    more = [f"  and {len(gone) - LINES} more"] if len(gone) > LINES else []
    return [f"submitted, not begun: {in_all(states.values())}", *dead, *more] if names else []


def _never_began(path: Path, name: str, state: str) -> str:
    words = _last_words(path, name)
    return f"  SLURM {name}: {state}{f': {words}' if words else ''}"


def _last_words(path: Path, name: str) -> str:
    words = slurm.last_words(path, name)
    return f"{words[0]} ({words[1]})" if words else ""


def _rest(scheduler: Scheduler, command: str) -> str:
    """How to finish what is missing, unless jobs that nothing is known of may be at it already."""
    if scheduler.silence:
        return f"jobs may still be waiting or running: {scheduler.silence}; ask again when it answers"
    if scheduler.away:
        return f"there is no squeue here; to finish the rest, if no job of the sweep is in the queue: {command}"
    return f"to finish the rest: {command}"
