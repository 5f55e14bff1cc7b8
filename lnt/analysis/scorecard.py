"""The statements of the theory as rows: what is predicted, what was measured, and whether it holds.

A statement is checked on the runs that meet its conditions (lnt/theory/conditions.py); with too few of these it is
`no data`, where there are runs but none of them meets the conditions, `outside its conditions`. A statement that the
measurement contradicts is `fails`: that is a finding. Intervals are 95 % bootstrap intervals over seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from lnt.analysis.scorecard_evidence import EARLY_T1, EXPONENTS, FITTED, Evidence, controlled
from lnt.theory.laws import bound_constant

BOOTSTRAPS = 200
EXPONENT_TOLERANCE = 0.1  # predictions are orders of magnitude: an exponent this close is confirmed
NEARLY_ALL = 0.95  # share of runs from which "all" counts as true of finite samples
CONSTANT_SHARE = 0.1  # from which a share counts as bounded away from 0
LINEAR = 0.8  # R^2 from which a decay counts as exponential
ROUNDING = 1e-5  # of the largest gamma
PAPER = "Han et al. 2025"
FEWEST_SEEDS = 3  # for an interval, and so for a verdict


@dataclass(frozen=True)
class Row:
    """One statement. `value` is nan where nothing could be measured; runs and cells are those that were used."""

    statement: str
    source: str
    predicted: str
    value: float
    low: float
    high: float
    verdict: str  # holds, holds in part, fails, outside its conditions, no data
    cells: int
    runs: int
    constant: str = ""
    figure: str = ""


def bootstrap(runs: pd.DataFrame, statistic: Callable[[pd.DataFrame], float]) -> tuple[float, float, float]:
    """The statistic and its 95 % interval from resampling seeds, the same ones in all cells."""
    rng, groups = np.random.default_rng(0), list(runs.groupby("seed").indices.values())
    # The value is still worth showing, but judge() gives no verdict without an interval.
    if len(groups) < FEWEST_SEEDS:
        return statistic(runs), np.nan, np.nan
    # Whole seeds: all runs of a seed, in every cell, are drawn together, since they share random streams.
    resampled = (rng.integers(0, len(groups), len(groups)) for _ in range(BOOTSTRAPS))
    draws = [statistic(runs.take(np.concatenate([groups[i] for i in chosen]))) for chosen in resampled]
    finite = np.array(draws)[np.isfinite(draws)]
    # Draws without the statistic are left out; an interval needs most of them.
    low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) > BOOTSTRAPS // 2 else (np.nan, np.nan)
    return statistic(runs), float(low), float(high)


def judge(
    evidence: Evidence,
    runs: pd.DataFrame,
    says: tuple[str, str],
    statistic: Callable[[pd.DataFrame], float],
    holds: Callable[[float, float, float], bool],
    *,
    source: str = PAPER,
    constant: Callable[[float, float, float], str] = lambda value, low, high: "",
    figure: str = "",
) -> Row:
    """The row of the statement says = (statement, prediction), which `holds` decides from value, low and high."""
    cells = runs["cell"].nunique()
    value, low, high = bootstrap(runs, statistic) if len(runs) else (np.nan, np.nan, np.nan)
    if not len(runs) and len(evidence.runs):
        verdict = "outside its conditions"
    elif not np.isfinite([value, low, high]).all():
        verdict = "no data"
    else:
        verdict = "holds" if holds(value, low, high) else "fails"
    free = constant(value, low, high) if np.isfinite(value) else ""
    statement, predicted = says
    return Row(statement, source, predicted, value, low, high, verdict, cells, len(runs), free, figure)


def exponent(runs: pd.DataFrame, key: str) -> float:
    """a in memorising_step ~ key^a by least squares on the logs of cell medians, all of EXPONENTS that vary being regressors.

    NaN if key does not vary, or not on its own.
    """
    used = runs.groupby("cell")[["memorising_step", *EXPONENTS]].median()
    logs = {name: np.log(used[name].astype(float)) for name in EXPONENTS}
    # A tolerance: a computed value (step_size, say) may differ by rounding where it is meant to be constant.
    columns = [name for name, values in logs.items() if np.ptp(values) > 1e-9] if len(used) else []
    if key not in columns:
        return np.nan
    design = np.column_stack([np.ones(len(used)), *(logs[name] for name in columns)])
    # Keys that were only varied together cannot be told apart.
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return np.nan
    fitted = np.linalg.lstsq(design, np.log(used["memorising_step"]), rcond=None)[0]
    return float(fitted[1 + columns.index(key)])


def confirms(predicted: float, value: float, low: float, high: float) -> bool:
    """Whether a measured exponent is the predicted one, within its interval or EXPONENT_TOLERANCE."""
    return low <= predicted <= high or abs(value - predicted) <= EXPONENT_TOLERANCE


def scale_rows(evidence: Evidence) -> list[Row]:
    """T1 = Theta(n m / (eta s^2 d)): five exponents one by one, and how well the step collapses on their product.

    The length of Stage I is measured by the step at which half of the mislabelled samples are memorised.
    """
    runs = controlled(evidence.noisy[evidence.noisy["memorising_step"].notna()], "cell")
    rows = [
        judge(
            evidence,
            runs,
            (f"Stage I lasts for ~ {name}^a steps", f"a = {predicted:+.0f}"),
            partial(exponent, key=key),
            partial(confirms, predicted),
            figure="a",
        )
        for key, (name, predicted) in EXPONENTS.items()
    ]

    def explained(part: pd.DataFrame) -> float:
        steps = np.log(part.groupby("cell")[["memorising_step", "t1"]].median())
        # Two cells leave no variance that could speak against it.
        if len(steps) < 3:
            return np.nan
        return float(1 - (steps["memorising_step"] - steps["t1"]).var() / steps["memorising_step"].var())

    ratio = (runs["memorising_step"] / runs["t1"]).groupby(runs["cell"]).median()
    constant = f"{ratio.median():.2g} n m / (eta s^2 d), from {ratio.min():.2g} to {ratio.max():.2g}" if len(runs) else ""
    collapse = judge(
        evidence,
        runs,
        ("the length of Stage I is a multiple of n m / (eta s^2 d)", "explains log(step): R^2 near 1"),
        explained,
        lambda value, low, high: value >= 0.9,
        constant=lambda value, low, high: constant,
        figure="b",
    )
    return [*rows, collapse]


def share_row(evidence: Evidence, says: tuple[str, str], runs: pd.DataFrame, true: pd.Series, figure: str) -> Row:
    """A statement that is `true` of each run or not: it holds if it is true of NEARLY_ALL of them.

    The theory leaves constants in n SNR^2 = Theta(1) open: it holds in part if it is true of NEARLY_ALL on one side of one.
    """
    table = runs.assign(true=true.astype(float))
    count = f"{int(table['true'].sum())} of {len(table)} runs"
    # With its sign changed, the axis gives the limit from above.
    above, below = (threshold(sign * table["kappa"].to_numpy(float), table["true"].to_numpy(float)) for sign in (1, -1))
    limits = [("from", above, "on"), ("up to", -below, "")]
    texts = [f"{word} n SNR^2 = {limit:.2g} {end}".strip() for word, limit, end in limits if np.isfinite(limit)]
    constant = f"{count}; at least {NEARLY_ALL:.0%} {texts[0]}" if texts else count
    row = judge(
        evidence,
        table,
        says,
        lambda part: float(part["true"].mean()),
        lambda value, low, high: value >= NEARLY_ALL,
        constant=lambda value, low, high: constant,
        figure=figure,
    )
    # The constant in the condition is open in the theory, so one side of a limit is all that it claims.
    return replace(row, verdict="holds in part") if row.verdict == "fails" and texts else row


def threshold(axis: np.ndarray, true: np.ndarray) -> float:
    """The lowest value on the axis (to two digits) from which on NEARLY_ALL runs are `true`; NaN if there is none."""
    # To two digits: the axis is computed from other keys, and cells that are meant to be equal differ by rounding.
    values, index = np.unique([float(f"{value:.2g}") for value in axis], return_inverse=True)
    share = np.bincount(index, true) / np.bincount(index)
    lacking = np.flatnonzero(share < NEARLY_ALL)
    first = lacking[-1] + 1 if len(lacking) else 0
    return float(values[first]) if first < len(values) else np.nan


def stage1_rows(evidence: Evidence) -> list[Row]:
    """Statements about the end of Stage I."""
    runs, when = evidence.noisy[evidence.noisy["signal_coef_early"].notna()], f"after {EARLY_T1} T1"
    noise = runs[["noise_coef_clean_early", "noise_coef_noisy_early"]].max(axis=1)
    separated = (runs["selection_precision_early"] >= FITTED) & (runs["selection_recall_early"] >= FITTED)
    statements = [
        ("gamma > rho-bar", runs["signal_coef_early"] > noise, "c"),
        ("clean samples are fitted", runs["clean_accuracy_early"] >= FITTED, "c"),
        ("mislabelled samples are predicted as their true label", runs["noisy_accuracy_early"] <= 1 - FITTED, "c"),
        ("the loss log 2 separates clean from mislabelled samples", separated, "c"),
    ]
    return [share_row(evidence, (f"{name} {when}", "all runs"), runs, true, figure) for name, true, figure in statements]


def above_floor(runs: pd.DataFrame) -> float:
    """The share of cells whose mean test error is at least the theory's lower bound."""
    means = runs.groupby("cell")[["test_error", "floor"]].mean()
    return float((means["test_error"] >= means["floor"]).mean())


def final_rows(evidence: Evidence) -> list[Row]:
    """Statements about convergence, with and without label noise."""
    runs, clean = evidence.converged, evidence.noiseless
    overtaken = judge(
        evidence,
        runs,
        ("rho > gamma for a constant share of the mislabelled samples at convergence", "share > 0"),
        lambda part: float(part["overtaken_share"].mean()),
        lambda value, low, high: low >= CONSTANT_SHARE,
        constant=lambda value, low, high: f"share {value:.2g}",
    )
    cells = runs.groupby("cell")[["test_error", "floor", "kappa"]].mean().astype(float)
    up_to = (
        -threshold(-cells["kappa"].to_numpy(), (cells["test_error"] >= cells["floor"]).to_numpy(float))
        if len(cells)
        else np.nan
    )
    limit = f"all cells up to n SNR^2 = {up_to:.2g}" if np.isfinite(up_to) else ""
    bound = judge(
        evidence,
        runs,
        ("test error >= 0.5 min(tau_plus, tau_minus) at convergence", "all cells"),
        above_floor,
        lambda value, low, high: value >= NEARLY_ALL,
        constant=lambda value, low, high: limit,
        figure="d",
    )
    if bound.verdict == "fails" and limit:
        bound = replace(bound, verdict="holds in part")
    price = clean["test_error"] - clean["best_test_error"]
    no_second = judge(
        evidence,
        clean.assign(price=price),
        ("no second stage without label noise", "final - best test error = 0"),
        lambda part: float(part["price"].mean()),
        lambda value, low, high: value <= 0.01,
    )
    every = evidence.runs[evidence.runs["plain_network"] & evidence.runs["gamma_lowest"].notna()]
    # gamma is computed from rounded numbers: a value that is 0 in theory may come out slightly below it.
    never_negative = every["gamma_lowest"] >= -ROUNDING * every["signal_coef"].abs()
    never = share_row(evidence, ("gamma is never negative", "all runs"), every, never_negative, "")
    return [overtaken, bound, no_second, never]


def decay(runs: pd.DataFrame, error: str, combination: str) -> tuple[float, float]:
    """-1/C in mean error ~ exp(-combination / C): least squares on the logs of cell means, and its R^2; NaN below 4 cells."""
    means = runs.groupby("cell")[[error, combination]].mean()
    means = means[means[error] > 0]  # a resampled cell may have lost its errors
    # A line through three points is nearly always straight enough.
    if len(means) < 4 or np.ptp(means[combination]) == 0:
        return np.nan, np.nan
    x, y = means[combination].to_numpy(float), np.log(means[error].to_numpy(float))
    slope, offset = np.polyfit(x, y, 1)
    explained = 1 - np.var(y - offset - slope * x) / np.var(y) if np.ptp(y) > 0 else 0.0
    return float(slope), float(explained)


def decay_rows(evidence: Evidence) -> list[Row]:
    """Exponential decay of the early-stopped error in d / n, and of the noiseless error in n |mu|^4 / (s^4 d)."""
    statements = [
        ("test error ~ exp(-d / (C n)) when stopped in Stage I", evidence.early_errors, "test_error_early", "dim_over_n", "f"),
        ("test error ~ exp(-n|mu|^4 / (C s^4 d)) without label noise", evidence.clean_errors, "test_error", "benign", "e"),
    ]
    rows = []
    for statement, runs, error, combination, figure in statements:
        linear = decay(runs, error, combination)[1]
        means = runs.groupby("cell")[[combination, error]].mean().to_numpy(float)
        bound = f"{bound_constant(*means.T):.3g}" if len(means) else ""
        row = judge(
            evidence,
            runs,
            (statement, "log(error) falls linearly"),
            # Defaults bind the values of this turn of the loop; a closure would see those of the last.
            lambda part, error=error, combination=combination: decay(part, error, combination)[0],  # type: ignore[misc]
            lambda value, low, high, linear=linear: high < 0 and linear >= LINEAR,  # type: ignore[misc]
            constant=lambda value, low, high, linear=linear, bound=bound: (  # type: ignore[misc]
                f"C = {-1 / value:.3g}, R^2 = {linear:.2f}; bounds these cells with C = {bound}"
            ),
            figure=figure,
        )
        rows.append(row)
    return rows


def scorecard(runs: pd.DataFrame, curves: pd.DataFrame) -> tuple[Evidence, list[Row]]:
    """All statements, from the completed runs of a study and their curves."""
    evidence = Evidence(runs, curves)
    rows = [row for part in (scale_rows, stage1_rows, final_rows, decay_rows) for row in part(evidence)]
    return evidence, rows


def to_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as a table."""
    return pd.DataFrame([asdict(row) for row in rows])
