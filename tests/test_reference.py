"""analyze.py against=FILE: numbers by hand, cells that are the same however they are written, refusals."""

import numpy as np
import pandas as pd
import pytest

from lnt.analysis.figure_comparison import figure_against
from lnt.analysis.load import RunTables
from lnt.analysis.reference import compared_with
from lnt.errors import ConfigError
from lnt.intervals import mean_interval

RUNS = pd.DataFrame(
    {
        "run_id": list("abcdef"),
        "data.dim": [100, 100, 200, 200, 300, 300],
        "loss": ["mae", "mae", "gce", "gce", "gce", "gce"],
        "seed": [0, 1] * 3,
        "status": "completed",
        "test_error": [0.1, 0.3, 0.4, 0.4, 0.0, 0.2],
    }
)


def against(tmp_path, text, value=None):
    (tmp_path / "cells.csv").write_text(text)
    none = RUNS.head(0)
    results = RunTables(RUNS, none, none, (), lambda: none, lambda: none)
    return compared_with(results, tmp_path / "cells.csv", value)


def test_differences_by_hand(tmp_path):
    found = against(
        tmp_path,
        "# A. Author 2020\ndata.dim,loss,test_error,test_error_se\n1e2,mae,0.25,0.03\n200.0,gce,0.30,0.04\n9,gce,0,0\n",
    )
    table = found.table.set_index("data.dim")
    assert table["difference"].round(12).to_dict() == {100: -0.05, 200: 0.1}
    assert table.loc[100, "ours_se"] == pytest.approx(0.1)  # 0.1 and 0.3: standard deviation 0.1414, over the root of 2
    assert found.rms == pytest.approx(np.sqrt((0.05**2 + 0.1**2) / 2))
    assert found.offset == (pytest.approx(0.025), *[pytest.approx(np.nan, nan_ok=True)] * 2)
    # Without seed 0 the cells are 0.3 and 0.4, without seed 1 0.1 and 0.4; theirs are 0.275 on average.
    assert found.left_out.tolist() == pytest.approx([0.35 - 0.275, 0.25 - 0.275])
    assert "mean +0.0250 (no intervals: fewer than 5 seeds)" in found.summary()
    assert found.source == "A. Author 2020"
    assert "2 of 3 published cells" in found.summary()
    assert "largest +0.1000 (s.e. 0.0400) at data.dim=200, loss=gce" in found.summary()


def test_the_interval_of_the_mean_difference_is_over_seeds_which_cells_share(tmp_path):
    """A seed that is lucky is so in a thousand cells: they are no thousand pieces of evidence."""
    luck = np.array([0.01, -0.02, 0.03, 0.0, 0.01, -0.03])
    dims, seeds = (values.ravel() for values in np.meshgrid(np.arange(1000), np.arange(6)))
    runs = pd.DataFrame({"run_id": "a", "data.dim": dims, "seed": seeds, "status": "completed"}).assign(
        test_error=0.2 + luck[seeds]
    )
    none = runs.head(0)
    (tmp_path / "cells.csv").write_text("data.dim,test_error\n" + "".join(f"{dim},0.25\n" for dim in range(1000)))
    found = compared_with(RunTables(runs, none, none, (), lambda: none, lambda: none), tmp_path / "cells.csv", None)
    assert found.offset == pytest.approx((-0.05, *(end - 0.05 for end in np.ravel(mean_interval(luck)))))


def test_seeds_of_other_cells_tell_nothing(tmp_path):
    """Three seeds in the cell that is compared, ten in another one."""
    runs = pd.DataFrame({"run_id": "a", "data.dim": [1] * 3 + [2] * 10, "seed": [*range(3), *range(10)], "status": "completed"})
    runs, none = runs.assign(test_error=np.linspace(0, 0.2, 13)), runs.head(0)
    (tmp_path / "cells.csv").write_text("data.dim,test_error\n1,0.25\n")
    found = compared_with(RunTables(runs, none, none, (), lambda: none, lambda: none), tmp_path / "cells.csv", None)
    assert len(found.left_out) == 3
    assert "no intervals: fewer than 5 seeds" in found.summary()


def test_a_cell_of_one_seed_is_named_as_what_forbids_an_interval(tmp_path):
    runs = pd.DataFrame({"run_id": "a", "data.dim": [1] * 6 + [2], "seed": [*range(6), 0], "status": "completed"})
    runs, none = runs.assign(test_error=np.linspace(0, 0.3, 7)), runs.head(0)
    (tmp_path / "cells.csv").write_text("data.dim,test_error\n1,0.25\n2,0.25\n")
    found = compared_with(RunTables(runs, none, none, (), lambda: none, lambda: none), tmp_path / "cells.csv", None)
    assert "(no interval: some of these cells have one seed)" in found.summary()


def test_a_seed_that_some_cells_lack_is_left_out_of_the_others(tmp_path):
    runs = pd.DataFrame({"run_id": list("abc"), "data.dim": [1, 1, 2], "seed": [0, 1, 0], "status": "completed"})
    runs, none = runs.assign(test_error=[0.1, 0.3, 0.4]), runs.head(0)
    (tmp_path / "cells.csv").write_text("data.dim,test_error\n1,0\n2,0\n")
    found = compared_with(RunTables(runs, none, none, (), lambda: none, lambda: none), tmp_path / "cells.csv", None)
    # The second cell has nothing but seed 0.
    assert found.left_out.tolist() == pytest.approx([np.nan, (0.1 + 0.4) / 2], nan_ok=True)


def test_the_errors_of_both_add_up_as_independent_ones_do(tmp_path):
    """0 and 0.2 have the standard error 0.1: the root of 0.1^2 + 0.24^2 is 0.26."""
    found = against(tmp_path, "data.dim,test_error,test_error_se\n300,0.2,0.24\n")
    assert "largest -0.1000 (s.e. 0.2600) at data.dim=300" in found.summary()


def test_a_value_with_a_comma_stands_in_quotes(tmp_path):
    runs = RUNS.drop(columns="loss")
    runs.insert(1, "data.classes", ["[3, 8]"] * 2 + ["[0, 1]"] * 4)
    none = runs.head(0)
    (tmp_path / "cells.csv").write_text('data.classes,test_error\n"[3, 8]",0.25\n')
    found = compared_with(RunTables(runs, none, none, (), lambda: none, lambda: none), tmp_path / "cells.csv", None)
    assert found.table["data.classes"].tolist() == ["[3, 8]"]
    assert found.table["difference"].tolist() == [pytest.approx(-0.05)]


def test_the_standard_error_counts_each_seed_once(tmp_path):
    """Seeds 0 and 1 of loss gce: means 0.2 and 0.3 over two dimensions each, so the error is 0.05, not that of four runs."""
    found = against(tmp_path, "loss,test_error\ngce,0.25\n")
    assert found.table["ours_se"].tolist() == [pytest.approx(0.05)]


def test_without_a_standard_error_the_summary_says_whose_it_is(tmp_path):
    found = against(tmp_path, "data.dim,test_error\n100,0.25\n300,0.1\n")
    assert "largest -0.0500 (s.e. of ours 0.1000) at data.dim=100" in found.summary()
    assert found.source == "cells.csv"


def test_the_figure_shows_both(tmp_path):
    ax = figure_against(against(tmp_path, "data.dim,test_error\n100,0.25\n300,0.15\n")).axes[0]
    (points,) = (container[0] for container in ax.containers)
    np.testing.assert_allclose(points.get_xydata(), [[0.25, 0.2], [0.15, 0.1]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a CSV table"),
        ("data.dim,test_error\n", "must be a CSV table"),
        ("data.dim,test_error\n100\n", "must be a CSV table"),
        ("data.dim,data.dim,test_error\n1,1,1\n", "names a column twice"),
        ("data.dim\n100\n", "must have one outcome"),
        ("n,test_error\n100,0.1\n", "against=n: no such column"),
        ("test_error\n0.1\n", "names no key"),
        ("data.dim,test_error\n100,much\n", "has no number somewhere in test_error"),
        ("data.dim,test_error\n7,0.1\n", "has no cell that the results have"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words):
        against(tmp_path, text)


def test_the_outcome_must_be_the_value_that_was_asked_for(tmp_path):
    with pytest.raises(ConfigError, match="such as best_test_error"):
        against(tmp_path, "data.dim,test_error\n100,0.1\n", "best_test_error")
