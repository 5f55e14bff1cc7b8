"""Phase diagrams as numbers: a value over two axes, the line on which it crosses a level, and the law of this line."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lnt.column_names import ERRORS, SEEDS
from lnt.theory.laws import Law, coordinate, least_coordinate

BOOTSTRAPS = 200


@dataclass(frozen=True)
class Grid:
    """A value over two axes, seed by seed: the data of a phase diagram."""

    x: np.ndarray  # [X]
    y: np.ndarray  # [Y]
    values: np.ndarray  # [Y, X, seeds], NaN where missing

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean over the seeds present, [Y, X], NaN in empty cells."""
        return _mean(self.values)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN where all are."""
    # Not nanmean, which warns of every empty cell; there are many in a sweep that is still running.
    there = np.isfinite(values)
    total, count = np.where(there, values, 0).sum(-1), there.sum(-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def grid(runs: pd.DataFrame, x: str, y: str, value: str) -> Grid:
    """Arrange runs on the axes x and y; runs of a cell are ordered by their seeds, so that seeds pair across cells."""
    runs = runs.dropna(subset=[x, y])
    (xs, i), (ys, j) = (np.unique(runs[key].astype(float), return_inverse=True) for key in (x, y))
    # Numbered over the whole table, not within each cell: place s holds the same seed in all cells, or NaN.
    seeds = runs.groupby([key for key in SEEDS if key in runs], dropna=False, sort=True).ngroup().to_numpy()
    values = np.full((len(ys), len(xs), seeds.max() + 1), np.nan)
    values[j, i, seeds] = runs[value].astype(float)
    return Grid(xs, ys, values)


@dataclass(frozen=True)
class Boundary:
    """Where a phase diagram crosses a level: y as a function of x, with bootstrap quantiles over seeds."""

    level: float
    y: np.ndarray  # [X], NaN where the column never crosses
    low: np.ndarray
    high: np.ndarray
    resampled: np.ndarray  # [BOOTSTRAPS, X]


def boundary(data: Grid, level: float) -> Boundary:
    """The crossing of `level` in each column, its 95 % band from resampling seeds (the same seeds in all cells)."""
    # A fixed seed: the same results give the same band each time.
    rng = np.random.default_rng(0)
    seeds = data.values.shape[2]
    samples = np.stack(
        # The same seeds in all cells, since runs of one seed share their random streams across cells.
        [crossing(data.y, _mean(data.values[:, :, rng.integers(0, seeds, seeds)]), level) for _ in range(BOOTSTRAPS)]
    )
    # A column that rarely crosses has no band; quantiles of the few crossings would look sure of themselves.
    enough = np.isfinite(samples).mean(0) > 0.5
    # Zeros stand in for the columns left out: nanquantile warns of columns that are all NaN.
    low, high = (
        np.where(enough, np.nanquantile(np.where(enough, samples, 0), quantile, axis=0), np.nan) for quantile in (0.025, 0.975)
    )
    return Boundary(level, crossing(data.y, data.mean, level), low, high, samples)


def crossing(y: np.ndarray, mean: np.ndarray, level: float) -> np.ndarray:
    """For each column of mean [Y, X] the y at which it crosses `level` for good, interpolated linearly; NaN if it does not."""
    above, there = mean > level, np.isfinite(mean)
    changes = (above[1:] != above[:-1]) & there[1:] & there[:-1]
    # argmax finds the first change from the end. Without any it gives 0, and the last line makes that NaN.
    last = len(y) - 2 - changes[::-1].argmax(0)
    columns = np.arange(mean.shape[1])
    below, over = mean[last, columns], mean[last + 1, columns]
    step = np.divide(level - below, over - below, out=np.zeros_like(below), where=over != below)
    return np.where(changes.any(0), y[last] + step * (y[last + 1] - y[last]), np.nan)


@dataclass(frozen=True)
class PowerLaw:
    """v(y) = constant * u(x)^exponent along a boundary, with 95 % bootstrap intervals (u, v: theory.laws.coordinate)."""

    exponent: tuple[float, float, float]  # measured: value, low, high
    constant: tuple[float, float, float]  # at the predicted exponent
    predicted: float


def power_law(x: np.ndarray, edge: Boundary, keys: tuple[str, str], predicted: float, n: int) -> PowerLaw | None:
    """The log-log slope of a boundary beside the predicted one, and the constant at the predicted one; None if too short.

    Laws are about expectations, so only points with v(y) above theory.laws.least_coordinate are fitted.
    """
    u, least = coordinate(keys[0], x), least_coordinate(keys[1], n)

    def fits(y: np.ndarray) -> tuple[float, float]:
        v = coordinate(keys[1], y)
        use = np.isfinite(v) & (v > least) & (u > 0)
        # Two points fit any slope.
        if use.sum() < 3:
            return np.nan, np.nan
        log_u, log_v = np.log(u[use]), np.log(v[use])
        return float(np.polyfit(log_u, log_v, 1)[0]), float(np.exp(np.mean(log_v - predicted * log_u)))

    measured, samples = fits(edge.y), np.array([fits(y) for y in edge.resampled])
    samples = samples[np.isfinite(samples).all(1)]
    # Most resamples must give a slope, or the interval would be that of a lucky few.
    if not np.isfinite(measured[0]) or len(samples) < BOOTSTRAPS // 2:
        return None
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    exponent, constant = ((measured[i], float(low[i]), float(high[i])) for i in (0, 1))
    return PowerLaw(exponent, constant, predicted)


def collapse(combination: np.ndarray, value: np.ndarray, bins: int = 40) -> float:
    """The share of the variance of cell means that a function of the combination alone explains, 1 for a perfect collapse.

    R^2 of the means over `bins` quantile bins of the combination.
    """
    use = np.isfinite(combination) & np.isfinite(value)
    # With one point in each bin the bin means would explain everything.
    if use.sum() < 2 * bins or np.var(value[use]) == 0:
        return np.nan
    # Equal values of the combination can make edges coincide.
    group = pd.qcut(combination[use], bins, duplicates="drop")
    fitted = pd.Series(value[use]).groupby(group, observed=True).transform("mean")
    return float(1 - np.var(value[use] - fitted) / np.var(value[use]))


@dataclass(frozen=True)
class Facet:
    """One panel of a phase diagram: its data, its boundary at a level, and the law that the boundary follows."""

    data: Grid
    edge: Boundary | None
    law: PowerLaw | None


def facet(runs: pd.DataFrame, x: str, y: str, value: str, level: float | None, theory: Law | None) -> Facet:
    """A value over two axes. An error has a boundary: at `level`, or halfway between its lowest and its highest cell."""
    data = grid(runs, x, y, value)
    finite = data.mean[np.isfinite(data.mean)]
    if not finite.size or min(data.mean.shape) < 2 or (level is None and value not in ERRORS):
        return Facet(data, None, None)
    edge = boundary(data, (finite.min() + finite.max()) / 2 if level is None else level)
    predicted = theory.boundary_exponent(x, y) if theory else None
    if predicted is None:
        return Facet(data, edge, None)
    return Facet(data, edge, power_law(data.x, edge, (x, y), predicted, int(runs["data.n_train"].min())))
