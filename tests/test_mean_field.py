"""The mean-field theory against closed forms, ODE solvers, brute force with explicit vectors, and training."""

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import expit, ndtr

import lnt
from lnt.analysis import study_theory
from lnt.analysis.figure_phase_diagram import figure_phase_diagram
from lnt.analysis.phase_diagram import facets
from lnt.analysis.report import Report
from lnt.prediction import place
from lnt.theory import mean_field, run_cells
from lnt.theory.mean_field import (
    Cells,
    MarginLoss,
    Prediction,
    average_over_counts,
    expected_counts,
    last_crossing,
    output_below_zero,
    predict,
    sample_counts,
)
from lnt.theory.run_cells import cells_of, predictable, predicted_curves_of_each, predicted_outcomes

LINEAR = MarginLoss(lambda z: np.full_like(z, 0.5), lambda z: -z / 2)  # g = 1/2 whatever the margin
FINE = 0.01


def logistic_margin(rate, t):
    """z(t) with dz/dt = rate / (1 + e^z), z(0) = 0: z + e^z - 1 = rate t."""
    return brentq(lambda z: z + np.exp(z) - 1 - rate * t, 0, 50)


def test_a_linear_loss_has_a_closed_form():
    """With g = 1/2 the signal is S_a = (kappa / n) (n_aa - n_ab) t / 2."""
    counts, kappa = np.array([[40, 10, 5, 45], [30, 20, 0, 50]]), np.array([3.0, 0.7])
    found = predict(Cells(counts, kappa, 1e6, orthogonal=True), 8, LINEAR)
    expected = kappa[:, None] / 100 * np.array([[30, 40], [10, 50]]) * 8 / 2
    np.testing.assert_allclose(found.signal[-1], expected, rtol=1e-6)


def test_a_sample_that_no_other_pushes():
    """One sample of each class, noise patches orthogonal to mu: half of the filters respond, z' = (kappa/2 + 1/2) g."""
    found = predict(Cells([[1, 0, 0, 1]], 3.0, 1e9, width=1e9, orthogonal=True), 10, growth=FINE)
    np.testing.assert_allclose(found.responding[-1, 0, [0, 3]], 0.5, atol=1e-6)
    np.testing.assert_allclose(found.margin[-1, 0, [0, 3]], logistic_margin(3 / 2 + 1 / 2, 10), rtol=0.01)


def test_without_label_noise_in_high_dimension():
    """Small initial filters, d -> infinity: three quarters of the filters respond, and a few more because the push turns while
    they join. Were they equally many on each sample, the margin would obey z' = (kappa/2 + alpha) g; they are not, and the mean
    of a concave function is a little less.
    """
    found = predict(Cells([[50, 0, 0, 50]], 2.0, 1e10, width=1e9, initial=1e-6), 10, growth=FINE)
    alpha = found.responding[-1, 0, 0]
    assert 0.75 < alpha < 0.79
    assert 0.96 < found.margin[-1, 0, 0] / logistic_margin(2 / 2 + alpha, 10) < 1
    assert found.test_error()[0] < 1e-12


@pytest.mark.parametrize("counts", [(45, 5, 20, 30), (28, 22, 10, 40)])
def test_the_four_equations_against_an_ode_solver(counts):
    """d -> infinity, m -> infinity, large initial filters, so that alpha stays 1/2."""
    kappa, n = 6.0, sum(counts)

    def rates(_, y):
        plus, minus, *rho = y
        margins = np.array([plus, -plus, -minus, minus]) + 0.5 * np.array(rho) + offset
        g = expit(-margins)
        return [
            kappa / n * (counts[0] * g[0] - counts[1] * g[1]),
            kappa / n * (counts[3] * g[3] - counts[2] * g[2]),
            *g,
        ]

    initial = 0.05
    # The filters that respond at first have <w(0), xi> > 0: the mean over all of them of its positive part.
    offset = initial / np.sqrt(2 * np.pi)
    solved = solve_ivp(rates, (0, 12), np.zeros(6), rtol=1e-9, atol=1e-9).y[:, -1]
    found = predict(Cells([counts], kappa, 1e9, width=1e9, initial=initial, orthogonal=True), 12, growth=FINE)
    np.testing.assert_allclose(found.responding[-1], 0.5, atol=0.01)
    np.testing.assert_allclose(found.signal[-1, 0], solved[:2], rtol=0.01, atol=0.01)
    np.testing.assert_allclose(found.rho[-1, 0], 0.5 * solved[2:], rtol=0.015)


def test_without_signal_nothing_is_learnt_about_fresh_samples():
    found = predict(Cells([[40, 10, 10, 40]], 0.0, 2000), 10)
    assert (found.signal == 0).all()
    np.testing.assert_allclose(found.test_error(), 0.5, atol=1e-6)
    assert found.memorised()[0] == 0


@pytest.mark.slow
def test_how_many_filters_respond_against_brute_force():
    """Filters on n noise patches under a linear loss: <w, xi_i> = h_i + sum_k rho_k <xi_k, xi_i> / d."""
    rng, n, dim, filters, initial, dt = np.random.default_rng(0), 200, 4000, 60, 0.02, 0.01
    xi = rng.standard_normal((n, dim))
    gram = xi @ xi.T / dim
    start = initial * rng.standard_normal((filters, dim)) @ xi.T / np.sqrt(dim)
    rho, share = np.zeros((filters, n)), {}
    for step in range(1, 501):
        rho += 0.5 * dt * (start + rho @ gram > 0)
        share[round(step * dt, 9)] = (start + rho @ gram > 0).mean()
    # One class with one label: n of 2 n samples belong to the filters of one sign, and kappa = 0.
    found = predict(Cells([[n, 0, 0, n]], 0.0, dim, width=1e9, initial=initial), 5, LINEAR, growth=FINE)
    for t in (0.1, 0.3, 1, 5):
        at = np.searchsorted(found.t, t)
        assert found.responding[at, 0, 0] == pytest.approx(share[t], abs=0.02), t


def test_the_law_of_the_output_against_explicit_normals():
    """All six moments at once: 10 filters of each sign, correlated, and a signal direction that both signs share."""
    rng, draws, m = np.random.default_rng(1), 400_000, 10
    variance, covariance, cross, shift = np.array([0.5, 0.4]), np.array([0.3, 0.25]), -0.05, np.array([0.2, 0.15])
    signal, spread = np.array([0.6, 0.3]), np.array([0.02, 0.01])
    shared = rng.multivariate_normal([0, 0], [[covariance[0], cross], [cross, covariance[1]]], draws)
    z, errors = rng.standard_normal(draws), []
    means = []
    for j, sign in ((0, 1), (1, -1)):
        own = np.sqrt(variance[j] - covariance[j]) * rng.standard_normal((draws, m))
        means.append(np.maximum(shared[:, j, None] + own + sign * shift[j] * z[:, None], 0).mean(1))
    for a, sign in ((0, 1), (1, -1)):
        signals = signal[a] + np.sqrt(spread[a]) * rng.standard_normal(draws)
        errors.append((signals + sign * (means[0] - means[1]) < 0).mean())
    found = output_below_zero(signal, spread, variance, covariance, np.array(cross), shift, np.array(m))
    assert found == pytest.approx(np.mean(errors), rel=0.02)


def test_the_share_of_the_signal_in_fresh_noise_patches():
    """Explicit vectors: <xi, mu> <w, mu> / |mu|^2 has the standard deviation that `shift` sqrt(n / (kappa d)) says."""
    rng, dim, n, kappa, s = np.random.default_rng(2), 300, 50, 4.0, 1.7
    norm = s * np.sqrt(kappa * dim / n)
    mu = np.zeros(dim)
    mu[0] = norm
    w = 2.5 * mu / norm**2  # <w, mu> = 2.5
    values = s * rng.standard_normal((20_000, dim)) @ w
    assert values.std() == pytest.approx(2.5 * np.sqrt(n / (kappa * dim)), rel=0.02)
    field = mean_field._MeanField(Cells([[20, 5, 5, 20]], kappa, dim), mean_field.LOGISTIC)
    assert field.to_noise[0, 0] == pytest.approx(np.sqrt(n / (kappa * dim)))
    # The other way round: sum_k rho_k <xi_k, mu> / (s^2 d) with rho = 1 has variance n |mu|^2 / (s^2 d^2) = kappa / d.
    sums = (s * rng.standard_normal((4000, n)) * norm / (s**2 * dim)).sum(1)
    assert sums.std() == pytest.approx(np.sqrt(n) * field.to_signal[0, 0] * np.sqrt(n / n), rel=0.05)


def test_orthogonal_noise_is_the_limit_of_a_short_signal():
    """What the signal direction in the noise patches adds vanishes with n / (kappa d), and adds errors where it does not."""
    counts = expected_counts(100, 0.3, 0.3)
    errors = {
        (dim, flag): predict(Cells(counts, 1.0, dim, orthogonal=flag), 20).test_error()[0]
        for dim in (1000, 10_000_000)
        for flag in (0, 1)
    }
    assert errors[1000, 0] > 1.05 * errors[1000, 1]
    assert predict(Cells(counts, 1.0, 1e7), 20).memorised() == pytest.approx(
        predict(Cells(counts, 1.0, 1e7, orthogonal=True), 20).memorised(), rel=1e-2
    )


def test_the_share_of_positive_margins():
    """Margins a + b u with u normal: Phi(a / b), up to the distance of the nodes."""
    field = mean_field._MeanField(Cells([[20, 5, 5, 20]], 1.0, 1000), mean_field.LOGISTIC)
    for a, b in ((0.0, 1.0), (0.7, 1.0), (-1.3, 0.8), (2.0, 0.1)):
        field.margin = np.broadcast_to(a + b * field.u, (1, 4, field.u.size))
        np.testing.assert_allclose(field._positive(), ndtr(a / b), atol=1e-3)


def test_swapping_the_classes_changes_nothing():
    one = predict(Cells([[40, 12, 7, 41]], 1.0, 3000), 15)
    other = predict(Cells([[41, 7, 12, 40]], 1.0, 3000), 15)
    np.testing.assert_allclose(one.signal, other.signal[..., ::-1], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(one.margin, other.margin[..., ::-1], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(one.test_error(), other.test_error(), rtol=1e-3)


def test_a_cell_is_predicted_alike_alone_and_beside_others():
    """The grid of times is shared, so the other cell has the same kappa."""
    one = predict(Cells([[40, 10, 10, 40]], 4.0, 2000), 10)
    both = predict(Cells([[40, 10, 10, 40], [30, 20, 25, 25]], 4.0, [2000, 500]), 10)
    np.testing.assert_allclose(both.margin[:, 0], one.margin[:, 0], rtol=1e-12)


def runs_table(**changes):
    row = {
        "data": "signal_noise", "data.n_train": 100, "data.dim": 2000, "data.snr": 0.2, "data.signal_norm": None,
        "data.noise_std": 1.0, "data.orthogonal_noise": False, "model.power": 1.0, "model.bias": False, "model.width": 20,
        "model.init_std": None, "model.init_norm": 0.1, "optimizer": "gd", "optimizer.momentum": 0.0,
        "optimizer.weight_decay": 0.0, "noise.resample": False, "loss": "logistic", "strategy": "none", "step_size": 0.01,
        "clean_positive": 40, "flipped_positive": 8, "flipped_negative": 12, "clean_negative": 40,
    }  # fmt: skip
    return pd.DataFrame([{**row, **changes}])


def test_eta_m_and_s_drop_out():
    """T1 takes up eta, m and s: with the same T1 in steps and the same SNR a cell is the same but for its width,
    whose finite size is all that is left of m."""
    one = cells_of(runs_table())
    assert one.step[0] == pytest.approx(0.01 * 2000 / (100 * 20))
    assert one.kappa[0] == pytest.approx(100 * 0.2**2)
    by_size = cells_of(runs_table(**{"model.init_norm": None, "model.init_std": 0.1 / np.sqrt(2000)}))
    assert by_size.initial[0] == pytest.approx(one.initial[0]) == pytest.approx(0.1)
    # s three times as large, initial filters three times smaller, eta nine times smaller; |mu| follows from the SNR.
    other = cells_of(runs_table(**{"data.noise_std": 3.0, "model.init_norm": 0.1 / 3, "step_size": 0.01 / 9}))
    for name in ("counts", "kappa", "dim", "width", "initial", "step", "orthogonal"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-12)
    times = [
        predict(Cells([[40, 10, 10, 40]], 8.0, 4000, width=m, step=step), 20).memorised()[0]
        for m, step in ((20, 1 / 40), (200, 1 / 40), (20, 1 / 200))
    ]
    np.testing.assert_allclose(times, times[0], rtol=0.06)


OTHERS = ({"model.activation": "gelu"}, {"optimizer.until": "fitted"}, {"data.noise_patches": 2}, {"data.positive_share": 0.3})


def test_runs_that_the_theory_is_not_about():
    assert predictable(runs_table())[0]
    for change in (
        {"strategy": "small_loss"},
        {"data": "xor"},
        {"optimizer": "adam"},
        {"model.power": 3.0},
        {"loss": "mine"},
        *OTHERS,
    ):
        assert not predictable(runs_table(**change))[0], change
    assert not predictable(runs_table(clean_positive=None))[0]


def test_a_crossing_is_the_last_one():
    t = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    values = np.array(
        [[0, 0, 0, 1], [0.6, 0.2, 0.9, 0.9], [0.4, 0.4, 0.8, 0.9], [0.6, 0.4, 0.7, 0.9], [0.8, 0.45, 0.6, 0.9]], float
    )
    np.testing.assert_allclose(last_crossing(t, values, 0.5), [2.5, np.nan, 0, 0])


def test_half_of_few_samples_are_memorised_at_the_median_of_their_order_statistic():
    """Of ten mislabelled samples the fifth, at 4.7 / 10.4 of the distribution; of one the median of it; without any never."""
    counts, t = np.array([[40, 6, 4, 40], [40, 0, 1, 40], [40, 0, 0, 40]]), np.linspace(0, 10, 11)
    even = np.broadcast_to(t[:, None, None] / 10, (11, 3, 4))  # a tenth more is fitted in each unit of time
    arrays = {field.name: even for field in dataclasses.fields(Prediction)[2:]}
    found = Prediction(t, Cells(counts, 1.0, 1000), **arrays)
    np.testing.assert_allclose(found.memorised(), [47 / 10.4, 5, np.nan])
    np.testing.assert_allclose(found.memorised(share=0.9), [87 / 10.4, 5, np.nan])


def test_drawn_label_counts():
    """Binomial: n/2 of each class, flipped at its own rate."""
    counts = sample_counts(200, 0.3, 0.1, 20_000, np.random.default_rng(0))
    assert (counts.sum(1) == 200).all()
    np.testing.assert_allclose(counts.mean(0), [70, 30, 10, 90], rtol=0.01)
    np.testing.assert_allclose(counts.var(0), [70 * 0.65, 30 * 0.85, 10 * 0.95, 90 * 0.55], rtol=0.05)
    np.testing.assert_allclose(expected_counts(200, 0.3, 0.1), [70, 30, 10, 90])


@pytest.mark.slow
def test_an_average_over_label_counts():
    """Its error is the mean of what each draw gives, which exceeds that of the mean counts: the error is convex in them."""
    cell = Cells(expected_counts(100, 0.4, 0.4), 4.0, 4000, initial=0.01)
    found = average_over_counts(cell, np.array([0.4, 0.4]), 20, draws=48)
    counts = sample_counts(100, 0.4, 0.4, 48, np.random.default_rng(0))
    each = [predict(Cells(row, 4.0, 4000, initial=0.01), 20).test_error()[0] for row in counts[:48]]
    assert found.final_error[0] == pytest.approx(np.mean(each), rel=1e-6)
    assert found.final_error[0] > 1.5 * predict(cell, 20).test_error()[0]
    assert found.lowest_error[0] <= found.final_error[0]


def test_times_are_medians_over_all_draws_and_ranges_over_those_that_get_there(monkeypatch):
    """Of eleven draws nine are there at 0, 10, .. 80: the sixth of all is at 50. Of the other cell five are, at 0, 1, .. 4."""
    times, errors = np.r_[0:90:10, [np.nan] * 2, 0:5, [np.nan] * 6], np.arange(22.0)
    drawn = SimpleNamespace(memorised=lambda: times, test_error=lambda: errors, lowest_test_error=lambda: (errors / 2, None))
    monkeypatch.setattr(mean_field, "predict", lambda *arguments: drawn)
    cells = Cells([expected_counts(100, 0.3, 0.3)] * 2, 4.0, 4000)
    found = average_over_counts(cells, np.array([0.3, 0.3]), 100, draws=11)
    np.testing.assert_allclose(found.time, [50, np.nan])
    np.testing.assert_allclose(found.time_range, [[8, 72], [0.4, 3.6]])
    assert (found.final_error.tolist(), found.lowest_error.tolist()) == ([5, 16], [2.5, 8])


@pytest.mark.parametrize(
    "bad", [{"counts": [[1, 2, 3]]}, {"counts": [[0, 0, 0, 0]]}, {"kappa": -1.0}, {"dim": 0}, {"width": 0}, {"initial": -1.0}]
)
def test_cells_check_themselves(bad):
    with pytest.raises(ValueError, match=r"counts|kappa|dim|width|initial"):
        Cells(**{"counts": [[40, 10, 10, 40]], "kappa": 1.0, "dim": 1000, **bad})


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "lnt.theory", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command():
    """kappa = 100 * 0.2^2 = 4, x = 4 (1 - 0.4) = 2.4, T1 = 100 * 20 / (0.01 * 2000) = 100 steps; d against n^2 / 10 = 1000."""
    done = command("data.n_train=100", "data.snr=0.2", "noise.rate=0.2", "model.init_norm=0.001", "optimizer.steps=1000")
    assert done.returncode == 0, done.stderr
    assert "n SNR^2 = 4, tau = 0.2, x = kappa (1 - 2 tau) = 2.4" in done.stdout
    assert "= 100 steps; training ends after 1000 steps = 10 T1" in done.stdout
    assert "holds by a factor 2: d is at least n^2 / 10" in done.stdout
    assert "half of the mislabelled samples memorised: t = " in done.stdout
    assert "lowest test error " in done.stdout


def test_each_class_has_an_x_of_its_own():
    """4 (1 - 0.8) = 0.8, 4 (1 - 0.6) = 1.6 and 4 (1 - 0.2) = 3.2 lie on three sides of the borders 1 and 2."""
    assert place(4.0, (0.3, 0.3), True) == [
        "kappa = n SNR^2 = 4, tau = 0.3, x = kappa (1 - 2 tau) = 1.6: a Stage I in which rho leads (borders 1 and 2)"
    ]
    assert place(4.0, (0.4, 0.1), True) == [
        "kappa = n SNR^2 = 4; by class (borders 1 and 2):",
        "  class +: tau = 0.4, x = kappa (1 - 2 tau) = 0.8: no Stage I",
        "  class -: tau = 0.1, x = kappa (1 - 2 tau) = 3.2: a Stage I in which gamma leads",
    ]
    assert place(4.0, (0.0, 0.4), False) == [
        "kappa = n SNR^2 = 4:",
        "  class +: no label noise",
        "  class -: tau = 0.4, x = kappa (1 - 2 tau) = 0.8",
    ]
    assert place(4.0, (0.0, 0.0), True) == ["kappa = n SNR^2 = 4, no label noise"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data=digits", "data=digits: has no mean-field theory"),
        ("model.power=3", "the theory is about data=signal_noise, model.power=1"),
        ("data.dim=-3", "data.dim=-3: must be at least 1"),
        ("data.dmi=3", "unknown key"),
    ],
)
@pytest.mark.slow
def test_the_command_says_in_one_line_what_is_wrong(argument, message):
    done = command(argument)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kappa", "rate", "ratio", "initial"),
    [(1.0, 0.3, 10, 0.1), (4.0, 0.4, 40, 0.001), (16.0, 0.2, 40, 0.001), (8.0, 0.3, 160, 0.1)],
)
def test_the_theory_against_training(kappa, rate, ratio, initial):
    """20 runs each at their own label counts: time of memorising within 15 %, final test error within 20 % and its noise."""
    results = lnt.simulate(
        lnt.SignalNoise(n_train=100, n_test=2000, dim=100 * ratio, snr=float(np.sqrt(kappa / 100))),
        lnt.Symmetric(rate),
        lnt.TwoLayerCNN(width=20, init_norm=initial),
        optimizer=lnt.GradientDescent(t1_steps=40, steps=800),
        over={"seed": range(20)},
        progress=False,
    )
    runs = results.runs
    found = predict(cells_of(runs), 20)
    error, noise = runs["test_error"].mean(), runs["test_error"].sem()
    assert abs(found.test_error().mean() - error) < 0.2 * error + 2 * noise + 1e-4
    curves = results.curves.pivot(index="step", columns="run_id", values="noisy_accuracy")[runs["run_id"]]
    measured = last_crossing(curves.index.to_numpy() / 40, curves.to_numpy(float), 0.5)
    if np.median(measured) > 0.3:
        assert np.median(found.memorised()) == pytest.approx(np.median(measured), rel=0.15)


@pytest.fixture(scope="module")
def small_sweep():
    """kappa = 100 SNR^2 = 0.5, 4 and 16 by three noise rates, two seeds."""
    return lnt.simulate(
        lnt.SignalNoise(n_train=100, n_test=200, dim=2000),
        model=lnt.TwoLayerCNN(width=10, init_norm=0.001),
        optimizer=lnt.GradientDescent(t1_steps=20, steps=200),
        over={"data.snr": [0.0707, 0.2, 0.4], "noise.rate": [0.0, 0.1, 0.3], "seed": range(2)},
        recordings=20,
        progress=False,
    )


def test_predictions_of_a_table_of_runs(small_sweep):
    """Each run at its own counts, also beside runs of other lengths; a run alone is predicted alike."""
    runs = small_sweep.runs
    together = predicted_outcomes(runs)
    assert (together.index == runs.index).all()
    one = runs.iloc[[4]]
    found = predict(cells_of(one), 200 / 20)
    assert together["test_error"].iloc[4] == pytest.approx(found.test_error()[0], rel=0.02, abs=1e-6)
    half = runs.assign(last_step=[100] * 9 + [200] * 9)
    np.testing.assert_allclose(predicted_outcomes(half)["test_error"].iloc[9:], together["test_error"].iloc[9:], rtol=1e-9)
    assert not np.allclose(predicted_outcomes(half)["test_error"].iloc[:9], together["test_error"].iloc[:9], rtol=1e-3)


def test_predicted_curves_have_the_names_of_training(small_sweep):
    runs = small_sweep.runs
    runs = runs[(runs["noise.rate"] == 0.3) & (runs["data.snr"] == 0.2)]
    each = dict(predicted_curves_of_each(runs))
    curves = sum(each.values()) / len(each)
    assert set(curves) < set(small_sweep.curves)
    assert curves.index[-1] == 200
    noisy = runs["realised_noise_rate"].mean()
    last = curves.iloc[-1]
    assert last["train_loss"] == pytest.approx((1 - noisy) * last["clean_loss"] + noisy * last["noisy_loss"], rel=0.05)
    measured = small_sweep.curves.set_index("run_id").loc[runs["run_id"]]
    end = measured[measured["step"] == 200].mean()
    for name in ("train_loss", "clean_loss", "noisy_loss", "signal_coef"):
        assert last[name] == pytest.approx(end[name], rel=0.1), name
    ends = measured[measured["step"] == 200]["train_loss"].to_dict()
    assert {runs["run_id"][i]: found["train_loss"].iloc[-1] for i, found in each.items()} == pytest.approx(ends, rel=0.15)


@pytest.mark.slow
def test_the_figures_of_the_theory(small_sweep, tmp_path):
    """What is drawn from a sweep: a table of runs, and one of phases whose cells were worked out here."""
    report = Report(small_sweep, tmp_path, tmp_path)
    table = study_theory.add_theory(report, "data.snr", "noise.rate")
    report.finish()
    assert {"theory", "phases"} <= set(report.figures)
    phases = pd.read_csv(tmp_path / "phases.csv").set_index(["kappa", "rate"])
    assert sorted(set(phases.index.get_level_values("kappa").round(2))) == [0.5, 4, 16]
    strong, weak = phases.loc[phases.index[-2]], phases.loc[phases.index[1]]
    assert phases["staged"].isna().sum() == 3  # without label noise
    assert strong["staged"] == strong["staged_predicted"] == 1
    assert weak["staged"] == weak["staged_predicted"] == 0
    runs = table.set_index("run_id")
    curves = small_sweep.curves[["run_id", "step", "noisy_accuracy"]].dropna()
    for run_id, curve in curves[curves["step"] > 0].groupby("run_id"):
        below = curve.loc[curve["noisy_accuracy"] < 0.5, "step"]
        time = runs.loc[run_id, "memorised"] * 20
        if below.empty:
            assert time == 0
        elif below.max() < 200:
            assert below.max() <= time <= curve.loc[curve["step"] > below.max(), "step"].min()
        else:
            assert np.isnan(time)
    means = table.pivot_table(index="noise.rate", columns="data.snr", values="test_error_predicted")
    panel = facets(small_sweep, "data.snr", "noise.rate", "test_error", 0.1, None)[""]
    drawn = study_theory.with_prediction(panel, table, "data.snr", "noise.rate", "test_error")
    np.testing.assert_allclose(drawn.predicted, means.to_numpy())
    assert study_theory.with_prediction(panel, table, "data.snr", "noise.rate", "stage1_step").predicted is None
    lines = figure_phase_diagram({"": drawn}, "data.snr", "noise.rate", "test_error").axes[0].get_legend().get_texts()
    assert any("mean-field" in text.get_text() for text in lines)


@pytest.mark.slow
def test_a_diagram_over_time_has_the_time_of_memorising_as_measured_and_predicted(small_sweep):
    """From Python; medians over the two seeds of each noise rate, in the panel of the largest kappa."""
    figure = small_sweep.over_time("noise.rate", "noisy_accuracy", "t1")
    (ax,) = (ax for ax in figure.axes if ax.get_title() == r"$\mathrm{SNR}=0.4$")
    runs = small_sweep.runs[small_sweep.runs["data.snr"] == 0.4]
    wanted = predicted_outcomes(runs)["memorised"].fillna(np.inf).groupby(runs["noise.rate"]).median()
    assert any(np.allclose(line.get_ydata(), wanted.replace(np.inf, np.nan), equal_nan=True) for line in ax.lines)
    with pytest.raises(lnt.ConfigError, match="must be one of step, t1"):
        small_sweep.over_time("noise.rate", clock="epoch")


def test_predictions_become_columns_by_kind(monkeypatch):
    """Kinds have 40, 8, 12 and 40 samples; T1 is 100 steps."""
    runs = runs_table(last_step=100).assign(run_id="a")

    def of_kinds(*values):
        return np.array([[[0.0] * len(values)], [values]])

    arrays = {field.name: of_kinds(0, 0) for field in dataclasses.fields(Prediction)[2:]} | {
        "cross_covariance": np.zeros((2, 1))
    }
    arrays |= {"signal": of_kinds(9, 9), "gamma": of_kinds(1.5, 2.5), "rho_max": of_kinds(4, 2, 7, 1)}
    arrays |= {"accuracy": of_kinds(0.1, 0.25, 0.75, 0.9), "loss": of_kinds(1, 2, 3, 4)}
    monkeypatch.setattr(run_cells, "predict", lambda cells, t_end, loss: Prediction(np.array([0, t_end]), cells, **arrays))
    ((_, curve),) = predicted_curves_of_each(runs)
    assert curve.to_dict("index") == {
        100: {
            "signal_coef": 2.5,
            "noise_coef_clean": 4,
            "noise_coef_noisy": 7,
            "clean_accuracy": pytest.approx(0.5),
            "noisy_accuracy": pytest.approx((8 * 0.25 + 12 * 0.75) / 20),
            "clean_loss": 2.5,
            "noisy_loss": pytest.approx((8 * 2 + 12 * 3) / 20),
            "train_loss": pytest.approx((40 + 16 + 36 + 160) / 100),
            "test_error": 0,
        }
    }
    outcomes = SimpleNamespace(
        memorised=lambda: [2.0], test_error=lambda: np.array([0.3]), lowest_test_error=lambda: (np.array([0.1]), None)
    )
    monkeypatch.setattr(run_cells, "predict", lambda *arguments: outcomes)
    found = predicted_outcomes(runs).iloc[0].to_dict()
    wanted = {"memorised": 2, "test_error": 0.3, "best_test_error_fresh": 0.1, "price_of_memorising": pytest.approx(0.2)}
    assert found == wanted


def test_no_theory_where_it_is_not_about_the_runs(small_sweep, tmp_path):
    other = dataclasses.replace(small_sweep, runs=small_sweep.runs.assign(strategy="small_loss"))
    report = Report(other, tmp_path, tmp_path)
    assert study_theory.add_theory(report, "data.snr", "noise.rate") is None
    assert not report.figures
