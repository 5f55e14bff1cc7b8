"""Which runs a sweep with refine=boundary trains next: a function of the values so far, so that a rerun chooses the same.

Each column of the grid has a crossing of the level, with the band of `level_set.band`. A round asks for more in every column
that needs it:

1. at first every fourth column or so, in cells that are far apart, with FEWEST_SEEDS seeds each;
2. then cells about the crossing and about the ends of the band, until the cells that these lie between are neighbours, or no
   farther apart than the band is wide;
3. then the other columns, beginning where the crossing would be by the columns beside them;
4. last more seeds in those few cells, LEAST_SEEDS or so many that the band is as narrow as asked; the width of a t interval
   says how many.

The cells of a column that enclose its crossing and its band have the same seeds, so that the mean along them is as smooth as
that of the whole grid. The crossing and its band are then those of the whole grid with these seeds, but for the interpolation.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lnt.intervals import FEWEST_SEEDS, half_width
from lnt.level_set import CONFIDENCE, axis_place, band, direction, filled, is_log, seed_mean

# No column ends with fewer. One whose first seeds happen to be alike would end too early, and with values that are skewed, as
# test errors are, those seeds lack the rare large values: with five, kou2023 has its boundary too low by 5 % of the band.
LEAST_SEEDS = 10
COARSE = 6  # columns, and cells in each of them, of the first round
# The seeds of a column grow by at least and at most these factors: few rounds, but a first estimate of their spread is rough.
GROWTH = (1.2, 2.0)


@dataclass(frozen=True)
class Search:
    """A boundary on a grid of cells [Y, X] with so many seeds, that is looked for."""

    x: np.ndarray  # [X], ascending
    y: np.ndarray  # [Y], ascending
    seeds: int
    level: float
    width: float  # of the band, as a share of the axis y as it is drawn
    budget: int | None = None  # runs

    def next(self, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """The seeds [Y, X] that cells are to have after the next round; `asked` itself at the end.

        `values` [Y, X, seeds] are those of the runs so far, NaN where there is none; `asked` [Y, X] are the seeds they were to
        have.
        """
        if not asked.any():
            return self.coarse()
        found = self.found(values, asked)
        return self._within_budget(asked, self._finer(found, asked), np.nan_to_num(found.share, nan=np.inf))

    def found(self, values: np.ndarray, asked: np.ndarray) -> "Found":
        """The boundary as far as it is known."""
        mean, place = seed_mean(values), axis_place(self.y)
        rises = direction(mean, self.level)
        edge, low, high = band(self.y, values, self.level, asked)
        top = filled(place, mean, asked)[-1]
        before = (top <= self.level) if rises > 0 else (top > self.level)
        edge, low, high = (np.log(part) if is_log(self.y) else part for part in (edge, low, high))
        share = (high - low) / (place[-1] - place[0])
        # In numbers of cells: what is trained next is a cell.
        edge, low, high = (np.interp(part, place, np.arange(len(place))) for part in (edge, low, high))
        return Found(edge, low, high, share, before)

    def coarse(self) -> np.ndarray:
        """The first round: cells that are far apart."""
        wanted = np.zeros((len(self.y), len(self.x)), int)
        wanted[np.ix_(_spread(len(self.y)), _spread(len(self.x)))] = FEWEST_SEEDS
        return wanted

    def _finer(self, found: "Found", asked: np.ndarray) -> np.ndarray:
        """More cells where the crossing is not enclosed yet, more columns once it is, more seeds where the band is too wide."""
        begun, wanted, enclosed = asked.any(0), asked.copy(), True
        for column in np.flatnonzero(begun).tolist():
            seeds = asked[:, column].max()
            cells = np.flatnonzero(asked[:, column] == seeds)
            more = found.about_crossing(column, cells, len(self.y))
            enclosed &= not more
            more = more or found.about_ends(column, cells, len(self.y))
            wide = found.share[column] > self.width or (seeds < LEAST_SEEDS and np.isfinite(found.share[column]))
            if not more and begun.all() and wide:
                seeds, shrinks = self._enough(seeds, found.share[column])
                more = found.enclosing(column, cells, shrinks)
            wanted[sorted(more), column] = seeds
        if enclosed:
            for column in np.flatnonzero(~begun).tolist():
                wanted[self._guess(found, column), column] = min(LEAST_SEEDS, self.seeds)
        return wanted

    def _guess(self, found: "Found", column: int) -> list[int]:
        """The cells in which a column begins: the ends of its band, if crossing and band are linear in x between columns."""
        known, place = np.flatnonzero(np.isfinite(found.share)), axis_place(self.x)
        if not known.size:
            return []
        edge, reach = (np.interp(place[column], place[known], part[known]) for part in (found.edge, found.high - found.low))
        ends = np.floor(edge - max(reach / 2, 0.5)), np.ceil(edge + max(reach / 2, 0.5))
        return sorted({int(np.clip(end, 0, len(self.y) - 1)) for end in ends})

    def _enough(self, seeds: int, share: float) -> tuple[int, float]:
        """So many seeds that the band is as narrow as asked, within the bounds of GROWTH; by what factor it shrinks with them.

        The band is as wide as the interval of a mean.
        """
        least, most = (min(max(math.ceil(factor * seeds), LEAST_SEEDS), self.seeds) for factor in GROWTH)
        numbers = np.arange(least, most + 1)
        shrinks = half_width(1, numbers, CONFIDENCE) / half_width(1, seeds, CONFIDENCE)
        narrow = share * shrinks <= self.width
        chosen = narrow.argmax() if narrow.any() else -1
        return int(numbers[chosen]), float(shrinks[chosen])

    def _within_budget(self, asked: np.ndarray, wanted: np.ndarray, urgent: np.ndarray) -> np.ndarray:
        """What the budget allows of a round: whole columns, the most urgent first."""
        if self.budget is None:
            return wanted
        costs, order = (wanted - asked).sum(0), np.argsort(-urgent, kind="stable")
        affordable = order[asked.sum() + costs[order].cumsum() <= self.budget]
        chosen = asked.copy()
        chosen[:, affordable] = wanted[:, affordable]
        return chosen


@dataclass(frozen=True)
class Found:
    """The crossing in each column [X] and its band, in numbers of cells along y; NaN where a column does not cross."""

    edge: np.ndarray
    low: np.ndarray
    high: np.ndarray
    share: np.ndarray  # the width of the band, as a share of the axis as it is drawn
    before: np.ndarray  # whether the last cell of a column that does not cross is on the side where the others begin

    def about_crossing(self, column: int, cells: np.ndarray, count: int) -> set[int]:
        """The cells, of `count` along y, that a column lacks to enclose its crossing; `cells` are those that it uses."""
        first, last = int(cells[0]), int(cells[-1])
        if np.isfinite(self.edge[column]):
            return _between(cells, [self.edge[column]], self._reach(column))
        # Ever farther out, to the edge of the diagram.
        step = max(1, last - first)
        return {min(last + step, count - 1) if self.before[column] else max(first - step, 0)} - {first, last}

    def about_ends(self, column: int, cells: np.ndarray, count: int) -> set[int]:
        """Those that it lacks to enclose the ends of its band, the crossing being enclosed."""
        first, last, edge, low, high = int(cells[0]), int(cells[-1]), self.edge[column], self.low[column], self.high[column]
        if np.isnan(self.share[column]):  # no crossing, or runs that diverged
            return set()
        below, above = (max(1, round(abs(edge - end))) for end in (first, last))
        found = _between(cells, [low, high], self._reach(column))
        found |= {max(first - below, 0)} if low < first else set()
        return found | ({min(last + above, count - 1)} if high > last else set())

    def _reach(self, column: int) -> float:
        """How far apart the cells about a point may be: as far as the band is wide."""
        return max(1.0, self.high[column] - self.low[column])

    def enclosing(self, column: int, cells: np.ndarray, shrinks: float) -> set[int]:
        """The cells next to the crossing and to the ends of its band once that has become narrower by a factor."""
        edge = self.edge[column]
        low, high = (edge + shrinks * (part[column] - edge) for part in (self.low, self.high))
        cells = np.array(sorted({*cells.tolist(), *_between(cells, [low, high], shrinks * self._reach(column))}))
        return {int(cell) for pair in _neighbours(cells, [low, edge, high]) for cell in pair}


def _spread(count: int) -> np.ndarray:
    """Numbers below `count`, evenly spread from end to end."""
    return np.unique(np.linspace(0, count - 1, COARSE).round().astype(int))


def _neighbours(cells: np.ndarray, points: Iterable[float]) -> Iterable[tuple[int, int]]:
    """For each point the cells on both sides of it, or the outermost one twice."""
    for point in points:
        below, above = cells[cells <= point], cells[cells >= point]
        yield (below[-1] if below.size else cells[0]), (above[0] if above.size else cells[-1])


def _between(cells: np.ndarray, points: list[float], allowed: float) -> set[int]:
    """A cell near each point whose neighbours are farther apart than allowed."""
    found = set()
    for point, (left, right) in zip(points, _neighbours(cells, points), strict=True):
        if right - left > allowed:
            # In the middle half, so that the gap shrinks whatever the shape of the surface.
            quarter = max(1, (right - left) // 4)
            found.add(int(np.clip(round(point), left + quarter, right - quarter)))
    return found
