"""Figures with time: a metric over one swept key and time, and a phase diagram that moves."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.patheffects import withStroke

from lnt.analysis.figure_legend import drawn, legend_below, titled
from lnt.analysis.figure_names import heading, quantity
from lnt.analysis.figure_phase_diagram import cell_edges, maps
from lnt.analysis.figure_style import STYLE, Drawn, NotebookFigure
from lnt.analysis.time_diagram import TimePanel

ENDS = {  # of TimePanel.ends: name, colour, dashes; predictions have the colours that they have in phase diagrams
    "t1": ("$T_1$", "#E69F00", "--"),
    "fitted": ("clean samples fitted", "white", "-."),
    "memorised": ("half of the mislabelled\nmemorised", "white", "-"),
    "predicted": ("the same by mean-field\ntheory, nothing fitted", "#F7A6C8", ":"),
    "stopped": ("stopped early", "white", "--"),
}
NAME_POINTS = 18  # height of a name of two lines
LEAST = 5.0  # inches, of a figure that has room for names beside its panels
SECONDS, LAST_SECONDS = 0.15, 2.0  # a picture stands, and the last one


def figure_time(panels: Mapping[str, TimePanel], x: str, clock: str, value: str, level: float | None = None) -> Drawn:
    """A metric over a swept key and time: means over seeds at the last recorded step up to then, one panel for each facet.

    White: no run of the column is as long; hatched: planned columns without a completed run. Lines are medians over runs: when
    the stages end, and when theory says so. They are named at their ends in the last panel; in a legend if this lacks one of
    them, or has no room beside it. Black: where the mean crosses `level`.
    """
    with mpl.rc_context(STYLE):
        means = {title: panel.data.mean for title, panel in panels.items()}
        first = next(iter(panels.values())).data
        figure, axes, _ = _titled_maps(means, (first.x, first.y), (x, clock), value)
        for ax, panel in zip(axes, panels.values(), strict=True):
            _mark_absent(ax, panel)
            for name, times in panel.ends.items():
                text, colour, style = ENDS[name]
                dot, halo = "" if name in ("t1", "predicted") else ".", [withStroke(linewidth=3, foreground="0.15")]
                ax.plot(panel.data.x, times, style, color=colour, marker=dot, markersize=3, path_effects=halo, label=text)
            mean = panel.data.mean
            if level is not None and (mean < level).any() and (mean > level).any():
                line = ax.contour(panel.data.x, panel.data.y, mean, levels=[level], colors="black")
                names = ax.clabel(line, fmt=f"{quantity(value)} = {level:.3g}", fontsize=6)
                for mark in (line, *names):
                    mark.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        *_, last = panels.values()
        same = all(panel.ends.keys() <= last.ends.keys() for panel in panels.values())
        beside = figure.get_figwidth() >= LEAST and axes[-1].get_subplotspec().is_last_col()  # type: ignore[union-attr]
        if same and beside:
            # Other panels have no room beside them.
            _name_ends(axes[-1], last, NAME_POINTS / _height(figure, axes))
        else:
            legend_below(figure, drawn(axes), loc="outside upper center")
    return Drawn(figure, axes)


def animation(
    means: Mapping[str, np.ndarray],
    axes: tuple[np.ndarray, np.ndarray],
    keys: tuple[str, str],
    times: np.ndarray,
    value: str,
) -> bytes:
    """A phase diagram over time as GIF: means [T, Y, X] of each panel over the points of both axes, under their titles."""
    from PIL import Image

    pictures = []
    with mpl.rc_context(STYLE):
        figure, _, meshes = _titled_maps(means, axes, keys, value)
        title = figure.suptitle("", fontsize=mpl.rcParams["font.size"])
        figure.set_dpi(120)
        canvas = FigureCanvasAgg(figure)
        for place, time in enumerate(times):
            title.set_text(f"gradient step {time:g}")
            for mesh, mean in zip(meshes, means.values(), strict=True):
                mesh.set_array(mean[place])
            canvas.draw()
            # Laid out once: a picture that moves about shows nothing.
            figure.set_layout_engine("none")
            pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize())
    file, stands = BytesIO(), [1000 * SECONDS] * (len(pictures) - 1) + [1000 * LAST_SECONDS]
    pictures[0].save(file, "gif", save_all=True, append_images=pictures[1:], duration=stands, loop=0)
    return file.getvalue()


def _titled_maps(
    means: Mapping[str, np.ndarray], points: tuple[np.ndarray, np.ndarray], keys: tuple[str, str], value: str
) -> tuple[NotebookFigure, list[Axes], list[QuadMesh]]:
    """Maps as those of phase diagrams, with their titles."""
    figure, axes, meshes = maps(means, points, keys, value)
    columns = axes[0].get_subplotspec().get_gridspec().ncols  # type: ignore[union-attr]
    for ax, title in zip(axes, means, strict=True):
        titled(ax, heading(title), figure.get_figwidth() / columns - 0.5)
    return figure, axes, meshes


def _mark_absent(ax: Axes, panel: TimePanel) -> None:
    """Hatch the planned columns without a completed run."""
    edges, missing = cell_edges(panel.data.x), panel.data.missing
    for column in np.flatnonzero((missing == 1).all(0)) if missing is not None else ():
        ax.axvspan(edges[column], edges[column + 1], facecolor="white", edgecolor="0.7", hatch="////", linewidth=0)


def _height(figure: NotebookFigure, axes: Sequence[Axes]) -> float:
    """About the height of a map in points, before the layout: the rest of its row holds titles and ticks."""
    rows = len({ax.get_subplotspec().rowspan.start for ax in axes})  # type: ignore[union-attr]
    return 0.8 * 72 * figure.get_figheight() / rows


def _name_ends(ax: Axes, panel: TimePanel, gap: float) -> None:
    """The names of the lines beside the map, each at the height where its line ends, or else `gap` apart."""
    found = []
    for name, times in panel.ends.items():
        last = np.flatnonzero(np.isfinite(times))[-1]
        at = panel.data.x[last], times[last]
        found.append((ax.transAxes.inverted().transform(ax.transData.transform(at))[1], at, ENDS[name][0]))
    found.sort()
    heights = spread(np.array([height for height, _, _ in found]), gap)
    for height, (_, at, text) in zip(heights, found, strict=True):
        line = {"arrowstyle": "-", "linewidth": 0.6, "color": "0.15", "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
        place = (1.05, float(height))
        ax.annotate(text, at, place, "data", "axes fraction", line, annotation_clip=False, va="center", fontsize=6.5)


def spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """Ascending heights in [0, 1], moved as little as possible (in least squares) to lie `gap` apart."""
    from scipy.optimize import isotonic_regression  # see goodness_of_fit

    if not len(heights):
        return heights
    steps = gap * np.arange(len(heights))
    # Apart by a gap is ascending without the steps.
    return isotonic_regression(heights - steps).x.clip(0, 1 - steps[-1]) + steps
