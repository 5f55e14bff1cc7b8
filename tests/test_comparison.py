"""Comparisons: which runs share a line, its numbers by hand, and what the figure says of lines that cannot be seen."""

import numpy as np
import pandas as pd
import pytest

from lnt.analysis import comparison
from lnt.analysis.comparison import compare, names_of
from lnt.analysis.figure_comparison import figure_comparison
from lnt.analysis.load import RunTables


def results_of(rows):
    """Completed runs, numbered by seed within each condition."""
    runs = pd.DataFrame(rows)
    seed = runs.groupby([key for key in runs if key != "test_error"], dropna=False).cumcount()
    columns = ["run_id", "seed", *(key for key in runs if key != "test_error"), "status", "test_error"]
    runs = runs.assign(run_id=[str(i) for i in range(len(runs))], seed=seed, status="completed")[columns]
    none = runs.head(0)
    return RunTables(runs, none, none, (), lambda: none, lambda: none)


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


def test_means_and_intervals_by_hand():
    table = compare(results_of(SAM), "noise.rate", "optimizer", None, ["test_error"]).table.set_index(["hue", "x"])
    row = table.loc["sam rho=0.05", 0.2]
    # 0.30 to 0.34 in steps of 0.01: standard deviation 0.0158, and Student's t of 4 degrees of freedom is 2.776.
    assert row["test_error_mean"] == pytest.approx(0.32)
    assert row["test_error_high"] - row["test_error_mean"] == pytest.approx(2.776 * 0.01 * np.sqrt(2.5 / 5), rel=1e-3)
    assert (table["n"] == 5).all()
    assert len(table) == 9


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
