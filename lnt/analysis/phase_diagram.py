"""Phase diagrams as numbers: a value over two axes, the line on which it crosses a level, and the law of this line."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lnt.analysis.cells import conditions, swept_keys, typed_plan
from lnt.analysis.intervals import jackknife_interval, mean_interval
from lnt.analysis.load import RunTables
from lnt.column_names import ERRORS, SEEDS
from lnt.theory.laws import MARGIN, Law, coordinate, least_coordinate, value_at

Axes = tuple[np.ndarray, np.ndarray]  # the points of x and y, in ascending order


def is_log(values: np.ndarray) -> bool:
    """Whether the ascending points [X] of an axis lie more evenly in factors than in steps: its scale is log then."""
    if len(values) < 3 or values[0] <= 0:
        return False
    steps, factors = np.diff(values), np.diff(np.log(values))
    return bool(factors.std() / factors.mean() < steps.std() / steps.mean())


@dataclass(frozen=True)
class Grid:
    """A value over two axes, seed by seed: the data of a phase diagram."""

    x: np.ndarray  # [X]
    y: np.ndarray  # [Y]
    values: np.ndarray  # [Y, X, seeds], NaN where missing
    missing: np.ndarray | None = None  # [Y, X], share of the planned runs that did not complete; NaN where none was planned

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean over the seeds present, [Y, X], NaN in empty cells."""
        return seed_mean(self.values)


def seed_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN where all are."""
    # Not nanmean, which warns of every empty cell; there are many in a sweep that is still running.
    there = np.isfinite(values)
    total, count = np.where(there, values, 0).sum(-1), there.sum(-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def grid(runs: pd.DataFrame, x: str, y: str, value: str, axes: Axes | None = None, planned: pd.DataFrame | None = None) -> Grid:
    """Arrange runs on the axes x and y; runs of a cell are ordered by their seeds, so that seeds pair across cells.

    `axes` default to the points of the runs, `planned` are the rows of `cells.planned_cells` that belong here. Without
    a plan, a cell misses what it has less than the fullest cell.
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
    return Grid(xs, ys, values, np.where(completed > 0, np.nan_to_num(missing), missing))


@dataclass(frozen=True)
class Boundary:
    """Where a phase diagram crosses a level: y as a function of x, with 95 % intervals over seeds."""

    level: float
    y: np.ndarray  # [X], NaN where the column does not cross for good
    low: np.ndarray  # NaN too where cells at the crossing have too few seeds
    high: np.ndarray
    left_out: np.ndarray  # [seeds, X], without one seed each; the seed is left out of all cells, as these share random streams


def boundary(data: Grid, level: float) -> Boundary:
    """The crossing of `level` in each column, and its interval: the y at which the level lies in the interval of the mean.

    low and high are where the ends of `intervals.mean_interval`, interpolated between cells, cross the level for the first and
    for the last time, or the edge of the diagram if they leave it. At the true crossing the level is in the interval of the
    mean with 95 %, so low and high enclose it with at least 95 %, whatever the shape of the surface.
    """
    rises = direction(data.mean, level)
    edge = crossing(data.y, data.mean, level, rises)
    seeds = np.arange(data.values.shape[2])
    without = [crossing(data.y, seed_mean(data.values[:, :, seeds != seed]), level, rises) for seed in seeds]
    lower, upper = mean_interval(data.values)
    # A value that falls with y is below the level first at the lower end of its interval, and last at the upper one.
    early, late = (upper, lower) if rises > 0 else (lower, upper)
    place = axis_place(data.y)
    high = _crosses(place, late, level, rises, place[-1])
    # Seen from the other end of the axis, the first crossing is the last.
    low = _crosses(place[::-1], early[::-1], level, -rises, place[0])
    known = np.isfinite(edge) & np.isfinite(low) & np.isfinite(high)
    low, high = (np.where(known, np.exp(end) if is_log(data.y) else end, np.nan) for end in (low, high))
    return Boundary(level, edge, low, high, np.array(without).reshape(len(seeds), len(edge)))


def direction(mean: np.ndarray, level: float) -> int:
    """+1 if the value rises through the level along y in most of the diagram [Y, X], -1 if it falls, 0 if it does neither.

    The sign of the covariance, within columns, of the place on the axis y and of lying above the level.
    """
    there = np.isfinite(mean)
    place = np.where(there, np.arange(len(mean))[:, None], 0)
    middle = place.sum(0) / np.maximum(there.sum(0), 1)
    # Rounded: a sum of numbers that cancel must be 0, not of the order of rounding errors.
    return int(np.sign(np.round(((place - middle) * (there & (mean > level))).sum(), 6)))


def axis_place(points: np.ndarray) -> np.ndarray:
    """The points of an axis in the coordinate in which it is drawn, log or the points themselves."""
    return np.log(points) if is_log(points) else points


def crossing(y: np.ndarray, mean: np.ndarray, level: float, rises: int | None = None) -> np.ndarray:
    """For each column of mean [Y, X] the y from which on it lies beyond `level` for good; NaN if there is none.

    `rises` (default: `direction` of the whole diagram) says which side is beyond. Interpolated linearly in y, in log(y) where
    that is the scale of the axis. NaN too if a missing cell follows the last one that is not beyond: between cells that are no
    neighbours the crossing may lie anywhere.
    """
    found = _crosses(axis_place(y), mean, level, direction(mean, level) if rises is None else rises, np.nan)
    return np.exp(found) if is_log(y) else found


def _crosses(place: np.ndarray, values: np.ndarray, level: float, rises: int, never: float) -> np.ndarray:
    """`crossing` in the coordinate of the axis; `never` if the last cell of a column is not beyond the level."""
    before = np.isfinite(values) & ((values <= level) if rises > 0 else (values > level))
    # argmax finds the first cell from the end. Without any it gives 0, and nothing comes after the last cell.
    last = len(place) - 1 - before[::-1].argmax(0)
    after, columns = np.minimum(last + 1, len(place) - 1), np.arange(values.shape[1])
    here, there = values[last, columns], values[after, columns]
    crosses = (last < after) & np.isfinite(there) & (rises != 0)
    step = np.divide(level - here, there - here, out=np.full(here.shape, np.nan), where=crosses)
    found = place[last] + step * (place[after] - place[last])
    return np.where(before[-1] & (rises != 0), never, found)


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
        points = pd.concat([points, plan[[x, y]].astype(float)])
    # The same points in all panels, which share their axes.
    axes = (np.unique(points[x].dropna()), np.unique(points[y].dropna()))
    found = {}
    for title in list((planned or {}) | ran)[:most]:
        part = ran.get(title, runs.head(0))
        data = grid(part, x, y, value, axes, None if planned is None else planned.get(title, plan.head(0)))
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
