"""The scorecard piece by piece, on tables of a few rows whose numbers are worked out by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.stats import binom, norm
from scipy.stats import t as student

from lnt.analysis.scorecard import (
    CONFIDENCE,
    binomial_interval,
    estimate,
    judge,
    noticed_number,
    noticed_share,
    scorecard,
    to_table,
    verdict,
)
from lnt.analysis.scorecard_evidence import AT_STAGE1, Evidence, controlled, counted
from lnt.analysis.scorecard_statistics import (
    border,
    border_exponent,
    borders,
    error_exponent,
    length_exponent,
    mean,
    ratio,
    slope,
)
from lnt.analysis.statements import (
    STATEMENTS,
    Statement,
    clean_fitted,
    inside,
    never_negative,
    predicted_as_true,
    priced,
    separated,
    signal_leads,
    stage1_exists,
)
from lnt.intervals import mean_interval

NAN = np.nan

# The evidence: runs and their curves. By hand: n = 100, d = 4000, s = 1, SNR = 1/5, so n SNR^2 = 4 and |mu|^2 = 160;
# T1 = 100 10 / (0.0025 4000) = 100.
RUN = {"data": "signal_noise", "model": "two_layer_cnn", "strategy": "none", "loss": "logistic", "optimizer": "gd"}
RUN |= {"data.n_train": 100, "data.n_test": 500, "data.dim": 4000, "data.noise_std": 1.0, "data.orthogonal_noise": False}
RUN |= {"data.signal_norm": NAN, "data.snr": 0.2, "noise.rate": 0.3, "model.width": 10, "model.power": 1.0}
RUN |= {"model.init_std": 1e-5, "model.init_norm": NAN, "seed": 0, "status": "completed", "step_size": 0.0025}
RUN |= {"flip_rate": 0.3, "flip_rate_positive": 0.4, "flip_rate_negative": 0.2, "clean_accuracy": 1.0, "noisy_accuracy": 1.0}
RUN |= {"test_error": 0.2, "best_test_error_fresh": 0.1, "signal_coef": 3.0, "overtaken_share": 0.6}


def evidence_of(changes, curves=({},), steps=(0, 10)):
    """The evidence of runs that differ from RUN by `changes`, with curves by metric, the same for all runs or one each."""
    runs = pd.DataFrame([RUN | change for change in changes])
    runs.insert(0, "run_id", [f"run {i}" for i in range(len(runs))])
    names = {*AT_STAGE1, "signal_coef_min"}
    each = list(curves) if len(curves) == len(runs) else list(curves) * len(runs)
    parts = [
        pd.DataFrame({"run_id": run, "step": steps, **dict.fromkeys(names, 0.5), **values})
        for run, values in zip(runs["run_id"], each, strict=True)
    ]
    return Evidence(runs, pd.concat(parts))


def test_what_a_run_says_by_hand():
    (run,) = evidence_of([{}], [{"signal_coef_min": [0.1, -0.2]}]).runs.to_dict("records")
    wanted = {"n": 100, "dim": 4000, "tested": 500, "seed": 0, "cell": 0, "rate": 0.4, "t1": 100, "gamma_lowest": -0.2}
    # rate and x are those of the class of which 0.4 are flipped.
    wanted |= {"kappa": 4, "x": 4 * 0.2, "dim_over_n": 40, "floor": 0.1, "signal_coef": 3, "overtaken_share": 0.6}
    wanted |= {"test_error": 0.2, "best_test_error_fresh": 0.1, "clean_accuracy": 1, "noisy_accuracy": 1}
    # n |mu|^4 / (s^4 d) = 100 160^2 / 4000 = 640, over 1 + 4 0.4^2 = 1.64
    wanted |= {"benign": 640 / 1.64, "early": 640 * 0.4**2 / 1.64}
    assert {name: run[name] for name in wanted} == pytest.approx(wanted)
    assert run["stage1_conditions"] is run["plain_network"] is True


@pytest.mark.parametrize("other", [{"model": "mlp"}, {"data": "xor"}, {"strategy": "small_loss"}])
def test_other_runs_are_no_evidence(other):
    found = evidence_of([{}, other, {"seed": 1}])
    assert found.runs.index.tolist() == ["run 0", "run 2"]
    assert set(found.curves["run_id"]) == {"run 0", "run 2"}


def test_runs_of_a_cell_differ_by_their_seed_alone():
    found = evidence_of([{}, {"seed": 1}, {"data.dim": 5000}, {"data.snr": NAN, "data.signal_norm": 2.0}, {"seed": 2}])
    cells = found.runs["cell"].tolist()
    assert cells[0] == cells[1] == cells[4]
    assert len(set(cells)) == 3
    assert set(evidence_of([{}, {"seed": 1}]).runs["cell"]) == {0}, "nothing was swept"


@pytest.mark.parametrize(
    ("steps", "nearest"),
    [
        ((0, 8, 12, 400), 12),  # 1/10 of T1 is step 10: on a log scale 12 is a factor of 1.2 away, 8 one of 1.25
        ((0, 12, 8), 12),
        ((0, 15), 15),  # a factor of 1.5 is near enough
        ((0, 16), None),
        ((0, 7), 7),
        ((0, 6), None),
    ],
)
def test_stage1_is_looked_at_at_the_nearest_recorded_step(steps, nearest):
    """The second run has T1 = 10 and is looked at at step 1."""
    values = dict.fromkeys(AT_STAGE1, np.array([*steps, 1]) / 1000)
    found = evidence_of([{}, {"step_size": 0.025}], [values], [*steps, 1]).runs
    for name in AT_STAGE1:
        assert found[f"{name}_early"].tolist() == pytest.approx([nearest / 1000 if nearest else NAN, 0.001], nan_ok=True)


@pytest.mark.parametrize(
    ("steps", "values", "found"),
    [
        ((1, 4, 16, 64), [0.6, 0.2, 0.8, 1.0], 8),  # half way in log(step)
        ((1, 16, 64, 4), [0.6, 0.8, 1.0, 0.2], 8),
        ((1, 4, 16, 64), [0.2, 0.6, 0.4, 0.8], 16 * 4**0.25),  # the last time; 1/4 of the way
        ((1, 4, 16, 64), [0.0, 0.5, 0.7, 1.0], 4),  # at a record
        ((1, 4, 16, 64), [0.5, 0.5, 0.7, 1.0], NAN),  # from the first step on
        ((1, 4, 16, 64), [0.0, 0.1, 0.2, 0.4], NAN),
        ((0, 4, 16, 64), [0.0, 0.6, 0.7, 1.0], NAN),  # step 0 has no logarithm
        ((1, 4, 16, 64), [1.0, 1.0, 1.0, 0.4], NAN),
    ],
)
def test_the_time_of_memorising(steps, values, found):
    """The second run, which has memorised from the first step on, follows the first in the table; its rise is none."""
    curves = [{"noisy_accuracy": accuracy} for accuracy in (values, [1.0] * 4, values)]
    three = evidence_of([{}, {"seed": 1}, {"seed": 2}], curves, steps)
    assert three.runs["memorising_step"].tolist() == pytest.approx([found, NAN, found], nan_ok=True)


def test_which_runs_each_statement_is_about():
    """n SNR^2 = 4 in all but run 2, so x = 0.8; in run 1, without noise, n |mu|^4 / (s^4 d (1 + 4)) = 128."""
    none = {"flip_rate": 0.0, "flip_rate_positive": 0.0, "flip_rate_negative": 0.0, "noise.rate": 0.0}
    changes = [
        {},
        none,
        {"data.snr": 0.5},  # n SNR^2 = 25
        {"step_size": 0.25},  # T1 = 1
        {"clean_accuracy": 0.98},
        {"noisy_accuracy": 0.98},
        {"data.dim": 8000, "step_size": 0.00125},
        none | {"clean_accuracy": 0.98},
        none | {"data.snr": 0.02},  # n |mu|^4 / (s^4 d) = 0.064
        none | {"loss": "hinge"},
        none | {"step_size": 0.25},
        {"flip_rate_positive": 0.5},
        {"data.dim": 16000, "step_size": 0.000625, "flip_rate_negative": 0.0},  # no label noise in one class, which is no bound
    ]
    found = evidence_of(changes, steps=(0, 10))

    def numbers(runs):
        return [int(run.split()[1]) for run in runs.index]

    assert numbers(found.noisy) == [0, 2, 4, 5, 6, 12]
    assert numbers(found.early) == [0, 2, 4, 5, 6, 12]
    assert numbers(evidence_of(changes, steps=(0, 20)).early) == []
    assert numbers(found.converged) == [0, 2, 6, 12]
    assert numbers(found.wide) == numbers(found.widest) == [6]
    assert numbers(found.easy) == [1, 7, 10]
    assert numbers(found.noiseless) == numbers(found.clean_errors) == [1, 10]
    assert numbers(found.lengths) == [2]  # x = 5 at n SNR^2 = 25, of the others 0.8
    assert numbers(found.across_x) == [0, 2, 4, 5]
    assert numbers(found.early_errors) == [0, 4, 5, 6]  # two values of d / n at the same rates of both classes
    for error, enough in ((0.02, [0, 4, 5, 6]), (0.019, [])):  # 10 and 9.5 of 500 are wrong
        assert numbers(evidence_of(changes, [{"test_error": error}]).early_errors) == enough


def test_intervals_and_regions():
    region = (0.75, 1.25)
    assert verdict(0.8, 1.2, region) == "supported"
    assert verdict(0.75, 1.25, region) == "supported"
    assert verdict(0.7, 1.2, region) == verdict(0.8, 1.3, region) == verdict(0.7, 1.3, region) == "undecided"
    assert verdict(1.26, 1.3, region) == verdict(0.5, 0.74, region) == "contradicted"
    # Clopper and Pearson: P(at most `count` of 20 | high) and P(at least `count` | low) are both half of what is left
    low, high = binomial_interval(17, 20)
    assert binom.cdf(17, 20, high) == pytest.approx((1 - CONFIDENCE) / 2)
    assert binom.sf(16, 20, low) == pytest.approx((1 - CONFIDENCE) / 2)
    assert binomial_interval(20, 20)[1] == 1.0
    assert binomial_interval(0, 20)[0] == 0.0
    assert (1 - CONFIDENCE) * len(STATEMENTS) == pytest.approx(0.05)


def test_slopes_by_hand():
    cells = pd.DataFrame({"a": [1.0, 2, 4, 1, 2], "b": [1.0, 1, 1, 3, 3]})
    target = 5 * cells["a"] ** 2 / cells["b"]
    assert slope(cells, target, ("a", "b"), "a") == pytest.approx(2)
    assert slope(cells, target, ("a", "b"), "b") == pytest.approx(-1)
    assert slope(np.sqrt(cells), target, ("a", "b"), "a") == pytest.approx(4), "also where a varies by a factor of 2"
    assert np.isnan(slope(cells, target, ("a",), "b"))
    assert np.isnan(slope(cells.assign(b=cells["a"]), target, ("a", "b"), "a")), "varied together"
    assert np.isnan(slope(cells.iloc[:2], target.iloc[:2], ("a",), "a")), "a line through two points"


def test_borders_by_hand():
    """Shares 0, 1/2, 1 at x = 1, 2, 4: log x is log sqrt(2) and log sqrt(8) with equal weight, so x = 2."""
    runs = pd.DataFrame({"x": [1, 1, 2, 2, 4, 4.0], "true": [0, 0, 1, 0, 1, 1.0], "rate": 0.1})
    assert border(runs) == pytest.approx(2)
    # A rate that never becomes all true has no border.
    half = pd.concat([runs, runs.assign(rate=0.05, true=[0, 0, 0, 0, 1, 0.0])])
    assert borders(half).index.tolist() == [0.1]
    assert np.isnan(border_exponent(half))
    # kappa = x / (1 - 2 tau): the border in kappa goes as the inverse where the one in x is the same at all rates
    three = pd.concat([runs.assign(rate=rate) for rate in (0.1, 0.2, 0.3)])
    assert border_exponent(three) == pytest.approx(-1)


def test_selections_by_hand():
    runs = pd.DataFrame({"cell": [0, 0, 1, 1], "error": [0.01, 0.03, 0.004, 0.005], "tested": 1000.0})
    assert counted(runs, "error")["cell"].tolist() == [0, 0]
    kappa = [8.0, 8.1, 2.0, 2.0, 2.0, 1.0, 2.2]
    table = pd.DataFrame({"rate": 0.3, "kappa": kappa, "dim_over_n": [10, 20, 10, 20, 40, 80, 160.0]}).assign(
        x=lambda t: 0.4 * t["kappa"], floor=0.15
    )
    assert controlled(table, "dim_over_n").index.tolist() == [2, 3, 4]
    other = table.assign(floor=[0.15, 0.15, 0.15, 0.15, 0.1, 0.15, 0.15])
    assert controlled(other, "dim_over_n").index.tolist() == [2, 3], "the other class has another rate in run 4"
    assert controlled(table, "dim_over_n", at_least=0.8).index.tolist() == [2, 3, 4], "0.8 is enough"
    assert controlled(table, "dim_over_n", at_least=1.0).index.tolist() == [0, 1]
    assert controlled(table, "dim_over_n", at_least=9.0).empty


def test_two_rates_fit_any_slope():
    runs = pd.DataFrame({"x": [1, 2.0, 4], "true": [0, 0.5, 1], "rate": 0.1})
    assert np.isnan(border_exponent(pd.concat([runs, runs.assign(rate=0.2)])))


def test_the_exponent_along_the_border_by_hand():
    """If n SNR^2 decided alone, x along the border would go as 1 - 2 tau, and n SNR^2 = x / (1 - 2 tau) as its power 0."""
    parts = [pd.DataFrame({"x": np.array([1, 2.0, 4]) * (1 - 2 * r), "true": [0, 0.5, 1], "rate": r}) for r in (0.1, 0.2, 0.4)]
    assert border_exponent(pd.concat(parts)) == pytest.approx(0, abs=1e-3)  # log x is rounded to three digits


def test_the_border_is_that_of_the_class_with_more_noise():
    """One class is clean and n SNR^2 alone decides, at 2: the exponent of 1 - 2 tau is 0 at the rate of the other class."""
    kappas, rates = [0.5, 1.0, 2, 4, 8], [0.1, 0.2, 0.3, 0.4]
    changes = [
        {"data.snr": (kappa / 100) ** 0.5, "flip_rate": r / 2, "flip_rate_positive": r, "flip_rate_negative": 0.0, "seed": seed}
        for r in rates
        for kappa in kappas
        for seed in range(2)
    ]
    # Of two runs at n SNR^2 = 2 one has a Stage I.
    memorised = [{"noisy_accuracy": [0.0, k + s > 2.5]} for _ in rates for k in kappas for s in (0, 1)]
    runs = stage1_exists(evidence_of(changes, memorised, steps=(1, 10)))
    assert sorted(set(runs["rate"])) == rates
    assert border_exponent(runs) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("shares", "counts"), [((0.1, 0.9), True), ((0.11, 0.9), False), ((0.1, 0.89), False), ((0.0, 1.0), True)]
)
def test_a_border_goes_from_nearly_none_to_nearly_all(shares, counts):
    """At x = 1, 2, 4 with 1/2 at 2. Whatever is left at both ends counts there: the mean of log x is log 2 by symmetry."""
    true = [np.arange(100) < round(100 * share) for share in (shares[0], 0.5, shares[1])]
    runs = pd.DataFrame({"x": np.repeat([1.0, 2.0, 4.0], 100), "true": np.concatenate(true).astype(float), "rate": 0.1})
    found = borders(runs)
    assert found.tolist() == (pytest.approx([np.log(2)]) if counts else [])


def test_the_exponent_of_a_length_by_hand():
    """Half of the mislabelled are memorised after 3 n^2 / d in the unit m / (eta s^2) = T1 d / n, up to a factor in a cell."""
    cells = [(n, d, by) for n, d in ((10, 100), (20, 100), (40, 100), (10, 400), (20, 400)) for by in (0.5, 2)]
    runs = pd.DataFrame(cells, columns=["n", "dim", "by"]).assign(cell=lambda runs: 1000 * runs["n"] + runs["dim"])
    runs["t1"] = 7.0 + np.arange(10)
    runs["memorising_step"] = runs["by"] * 3 * runs["n"] ** 2 / runs["dim"] * runs["t1"] * runs["dim"] / runs["n"]
    assert length_exponent(runs, "n") == pytest.approx(2)
    assert length_exponent(runs, "dim") == pytest.approx(-1)


def test_the_exponent_of_an_error_by_hand():
    """z^2 is 0.1 n^2 on average in each cell; of `tested` samples, half of one more is counted as wrong."""
    cells = [(n, by, tested) for n in (2, 4, 8) for by in (0.5, 1.5) for tested in (20, 50)]
    runs = pd.DataFrame(cells, columns=["n", "by", "tested"]).assign(cell=lambda runs: runs["n"], d=5.0)
    share = norm.sf(np.sqrt(0.1 * runs["n"] ** 2 * runs["by"]))
    runs["error"] = (share * (runs["tested"] + 1) - 0.5) / runs["tested"]
    assert error_exponent(runs, "error", ("n", "d"), "n") == pytest.approx(2)
    assert np.isnan(error_exponent(runs, "error", ("n", "d"), "d"))


def test_means_by_hand():
    runs = pd.DataFrame({"a": [1.0, 2, 6], "b": [1.0, 1, 0]})
    assert mean(runs, "a") == 3
    assert ratio(runs, "a", "b") == 4.5
    assert np.isnan([mean(runs[:0], "a"), ratio(runs[:0], "a", "b")]).all()


# What is true of a run.


def truth(runs):
    return runs["true"].tolist()


def test_stage1_exists_where_memorising_takes_time():
    assert truth(stage1_exists(SimpleNamespace(across_x=pd.DataFrame({"memorising_step": [3.0, NAN]})))) == [1, 0]


def test_the_signal_leads_both_kinds_of_noise():
    rho = {"noise_coef_clean_early": [1.0, 3, 1, 2], "noise_coef_noisy_early": [1.0, 1, 3, 1]}
    assert truth(signal_leads(pd.DataFrame({"signal_coef_early": 2.0, **rho}))) == [1, 0, 0, 0]


def test_far_inside_stage1_by_hand():
    columns = {"clean_accuracy_early": [0.5, 0.99, 0.98], "noisy_accuracy_early": [0.5, 0.01, 0.02]}
    columns |= {"selection_precision_early": [1, 0.99, 1], "selection_recall_early": [1, 1, 0.98]}
    evidence = SimpleNamespace(early=pd.DataFrame({"x": [7.9, 8.0, 20.0], **columns}))
    assert inside(evidence)["x"].tolist() == [8, 20]
    for statement in (clean_fitted, predicted_as_true, separated):
        assert truth(statement(evidence)) == [1, 0]
    swapped = evidence.early.rename(columns={"selection_precision_early": "a"})
    swapped = swapped.rename(columns={"selection_recall_early": "selection_precision_early", "a": "selection_recall_early"})
    assert truth(separated(SimpleNamespace(early=swapped))) == [1, 0]


def test_gamma_is_negative_beyond_rounding():
    """Rounding is 1e-5 of |gamma|, here 2e-5; runs outside the conditions, or without coefficients, are not counted."""
    lowest = [0.0, -2e-5, -3e-5, -1.0, NAN]
    runs = pd.DataFrame(
        {"gamma_lowest": lowest, "signal_coef": [2.0, 2, -2, 2, 2], "stage1_conditions": [True] * 3 + [False, True]}
    )
    assert truth(never_negative(SimpleNamespace(runs=runs))) == [1, 1, 0]


def test_a_price_is_what_training_on_costs():
    runs = pd.DataFrame({"test_error": [0.3, 0.1], "best_test_error_fresh": [0.1, 0.25]})
    assert priced(SimpleNamespace(noiseless=runs))["price"].tolist() == pytest.approx([0.2, -0.15])


# Verdicts.


def says(estimate=None, region=(0.0, 1.0), quantity="", runs=lambda table: table):
    return Statement("claim", "source", "condition", "statistic", "predicted", region, runs, estimate, "panel", quantity)


def mean_of_v(runs):
    return runs["v"].mean()


def table(seeds=6, **columns):
    """Two runs of each seed, in two cells."""
    both = pd.DataFrame({"seed": np.repeat(np.arange(seeds), 2), "cell": [0, 1] * seeds})
    return both.assign(**{"v": 0.5 + 0.01 * both["seed"], **columns})


def test_the_row_of_a_number_by_hand():
    """The jackknife of a mean is the t interval of the means of seeds, here at 1 - 0.05 / 16."""
    low, high = mean_interval(0.5 + 0.01 * np.arange(6), 1 - 0.05 / len(STATEMENTS))
    row = judge(says(mean_of_v), table())
    assert (row.statement, row.source, row.condition) == ("claim", "source", "condition")
    assert (row.statistic, row.predicted, row.figure, row.note) == ("statistic", "predicted", "panel", "")
    assert (row.value, row.low, row.high) == pytest.approx((0.525, low, high))
    assert row.noticed == noticed_number((high - low) / 2, 6, (0.0, 1.0))
    assert (row.verdict, row.seeds, row.cells, row.runs, row.censored) == ("supported", 6, 2, 12, 0)
    assert judge(says(mean_of_v, (0.6, 1.0)), table()).verdict == "contradicted"
    assert judge(says(mean_of_v, (0.525, 1.0)), table()).verdict == "undecided"


def test_the_row_of_a_share_by_hand():
    """A seed counts if all of its runs do: seed 0 does not."""
    row = judge(says(region=(0.5, 1.0)), table(20, true=[0.0] + [1.0] * 39))
    assert (row.value, row.low, row.high) == pytest.approx((19 / 20, *binomial_interval(19, 20)))
    assert row.noticed == noticed_share(20, (0.5, 1.0))
    assert (row.verdict, row.seeds, row.runs) == ("supported", 20, 40)


@pytest.mark.parametrize(
    ("statement", "runs", "note"),
    [
        (says(mean_of_v), table().head(0), "no run meets the conditions"),
        (says(mean_of_v), table(4), "fewer than 5 seeds"),
        (says(mean_of_v, quantity="q"), table(10, q=[NAN, NAN] + [1.0] * 18), "2 of 20 runs have no Stage I"),
        (says(mean_of_v, quantity="q"), table(10, q=[NAN] + [1.0] * 19), ""),  # 5 % may
        (says(mean_of_v), table(v=NAN), "what it depends on was not varied enough"),
        (says(lambda runs: NAN if 3 not in set(runs["seed"]) else 0.5), table(), "it does not exist without one of the seeds"),
        (says(mean_of_v), table(5), ""),
    ],
)
def test_why_a_statement_is_not_tested(statement, runs, note):
    row = judge(statement, runs)
    assert row.note == note
    assert (row.verdict == "not tested") == bool(note)
    assert bool(row.noticed) == (not note)


def test_censored_runs_are_counted_and_not_used():
    runs = table(20, q=[NAN, NAN] + [1.0] * 38, v=[5.0, 5.0] + [0.5] * 38)
    row = judge(says(mean_of_v, quantity="q"), runs)
    assert (row.value, row.censored, row.runs, row.seeds, row.cells) == (0.5, 2, 40, 20, 2)


def test_runs_that_did_not_end_as_the_condition_asks_are_counted_and_do_not_judge():
    """10 of 30 runs have not converged: they are no reason not to judge the others, but they are said."""
    found = SimpleNamespace(converged=table(10), noisy=table(15, v=7.0))
    statement = replace(says(mean_of_v), runs=lambda evidence: evidence.converged, among=lambda evidence: evidence.noisy)
    row = judge(statement, found)
    assert (row.value, row.censored, row.unfinished, row.runs, row.verdict) == (0.545, 0, 10, 20, "supported")


def test_the_conditions_of_what_is_censored_are_those_of_what_is_judged():
    """Each set of runs that may have ended otherwise holds the runs that ended so."""
    changes = [{"seed": seed, "noisy_accuracy": 0.98 * (seed > 0) + 0.02 * (seed > 1)} for seed in range(3)]
    changes += [{"flip_rate": 0.0, "flip_rate_positive": 0.0, "flip_rate_negative": 0.0, "clean_accuracy": a} for a in (1, 0.9)]
    found = evidence_of(changes)
    counts = [(len(s.runs(found)), len(s.among(found))) for s in STATEMENTS if s.among]
    assert counts == [(1, 3), (1, 3), (1, 2), (1, 2)]


def test_without_runs_or_with_four_seeds_nothing_is_estimated():
    np.testing.assert_equal(estimate(says(mean_of_v), table().head(0)), (NAN, NAN, NAN, ""))
    value, low, high, noticed = estimate(says(mean_of_v), table(4))
    assert value == pytest.approx(0.515)
    assert np.isnan([low, high]).all()
    assert noticed == ""


def test_rounding_at_the_ends_of_a_region_does_not_count():
    assert verdict(0.75 - 5e-10, 1.25 + 5e-10, (0.75, 1.25)) == "supported"
    assert verdict(0.75 - 5e-9, 1.25, (0.75, 1.25)) == verdict(0.75, 1.25 + 5e-9, (0.75, 1.25)) == "undecided"
    assert verdict(0.5, 0.75 - 5e-10, (0.75, 1.25)) == verdict(1.25 + 5e-10, 2, (0.75, 1.25)) == "undecided"
    assert verdict(0.5, 0.75 - 5e-9, (0.75, 1.25)) == verdict(1.25 + 5e-9, 2, (0.75, 1.25)) == "contradicted"


def test_what_is_noticed_of_a_number_by_hand():
    """The mean, value + half t / quantile, lies below 3/4 - half with 80 %; 0.941 is Student's t at 0.8 and 4 degrees."""
    beyond = 0.1 + 0.1 * 0.941 / student.isf((1 - CONFIDENCE) / 2, 4)
    assert noticed_number(0.1, 5, (0.75, 1.25)) == f"below {0.75 - beyond:.3g} or above {1.25 + beyond:.3g}"
    assert noticed_number(0.1, 5, (0.75, np.inf)) == f"below {0.75 - beyond:.3g}"
    assert noticed_number(0.1, 5, (-np.inf, 1.25)) == f"above {1.25 + beyond:.3g}"


def test_what_is_noticed_of_a_share_by_hand():
    """A count contradicts if so few are too rare at 9/10; the share is that at which 80 % of the counts are so low."""
    count = max(c for c in range(101) if binom.cdf(c, 100, 0.9) < (1 - CONFIDENCE) / 2)
    share = brentq(lambda p: binom.cdf(count, 100, p) - 0.8, 0.5, 0.9)
    assert noticed_share(100, (0.9, 1.0)) == f"below {np.floor(1000 * share) / 1000:.3g}"
    # Of five seeds none may do, and still 9/10 is possible with (1/10)^5 only; all five say nothing against 0.
    assert noticed_share(5, (0.9, 1.0)) != ""
    assert noticed_share(5, (0.0, 1.0)) == ""


def test_every_statement_has_a_row():
    found, rows = scorecard(pd.DataFrame([{"run_id": "a", **RUN}]), evidence_of([{}]).curves.replace("run 0", "a"))
    assert len(found.runs) == 1
    assert to_table(rows)["statement"].tolist() == [statement.claim for statement in STATEMENTS]
    assert set(to_table(rows)["verdict"]) == {"not tested"}
