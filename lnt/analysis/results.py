"""Results for use in Python: tables, the axes that were swept, and figures as methods."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from lnt.analysis import cells
from lnt.analysis.comparison import compare
from lnt.analysis.figure_comparison import figure_comparison
from lnt.analysis.figure_lines import figure_lines
from lnt.analysis.figure_names import label
from lnt.analysis.figure_phase_diagram import figure_phase_diagram
from lnt.analysis.figure_stages import figure_stages
from lnt.analysis.figure_style import Drawn
from lnt.analysis.figure_time import figure_time
from lnt.analysis.load import RunTables, read
from lnt.analysis.phase_diagram import facets
from lnt.analysis.time_diagram import CLOCKS, check_time, over_time
from lnt.errors import ConfigError, require
from lnt.theory.conditions import law_of
from lnt.theory.run_cells import predictable, predicted_outcomes

log = logging.getLogger(__name__)
Panel = TypeVar("Panel")
MOST_PANELS = 12  # of a figure: hundreds take minutes to draw, and nobody can read them


@dataclass(frozen=True)
class Results(RunTables):
    """Results, as `lnt.simulate` returns and `lnt.load` reads them. Figures come as `figure, axes = results.stages()`.

    `runs` (completed runs, a row each), `diverged`, `failed`, `curves` and `samples` are pandas tables; docs/results.md
    explains every column.
    """

    @property
    def axes(self) -> dict[str, list[Any]]:
        """The swept keys with their planned values, in order; values of missing runs are included."""
        found: dict[str, list[Any]] = {}
        groups = [group for plan in self.plans for group in plan["groups"]]
        # Options (noise=symmetric,pair) are no axis of a group: each of them has a group of its own.
        for key in dict.fromkeys(key for group in groups for key in group["config"]["choices"]):
            options = list(
                dict.fromkeys(group["config"]["choices"][key] for group in groups if key in group["config"]["choices"])
            )
            if len(options) > 1:
                found[key] = options
        for axis in (axis for group in groups for axis in group["axes"]):
            for key, values in zip(axis["keys"], zip(*axis["points"], strict=True), strict=True):
                # dict.fromkeys drops repeats and keeps the order of the plan.
                found[key] = list(dict.fromkeys([*found.get(key, []), *(_hashable(value) for value in values)]))
        # Without a plan, only the values in the table are known.
        if not groups:
            found = {key: sorted(self.runs[key].dropna().unique().tolist()) for key in cells.swept(self.runs)}
        return found

    def stages(self, settings: Mapping[str, Any] | None = None) -> Drawn:
        """Coefficients, accuracies, test error and loss against step, a column for each group of runs that differ by seed.

        `settings` chooses the runs that have them, as in results.stages({"data.dim": 2000, "loss": "gce"}). Of more than
        MOST_PANELS groups the first are drawn. Raises ConfigError if there is no such key, or no completed run with the values.
        """
        runs = self.runs
        for key, value in (settings or {}).items():
            runs = _having(runs, key, value)
        groups = _first(cells.conditions(runs, cells.swept_keys(self)), "conditions", "; settings={...} chooses others")
        return figure_stages(
            {title: (runs, self.curves[self.curves["run_id"].isin(runs["run_id"])]) for title, runs in groups.items()}
        )

    def phase(self, x: str | None = None, y: str | None = None, value: str = "test_error", level: float | None = None) -> Drawn:
        """A phase diagram of `value` over two swept keys, with its boundary at `level` and the law that theory has for it.

        Other swept keys make panels, of which the first MOST_PANELS are drawn. Raises ConfigError if there are no two such
        keys, or no such columns.
        """
        x = self._axis("x", x, y)
        y = self._axis("y", y, x)
        cells.check_column(self.runs, "value", value, cells.outcome_columns(self.runs))
        require(x != y, "y", y, "must be another key than x")
        panels = facets(self, x, y, value, level, law_of(value, self.runs), most=MOST_PANELS + 1)
        return figure_phase_diagram(_first(panels, "panels"), x, y, value)

    def over_time(
        self, x: str | None = None, value: str = "test_error", clock: str = "step", level: float | None = None
    ) -> Drawn:
        """A metric over a swept key and time, with the measured and predicted ends of the stages as lines.

        `clock` is "step", or "t1": time in T1 = n m / (eta s^2 d). Other swept keys make panels, of which the first MOST_PANELS
        are drawn. Raises ConfigError if there is no such key, metric or time.
        """
        require(clock in CLOCKS, "clock", clock, f"must be one of {', '.join(CLOCKS)}")
        check_time(self, clock, x, value)
        x, about = self._axis("x", x, None), predictable(self.runs)
        predicted = None
        if about.any():
            runs = self.runs[about]
            predicted = runs.join(predicted_outcomes(runs).add_suffix("_predicted"))
        return figure_time(_first(over_time(self, x, clock, value, predicted), "panels"), x, clock, value, level)

    def lines(self, x: str | None = None, *values: str) -> Drawn:
        """Means of some values (default: test error) over one swept key, with 95 % confidence intervals over seeds."""
        chosen = list(values) or ["test_error"]
        for value in chosen:
            cells.check_column(self.runs, "value", value, cells.outcome_columns(self.runs))
        x = self._axis("x", x, None)
        return figure_lines(cells.cells(self, [x], chosen), x, chosen, label(chosen[0]))

    def compare(self, x: str, *values: str, hue: str | None = None, style: str | None = None) -> Drawn:
        """Means of some values (default: test error) over numbers or options, with 95 % confidence intervals over seeds.

        `hue` and `style` are further keys, with a colour or dashes for each value. Raises ConfigError for what is no column.
        """
        chosen = list(values) or ["test_error"]
        keys = {name: key for name, key in (("x", x), ("hue", hue), ("style", style)) if key is not None}
        for name, key in keys.items():
            cells.check_column(self.runs, name, key, cells.config_columns(self.runs))
        require(len(set(keys.values())) == len(keys), ", ".join(keys), [*keys.values()], "must be different keys")
        for value in chosen:
            cells.check_column(self.runs, "value", value, cells.outcome_columns(self.runs))
        return figure_comparison(compare(self, x, hue, style, chosen), chosen)

    def _axis(self, name: str, given: str | None, other: str | None) -> str:
        """The key of an axis: the given one, or the first swept one that is not the other axis."""
        if given is not None:
            columns = [key for key in cells.config_columns(self.runs) if cells.is_axis(self.runs[key])]
            cells.check_column(self.runs, name, given, columns)
            return given
        free = [key for key in cells.numeric_axes(self) if key != other]
        if not free:
            raise ConfigError(name, None, "no numeric key was swept that could be this axis")
        return free[0]


def _first(panels: dict[str, Panel], what: str, remedy: str = "") -> dict[str, Panel]:
    """The first MOST_PANELS panels; logs a warning if there are more."""
    if len(panels) > MOST_PANELS:
        log.warning("more than %d %s: the first %d are drawn%s", MOST_PANELS, what, MOST_PANELS, remedy)
    return dict(list(panels.items())[:MOST_PANELS])


def _having(runs: pd.DataFrame, key: str, value: Any) -> pd.DataFrame:
    """The runs whose setting `key` is `value`, None for null. Raises ConfigError if there are none."""
    cells.check_column(runs, "settings", key, cells.config_columns(runs))
    column, number = runs[key], isinstance(value, Real) and not isinstance(value, bool)
    if value is None:
        there = column.isna().to_numpy(bool)
    elif number and cells.is_axis(column):
        # Not ==, since 3 * 0.05 is meant to be the rate 0.15.
        there = np.isclose(column.to_numpy(float, na_value=np.nan), float(value), rtol=1e-9, atol=0)
    else:
        there = column.eq(cells.as_in_table(list(value) if isinstance(value, tuple) else value)).fillna(False).to_numpy(bool)
    values = [repr(other) for other in sorted(column.dropna().unique().tolist())] + ["None"] * bool(column.isna().any())
    shown = ", ".join(values[:MOST_PANELS]) + (", ..." if len(values) > MOST_PANELS else "")
    require(there.any(), key, repr(value), f"no completed run has it (with the settings before it); values: {shown}")
    return runs[there]


def _hashable(value: Any) -> Any:
    # dict.fromkeys needs hashable values, and a value such as data.classes is a list.
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def load(path: str | Path) -> Results:
    """The results of a run, a sweep, or any directory above them; running and partial sweeps too. Raises ConfigError."""
    found = read(Path(path))
    return Results(**vars(found))
