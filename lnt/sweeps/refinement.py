"""refine=boundary: a plan of which only those runs are trained that tell where a value crosses a level.

The plan stays the whole grid with all its seeds. Round by round some more of its runs are asked for (next_round.py says which),
and trained as a rerun trains what is missing. sweep.yaml names the cells of each round before its jobs are launched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lnt.errors import require
from lnt.intervals import FEWEST_SEEDS
from lnt.plan_file import asked_cells, roles
from lnt.runs.experiments_from_settings import by_batch, expand
from lnt.runs.tables import schemas
from lnt.settings import Axis
from lnt.sweeps.missing_runs import job_directories, rows
from lnt.sweeps.next_round import Search

Cells = Sequence[Sequence[int]]  # number of x, number of y, and how many of the seeds


@dataclass(frozen=True)
class Refinement:
    """What is looked for, and what was asked for so far."""

    value: str
    level: float
    width: float  # of the band, as a share of the axis y as it is drawn
    budget: int | None = None  # runs
    rounds: Sequence[Cells] = ()
    ended: str = ""  # how the search has ended

    def __post_init__(self) -> None:
        for name, value, holds, allowed in (
            ("value", self.value, isinstance(self.value, str), "must be a column of runs.parquet, such as test_error"),
            ("level", self.level, _is_number(self.level), "must be given: the number that the value crosses"),
            ("width", self.width, _is_number(self.width) and 0 < self.width < 1, "must lie in (0, 1): a share of the axis"),
            ("budget", self.budget, self.budget is None or type(self.budget) is int, "must be a number of runs, or null"),
        ):
            require(holds, f"hydra.sweeper.{name}", value, allowed)

    def asked(self, config: Mapping[str, Any], axes: Sequence[Axis]) -> np.ndarray:
        """The numbers, in the plan of a configuration and axes, of the runs that were asked for; ascending."""
        cells = np.array([(*cell, seeds) for cell, seeds in asked_cells({"rounds": self.rounds}).items()], int).reshape(-1, 3)
        seeds = np.concatenate([np.arange(0), *(np.arange(count) for count in cells[:, 2])])
        x, y = np.repeat(cells[:, :2], cells[:, 2], axis=0).T
        points = dict(zip(_axes(axes), (x, y, seeds), strict=True))
        order = [axis for part in by_batch(config, axes) for axis in part]
        numbers = np.ravel_multi_index([points[axis] for axis in order], [len(axis.points) for axis in order])
        return np.sort(numbers)

    def next(self, path: Path, config: Mapping[str, Any], axes: Sequence[Axis]) -> "Refinement":
        """With the next round, or with the word of how the search has ended, by the results in `path`."""
        search = self._search(axes)
        x, y, _ = map(_points, _axes(axes))
        asked = np.zeros((len(y), len(x)), int)
        for (i, j), seeds in asked_cells({"rounds": self.rounds}).items():
            asked[j, i] = seeds
        # The search sees ascending axes; rounds name points by their place in the plan.
        ascending = np.ix_(y.argsort(), x.argsort())
        values = measured(path, self.value, _axes(axes), int(asked.max()))[ascending]
        wanted = asked.copy()
        wanted[ascending] = search.next(values, asked[ascending])
        if (wanted == asked).all():
            return replace(self, ended=self._told(search, values, asked[ascending]))
        cells = [[int(i), int(j), int(wanted[j, i])] for j, i in np.argwhere(wanted > asked)]
        return replace(self, rounds=[*self.rounds, cells])

    def _search(self, axes: Sequence[Axis]) -> Search:
        """The search on the ascending points of the axes."""
        x, y, seeds = _axes(axes)
        ascending = np.sort(_points(x)), np.sort(_points(y))
        return Search(*ascending, len(seeds.points), self.level, self.width, self.budget)

    def _told(self, search: Search, values: np.ndarray, asked: np.ndarray) -> str:
        """How the search has ended, in words."""
        share = search.found(values, asked).share
        crosses = int(np.isfinite(share).sum())
        if not crosses:
            return f"no boundary: the mean of {self.value} crosses {self.level:g} in none of {asked.any(0).sum()} columns"
        wide = int((share > self.width).sum())
        why = f"; {wide} are wider than {self.width:g}: budget or seeds are spent" if wide else ""
        of = f"{asked.sum()} of {asked.size * search.seeds} runs in {len(self.rounds)} rounds"
        known = f"boundary in {crosses} of {len(share)} columns: {self.value} crosses {self.level:g}"
        return f"{known}, band {np.nanmean(share):.3g} of the axis in the mean, {np.nanmax(share):.3g} at most{why}; {of}"

    def first_round(self, axes: Sequence[Axis]) -> int:
        """How many runs the first round has."""
        return int(self._search(axes).coarse().sum())

    def outlook(self, axes: Sequence[Axis]) -> str:
        """What will be trained, in words."""
        x, y, _ = _axes(axes)
        bound = f", or {self.budget} runs are trained" if self.budget is not None else ""
        until = f"until the band is at most {self.width:g} of the axis{bound}"
        return (
            f"of these only what tells where {self.value} crosses {self.level:g} along {y.keys[0]}, for each {x.keys[0]}: "
            f"{self.first_round(axes)} runs first, then round by round more, {until}"
        )


def refinement(
    refine: str | None = None,
    value: str | None = None,
    level: float | None = None,
    width: float = 0.05,
    budget: int | None = None,
) -> Refinement | None:
    """What these settings of hydra.sweeper ask for; None: all runs. Raises ConfigError."""
    if refine is None:
        for name, given in (("value", value), ("level", level), ("budget", budget)):
            require(given is None, f"hydra.sweeper.{name}", given, "has a meaning with hydra.sweeper.refine=boundary only")
        return None
    require(refine == "boundary", "hydra.sweeper.refine", refine, "must be boundary or null")
    return Refinement(value, level, width, budget)  # type: ignore[arg-type]  # it looks at them


def check_grid(refine: Refinement, groups: Sequence[tuple[dict[str, Any], tuple[Axis, ...]]]) -> None:
    """Raise ConfigError unless the plan is one grid of two axes of numbers and of seeds, with such a value."""
    keys = [", ".join(axis.keys) for axis in groups[0][1]]
    spanning, seeds = roles([axis.keys for axis in groups[0][1]])
    alone = len(groups) == 1 and len(spanning) == 2 and all(_is_axis(groups[0][1][number]) for number in spanning)
    allowed = "needs one grid of exactly two axes of numbers, each of one key and at least two points, beside the seeds"
    shown = f"boundary with {len(groups)} grids over {'; '.join(keys) or 'nothing'}"
    require(alone, "hydra.sweeper.refine", shown, allowed)
    count = len(groups[0][1][seeds[0]].points) if len(seeds) == 1 and _is_axis(groups[0][1][seeds[0]]) else 0
    require(count >= FEWEST_SEEDS, "seed", count, f"refine=boundary needs a range of at least {FEWEST_SEEDS} seeds")
    least = refine.first_round(groups[0][1])
    allowed = f"must be at least {least} runs, those of the first round, or null"
    require(refine.budget is None or refine.budget >= least, "hydra.sweeper.budget", refine.budget, allowed)
    first = next(expand(*groups[0], 0, 1))
    schema = schemas([first]).runs
    outcomes = schema.names[schema.names.index("status") + 1 :]
    numbers = [name for name in outcomes if pa.types.is_integer(kind := schema.field(name).type) or pa.types.is_floating(kind)]
    known = f"no such column; there are {', '.join(numbers)}"
    require(refine.value in numbers, "hydra.sweeper.value", refine.value, known)


def measured(path: Path, value: str, axes: Sequence[Axis], seeds: int) -> np.ndarray:
    """A column of the completed runs, [Y, X, seeds] at the points of x and y and the first of the seeds; NaN where none is."""
    keys, places = [axis.keys[0] for axis in axes], [_points(axis) for axis in axes]
    found = np.full((len(places[1]), len(places[0]), seeds), np.nan)
    for part in (part for directory in job_directories(path) for part in rows(directory, (*keys, value, "status"))):
        text = next((name for name in (*keys, value) if not pa.types.is_primitive(part[name].type)), "")
        require(not text, "hydra.sweep.dir", path, f"holds a table of runs whose column {text} is no number")
        table = part.filter(pc.equal(part["status"].cast(pa.string()), "completed"))
        columns = [table[name].cast(pa.float64()).to_numpy() for name in (*keys, value)]
        x, y, seed = (_places(points, column) for points, column in zip(places, columns[:3], strict=True))
        # Rows beyond the rounds are there if the plan was lost; they must not change what is chosen.
        use = (x >= 0) & (y >= 0) & (seed >= 0) & (seed < seeds)
        found[y[use], x[use], seed[use]] = columns[3][use]
    return found


def _places(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """At which of the points each value is; -1 at none."""
    order = points.argsort()
    found = order[np.searchsorted(points[order], values).clip(max=len(points) - 1)]
    return np.where(points[found] == values, found, -1)


def _points(axis: Axis) -> np.ndarray:
    return np.array([point[0] for point in axis.points], float)


def _axes(axes: Sequence[Axis]) -> tuple[Axis, Axis, Axis]:
    """The axes x, y and the seeds."""
    (x, y), (seeds,) = roles([axis.keys for axis in axes])
    return axes[x], axes[y], axes[seeds]


def _is_axis(axis: Axis) -> bool:
    return len(axis.keys) == 1 and axis.columns is not None and len(axis.points) > 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
