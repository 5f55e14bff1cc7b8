"""Phase diagrams whose cells, boundaries and laws are worked out by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lnt.analysis.load import RunTables
from lnt.analysis.phase_diagram import Boundary, Grid, boundary, facet, facets, grid, law_line, power_law
from lnt.level_set import band, crossing, direction, filled, mean_crossing, seed_mean
from lnt.theory.laws import BENIGN_LAW, EARLY_LAW, Law

NAN = np.nan
KEYS = ("data.dim", "data.signal_norm")
T4 = 2.776  # Student's t at 97.5 % and 4 degrees of freedom
T4_OF_BAND = 3.747  # and at 99 %

# Cells.


def test_means_leave_out_what_is_missing():
    np.testing.assert_array_equal(seed_mean(np.array([[1.0, 2, 6], [NAN, 2, 4], [NAN] * 3])), [3, 3, NAN])


def test_the_cells_of_a_grid_by_hand():
    """Runs without a point on an axis are in no cell; a seed that differs in its noise alone is another one."""
    columns = ["x", "y", "seed", "seeds.noise", "v"]
    rows = [
        (1, 5, 0, NAN, 1),
        (1, 5, 0, 7, 2),
        (1, 5, 1, NAN, 3),
        (2, 5, 1, NAN, 4),
        (2, 6, 0, 7, 5),
        (NAN, 5, 0, NAN, 6),
        (1, NAN, 0, 7, 7),
    ]
    data = grid(pd.DataFrame(rows, columns=columns), "x", "y", "v")
    np.testing.assert_array_equal([data.x, data.y], [[1, 2], [5, 6]])
    np.testing.assert_array_equal(data.values, [[[2, 1, 3], [NAN, NAN, 4]], [[NAN] * 3, [5, NAN, NAN]]])
    np.testing.assert_array_equal(data.mean, [[2, 4], [NAN, 5]])
    # Three runs are in the fullest cell.
    np.testing.assert_allclose(data.missing, [[0, 2 / 3], [1, 2 / 3]])


def test_what_is_missing_by_hand():
    """Of four planned runs three are missing; of two none, as three ran; one ran that nobody planned; none of two; no plan."""
    runs = pd.DataFrame({"x": [1, 2, 2, 2, 3], "y": 0, "seed": [0, 0, 1, 2, 0], "v": True})
    planned = pd.DataFrame({"x": [1, 2, 1, 4], "y": 0, "planned": [3, 2, 1, 2]})
    data = grid(runs, "x", "y", "v", (np.arange(1.0, 6), np.zeros(1)), planned)
    np.testing.assert_array_equal(data.missing, [[0.75, 0, 0, 1, NAN]])
    np.testing.assert_array_equal(data.mean, [[1, 1, 1, NAN, NAN]])
    empty = grid(runs.head(0), "x", "y", "v", (np.arange(1.0, 3), np.zeros(1)))
    assert empty.values.shape == (1, 2, 0)
    assert np.isnan(empty.missing).all()


# Boundaries.


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        ([0, 0, 1, 1], 1),
        ([1, 1, 0, 0], -1),
        ([1, 0, 0, 1], 0),
        ([1, 1, 1, 1], 0),
        ([0.5, 0.5, 0.5, 1], 1),  # at the level is not above it
        ([NAN, 0, NAN, 1], 1),
        ([1, 1, NAN, 1], 0),  # distances from the middle cell: -4/3, -1/3 and 5/3
        ([0, 1, NAN, NAN], 1),
        ([NAN, NAN, NAN, 1], 0),  # it lies in the middle of itself
    ],
)
def test_directions(column, wanted):
    assert direction(np.array([column], float).T, 0.5) == wanted


def test_most_columns_and_the_longest_decide_on_the_direction():
    """Place minus middle, summed over cells above the level: 1 + 1.5 - 1.5 in the first, 1 - 4 1/2 in the second."""
    assert direction(np.array([[0, 0, 1], [0, 0, 1], [0, 1, 0], [1, 1, 0]]), 0.5) == 1
    assert direction(np.array([[0, 1, 1], [1, 0, 0]]), 0.5) == -1


def test_cells_that_were_not_trained_lie_on_lines_between_those_that_were():
    """The cells with the most seeds in their column: 2 and 8 at places 1 and 5, 1 and 4 at 0 and 3, and one without a mean."""
    values = np.array([[9.0, 2, NAN, 8], [1, 9, 4, 9], [1, 2, 3, NAN]]).T
    asked = np.array([[3, 5, 0, 5], [4, 3, 4, 3], [0, 1, 1, 2]]).T
    found = filled(np.array([0.0, 1, 3, 5]), values, asked)
    np.testing.assert_allclose(found, np.array([[2, 2, 5, 8], [1, 2, 4, 4], [NAN] * 4]).T)
    assert filled(np.arange(4.0), values, None) is values


def test_a_crossing_between_cells_that_were_not_trained():
    """Means 0 at 1 and 1 at 8; between them 0.9 of one seed, which is not used. In factors, halfway is the root of 8."""
    values = np.full((4, 1, 2), NAN)
    values[[0, 3], 0], values[1, 0, 0] = [[-0.1, 0.1], [0.8, 1.2]], 0.9
    asked = np.array([[2], [1], [0], [2]])
    assert mean_crossing(np.array([1.0, 2, 4, 8]), values, 0.5, 1, asked) == pytest.approx([8**0.5])
    assert np.isnan(mean_crossing(np.array([1.0, 2, 4, 8]), values, 0.5, -1, asked))


@pytest.mark.parametrize("log", [False, True])
def test_a_band_between_cells_that_were_not_trained(log):
    """Means 0 and 1 at places 0 and 3, each with a standard error of 0.2 / sqrt(5): the line between them rises by 1/3."""
    values = np.full((4, 1, 5), NAN)
    values[[0, 3], 0] = np.array([[0], [1]]) + 0.2 * np.array([-1, -1, 0, 1, 1])
    places = np.arange(4.0)
    found = np.ravel(band(2**places if log else places, values, 0.5, np.array([[5], [0], [0], [5]])))
    half = T4_OF_BAND * 0.2 / np.sqrt(5) * 3
    np.testing.assert_allclose(np.log2(found) if log else found, [1.5, 1.5 - half, 1.5 + half], rtol=1e-3)


def test_a_band_crosses_in_the_direction_of_the_cells_that_were_trained():
    """Above 0.6 lies 1 at place 4, 2 beyond its middle, and 1 at place 0, 3/2 before it: it rises, at 3 + 0.6.

    Lines between trained cells would add 2/3 at place 1 to the second column, and it would fall.
    """
    values = np.array([[0, 0, 0, 0, 1], [1, NAN, NAN, 0, NAN]]).T[..., None] + np.zeros(5)
    asked = 5 * np.isfinite(values[..., 0])
    edge, low, high = band(np.arange(5.0), values, 0.6, asked)
    for found in (edge, low, high):
        np.testing.assert_allclose(found, [3.6, NAN])


@pytest.mark.parametrize("rises", [False, True])
@pytest.mark.parametrize("log", [False, True])
def test_a_boundary_its_interval_and_the_jackknife_by_hand(log, rises):
    """Means 1, 0.75, 0.5, 0.25, 0 at places 0 to 4 cross 0.6 at 1.6; seeds are 0.05 apart.

    The interval is t sd / sqrt(5) / 0.25 long on either side; without seed k the mean moves by -0.05 k / 4.
    """
    seeds = 0.05 * np.arange(-2, 3)
    values = np.arange(1, -0.1, -0.25)[:, None, None] + seeds
    few = np.where(np.arange(5) < 4, values, NAN)
    both = np.concatenate([values, few], 1)
    places = np.arange(5.0)
    edge = boundary(Grid(np.arange(2.0), 2**places if log else places, 1 - both if rises else both), 0.4 if rises else 0.6)
    half = T4_OF_BAND * 0.05 * np.sqrt(2.5 / 5) / 0.25
    low, high, found, without = (np.log2(part) if log else part for part in (edge.low, edge.high, edge.y, edge.left_out))
    np.testing.assert_allclose([low[0], found[0], high[0]], [1.6 - half, 1.6, 1.6 + half], atol=1e-3)
    np.testing.assert_allclose(without[:, 0], 1.6 - seeds / 4 / 0.25)
    assert found[1] == pytest.approx(1.6 - 0.025 / 0.25), "four seeds of mean -0.025"
    assert np.isnan([low[1], high[1]]).all()
    assert edge.level == (0.4 if rises else 0.6)


def test_a_value_at_the_level_is_below_it():
    """A falling one is below from there on, a rising one still is."""
    y = np.array([1.0, 2, 3])
    assert crossing(y, np.array([[1, 0.5, 0.5]]).T, 0.5).tolist() == [2]
    assert crossing(y, np.array([[0, 0.5, 1]]).T, 0.5).tolist() == [2]
    assert np.isnan(crossing(y, np.array([[0, 0.5, 0.5]]).T, 0.5, 1))


@pytest.mark.parametrize("place", [0, 3])
def test_an_interval_has_both_ends_or_none(place):
    """Seeds 0.15 apart: the interval of the mean is 0.29 to either side and ends between places 0 and 1, and 2 and 3."""
    values = np.arange(1, -0.1, -0.25)[:, None, None] + 0.15 * np.arange(-2, 3)
    assert np.isfinite(boundary(Grid(np.ones(1), np.arange(5.0), values), 0.6).low)
    values[place, 0, 2] = NAN
    edge = boundary(Grid(np.ones(1), np.arange(5.0), values), 0.6)
    assert edge.y == pytest.approx([1.6])
    assert np.isnan([edge.low, edge.high]).all()


def test_a_diagram_keeps_its_direction_without_a_seed():
    """The mean rises from 0.4 to 0.6; without the last seed it falls, which is no crossing of a diagram that rises."""
    values = np.array([[[0.6, 0.6, 0.6, 0.6, -0.4]], [[0.4, 0.4, 0.4, 0.4, 1.4]]])
    edge = boundary(Grid(np.ones(1), np.arange(2.0), values), 0.5)
    assert edge.y == pytest.approx([0.5])
    assert np.isnan(edge.left_out[4])
    assert np.isfinite(edge.left_out[:4]).all()


def test_the_ends_of_an_interval_are_in_the_diagram():
    """Seeds 0.5 apart: the interval of the mean, 0.98 to either side, contains the level everywhere."""
    values = np.array([1.0, 0.75, 0.5, 0.25])[:, None, None] + 0.5 * np.arange(-2, 3)
    edge = boundary(Grid(np.ones(1), np.array([1.0, 2, 4, 8]), values), 0.6)
    np.testing.assert_allclose([edge.low[0], edge.high[0]], [1, 8])


def test_a_boundary_where_nothing_rises_or_falls():
    hump = np.array([0.1, 0.9, 0.9, 0.1])[:, None, None] + np.zeros(5)
    edge = boundary(Grid(np.ones(1), np.arange(4.0), hump), 0.5)
    assert np.isnan([*edge.y, *edge.low, *edge.high]).all()


# Laws of boundaries.


def edge_of(y, by=(), interval=True):
    """A boundary and, without each seed, the same times a factor."""
    y = np.asarray(y, float)
    end = np.where(interval, y, NAN)
    return Boundary(0.25, y, end, end, np.asarray(by, float)[:, None] * y if len(by) else np.empty((0, len(y))))


X = np.array([1.0, 2, 4, 8])


def test_an_exponent_and_a_constant_by_hand():
    """y = 2 x^(1/2), without a seed exp(0.1 k) times as much: se^2 = 4/5 0.01 (4 + 1 + 0 + 1 + 4) = 0.08."""
    law = power_law(X, edge_of(2 * np.sqrt(X), np.exp(0.1 * np.arange(-2, 3))), KEYS, 0.5, 20)
    assert law.exponent == pytest.approx((0.5, 0.5, 0.5))
    half = T4 * np.sqrt(0.08)
    assert law.constant == pytest.approx((2, 2 * np.exp(-half), 2 * np.exp(half)), rel=1e-3)
    assert law.predicted == 0.5
    # At another exponent the line passes through the geometric means: x = 2^1.5 and y = 2^1.75.
    other = power_law(X, edge_of(2 * np.sqrt(X), [1] * 5), KEYS, 1.0, 20)
    assert other.exponent[0] == pytest.approx(0.5)
    assert other.constant == pytest.approx((2**0.25,) * 3)


def test_the_interval_of_an_exponent_by_hand():
    """Without seed k the exponent is 1/2 + 0.1 k."""
    y = 2 * np.sqrt(X)
    left_out = np.array([2 * X ** (0.5 + 0.1 * k) for k in range(-2, 3)])
    law = power_law(X, Boundary(0.25, y, y, y, left_out), KEYS, 0.5, 20)
    assert law.exponent == pytest.approx((0.5, 0.5 - T4 * np.sqrt(0.08), 0.5 + T4 * np.sqrt(0.08)), abs=1e-3)


def test_points_that_say_nothing_about_a_law_are_left_out():
    """A wrong y that is not left out would move the exponent away from 1/2."""
    good = 2 * np.sqrt(X)
    x, y = np.r_[X, 16, 32, 64], np.r_[good, 99, 99, 99]
    low, left_out = y.copy(), np.tile(y, (5, 1))
    low[4], left_out[2, 5], left_out[1, 6] = NAN, NAN, 0
    law = power_law(x, Boundary(0.25, y, low, y, left_out), KEYS, 0.5, 20)
    assert law.exponent == pytest.approx((0.5, 0.5, 0.5))
    assert power_law(X, edge_of([1, NAN, 0, 2], interval=False), KEYS, 0.5, 20) is None
    three = power_law(X, edge_of([2, NAN, 4, 2 * np.sqrt(8)], interval=False), KEYS, 0.5, 20)
    assert three.exponent == pytest.approx((0.5, NAN, NAN), nan_ok=True)
    assert three.constant == pytest.approx((2, NAN, NAN), nan_ok=True)


def test_rates_near_one_half_say_nothing_about_a_law():
    """1 - 2 tau = x / 16 must exceed 3 / sqrt(36) = 1/2, as axis x and as axis y; a wrong one is not fitted."""
    margin = np.array([0.5, 9 / 16, 10 / 16, 12 / 16, 15 / 16])
    wrong = np.r_[1000, 16 * margin[1:]]
    assert power_law((1 - margin) / 2, edge_of(wrong, [1] * 5), ("noise.rate", "data.dim"), 1.0, 36).exponent[
        0
    ] == pytest.approx(1)
    rates = (1 - margin) / 2
    left_out = np.array([(1 - margin * np.exp(0.01 * k)) / 2 for k in range(-2, 3)])
    law = power_law(wrong, Boundary(0.25, rates, rates, rates, left_out), ("data.dim", "noise.rate"), 1.0, 36)
    half = T4 * 0.1 * np.sqrt(0.08)
    assert law.exponent == pytest.approx((1, 1, 1))
    assert law.constant == pytest.approx((1 / 16, np.exp(-half) / 16, np.exp(half) / 16), rel=1e-3)


# Panels.


def runs_of(error, ys, y="data.signal_norm", dims=(100, 200, 400, 800), seeds=5, **columns):
    """Runs on a grid of d and another key with error(d, y); n = 1600, s = 1 and the SNR is not given."""
    rows = [(d, value, seed) for d in dims for value in ys for seed in range(seeds)]
    runs = pd.DataFrame(rows, columns=["data.dim", y, "seed"]).assign(**{"data.n_train": 1600, "data.noise_std": 1.0})
    runs = runs.assign(**{"data.snr": NAN, "data.orthogonal_noise": False, "flip_rate": 0.0, **columns})
    return runs.assign(test_error=error(runs["data.dim"], runs[y]))


def only_panel(runs, keys, law):
    """That of a sweep of two keys."""
    runs = runs.assign(status="completed")
    runs.insert(0, "run_id", np.arange(len(runs)).astype(str))
    columns = ["run_id", *keys, "data.n_train", "seed", "status"]
    runs = runs[[*columns, *(column for column in runs if column not in columns)]]
    (found,) = facets(RunTables(runs, runs[:0], runs[:0], [], dict, dict), *keys, "test_error", 0.25, law).values()
    return found


def panel(runs, keys=KEYS, value="test_error", level=0.25, law=None):
    return facet(grid(runs, *keys, value), runs, keys, value, level, law)


def test_an_error_has_a_boundary_halfway_if_no_level_is_given():
    runs = runs_of(lambda d, m: 0.6 - 0.1 * m, [1, 2, 3, 4, 5])
    assert panel(runs, level=None).edge.level == pytest.approx(0.3)  # of 0.5 and 0.1
    assert panel(runs, level=0.2).edge.level == 0.2
    renamed = runs.rename(columns={"test_error": "signal_coef"})
    assert panel(renamed, value="signal_coef", level=None).edge is None
    assert panel(renamed, value="signal_coef", level=0.4).edge.y == pytest.approx([2] * 4)


@pytest.mark.parametrize(
    ("dims", "norms", "there"), [((100,), (1, 2, 3), False), ((100, 200), (1,), False), ((1, 2), (1, 2), True)]
)
def test_a_line_of_cells_has_no_boundary(dims, norms, there):
    assert (panel(runs_of(lambda d, m: 0.6 - 0.1 * m, norms, dims=dims)).edge is not None) == there


def test_a_law_that_is_not_about_the_axes_is_not_fitted():
    runs = runs_of(lambda d, m: 0.6 - 0.1 * m, [1, 2, 3, 4, 5])
    for law in (None, Law("", {"data.n_train": 1.0})):
        found = panel(runs, law=law)
        assert (found.law, found.line, found.predicted) == (None, None, None)
        assert found.edge is not None


def test_a_law_with_the_rate_as_its_boundary():
    """Errors 1 / (2 + (1 - 2 tau)^2 3200 / d) are 1/4 at 1 - 2 tau = sqrt(d / 1600); seeds scatter by 0.01."""
    rates, keys = np.linspace(0, 0.49, 50), ("data.dim", "noise.rate")
    runs = runs_of(lambda d, tau: 1 / (2 + (1 - 2 * tau) ** 2 * 3200 / d), rates, "noise.rate", **{"data.signal_norm": 1.0})
    runs["test_error"] += 0.01 * (runs["seed"] - 2)
    found = only_panel(runs.assign(flip_rate=runs["noise.rate"]), keys, EARLY_LAW)
    wanted = np.sqrt(np.array([100, 200, 400, 800]) / 1600)
    np.testing.assert_allclose(1 - 2 * found.edge.y, wanted, rtol=1e-3)
    assert found.law.predicted == 0.5
    assert found.law.exponent[0] == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_allclose(1 - 2 * found.line, wanted, rtol=1e-3)
    assert found.data.values.shape == (50, 4, 5)


def test_a_law_with_the_rate_as_its_axis():
    """Errors 1 / (3 + 4 u^2 m^4) are 1/4 at m = (4 u^2)^(-1/4), u = 1 - 2 tau; n / d = 1600 / 400."""
    rates, keys = np.array([0, 0.1, 0.2, 0.3]), ("noise.rate", "data.signal_norm")
    runs = runs_of(lambda rate, m: 1 / (3 + 4 * (1 - 2 * rate) ** 2 * m**4), np.geomspace(0.5, 2, 100), dims=rates)
    runs = runs.rename(columns={"data.dim": "noise.rate"})
    found = only_panel(runs.assign(**{"data.dim": 400, "flip_rate": runs["noise.rate"]}), keys, EARLY_LAW)
    np.testing.assert_allclose(found.line, (4 * (1 - 2 * rates) ** 2) ** -0.25, rtol=1e-3)
    assert found.law.predicted == -0.5
    assert found.law.constant[0] == pytest.approx(4**-0.25, rel=1e-3)


def finite_error(d, m, tau):
    """1/4 where n u^2 m^4 / d = 1 + n u^2 m^2 / d, u = 1 - 2 tau, n = 1600: m^2 = 1/2 + sqrt(1/4 + 1 / (n u^2 / d))."""
    strength = 1600 * (1 - 2 * tau) ** 2 / d
    return 1 / (3 + strength * m**4 / (1 + strength * m**2))


def test_the_line_of_a_finite_law_and_its_slope():
    """The slope is that of columns in which 1 - 2 tau is above 3 / sqrt(1600): not of tau = 0.49."""
    rates, keys = np.array([0, 0.2, 0.3, 0.49]), ("noise.rate", "data.signal_norm")
    norms = np.geomspace(0.9, 8, 200)
    runs = runs_of(lambda rate, m: finite_error(400, m, rate), norms, dims=rates).rename(columns={"data.dim": "noise.rate"})
    runs = runs.assign(**{"data.dim": 400, "flip_rate": runs["noise.rate"]})
    found = only_panel(runs, keys, replace(EARLY_LAW, finite_size=True))
    u = 1 - 2 * rates
    wanted = np.sqrt(0.5 + np.sqrt(0.25 + 1 / (4 * u**2)))
    np.testing.assert_allclose(found.line, wanted, rtol=1e-3)
    slope = np.polyfit(np.log(u[:3]), np.log(wanted[:3]), 1)[0]
    assert found.law.predicted == pytest.approx(slope, abs=2e-3)
    assert found.law.exponent[0] == pytest.approx(slope, abs=2e-3)


def test_a_finite_law_with_the_rate_as_its_boundary():
    """By `finite_error` with m^2 = 2 at u^2 = d / 3200, where it leaves the rate of other cells aside."""
    rates, keys = np.linspace(0, 0.49, 50), ("data.dim", "noise.rate")
    runs = runs_of(lambda d, tau: finite_error(d, 2**0.5, tau), rates, "noise.rate", **{"data.signal_norm": np.sqrt(2)})
    found = panel(runs.assign(flip_rate=runs["noise.rate"]), keys, law=replace(EARLY_LAW, finite_size=True))
    wanted = np.sqrt(np.array([100, 200, 400, 800]) / 3200)
    np.testing.assert_allclose(1 - 2 * found.line, wanted, rtol=5e-3)
    assert found.law.predicted == pytest.approx(0.5, abs=5e-3)
    assert found.law.exponent[0] == pytest.approx(0.5, abs=5e-3)


def test_the_line_of_a_law_lies_in_the_geometric_middle_of_the_measured_one():
    """n |mu|^4 / d is 16 at d = 100 and |mu| = 1, and 64 at 400 and 2, so 32 is the level: |mu|^4 = d / 50."""
    runs = runs_of(lambda d, m: 0.25, [1, 2, 3]).assign(**{"data.orthogonal_noise": True})
    data = Grid(np.array([10.0, 100, 400, 6400]), np.array([0.0, 0.5, 1, 2, 4]), np.zeros((5, 4, 1)))
    edge = edge_of([NAN, 1, 2, NAN], interval=False)
    found = law_line(BENIGN_LAW, runs, data, edge, KEYS)
    np.testing.assert_allclose(found, [0.2**0.25, 2**0.25, 8**0.25, 128**0.25], rtol=1e-3)
    nothing = law_line(BENIGN_LAW, runs, data, edge_of([NAN] * 4, interval=False), KEYS)
    np.testing.assert_array_equal(nothing, [NAN] * 4)


def test_a_panel_for_each_other_condition_and_at_most_so_many():
    axes = {"data.dim": [1, 2], "data.signal_norm": [1.0, 2.0], "data.n_train": [10, 20, 30], "seed": [0, 1]}
    plan = {
        "groups": [{"config": {"choices": {}}, "axes": [{"keys": [key], "points": [[v] for v in axes[key]]} for key in axes]}]
    }
    rows = [(1, 1.0, 20, 0, 0.25), (1, 2.0, 20, 0, 0.5), (2, 1.0, 40, 0, 0.75), (3, NAN, 20, 0, 1.0)]
    runs = pd.DataFrame(rows, columns=["data.dim", "data.signal_norm", "data.n_train", "seed", "test_error"])
    runs.insert(0, "run_id", ["a", "b", "c", "d"])
    runs.insert(5, "status", "completed")

    def panels(plans, **most):
        return facets(RunTables(runs, runs[:0], runs[:0], plans, dict, dict), *KEYS, "test_error", None, None, **most)

    found = panels([plan])
    assert list(found) == ["data.n_train=10", "data.n_train=20", "data.n_train=30", "data.n_train=40"]
    np.testing.assert_array_equal(found["data.n_train=10"].data.missing, [[1, 1, NAN], [1, 1, NAN]])
    np.testing.assert_array_equal(found["data.n_train=20"].data.missing, [[0.5, 1, NAN], [0.5, 1, NAN]])
    np.testing.assert_array_equal(found["data.n_train=40"].data.missing, [[NAN, 0, NAN], [NAN] * 3])
    np.testing.assert_array_equal(found["data.n_train=20"].data.mean, [[0.25, NAN, NAN], [0.5, NAN, NAN]])
    assert list(panels([plan], most=2)) == ["data.n_train=10", "data.n_train=20"]
    assert list(panels([])) == ["data.n_train=20", "data.n_train=40"]
    np.testing.assert_array_equal(panels([])["data.n_train=20"].data.x, [1, 2, 3])
    assert found["data.n_train=20"].edge.level == 0.375
