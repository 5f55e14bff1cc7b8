"""Intervals against numbers made by hand, tables of Student's t, and their coverage where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from lnt.intervals import difference_interval, half_width, jackknife_interval, mean_interval, with_interval


def within_binomial_error(hits, at_least=0.95):
    """Whether a share of hits is the nominal one to three standard errors of a count."""
    return abs(hits.mean() - at_least) <= 3 * np.sqrt(at_least * (1 - at_least) / hits.size)


def test_a_mean_by_hand():
    # Mean 3, sd sqrt(10 / 4); the table of Student's t has 2.776 at 4 degrees of freedom.
    low, high = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (low, high) == pytest.approx((3 - 2.776 * np.sqrt(2.5 / 5), 3 + 2.776 * np.sqrt(2.5 / 5)), abs=1e-3)
    assert half_width(2.0, 16) == pytest.approx(2.131 * 2 / 4, abs=1e-3)


@pytest.mark.parametrize("interval", [mean_interval, lambda values: jackknife_interval(0.0, values)])
def test_values_in_single_precision_are_added_up_in_double(interval):
    """The sum is 5 2^24 + 20; in single precision it would be 5 2^24 + 16, and the mean 0.8 less."""
    values = 2.0**24 + np.array([0, 2, 4, 6, 8])
    np.testing.assert_allclose(interval(values.astype(np.float32)), interval(values), rtol=1e-12)


def test_seeds_without_a_value_do_not_count():
    values = np.array([[1, 2, 3, 4, 5, np.nan], [1, 2, np.nan, 4, np.nan, 6], [np.nan] * 6])
    low, high = mean_interval(values)
    assert low[0] == pytest.approx(mean_interval(values[0, :5])[0])
    assert np.isnan([low[1:], high[1:]]).all()  # four seeds, and none


@pytest.mark.parametrize("seeds", [1, 2, 3, 4])
def test_few_seeds_have_no_interval(seeds):
    values = np.arange(float(seeds))
    assert np.isnan(mean_interval(values)).all()
    assert np.isnan(jackknife_interval(0.0, values)).all()


def test_the_jackknife_of_a_mean_is_the_t_interval():
    values = np.random.default_rng(0).gamma(2, size=(4, 12))
    left_out = np.stack([np.delete(values, i, axis=1).mean(1) for i in range(12)])
    np.testing.assert_allclose(jackknife_interval(values.mean(1), left_out), mean_interval(values))


def test_the_jackknife_leaves_unused_seeds_aside():
    values = np.random.default_rng(0).standard_normal(6)
    left_out = np.array([np.delete(values, i).mean() for i in range(6)])
    padded, used = np.r_[left_out, values.mean(), np.nan], np.arange(8) < 6
    np.testing.assert_allclose(jackknife_interval(values.mean(), padded, used), mean_interval(values))


def test_a_statistic_that_hangs_on_one_seed_has_no_interval():
    assert np.isnan(jackknife_interval(1.0, [1.0, 1.1, np.nan, 0.9, 1.0, 1.0])).all()


@pytest.mark.parametrize("seeds", [5, 10, 20])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_means_are_covered(seeds, confidence):
    """Exact for normal values, whatever the number of seeds; 1.96 standard errors cover 88 % with five."""
    values = 2 + np.random.default_rng(seeds).standard_normal((20_000, seeds))
    low, high = mean_interval(values, confidence)
    assert within_binomial_error((low <= 2) & (high >= 2), confidence)


@pytest.mark.parametrize("seeds", [5, 10, 20])
def test_a_ratio_of_means_is_covered(seeds):
    """log(mean x / mean y) with x and y correlated within a seed, as the statistics of one diagram are."""
    shared, own_x, own_y = 0.1 * np.random.default_rng(seeds).standard_normal((3, 4000, seeds))
    x, y = 2 + shared + own_x, 1 + shared + own_y
    left_out = [np.log(np.delete(x, i, 1).mean(1) / np.delete(y, i, 1).mean(1)) for i in range(seeds)]
    low, high = jackknife_interval(np.log(x.mean(1) / y.mean(1)), left_out)
    assert within_binomial_error((low <= np.log(2)) & (high >= np.log(2)))


def test_the_quantiles_are_those_of_scipy():
    np.testing.assert_allclose(half_width(1.0, [5, 10, 20]), stats.t.ppf(0.975, [4, 9, 19]) / np.sqrt([5, 10, 20]))


def test_a_difference_seed_by_seed_is_the_paired_t_test():
    rng = np.random.default_rng(1)
    common = rng.normal(0, 5, 12)
    first, second = common + rng.normal(0.3, 0.1, 12), common + rng.normal(0, 0.1, 12)
    expected = stats.ttest_rel(first, second).confidence_interval(0.99)
    np.testing.assert_allclose(difference_interval(first, second, 0.99), expected)
    # A seed that one of them lacks does not count.
    gaps = np.where(np.arange(12) == 3, np.nan, first)
    expected = stats.ttest_rel(np.delete(first, 3), np.delete(second, 3)).confidence_interval()
    np.testing.assert_allclose(difference_interval(gaps, second), expected)


def test_five_seeds_in_common_are_enough_for_differences():
    """The differences are 1 to 5, of mean 3 and variance 10 / 4, though each of the two spreads by hundreds."""
    second = 100.0 * np.array([3, 1, 4, 1, 5])
    half = 2.776 * np.sqrt(2.5 / 5)
    assert difference_interval(second + np.arange(1, 6), second) == pytest.approx((3 - half, 3 + half), abs=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_differences_of_other_seeds_in_single_precision(sign):
    """The means are (2^24 + 4) / 5 and 0; in single precision 2^24 + 1 is 2^24."""
    large = np.array([2.0**24, 1, 1, 1, 1] + [np.nan] * 5, np.float32)
    zeros = np.array([np.nan] * 5 + [0.0] * 5, np.float32)
    low, high = difference_interval(large, zeros) if sign == 1 else difference_interval(zeros, large)
    assert (low + high) / 2 == pytest.approx(sign * (2**24 + 4) / 5, rel=1e-9)


def test_a_difference_of_other_seeds_is_welchs():
    rng = np.random.default_rng(2)
    first, second = np.full(20, np.nan), np.full(20, np.nan)
    first[:8], second[6:] = rng.normal(1, 1, 8), rng.normal(0, 3, 14)  # two seeds in common are too few
    expected = stats.ttest_ind(first[:8], second[6:], equal_var=False).confidence_interval()
    np.testing.assert_allclose(difference_interval(first, second), expected)
    first[4:] = np.nan
    assert np.isnan(difference_interval(first, second)).all(), "four values have no interval"


def test_differences_without_any_spread():
    ones, other = np.ones(10), np.full(10, np.nan)
    assert difference_interval(ones, ones + 0.5) == (-0.5, -0.5)
    other[5:] = 0.5
    assert difference_interval(np.where(np.arange(10) < 5, 1.0, np.nan), other) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((1.2345, 1.1, 0.00123456), "1.23 [1.1, 0.00123]"),
        ((12345.0, np.nan, 2.0), "1.23e+04"),
        ((0.5, 0.25, np.nan), "0.5"),
        ((np.nan, 1.0, 2.0), ""),
    ],
)
def test_a_number_and_its_interval_in_words(numbers, said):
    assert with_interval(*numbers) == said
