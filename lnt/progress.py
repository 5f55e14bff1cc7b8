"""Progress of long work: a bar with an estimate on a terminal, a plain log line now and then elsewhere."""

import logging
import sys
import time

from tqdm import tqdm

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 10.0
SHARE_FOR_AN_ESTIMATE = 0.02  # of the work


class StepCount:
    """Counts run-steps (one step of one run)."""

    def __init__(self) -> None:
        self.done = 0

    def update(self, steps: int) -> None:
        """Count `steps` more run-steps as done."""
        self.done += steps


class Progress(StepCount):
    """Shows how many of `total` run-steps are done; a context manager."""

    def __init__(self, total: int, shown: bool = True) -> None:
        super().__init__()
        self.total, self.shown = total, shown
        self.start = self.said = time.monotonic()
        on_terminal = shown and sys.stderr.isatty()
        self.bar = tqdm(total=total, unit="step", unit_scale=True, dynamic_ncols=True, disable=not on_terminal)

    def update(self, steps: int) -> None:
        super().update(steps)
        self.bar.update(steps)
        now = time.monotonic()
        # The bar is off where stderr is no terminal, as in the log of a job: there, lines take its place.
        if self.shown and self.bar.disable and now - self.said >= SECONDS_BETWEEN_LINES:
            self.said = now
            log.info(
                "%d of %d run-steps done (%.0f %%)%s", self.done, self.total, 100 * self.done / self.total, self._left(now)
            )

    def _left(self, now: float) -> str:
        """An estimate in words, once enough is done for one: before, it would say more about start-up than about the end."""
        elapsed = now - self.start
        if self.done < SHARE_FOR_AN_ESTIMATE * self.total or elapsed <= 0:
            return ""
        return f", about {elapsed / self.done * (self.total - self.done):.0f} s left"

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()
