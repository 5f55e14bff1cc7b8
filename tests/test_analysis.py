"""Analysis on tables in which the truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, QuadMesh

from lnt import level_set
from lnt.analysis import cells as cells_of
from lnt.analysis import phase_diagram
from lnt.analysis.figure_lines import figure_lines
from lnt.analysis.figure_phase_diagram import cell_edges, figure_phase_diagram
from lnt.analysis.figure_stages import figure_stages
from lnt.analysis.load import RunTables
from lnt.analysis.phase_diagram import Facet, Grid
from lnt.column_names import METRICS
from lnt.level_set import is_log
from lnt.theory.laws import BENIGN_LAW

NOTHING = pd.DataFrame  # no curves, no samples
DIM_BY_NORM = ("data.dim", "data.signal_norm")


def made_up(seeds=8, noise=0.02):
    """A phase diagram with a known boundary: error 0.25 at |mu| = 0.5 d^(1/4)."""
    rng = np.random.default_rng(0)
    dims, norms = np.geomspace(100, 10_000, 30), np.linspace(0.2, 8, 80)
    ratio = norms[:, None, None] / (0.5 * dims[None, :, None] ** 0.25)
    values = 0.5 / (1 + ratio**4) + noise * rng.standard_normal((80, 30, seeds))
    return Grid(dims, norms, values)


def test_the_boundary_and_its_law_are_found():
    data = made_up()
    edge = phase_diagram.boundary(data, 0.25)
    np.testing.assert_allclose(edge.y, 0.5 * data.x**0.25, rtol=0.06)
    assert ((edge.low <= edge.y) & (edge.y <= edge.high)).mean() > 0.9
    law = phase_diagram.power_law(data.x, edge, DIM_BY_NORM, 0.25, 20)
    assert law.exponent[1] <= 0.25 <= law.exponent[2]
    assert law.constant[0] == pytest.approx(0.5, rel=0.02)
    assert law.constant[1] < law.constant[0] < law.constant[2]


def test_a_wrong_exponent_is_not_confirmed():
    data = made_up()
    law = phase_diagram.power_law(data.x, phase_diagram.boundary(data, 0.25), DIM_BY_NORM, 0.5, 20)
    assert not law.exponent[1] <= law.predicted <= law.exponent[2]


def test_a_level_that_is_never_crossed_has_no_boundary():
    data = made_up()
    edge = phase_diagram.boundary(data, 0.9)
    assert np.isnan(edge.y).all()
    assert np.isnan(edge.low).all()
    assert phase_diagram.power_law(data.x, edge, DIM_BY_NORM, 0.25, 20) is None


def test_crossing_interpolates():
    mean = np.array([[1.0, 1.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(level_set.crossing(np.array([0.0, 1.0, 2.0]), mean, 0.25), [0.75, 1.5, np.nan])
    partial = np.array([[0.0], [0.5], [np.nan]])
    np.testing.assert_allclose(level_set.crossing(np.array([0.0, 1.0, 2.0]), partial, 0.25), [0.5])


POWERS_OF_2 = np.array([1.0, 2.0, 4.0, 8.0, 16.0])


@pytest.mark.parametrize(
    ("column", "y"),
    [
        ([0.1, 0.6, 0.1, np.nan, 0.9], np.nan),  # the change is anywhere between 4 and 16; below the hole it is a flicker
        ([0.1, 0.6, 0.1, 0.1, 0.9], 8 * 2**0.5),  # after the flicker
        ([0.1, np.nan, 0.1, 0.9, 0.9], 4 * 2**0.5),  # a hole elsewhere does not matter
        ([0.1, 0.1, 0.9, 0.9, np.nan], 2 * 2**0.5),
        ([0.1, 0.1, 0.9, 0.9, 0.1], np.nan),  # not for good
        ([0.1, 0.9, np.nan, np.nan, np.nan], 2**0.5),
        ([0.6, 0.7, 0.8, 0.9, 0.9], np.nan),  # always above
        ([0.1, 0.1, 0.1, 0.1, 0.1], np.nan),  # never above
        ([np.nan] * 5, np.nan),
        ([0.1, 0.1, 0.1, 0.1, 0.5], np.nan),  # reaches the level, but does not exceed it
        ([0.1, 0.1, 0.5, 0.9, 0.9], 4.0),  # at a cell
        ([0.1, 0.1, 0.2, 0.6, 0.9], 4 * 2**0.75),
    ],
)
@pytest.mark.parametrize("flip", [False, True])
def test_a_crossing_is_for_good_and_between_neighbours(column, y, flip):
    """By hand, at level 1/2 on an axis of powers of 2; with two columns that say in which direction the diagram goes.

    The same with 1 - value, which falls: but for a value at the level itself, which counts as not above.
    """
    rising = np.array([[0.1, 0.1, 0.1, 0.9, 0.9]] * 2 + [column]).T
    mean = 1 - rising if flip else rising
    found = level_set.crossing(POWERS_OF_2, mean, 0.5)
    np.testing.assert_allclose(found[:2], 4 * 2**0.5)
    if not (flip and column[-1] == 0.5):
        np.testing.assert_allclose(found[2], y)


def test_falling_and_rising_crossings_are_not_mixed():
    falling, rising = [0.9, 0.9, 0.1, 0.1], [0.1, 0.9, 0.9, 0.9]
    y = np.array([1.0, 2, 3, 4])
    np.testing.assert_allclose(level_set.crossing(y, np.array([falling, falling, rising]).T, 0.5), [2.5, 2.5, np.nan])
    np.testing.assert_allclose(level_set.crossing(y, np.array([falling, rising, rising]).T, 0.5), [np.nan, 1.5, 1.5])
    hump = np.array([[0.1, 0.9, 0.9, 0.1]]).T
    assert level_set.direction(hump, 0.5) == 0
    assert np.isnan(level_set.crossing(y, hump, 0.5)).all()


def test_a_crossing_is_interpolated_in_the_coordinate_of_its_axis():
    """A value that is linear in log(y) crosses exactly where it should on five points; linear interpolation is 7 % off."""
    truth = np.geomspace(1.3, 60, 20)
    for y in (np.geomspace(1, 100, 5), np.linspace(1, 100, 100)):
        mean = np.log(y[:, None] / truth) if is_log(y) else y[:, None] - truth
        np.testing.assert_allclose(level_set.crossing(y, mean, 0.0), truth)


def sloped(seeds, columns, shared, own, rng, slope=0.3):
    """Errors that fall by `slope` in log(y), with error 1/4 at y = 1; noise of whole columns and of single cells."""
    y = np.geomspace(0.3, 3.3, 24)
    noise = shared * rng.standard_normal((1, columns, seeds)) + own * rng.standard_normal((len(y), columns, seeds))
    return Grid(np.arange(1.0, columns + 1), y, 0.25 - slope * np.log(y)[:, None, None] + noise)


@pytest.mark.parametrize("seeds", [5, 10, 20])
def test_the_boundary_is_covered(seeds):
    """98 % with noise that a column shares, as runs of one seed do; at least that if cells have noise of their own."""
    rng = np.random.default_rng(seeds)
    for own in (0.0, 0.03):
        edge = phase_diagram.boundary(sloped(seeds, 3000, 0.1, own, rng), 0.25)
        share = ((edge.low <= 1) & (edge.high >= 1)).mean()
        error = 3 * np.sqrt(0.98 * 0.02 / 3000)
        assert share >= 0.98 - error
        assert own or share <= 0.98 + error


@pytest.mark.parametrize("seeds", [10, 20])
def test_the_boundary_of_skewed_errors_is_covered(seeds):
    """With a skewness of 2, that of the most skewed study measured: 95 % intervals of means would cover 90 % with ten seeds."""
    rng = np.random.default_rng(seeds)
    data = sloped(seeds, 3000, 0.0, 0.0, rng)
    edge = phase_diagram.boundary(replace(data, values=data.values + 0.05 * (rng.exponential(size=(1, 3000, seeds)) - 1)), 0.25)
    assert ((edge.low <= 1) & (edge.high >= 1)).mean() > 0.925


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_few_seeds_give_a_boundary_without_an_interval(seeds):
    data = sloped(seeds, 6, 0.01, 0.0, np.random.default_rng(0))
    edge = phase_diagram.boundary(data, 0.25)
    assert np.isfinite(edge.y).all()
    assert np.isnan([edge.low, edge.high]).all()
    law = phase_diagram.power_law(data.x, edge, DIM_BY_NORM, 0.25, 20)
    assert np.isfinite([law.exponent[0], law.constant[0]]).all()
    assert np.isnan([law.exponent[1:], law.constant[1:]]).all()
    ax = figure_phase_diagram({"": Facet(data, edge, law)}, *DIM_BY_NORM, "test_error").axes[0]
    assert ax.get_legend().get_texts()[0].get_text() == "test error = 0.25\n(no intervals: fewer than 5 seeds)"


@pytest.mark.parametrize(
    ("crossing", "points"), [("10110", [0]), ("11111", []), ("00100", [2]), ("10011", [0]), ("01011", [1])]
)
def test_a_boundary_of_one_column_is_seen(crossing, points):
    """A line needs two columns: one that crosses between others that do not is a point, and its interval is a bar."""
    data = sloped(6, 5, 0.01, 0.0, np.random.default_rng(0))
    hidden = np.array([digit == "0" for digit in crossing])
    edge = phase_diagram.boundary(data, 0.25)
    edge = replace(edge, **{name: np.where(hidden, np.nan, getattr(edge, name)) for name in ("y", "low", "high")})
    ax = figure_phase_diagram({"": Facet(data, edge, None)}, *DIM_BY_NORM, "test_error").axes[0]
    (line,) = (line for line in ax.lines if line.get_label() == "test error = 0.25")
    marked = np.flatnonzero(line.get_markevery()).tolist() if line.get_marker() == "o" else []
    assert marked == points
    bars = [path.vertices[0, 0] for lines in ax.collections if isinstance(lines, LineCollection) for path in lines.get_paths()]
    assert bars == data.x[points].tolist()


def test_an_axis_of_two_values_has_two_ticks_and_no_boundary_between_them():
    data = sloped(6, 6, 0.01, 0.0, np.random.default_rng(0))
    two = replace(data, y=data.y[[0, -1]], values=data.values[[0, -1]])
    edge = phase_diagram.boundary(two, 0.25)
    assert np.isfinite(edge.y).all()
    ax = figure_phase_diagram({"": Facet(two, edge, None)}, *DIM_BY_NORM, "test_error").axes[0]
    assert ax.get_yticks().tolist() == two.y.tolist()
    assert ax.get_legend() is None


def test_the_interval_of_a_boundary_by_hand():
    """Errors 0.75, 0.5, 0.25, 0 with seeds 0.05 (-2, -1, 0, 1, 2) apart: at y = 1.5 +- 3.747 0.05 sqrt(2.5 / 5) / 0.25."""
    values = np.array([0.75, 0.5, 0.25, 0.0])[:, None, None] + 0.05 * np.arange(-2, 3)
    edge = phase_diagram.boundary(Grid(np.ones(1), np.arange(4.0), values), 0.375)
    half = 3.747 * 0.05 * np.sqrt(2.5 / 5) / 0.25
    np.testing.assert_allclose([edge.low[0], edge.y[0], edge.high[0]], [1.5 - half, 1.5, 1.5 + half], atol=1e-3)
    # Where the interval leaves the diagram it ends there.
    wide = phase_diagram.boundary(Grid(np.ones(1), np.arange(4.0), values + 0.4 * np.arange(-2, 3)), 0.375)
    assert (wide.low[0], wide.high[0]) == (0, 3)


@pytest.mark.parametrize("seeds", [5, 10, 20])
def test_exponents_and_constants_are_covered(seeds):
    """y = 2 x^(1/4) with noise shared by all columns of a seed, and of each column: 300 diagrams of nine columns."""
    rng, x, y = np.random.default_rng(seeds), np.geomspace(1, 100, 9), np.geomspace(0.3, 40, 60)
    u = np.log(y)[:, None] - 0.25 * np.log(x) - np.log(2)
    exponent, constant = [], []
    for _ in range(300):
        noise = 0.05 * rng.standard_normal((1, 1, seeds)) + 0.05 * rng.standard_normal((1, 9, seeds))
        edge = phase_diagram.boundary(Grid(x, y, 0.25 - 0.3 * u[..., None] + noise), 0.25)
        law = phase_diagram.power_law(x, edge, DIM_BY_NORM, 0.25, 20)
        exponent.append(law.exponent[1] <= 0.25 <= law.exponent[2])
        constant.append(law.constant[1] <= 2 <= law.constant[2])
    error = 3 * np.sqrt(0.95 * 0.05 / 300)
    assert abs(np.mean(exponent) - 0.95) <= error
    assert abs(np.mean(constant) - 0.95) <= error


def frame(**columns):
    table = pd.DataFrame({"run_id": [str(i) for i in range(len(columns["data.dim"]))], **columns, "status": "completed"})
    return table.assign(test_error=np.arange(len(table)) / 10)


def plan_of(axes, **config):
    """A plan with one group: a table of runs with these axes, some of which may be missing."""
    axes = [{"keys": [key], "points": [[value] for value in values]} for key, values in axes.items()]
    return {"groups": [{"config": {**config, "choices": {"noise": "none"}}, "axes": axes}]}


def test_cells_count_what_is_there_diverged_failed_and_missing():
    plan = plan_of({"data.dim": [1, 2, 3], "seed": range(4)}, data={"dim": 1})
    runs = frame(**{"data.dim": [1, 1, 1, 2], "seed": [0, 1, 2, 0]})
    failed = frame(**{"data.dim": [2], "seed": [2]}).assign(status="failed")
    diverged = frame(**{"data.dim": [2], "seed": [1]}).assign(status="diverged", test_error=9.0)
    found = RunTables(runs, diverged, failed, [plan], NOTHING, NOTHING)
    cells = cells_of.cells(found, ["data.dim"], ["test_error"])
    counts = ["data.dim", "n", "diverged", "failed", "missing"]
    assert cells[counts].values.tolist() == [[1, 3, 0, 0, 1], [2, 1, 1, 1, 1], [3, 0, 0, 0, 4]]
    assert cells["test_error_mean"].tolist() == pytest.approx([0.1, 0.3, np.nan], nan_ok=True)
    assert cells["test_error_sd"][0] == pytest.approx(0.1)
    assert cells[["test_error_low", "test_error_high"]].isna().all(axis=None), "three seeds are too few"
    without_plan = cells_of.cells(RunTables(runs, diverged, failed, [], NOTHING, NOTHING), ["data.dim"], ["test_error"])
    assert without_plan["missing"].tolist() == [0, 0]


def test_the_interval_of_a_cell_is_students_t():
    runs = frame(**{"data.dim": [1] * 5 + [2] * 4, "seed": [*range(5), *range(4)]})
    cells = cells_of.cells(RunTables(runs, runs[:0], runs[:0], [], NOTHING, NOTHING), ["data.dim"], ["test_error"])
    # 0, 0.1, ..., 0.4: t = 2.776 at 4 degrees of freedom.
    half = 2.776 * np.sqrt(0.025) / np.sqrt(5)
    assert cells[["test_error_low", "test_error_high"]].loc[0].tolist() == pytest.approx([0.2 - half, 0.2 + half], abs=1e-4)
    assert cells[["test_error_low", "test_error_high"]].loc[1].isna().all()


def test_bands_need_five_seeds_and_figures_say_so():
    def lines(seeds):
        runs = frame(**{"data.dim": np.repeat([1, 2, 3], seeds), "seed": [*range(seeds)] * 3})
        table = cells_of.cells(RunTables(runs, runs[:0], runs[:0], [], NOTHING, NOTHING), ["data.dim"], ["test_error"])
        return figure_lines(table, "data.dim", ["test_error"], "error").figure.legends[0].get_title().get_text()

    assert lines(5) == ""
    assert lines(4) == "no intervals: fewer than 5 seeds"

    def stages(seeds):
        curves = pd.DataFrame({"step": [0, 1, 2] * seeds}).assign(**dict.fromkeys(METRICS, 0.0))
        curves["test_error"] = np.repeat(np.arange(seeds), 3) / 10
        runs = pd.DataFrame({"stage1_step": [1] * seeds, "stage2_step": [2] * seeds})
        return figure_stages({"": (runs, curves)}).axes

    (band,) = stages(5)[2].collections
    # Seeds at 0, 0.1, ..., 0.4: the band is the interval of the mean, not a standard deviation.
    assert band.get_datalim(stages(5)[2].transData).height == pytest.approx(2 * 2.776 * np.sqrt(0.005), abs=1e-4)
    assert stages(5)[3].get_xlabel() == "gradient step"
    assert stages(4)[3].get_xlabel() == "gradient step\n(no intervals: fewer than 5 seeds)"


DIMS, RATES = [100, 200, 400, 800], [0.0, 0.1, 0.2]


def half_finished():
    """A plan of noise (two options) by rate by dimension by two seeds, and the runs of a sweep that has only begun."""
    plan = plan_of({"noise.rate": RATES, "data.dim": DIMS, "seed": [0, 1]}, data={"dim": 1}, noise={"rate": 0.0})
    other = plan_of({"noise.rate": RATES, "data.dim": DIMS, "seed": [0, 1]}, data={"dim": 1}, noise={"rate": 0.0})
    other["groups"][0]["config"]["choices"] = {"noise": "pair"}
    done = {"data.dim": [100, 100, 200, 800], "noise.rate": [0.0, 0.0, 0.0, 0.0], "noise": "none", "seed": [0, 1, 0, 0]}
    runs = frame(**done)
    return RunTables(runs, runs[:0], runs[:0], [plan, other], NOTHING, NOTHING)


def test_axes_and_panels_come_from_the_plan():
    found = half_finished()
    # In the order of the plan, though one rate and one kind of noise are all that there is.
    assert cells_of.swept_keys(found) == ["noise.rate", "data.dim", "noise"]
    assert cells_of.numeric_axes(found) == ["noise.rate", "data.dim"]
    assert cells_of.swept(found.runs) == ["data.dim"]
    assert cells_of.is_product(found, ["noise.rate", "data.dim", "noise"])
    panels = phase_diagram.facets(found, "data.dim", "noise.rate", "test_error", None, None)
    assert list(panels) == ["noise=none", "noise=pair"]
    none, pair = (panel.data for panel in panels.values())
    for data in (none, pair):
        np.testing.assert_array_equal(data.x, DIMS)
        np.testing.assert_array_equal(data.y, RATES)
    np.testing.assert_array_equal(none.missing, [[0, 0.5, 1, 0.5], [1] * 4, [1] * 4])
    np.testing.assert_array_equal(pair.missing, np.ones((3, 4)))
    np.testing.assert_allclose(none.mean[0], [0.05, 0.2, np.nan, 0.3])
    figure = figure_phase_diagram(panels, "data.dim", "noise.rate", "test_error")
    said = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in figure.axes[:2]]
    assert said == [
        ["no run: 9 of 12 cells", "mean of 1 seed, fewer than\nplanned or in others: 2 cells"],
        ["no run: 12 of 12 cells"],
    ]
    # The whole diagram is in view, and four points in equal factors are drawn on a log axis.
    assert figure.axes[0].get_xlim()[1] > 800
    assert figure.axes[0].get_ylim()[1] > 0.2
    assert figure.axes[0].get_xscale() == "log"


def test_what_nobody_planned_is_not_missing():
    """Two grids side by side: their cells are planned, the rest of the rectangle is not."""
    one, two = (plan_of({"data.dim": dims, "noise.rate": rates}) for dims, rates in (([1, 2], [0.1]), ([3], [0.2])))
    runs = frame(**{"data.dim": [1, 3], "noise.rate": [0.1, 0.2], "seed": [0, 0]})
    found = RunTables(runs, runs[:0], runs[:0], [{"groups": one["groups"] + two["groups"]}], NOTHING, NOTHING)
    (panel,) = phase_diagram.facets(found, "data.dim", "noise.rate", "test_error", None, None).values()
    np.testing.assert_array_equal(panel.data.missing, [[0, 1, np.nan], [np.nan, np.nan, 0]])


def test_without_a_plan_the_runs_are_all_that_is_known():
    runs = frame(**{"data.dim": [1, 1, 2, 2, 3], "noise.rate": [0, 0.1, 0, 0.1, 0], "seed": 0})
    found = RunTables(runs, runs[:0], runs[:0], [], NOTHING, NOTHING)
    assert cells_of.numeric_axes(found) == ["data.dim", "noise.rate"]
    (panel,) = phase_diagram.facets(found, "data.dim", "noise.rate", "test_error", None, None).values()
    np.testing.assert_array_equal(panel.data.missing, [[0, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("x", "seeds_of", "along"),
    [
        ("data.dim", lambda runs: runs["seed"], ["noise.rate"]),  # other dimensions draw other vectors
        ("data.snr", lambda runs: runs["seed"], ["data.snr", "noise.rate"]),
        ("data.dim", lambda runs: runs["seed"] + 10 * runs["noise.rate"], []),  # seeds of its own in each row
        ("data.snr", lambda runs: runs["seed"] + 10 * runs["noise.rate"], ["data.snr"]),
    ],
)
def test_cells_that_share_the_draws_of_their_seeds_are_found(x, seeds_of, along):
    index = pd.MultiIndex.from_product([[1, 2, 3], [0, 1, 2], range(4)], names=[x, "noise.rate", "seed"])
    runs = index.to_frame(index=False)
    runs = runs.assign(**{"seeds.data": seeds_of(runs), "data.n_train": 20})
    assert phase_diagram.shared_draws(runs, [x, "noise.rate"]) == along
    assert phase_diagram.shared_draws(runs.drop(columns="seeds.data"), [x, "noise.rate"]) == []


def test_a_grid_pairs_seeds_and_leaves_holes():
    runs = frame(**{"data.dim": [1, 2, 1, 2, 1], "noise.rate": [0, 0, 0.1, 0.1, 0], "seed": [0, 0, 0, 1, 1]})
    data = phase_diagram.grid(runs, "data.dim", "noise.rate", "test_error")
    expected = [[[0, 0.4], [0.1, np.nan]], [[0.2, np.nan], [np.nan, 0.3]]]
    np.testing.assert_allclose(data.values, expected)
    np.testing.assert_allclose(data.mean, [[0.2, 0.1], [0.2, 0.3]])


def test_phase_diagrams_hatch_what_is_missing_and_keep_true_coordinates():
    data = made_up()
    data.values[10:20, 5] = np.nan
    missing = np.zeros((80, 30))
    missing[10:20, 5] = 1
    data = Grid(data.x, data.y, data.values, missing)
    edge = phase_diagram.boundary(data, 0.25)
    law = phase_diagram.power_law(data.x, edge, DIM_BY_NORM, 0.25, 20)
    line = law.constant[0] * data.x**0.25
    figure = figure_phase_diagram({"": Facet(data, edge, law, line)}, "data.dim", "data.signal_norm", "test_error")
    ax = figure.axes[0]
    assert ax.get_xscale() == "log"
    assert ax.get_yscale() == "linear"
    assert ax.patch.get_hatch()
    # Two meshes: the values, and below them what hides the hatching of the background where nothing is missing.
    for mesh in [mesh for mesh in ax.collections if isinstance(mesh, QuadMesh)]:
        np.testing.assert_array_equal(np.isnan(np.ma.filled(mesh.get_array(), np.nan)), missing)
    lines = {line.get_label(): line for line in ax.lines}
    theory = next(line for name, line in lines.items() if name.startswith("theory"))
    np.testing.assert_allclose(theory.get_ydata(), line)
    low, high = law.exponent[1:]
    assert f"measured {law.exponent[0]:.2f} [{low:.2f}, {high:.2f}]" in theory.get_label()


def test_cells_lie_around_their_centres_on_the_scale_that_is_drawn():
    np.testing.assert_allclose(cell_edges(np.array([1.0, 2.0, 3.0])), [0.5, 1.5, 2.5, 3.5])
    dims = np.geomspace(300, 1e5, 6)
    edges = cell_edges(dims)
    np.testing.assert_allclose(np.sqrt(edges[1:] * edges[:-1]), dims)
    assert len(cell_edges(np.array([7.0]))) == 2


def test_scales():
    assert is_log(np.geomspace(1, 100, 9))
    assert not is_log(np.linspace(1, 100, 9))
    assert not is_log(np.array([0, 1, 10, 100]))
    # Short axes too: what matters is how the points are spaced.
    assert is_log(np.array([20, 28, 40, 57, 80, 113, 160]))
    assert is_log(np.array([1, 2, 5, 10]))
    assert is_log(np.array([1, 2, 5, 10]) / 1000), "whatever the unit is"
    assert is_log(np.array([1, 100, 20_000, 1_000_000]))
    assert is_log(np.array([1, 10, 100]))
    assert not is_log(np.array([1, 2, 3]))
    assert not is_log(np.array([100, 250, 400, 550, 700]))
    assert not is_log(np.array([1, 100])), "two points have no spacing"


@pytest.mark.parametrize("orthogonal", [True, False])
def test_the_boundary_of_a_law_with_its_finite_size_term(orthogonal):
    """n = 20, s = 1, tau = 0: the boundary n m^4 / d = 2 (1 + n m^2 / d) solves n m^4 - 2 n m^2 - 2 d = 0 for m = |mu|."""
    x, y, n = np.geomspace(100, 1000, 8), np.geomspace(0.8, 8, 30), 20
    table = pd.DataFrame(
        [(d, m, seed) for d in x for m in y for seed in range(5)], columns=["data.dim", "data.signal_norm", "seed"]
    )
    table = table.assign(**{"data.n_train": n, "data.noise_std": 1.0, "data.snr": np.nan, "data.orthogonal_noise": orthogonal})
    table["flip_rate"] = 0.0
    term = 0 if orthogonal else n * table["data.signal_norm"] ** 2 / table["data.dim"]
    table["test_error"] = 1 / (2 + n * table["data.signal_norm"] ** 4 / table["data.dim"] / (1 + term))
    law = BENIGN_LAW if orthogonal else replace(BENIGN_LAW, finite_size=True)
    data = phase_diagram.grid(table, *DIM_BY_NORM, "test_error")
    found = phase_diagram.facet(data, table, DIM_BY_NORM, "test_error", 0.25, law)
    wanted = (2 * x / n) ** 0.25 if orthogonal else np.sqrt(1 + np.sqrt(1 + 2 * x / n))
    np.testing.assert_allclose(found.line, wanted, rtol=0.01)
    slope = np.polyfit(np.log(x), np.log(wanted), 1)[0]
    assert found.law.predicted == pytest.approx(slope, abs=0.003)
    assert found.law.exponent[0] == pytest.approx(slope, abs=0.01)
    assert bool(abs(slope - 0.25) < 1e-6) is orthogonal
