"""refine=boundary: a plan of which only those runs are trained that tell where a value crosses a level.

The plan stays the whole grid with all its seeds. Round by round some more of its runs are asked for (next_round.py says which),
and trained as a rerun trains what is missing. sweep.yaml names the cells of each round before its jobs are launched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lnt.errors import require
from lnt.intervals import FEWEST_SEEDS
from lnt.plan_file import asked_cells, roles
from lnt.runs.experiments_from_settings import by_batch, expand
from lnt.runs.tables import schemas
from lnt.settings import Axis
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
        points = dict(zip(grid_axes(axes), (x, y, seeds), strict=True))
        order = [axis for part in by_batch(config, axes) for axis in part]
        numbers = np.ravel_multi_index([points[axis] for axis in order], [len(axis.points) for axis in order])
        return np.sort(numbers)

    def search(self, axes: Sequence[Axis]) -> Search:
        """The search on the ascending points of the axes."""
        x, y, seeds = grid_axes(axes)
        ascending = np.sort(points_of(x)), np.sort(points_of(y))
        return Search(*ascending, len(seeds.points), self.level, self.width, self.budget)

    def first_round(self, axes: Sequence[Axis]) -> int:
        """How many runs the first round has."""
        return int(self.search(axes).coarse().sum())

    def outlook(self, axes: Sequence[Axis]) -> str:
        """What will be trained, in words."""
        x, y, _ = grid_axes(axes)
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


def points_of(axis: Axis) -> np.ndarray:
    """The points of an axis of one key."""
    return np.array([point[0] for point in axis.points], float)


def grid_axes(axes: Sequence[Axis]) -> tuple[Axis, Axis, Axis]:
    """The axes x, y and that of the seeds."""
    (x, y), (seeds,) = roles([axis.keys for axis in axes])
    return axes[x], axes[y], axes[seeds]


def _is_axis(axis: Axis) -> bool:
    return len(axis.keys) == 1 and axis.columns is not None and len(axis.points) > 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
