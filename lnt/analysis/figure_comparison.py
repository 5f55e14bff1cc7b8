"""Figures of comparisons: lines over numbers, points with intervals over options."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lnt.analysis.comparison import Comparison
from lnt.analysis.figure_legend import LINE, drawn, legend_below, text_size, titled, width, wrapped
from lnt.analysis.figure_line_marks import draw_intervals, end_at_zero, is_never_negative, lying_on, thickness
from lnt.analysis.figure_names import label, level, quantity
from lnt.analysis.figure_phase_diagram import scale_axis
from lnt.analysis.figure_style import (
    CATEGORIES,
    PLAIN,
    SIGNAL,
    SINGLE,
    STYLE,
    Drawn,
    NotebookFigure,
    fitted,
    on_paper,
    side_by_side,
)
from lnt.analysis.reference import Against
from lnt.intervals import TOO_FEW

MARKERS, DASHES = ("o", "s", "^", "D", "v", "P", "X", "*"), ("-", "--", ":", "-.")
LONGEST, ANGLE = 40, 25  # letters in the names of options, beyond which they are slanted in a column, and by how many degrees
LONGEST_LINE = 130.0  # points, of the name of an option below the axis
SOME = "ring: mean over some of the runs only"  # those that have a value; the CSV file has their number


Group = tuple[str, str]  # a level of hue and one of style


def figure_comparison(compared: Comparison, values: Sequence[str]) -> Drawn:
    """A panel for each value: means with 95 % intervals over seeds, a colour for each level of hue, dashes for those of style.

    Lines over a numeric axis, points over options. Where one line lies on another in all panels the legend says so.
    """
    table, groups = compared.table, list(itertools.product(compared.levels("hue"), compared.levels("style")))
    places = list(dict.fromkeys(table["x"]))
    # Points lie side by side.
    covered = lying_on([_means(table, groups, places, value) for value in values]) if compared.numeric else {}
    names = {group: _joined(group) for group in groups}
    for line, other in covered.items():
        names[groups[line]] += f" (lies on {_joined(groups[other])})"
    with mpl.rc_context(STYLE):
        inches = SINGLE * max(min(2, len(values)), 1.2)
        columns = side_by_side(len(values), fitted(inches), 2.5, most=2)
        rows = -(-len(values) // columns)
        figure = NotebookFigure(figsize=(inches, (1.9 if on_paper() else 2.2) * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for ax, value in zip(axes.flat, values, strict=False):
            for number, group in enumerate(groups):
                _draw(ax, compared, value, group, (number, len(groups)), names[group])
            ax.set_ylabel(label(value))
            if is_never_negative(value):
                end_at_zero(ax)
        for number, ax in enumerate(axes.flat):
            ax.set_visible(number < len(values))
        lowest = [ax for number, ax in enumerate(axes.flat) if number + columns >= len(values)]  # nothing below them
        for ax in lowest:
            ax.set_xlabel(label(compared.x))
            ax.tick_params("x", labelbottom=True)
        if compared.numeric:
            scale_axis(axes.flat[0], "x", np.array(places, float))
        else:
            ends = 1 if rows == 1 or len(values) % columns == 0 else 2  # rows below which there are names
            _name_options(figure, lowest, [wrapped(level(str(place)), LONGEST_LINE) for place in places], columns, ends)
        sure = table[[f"{value}_low" for value in values]].notna().any(axis=None)
        title = ", ".join(label(key) for key in (compared.hue, compared.style) if key)
        legend_below(figure, drawn(axes.flat), title if sure else f"{title} ({TOO_FEW})".strip())
    return Drawn(figure, [*axes.flat[: len(values)]])


def _name_options(figure: NotebookFigure, lowest: Sequence[Axes], names: Sequence[str], columns: int, ends: int) -> None:
    """Options as the ticks of the axes that share them, slanted where they are long; `ends` rows of panels have them below."""
    lowest[0].set(xlim=(-0.5, len(names) - 0.5))
    lowest[0].set_xticks(range(len(names)), names)
    if sum(map(len, names)) <= LONGEST * figure.get_figwidth() / columns / SINGLE:
        return
    lines, angle = max(name.count("\n") for name in names), math.radians(ANGLE)
    height = max(map(width, names)) * math.sin(angle) + lines * LINE * text_size() * math.cos(angle)
    figure.set_figheight(figure.get_figheight() + ends * height / 72)
    for text in (text for ax in lowest for text in ax.get_xticklabels()):
        # Each ends at its tick: centred, they would lie on one another.
        text.set(rotation=ANGLE, ha="right", rotation_mode="anchor")


def _draw(ax: Axes, compared: Comparison, value: str, group: Group, place: tuple[int, int], name: str) -> None:
    """One line, or row of points, of a value; `place` is its number among how many."""
    rows, (number, count) = _of(compared.table, group), place
    hue, style = compared.levels("hue").index(group[0]), compared.levels("style").index(group[1])
    look: dict[str, Any] = {"color": CATEGORIES[hue % len(CATEGORIES)], "marker": MARKERS[hue % len(MARKERS)], "label": name}
    mean, low, high = (rows[f"{value}_{kind}"].to_numpy(float) for kind in ("mean", "low", "high"))
    at = rows["x"].to_numpy()
    if compared.numeric:
        ax.plot(at, mean, linestyle=DASHES[style % len(DASHES)], markersize=3, linewidth=thickness(number, count), **look)
        draw_intervals(ax, at, low, high, look["color"], 0.15)
    else:
        places = list(dict.fromkeys(compared.table["x"]))
        # Side by side around the place of the option; filled or not by style.
        at = np.array([places.index(x) for x in at]) + 0.6 * ((number + 0.5) / count - 0.5)
        face = look["color"] if style == 0 else "white"
        ax.errorbar(at, mean, [mean - low, high - mean], markersize=4, linestyle="", markerfacecolor=face, **look)
    # A mean over the runs that reached the end of a stage is no mean over all.
    some = (rows[f"{value}_n"] > 0) & (rows[f"{value}_n"] < rows["n"])
    if some.any():
        ax.scatter(at[some], mean[some], 60, "none", edgecolors=look["color"], linewidths=0.7, label=SOME)


def _of(table: pd.DataFrame, group: Group) -> pd.DataFrame:
    return table[(table["hue"] == group[0]) & (table["style"] == group[1])]


def _joined(group: Group) -> str:
    return " ".join(level(name) for name in group if name)


def _means(table: pd.DataFrame, groups: Sequence[Group], places: Sequence[Any], value: str) -> np.ndarray:
    """Means [groups, places] of a value."""
    return np.stack([_of(table, g).set_index("x")[f"{value}_mean"].reindex(list(places)).to_numpy(float) for g in groups])


def figure_against(against: Against) -> Drawn:
    """Means of ours over published ones with standard errors, and the diagonal on which both agree."""
    table = against.table.replace([np.inf, -np.inf], np.nan)
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(SINGLE, 3.1), layout="constrained")
        ax = figure.subplots()
        ours, theirs = table["ours"].to_numpy(float), table["theirs"].to_numpy(float)
        errors = {"xerr": np.nan_to_num(table["theirs_se"]), "yerr": np.nan_to_num(table["ours_se"])}
        known = np.stack([ours, theirs])[:, np.isfinite(ours + theirs)]
        ends = [known.min(initial=np.inf), known.max(initial=-np.inf)]
        ax.plot(ends, ends, color=PLAIN, linewidth=0.8, label="equal")
        ax.errorbar(theirs, ours, **errors, color=SIGNAL, marker="o", markersize=3, linestyle="", linewidth=0.8)
        offset, low, high = against.offset
        interval = f" [{low:+.2g}, {high:+.2g}]" if np.isfinite(low) else ""
        titled(
            ax,
            f"{len(table)} cells: rms difference {against.rms:.3g},\nmean {offset:+.2g}{interval}",
            figure.get_figwidth() - 0.6,
        )
        ax.set(xlabel=f"published {quantity(against.value)}", ylabel=f"{quantity(against.value)} here, with its standard error")
    return Drawn(figure, [ax])
