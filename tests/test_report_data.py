"""What the page of an analysis draws, in numbers worked out by hand; and that it stays small."""

import json

import numpy as np
import pandas as pd
import pytest

from lnt.analysis import cells
from lnt.analysis.comparison import Comparison
from lnt.analysis.figure_names import LABELS
from lnt.analysis.load import RunTables
from lnt.analysis.report_data import (
    CURVES,
    FURTHER,
    MOST_CELLS,
    cells_of,
    clocks_of,
    comparison_of,
    curves_of,
    in_words,
    lines_of,
    numbers,
    thinned,
)
from lnt.analysis.report_page import Page, script_json

NAN = np.nan


def results_of(runs, curves=None):
    none = runs.head(0)
    return RunTables(runs, none, none, (), lambda: curves if curves is not None else pd.DataFrame({"run_id": []}), lambda: none)


def two_cells(recordings=3):
    """Five runs at noise rate 0.2 with errors 0.1 to 0.5, and one at 0.1; the option of the second is null."""
    return pd.DataFrame(
        {
            "run_id": list("abcdef"),
            "noise.rate": [0.2] * 5 + [0.1],
            "loss": ["mae"] * 5 + [None],
            "recordings": recordings,
            "status": "completed",
            "test_error": [0.1, 0.2, 0.3, 0.4, 0.5, 0.25],
            "stage1_step": [1.0, NAN, NAN, NAN, NAN, NAN],
        }
    )


def table_of(results):
    return cells.cells(results, ["noise.rate", "loss"], ["test_error", "stage1_step"])


def test_cells_by_hand():
    found = cells_of(table_of(results_of(two_cells())), ["noise.rate", "loss"], ["test_error"], {})
    rate, loss = found["keys"]
    assert (rate["levels"], rate["codes"], rate["log"]) == ([0.1, 0.2], [0, 1], False)
    assert rate["edges"] == pytest.approx([0.05, 0.15, 0.25])
    assert (loss["levels"], loss["codes"], loss["numeric"]) == (["mae"], [-1, 0], False)
    error, stage = found["values"]
    assert error["name"] == "test_error"
    assert error["mean"] == [0.25, 0.3]
    # The standard deviation of 0.1 to 0.5 is 0.1581, and Student's t of 4 degrees of freedom 2.7764.
    assert error["half"] == [None, pytest.approx(2.7764 * 0.15811 / np.sqrt(5), rel=2e-3)]
    assert error["range"] == [0, 0.5], "an error runs from 0 to chance"
    assert (stage["mean"], stage["half"]) == ([None, 1.0], None), "there are no five seeds"
    assert found["counts"] == {"n": [1, 5], "diverged": [0, 0], "failed": [0, 0], "missing": [4, 0]}


def test_planned_levels_keep_cells_as_small_as_they_are():
    planned = {"noise.rate": [0.0, 0.1, 0.2, 0.3, None]}
    rate, _ = cells_of(table_of(results_of(two_cells())), ["noise.rate", "loss"], ["test_error"], planned)["keys"]
    assert (rate["levels"], rate["codes"]) == ([0.0, 0.1, 0.2, 0.3], [1, 2])
    assert rate["edges"] == pytest.approx([-0.05, 0.05, 0.15, 0.25, 0.35])


def test_numbers_are_short_and_json_knows_them():
    found = numbers([0.123456, 1e-12, NAN, np.inf, -np.inf, 123456.0, 3])
    assert found == [0.1235, 1e-12, None, None, None, 123500.0, 3.0]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert numbers([]) == []


def test_curves_by_hand():
    """Means over the seeds of a cell at the steps that these have; of the other cell nothing was saved."""
    curves = pd.DataFrame(
        {"run_id": list("aabbz"), "step": [0, 7, 0, 7, 0], "test_error": [0.5, 0.1, 0.3, NAN, 9.0], "clean_loss": NAN}
    )
    results = results_of(two_cells(), curves)
    found = curves_of(results, table_of(results), ["noise.rate", "loss"])
    clocks = {"step": {"times": [0, 7], "unit": [1, 1]}}
    lines = {"test_error": [None, [0.4, 0.1]]}
    assert found == {"grids": [[0, 7]], "grid": [-1, 0], "lines": lines, "theory": None, "clocks": clocks}
    alone = curves_of(results, table_of(results).head(1), [])
    assert alone["lines"] == {"test_error": [[0.4, 0.1]]}, "without swept keys all runs are one cell"


def test_times_of_cells_in_steps_and_in_t1_by_hand():
    """T1 = n m / (eta s^2 d) = 20 / (5 eta): 4 steps in the first cell, 8 in the second, which is recorded half as often."""
    runs = pd.DataFrame({"data": "signal_noise", "data.n_train": 10, "model.width": 2, "data.noise_std": 1.0, "data.dim": 5,
                         "step_size": [1, 1, 0.5]})  # fmt: skip
    found = clocks_of(runs, pd.Series([0, 0, 1]), [(0, 4, 8), (0, 8, 16)], [0, 1])
    assert found == {
        "step": {"times": [0, 4, 8, 16], "unit": [1, 1]},
        "t1": {"times": [0, 1, 2], "unit": [4, 8]},
    }
    assert list(clocks_of(runs, pd.Series([0, 1, 1]), [(0, 4, 8)], [0, 0])) == ["step"], "a cell of two T1"


@pytest.mark.parametrize(
    ("recordings", "words"), [(1, "one step was recorded"), (10**6, "more than 2000000 rows"), (3, "there are no curves")]
)
def test_curves_that_are_left_out_are_not_even_read(recordings, words):
    results = results_of(two_cells(recordings))
    assert words in curves_of(results, table_of(results), ["noise.rate", "loss"])
    assert ("curves" in results.__dict__) == (recordings == 3)


def test_a_thinned_curve_keeps_its_ends_and_is_even_on_a_log_scale():
    assert thinned(np.arange(5), 5).tolist() == [0, 1, 2, 3, 4]
    steps = np.arange(10_001)
    kept = steps[thinned(steps, 20)]
    assert (kept[0], kept[-1]) == (0, 10_000)
    factors = np.diff(np.log1p(kept))
    assert 10 < len(kept) <= 20
    assert factors[-8:] == pytest.approx(np.log(10_001) / 19, rel=0.01)


def test_words_without_tex():
    assert in_words("data.snr") == "SNR |μ|/(s√d)"
    assert in_words("data.n_gamma") == "signal n|μ|²"
    assert in_words("price_of_memorising") == "price of memorising (final minus best test error)"
    assert in_words("a.b") == "a.b"


def test_lines_and_panels_by_hand():
    table = pd.DataFrame({"x": [1.0, 10.0], "v_mean": [0.5, 0.25], "v_low": [0.4, NAN], "v_high": [0.6, NAN]})
    plot = lines_of(table, "x", ["v"], "error")
    (line,) = plot["panels"][0]["lines"]
    assert line == {"name": "v", "x": [1.0, 10.0], "mean": [0.5, 0.25], "half": [0.1, None], "looks": (0, 0)}
    rows = [("gd", "a", "mae"), ("gd", "b", "mae"), ("sam", "a", "mae")]
    levels = pd.DataFrame(rows, columns=["hue", "style", "x"]).assign(v_mean=0.5, v_low=0.4, v_high=0.6)
    plot = comparison_of(Comparison("loss", "optimizer", "noise", levels), ["v"])
    assert plot["options"] == ["mae"]
    assert [(line["name"], line["looks"]) for line in plot["panels"][0]["lines"]] == [
        ("gd a", (0, 0)),
        ("gd b", (0, 1)),
        ("sam a", (1, 0)),
    ]


def test_a_hundred_thousand_runs_fit_into_15_megabytes():
    """Each a cell of its own, with all values; and the limit beyond which cells are left out."""
    rng = np.random.default_rng(0)
    side = 316
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(side), np.arange(side)))
    names = ["test_error", "best_test_error_fresh", "price_of_memorising", "stage1_step", "stage2_step", "train_loss"]
    table = pd.DataFrame({"data.dim": x, "data.snr": y / 7, "n": 1, "diverged": 0, "failed": 0, "missing": 0})
    for name in names:
        table = table.assign(**{f"{name}_mean": rng.random(len(x)), f"{name}_high": NAN})
    found = cells_of(table, ["data.dim", "data.snr"], ["test_error"], {})
    page = Page("t", "s", [], {}, [], [], [], data=script_json({"cells": found, "phase": None, "curves": "none", "plots": {}}))
    assert len(page.text().encode()) < 15e6
    assert cells_of(pd.concat([table] * 2), ["data.dim", "data.snr"], ["test_error"], {}) is None
    assert len(table) < MOST_CELLS


def test_a_text_cannot_end_the_element_of_its_json():
    text = script_json({"</script>": "<!--<script>"})
    assert "<" not in text
    assert json.loads(text) == {"</script>": "<!--<script>"}
    with pytest.raises(ValueError, match="JSON"):
        script_json([NAN])


def test_the_page_has_words_for_all_columns_that_it_offers():
    assert {*FURTHER, *CURVES} <= set(LABELS)
