"""Figures. Each function takes tables and returns a matplotlib Figure; nothing is read from or written to disk."""

from collections.abc import Mapping
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
    "legend.frameon": False,
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

    `groups` maps a title to (runs, curves). Lines are means over runs, bands one standard deviation; grey areas are
    Stage I (until clean samples are fitted) and Stage II (until mislabelled ones are), at the median over runs.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(groups) + 0.4, 6.6), layout="constrained")
        axes = figure.subplots(len(PANELS), len(groups), sharex="col", sharey="row", squeeze=False)
        for column, (title, (runs, curves)) in enumerate(groups.items()):
            for row, (label, lines) in enumerate(PANELS.items()):
                ax = axes[row, column]
                _lines(ax, curves, lines)
                _stage_areas(ax, runs, names=row == 0)
                if column == 0:
                    ax.set_ylabel(label)
                    ax.yaxis.set_label_coords(-0.17, 0.5)
            axes[-1, column].axhline(np.log(2), color=PLAIN, linewidth=0.8, linestyle=":")
            axes[-1, column].annotate("log 2", (1, np.log(2)), (-2, 2), ("axes fraction", "data"), "offset points", ha="right")
            axes[-1, column].set_xlabel("gradient step")
            axes[0, column].set_title(title, pad=18)
        for row in range(len(PANELS)):
            axes[row, -1].legend(loc="best")
        axes[1, 0].set_ylim(-0.04, 1.04)
        axes[2, 0].set_ylim(bottom=0)
    return figure


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


def _stage_areas(ax: Axes, runs: pd.DataFrame, names: bool) -> None:
    """Shade both stages as far as they were reached, and mark the predicted scale of T1."""
    start = 0.0
    for name, key, shade in (("Stage I", "stage1_step", "0.90"), ("Stage II", "stage2_step", "0.96")):
        end = runs[key].astype(float).median()
        if np.isfinite(end) and end > start:
            ax.axvspan(start, end, color=shade, linewidth=0, zorder=0)
            if names:
                ax.annotate(name, (start, 1), (2, 3), ("data", "axes fraction"), "offset points", fontsize=7)
            start = end
    numbers = (runs[key] for key in ("data.n_train", "model.width", "step_size", "data.noise_std", "data.dim"))
    scale = float(np.median(stage1_scale(*numbers)))
    if scale < ax.get_xlim()[1]:
        ax.axvline(scale, color=PLAIN, linewidth=0.8, linestyle="--")
        if names:
            text = r"$nm/\eta s^2 d$"
            ax.annotate(text, (scale, 1), (-2, 3), ("data", "axes fraction"), "offset points", fontsize=7, ha="center")
