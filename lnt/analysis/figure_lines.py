"""Figures of lines: values against one swept key, and strategies against the label noise rate."""

import itertools
from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd

from lnt.analysis.figure_legend import drawn, legend_below
from lnt.analysis.figure_line_marks import draw_intervals, end_at_zero, is_never_negative, lying_on, thickness
from lnt.analysis.figure_names import label, level
from lnt.analysis.figure_phase_diagram import scale_axis
from lnt.analysis.figure_style import CLEAN, NOISY, PLAIN, SIGNAL, SINGLE, STYLE, Drawn, NotebookFigure, shown
from lnt.intervals import TOO_FEW


def figure_lines(table: pd.DataFrame, x: str, values: list[str], y_label: str) -> Drawn:
    """Means of some values over one swept key with 95 % confidence intervals over seeds, from a table of analysis.cells."""
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(SINGLE, 2.2), layout="constrained")
        ax = figure.subplots()
        for value, colour in zip(values, (PLAIN, SIGNAL, NOISY, CLEAN), strict=False):
            ax.plot(table[x], table[f"{value}_mean"], color=colour, marker="o", markersize=3, label=label(value))
            draw_intervals(ax, table[x], table[f"{value}_low"], table[f"{value}_high"], colour, 0.2)
        scale_axis(ax, "x", table[x].to_numpy(float))
        ax.set(xlabel=label(x), ylabel=y_label)
        sure = table[[f"{value}_low" for value in values]].notna().any(axis=None)
        if all(map(is_never_negative, values)):
            end_at_zero(ax)
        legend_below(figure, drawn([ax]), None if sure else TOO_FEW)
    return Drawn(figure, [ax])


STRATEGY_PANELS = {
    "strategy_test_error": "test error (true labels)",
    "best_test_error_fresh": "",  # drawn as the oracle's line in the first panel
    "selection_auc": "",  # of the last network; in the figure's table only
    "kept_precision": "correctly labelled\namong those trained on",
    "kept_recall": "trained on among\nthe correctly labelled",
}


def figure_strategies(table: pd.DataFrame) -> Drawn:
    """Strategies (lines) by noise rate, a column for each kind of label noise; means and 95 % intervals over seeds.

    `table` has noise, name, rate, and mean, low and high of STRATEGY_PANELS. The oracle knows the test error of ordinary
    training at every recorded step and stops at the best; it is judged by other test samples than those that it knows. Where
    one line lies on another in all panels the legend says so.
    """
    kinds, names = sorted(table["noise"].unique(), reverse=True), [name for name in table["name"].unique() if name != "none"]
    # Two styles and five colours have no common factor: ten pairs before one repeats.
    styles = zip(itertools.cycle(("-", "--")), itertools.cycle((SIGNAL, NOISY, CLEAN, "#CC79A7", "#E69F00")), strict=False)
    looks = dict(zip(names, styles, strict=False))
    # Ordinary training has its own look in all figures, whatever other strategies there are.
    looks["none"] = ("-", PLAIN)
    # Early stopping selects no samples: its panels would be empty.
    selects = not all(name.startswith("early_stopping") for name in names)
    panels = [value for value, name in STRATEGY_PANELS.items() if name and (selects or value == "strategy_test_error")]
    panels = shown({value: [value] for value in panels})
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(
            figsize=(3.2 * max(len(kinds), 1.4), 1.7 * len(panels) + 0.4), least=1.3 * len(kinds) + 0.5, layout="constrained"
        )
        axes = figure.subplots(len(panels), len(kinds), sharex="col", sharey="row", squeeze=False)
        # Ordinary training first: the first line is the thickest, and what lies on it does not hide it.
        order = ["none", *names]
        called = _called(table, order, panels)
        for column, kind in enumerate(kinds):
            for number, name in enumerate(order):
                part, (style, colour) = table[(table["noise"] == kind) & (table["name"] == name)], looks[name]
                look = {"color": colour, "linestyle": style, "linewidth": thickness(number, len(order)), "label": called[name]}
                for ax, value in zip(axes[:, column], panels, strict=True):
                    error = part[f"{value}_high"] - part[f"{value}_mean"]
                    ax.errorbar(part["rate"], part[f"{value}_mean"], error, elinewidth=1.2, **look)
                if name == "none":
                    best = part["best_test_error_fresh_mean"]
                    axes[0, column].plot(part["rate"], best, ":", color=PLAIN, label="oracle stopping")
            axes[0, column].set_title(f"{kind} label noise")
            axes[-1, column].set_xlabel(label("noise.rate"))
        for ax, value in zip(axes[:, 0], panels, strict=True):
            ax.set_ylabel(STRATEGY_PANELS[value])
            if value == "strategy_test_error":
                end_at_zero(ax)
            else:
                ax.set_ylim(top=min(ax.get_ylim()[1], 1.02))  # a share
        sure = table["strategy_test_error_low"].notna().any()
        legend_below(figure, drawn(axes.flat), None if sure else TOO_FEW)
    return Drawn(figure, [*axes.flat])


def _called(table: pd.DataFrame, names: list[str], panels: Sequence[str]) -> dict[str, str]:
    """What the legend calls each strategy."""
    means = [
        table.pivot(index="name", columns=["noise", "rate"], values=f"{value}_mean").reindex(names).to_numpy(float)
        for value in panels
    ]
    covered = lying_on(means)
    ending = {names[line]: f" (lies on {level(names[other])})" for line, other in covered.items()}
    return {name: level(name) + ending.get(name, "") for name in names}
