"""What a study draws: what was asked for, checked against the results, and what is chosen where nothing was."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lnt.analysis import cells
from lnt.analysis.figure_style import FORMATS, in_force
from lnt.analysis.load import RunTables
from lnt.analysis.time_diagram import CLOCKS, check_time, metric_columns
from lnt.errors import require

MOVING = "gif"  # among the formats: of phase diagrams only
TEST_ERRORS = ("test_error", "test_error_observed")  # the second where true labels are not known
RETURNED = "strategy_test_error"  # the first one where strategies were swept
USUAL = ("best_test_error_fresh", "test_error", "price_of_memorising", "stage1_step", "stage2_step")


@dataclass(frozen=True)
class Asked:
    """The settings of analyze.py that say what to draw (conf/analyze.yaml); None: nothing was asked for."""

    x: str | None = None
    y: str | None = None  # a key, or one of time_diagram.CLOCKS
    hue: str | None = None
    style: str | None = None
    value: str | None = None
    level: float | None = None
    against: str | None = None
    formats: Sequence[str] = ("pdf", "png")  # of figures, some of FORMATS; gif: of phase diagrams over time

    @property
    def clock(self) -> str | None:
        """What counts time, if y is time."""
        return self.y if self.y in CLOCKS else None

    @property
    def keys(self) -> list[str]:
        """The keys that were asked for."""
        return [key for key in (self.x, self.y, self.hue, self.style) if key is not None]

    @property
    def still_formats(self) -> list[str]:
        """The formats of figures that do not move."""
        return [kind for kind in self.formats if kind != MOVING]

    def check(self, results: RunTables) -> None:
        """Raise ConfigError if the results do not have it."""
        every = (*FORMATS, MOVING)
        known = isinstance(self.formats, Sequence) and not isinstance(self.formats, str) and {*self.formats} <= {*every}
        require(known, "formats", str(self.formats), f"must be a list of some of {', '.join(every)}, as in formats=[pdf,png]")
        number = self.level is None or (isinstance(self.level, int | float) and bool(np.isfinite(self.level)))
        require(number, "level", self.level, "must be a number")
        self._check_columns(results)
        x, y = self.x, self.y
        require(len(set(self.keys)) == len(self.keys), "x, y, hue, style", self.keys, "must be different keys")
        alone = y is None or (self.hue is None and self.style is None)
        require(alone, "y", y, "makes a phase diagram, which has neither hue nor style")
        maps = y is None or x is None or cells.is_axis(results.runs[x])
        require(maps, "x", x, "must hold numbers, as y makes a phase diagram")

    def _check_columns(self, results: RunTables) -> None:
        """Raise ConfigError if a column is not there, or holds no numbers where it must."""
        runs = results.runs
        settings, outcomes = cells.config_columns(runs), cells.outcome_columns(runs)
        beside = [*(key for key in settings if cells.is_axis(runs[key])), *CLOCKS]
        for name, allowed in (("x", settings), ("y", beside), ("hue", settings), ("style", settings)):
            if (column := getattr(self, name)) is not None:
                cells.check_column(runs, name, column, allowed)
        if self.value is not None and not self.clock:
            cells.check_column(runs, "value", self.value, outcomes)
        for column in in_force().panels:
            cells.check_column(runs, "panels", column, outcomes)


@dataclass(frozen=True)
class Choice:
    """What is drawn: axes, values and the level of the boundary. With a `clock`, y is time and no key."""

    x: str | None
    y: str | None
    values: list[str]
    level: float | None
    clock: str | None


def choose(asked: Asked, results: RunTables, value: str | None) -> Choice:
    """Axes and values, found from what was swept where they were not asked for; `value` stands for that of `asked`.

    Raises ConfigError if there is no diagram over time.
    """
    if asked.clock:
        check_time(results, asked.clock, asked.x, value)
    level, refine = asked.level, None if asked.clock else cells.refinement(results.plans)
    if refine and value in (None, refine["value"]) and refine["value"] in cells.outcome_columns(results.runs):
        value, level = refine["value"], refine["level"] if level is None else level
    axes = cells.numeric_axes(results)
    x = asked.x or next((key for key in axes if key not in (asked.y, asked.hue, asked.style)), None)
    lines = (
        asked.hue is not None or asked.style is not None or (asked.x is not None and not cells.is_axis(results.runs[asked.x]))
    )
    y = None if lines else asked.y or next((key for key in axes if key != x), None)
    return Choice(x, y, [value] if value else usual_values(results, asked.clock), level, asked.clock)


def usual_values(results: RunTables, clock: str | None) -> list[str]:
    """The values that are drawn unless one is asked for: those of `panels` if they were given."""
    runs = results.runs
    if clock:
        measured = metric_columns(results)
        return [next(name for name in TEST_ERRORS if name in measured), *({"noisy_accuracy"} & {*measured})]
    if chosen := [name for name in in_force().panels if runs[name].notna().any()]:
        return chosen
    if runs["last_step"].equals(runs["best_step"]):
        return ["test_error"]  # one recorded step: early stopping has nothing to choose from
    usual = (RETURNED, *USUAL) if "strategy" in cells.swept_keys(results) else USUAL
    return [name for name in usual if runs[name].notna().any()]
