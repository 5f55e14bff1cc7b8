"""Diagrams over time, in numbers worked out by hand."""

import dataclasses
import itertools
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lnt.analysis.figure_time import animation, figure_time, spread
from lnt.analysis.load import RunTables
from lnt.analysis.time_diagram import (
    by_time,
    check_time,
    common_times,
    memorised_step,
    over_time,
    pictures,
    steps_in_unit,
    time_table,
)
from lnt.errors import ConfigError

NAN = np.nan
# Run: seed, lr, T1 = n m / (lr s^2 d) = 10 * 2 / (lr * 5) = 4 / lr, and the error at each recorded step.
RUNS = {
    "a": (0, 1.0, {0: 0.5, 1: 0.4, 2: 0.3, 4: 0.2, 8: 0.1, 16: 0.0}),
    "b": (1, 1.0, {0: 0.5, 1: 0.2, 2: 0.1, 4: 0.2, 8: 0.3, 16: 0.4}),
    "c": (0, 0.5, {0: 0.5, 2: 0.3, 8: 0.1}),
}


def results_of(**more):
    runs = pd.DataFrame(
        {
            "run_id": list(RUNS),
            "data": "signal_noise",
            "data.n_train": 10,
            "model.width": 2,
            "data.noise_std": 1.0,
            "data.dim": 5,
            "optimizer.lr": [lr for _, lr, _ in RUNS.values()],
            "seed": [seed for seed, _, _ in RUNS.values()],
            "strategy": "none",
            "status": "completed",
            "step_size": [lr for _, lr, _ in RUNS.values()],
            "stage1_step": [4, 8, None],
            "strategy_step": [16, 16, 8],
        }
    ).assign(**more)
    rows = [(run, step, error, error * 2) for run, (_, _, curve) in RUNS.items() for step, error in curve.items()]
    curves = pd.DataFrame(rows, columns=["run_id", "step", "test_error", "noisy_accuracy"])
    none = runs.head(0)
    return RunTables(runs, none, none, (), lambda: curves, lambda: none)


def test_common_times_are_recorded_ones_evenly_on_their_own_scale():
    assert common_times(np.array([0, 1, 2, 4, 8, 4])).tolist() == [1, 2, 4, 8], "recorded in factors: step 0 has no place"
    assert common_times(np.array([0, 10, 20, 30])).tolist() == [0, 10, 20, 30]
    # Every step at first, then evenly in log(step); of the places 10^0, 10^0.5, .. the next recorded step is taken.
    found = common_times(np.r_[0, np.unique(np.geomspace(1, 10_000, 1000).astype(int))], 9)
    assert (found[0], found[1], found[-1]) == (1, 4, 10_000)
    assert np.log10(found[2:]) == pytest.approx(np.arange(1, 4.5, 0.5), abs=0.02)
    assert common_times(np.arange(1001), 11).tolist() == list(range(0, 1001, 100))


def test_a_value_is_the_last_one_recorded_up_to_then_and_none_beyond_the_end():
    times, rows = by_time(results_of(), "test_error", "step")
    assert times.tolist() == [1, 2, 4, 8, 16]
    found = rows.pivot(index="time", columns="run", values="test_error")
    assert found[0].tolist() == [0.4, 0.3, 0.2, 0.1, 0.0]
    # Run c was measured at 0, 2 and 8: at 1 it is as it was at 0, at 4 as at 2, and its training ends at 8.
    assert found[2].tolist() == pytest.approx([0.5, 0.3, 0.3, 0.1, NAN], nan_ok=True)


def test_time_in_t1_is_that_of_each_run():
    assert steps_in_unit(results_of().runs, "t1").tolist() == [4, 4, 8]
    times, rows = by_time(results_of(), "test_error", "t1")
    assert times.tolist() == [0.25, 0.5, 1, 2, 4]
    found = rows.pivot(index="time", columns="run", values="test_error")
    assert found[1].tolist() == [0.2, 0.1, 0.2, 0.3, 0.4]
    # Recorded at 0, 0.25 and 1.
    assert found[2].tolist() == pytest.approx([0.3, 0.3, 0.1, NAN, NAN], nan_ok=True)


def test_cells_are_means_over_seeds_and_lines_medians():
    panels = over_time(results_of(), "optimizer.lr", "step", "test_error")
    assert list(panels) == [""]
    data, ends = panels[""].data, panels[""].ends
    assert data.x.tolist() == [0.5, 1]
    assert data.values.shape == (5, 2, 2)
    assert data.mean[:, 1] == pytest.approx([0.3, 0.2, 0.2, 0.2, 0.2])
    assert data.mean[:, 0] == pytest.approx([0.5, 0.3, 0.3, 0.1, NAN], nan_ok=True)
    assert ends["t1"].tolist() == [8, 4]
    # Run c fits its clean samples never, and a run that does not counts as infinitely late.
    assert ends["fitted"].tolist() == pytest.approx([NAN, 6], nan_ok=True)
    # Accuracies of half: a is at 0.6 after 2 steps and at 0.4 after 4, never again above; b crosses for good between 4 and 8,
    # at 0.5 = 0.4 + 0.2 (t - 4) / 4: t = 6. The median of 6 and never is never.
    assert memorised_step(results_of().runs, results_of().curves).tolist() == pytest.approx([NAN, 6, NAN], nan_ok=True)
    assert "memorised" not in ends
    in_t1 = over_time(results_of(), "optimizer.lr", "t1", "test_error")[""].ends
    assert in_t1["t1"].tolist() == [1, 1]
    assert in_t1["fitted"].tolist() == pytest.approx([NAN, 1.5], nan_ok=True)


def test_predictions_are_lines_where_theory_is_about_the_runs():
    """Of a run that was not predicted nothing is known; one that is predicted never to memorise is late."""
    runs = results_of().runs
    table = runs.assign(test_error_predicted=[0.1, 0.1, NAN], memorised_predicted=[0.5, 1.5, NAN])
    ends = over_time(results_of(), "optimizer.lr", "step", "test_error", table)[""].ends
    assert ends["predicted"].tolist() == pytest.approx([NAN, 4], nan_ok=True)
    never = table.assign(memorised_predicted=[0.5, NAN, NAN])
    assert "predicted" not in over_time(results_of(), "optimizer.lr", "step", "test_error", never)[""].ends


def test_early_stopping_has_a_line():
    stopped = results_of(strategy=["early_stopping", "early_stopping", "none"], strategy_step=[2, 8, 8])
    panels = over_time(stopped, "optimizer.lr", "step", "test_error")
    assert panels["strategy=early_stopping"].ends["stopped"].tolist() == pytest.approx([NAN, 5], nan_ok=True)
    assert "stopped" not in panels["strategy=none"].ends


def test_planned_columns_without_a_run_are_missing():
    plan = {"groups": [{"config": {"choices": {}}, "axes": [
        {"keys": ["optimizer.lr"], "points": [[0.5], [1.0], [2.0]]}, {"keys": ["seed"], "points": [[0], [1]]},
    ]}]}  # fmt: skip
    results = dataclasses.replace(results_of(), plans=(plan,))
    panel = over_time(results, "optimizer.lr", "step", "test_error")[""]
    assert panel.data.x.tolist() == [0.5, 1, 2]
    assert panel.data.missing.tolist() == [[0.5, 0, 1]] * 5
    figure = figure_time({"": panel}, "optimizer.lr", "step", "test_error")
    assert sum(bool(patch.get_hatch()) for patch in figure.axes[0].patches) == 1


@pytest.mark.parametrize(
    ("more", "clock", "x", "value", "words"),
    [
        ({"data": "mixture"}, "t1", "optimizer.lr", None, "needs runs whose T1 theory knows"),
        ({}, "step", None, None, "no key of numbers was swept"),
        ({}, "step", "optimizer.lr", "colour", "there are test_error, noisy_accuracy"),
    ],
)
def test_no_diagram_over_time(more, clock, x, value, words):
    results = results_of(**more)
    if x is None:
        results = dataclasses.replace(results, runs=results.runs.head(2))
    with pytest.raises(ConfigError, match=words):
        check_time(results, clock, x, value)


def test_too_few_recorded_steps():
    results = dataclasses.replace(results_of(), read_curves=lambda: results_of().curves.query("step in [0, 8]"))
    with pytest.raises(ConfigError, match="3 recorded steps"):
        check_time(results, "step", "optimizer.lr", None)


def test_lines_are_named_where_they_end():
    panels = over_time(results_of(), "optimizer.lr", "step", "test_error")
    figure = figure_time(panels, "optimizer.lr", "step", "test_error", level=0.25)
    ax = figure.axes[0]
    names = {text.get_text(): text for text in ax.texts}
    assert {"$T_1$", "clean samples fitted"} <= set(names)
    assert tuple(names["clean samples fitted"].xy) == (1, 6)
    assert ax.get_yscale() == "log"
    assert any("test error = 0.25" in text for text in names), "the level that was asked for has a line"
    assert ax.get_xlim() == (0.25, 1.25), "lines do not rescale the map"


def test_a_diagram_needs_no_lines_and_names_those_that_its_last_panel_lacks():
    panel = over_time(results_of(), "optimizer.lr", "step", "test_error")[""]
    bare = dataclasses.replace(panel, ends={})
    figure, axes = figure_time({"": bare}, "optimizer.lr", "step", "test_error")
    assert not figure.legends
    assert not axes[0].texts
    figure, axes = figure_time({"a": panel, "b": bare}, "optimizer.lr", "step", "test_error")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["$T_1$", "clean samples fitted"]
    assert not axes[-1].texts, "named once"
    _, axes = figure_time(dict.fromkeys("abcd", panel), "optimizer.lr", "step", "test_error")
    assert not any(ax.texts for ax in axes), "names beside the last panel would lie below the third one, or push it away"


def test_the_table_of_a_figure_holds_cells_and_lines():
    table = time_table(over_time(results_of(), "optimizer.lr", "step", "test_error"), "optimizer.lr", "step", "test_error")
    assert len(table) == 5 * 2
    row = table[(table["optimizer.lr"] == 1) & (table["step"] == 8)].iloc[0]
    assert row["test_error_mean"] == pytest.approx(0.2)
    assert (row["t1"], row["fitted"]) == (4, 6)
    assert np.isnan(row["test_error_low"]), "two seeds have no interval"


def test_names_lie_apart():
    assert spread(np.array([0.1, 0.5]), 0.1).tolist() == [0.1, 0.5]
    assert spread(np.array([0.2, 0.2, 0.9]), 0.1) == pytest.approx([0.15, 0.25, 0.9])
    assert spread(np.array([0.95, 0.96, 1.0]), 0.1) == pytest.approx([0.8, 0.9, 1.0])


def test_a_diagram_that_moves():
    results = results_of(**{"data.dim": [5, 10, 5]})
    axes, times, means = pictures(results, "optimizer.lr", "data.dim", "test_error", 60)
    assert [points.tolist() for points in axes] == [[0.5, 1], [5, 10]]
    assert times.tolist() == [1, 2, 4, 8, 16]
    assert means[""][0].tolist() == [[0.5, 0.4], [pytest.approx(NAN, nan_ok=True), 0.2]]
    assert means[""][4].tolist() == [[pytest.approx(NAN, nan_ok=True), 0.0], [pytest.approx(NAN, nan_ok=True), 0.4]]
    # Runs a and b in one cell: 0.4 and 0.2 at first, 0 and 0.4 in the end.
    together = pictures(results_of(**{"data.dim": [5, 5, 10]}), "optimizer.lr", "data.dim", "test_error", 60)[2][""]
    assert together[[0, 4], 0, 1].tolist() == pytest.approx([0.3, 0.2])
    picture = Image.open(BytesIO(animation(means, axes, ("optimizer.lr", "data.dim"), times, "test_error")))
    assert (picture.format, picture.n_frames) == ("GIF", 5)
    frames = []
    for place in range(5):
        picture.seek(place)
        frames.append(np.asarray(picture.convert("RGB"), int))
    assert all((one != other).any() for one, other in itertools.pairwise(frames))
