"""Figures of phase diagrams: the map with its boundary, and the collapse on the theory's combination of parameters."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import QuadMesh
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lnt.analysis.figure_legend import LINE, Entries, by_label, legend_above, legend_below, wrapped
from lnt.analysis.figure_line_marks import alone, draw_intervals
from lnt.analysis.figure_names import heading, label, quantity
from lnt.analysis.figure_style import DOUBLE, SINGLE, STYLE, Drawn, NotebookFigure, fitted, side_by_side
from lnt.analysis.goodness_of_fit import Fit
from lnt.analysis.phase_diagram import Boundary, Facet, Grid
from lnt.column_names import ERRORS
from lnt.intervals import FEWEST_SEEDS, TOO_FEW
from lnt.level_set import is_log

SMALL_ERROR = 0.15  # below it the scale of an error does not reach up to chance
SYMBOLS = {  # of theory.laws.coordinate
    "data.dim": "d",
    "data.n_train": "n",
    "data.signal_norm": r"|\mu|",
    "data.snr": r"\mathrm{SNR}",
    "data.noise_std": "s",
    "noise.rate": r"(1-2\tau)",
}
NARROW = 1.8  # inches of a panel with its ticks


def scale_axis(ax: Axes, which: Literal["x", "y"], values: np.ndarray) -> None:
    """Linear, or logarithmic with ticks between powers of ten where there are too few of these; two values have a tick each."""
    # All points of the axis are in view, also those without a value.
    ax.update_datalim(np.stack([values, values], 1), updatex=which == "x", updatey=which == "y")
    if len(values) == 2:
        (ax.set_xticks if which == "x" else ax.set_yticks)(values)
    if is_log(values):
        (ax.set_xscale if which == "x" else ax.set_yscale)("log")
        _log_ticks(ax.xaxis if which == "x" else ax.yaxis, values, which == "x" and _is_narrow(ax))


def _is_narrow(ax: Axes) -> bool:
    """Whether a panel has no room for many numbers below it."""
    place, figure = ax.get_subplotspec(), ax.get_figure(root=True)
    return place is not None and figure is not None and figure.get_figwidth() / place.get_gridspec().ncols < NARROW


def _log_ticks(axis: Axis, values: np.ndarray, narrow: bool) -> None:
    """Ticks of a logarithmic axis: also between powers of ten where these are too few, as far as narrow panels have room."""
    if (ratio := values[-1] / values[0]) < 100:
        few, many = ((1, 3), (1,)) if narrow else ((1, 2, 5), (1, 3))
        axis.set_major_locator(LogLocator(subs=few if ratio < 20 else many))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def cell_edges(centres: np.ndarray) -> np.ndarray:
    """Edges [X + 1] halfway between the centres [X] of cells, on the scale (linear or log) that their axis is drawn on."""
    # A single cell has no neighbour to give it a width: any width will do.
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    values = np.log(centres) if is_log(centres) else centres
    middle = (values[1:] + values[:-1]) / 2
    # The outer cells reach as far out as they reach in.
    edges = np.r_[2 * values[0] - middle[0], middle, 2 * values[-1] - middle[-1]]
    return np.exp(edges) if is_log(centres) else edges


def figure_phase_diagram(
    facets: Mapping[str, Facet], x: str, y: str, value: str, width: float = DOUBLE, published: pd.DataFrame | None = None
) -> Drawn:
    """A value over two swept keys, one panel for each facet, on true coordinates.

    Hatched: planned cells without a completed run; crossed: no run of the cell has a value, as of a stage that none reaches;
    dots: means of fewer seeds than planned or than in other cells; white: nothing planned.
    White line with a black edge, and band (black alone on the empty map of a sweep with refine=boundary): where the mean over
    seeds crosses a level for good, and its band (`level_set.band`). Dashed: the theory's boundary with its fitted constant.
    Dotted: where the mean-field prediction crosses the level, with nothing fitted. Circles: `published` cells
    (analysis.reference), in the same colours.
    """
    with mpl.rc_context(STYLE):
        first = next(iter(facets.values())).data
        means = {title: facet.data.mean for title, facet in facets.items()}
        figure, axes, meshes = maps(means, (first.x, first.y), (x, y), value, width)
        entries = []
        for ax, mesh, facet in zip(axes, meshes, facets.values(), strict=True):
            data = facet.data
            marks = _mark_cells(ax, data)
            if published is not None:
                look: dict[str, Any] = {"s": 14, "edgecolor": "white", "linewidth": 0.6, "label": "published, same colours"}
                low, high = mesh.get_clim()
                shades: dict[str, Any] = {"c": published["theirs"], "cmap": mesh.cmap, "vmin": low, "vmax": high}
                marks.append(ax.scatter(published[x], published[y], **shades, **look))
            if facet.edge is not None:
                marks += _add_boundary(ax, facet, facet.edge, (x, y), quantity(value))
                if facet.predicted is not None:
                    name = "mean-field theory,\nnothing fitted"
                    marks += add_contour(ax, data.x, data.y, facet.predicted, facet.edge.level, "#F7A6C8", ":", name)
            entries.append(by_label(marks))
        _add_legends(figure, axes, list(facets), entries)
    return Drawn(figure, axes)


def maps(
    means: Mapping[str, np.ndarray],
    points: tuple[np.ndarray, np.ndarray],
    keys: tuple[str, str],
    value: str,
    width: float = DOUBLE,
) -> tuple[NotebookFigure, list[Axes], list[QuadMesh]]:
    """A map for each panel on the same axes and colours, without titles; of means [T, Y, X] the last is shown."""
    columns = side_by_side(len(means), fitted(width), 1.5)
    rows, panel = -(-len(means) // columns), fitted(width) / columns
    figure = NotebookFigure(figsize=(width, rows * min(0.85 * panel, 3.6) + 0.2), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    # One range for all panels, as they share a colour bar.
    low, high = colour_range(value, list(means.values()))
    edges, axes, meshes = [cell_edges(part) for part in points], list(grid.flat[: len(means)]), []
    for ax, mean in zip(axes, means.values(), strict=True):
        shown = mean.reshape(-1, *mean.shape[-2:])[-1]
        meshes.append(ax.pcolormesh(*edges, shown, cmap="viridis", vmin=low, vmax=high, rasterized=True))
        scale_axis(ax, "x", points[0])
        scale_axis(ax, "y", points[1])
        # Lines may leave the map, and are not to rescale it.
        ax.set(xlim=edges[0][[0, -1]], ylim=edges[1][[0, -1]])
    for ax in grid.flat[len(means) :]:
        ax.set_visible(False)
    figure.supxlabel(label(keys[0]))
    figure.supylabel(label(keys[1]))
    figure.colorbar(meshes[0], ax=grid, label=label(value))
    return figure, axes, meshes


def _add_legends(figure: NotebookFigure, axes: Sequence[Axes], titles: Sequence[str], entries: Sequence[Entries]) -> None:
    """Titles and legends above the maps, on which there is no place without data. What all panels have is said once."""
    common = {text: entries[0][text] for text in entries[0] if len(axes) > 1 and all(text in own for own in entries)}
    legend_below(figure, common, loc="outside upper center")
    rows, columns = axes[0].get_subplotspec().get_gridspec().get_geometry()  # type: ignore[union-attr]
    panel, heights = figure.get_figwidth() / columns, np.zeros(rows * columns)
    for number, (title, own) in enumerate(zip(titles, entries, strict=True)):
        room, rest = 72 * (panel - 0.9), {text: mark for text, mark in own.items() if text not in common}
        words = wrapped(heading(title), 72 * (panel - 0.5), mpl.rcParams["font.size"])
        heights[number] = legend_above(axes[number], rest, room, words)
        if not rest:  # the title alone
            heights[number] = words.count("\n") * LINE * mpl.rcParams["font.size"] / 72
    figure.set_figheight(figure.get_figheight() + heights.reshape(rows, columns).max(1).sum())


def colour_range(value: str, means: list[np.ndarray]) -> tuple[float, float]:
    """Errors run from 0 to chance at least; anything else over what was measured."""
    finite = np.concatenate([mean[np.isfinite(mean)] for mean in means])
    if finite.size == 0:
        return 0.0, 1.0
    lowest, highest = float(finite.min()), float(finite.max())
    if value not in ERRORS:
        return lowest, highest
    # Chance is the natural end of the scale, unless that would leave one colour of it.
    return 0.0, max(0.5, highest) if highest > SMALL_ERROR else max(math.ceil(100 * highest) / 100, 0.01)


def _mark_cells(ax: Axes, data: Grid) -> list[Artist]:
    """Mark the cells that have no run, no value, or few seeds; what the legend says of them."""
    marks: list[Artist] = []
    edges, white = (cell_edges(data.x), cell_edges(data.y)), mpl.colors.ListedColormap(["white"])
    missing = np.zeros(data.mean.shape) if data.missing is None else data.missing
    absent = missing == 1
    if absent.any():
        ax.set_facecolor("white")
        # The background is hatched; white cells below the coloured ones hide it where nothing is missing.
        ax.patch.set(hatch="////", edgecolor="0.7", linewidth=0)
        ax.pcolormesh(*edges, np.where(absent, np.nan, 1.0), cmap=white, zorder=-1, rasterized=True)
        text = f"no run: {absent.sum()} of {np.isfinite(missing).sum()} cells"
        marks.append(Patch(facecolor="white", edgecolor="0.7", hatch="////", label=text))
    valueless = (missing < 1) & np.isnan(data.mean) & (data.missing is not None)
    if valueless.any():
        crossed: Any = {"facecolor": "white", "edgecolor": "0.7", "hatch": "xxxx"}
        ax.pcolor(*edges, np.where(valueless, 1.0, np.nan), cmap=white, zorder=0.5, rasterized=True).set(**crossed, linewidth=0)
        marks.append(Patch(**crossed, label=f"no run has a value: {_cells(valueless)}"))
    few = few_seeds(data)
    if few.any():
        j, i = np.nonzero(few)
        look: Any = {"marker": "o", "color": "white", "markersize": 2, "markeredgecolor": "black", "markeredgewidth": 0.5}
        ax.plot(data.x[i], data.y[j], linestyle="", **look)
        low, high = data.count[few].min(), data.count[few].max()
        seeds = f"{low}" if low == high else f"{low} to {high}"
        text = f"mean of {seeds} seed{'s' if high > 1 else ''}, fewer than\nplanned or in others: {_cells(few)}"
        marks.append(Line2D([], [], linestyle="", label=text, **{**look, "markersize": 4}))
    return marks


def _cells(which: np.ndarray) -> str:
    return "1 cell" if which.sum() == 1 else f"{which.sum()} cells"


def few_seeds(data: Grid) -> np.ndarray:
    """[Y, X], the cells whose mean is of fewer seeds than planned or than in other cells.

    Cells of refine=boundary have different numbers on purpose: there few are fewer than FEWEST_SEEDS.
    """
    most = data.count.max(initial=0)
    enough = most if data.asked is None else min(FEWEST_SEEDS, most)
    partial = False if data.missing is None else (data.missing > 0) & (data.missing < 1)
    return (data.count > 0) & ((data.count < enough) | partial)


def _add_boundary(ax: Axes, facet: Facet, edge: Boundary, keys: tuple[str, str], name: str) -> list[Artist]:
    """The measured boundary with its band, and the theory's; what the legend shows of them."""
    x, law = facet.data.x, facet.law
    if not facet.crosses:
        return []
    # The theory's line may leave the map by far, and would rescale the axes.
    limits = ax.get_xlim(), ax.get_ylim()
    # Of a sweep with refine=boundary most of the map is empty, and white.
    colour = "white" if facet.data.asked is None else "black"
    draw_intervals(ax, x, edge.low, edge.high, colour, 0.45 if facet.data.asked is None else 0.25)
    text = f"{name} = {edge.level:.3g}" + ("" if np.isfinite(edge.low).any() else f"\n({TOO_FEW})")
    # With a black edge it is seen on every colour of the map, and on the white of the legend.
    edged = [Stroke(linewidth=2.6, foreground="black"), Normal()] if colour == "white" else []
    single = alone(np.isfinite(edge.y))
    point: Any = {"marker": "o", "markersize": 3, "markevery": single} if single.any() else {}
    shown: list[Artist] = [*ax.plot(x, edge.y, color=colour, label=text, path_effects=edged, **point)]
    if law is not None and facet.line is not None:
        exponent, low, high = law.exponent
        form = rf"${SYMBOLS[keys[1]]} \propto {SYMBOLS[keys[0]]}^{{{law.predicted:.2g}}}$"
        interval = f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else ""
        text = f"theory: {form}\n(measured {exponent:.2f}{interval})"
        shown += ax.plot(x, facet.line, color="#E69F00", linestyle="--", label=text)
    ax.set(xlim=limits[0], ylim=limits[1])
    return shown


def add_contour(
    ax: Axes, x: np.ndarray, y: np.ndarray, values: np.ndarray, level: float, colour: str, style: Any, name: str
) -> list[Artist]:
    """The line on which values [Y, X] cross a level, if they do, and what the legend shows of it."""
    finite = values[np.isfinite(values)]
    if min(values.shape) < 2 or not finite.size or not finite.min() < level < finite.max():
        return []
    limits = ax.get_xlim(), ax.get_ylim()
    lines = ax.contour(x, y, values, levels=[level], colors=[colour], linestyles=[style], linewidths=1.2)
    ax.set(xlim=limits[0], ylim=limits[1])
    # Between cells without a value there is no line, though values on both sides of the level are there. A contour has no
    # handle of its own.
    there = any(np.size(path.vertices) for path in lines.get_paths())
    return [Line2D([], [], color=colour, linestyle=style, linewidth=1.2, label=name)] if there else []


def figure_collapse(
    combination: np.ndarray, value: np.ndarray, colour: np.ndarray, names: tuple[str, str, str], fits: Sequence[Fit]
) -> Drawn:
    """Cell means of a value against the law's combination of parameters; `names` of combination, value and colour.

    Beside it stand the R^2 in held-out cells of the law, of rival exponents, and of shuffled values.
    """
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(SINGLE, 2.6), layout="constrained")
        ax = figure.subplots()
        levels = np.unique(colour)
        norm = (mpl.colors.LogNorm if is_log(levels) else mpl.colors.Normalize)(levels[0], levels[-1])
        points = ax.scatter(combination, value, c=colour, s=3, cmap="viridis", norm=norm, linewidth=0, rasterized=True)
        ax.set_xscale("log")
        ax.set(xlabel=names[0], ylabel=label(names[1]), title=f"$R^2$ in held-out cells: {fits[0].r2:.3f}")
        rivals = [fit for fit in fits if fit.kind == "rival"]
        rows = [
            f"${_product(fit.exponents)}${f' without {fit.without}' if fit.without else ''}: {fit.r2:.3f}" for fit in rivals
        ]
        rows += [f"shuffled: {fit.r2:.3f}" for fit in fits if fit.kind == "shuffled"]
        legend_below(figure, {row: Line2D([], [], linestyle="") for row in rows}, "$R^2$ of rivals", handlelength=0)
        bar = figure.colorbar(points, label=label(names[2]))
        if is_log(levels):
            _log_ticks(bar.ax.yaxis, levels, narrow=False)
    return Drawn(figure, [ax])


def _product(exponents: Mapping[str, float]) -> str:
    """Powers of parameters, as TeX."""
    powers = {key: f"^{{{power:g}}}" if power != 1 else "" for key, power in exponents.items() if power}
    return r"\,".join(SYMBOLS[key] + power for key, power in powers.items())
