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


def explained(combination: np.ndarray, value: np.ndarray, place: np.ndarray) -> float:
    """The share of the variance of cell means [C] that a falling function of the combination alone predicts in held-out cells.

    1 - sum (v - f(c))^2 / sum (v - mean v)^2, with f the best non-increasing function of the other cells (isotonic
    regression, linear in log(c) between them; nothing to tune). Whole columns of the diagram are held out, those that share
    their `place` [C] on the axis x: a law says that what holds in some of them holds in the others. 1 is a perfect collapse;
    pure noise gives about 0 or less. NaN with fewer than FEWEST_CELLS cells, two columns, or where nothing varies.
    """
    use = np.isfinite(combination) & (combination > 0) & np.isfinite(value)
    c, v = np.log(combination[use]), value[use]
    columns, column = np.unique(place[use], return_inverse=True)
    if len(v) < FEWEST_CELLS or len(columns) < 2 or np.ptp(v) == 0:
        return np.nan
    # Neighbouring columns lie in different folds, so that the others surround those that are held out.
    fold, predicted = column % FOLDS, np.empty(len(v))
    for held in np.unique(fold):
        predicted[fold == held] = _falling(c[fold != held], v[fold != held], c[fold == held])
    return float(1 - np.sum((v - predicted) ** 2) / np.sum((v - v.mean()) ** 2))


def _falling(c: np.ndarray, v: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The non-increasing function of c that is closest to v in least squares, at other points."""
    # Rounded: combinations that are equal may differ by rounding, and equal ones get one value.
    points, index, counts = np.unique(np.round(c, 9), return_inverse=True, return_counts=True)
    means = np.bincount(index, v) / counts
    return np.interp(at, points, isotonic_regression(means, weights=counts, increasing=False).x)


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
    r2: float  # of `explained`; shuffled: what 95 % of PERMUTATIONS random assignments stay below
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
    combinations = [grid(runs.assign(c=one.of(runs)), *keys, "c", axes).mean.ravel() for one in laws]
    combinations[0] = np.where(combinations[0] > 0, combinations[0], np.nan)

    def all_fits(values: np.ndarray) -> np.ndarray:
        mean = np.where(np.isfinite(combinations[0]), seed_mean(values).ravel(), np.nan)
        return np.array([explained(combination, mean, place) for combination in combinations])

    seeds = np.arange(data.values.shape[2])
    fits = all_fits(data.values)
    left_out = np.array([all_fits(data.values[:, :, seeds != seed]) for seed in seeds])
    low, high = jackknife_interval(fits[0] - fits, left_out[:, :1] - left_out)
    own = [{key: one.exponents_of(keys).get(key, 0.0) for key in keys} for one in laws]
    rows = [
        Fit("rival" if i else "law", own[i], float(fits[i]), (float(fits[0] - fits[i]), float(low[i]), float(high[i])))
        for i in range(len(laws))
    ]
    chance = shuffled(combinations[0], data.mean.ravel(), place)
    return [*rows, Fit("shuffled", own[0], chance, (float(fits[0] - chance), np.nan, np.nan))]


def shuffled(combination: np.ndarray, value: np.ndarray, place: np.ndarray) -> float:
    """The R^2 of `explained` that 95 % of PERMUTATIONS random assignments of the values to cells stay below."""
    use = np.isfinite(combination) & np.isfinite(value)
    c, v, x = combination[use], value[use], place[use]
    # A fixed seed: the same results give the same number each time.
    rng = np.random.default_rng(0)
    return float(np.quantile([explained(c, rng.permutation(v), x) for _ in range(PERMUTATIONS)], 0.95))


def fits_table(fits: Sequence[Fit]) -> pd.DataFrame:
    """Fits as a table."""
    rows = [(fit.kind, fit.combination, fit.r2, *fit.lead) for fit in fits]
    return pd.DataFrame(rows, columns=["kind", "combination", "r2", "lead", "lead_low", "lead_high"])
