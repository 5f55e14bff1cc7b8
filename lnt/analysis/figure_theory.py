"""Figures of the mean-field theory beside what was measured: run by run, and as phases."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.ticker import NullFormatter

from lnt.analysis.figure_legend import by_label, legend_above
from lnt.analysis.figure_names import label
from lnt.analysis.figure_phase_diagram import add_contour, cell_edges, scale_axis
from lnt.analysis.figure_style import DOUBLE, NOISY, PLAIN, SIGNAL, SINGLE, STYLE, Drawn, NotebookFigure, shown

PHASES = ("no Stage I", "Stage I with a price", "Stage I without a price")
COLOURS = ("#D9D9D9", "#E8A87C", "#9CC5DE")
PRICE = 0.01  # of memorising, from which a Stage I has one
FEW = 200  # runs, up to which points are drawn larger
SHOWN_ERROR = 1e-3  # errors below it are drawn on it: a test set cannot tell them apart


def figure_predicted(table: pd.DataFrame) -> Drawn:
    """Each run's memorising time, final and lowest test error against what theory predicts at its own label counts.

    Columns: `memorised` in T1, `test_error`, `best_test_error_fresh`, and the same with the suffix _predicted.
    """
    with mpl.rc_context(STYLE):
        names = {"memorised": r"$t/T_1$ when half is memorised", "test_error": label("test_error")}
        names["best_test_error_fresh"] = label("best_test_error_fresh")
        panels = shown({column: [column] for column in names})
        share = len(panels) / len(names)
        figure = NotebookFigure(figsize=(DOUBLE * share, 2.5), least=5 * share, layout="constrained")
        axes = list(figure.subplots(1, len(panels), squeeze=False).flat)
        for ax, column in zip(axes, panels, strict=True):
            least = 0.05 if column == "memorised" else SHOWN_ERROR
            both = table[[f"{column}_predicted", column]].replace(np.inf, np.nan).dropna().clip(lower=least)
            few = len(both) <= FEW
            size, alpha = (16, 0.7) if few else (4, 0.35)
            # Points on the edge stand for smaller values: they must not be cut in half.
            ax.scatter(*both.to_numpy(float).T, s=size, color=NOISY, alpha=alpha, linewidth=0, rasterized=True, clip_on=False)
            low, high = least * 0.9, max(float(both.max().max()), 10 * least) * 1.1 if len(both) else 10 * least
            ax.plot([low, high], [low, high], color=PLAIN, linewidth=0.8)
            ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel="predicted", ylabel="measured")
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_minor_formatter(NullFormatter())  # there are two powers of ten at least
            small = int((both == least).all(axis=1).sum())
            ax.set_title(f"{names[column]}\n{len(both)} runs" + (f", {small} below {least:g}" if small else ""))
    return Drawn(figure, axes)


def figure_phases(phases: pd.DataFrame) -> Drawn:
    """Which phase each cell is in, measured, with the predicted borders kappa (1 - 2 tau) = 1 and 2, over kappa and tau.

    One row for each cell: `kappa`, `rate`, `staged` (share of runs with a Stage I), `price` (of memorising, mean), and both
    with the suffix _predicted, whose borders are drawn too. Cells without a mislabelled sample have no phase and are hatched.
    """
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(SINGLE * 1.4, 3.0), layout="constrained")
        ax = figure.subplots()
        ax.patch.set(hatch="////", edgecolor="0.7", linewidth=0)
        columns = [column for column in phases if column not in ("kappa", "rate")]
        grids = {column: phases.pivot(index="rate", columns="kappa", values=column).to_numpy(float) for column in columns}
        x, y = (np.unique(phases[key].astype(float)) for key in ("kappa", "rate"))
        phase = np.where(grids["staged"] < 0.5, 0, np.where(grids["price"] >= PRICE, 1, 2))
        coloured = np.where(np.isfinite(grids["staged"]), phase, np.nan)
        norm = BoundaryNorm([-0.5, 0.5, 1.5, 2.5], 3)
        mesh = ax.pcolormesh(cell_edges(x), cell_edges(y), coloured, cmap=ListedColormap(COLOURS), norm=norm, rasterized=True)
        scale_axis(ax, "x", x)
        combined = x * (1 - 2 * y[:, None])
        marks = []
        for border, style in ((1, "-"), (2, "--")):
            marks += add_contour(ax, x, y, combined, border, SIGNAL, style, rf"$\kappa(1-2\tau) = {border}$")
        marks += add_contour(ax, x, y, grids["staged_predicted"], 0.5, "black", "-", "theory: Stage I in half of the runs")
        priced = np.where(grids["staged_predicted"] < 0.5, np.nan, grids["price_predicted"])
        marks += add_contour(ax, x, y, priced, PRICE, "black", ":", f"theory: price {PRICE:g}")
        ax.set(xlabel=r"$\kappa = n\,\mathrm{SNR}^2$", ylabel=label("noise.rate"))
        room = 72 * (figure.get_figwidth() - 1.5)
        figure.set_figheight(figure.get_figheight() + legend_above(ax, by_label(marks), room))
        bar = figure.colorbar(mesh, ax=ax, ticks=[0, 1, 2])
        bar.ax.set_yticklabels([name.replace("Stage I ", "Stage I\n") for name in PHASES])
    return Drawn(figure, [ax])
