"""The statistics of the scorecard's statements: exponents, borders in x and means, from its evidence."""

import numpy as np
import pandas as pd
from scipy.special import ndtri

NEARLY_ALL = 0.9  # of a share: what counts as all


def slope(runs: pd.DataFrame, target: pd.Series, on: tuple[str, ...], key: str) -> float:
    """a in target ~ key^a by least squares on logs, all columns of `on` that vary being regressors; a row for each cell.

    NaN if key does not vary, or not on its own.
    """
    logs = {name: np.log(runs[name].to_numpy(float)) for name in on}
    # A tolerance: a computed value may differ by rounding where it is meant to be constant.
    columns = [name for name, values in logs.items() if len(values) and np.ptp(values) > 1e-6]
    if key not in columns:
        return np.nan
    design = np.column_stack([np.ones(len(runs)), *(logs[name] for name in columns)])
    # Keys that were only varied together cannot be told apart; as many cells as coefficients fit anything.
    if np.linalg.matrix_rank(design) < design.shape[1] or len(runs) <= design.shape[1]:
        return np.nan
    fitted = np.linalg.lstsq(design, np.log(target.to_numpy(float)), rcond=None)[0]
    return float(fitted[1 + columns.index(key)])


def length_exponent(runs: pd.DataFrame, key: str) -> float:
    """a in eta s^2 / m times the step at which half of the mislabelled are memorised ~ key^a, over geometric cell means.

    In that unit of time eta, m and s drop out.
    """
    timed = runs.assign(time=np.log(runs["memorising_step"] / runs["t1"] * runs["n"] / runs["dim"]))
    cells = timed.groupby("cell")[["time", "n", "dim"]].mean()
    return slope(cells, np.exp(cells["time"]), ("n", "dim"), key)


def error_exponent(runs: pd.DataFrame, error: str, on: tuple[str, ...], key: str) -> float:
    """a in z^2 ~ key^a, where Phi(-z) is a run's error: for a Gaussian margin the error falls as exp(-z^2 / 2).

    Bounds hold with high probability, that is of single runs, so z^2 is averaged over the runs of a cell, not the error, whose
    mean rare runs dominate.
    """
    # Half an error more: a run without any has a finite z.
    share = (runs[error] * runs["tested"] + 0.5) / (runs["tested"] + 1)
    cells = runs.assign(z2=ndtri(share) ** 2).groupby("cell")[["z2", *on]].mean()
    return slope(cells, cells["z2"], on, key)


def borders(runs: pd.DataFrame) -> pd.Series:
    """log x at which the column `true` turns from false to true, for each rate: the estimator of Spearman and Kaerber.

    That is the mean of log x under the distribution whose distribution function is the share of runs; linear in the shares.
    A rate counts if the share goes from (nearly) none to (nearly) all over its values of x.
    """
    # To three digits: x is computed from other keys, and cells that are meant to be equal differ by rounding.
    table = pd.DataFrame({"rate": runs["rate"], "log_x": np.log(runs["x"]), "true": runs["true"]})
    points = table.groupby(["rate", table["log_x"].round(3).rename("at")]).mean()
    found = {}
    for rate in points.index.unique(0):
        log_x, share = points.loc[rate].to_numpy(float).T
        if 1 - share[0] < NEARLY_ALL or share[-1] < NEARLY_ALL:
            continue
        rises = np.diff(np.r_[0, share, 1])
        middles = np.r_[log_x[0], (log_x[1:] + log_x[:-1]) / 2, log_x[-1]]
        found[rate] = float(rises @ middles)
    return pd.Series(found, dtype=float)


def border(runs: pd.DataFrame) -> float:
    """The x at which `true` turns true, the geometric mean over rates."""
    return float(np.exp(borders(runs).mean()))


def border_exponent(runs: pd.DataFrame) -> float:
    """a in kappa ~ (1 - 2 tau)^a along the border, over rates."""
    found = borders(runs)
    margin = np.log(1 - 2 * found.index.to_numpy(float))
    # Three rates at least: two fit any slope.
    return float(np.polyfit(margin, found - margin, 1)[0]) if len(found) > 2 else np.nan


def ratio(runs: pd.DataFrame, upper: str, lower: str) -> float:
    """Ratio of the means of two columns."""
    return float(runs[upper].mean() / runs[lower].mean())


def mean(runs: pd.DataFrame, column: str) -> float:
    """The mean of a column."""
    return float(runs[column].mean())
