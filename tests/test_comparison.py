"""Comparisons: which runs share a line, its numbers by hand, and what the figure says of lines that cannot be seen."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from lnt.analysis import comparison
from lnt.analysis.comparison import Comparison, compare, names_of
from lnt.analysis.figure_comparison import figure_comparison
from lnt.analysis.figure_selection import LOOKS, WHEN, figure_signals_by
from lnt.analysis.load import RunTables
from lnt.analysis.study_choice import USUAL, usual_values


def results_of(rows, plans=()):
    """Completed runs, numbered by seed within each condition."""
    runs = pd.DataFrame(rows)
    seed = runs.groupby([key for key in runs if key != "test_error"], dropna=False).cumcount()
    columns = ["run_id", "seed", *(key for key in runs if key != "test_error"), "status", "test_error"]
    runs = runs.assign(run_id=[str(i) for i in range(len(runs))], seed=seed, status="completed")[columns]
    none = runs.head(0)
    return RunTables(runs, none, none, plans, lambda: none, lambda: none)


SAM = [  # gd has no rho; sam is swept over it, and so is the noise rate
    {"optimizer": option, "optimizer.rho": rho, "noise.rate": rate, "test_error": error + 0.01 * seed}
    for option, rho, shift in (("gd", np.nan, 0.2), ("sam", 0.05, 0.1), ("sam", 0.1, 0.05))
    for rate in (0.1, 0.2, 0.3)
    for error in [shift + rate]
    for seed in range(5)
]


def test_a_level_is_an_option_with_its_own_settings():
    runs = results_of(SAM).runs
    assert list(dict.fromkeys(names_of(runs, "optimizer"))) == ["gd", "sam rho=0.05", "sam rho=0.1"]
    assert list(dict.fromkeys(names_of(runs, "optimizer", taken=["optimizer.rho"]))) == ["gd", "sam"]
    assert list(dict.fromkeys(names_of(runs, "noise.rate"))) == ["0.1", "0.2", "0.3"]
    assert list(dict.fromkeys(names_of(runs, "optimizer.rho"))) == ["null", "0.05", "0.1"]


def test_means_and_intervals_by_hand():
    table = compare(results_of(SAM), "noise.rate", "optimizer", None, ["test_error"]).table.set_index(["hue", "x"])
    row = table.loc["sam rho=0.05", 0.2]
    # 0.30 to 0.34 in steps of 0.01: standard deviation 0.0158, and Student's t of 4 degrees of freedom is 2.776.
    assert row["test_error_mean"] == pytest.approx(0.32)
    assert row["test_error_high"] - row["test_error_mean"] == pytest.approx(2.776 * 0.01 * np.sqrt(2.5 / 5), rel=1e-3)
    assert (table["n"] == 5).all()
    assert len(table) == 9


def test_the_runs_of_a_seed_are_one_value_of_an_interval():
    """Averaged over the noise rates: each seed has 0.3, 0.4, 0.5 and 0.01 seed more, so seeds spread as above."""
    table = compare(results_of(SAM), "optimizer", None, None, ["test_error"]).table.set_index("x")
    row = table.loc["sam rho=0.05"]
    assert row["test_error_mean"] == pytest.approx(0.32)
    assert row["test_error_high"] - row["test_error_mean"] == pytest.approx(2.776 * 0.01 * np.sqrt(2.5 / 5), rel=1e-3)
    assert row["n"] == 15
    three = [row for place, row in enumerate(SAM) if place % 5 < 3]
    few = compare(results_of(three), "optimizer", None, None, ["test_error"]).table
    assert few["test_error_low"].isna().all(), "nine runs of three seeds have no interval"


@pytest.mark.parametrize("other", ["none", "early_stopping"])
def test_strategies_are_compared_by_what_they_return(other):
    results = results_of([{"strategy": name, "test_error": 0.3} for name in ("none", other)])
    later = {"strategy_test_error": 0.2, "last_step": 9, "best_step": 4}
    runs = results.runs.assign(**dict.fromkeys(USUAL, np.nan) | {"test_error": 0.3} | later)
    found = usual_values(dataclasses.replace(results, runs=runs), None)
    assert found == (["test_error"] if other == "none" else ["strategy_test_error", "test_error"])


def test_levels_come_in_the_order_in_which_they_were_typed():
    """Runs of several processes stand in the table in the order in which they ended."""
    axes = [{"keys": ["optimizer"], "points": [["sam"], ["gd"]]}, {"keys": ["optimizer.rho"], "points": [[0.1], [0.05]]}]
    plans = [{"groups": [{"config": {"choices": {}}, "axes": axes}]}]
    for rows in (SAM, SAM[::-1]):
        compared = compare(results_of(rows, plans), "noise.rate", "optimizer", None, ["test_error"])
        assert compared.levels("hue") == ["sam rho=0.1", "sam rho=0.05", "gd"]


def test_long_names_of_options_end_at_their_ticks():
    rows = [{"loss": name, "test_error": 0.1} for name in ("backward_squared", "exponential", "label_smoothing", "logistic")]
    figure, _ = figure_comparison(compare(results_of(rows), "loss", None, None, ["test_error"]), ["test_error"])
    figure.draw_without_rendering()
    (ax,) = figure.axes
    ends = [text.get_window_extent().x1 for text in ax.get_xticklabels()]
    ticks = [ax.transData.transform((place, 0))[0] for place in range(4)]
    np.testing.assert_allclose(ends, ticks, atol=8)  # pixels


def test_settings_of_an_option_are_no_axes():
    results = results_of(SAM)
    assert comparison.categorical_keys(results) == ["optimizer"]
    assert compare(results, "noise.rate", "optimizer", None, ["test_error"]).averaged == []
    assert compare(results, "optimizer", None, None, ["test_error"]).averaged == ["noise.rate"]


def test_lines_over_numbers_and_points_over_options():
    results = results_of(SAM)
    lines = figure_comparison(compare(results, "noise.rate", "optimizer", None, ["test_error"]), ["test_error"]).axes[0]
    drawn = {line.get_label(): line.get_xydata().tolist() for line in lines.get_lines()}
    assert drawn["gd"] == [[0.1, pytest.approx(0.32)], [0.2, pytest.approx(0.42)], [0.3, pytest.approx(0.52)]]
    points = figure_comparison(compare(results, "optimizer", "noise.rate", None, ["test_error"]), ["test_error"]).axes[0]
    assert [text.get_text() for text in points.get_xticklabels()] == ["gd", "sam rho=0.05", "sam rho=0.1"]


@pytest.mark.parametrize(("shift", "named"), [(0.0, True), (0.05, False)])
def test_a_line_that_lies_on_another_says_so(shift, named):
    rows = [
        {"strategy": option, "noise.rate": rate, "test_error": rate + (shift if option == "small_loss" else 0)}
        for option in ("none", "small_loss")
        for rate in (0.1, 0.2, 0.3)
        for _ in range(2)
    ]
    compared = compare(results_of(rows), "noise.rate", "strategy", None, ["test_error"])
    labels = [line.get_label() for line in figure_comparison(compared, ["test_error"]).axes[0].get_lines()]
    assert labels == ["none", "small_loss (lies on none)" if named else "small_loss"]


def test_errors_begin_at_zero_and_the_first_line_is_the_thickest():
    ax = figure_comparison(compare(results_of(SAM), "noise.rate", "optimizer", None, ["test_error"]), ["test_error"]).axes[0]
    widths = [line.get_linewidth() for line in ax.get_lines()]
    assert widths == sorted(widths, reverse=True)
    assert -0.1 < ax.get_ylim()[0] <= 0


def test_an_interval_of_steps_is_cut_at_zero():
    table = compare(results_of(SAM), "noise.rate", "optimizer", None, ["test_error"]).table
    steps = table.rename(columns=lambda name: name.replace("test_error", "stage2_step")).assign(stage2_step_low=-5.0)
    ax = figure_comparison(Comparison("noise.rate", "optimizer", None, steps), ["stage2_step"]).axes[0]
    assert -0.1 < ax.get_ylim()[0] <= 0


def test_a_mean_over_some_of_the_runs_has_a_ring():
    rows = [
        {**row, "test_error": np.nan if row["noise.rate"] == 0.3 and row["test_error"] > 0.51 else row["test_error"]}
        for row in SAM
    ]
    compared = compare(results_of(rows), "noise.rate", "optimizer", None, ["test_error"])
    table = compared.table.set_index(["hue", "x"])
    assert table.loc["gd", 0.3][["n", "test_error_n"]].tolist() == [5, 2]
    figure, _ = figure_comparison(compared, ["test_error"])
    (ring,) = (part for part in figure.axes[0].collections if part.get_label().startswith("ring"))
    assert ring.get_offsets().tolist() == [[0.3, table.loc[("gd", 0.3), "test_error_mean"]]]
    assert "ring: mean over some of the runs only" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_figure_of_signals_names_options_and_numbers():
    """Sweeps over rates and an option, and over two numbers."""
    columns = {f"{name}{suffix}_{kind}": 0.8 for name in LOOKS for suffix in WHEN for kind in ("mean", "low", "high")}
    table = pd.DataFrame(
        {"noise.rate": [0.1, 0.2] * 2, "loss": ["hinge"] * 2 + ["mae"] * 2, "data.n_train": [20] * 2 + [40] * 2}
    )
    for key, titles in (("loss", ["hinge", "mae"]), ("data.n_train", ["training samples $n$ 20", "training samples $n$ 40"])):
        axes = figure_signals_by(table.assign(**columns), "noise.rate", key).axes
        assert [ax.get_title() for ax in axes][: len(titles)] == titles
