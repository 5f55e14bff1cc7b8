"""Label noise: rates, exact counts, limits."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lnt.noise import Asymmetric, NoNoise, Symmetric

labels = arrays(int, (3, 17), elements=st.sampled_from([-1, 1]))
uniforms = st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).random((3, 17)))


@given(labels, uniforms, st.floats(0, 0.49))
def test_exact_symmetric_flips_exactly_that_many(true, u, rate):
    flips = Symmetric(rate, exact=True, resample=False).flips(true, u)
    assert (flips.sum(1) == np.rint(rate * 17)).all()


@given(labels, uniforms, st.floats(0, 0.99), st.floats(0, 0.99))
def test_exact_asymmetric_flips_exactly_that_many_of_each_class(true, u, plus, minus):
    flips = Asymmetric(plus, minus, exact=True, resample=False).flips(true, u)
    for sign, rate in ((1, plus), (-1, minus)):
        assert ((flips & (true == sign)).sum(1) == np.rint(rate * (true == sign).sum(1))).all()


@given(labels, uniforms, st.floats(0, 0.49))
def test_asymmetric_with_equal_rates_is_symmetric(true, u, rate):
    symmetric = Symmetric(rate, exact=False, resample=False).flips(true, u)
    np.testing.assert_array_equal(symmetric, Asymmetric(rate, rate, exact=False, resample=False).flips(true, u))


@given(labels, uniforms)
def test_rate_zero_is_no_noise(true, u):
    for noise in (Symmetric(0.0, False, False), Symmetric(0.0, True, False), Asymmetric(0.0, 0.0, True, False), NoNoise()):
        assert not noise.flips(true, u).any()
        assert (noise.flip_rate(true) == 0).all()


def test_rates_are_met_on_average_run_by_run():
    rng = np.random.default_rng(0)
    true = rng.choice([-1, 1], (3, 100_000))
    plus, minus = np.array([0.1, 0.3, 0.6]), np.array([0.4, 0.0, 0.2])
    flips = Asymmetric(plus, minus, exact=False, resample=False).flips(true, rng.random(true.shape))
    for run in range(3):
        for sign, rate in ((1, plus[run]), (-1, minus[run])):
            count = (true[run] == sign).sum()
            assert abs(flips[run][true[run] == sign].mean() - rate) <= 4 * np.sqrt(rate * (1 - rate) / count)


def test_resampled_labels_are_fresh_at_each_step_and_repeatable(experiment):
    make = lambda: experiment("noise.resample=true", "noise.rate=0.3", "data.n_train=1000").sample()  # noqa: E731
    first, again = make(), make()
    steps = [0, 1, 63, 64, 200]
    flips = [first.observed.at(step) != first.labels for step in steps]
    for step, flip in reversed(list(zip(steps, flips, strict=True))):
        assert (flip == (again.observed.at(step) != again.labels)).all(), "whatever the order of asking"
        assert abs(flip.float().mean() - 0.3) < 0.06
    joint = (flips[0] & flips[1]).float().mean()
    assert abs(joint - 0.09) < 0.04, "steps are independent"


def test_fixed_labels_stay(experiment):
    observed = experiment().sample().observed
    assert (observed.at(0) == observed.at(1999)).all()
