"""What lines of means have in common: intervals, lines that lie on one another, and errors that end at 0."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from lnt.column_names import ERRORS

THICKEST, THINNEST = 3.0, 1.2  # lines: the first is the thickest, so that one that lies on it does not hide it
SAME = 0.004  # of the range of a panel: lines that are nowhere farther apart cannot be told apart


def thickness(number: int, count: int) -> float:
    """The width of a line in points; `number` counts from 0."""
    return THICKEST - (THICKEST - THINNEST) * number / max(count - 1, 1)


def lying_on(panels: Sequence[np.ndarray]) -> dict[int, int]:
    """For each line that lies on an earlier one in all panels, the first such; of each panel the means [lines, places]."""
    found: dict[int, int] = {}
    panels = [np.where(np.isfinite(means), means, np.nan) for means in panels]
    for i, j in itertools.combinations(range(len(panels[0])), 2):
        seen = any(np.isfinite(means[j]).any() for means in panels)
        if seen and all(_alike(means, i, j) for means in panels):
            found.setdefault(j, i)
    return found


def _alike(means: np.ndarray, i: int, j: int) -> bool:
    """Whether two lines of a panel cannot be told apart."""
    spread = np.nanmax(means) - np.nanmin(means) if np.isfinite(means).any() else 0.0
    return bool(np.allclose(means[i], means[j], rtol=0, atol=SAME * spread, equal_nan=True))


def draw_intervals(ax: Axes, x: Any, low: Any, high: Any, colour: str, opacity: float) -> None:
    """A band along a line, and a bar where neither neighbour has an interval: a band of one point is nothing."""
    at, low, high = (np.asarray(values, float) for values in (x, low, high))
    ax.fill_between(at, low, high, color=colour, alpha=opacity, linewidth=0)
    single = alone(np.isfinite(low) & np.isfinite(high))
    ax.vlines(at[single], low[single], high[single], color=colour, linewidth=1)


def alone(there: np.ndarray) -> np.ndarray:
    """[X], which of the points that are `there` have no neighbour, so that no line leads to them."""
    return there & ~(np.append(there[1:], False) | np.insert(there[:-1], 0, False))


def is_never_negative(value: str) -> bool:
    """Whether a column holds errors or steps."""
    return value in ERRORS or value.endswith("_step")


def end_at_zero(ax: Axes) -> None:
    """Cut the axis of errors or steps just below 0, where intervals reach and these do not; points at 0 are whole."""
    highest = ax.get_ylim()[1]
    # Of an axis that begins far from 0 the margin above the data would be too narrow for the rings around points.
    ax.set_ylim(-0.03 * highest, 1.05 * highest)
