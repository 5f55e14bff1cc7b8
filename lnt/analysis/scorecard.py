"""The scorecard: each statement of the theory (statements.py) with its measurement, interval, power and verdict.

A statement agrees with a region of its statistic. It is `supported` if the whole interval lies in the region, `contradicted`
if none of it does, `undecided` otherwise. Intervals hold together: with K statements each has confidence 1 - FAMILY / K, so
the probability that any verdict is wrong is at most FAMILY (Bonferroni). A statement is `not tested` where no run meets its
conditions, where there are too few seeds, or where too many runs lack the quantity that it is about.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy.special import bdtr, betaincinv

from lnt.analysis.scorecard_evidence import Evidence
from lnt.analysis.statements import SHARE, STATEMENTS, Statement
from lnt.intervals import FEWEST_SEEDS, jackknife_interval, student_quantile

FAMILY = 0.05  # probability of any wrong verdict, at most
CONFIDENCE = 1 - FAMILY / len(STATEMENTS)
POWER = 0.8
CENSORED = 0.05  # share of runs without the quantity of a statement from which on it is not tested


@dataclass(frozen=True)
class Row:
    """A statement and what was found. `value` is NaN where nothing could be measured.

    `noticed` says in words from where on a true value of the statistic would be contradicted with probability POWER; seeds,
    cells and runs are those that were used. `censored` counts those of these runs that lack the quantity, `unfinished` the
    further ones that did not end as the condition asks.
    """

    statement: str
    source: str
    condition: str
    statistic: str
    predicted: str
    value: float
    low: float
    high: float
    verdict: str  # supported, contradicted, undecided, not tested
    noticed: str
    seeds: int
    cells: int
    runs: int
    censored: int
    unfinished: int
    note: str
    figure: str


def judge(statement: Statement, evidence: Evidence) -> Row:
    """The row of a statement."""
    runs = statement.runs(evidence)
    seeds, total = runs["seed"].nunique(), len(runs)
    missing = runs[statement.quantity or "seed"].isna()
    value, low, high, noticed = estimate(statement, runs[~missing])
    note = ""
    if not total:
        note = "no run meets the conditions"
    elif seeds < FEWEST_SEEDS:
        note = f"fewer than {FEWEST_SEEDS} seeds"
    elif missing.mean() > CENSORED:
        note = f"{missing.sum()} of {total} runs have no Stage I"
    elif not np.isfinite(value):
        note = "what it depends on was not varied enough"
    elif not np.isfinite([low, high]).all():
        note = "it does not exist without one of the seeds"
    says = statement.claim, statement.source, statement.condition, statement.statistic, statement.predicted
    found = "not tested" if note else verdict(low, high, statement.region)
    unfinished = len(statement.among(evidence)) - total if statement.among else 0
    counts = seeds, runs["cell"].nunique(), total, int(missing.sum()), unfinished
    return Row(*says, value, low, high, found, "" if note else noticed, *counts, note, statement.panel)


def verdict(low: float, high: float, region: tuple[float, float]) -> str:
    """supported, contradicted or undecided."""
    # The ends are computed numbers: an interval of length 0 at the end of the region is inside.
    rounding = 1e-9
    if region[0] - rounding <= low and high <= region[1] + rounding:
        return "supported"
    return "contradicted" if high < region[0] - rounding or low > region[1] + rounding else "undecided"


def estimate(statement: Statement, runs: pd.DataFrame) -> tuple[float, float, float, str]:
    """Value, low and high of a statement's statistic, and what would be noticed; NaN where there is none."""
    if runs.empty:
        return np.nan, np.nan, np.nan, ""
    if statement.test == SHARE:
        # Seeds are independent of each other; runs of one seed share their random streams.
        true = runs.groupby("seed")["true"].min()
        count, number = int(true.sum()), len(true)
        low, high = binomial_interval(count, number)
        return count / number, low, high, noticed_share(number, statement.region)
    assert statement.estimate is not None
    value = statement.estimate(runs)
    groups = list(runs.groupby("seed").indices.values())
    if len(groups) < FEWEST_SEEDS or not np.isfinite(value):
        return value, np.nan, np.nan, ""
    everything = np.arange(len(runs))
    left_out = np.array([statement.estimate(runs.take(np.setdiff1d(everything, group))) for group in groups])
    low, high = map(float, jackknife_interval(value, left_out, confidence=CONFIDENCE))
    return value, low, high, noticed_number((high - low) / 2, len(groups), statement.region)


def binomial_interval(count: int, number: int) -> tuple[float, float]:
    """The interval of Clopper and Pearson (1934) for a share of which `count` of `number` were true."""
    tail = (1 - CONFIDENCE) / 2
    low = betaincinv(count, number - count + 1, tail) if count else 0.0
    high = betaincinv(count + 1, number - count, 1 - tail) if count < number else 1.0
    return float(low), float(high)


def noticed_number(half: float, seeds: int, region: tuple[float, float]) -> str:
    """From where on a true value would be contradicted with probability POWER, given the half width of the interval."""
    quantile = student_quantile((1 + CONFIDENCE) / 2, seeds - 1)
    beyond = half * (1 + student_quantile(POWER, seeds - 1) / quantile)
    ends = [("below", region[0] - beyond), ("above", region[1] + beyond)]
    return " or ".join(f"{side} {end:.3g}" for side, end in ends if np.isfinite(end))


def noticed_share(seeds: int, region: tuple[float, float]) -> str:
    """The share below which the statement would be contradicted with probability POWER."""
    # The largest count that contradicts; counts below it do too.
    counts = [count for count in range(seeds + 1) if binomial_interval(count, seeds)[1] < region[0] - 1e-9]
    if not counts:
        return ""
    shares = np.linspace(0, 1, 1001)
    return f"below {shares[bdtr(counts[-1], seeds, shares) >= POWER].max():.3g}"


def scorecard(runs: pd.DataFrame, curves: pd.DataFrame) -> tuple[Evidence, list[Row]]:
    """All statements, from the completed runs of a study and their curves."""
    evidence = Evidence(runs, curves)
    return evidence, [judge(statement, evidence) for statement in STATEMENTS]


def to_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as a table."""
    return pd.DataFrame([asdict(row) for row in rows])
