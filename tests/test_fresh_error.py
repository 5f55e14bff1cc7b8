"""The test error of the best step, chosen by one half of the test set and measured on the other."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import norm, sem

from lnt.progress import StepCount
from lnt.training.engine import Snapshot
from lnt.training.loop import Training
from lnt.training.metrics import cross_fitted_error, errors_on_halves, first_half
from lnt.training.strategies import NoStrategy, PriorKnowledge

NAN = np.nan


def test_each_half_is_judged_where_the_other_one_chooses():
    """The first half chooses step 1, where the second one errs on 1/2; the second step 2, where the first errs on 1/4."""
    errors = np.array([[0.5, 0.25], [0, 0.5], [0.25, 0]])[..., None]
    assert cross_fitted_error(errors, 8) == [0.375]
    assert errors.mean(1).min() == 0.125, "what the lowest error of all samples would say"
    # Of five samples three are in the first half.
    assert cross_fitted_error(errors, 5) == pytest.approx([0.6 * 0.25 + 0.4 * 0.5])


def test_the_middle_of_equal_steps_counts_and_diverged_steps_never_do():
    """The first half chooses step 2 of 0, 2 and 3, the second step 1."""
    errors = np.array([[0.25, 0.5], [0.5, 0.25], [0.25, 0.75], [0.25, 0.5], [np.inf, np.inf]])[..., None]
    assert cross_fitted_error(errors, 4) == [(0.75 + 0.5) / 2]
    errors[3] = np.nan
    assert np.isnan(cross_fitted_error(errors, 4)), "a step that was not measured might have been the best"


def test_each_half_of_each_run_has_its_own_lowest_error():
    """Of four equal steps the third counts. The second run was not measured at one step, on one half."""
    first, second = [0.5, 0.5, 0.5, 0.5], [1, 0.75, 0.25, 0.5]
    errors = np.array([[first, second], [first, [1, NAN, 0.25, 0.5]]]).transpose(2, 1, 0)
    np.testing.assert_array_equal(cross_fitted_error(errors, 8), [(0.5 + 0.25) / 2, NAN])


def test_halves_are_halves_and_no_order_of_the_samples_shows_in_them():
    for count in (1, 2, 7, 2000):
        assert first_half(count).sum() == -(-count // 2)
    assert (first_half(2000) == first_half(2000)).all(), "the same for all runs"
    # Sorted by class, and classes that take turns.
    for labels in (np.repeat([0, 1], 1000), np.tile([0, 1], 1000)):
        assert labels[first_half(2000)].mean() == pytest.approx(0.5, abs=0.05)


class Thresholds:
    """An engine that "trains" the classifier sign(x - b_t) along given b_t; its true errors are known."""

    def __init__(self, x, thresholds):
        self.x, self.thresholds, self.step = x, thresholds, 0  # x [R, N]

    def advance(self, steps):
        self.step += steps

    def snapshot(self):
        train = torch.ones(len(self.x), 3)
        predicted = torch.sign(self.x - self.thresholds[self.step])
        return Snapshot(train, train, train, train, predicted, 0.7)


def middle(errors):
    """The middle one of the steps with the lowest error."""
    lowest = [step for step, error in enumerate(errors) if error == min(errors)]
    return lowest[len(lowest) // 2]


def test_it_is_unbiased_and_the_lowest_error_is_not():
    """y = +-1, x = y + z: sign(x - b) errs with probability (Phi(b - 1) + Phi(-b - 1)) / 2 on fresh samples."""
    runs, count, rng = 20_000, 50, np.random.default_rng(3)
    thresholds = np.linspace(1.2, -1, 12)
    true_errors = (norm.cdf(thresholds - 1) + norm.cdf(-thresholds - 1)) / 2
    labels = rng.choice([-1.0, 1.0], (runs, count))
    x = torch.as_tensor(labels + rng.standard_normal((runs, count)))
    problem = SimpleNamespace(
        test_rare=None,
        labels_known=True,
        test_labels_known=True,
        labels=torch.ones(runs, 3),
        test_labels=torch.as_tensor(labels),
        test_error_observed=lambda predicted: None,
    )
    problem.as_classes = torch.ones_like
    known = PriorKnowledge(*[np.full(runs, np.nan)] * 3)
    training = Training([Thresholds(x, thresholds)], problem, np.arange(len(thresholds)), NoStrategy(), known)
    training.run(StepCount())
    curves = training.curves(0.0)

    wrong = np.sign(x.numpy()[..., None] - thresholds) != labels[..., None]  # [R, N, T]
    first = first_half(count)
    by_half = [np.array([middle(row) for row in wrong[:, half].mean(1)]) for half in (first, ~first)]  # the choice of each
    bias = curves.fresh_error - sum(true_errors[chosen] for chosen in by_half) / 2
    assert abs(bias.mean()) < 3 * sem(bias)
    errors = wrong.mean(1)  # [R, T]
    optimistic = errors.min(1) - true_errors[errors.argmin(1)]
    assert optimistic.mean() < -30 * sem(optimistic)
    # What half of the samples choose is a little worse than what all of them choose, and no better than the best there is.
    cost = curves.fresh_error.mean() - true_errors[errors.argmin(1)].mean()
    assert 0 < cost < -optimistic.mean() / 2
    assert curves.fresh_error.mean() > true_errors.min()


def test_errors_on_halves_against_a_loop():
    rng = np.random.default_rng(0)
    predicted, labels = (torch.as_tensor(rng.integers(0, 3, (2, 9))) for _ in range(2))
    train = torch.ones(2, 3)
    found = errors_on_halves(
        Snapshot(train, train, train, train, predicted, 0.7), SimpleNamespace(test_labels_known=True, test_labels=labels)
    )
    for run in range(2):
        for number, half in enumerate((first_half(9), ~first_half(9))):
            members = [int(predicted[run, i] != labels[run, i]) for i in range(9) if half[i]]
            assert float(found[number, run]) == pytest.approx(sum(members) / len(members))


def test_a_state_of_an_earlier_version_goes_on_without_it(experiment):
    """Its first rows were measured on the whole test set only: no number is better than one from the rest of the rows."""
    one = experiment("data.n_train=12", "data.n_test=9", "data.dim=30", "optimizer.steps=60", "recordings=8")
    whole = Training.of(one)
    whole.run(StepCount())
    states = []
    broken_off = Training.of(one)
    broken_off.run(StepCount(), lambda state: states.append(copy.deepcopy(state())))
    for earlier in (False, True):
        state = copy.deepcopy(states[2])
        if earlier:
            del state["halves"]
        resumed = Training.of(one)
        resumed.load(state)
        assert 0 < resumed.step < 60
        resumed.run(StepCount())
        np.testing.assert_array_equal(resumed.values, whole.values)
        assert np.isnan(resumed.curves(0.0).fresh_error).all() == earlier
