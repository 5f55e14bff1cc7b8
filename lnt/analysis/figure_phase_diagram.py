"""Figures of phase diagrams: the map with its boundary, and the collapse on the theory's combination of parameters."""

from collections.abc import Mapping
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lnt.analysis.figure_style import DOUBLE, SINGLE, STYLE, NotebookFigure, label
from lnt.analysis.phase_diagram import Boundary, Facet, PowerLaw
from lnt.column_names import ERRORS
from lnt.theory.laws import coordinate, value_at

SYMBOLS = {  # of theory.laws.coordinate
    "data.dim": "d",
    "data.n_train": "n",
    "data.signal_norm": r"|\mu|",
    "data.snr": r"\mathrm{SNR}",
    "data.noise_std": "s",
    "noise.rate": r"(1-2\tau)",
}


def is_log(values: np.ndarray) -> bool:
    """Whether an axis needs a logarithmic scale: positive, wide, and spaced more evenly in factors than in steps."""
    if len(values) < 3 or values[0] <= 0 or values[-1] < 10 * values[0]:
        return False
    steps, factors = np.diff(values), np.diff(np.log(values))
    return bool(factors.std() / factors.mean() < steps.std() / steps.mean())


def scale_axis(ax: Axes, which: Literal["x", "y"], values: np.ndarray) -> None:
    """Linear, or logarithmic with ticks at 1, 2 and 5 where there are too few powers of ten."""
    if not is_log(values):
        return
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    if values[-1] / values[0] < 100:
        axis = ax.xaxis if which == "x" else ax.yaxis
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
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


def figure_phase_diagram(facets: Mapping[str, Facet], x: str, y: str, value: str, width: float = DOUBLE) -> Figure:
    """A value over two swept keys, one panel for each facet, on true coordinates; empty cells are hatched.

    White line and band: where the mean over seeds crosses a level, and its 95 % bootstrap interval. Dashed: the theory's
    power law with its fitted constant.
    """
    with mpl.rc_context(STYLE):
        columns = min(3, len(facets))
        rows = -(-len(facets) // columns)
        panel = width / columns
        figure = NotebookFigure(figsize=(width, rows * min(0.85 * panel, 3.6) + 0.2), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        # One range for all panels, as they share a colour bar.
        low, high = _colour_range(value, [facet.data.mean for facet in facets.values()])
        for ax, (title, facet) in zip(axes.flat, facets.items(), strict=False):
            data = facet.data
            ax.set_facecolor("white")
            # The background is hatched: it shows where pcolormesh leaves out NaN.
            ax.patch.set(hatch="////", edgecolor="0.7", linewidth=0)
            edges_x, edges_y = cell_edges(data.x), cell_edges(data.y)
            mesh = ax.pcolormesh(edges_x, edges_y, data.mean, cmap="viridis", vmin=low, vmax=high, rasterized=True)
            scale_axis(ax, "x", data.x)
            scale_axis(ax, "y", data.y)
            ax.set_title(title)
            if facet.edge is not None:
                _add_boundary(ax, data.x, facet.edge, facet.law, (x, y))
        for ax in axes.flat[len(facets) :]:
            ax.set_visible(False)
        figure.supxlabel(label(x), fontsize=8)
        figure.supylabel(label(y), fontsize=8)
        figure.colorbar(mesh, ax=axes, label=label(value))
    return figure


def _colour_range(value: str, means: list[np.ndarray]) -> tuple[float, float]:
    """Errors run from 0 to chance at least; anything else over what was measured."""
    finite = np.concatenate([mean[np.isfinite(mean)] for mean in means])
    if finite.size == 0:
        return 0.0, 1.0
    return (0.0, max(0.5, float(finite.max()))) if value in ERRORS else (float(finite.min()), float(finite.max()))


def _add_boundary(ax: Axes, x: np.ndarray, edge: Boundary, law: PowerLaw | None, keys: tuple[str, str]) -> None:
    """The measured boundary with its band, and the theory's power law."""
    # The theory's line may leave the map by far, and would rescale the axes.
    limits = ax.get_xlim(), ax.get_ylim()
    ax.fill_between(x, edge.low, edge.high, color="white", alpha=0.45, linewidth=0)
    ax.plot(x, edge.y, color="white", label=f"measured: {edge.level:.3g}")
    if law is not None:
        exponent, error = law.exponent[0], (law.exponent[2] - law.exponent[1]) / 2
        form = rf"${SYMBOLS[keys[1]]} \propto {SYMBOLS[keys[0]]}^{{{law.predicted:.2g}}}$"
        text = f"theory: {form}\n(measured {exponent:.2f} ± {error:.2f})"
        y = value_at(keys[1], law.constant[0] * coordinate(keys[0], x) ** law.predicted)
        ax.plot(x, y, color="#E69F00", linestyle="--", label=text)
    ax.set(xlim=limits[0], ylim=limits[1])
    ax.legend(loc="best", facecolor="0.25", labelcolor="white", framealpha=0.6)


def figure_collapse(
    combination: np.ndarray, value: np.ndarray, colour: np.ndarray, names: tuple[str, str, str], r2: float
) -> Figure:
    """Cell means of a value against the theory's combination of parameters; `names` of combination, value and colour."""
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(SINGLE, 2.6), layout="constrained")
        ax = figure.subplots()
        norm = mpl.colors.LogNorm() if is_log(np.unique(colour)) else None
        points = ax.scatter(combination, value, c=colour, s=3, cmap="viridis", norm=norm, linewidth=0, rasterized=True)
        ax.set_xscale("log")
        ax.set(xlabel=names[0], ylabel=label(names[1]), title=f"collapse: $R^2$ = {r2:.3f}")
        figure.colorbar(points, label=label(names[2]))
    return figure
