"""Figures. Each function takes tables and returns a matplotlib Figure; `save` writes it."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lnt.analysis import Boundary, Grid, PowerLaw
from lnt.theory import coordinate, stage1_scale, value_at

# Okabe & Ito's colour-blind-safe palette
SIGNAL, CLEAN, NOISY, PLAIN = "#0072B2", "#009E73", "#D55E00", "#444444"
STYLE: Any = {  # matplotlib types rc keys as one long Literal
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.edgecolor": "none",
    "legend.fontsize": 7,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,  # embed fonts as TrueType, so that text stays text
    "savefig.dpi": 200,
}

ERRORS = ("test_error", "test_error_observed", "best_test_error")
PANELS: dict[str, dict[str, tuple[str, str]]] = {
    "coefficient (max)": {
        "signal_coef": (SIGNAL, r"signal $\gamma$"),
        "noise_coef_clean": (CLEAN, r"noise $\bar\rho$, clean samples"),
        "noise_coef_noisy": (NOISY, r"noise $\bar\rho$, mislabelled samples"),
    },
    "training accuracy\n(observed labels)": {
        "clean_accuracy": (CLEAN, "clean samples"),
        "noisy_accuracy": (NOISY, "mislabelled samples"),
    },
    "test error\n(true labels)": {"test_error": (PLAIN, "fresh samples")},
    "training loss\n(observed labels)": {
        "clean_loss": (CLEAN, "clean samples"),
        "noisy_loss": (NOISY, "mislabelled samples"),
        "train_loss": (PLAIN, "all samples"),
    },
}


def stages(groups: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> Figure:
    """Coefficients, accuracies, test error and loss against log step: a column per group of runs that differ by seed.

    `groups` maps a title to (runs, curves). Lines are means over runs, bands one standard deviation. Vertical lines:
    where clean samples are fitted and where mislabelled ones are (medians over runs), and the scale n m / (eta s^2 d). Panels
    of which nothing was measured are left out.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(groups) + 0.4, 6.6), layout="constrained")
        measured = [curves for _, curves in groups.values()]
        panels = {name: lines for name, lines in PANELS.items() if any(c[list(lines)].notna().any(axis=None) for c in measured)}
        figure.set_figheight(1.6 * len(panels) + 0.2)
        heights = 1
        axes = figure.subplots(len(panels), len(groups), sharex="col", sharey="row", squeeze=False)
        for column, (runs, curves) in enumerate(groups.values()):
            for row, (label, lines) in enumerate(panels.items()):
                ax = axes[row, column]
                _lines(ax, curves, lines)
                heights = max(heights, _boundaries(ax, runs, names=row == 0))
                if column == 0:
                    ax.set_ylabel(label)
                    ax.yaxis.set_label_coords(-0.17, 0.5)
            axes[-1, column].axhline(np.log(2), color=PLAIN, linewidth=0.8, linestyle=":")
            axes[-1, column].annotate("log 2", (1, np.log(2)), (-2, 2), ("axes fraction", "data"), "offset points", ha="right")
            axes[-1, column].set_xlabel("gradient step")
        for ax, title in zip(axes[0], groups, strict=True):
            ax.set_title(title, pad=24 if heights == 1 else 42)
        for row in range(len(panels)):
            axes[row, -1].legend(loc="best")
        axes[-1, 0].set_ylim(bottom=-0.05 * axes[-1, 0].get_ylim()[1])
        axes[-3, 0].set_ylim(-0.04, 1.04)
        axes[-2, 0].set_yscale("symlog", linthresh=1e-3, linscale=0.4)
        axes[-2, 0].set_ylim(0, 1)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write `path`.pdf with embedded fonts and `path`.png."""
    with mpl.rc_context(STYLE):
        for suffix in (".pdf", ".png"):
            figure.savefig(path.with_name(path.name + suffix))


def _lines(ax: Axes, curves: pd.DataFrame, lines: Mapping[str, tuple[str, str]]) -> None:
    """Mean and standard deviation over runs of the given metrics."""
    by_step = curves.groupby("step")[list(lines)]
    mean, deviation = by_step.mean(), by_step.std().fillna(0)
    for metric, (colour, label) in lines.items():
        if mean[metric].notna().any():
            ax.plot(mean.index, mean[metric], color=colour, label=label)
            low, high = mean[metric] - deviation[metric], mean[metric] + deviation[metric]
            ax.fill_between(mean.index, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    ax.set_xlim(0, mean.index.max())


def _boundaries(ax: Axes, runs: pd.DataFrame, names: bool) -> int:
    """Mark the ends of both stages as measured (median over runs, if most reach them), and the predicted scale of T1.

    Returns on how many heights the names stand: those of marks close together would overlap on one.
    """
    marks = [
        ("clean\nfitted", runs["stage1_step"].astype(float), CLEAN, "-"),
        ("mislabelled\nfitted", runs["stage2_step"].astype(float), NOISY, "-"),
    ]
    scale = ("data.n_train", "model.width", "step_size", "data.noise_std", "data.dim")
    if set(scale) <= set(runs):
        marks.append(("$nm/\\eta s^2d$\n(predicted)", pd.Series(stage1_scale(*(runs[key] for key in scale))), PLAIN, "--"))
    found = [(steps.fillna(np.inf).median(), name, colour, style) for name, steps, colour, style in marks]
    shown = sorted(mark for mark in found if mark[0] < ax.get_xlim()[1])
    height, before, heights = 1.02, 0.0, {1.02}
    for step, name, colour, style in shown:
        ax.axvline(step, color=colour, linewidth=0.8, linestyle=style, zorder=1)
        height, before = (1.2 if height == 1.02 and step < 4 * before else 1.02), step
        heights.add(height)
        if names:
            ax.annotate(name, (step, height), xycoords=ax.get_xaxis_transform(), color=colour, fontsize=6.5, ha="center")
    return len(heights)


SINGLE, DOUBLE = 3.35, 6.9  # column widths of a two-column paper in inches
LABELS = {
    "data.dim": "dimension $d$",
    "data.n_train": "training samples $n$",
    "data.signal_norm": r"signal norm $|\mu|$",
    "data.snr": r"SNR $|\mu|/(s\sqrt{d})$",
    "data.noise_std": "noise standard deviation $s$",
    "noise.rate": r"label noise rate $\tau$",
    "optimizer.lr": r"step size $\eta$",
    "model.width": "filters per sign $m$",
    "test_error": "test error (true labels)",
    "test_error_observed": "test error (observed labels)",
    "best_test_error": "test error at the best step",
    "price_of_memorising": "price of memorising\n(final minus best test error)",
    "stage1_step": "step: clean fitted",
    "stage2_step": "step: mislabelled fitted",
}


SYMBOLS = {  # of theory.coordinate
    "data.dim": "d",
    "data.n_train": "n",
    "data.signal_norm": r"|\mu|",
    "data.snr": r"\mathrm{SNR}",
    "data.noise_std": "s",
    "noise.rate": r"(1-2\tau)",
}


def label(key: str) -> str:
    """The axis label of a column."""
    return LABELS.get(key, key)


def is_log(values: np.ndarray) -> bool:
    """Whether an axis wants a logarithmic scale: positive, wide, and spaced more evenly in factors than in steps."""
    if len(values) < 3 or values[0] <= 0 or values[-1] < 10 * values[0]:
        return False
    steps, factors = np.diff(values), np.diff(np.log(values))
    return bool(factors.std() / factors.mean() < steps.std() / steps.mean())


def _scale(ax: Axes, which: Literal["x", "y"], values: np.ndarray) -> None:
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
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    values = np.log(centres) if is_log(centres) else centres
    middle = (values[1:] + values[:-1]) / 2
    edges = np.r_[2 * values[0] - middle[0], middle, 2 * values[-1] - middle[-1]]
    return np.exp(edges) if is_log(centres) else edges


def phase_diagram(
    facets: Mapping[str, Grid],
    x: str,
    y: str,
    value: str,
    edges: Mapping[str, Boundary] | None = None,
    laws: Mapping[str, PowerLaw] | None = None,
    width: float = DOUBLE,
) -> Figure:
    """A value over two swept keys, one panel for each facet, on true coordinates; empty cells are hatched.

    White line and band: where the mean over seeds crosses a level, and its 95 % bootstrap interval. Dashed: the theory's
    power law with its fitted constant.
    """
    edges, laws = edges or {}, laws or {}
    with mpl.rc_context(STYLE):
        columns = min(3, len(facets))
        rows = -(-len(facets) // columns)
        panel = width / columns
        figure = Figure(figsize=(width, rows * min(0.85 * panel, 3.6) + 0.2), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        low, high = _colour_range(value, [data.mean for data in facets.values()])
        for ax, (title, data) in zip(axes.flat, facets.items(), strict=False):
            ax.set_facecolor("white")
            ax.patch.set(hatch="////", edgecolor="0.7", linewidth=0)
            edges_x, edges_y = cell_edges(data.x), cell_edges(data.y)
            mesh = ax.pcolormesh(edges_x, edges_y, data.mean, cmap="viridis", vmin=low, vmax=high, rasterized=True)
            _scale(ax, "x", data.x)
            _scale(ax, "y", data.y)
            ax.set_title(title)
            if title in edges:
                _draw_edge(ax, data.x, edges[title], laws.get(title), (x, y))
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


def _draw_edge(ax: Axes, x: np.ndarray, edge: Boundary, law: PowerLaw | None, keys: tuple[str, str]) -> None:
    """The measured boundary with its band, and the theory's power law."""
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


def line_plot(table: pd.DataFrame, x: str, values: list[str], y_label: str) -> Figure:
    """Means of some values over one swept key with 95 % confidence intervals over seeds, from a table of analysis.cells."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(SINGLE, 2.4), layout="constrained")
        ax = figure.subplots()
        for value, colour in zip(values, (PLAIN, SIGNAL, NOISY, CLEAN), strict=False):
            ax.plot(table[x], table[f"{value}_mean"], color=colour, marker="o", markersize=3, label=label(value))
            ax.fill_between(table[x], table[f"{value}_low"], table[f"{value}_high"], color=colour, alpha=0.2, linewidth=0)
        _scale(ax, "x", table[x].to_numpy(float))
        ax.set(xlabel=label(x), ylabel=y_label)
        ax.legend()
    return figure


STRATEGY_PANELS = {
    "strategy_test_error": "test error (true labels)",
    "best_test_error": "",  # drawn as the oracle's line in the first panel
    "selection_auc": "",  # of the last network; in the figure's table only
    "kept_precision": "correctly labelled\namong those trained on",
    "kept_recall": "trained on among\nthe correctly labelled",
}


def strategies(table: pd.DataFrame) -> Figure:
    """Strategies (lines) by noise rate, a column for each kind of label noise; means and two standard errors over seeds.

    `table` has noise, name, rate, and mean and sem of STRATEGY_PANELS. The oracle knows the test error of ordinary training
    at every recorded step and stops at the best.
    """
    kinds, names = sorted(table["noise"].unique(), reverse=True), [name for name in table["name"].unique() if name != "none"]
    styles = zip(itertools.cycle(("-", "--")), itertools.cycle((SIGNAL, NOISY, CLEAN, "#CC79A7", "#E69F00")), strict=False)
    looks = dict(zip(names, styles, strict=False))
    looks["none"] = ("-", PLAIN)
    selects = not all(name.startswith("early_stopping") for name in names)
    panels = [value for value, name in STRATEGY_PANELS.items() if name and (selects or value == "strategy_test_error")]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.2 * max(len(kinds), 1.4), 1.7 * len(panels) + 1.1), layout="constrained")
        axes = figure.subplots(len(panels), len(kinds), sharex="col", sharey="row", squeeze=False)
        for column, kind in enumerate(kinds):
            for name, part in table[table["noise"] == kind].groupby("name"):
                style, colour = looks[str(name)]
                for ax, value in zip(axes[:, column], panels, strict=True):
                    error = 2 * part[f"{value}_sem"]
                    ax.errorbar(part["rate"], part[f"{value}_mean"], error, color=colour, linestyle=style, label=name)
                if name == "none":
                    axes[0, column].plot(part["rate"], part["best_test_error_mean"], ":", color=PLAIN, label="oracle stopping")
            axes[0, column].set_title(f"{kind} label noise")
            axes[-1, column].set_xlabel("label noise rate")
        for ax, value in zip(axes[:, 0], panels, strict=True):
            ax.set_ylabel(STRATEGY_PANELS[value])
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def collapse_plot(
    combination: np.ndarray, value: np.ndarray, colour: np.ndarray, names: tuple[str, str, str], r2: float
) -> Figure:
    """Cell means of a value against the theory's combination of parameters; `names` of combination, value and colour."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(SINGLE, 2.6), layout="constrained")
        ax = figure.subplots()
        norm = mpl.colors.LogNorm() if is_log(np.unique(colour)) else None
        points = ax.scatter(combination, value, c=colour, s=3, cmap="viridis", norm=norm, linewidth=0, rasterized=True)
        ax.set_xscale("log")
        ax.set(xlabel=names[0], ylabel=label(names[1]), title=f"collapse: $R^2$ = {r2:.3f}")
        figure.colorbar(points, label=label(names[2]))
    return figure
