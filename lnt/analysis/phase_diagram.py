"""Phase diagrams as numbers: a value over two axes, the line on which it crosses a level, and the law of this line."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lnt.analysis.cells import conditions, planned_values, refinement, swept_keys, typed_plan
from lnt.analysis.load import RunTables
from lnt.column_names import ERRORS, SEEDS
from lnt.intervals import jackknife_interval
from lnt.level_set import axis_place, band, crossing, direction, is_log, mean_crossing, seed_mean
from lnt.theory.laws import MARGIN, Law, coordinate, least_coordinate, value_at

Axes = tuple[np.ndarray, np.ndarray]  # the points of x and y, in ascending order


@dataclass(frozen=True)
class Grid:
    """A value over two axes, seed by seed: the data of a phase diagram."""

    x: np.ndarray  # [X]
    y: np.ndarray  # [Y]
    values: np.ndarray  # [Y, X, seeds], NaN where missing
    missing: np.ndarray | None = None  # [Y, X], share of the planned runs that did not complete; NaN where none was planned
    asked: np.ndarray | None = None  # [Y, X], of a sweep with refine=boundary: how many seeds each cell was to have

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean over the seeds present, [Y, X], NaN in empty cells."""
        return seed_mean(self.values)

    @cached_property
    def count(self) -> np.ndarray:
        """How many seeds have a value, [Y, X]."""
        return np.isfinite(self.values).sum(2)


def grid(
    runs: pd.DataFrame,
    x: str,
    y: str,
    value: str,
    axes: Axes | None = None,
    planned: pd.DataFrame | None = None,
    refined: bool = False,
) -> Grid:
    """Arrange runs on the axes x and y; runs of a cell are ordered by their seeds, so that seeds pair across cells.

    `axes` default to the points of the runs, `planned` are the rows of `cells.planned_cells` that belong here; `refined`: of
    sweeps with refine=boundary. Without a plan, a cell misses what it has less than the fullest cell.
    """
    seeds = [key for key in SEEDS if key in runs]
    # Few columns: to drop rows is to copy all that is left.
    runs = runs[list(dict.fromkeys([x, y, value, *seeds]))].dropna(subset=[x, y])
    xs, ys = axes or (np.unique(runs[x].astype(float)), np.unique(runs[y].astype(float)))

    def at(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        return np.searchsorted(ys, table[y].astype(float)), np.searchsorted(xs, table[x].astype(float))

    # Numbered over the whole table, not within each cell: place s holds the same seed in all cells, or NaN.
    number = runs.groupby(seeds, dropna=False, sort=True).ngroup().to_numpy()
    values = np.full((len(ys), len(xs), number.max(initial=-1) + 1), np.nan)
    place = at(runs)
    values[*place, number] = runs[value].astype(float)
    completed, wanted = np.zeros((2, len(ys), len(xs)))
    np.add.at(completed, place, 1)
    if planned is None:
        wanted[:] = completed.max(initial=0)
    else:
        np.add.at(wanted, at(planned), planned["planned"])
    # More runs than planned, as after a second sweep, are not a negative number of missing ones.
    missing = np.divide((wanted - completed).clip(0), wanted, out=np.full(wanted.shape, np.nan), where=wanted > 0)
    return Grid(xs, ys, values, np.where(completed > 0, np.nan_to_num(missing), missing), wanted if refined else None)


@dataclass(frozen=True)
class Boundary:
    """Where a phase diagram crosses a level: y as a function of x, with its band over seeds."""

    level: float
    y: np.ndarray  # [X], NaN where the column does not cross for good
    low: np.ndarray  # NaN too where cells at the crossing have too few seeds
    high: np.ndarray
    left_out: np.ndarray  # [seeds, X], without one seed each; the seed is left out of all cells, as these share random streams


def boundary(data: Grid, level: float) -> Boundary:
    """The crossing of `level` in each column, with its band (`level_set.band`), and what it is without each seed."""
    edge, low, high = band(data.y, data.values, level, data.asked)
    rises = direction(data.mean, level)
    seeds = np.arange(data.values.shape[2])
    without = [mean_crossing(data.y, data.values[:, :, seeds != seed], level, rises, data.asked) for seed in seeds]
    return Boundary(level, edge, low, high, np.array(without).reshape(len(seeds), len(edge)))


@dataclass(frozen=True)
class PowerLaw:
    """v(y) = constant * u(x)^exponent along a boundary, with 95 % intervals over seeds (u, v: theory.laws.coordinate)."""

    exponent: tuple[float, float, float]  # measured: value, low, high; without an interval (too few seeds) low and high are NaN
    constant: tuple[float, float, float]  # at the predicted exponent
    predicted: float


def power_law(x: np.ndarray, edge: Boundary, keys: tuple[str, str], predicted: float, n: int) -> PowerLaw | None:
    """The log-log slope of a boundary beside the predicted one, and the constant at the predicted one; None if too short.

    Laws are about expectations, so only points with u(x) and v(y) above theory.laws.least_coordinate are fitted. The intervals
    are the jackknife's over seeds, on log(constant).
    """
    u, v = coordinate(keys[0], x), coordinate(keys[1], edge.y)
    use = np.isfinite(v) & (v > least_coordinate(keys[1], n)) & (u > least_coordinate(keys[0], n))
    without = coordinate(keys[1], edge.left_out)
    enough = bool(np.isfinite(edge.low).any())
    if enough:
        # The same columns with and without each seed: one that comes and goes would move the slope by a jump.
        use &= np.isfinite(edge.low) & (np.isfinite(without) & (without > 0)).all(0)
    # Two points fit any slope.
    if use.sum() < 3:
        return None
    log_u, log_v = np.log(u[use]), np.log(v[use])

    def fits(values: np.ndarray) -> np.ndarray:
        centred = log_u - log_u.mean()
        slope = values @ centred / (centred @ centred)
        return np.stack([slope, values.mean(-1) - predicted * log_u.mean()], -1)

    measured = fits(log_v)
    low = high = np.full(2, np.nan)
    if enough:
        low, high = jackknife_interval(measured, fits(np.log(without[:, use])))
    ends = [(float(measured[i]), float(low[i]), float(high[i])) for i in (0, 1)]
    value, *interval = np.exp(ends[1]).tolist()
    return PowerLaw(ends[0], (value, interval[0], interval[1]), predicted)


@dataclass(frozen=True)
class Facet:
    """One panel of a phase diagram: its data, its boundary at a level, and the law that the boundary follows."""

    data: Grid
    edge: Boundary | None
    law: PowerLaw | None
    line: np.ndarray | None = None  # [X], the boundary that the law has, with its fitted constant
    predicted: np.ndarray | None = None  # [Y, X], what the mean-field theory has for the value

    @property
    def crosses(self) -> bool:
        """Whether the boundary is drawn: between two values of y a line would say nothing."""
        return self.edge is not None and len(self.data.y) > 2 and bool(np.isfinite(self.edge.y).any())


def facets(
    results: RunTables, x: str, y: str, value: str, level: float | None, theory: Law | None, most: int | None = None
) -> dict[str, Facet]:
    """The panels of a phase diagram under their titles: one for each combination of the other swept keys, at `most` so many.

    Axes, panels and what is missing come from the plan where there is one, so that a sweep that is still running shows as such.
    """
    others, runs = [key for key in swept_keys(results) if key not in (x, y)], results.runs
    ran, planned = conditions(runs, others), None
    points = runs[[x, y]].astype(float)
    if results.plans:
        plan = typed_plan(results, [x, y, *others]).dropna(subset=[x, y])
        planned = conditions(plan, others)
        # Not only the planned cells: with refine=boundary some rows of the diagram have none.
        named = planned_values(results.plans)
        points = pd.concat([points, *(pd.DataFrame({key: named[key]}, dtype=float) for key in (x, y))])
    # The same points in all panels, which share their axes.
    axes = (np.unique(points[x].dropna()), np.unique(points[y].dropna()))
    found = {}
    for title in list((planned or {}) | ran)[:most]:
        part = ran.get(title, runs.head(0))
        rows = None if planned is None else planned.get(title, plan.head(0))
        data = grid(part, x, y, value, axes, rows, refinement(results.plans) is not None)
        found[title] = facet(data, part, (x, y), value, level, theory)
    return found


def facet(data: Grid, runs: pd.DataFrame, keys: tuple[str, str], value: str, level: float | None, theory: Law | None) -> Facet:
    """One panel. An error has a boundary: at `level`, or halfway between its lowest and its highest cell."""
    finite = data.mean[np.isfinite(data.mean)]
    if not finite.size or min(data.mean.shape) < 2 or (level is None and value not in ERRORS):
        return Facet(data, None, None)
    edge = boundary(data, (finite.min() + finite.max()) / 2 if level is None else level)
    predicted = theory.boundary_exponent(*keys) if theory else None
    if theory is None or predicted is None:
        return Facet(data, edge, None)
    n = int(runs["data.n_train"].min())
    line = law_line(theory, runs, data, edge, keys) if theory.finite_size else None
    if line is not None:
        # On a finite diagram the law's line is no power: what the measured slope is compared with is the mean slope of it.
        u, v = coordinate(keys[0], data.x), coordinate(keys[1], line)
        use = np.isfinite(edge.y) & np.isfinite(v) & (v > least_coordinate(keys[1], n)) & (u > least_coordinate(keys[0], n))
        if use.sum() >= 3:
            predicted = float(np.polyfit(np.log(u[use]), np.log(v[use]), 1)[0])
    law = power_law(data.x, edge, keys, predicted, n)
    if law is not None and line is None:
        line = value_at(keys[1], law.constant[0] * coordinate(keys[0], data.x) ** predicted)
    return Facet(data, edge, law, line)


def law_line(law: Law, runs: pd.DataFrame, data: Grid, edge: Boundary, keys: tuple[str, str]) -> np.ndarray:
    """y [X] where the law's combination is what it is on the measured boundary (the geometric mean over its columns)."""
    place = axis_place(data.y[data.y > 0])
    fine = np.linspace(place[0], place[-1], 400)
    y = np.exp(fine) if is_log(data.y[data.y > 0]) else fine

    def combination(at_x: np.ndarray, at_y: np.ndarray) -> np.ndarray:
        columns = {keys[0]: at_x, keys[1]: at_y}
        # Where tau is an axis, it is what training would write.
        columns |= {"flip_rate": columns[MARGIN]} if MARGIN in columns else {}
        return law.of(runs.iloc[[0] * len(at_x)].assign(**columns))

    there = np.isfinite(edge.y)
    if not there.any():
        return np.full(len(data.x), np.nan)
    level = np.exp(np.mean(np.log(combination(data.x[there], edge.y[there]))))
    values = combination(np.tile(data.x, len(y)), np.repeat(y, len(data.x))).reshape(len(y), len(data.x))
    return crossing(y, values, level)


def shared_draws(runs: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """Those of the axes `keys` along which cells have training samples of the same draws: the same seed, and the same sizes.

    What such a draw does by chance it does in all these cells, which shows as a stripe.
    """
    drawn_by = [key for key in ("seeds.data", "data.dim", "data.n_train") if key in runs]
    if "seeds.data" not in runs:
        return []
    return [key for key in keys if (runs.groupby(drawn_by, dropna=False)[key].nunique() > 1).any()]
