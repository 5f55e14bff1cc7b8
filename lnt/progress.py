"""Progress of long work: a bar on a terminal, a plain log line now and then elsewhere, with the time left once it is known.

Work is counted in multiply-adds, since runs differ in size; what is shown is runs, and the step of those in hand.
"""

import logging
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES, MOST_SECONDS_BETWEEN_LINES = 10.0, 600.0
SHARE_BETWEEN_LINES = 0.05  # of the time so far: a long job needs few lines
SECONDS_BETWEEN_DRAWINGS = 0.2
SECONDS_BETWEEN_REPORTS = 15.0
SECONDS_FOR_AN_ESTIMATE, SHARE_FOR_AN_ESTIMATE = 5.0, 0.02  # both, or LONG seconds: before, start-up would be most of it
LONG = 60.0
SECONDS_IN_HAND = 5.0  # so long a step of the runs in hand must have been coming to be shown beside others


class StepCount:
    """Counts the work of run-steps (one step of one run); those that need not be taken apart, since they tell of no pace."""

    def __init__(self) -> None:
        self.done = 0.0
        self.skipped = 0.0  # the part of it that nobody has worked on
        self.cost = 1.0  # of a run-step of the runs in hand

    def begin(self, cost: float, runs: int, steps: int, steps_per_epoch: int = 1) -> None:
        """Take so many runs in hand, of so many steps each, a run-step of which costs `cost`."""
        self.cost = cost

    def update(self, steps: float) -> None:
        """Count `steps` more run-steps of the runs in hand as done."""
        self.add(steps * self.cost)

    def skip(self, steps: float) -> None:
        """Count run-steps as done that nobody takes: those of an earlier start, or of a run that has ended early."""
        self.add(steps * self.cost, steps * self.cost)

    def add(self, done: float, skipped: float = 0.0) -> None:
        """Count work."""
        self.done += done
        self.skipped += skipped


class Progress(StepCount):
    """Shows how far `runs` runs with so much work in `total` are; a context manager.

    `told` is called now and then with what is known, as `facts` has it.
    """

    def __init__(
        self, total: float, runs: int = 1, shown: bool = True, told: Callable[[Mapping[str, Any]], None] | None = None
    ) -> None:
        super().__init__()
        self.total, self.runs, self.shown, self.told = total, runs, shown, told
        self.runs_done = 0
        self.in_hand = _InHand(0, 0, 1, 0.0)
        self.start = self.said = self.drawn = self.reported = time.monotonic()
        self.pace = _Pace(self.start)
        on_terminal = shown and sys.stderr.isatty()
        form = "{percentage:3.0f} %|{bar}| {desc}"
        self.bar = tqdm(total=1.0, bar_format=form, dynamic_ncols=True, disable=not on_terminal)
        self._lines: AbstractContextManager[None] = nullcontext()

    def begin(self, cost: float, runs: int, steps: int, steps_per_epoch: int = 1) -> None:
        super().begin(cost, runs, steps, steps_per_epoch)
        self.in_hand = _InHand(runs, steps, steps_per_epoch, time.monotonic())

    def update(self, steps: float) -> None:
        self.in_hand.run_steps += steps
        super().update(steps)

    def skip(self, steps: float) -> None:
        self.in_hand.run_steps += steps
        super().skip(steps)

    def ran(self, runs: int) -> None:
        """Count runs that have ended, whose work is counted already."""
        self.runs_done += runs
        self.add(0.0)

    def add(self, done: float, skipped: float = 0.0) -> None:
        super().add(done, skipped)
        now = time.monotonic()
        self.pace.note(now, self.done - self.skipped)
        if not self.bar.disable and now - self.drawn >= SECONDS_BETWEEN_DRAWINGS:
            self._draw(now)
        # The bar is off where stderr is no terminal, as in the log of a job: there, lines take its place.
        wait = min(max(SECONDS_BETWEEN_LINES, SHARE_BETWEEN_LINES * (now - self.start)), MOST_SECONDS_BETWEEN_LINES)
        if self.shown and self.bar.disable and now - self.said >= wait:
            self.said = now
            log.info("%s of the work done: %s", percent(self.share), self._words(now))
        if self.told is not None and now - self.reported >= SECONDS_BETWEEN_REPORTS:
            self.reported = now
            self.told(self.facts(now))

    @property
    def share(self) -> float:
        """The share of the work that is done, in [0, 1]."""
        return min(max(self.done / self.total, 0.0), 1.0) if self.total > 0 else 1.0

    def facts(self, now: float) -> dict[str, Any]:
        """What is known: `share` of the work done, seconds `left` and the step of the runs in hand, `at`."""
        left, at = self.seconds_left(now), self._at(now)
        known = {"left": None if left is None else round(left, 1), "at": at}
        return {"share": round(self.share, 6), **{key: value for key, value in known.items() if value is not None}}

    def seconds_left(self, now: float) -> float | None:
        """The time that the rest takes at the pace of the later half of the time so far; None while it would mean little."""
        elapsed, worked = now - self.start, self.done - self.skipped
        enough = elapsed >= SECONDS_FOR_AN_ESTIMATE and worked >= SHARE_FOR_AN_ESTIMATE * (self.total - self.skipped)
        pace = self.pace.at(now, worked)
        if not (enough or elapsed >= LONG) or pace <= 0:
            return None
        return max(self.total - self.done, 0.0) / pace

    def _words(self, now: float) -> str:
        left = self.seconds_left(now)
        runs = f"{self.runs_done} of {self.runs} runs" if self.runs > 1 else None
        return ", ".join(filter(None, (runs, self._at(now), None if left is None else f"about {in_words(left)} left")))

    def _at(self, now: float) -> str | None:
        """The step or epoch of the runs in hand, if they are all there are or take long."""
        alone = self.in_hand.runs == self.runs
        return self.in_hand.words() if alone or now - self.in_hand.since >= SECONDS_IN_HAND else None

    def _draw(self, now: float) -> None:
        self.drawn, self.bar.n = now, self.share
        self.bar.set_description_str(self._words(now))

    def __enter__(self) -> "Progress":
        if not self.bar.disable:
            # Else a log line would be written at the end of the bar.
            self._lines = logging_redirect_tqdm()
            self._lines.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        if not self.bar.disable:
            self._draw(time.monotonic())
        self.bar.close()
        self._lines.__exit__(*exception)


class _InHand:
    """The runs that this process trains side by side."""

    def __init__(self, runs: int, steps: int, steps_per_epoch: int, since: float) -> None:
        self.runs, self.steps, self.steps_per_epoch, self.since = runs, steps, steps_per_epoch, since
        self.run_steps = 0.0

    def words(self) -> str | None:
        if not self.runs or not self.steps:
            return None
        step = min(round(self.run_steps / self.runs), self.steps)
        if self.steps_per_epoch == 1:
            return f"step {step} of {self.steps}"
        # That which is being trained: the first one is 1.
        epochs = self.steps // self.steps_per_epoch
        return f"epoch {min(step // self.steps_per_epoch + 1, epochs)} of {epochs}"


class _Pace:
    """Work a second over the later half of the time so far: start-up and a slow beginning are forgotten, yet it is steady."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.notes = deque([(start, 0.0)])

    def note(self, now: float, worked: float) -> None:
        """Remember how much work was done by now, a hundred times at most."""
        elapsed = now - self.start
        if now - self.notes[-1][0] >= max(elapsed / 50, SECONDS_BETWEEN_DRAWINGS):
            self.notes.append((now, worked))
            while len(self.notes) > 1 and self.notes[1][0] <= now - elapsed / 2:
                self.notes.popleft()

    def at(self, now: float, worked: float) -> float:
        """The pace now; 0 if it is not known."""
        since, before = self.notes[0]
        return (worked - before) / (now - since) if now > since else 0.0


def percent(share: float) -> str:
    """A share as one says it: 0 % has not begun, 100 % has ended."""
    if 0 < share < 0.01:
        return "less than 1 %"
    return f"{math.floor(100 * share + 1e-9)} %"  # 100 * 0.29 is less than 29


def in_words(seconds: float) -> str:
    """A time as one says it, in two digits at most of each unit: 40 s, 3 min, 2 h 20 min, 5 d 3 h."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    if seconds < 58:
        return f"{5 * round(seconds / 5)} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    days, hours = divmod(round(minutes / 60), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
