"""The statements of the theory as a table: condition, statistic, prediction, test. lnt/analysis/scorecard.py judges them.

Exponents in eta, m and s are no statements: they are symmetries of gradient flow, which any results would meet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from lnt.analysis.scorecard_evidence import EARLY_T1, FITTED, Evidence, counted
from lnt.analysis.scorecard_statistics import (
    NEARLY_ALL,
    border,
    border_exponent,
    error_exponent,
    length_exponent,
    mean,
    ratio,
)

PAPER = "Han et al. 2025"
MEAN_FIELD = "docs/theory.md"
INSIDE = 8.0  # x from which runs are far inside Stage I: four times the border at which gamma is predicted to lead
# Predictions are orders. An exponent is told from the next half-integer one, and a border may be off by this factor.
EXPONENT, BORDER = 0.25, 1.5
CONSTANT_SHARE = 0.1  # from which a share counts as bounded away from 0
NO_PRICE = 0.01
ROUNDING = 1e-5  # of the largest gamma
SHARE, NUMBER = "share of seeds", "number"


@dataclass(frozen=True)
class Statement:
    """A claim, and all that it takes to judge it. It agrees with a value of the statistic inside `region`, ends included.

    `runs` selects the runs that meet the condition. A NUMBER is a statistic of all of them, with an interval from the
    jackknife over seeds. A SHARE counts the seeds in all of whose runs the column `true` holds; its interval is binomial.
    """

    claim: str
    source: str
    condition: str
    statistic: str
    predicted: str
    region: tuple[float, float]
    runs: Callable[[Evidence], pd.DataFrame]
    estimate: Callable[[pd.DataFrame], float] | None = None  # None: SHARE
    panel: str = ""
    quantity: str = ""  # the column that runs under this condition may lack; those that do are counted as censored
    among: Callable[[Evidence], pd.DataFrame] | None = None  # of which `runs` are those that ended so

    @property
    def test(self) -> str:
        return SHARE if self.estimate is None else NUMBER


def with_truth(runs: pd.DataFrame, true: pd.Series) -> pd.DataFrame:
    return runs.assign(true=true.astype(float))


def stage1_exists(evidence: Evidence) -> pd.DataFrame:
    """Stage I exists where fewer than half of the mislabelled are predicted as labelled at some step after the first."""
    return with_truth(evidence.across_x, evidence.across_x["memorising_step"].notna())


def signal_leads(runs: pd.DataFrame) -> pd.DataFrame:
    noise = runs[["noise_coef_clean_early", "noise_coef_noisy_early"]].max(axis=1)
    return with_truth(runs, runs["signal_coef_early"] > noise)


def inside(evidence: Evidence) -> pd.DataFrame:
    return evidence.early[evidence.early["x"] >= INSIDE]


def clean_fitted(evidence: Evidence) -> pd.DataFrame:
    runs = inside(evidence)
    return with_truth(runs, runs["clean_accuracy_early"] >= FITTED)


def predicted_as_true(evidence: Evidence) -> pd.DataFrame:
    runs = inside(evidence)
    return with_truth(runs, runs["noisy_accuracy_early"] <= 1 - FITTED)


def separated(evidence: Evidence) -> pd.DataFrame:
    runs = inside(evidence)
    return with_truth(runs, runs[["selection_precision_early", "selection_recall_early"]].min(axis=1) >= FITTED)


def never_negative(evidence: Evidence) -> pd.DataFrame:
    runs = evidence.runs[evidence.runs["stage1_conditions"] & evidence.runs["gamma_lowest"].notna()]
    # gamma is computed from rounded numbers: a value that is 0 in theory may come out slightly below it.
    return with_truth(runs, runs["gamma_lowest"] >= -ROUNDING * runs["signal_coef"].abs())


def priced(evidence: Evidence) -> pd.DataFrame:
    runs = evidence.noiseless
    return runs.assign(price=runs["test_error"] - runs["best_test_error_fresh"])


EARLY = f"after {EARLY_T1:g} T1"
STAGE1 = "label noise, rates below 1/2; n SNR^2 from 0.3 to 30, d >= n^2/10, small filters and steps"
ONE_PAIR = f"{STAGE1}; one noise rate and one n SNR^2"
DEEP = f"{STAGE1}; x >= {INSIDE:g}"
NOISELESS = "no label noise, clean samples fitted, n|mu|^4 >= s^4 d (1 + n SNR^2)"
HALF = "exponent of the time until half of the mislabelled are memorised"
STATEMENTS = (
    *(
        Statement(
            f"Stage I lasts for a time ~ {name}^a",
            PAPER,
            ONE_PAIR,
            HALF,
            f"a = {power:+d}",
            (power - EXPONENT, power + EXPONENT),
            lambda evidence: evidence.lengths,
            partial(length_exponent, key=key),
            "a, b",
            "memorising_step",
        )
        for name, key, power in (("n", "n", 1), ("d", "dim", -1))
    ),
    Statement(
        "Stage I exists from x = 1 on",
        MEAN_FIELD,
        f"{STAGE1}; x varied",
        "x at which runs come to have it (mean of log x over their rise)",
        "1",
        (1 / BORDER, BORDER),
        stage1_exists,
        border,
        "c",
    ),
    Statement(
        f"gamma > rho-bar {EARLY} from x = 2 on",
        MEAN_FIELD,
        f"{STAGE1}; x varied",
        "x at which it comes to be true of runs (mean of log x over their rise)",
        "2",
        (2 / BORDER, 2 * BORDER),
        lambda evidence: signal_leads(evidence.across_x[evidence.across_x["signal_coef_early"].notna()]),
        border,
        "c",
    ),
    Statement(
        "x = n SNR^2 (1 - 2 tau) decides on Stage I, not n SNR^2",
        MEAN_FIELD,
        f"{STAGE1}; x varied at three rates or more",
        "exponent of 1 - 2 tau in n SNR^2 along the border",
        "a = -1",
        (-1 - EXPONENT, -1 + EXPONENT),
        stage1_exists,
        border_exponent,
        "c",
    ),
    *(
        Statement(f"{claim} {EARLY}", PAPER, DEEP, "share of seeds", "all", (NEARLY_ALL, 1.0), runs, panel="c")
        for claim, runs in (
            ("gamma > rho-bar", lambda evidence: signal_leads(inside(evidence))),
            ("clean samples are fitted", clean_fitted),
            ("mislabelled samples are predicted as their true label", predicted_as_true),
            ("the loss at margin 0 separates clean from mislabelled samples", separated),
        )
    ),
    Statement(
        "rho > gamma for a constant share of the mislabelled samples at convergence",
        PAPER,
        f"{STAGE1}; all labels fitted",
        "mean share",
        f"above {CONSTANT_SHARE}",
        (CONSTANT_SHARE, np.inf),
        lambda evidence: evidence.converged,
        partial(mean, column="overtaken_share"),
        among=lambda evidence: evidence.noisy,
    ),
    Statement(
        "test error on true labels >= 0.5 min(tau_plus, tau_minus) at convergence",
        PAPER,
        f"{STAGE1}; both classes noisy; all labels fitted; the largest d/n",
        "mean test error over the bound",
        "at least 1",
        (1.0, np.inf),
        lambda evidence: evidence.widest,
        partial(ratio, upper="test_error", lower="floor"),
        "d",
        among=lambda evidence: evidence.wide,
    ),
    Statement(
        "no second stage without label noise",
        PAPER,
        NOISELESS,
        "mean of final minus best test error",
        "0",
        (-np.inf, NO_PRICE),
        priced,
        partial(mean, column="price"),
        among=lambda evidence: evidence.easy,
    ),
    Statement(
        "gamma is never negative",
        PAPER,
        STAGE1.replace("label noise", "label noise or none"),
        "share of seeds",
        "all",
        (1.0, 1.0),
        never_negative,
    ),
    *(
        Statement(
            f"test error {EARLY} = Phi(-z), z^2 ~ {name}^a",
            f"{PAPER}: exp(-d / (C n))",
            ONE_PAIR,
            "exponent",
            f"a = {power:+d}",
            (power - EXPONENT, power + EXPONENT),
            lambda evidence: evidence.early_errors,
            partial(error_exponent, error="test_error_early", on=("n", "dim"), key=key),
            "a, f",
        )
        for name, key, power in (("n", "n", -1), ("d", "dim", 1))
    ),
    Statement(
        "final test error = Phi(-z), z^2 ~ (n|mu|^4 / (s^4 d (1 + n SNR^2)))^a",
        f"{PAPER}: exp(-n|mu|^4 / (C s^4 d)), with the finite-size term",
        NOISELESS,
        "exponent",
        "a = +1",
        (1 - EXPONENT, 1 + EXPONENT),
        lambda evidence: evidence.clean_errors,
        partial(error_exponent, error="test_error", on=("benign",), key="benign"),
        "a, e",
        among=lambda evidence: counted(evidence.easy, "test_error"),
    ),
)
