"""Figures. Each function takes tables and returns a matplotlib Figure; `save` writes it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lnt.theory import stage1_scale

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
    where clean samples are fitted and where mislabelled ones are (medians over runs), and the scale n m / (eta s^2 d).
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(groups) + 0.4, 6.6), layout="constrained")
        axes = figure.subplots(len(PANELS), len(groups), sharex="col", sharey="row", squeeze=False)
        for column, (title, (runs, curves)) in enumerate(groups.items()):
            for row, (label, lines) in enumerate(PANELS.items()):
                ax = axes[row, column]
                _lines(ax, curves, lines)
                _boundaries(ax, runs, names=row == 0)
                if column == 0:
                    ax.set_ylabel(label)
                    ax.yaxis.set_label_coords(-0.17, 0.5)
            axes[-1, column].axhline(np.log(2), color=PLAIN, linewidth=0.8, linestyle=":")
            axes[-1, column].annotate("log 2", (1, np.log(2)), (-2, 2), ("axes fraction", "data"), "offset points", ha="right")
            axes[-1, column].set_xlabel("gradient step")
            axes[0, column].set_title(title, pad=24)
        for row in range(len(PANELS)):
            axes[row, -1].legend(loc="best")
        axes[1, 0].set_ylim(-0.04, 1.04)
        axes[2, 0].set_yscale("symlog", linthresh=1e-3, linscale=0.4)
        axes[2, 0].set_ylim(0, 1)
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


def _boundaries(ax: Axes, runs: pd.DataFrame, names: bool) -> None:
    """Mark the ends of both stages as measured (median over runs, if most reach them), and the predicted scale of T1."""
    numbers = (runs[key] for key in ("data.n_train", "model.width", "step_size", "data.noise_std", "data.dim"))
    marks = [
        ("clean\nfitted", runs["stage1_step"].astype(float), CLEAN, "-"),
        ("mislabelled\nfitted", runs["stage2_step"].astype(float), NOISY, "-"),
        ("$nm/\\eta s^2d$\n(predicted)", pd.Series(stage1_scale(*numbers)), PLAIN, "--"),
    ]
    for name, steps, colour, style in marks:
        step = steps.fillna(np.inf).median()
        if step < ax.get_xlim()[1]:
            ax.axvline(step, color=colour, linewidth=0.8, linestyle=style, zorder=1)
            if names:
                ax.annotate(name, (step, 1.02), xycoords=ax.get_xaxis_transform(), color=colour, fontsize=6.5, ha="center")


SINGLE, DOUBLE = 3.35, 6.9  # column widths of a two-column paper in inches
LABELS = {
    "data.dim": "dimension $d$",
    "data.n_train": "training samples $n$",
    "data.signal_norm": r"signal norm $\|\mu\|$",
    "data.snr": r"SNR $\|\mu\|/(s\sqrt{d})$",
    "data.noise_std": "noise standard deviation $s$",
    "noise.rate": r"label noise rate $\tau$",
    "optimizer.lr": r"step size $\eta$",
    "model.width": "filters per sign $m$",
    "test_error": "test error (true labels)",
    "test_error_observed": "test error (observed labels)",
    "best_test_error": "test error at its best step",
    "price_of_memorising": "price of memorising (final minus best test error)",
    "stage1_step": "step at which clean samples are fitted",
    "stage2_step": "step at which mislabelled samples are fitted",
}


def is_log(values: np.ndarray) -> bool:
    """Whether an axis is better drawn on a logarithmic scale: positive, and spaced by factors rather than steps."""
    if len(values) < 3 or (values <= 0).any():
        return False
    return bool(np.std(np.diff(np.log(values))) < np.std(np.diff(values)) / np.mean(np.diff(values)) * 0.5 * np.log(values).ptp()) if False else bool(values[-1] / values[0] > 20 and np.std(np.diff(np.log(values))) / np.mean(np.diff(np.log(values))) < np.std(np.diff(values)) / np.mean(np.diff(values)))
