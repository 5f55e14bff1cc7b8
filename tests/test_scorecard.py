"""The scorecard on made-up tables in which every law is known to hold, to fail, or to lack data."""

import itertools

import numpy as np
import pandas as pd
import pytest

from lnt.analysis.figure_scorecard import figure_scorecard
from lnt.analysis.scorecard import scorecard, threshold, to_table
from lnt.analysis.scorecard_evidence import Evidence
from lnt.theory.laws import BENIGN_LAW, stage1_scale

STEPS = np.unique(np.rint(np.geomspace(1, 4000, 60))).astype(int)
BASE = {
    "data": "signal_noise",
    "noise": "symmetric",
    "model": "two_layer_cnn",
    "optimizer": "gd",
    "strategy": "none",
    "data.n_train": 100,
    "data.n_test": 2000,
    "data.dim": 4000.0,
    "data.signal_norm": np.nan,
    "data.noise_std": 1.0,
    "noise.rate": 0.3,
    "model.width": 10,
    "model.init_std": 1e-5,
    "model.init_norm": np.nan,
    "model.power": 1.0,
    "model.bias": False,
    "step_size": 0.01,
    "last_step": 4000,
    "status": "completed",
}


@pytest.fixture(autouse=True)
def _few_bootstraps(monkeypatch):
    monkeypatch.setattr("lnt.analysis.scorecard.BOOTSTRAPS", 40)


def varied():
    """Each parameter alone at n SNR^2 = 8, then n SNR^2, then runs without label noise."""
    for n in (50, 71, 100, 141, 200):
        yield {"data.n_train": n, "data.snr": np.sqrt(8 / n)}
    alone = {"model.width": (5, 20, 40), "step_size": (0.005, 0.02), "data.noise_std": (0.5, 1.4), "data.dim": (2e3, 8e3, 16e3)}
    for key, values in alone.items():
        for value in values:
            yield {key: value, "data.snr": np.sqrt(8 / 100)}
    for n_snr2 in (0.5, 1, 2, 4, 16):
        yield {"data.snr": np.sqrt(n_snr2 / 100)}
    for norm, dim in itertools.product((4, 5, 6), (1e3, 4e3)):
        yield {"noise.rate": 0.0, "data.signal_norm": norm, "data.snr": np.nan, "data.dim": dim}


def made_up(length, low=0.0, scale=lambda runs: runs["data.dim"] / runs["data.n_train"] / 20):
    """Runs and curves in which Stage I lasts length(runs) steps; gamma starts at `low`; errors fall with exp(-scale)."""
    rng = np.random.default_rng(0)
    rows = [BASE | {"seed": seed} | cell for cell in varied() for seed in range(5)]
    runs = pd.DataFrame(rows).assign(run_id=[str(i) for i in range(len(rows))])
    noiseless = runs["noise.rate"] == 0
    error = np.where(noiseless, np.exp(-BENIGN_LAW.of(runs) / 5), np.exp(-scale(runs)))
    runs = runs.assign(clean_accuracy=1.0, noisy_accuracy=np.where(noiseless, np.nan, 1.0), test_error=error)
    runs = runs.assign(best_test_error=error, signal_coef=1.0, overtaken_share=0.5)
    stage1 = length(runs).to_numpy(float) * np.exp(0.05 * rng.standard_normal(len(runs)))
    curves = runs[["run_id", "clean_accuracy", "test_error"]].merge(pd.DataFrame({"step": STEPS}), how="cross")
    ratio = curves["step"] / np.repeat(stage1, len(STEPS))
    memorised = np.where(np.repeat(noiseless, len(STEPS)), np.nan, np.clip(0.5 + 0.6 * np.log(ratio), 0, 1))
    curves = curves.assign(noisy_accuracy=memorised, signal_coef=1.0, signal_coef_min=low, selection_auc=1.0)
    curves = curves.assign(noise_coef_clean=0.5, noise_coef_noisy=0.5, selection_precision=1.0, selection_recall=1.0)
    return runs, curves


def t1(runs):
    return stage1_scale(*(runs[key] for key in ("data.n_train", "model.width", "step_size", "data.noise_std", "data.dim")))


def verdicts(runs, curves):
    table = to_table(scorecard(runs, curves)[1]).set_index("statement")
    assert np.isfinite(table.loc[table["verdict"].isin(["holds", "fails", "holds in part"]), "value"]).all()
    return table


def find(table, words):
    (row,) = [row for statement, row in table.iterrows() if words in statement]
    return row


EXPONENTS = ["n^a", "m^a", "eta^a", "s^a", "d^a"]


def test_laws_that_hold_are_confirmed_with_their_constants():
    table = verdicts(*made_up(lambda runs: pd.Series(3 * t1(runs))))
    undercut = {"test error >= 0.5 min(tau_plus, tau_minus) at convergence"}
    assert set(table.index[table["verdict"] != "holds"]) <= undercut
    for name, predicted in zip(EXPONENTS, (1, 1, -1, -2, -1), strict=True):
        row = find(table, name)
        assert row["value"] == pytest.approx(predicted, abs=0.1)
        assert row["low"] <= row["value"] <= row["high"]
    constant = find(table, "multiple of n m")["constant"]
    assert float(constant.split()[0]) == pytest.approx(3, rel=0.1)
    assert find(table, "when stopped in Stage I")["constant"] == "C = 20, R^2 = 1.00; bounds these cells with C = 20"
    assert find(table, "exp(-n|mu|^4")["constant"] == "C = 5, R^2 = 1.00; bounds these cells with C = 5"


def test_a_wrong_exponent_is_caught_and_only_that_one():
    table = verdicts(*made_up(lambda runs: pd.Series(t1(runs) * (runs["data.dim"] / 4000))))
    assert find(table, "d^a")["verdict"] == "fails"
    assert find(table, "d^a")["value"] == pytest.approx(0, abs=0.05)
    assert {find(table, name)["verdict"] for name in EXPONENTS[:-1]} == {"holds"}


def test_a_lower_bound_that_errors_undercut_fails_and_one_that_they_meet_holds():
    below = verdicts(*made_up(lambda runs: pd.Series(3 * t1(runs))))
    above = verdicts(*made_up(lambda runs: pd.Series(3 * t1(runs)), scale=lambda runs: 0 * runs["data.dim"] + 1))
    assert find(below, ">= 0.5 min")["verdict"] in ("fails", "holds in part")
    assert find(above, ">= 0.5 min")["verdict"] == "holds"
    assert find(above, "when stopped in Stage I")["verdict"] == "fails", "an error that does not fall with d / n"


def test_a_negative_gamma_is_seen():
    runs, curves = made_up(lambda runs: pd.Series(3 * t1(runs)), low=-0.1)
    assert find(verdicts(runs, curves), "never negative")["verdict"] == "fails"


def test_what_is_true_from_some_n_snr2_on_holds_in_part():
    runs, curves = made_up(lambda runs: pd.Series(3 * t1(runs)))
    weak = runs.loc[runs["data.snr"] < 0.19, "run_id"]  # n SNR^2 < 4
    curves.loc[curves["run_id"].isin(weak), "signal_coef"] = 0.1
    row = find(verdicts(runs, curves), "gamma > rho-bar")
    assert row["verdict"] == "holds in part"
    assert row["constant"].endswith("at least 95% from n SNR^2 = 4 on")


def test_without_data_nothing_is_claimed():
    runs, curves = made_up(lambda runs: pd.Series(3 * t1(runs)))
    one = runs[(runs["noise.rate"] > 0) & (runs["data.n_train"] == 100)].head(5)
    table = verdicts(one, curves)
    assert {find(table, name)["verdict"] for name in EXPONENTS} == {"no data"}
    assert find(table, "exp(-d / (C n))")["verdict"] == "no data"
    assert find(table, "no second stage")["verdict"] == "outside its conditions"


def test_runs_outside_the_conditions_are_not_judged():
    runs, curves = made_up(lambda runs: pd.Series(3 * t1(runs)))
    outside = {"model.power": 2.0, "model.bias": True, "step_size": 1.0, "model.init_std": 1.0, "data.dim": 100.0}
    for key, value in outside.items():
        table = verdicts(runs.assign(**{key: value}), curves)
        assert find(table, "gamma > rho-bar")["verdict"] == "outside its conditions", key
    assert len(Evidence(runs.assign(model="other"), curves).runs) == 0


def test_the_figure_draws_what_there_is():
    runs, curves = made_up(lambda runs: pd.Series(3 * t1(runs)))
    for part in (runs, runs.head(5)):
        evidence, rows = scorecard(part, curves)
        figure = figure_scorecard(evidence, rows)
        assert [ax.get_title("left") for ax in figure.axes[:6]] == [f"({name})" for name in "abcdef"]


def test_threshold():
    axis, true = np.array([1, 1, 2, 2, 3, 3]), np.array([0, 0, 1, 1, 1, 1.0])
    assert threshold(axis, true) == 2
    assert threshold(-axis, 1 - true) == -1 or np.isnan(threshold(-axis, 1 - true))
    assert np.isnan(threshold(axis, np.zeros(6)))


@pytest.mark.parametrize("kind", ["none", "asymmetric"])
def test_runs_without_a_noise_rate_are_judged_too(kind):
    runs, curves = made_up(lambda runs: pd.Series(3 * t1(runs)))
    other = runs[runs["noise.rate"] == 0].drop(columns="noise.rate").assign(noise=kind)
    assert find(verdicts(other, curves), "no second stage")["verdict"] == "holds"


def test_too_few_seeds_give_no_verdict():
    runs, curves = made_up(lambda runs: pd.Series(3 * t1(runs)))
    assert set(verdicts(runs[runs["seed"] < 2], curves)["verdict"]) <= {"no data", "outside its conditions"}
