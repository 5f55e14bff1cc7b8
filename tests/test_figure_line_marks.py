"""Lines of means: those that lie on one another are named, and a point alone has its interval."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lnt.analysis.figure_line_marks import draw_intervals, lying_on
from lnt.analysis.figure_lines import STRATEGY_PANELS, figure_strategies

NAN = np.nan


def test_a_line_lies_on_another_if_it_does_in_all_panels():
    one = np.array([[0.0, 1.0], [0.5, 0.5], [0.0, 1.0], [0.001, 1.0]])
    assert lying_on([one]) == {2: 0, 3: 0}
    assert lying_on([one, np.array([[0.0, 1.0], [0.5, 0.5], [0.0, 0.9], [0.0, 1.0]])]) == {3: 0}


def test_the_first_line_that_another_lies_on_is_one_of_all_panels():
    """In the second panel all three are 1, in the first only the last two are alike."""
    assert lying_on([np.array([[0.0, 1.0], [0.5, 0.5], [0.5, 0.5]]), np.ones((3, 2))]) == {2: 1}
    assert lying_on([np.array([[0.0, 1.0], [0.5, 0.5], [0.5, 0.5]]), np.full((3, 2), NAN)]) == {2: 1}


def test_lines_without_values_lie_on_nothing():
    assert lying_on([np.full((2, 3), NAN)]) == {}
    assert lying_on([np.full((2, 3), np.inf)]) == {}


def test_a_point_alone_has_a_bar_and_others_have_a_band():
    ax = Figure().subplots()
    draw_intervals(ax, [1, 2, 3, 4, 5], [0.1, 0.2, NAN, 0.4, NAN], [0.2, 0.3, NAN, 0.6, NAN], "red", 0.2)
    (bars,) = [part for part in ax.collections if hasattr(part, "get_segments")]
    assert np.concatenate(bars.get_segments()).tolist() == [[4, 0.4], [4, 0.6]]


def test_a_strategy_that_lies_on_another_is_named_and_thinner():
    """The threshold and its restart have the same means; no selection has others."""
    rows = [
        {"noise": "symmetric", "name": name, "rate": rate, **dict.fromkeys(columns, mean + rate)}
        for name, mean in (("none", 0.5), ("small_loss restart", 0.1), ("small_loss", 0.1))
        for rate in (0.1, 0.2, 0.3)
        for columns in [[f"{value}_{kind}" for value in STRATEGY_PANELS for kind in ("mean", "low", "high")]]
    ]
    figure, axes = figure_strategies(pd.DataFrame(rows))
    (legend,) = figure.legends
    assert "small_loss (lies on small_loss restart)" in [text.get_text() for text in legend.get_texts()]
    widths = {name.get_label(): name[0].get_linewidth() for name in axes[0].containers}
    assert widths["small_loss restart"] > widths["small_loss (lies on small_loss restart)"]
