"""Where the mean over seeds of a value on a grid crosses a level, and the band that is to hold the crossing with 95 %.

The analysis draws it, and a sweep with refine=boundary (lnt/sweeps/next_round.py) looks for it.
"""

import numpy as np

from lnt.intervals import mean_interval

# Of the intervals of means that make the band, so that it holds the crossing with about 95 %: near a boundary test errors have
# a skewness of 1 to 2, and t intervals of ten of them, made for 95 %, hold their mean with 88 to 95 %. See docs/results.md.
CONFIDENCE = 0.98


def is_log(values: np.ndarray) -> bool:
    """Whether the ascending points [X] of an axis lie more evenly in factors than in steps: its scale is log then."""
    if len(values) < 3 or values[0] <= 0:
        return False
    steps, factors = np.diff(values), np.diff(np.log(values))
    return bool(factors.std() / factors.mean() < steps.std() / steps.mean())


def axis_place(points: np.ndarray) -> np.ndarray:
    """The points of an axis in the coordinate in which it is drawn, log or the points themselves."""
    return np.log(points) if is_log(points) else points


def seed_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN where all are."""
    # Not nanmean, which warns of every empty cell; there are many in a sweep that is still running.
    there = np.isfinite(values)
    total, count = np.where(there, values, 0).sum(-1), there.sum(-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def band(
    y: np.ndarray, values: np.ndarray, level: float, asked: np.ndarray | None = None, confidence: float = CONFIDENCE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The y [X] at which the mean of values [Y, X, seeds] crosses `level` in each column, and the ends of its band.

    The band is where the level lies in the interval of the mean: low and high are where the ends of `intervals.mean_interval`,
    interpolated between cells, cross the level for the first and for the last time, or the edge of the diagram if they leave
    it. At the true crossing the level is in the interval of the mean with `confidence` for normal values, with less if they
    are skewed; low and high enclose it at least as often, whatever the shape of the surface. `asked`: see `filled`.
    """
    mean, (lower, upper) = seed_mean(values), mean_interval(values, confidence)
    rises, place = direction(mean, level), axis_place(y)
    mean, lower, upper = (filled(place, part, asked) for part in (mean, lower, upper))
    edge = crossing(y, mean, level, rises)
    # A value that falls with y is below the level first at the lower end of its interval, and last at the upper one.
    early, late = (upper, lower) if rises > 0 else (lower, upper)
    high = _crosses(place, late, level, rises, place[-1])
    # Seen from the other end of the axis, the first crossing is the last.
    low = _crosses(place[::-1], early[::-1], level, -rises, place[0])
    known = np.isfinite(edge) & np.isfinite(low) & np.isfinite(high)
    low, high = (np.where(known, np.exp(end) if is_log(y) else end, np.nan) for end in (low, high))
    return edge, low, high


def mean_crossing(y: np.ndarray, values: np.ndarray, level: float, rises: int, asked: np.ndarray | None) -> np.ndarray:
    """`crossing` of the mean over seeds of values [Y, X, seeds]; `asked`: see `filled`."""
    return crossing(y, filled(axis_place(y), seed_mean(values), asked), level, rises)


def filled(place: np.ndarray, values: np.ndarray, asked: np.ndarray | None) -> np.ndarray:
    """Values [Y, X] of a sweep that trains few cells, in every cell: interpolated along y, and constant beyond the outermost.

    `asked` [Y, X] is how many seeds each cell was to have. A column uses those of its cells that were to have the most: these
    share their seeds, so that their differences are more exact than each of them. None: a whole grid, which is left as it is.
    """
    if asked is None:
        return values
    used = (asked == asked.max(0)) & np.isfinite(values)
    columns = [
        np.interp(place, place[there], column[there]) if there.any() else np.full(len(place), np.nan)
        for there, column in zip(used.T, values.T, strict=True)
    ]
    return np.stack(columns, 1)


def direction(mean: np.ndarray, level: float) -> int:
    """+1 if the value rises through the level along y in most of the diagram [Y, X], -1 if it falls, 0 if it does neither.

    The sign of the covariance, within columns, of the place on the axis y and of lying above the level.
    """
    there = np.isfinite(mean)
    place = np.where(there, np.arange(len(mean))[:, None], 0)
    middle = place.sum(0) / np.maximum(there.sum(0), 1)
    # Rounded: a sum of numbers that cancel must be 0, not of the order of rounding errors.
    return int(np.sign(np.round(((place - middle) * (there & (mean > level))).sum(), 6)))


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
