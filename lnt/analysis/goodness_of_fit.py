"""How well cell means follow a law's combination of parameters, beside rival combinations and beside chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import pandas as pd

from lnt.analysis.phase_diagram import Grid
from lnt.intervals import jackknife_interval
from lnt.level_set import seed_mean
from lnt.theory.laws import MARGIN, Law

FOLDS = 10
PERMUTATIONS = 99
FEWEST_CELLS = 20


class Ordering:
    """The cells of a diagram in the order of a combination of parameters, found once for many sets of values."""

    def __init__(self, combination: np.ndarray, place: np.ndarray) -> None:
        """`combination` [C] of the parameters of each cell, and its `place` [C] on the axis x."""
        self.use = np.isfinite(combination) & (combination > 0)
        self.c = np.log(combination[self.use])
        # Rounded: combinations that are equal may differ by rounding, and equal ones get one value.
        self.points, self.index = np.unique(np.round(self.c, 9), return_inverse=True)
        self.column = np.unique(place[self.use], return_inverse=True)[1]

    def explained(self, values: np.ndarray) -> np.ndarray:
        """The share of the variance of cell means [sets, C] that a falling function of the combination alone predicts in
        held-out cells, [sets].

        1 - sum (v - f(c))^2 / sum (v - mean v)^2, with f the best non-increasing function of the other cells (isotonic
        regression, linear in log(c) between them; nothing to tune). Whole columns of the diagram are held out, those that
        share their place on the axis x: a law says that what holds in some of them holds in the others. 1 is a perfect
        collapse; pure noise gives about 0 or less. NaN with fewer than FEWEST_CELLS cells, two columns, or where nothing
        varies.
        """
        rows, found = values[:, self.use], np.full(len(values), np.nan)
        there = np.isfinite(rows)
        # Sets in which the same cells are empty share their order.
        for mask in {row.tobytes(): row for row in there}.values():
            alike = (there == mask).all(1)
            found[alike] = self._explained(rows[alike][:, mask], mask)
        return found

    def _explained(self, rows: np.ndarray, there: np.ndarray) -> np.ndarray:
        """`explained` for sets of values [sets, cells] of the cells that are `there`."""
        columns, column = np.unique(self.column[there], return_inverse=True)
        if rows.shape[1] < FEWEST_CELLS or len(columns) < 2:
            return np.full(len(rows), np.nan)
        c, index, predicted = self.c[there], self.index[there], np.empty(rows.shape)
        # Neighbouring columns lie in different folds, so that the others surround those that are held out.
        fold = column % FOLDS
        for held in range(min(FOLDS, len(columns))):
            out = fold == held
            predicted[:, out] = _falling(self.points, index[~out], rows[:, ~out], c[out])
        left, total = np.sum((rows - predicted) ** 2, 1), np.sum((rows - rows.mean(1, keepdims=True)) ** 2, 1)
        return 1 - np.divide(left, total, out=np.full(len(rows), np.nan), where=np.ptp(rows, axis=1) > 0)


def _falling(points: np.ndarray, index: np.ndarray, rows: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The non-increasing functions of points[index] that are closest to each of the rows [sets, cells] in least squares, at
    other points, [sets, others].
    """
    from scipy.optimize import isotonic_regression  # takes a tenth of a small analysis to import, and few need it

    counts = np.bincount(index, minlength=len(points))
    there = counts > 0
    counts, number = counts[there], (np.cumsum(there) - 1)[index]
    # Where the others lie among the points: 2.5 is halfway from the third to the fourth.
    place = np.interp(at, points[there], np.arange(len(counts)))
    below, above = np.floor(place).astype(int), np.ceil(place).astype(int)
    found = np.empty((len(rows), len(at)))
    for i, row in enumerate(rows):
        means = np.bincount(number, row) / counts
        fitted = isotonic_regression(means, weights=counts, increasing=False).x
        found[i] = fitted[below] + (place - below) * (fitted[above] - fitted[below])
    return found


def changed(law: Law, key: str, by: float) -> Law:
    """The law with another exponent of the swept key: of the SNR at fixed s and d, if it is what is swept."""
    shift = {"data.signal_norm": by, "data.noise_std": -by, "data.dim": -by / 2} if key == "data.snr" else {key: by}
    exponents = {name: law.exponents.get(name, 0) + shift.get(name, 0) for name in {**law.exponents, **shift}}
    return replace(law, exponents=MappingProxyType(exponents))


def rivals(law: Law, keys: tuple[str, str]) -> list[Law]:
    """The laws in which the exponent of one of the two swept keys is one less, one more, or 0, and that without its finite-size
    term.
    """
    own = law.exponents_of(keys)
    steps = {key: dict.fromkeys((-1.0, 1.0, -float(own[key]))) for key in keys if own.get(key)}
    others = [changed(law, key, by) for key, few in steps.items() for by in few]
    return [*others, replace(law, finite_size=False)] if law.finite_size else others


@dataclass(frozen=True)
class Fit:
    """How well the cells follow one combination of parameters."""

    kind: str  # law, rival, or shuffled: cells with the values of others
    exponents: Mapping[str, float]  # of the two swept keys
    r2: float  # of `Ordering.explained`; shuffled: what 95 % of PERMUTATIONS random assignments stay below
    lead: tuple[float, float, float]  # the law's R^2 minus this one, and its 95 % interval over seeds
    without: str = ""  # a term of the law that this one lacks

    @property
    def combination(self) -> str:
        """The combination as text, for tables."""
        bases = {key: f"(1 - 2 {key})" if key == MARGIN else key for key in self.exponents}
        product = " ".join(f"{bases[key]}^{power:g}" for key, power in self.exponents.items() if power)
        return f"{product} without {self.without}" if self.without else product


def compared(data: Grid, runs: pd.DataFrame, keys: tuple[str, str], law: Law) -> list[Fit]:
    """The law first, then its rivals, then what chance reaches, on the cells of a diagram in which the law's combination is
    above 0.
    """
    laws = [law, *rivals(law, keys)]
    x, y = (runs[key].astype(float) for key in keys)
    of_runs = pd.DataFrame({number: one.of(runs) for number, one in enumerate(laws)}, runs.index)
    of_cells = of_runs.groupby([y, x]).mean().reindex(pd.MultiIndex.from_product((data.y, data.x)))
    place = np.broadcast_to(data.x, data.mean.shape).ravel()
    orders = [Ordering(of_cells[number].to_numpy(), place) for number in of_cells]

    seeds = np.arange(data.values.shape[2])
    means = np.stack([data.mean, *(seed_mean(data.values[:, :, seeds != seed]) for seed in seeds)]).reshape(-1, data.mean.size)
    # All combinations are judged by the same cells, those that the law is about.
    means[:, ~orders[0].use] = np.nan
    scores = np.stack([order.explained(means) for order in orders], 1)
    fits, left_out = scores[0], scores[1:]
    low, high = jackknife_interval(fits[0] - fits, left_out[:, :1] - left_out)
    own = [{key: one.exponents_of(keys).get(key, 0.0) for key in keys} for one in laws]
    rows = [
        Fit(
            "rival" if i else "law",
            own[i],
            float(fits[i]),
            (float(fits[0] - fits[i]), float(low[i]), float(high[i])),
            "finite sizes" if law.finite_size and not one.finite_size else "",
        )
        for i, one in enumerate(laws)
    ]
    chance = shuffled(orders[0], data.mean.ravel())
    return [*rows, Fit("shuffled", own[0], chance, (float(fits[0] - chance), np.nan, np.nan))]


def shuffled(order: Ordering, value: np.ndarray) -> float:
    """The R^2 of `Ordering.explained` that 95 % of PERMUTATIONS random assignments of the values to cells stay below."""
    use = order.use & np.isfinite(value)
    # A fixed seed: the same results give the same number each time.
    rng, mixed = np.random.default_rng(0), np.full((PERMUTATIONS, len(value)), np.nan)
    for row in mixed:
        row[use] = rng.permutation(value[use])
    return float(np.quantile(order.explained(mixed), 0.95))


def fits_table(fits: Sequence[Fit]) -> pd.DataFrame:
    """Fits as a table."""
    rows = [(fit.kind, fit.combination, fit.r2, *fit.lead) for fit in fits]
    return pd.DataFrame(rows, columns=["kind", "combination", "r2", "lead", "lead_low", "lead_high"])
