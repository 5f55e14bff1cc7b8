"""Analysis on tables in which the truth is known."""

import numpy as np
import pandas as pd
import pytest

from lnt.analysis import cells as cells_of
from lnt.analysis import phase_diagram
from lnt.analysis.figure_phase_diagram import cell_edges, figure_phase_diagram, is_log
from lnt.analysis.load import RunTables
from lnt.analysis.phase_diagram import Facet, Grid

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
    np.testing.assert_allclose(phase_diagram.crossing(np.array([0.0, 1.0, 2.0]), mean, 0.25), [0.75, 1.5, np.nan])
    partial = np.array([[0.0], [0.5], [np.nan]])
    np.testing.assert_allclose(phase_diagram.crossing(np.array([0.0, 1.0, 2.0]), partial, 0.25), [0.5]), "a hole is no crossing"


def test_collapse_is_one_on_the_right_combination_and_less_on_a_wrong_one():
    data = made_up(noise=0)
    norm, dim = np.meshgrid(data.y, data.x, indexing="ij")
    right = phase_diagram.collapse((norm**4 / dim).ravel(), data.mean.ravel())
    wrong = phase_diagram.collapse((norm**4 * dim).ravel(), data.mean.ravel())
    assert right > 0.99
    assert wrong < 0.9


def frame(**columns):
    table = pd.DataFrame({"run_id": [str(i) for i in range(len(columns["data.dim"]))], **columns, "status": "completed"})
    return table.assign(test_error=np.arange(len(table)) / 10)


def test_cells_count_what_is_there_diverged_failed_and_missing():
    config = {"data": {"dim": 1}, "choices": {"noise": "none"}}
    axes = [{"keys": ["data.dim"], "points": [[1], [2], [3]]}, {"keys": ["seed"], "points": [[0], [1], [2], [3]]}]
    plan = {"groups": [{"config": config, "axes": axes}]}
    runs = frame(**{"data.dim": [1, 1, 1, 2], "seed": [0, 1, 2, 0]})
    failed = frame(**{"data.dim": [2], "seed": [2]}).assign(status="failed")
    diverged = frame(**{"data.dim": [2], "seed": [1]}).assign(status="diverged", test_error=9.0)
    found = RunTables(runs, diverged, failed, [plan], NOTHING, NOTHING)
    cells = cells_of.cells(found, ["data.dim"], ["test_error"])
    counts = ["data.dim", "n", "diverged", "failed", "missing"]
    assert cells[counts].values.tolist() == [[1, 3, 0, 0, 1], [2, 1, 1, 1, 1], [3, 0, 0, 0, 4]]
    assert cells["test_error_mean"].tolist() == pytest.approx([0.1, 0.3, np.nan], nan_ok=True)
    assert cells["test_error_sd"][0] == pytest.approx(0.1)
    assert cells["test_error_high"][0] - cells["test_error_mean"][0] == pytest.approx(1.96 * 0.1 / np.sqrt(3))
    without_plan = cells_of.cells(RunTables(runs, diverged, failed, [], NOTHING, NOTHING), ["data.dim"], ["test_error"])
    assert without_plan["missing"].tolist() == [0, 0]


def test_a_grid_pairs_seeds_and_leaves_holes():
    runs = frame(**{"data.dim": [1, 2, 1, 2, 1], "noise.rate": [0, 0, 0.1, 0.1, 0], "seed": [0, 0, 0, 1, 1]})
    data = phase_diagram.grid(runs, "data.dim", "noise.rate", "test_error")
    expected = [[[0, 0.4], [0.1, np.nan]], [[0.2, np.nan], [np.nan, 0.3]]]
    np.testing.assert_allclose(data.values, expected)
    np.testing.assert_allclose(data.mean, [[0.2, 0.1], [0.2, 0.3]])


def test_phase_diagrams_hatch_what_is_missing_and_keep_true_coordinates():
    data = made_up(seeds=2)
    data.values[10:20, 5] = np.nan
    edge = phase_diagram.boundary(data, 0.25)
    law = phase_diagram.power_law(data.x, edge, DIM_BY_NORM, 0.25, 20)
    figure = figure_phase_diagram({"": Facet(data, edge, law)}, "data.dim", "data.signal_norm", "test_error")
    ax = figure.axes[0]
    assert ax.get_xscale() == "log"
    assert ax.get_yscale() == "linear"
    assert ax.patch.get_hatch()
    (mesh,) = ax.collections[:1]
    assert np.ma.count_masked(np.ma.masked_invalid(mesh.get_array())) == 10
    lines = {line.get_label(): line for line in ax.lines}
    theory = next(line for name, line in lines.items() if name.startswith("theory"))
    np.testing.assert_allclose(theory.get_ydata(), law.constant[0] * data.x**0.25)


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
