"""Metrics against their definitions, written the slow way."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from lnt.column_names import METRICS
from lnt.training.engine import Coefficients
from lnt.training.experiment import recorded_steps
from lnt.training.metrics import measure, measure_coefficients, separation


@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(1, 6))
def test_separation_is_the_area_under_the_roc_curve(seed, n, distinct):
    rng = np.random.default_rng(seed)
    losses, clean = rng.integers(0, distinct, (2, n)) / 8, rng.random((2, n)) < 0.6  # with many ties
    found = separation(torch.tensor(losses), torch.tensor(clean))
    for run in range(2):
        if clean[run].all() or not clean[run].any():
            assert math.isnan(found[run])
        else:
            assert found[run] == pytest.approx(roc_auc_score(clean[run], -losses[run]))


def test_every_metric_against_its_definition(experiment):
    batch = experiment("data.n_train=30", "data.n_test=50", "data.dim=60", runs=4, seed=np.arange(4))
    problem = batch.sample()
    engine = batch.start(problem)
    engine.advance(7)
    snapshot = engine.snapshot()
    values = dict(zip(METRICS, measure(snapshot, problem), strict=True))
    for run in range(4):
        true, observed, predicted = problem.labels[run], snapshot.observed[run], snapshot.predicted[run]
        clean, losses = true == observed, snapshot.losses[run]
        gamma, rho = snapshot.coefficients.gamma[run], snapshot.coefficients.rho[run]
        own = {
            kind: [
                float(rho[r, i])
                for i in range(30)
                for r in range(40)
                if mask[i] and (1 if r < 20 else -1) == observed[i]  # rho-bar: filters whose sign is the observed label
            ]
            for kind, mask in (("clean", clean), ("noisy", ~clean))
        }
        small = losses < math.log(2)
        expected = {
            "train_loss": losses.mean(),
            "clean_loss": losses[clean].mean(),
            "noisy_loss": losses[~clean].mean(),
            "clean_accuracy": (predicted == observed)[clean].float().mean(),
            "noisy_accuracy": (predicted == observed)[~clean].float().mean(),
            "test_error": (snapshot.test_predicted[run] != problem.test_labels[run]).float().mean(),
            "signal_coef": gamma.max(),
            "signal_coef_mean": gamma.mean(),
            "noise_coef_clean": max(own["clean"]),
            "noise_coef_clean_mean": np.mean(own["clean"]),
            "noise_coef_noisy": max(own["noisy"]),
            "noise_coef_noisy_mean": np.mean(own["noisy"]),
            "selection_precision": clean[small].float().mean(),
            "selection_recall": small[clean].float().mean(),
            "realised_noise_rate": (~clean).float().mean(),
        }
        for name, value in expected.items():
            assert float(values[name][run]) == pytest.approx(float(value), rel=1e-4, abs=1e-7), name


def test_own_entries_are_never_negative_and_gamma_grows(experiment):
    """rho-bar >= 0 by construction of gradient descent; gamma >= 0 where clean labels prevail."""
    batch = experiment("optimizer.steps=300", runs=4, seed=np.arange(4))
    engine = batch.start(problem := batch.sample())
    engine.advance(300)
    coefficients, observed = engine.snapshot().coefficients, problem.observed.at(0)
    own = torch.where(observed[:, None] > 0, coefficients.rho[:, :20], coefficients.rho[:, 20:])
    other = torch.where(observed[:, None] > 0, coefficients.rho[:, 20:], coefficients.rho[:, :20])
    assert (own >= 0).all()
    assert (other <= 0).all()
    assert (coefficients.gamma >= 0).all()
    for learned in (own.amax((1, 2)), -other.amin((1, 2)), coefficients.gamma.amax(1)):
        assert (learned > 0).all(), "something was learned at all"


def test_what_does_not_exist_is_nan():
    coefficients = Coefficients(torch.ones(1, 2), torch.ones(1, 2, 3), torch.zeros(1))
    values = measure_coefficients(coefficients, torch.ones(1, 3, dtype=torch.int64), torch.ones(1, 3, dtype=torch.bool))
    assert math.isnan(values["noise_coef_noisy"])
    assert math.isnan(values["noise_coef_noisy_mean"])
    assert values["noise_coef_clean"] == 1


@given(st.integers(1, 10**6), st.integers(2, 200))
def test_recorded_steps_are_dense_early_and_end_at_the_last(total, recordings):
    steps = recorded_steps(total, recordings)
    assert steps[0] == 0
    assert steps[-1] == total
    assert len(steps) <= recordings
    gaps = np.diff(steps)
    assert (gaps >= 1).all()
    assert (gaps[1:] >= gaps[:-1] - 1).all(), "gaps grow, but for rounding"


def test_one_recording_is_the_last_step():
    np.testing.assert_array_equal(recorded_steps(100, 1), [100])
