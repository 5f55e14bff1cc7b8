"""All figures: nothing lies on anything else, no table ends in a traceback, and legends name what is there."""

import itertools

import numpy as np
import pandas as pd
import pytest
from drawn_figures import FIGURES, STEPS, curves_of, faults, legends_of, lines, phase, stages, strategies
from matplotlib import rc_context
from matplotlib.figure import Figure

from lnt.analysis.figure_phase_diagram import add_contour
from lnt.analysis.figure_stages import least_error
from lnt.analysis.figure_style import STYLE, look, rendered

AS_IT_IS = lambda table: table  # noqa: E731
QUICK = {"lines", "phase diagram", "comparison of numbers", "stages"}
# Other sizes of what another one draws.
VARIANTS = {
    "comparison of many long names",
    "narrow phase diagram",
    "stages of four conditions",
    "several lines",
    "phase diagrams",
}
DRAWN = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FIGURES]
KEYS = {
    "noise.rate",
    "data.dim",
    "data.signal_norm",
    "kappa",
    "rate",
    "c",
    "step",
    "seed",
    "true",
    "observed",
    "runs",
    "samples",
}


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_and_no_legend_lies_on_anything(name):
    assert faults(FIGURES[name](AS_IT_IS)) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", ["column", "full"])
@pytest.mark.parametrize("name", FIGURES)
def test_nor_does_it_in_a_paper(name, width):
    with look("icml", width):
        figure = FIGURES[name](AS_IT_IS)
        with rc_context(STYLE):
            assert faults(figure) == []
        assert figure.get_figwidth() in (3.25, 6.75)


def test_the_measure_sees_what_lies_on_what():
    figure = Figure(figsize=(3, 2), layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], label="a line")
    assert faults(figure) == []
    ax.legend(loc="center")
    assert "data under 'legend'" in faults(figure)
    ax.get_legend().remove()
    ax.annotate("one", (0.2, 0.7))
    assert faults(figure) == []
    ax.annotate("two", (0.2, 0.7))
    assert "'two' on 'one'" in faults(figure)
    figure.text(0.9, 0.5, "long " * 30)
    assert any("leaves the figure" in fault for fault in faults(figure))


def outcomes_of(table):
    return [column for column in table if pd.api.types.is_float_dtype(table[column]) and column not in KEYS]


def with_values(table, value, rows=slice(None)):
    """A table some of whose outcomes are one value."""
    table = table.copy()
    columns = outcomes_of(table)
    table.loc[table.index[rows], columns] = value
    return table


SPOILT = {
    "infinite": lambda table: with_values(table, np.inf, slice(0, None, 7)),
    "minus infinity": lambda table: with_values(table, -np.inf, slice(0, 1)),
    "all infinite": lambda table: with_values(table, np.inf),
    "all missing": lambda table: with_values(table, np.nan),
    "some missing": lambda table: with_values(table, np.nan, slice(0, None, 2)),
    "all zero": lambda table: with_values(table, 0.0),
    "constant": lambda table: with_values(table, 0.3),
    "huge": lambda table: with_values(table, 1e100, slice(0, 1)),
    "one row": lambda table: table.head(1),
    "one seed": lambda table: table[table["seed"] == 0] if "seed" in table else table.head(2),
}


@pytest.mark.slow
@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("name", [name for name in FIGURES if name not in VARIANTS])
def test_a_figure_of_any_table_is_drawn(name, spoilt):
    FIGURES[name](SPOILT[spoilt]).draw_without_rendering()


@pytest.mark.parametrize("name", ["lines", "phase diagram"])
def test_a_figure_of_an_infinite_error_is_drawn(name):
    assert rendered(FIGURES[name](SPOILT["infinite"]), ["png"])


@pytest.mark.parametrize(
    ("name", "panels", "count"),
    [("predicted", ["test_error"], 1), ("predicted", ["kept_share"], 3), ("signals", ["auc_margin"], 3)],
)
def test_panels_are_left_out(name, panels, count):
    with look(panels=panels):
        assert len(FIGURES[name](lambda table: table).axes) == count


def words_of(figure):
    return [text.get_text() for legend in legends_of(figure) for text in legend.get_texts()]


def test_no_legend_names_a_line_that_is_not_there():
    def without(column):
        return lambda table: table.assign(**{column: np.nan})

    assert words_of(lines(without("stage1_step"), ["test_error", "stage1_step"])) == ["test error (true labels)"]
    assert words_of(strategies(without("best_test_error_fresh_mean"), ["none", "small_loss"])) == ["none", "small_loss"]
    assert "oracle stopping" in words_of(strategies(AS_IT_IS, ["none", "small_loss"]))
    said = words_of(stages(without("clean_loss"), ["a"]))
    assert {"mislabelled samples", "all samples", "log 2"} <= set(said)
    assert "theory, nothing fitted" not in said, "theory is not about these runs"
    assert said.count("clean samples") == 1, "of the accuracy, not of the loss"


def test_a_contour_between_cells_without_values_is_not_in_the_legend():
    ax = Figure().subplots()
    place, values = np.arange(3.0), np.array([[0, np.nan, 1], [0, np.nan, 1], [0, np.nan, 1]])
    assert add_contour(ax, place, place, values, 0.5, "black", "-", "border") == []
    assert len(add_contour(ax, place, place, np.nan_to_num(values, nan=0.4), 0.5, "black", "-", "border")) == 1


@pytest.mark.parametrize(("lowest", "log"), [(0.001, True), (0.05, False)])
def test_the_axis_of_small_errors_ends_at_one_test_sample(lowest, log):
    """Shares of 250 test samples: nothing lies between 0 and 1/250."""

    def in_samples(table):
        return table.assign(test_error=(250 * table["test_error"]).round() / 250) if "test_error" in table else table

    (ax,) = (ax for ax in stages(in_samples, ["a"], lowest).axes if ax.get_ylabel().startswith("test error"))
    curves = in_samples(curves_of(AS_IT_IS, 6, lowest)[1])
    assert (least_error([curves], "test_error") is not None) == log
    assert ax.get_yscale() == ("symlog" if log else "linear")
    if not log:
        assert ax.get_ylabel() == "test error\n(true labels)"
        return
    assert least_error([curves], "test_error") == 1 / 250
    assert ax.yaxis.get_transform().linthresh == 1 / 250
    assert -1 / 250 < ax.get_ylim()[0] <= 0
    # Below 1/250 there is no tick but 0.
    assert sorted(tick for tick in ax.get_yticks() if 0 <= tick <= 1) == [0, 0.01, 0.1, 1]
    assert ax.get_ylabel().endswith("median, quartiles")
    (band,) = ax.collections
    by_step = curves.groupby("step")["test_error"]
    heights = band.get_paths()[0].vertices[:, 1]
    assert set(heights.round(9)) <= {*by_step.quantile(0.25).round(9), *by_step.quantile(0.75).round(9)}
    assert heights.min() >= 0, "a mean less its interval would be below 0"
    (line,) = (line for line in ax.lines if line.get_label() == "fresh samples")
    np.testing.assert_allclose(line.get_ydata(), by_step.median())
    assert len(line.get_xdata()) == len(STEPS) + 1


def test_cells_of_few_seeds_and_without_a_value_are_marked():
    """Of six seeds: three cells have none, one has four, and those of one column have no value."""
    said = words_of(phase(AS_IT_IS, 1, 6.9, marked=True))
    assert said[:3] == [
        "no run: 3 of 54 cells",
        "no run has a value: 9 cells",
        "mean of 4 seeds, fewer than\nplanned or in others: 1 cell",
    ]
    assert words_of(phase(AS_IT_IS, 1, 6.9))[0].startswith("test error = 0.25")


def test_what_all_panels_have_is_said_once():
    panels = itertools.count()
    figure = phase(lambda table: table if next(panels) == 0 else table.drop(index=[60]), 2, 6.9)
    assert figure.legends[0].get_texts()[0].get_text() == "test error = 0.25"
    first, second = figure.axes[:2]
    assert (first.get_title()[-7:], first.get_legend()) == ("noise=0", None)
    assert second.get_legend().get_title().get_text().endswith("noise=1"), "above what this panel alone has"
    assert [text.get_text() for text in second.get_legend().get_texts()] == [
        "mean of 5 seeds, fewer than\nplanned or in others: 1 cell"
    ]
