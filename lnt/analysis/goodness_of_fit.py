"""How well cell means follow a law's combination of parameters, beside rival combinations and beside chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from lnt.analysis.phase_diagram import Grid, grid
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

    def explained(self, value: np.ndarray) -> float:
        """The share of the variance of cell means [C] that a falling function of the combination alone predicts in held-out
        cells.

        1 - sum (v - f(c))^2 / sum (v - mean v)^2, with f the best non-increasing function of the other cells (isotonic
        regression, linear in log(c) between them; nothing to tune). Whole columns of the diagram are held out, those that
        share their place on the axis x: a law says that what holds in some of them holds in the others. 1 is a perfect
        collapse; pure noise gives about 0 or less. NaN with fewer than FEWEST_CELLS cells, two columns, or where nothing
        varies.
        """
        there = np.isfinite(value[self.use])
        v, c, index = value[self.use][there], self.c[there], self.index[there]
        columns, column = np.unique(self.column[there], return_inverse=True)
        if len(v) < FEWEST_CELLS or len(columns) < 2 or np.ptp(v) == 0:
            return np.nan
        # Neighbouring columns lie in different folds, so that the others surround those that are held out.
        fold, predicted = column % FOLDS, np.empty(len(v))
        for held in range(min(FOLDS, len(columns))):
            out = fold == held
            predicted[out] = _falling(self.points, index[~out], v[~out], c[out])
        return float(1 - np.sum((v - predicted) ** 2) / np.sum((v - v.mean()) ** 2))


def _falling(points: np.ndarray, index: np.ndarray, v: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The non-increasing function of points[index] that is closest to v in least squares, at other points."""
    counts = np.bincount(index, minlength=len(points))
    there = counts > 0
    means = np.bincount(index, v, len(points))[there] / counts[there]
    return np.interp(at, points[there], isotonic_regression(means, weights=counts[there], increasing=False).x)


def changed(law: Law, key: str, by: float) -> Law:
    """The law with another exponent of the swept key: of the SNR at fixed s and d, if it is what is swept."""
    shift = {"data.signal_norm": by, "data.noise_std": -by, "data.dim": -by / 2} if key == "data.snr" else {key: by}
    exponents = {name: law.exponents.get(name, 0) + shift.get(name, 0) for name in {**law.exponents, **shift}}
    return replace(law, exponents=MappingProxyType(exponents))


def rivals(law: Law, keys: tuple[str, str]) -> list[Law]:
    """The laws in which the exponent of one of the two swept keys is one less, one more, or 0."""
    own = law.exponents_of(keys)
    steps = {key: dict.fromkeys((-1.0, 1.0, -float(own[key]))) for key in keys if own.get(key)}
    return [changed(law, key, by) for key, few in steps.items() for by in few]


@dataclass(frozen=True)
class Fit:
    """How well the cells follow one combination of parameters."""

    kind: str  # law, rival, or shuffled: cells with the values of others
    exponents: Mapping[str, float]  # of the two swept keys
    r2: float  # of `Ordering.explained`; shuffled: what 95 % of PERMUTATIONS random assignments stay below
    lead: tuple[float, float, float]  # the law's R^2 minus this one, and its 95 % interval over seeds

    @property
    def combination(self) -> str:
        """The combination as text, for tables."""
        bases = {key: f"(1 - 2 {key})" if key == MARGIN else key for key in self.exponents}
        return " ".join(f"{bases[key]}^{power:g}" for key, power in self.exponents.items() if power)


def compared(data: Grid, runs: pd.DataFrame, keys: tuple[str, str], law: Law) -> list[Fit]:
    """The law first, then its rivals, then what chance reaches, on the cells of a diagram in which the law's combination is
    above 0.
    """
    laws = [law, *rivals(law, keys)]
    axes, place = (data.x, data.y), np.broadcast_to(data.x, data.mean.shape).ravel()
    orders = [Ordering(grid(runs.assign(c=one.of(runs)), *keys, "c", axes).mean.ravel(), place) for one in laws]

    def all_fits(values: np.ndarray) -> np.ndarray:
        mean = np.where(orders[0].use, seed_mean(values).ravel(), np.nan)
        return np.array([order.explained(mean) for order in orders])

    seeds = np.arange(data.values.shape[2])
    fits = all_fits(data.values)
    left_out = np.array([all_fits(data.values[:, :, seeds != seed]) for seed in seeds])
    low, high = jackknife_interval(fits[0] - fits, left_out[:, :1] - left_out)
    own = [{key: one.exponents_of(keys).get(key, 0.0) for key in keys} for one in laws]
    rows = [
        Fit("rival" if i else "law", own[i], float(fits[i]), (float(fits[0] - fits[i]), float(low[i]), float(high[i])))
        for i in range(len(laws))
    ]
    chance = shuffled(orders[0], data.mean.ravel())
    return [*rows, Fit("shuffled", own[0], chance, (float(fits[0] - chance), np.nan, np.nan))]


def shuffled(order: Ordering, value: np.ndarray) -> float:
    """The R^2 of `Ordering.explained` that 95 % of PERMUTATIONS random assignments of the values to cells stay below."""
    use = order.use & np.isfinite(value)
    # A fixed seed: the same results give the same number each time.
    rng, mixed, found = np.random.default_rng(0), np.full(len(value), np.nan), []
    for _ in range(PERMUTATIONS):
        mixed[use] = rng.permutation(value[use])
        found.append(order.explained(mixed))
    return float(np.quantile(found, 0.95))


def fits_table(fits: Sequence[Fit]) -> pd.DataFrame:
    """Fits as a table."""
    rows = [(fit.kind, fit.combination, fit.r2, *fit.lead) for fit in fits]
    return pd.DataFrame(rows, columns=["kind", "combination", "r2", "lead", "lead_low", "lead_high"])
