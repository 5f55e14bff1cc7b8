"""The figure of the two stages: coefficients, accuracies, test error and loss against the gradient step."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lnt.analysis.figure_style import CLEAN, NOISY, PLAIN, SIGNAL, STYLE, NotebookFigure
from lnt.intervals import FEWEST_SEEDS, TOO_FEW, half_width
from lnt.theory.conditions import predicted_t1
from lnt.theory.run_cells import predictable, predicted_curves

ACCURACY = "training accuracy\n(observed labels)"
ERROR, OBSERVED_ERROR = "test error\n(true labels)", "test error\n(observed labels)"
PANELS: dict[str, dict[str, tuple[str, str]]] = {
    "coefficient (max)": {
        "signal_coef": (SIGNAL, r"signal $\gamma$"),
        "noise_coef_clean": (CLEAN, r"noise $\bar\rho$, clean samples"),
        "noise_coef_noisy": (NOISY, r"noise $\bar\rho$, mislabelled samples"),
    },
    ACCURACY: {
        "clean_accuracy": (CLEAN, "clean samples"),
        "noisy_accuracy": (NOISY, "mislabelled samples"),
    },
    ERROR: {"test_error": (PLAIN, "fresh samples")},
    OBSERVED_ERROR: {"test_error_observed": (PLAIN, "fresh samples")},
    "training loss\n(observed labels)": {
        "clean_loss": (CLEAN, "clean samples"),
        "noisy_loss": (NOISY, "mislabelled samples"),
        "train_loss": (PLAIN, "all samples"),
    },
}


def figure_stages(groups: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> Figure:
    """Coefficients, accuracies, test error and loss against log step: a column per group of runs that differ by seed.

    Dotted lines: the mean-field theory at the label counts of these runs, where it is about them; nothing is fitted.

    `groups` maps a title to (runs, curves). Lines are means over runs, bands their 95 % intervals. Vertical lines:
    where clean samples are fitted and where mislabelled ones are (medians over runs), and the scale n m / (eta s^2 d). Panels
    of which nothing was measured are left out.
    """
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(3.6 * len(groups) + 0.4, 6.6), layout="constrained")
        measured = [curves for _, curves in groups.values()]
        panels = {name: lines for name, lines in PANELS.items() if any(c[list(lines)].notna().any(axis=None) for c in measured)}
        if ERROR in panels:  # what stands in for it where true labels are not known
            panels.pop(OBSERVED_ERROR, None)
        # The height can be set only once it is known which panels have values (images have no coefficients).
        figure.set_figheight(1.6 * len(panels) + 0.2)
        heights = 1
        axes = figure.subplots(len(panels), len(groups), sharex="col", sharey="row", squeeze=False)
        for column, (runs, curves) in enumerate(groups.values()):
            theory = predicted_curves(runs) if predictable(runs).all() else None
            for row, (label, lines) in enumerate(panels.items()):
                ax = axes[row, column]
                draw_by_step(ax, curves, lines)
                if theory is not None:
                    _predicted(ax, theory, lines)
                heights = max(heights, _boundaries(ax, runs, names=row == 0))
                if column == 0:
                    ax.set_ylabel(label)
                    ax.yaxis.set_label_coords(-0.17, 0.5)
            axes[-1, column].axhline(np.log(2), color=PLAIN, linewidth=0.8, linestyle=":")
            axes[-1, column].annotate("log 2", (1, np.log(2)), (-2, 2), ("axes fraction", "data"), "offset points", ha="right")
            axes[-1, column].set_xlabel("gradient step" + ("" if len(runs) >= FEWEST_SEEDS else f"\n({TOO_FEW})"))
        for ax, title in zip(axes[0], groups, strict=True):
            ax.set_title(title, pad=24 if heights == 1 else 42)
        for row in range(len(panels)):
            axes[row, -1].legend(loc="best")
        axes[-1, 0].set_ylim(bottom=-0.05 * axes[-1, 0].get_ylim()[1])
        for ax, name in zip(axes[:, 0], panels, strict=True):
            if name == ACCURACY:
                ax.set_ylim(-0.04, 1.04)
            elif name in (ERROR, OBSERVED_ERROR):
                ax.set_yscale("symlog", linthresh=1e-3, linscale=0.4)
                ax.set_ylim(0, 1)
    return figure


def draw_by_step(ax: Axes, curves: pd.DataFrame, lines: Mapping[str, tuple[str, str]]) -> None:
    """Mean over runs of the given metrics, and its 95 % interval."""
    by_step = curves.groupby("step")[list(lines)]
    mean, half = by_step.mean(), half_width(by_step.std(), by_step.count())
    low, high = mean - half, mean + half
    for metric, (colour, label) in lines.items():
        if mean[metric].notna().any():
            ax.plot(mean.index, mean[metric], color=colour, label=label)
            ax.fill_between(mean.index, low[metric], high[metric], color=colour, alpha=0.2, linewidth=0)
    # Step 0 is recorded too, and a log axis cannot show it.
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    ax.set_xlim(0, mean.index.max())


def _predicted(ax: Axes, theory: pd.DataFrame, lines: Mapping[str, tuple[str, str]]) -> None:
    """The same metrics as theory has them."""
    for metric, (colour, _) in lines.items():
        if theory[metric].notna().any():
            ax.plot(theory.index, theory[metric], color=colour, linestyle=":", linewidth=1.6)
    ax.plot([], [], color=PLAIN, linestyle=":", label="theory, nothing fitted")


def _boundaries(ax: Axes, runs: pd.DataFrame, names: bool) -> int:
    """Mark the ends of both stages as measured (median over runs, if most reach them), and the predicted scale of T1.

    Returns on how many heights the names stand: those of marks close together would overlap on one.
    """
    marks = [
        ("clean\nfitted", runs["stage1_step"].astype(float), CLEAN, "-"),
        ("mislabelled\nfitted", runs["stage2_step"].astype(float), NOISY, "-"),
    ]
    if (scale := predicted_t1(runs)).notna().all():
        marks.append(("$nm/\\eta s^2d$\n(predicted)", scale, PLAIN, "--"))
    # A run that never reaches the end of a stage counts as infinitely late: the median is finite if most reach it.
    found = [(steps.fillna(np.inf).median(), name, colour, style) for name, steps, colour, style in marks]
    shown = sorted(mark for mark in found if mark[0] < ax.get_xlim()[1])
    height, before, heights = 1.02, 0.0, {1.02}
    for step, name, colour, style in shown:
        ax.axvline(step, color=colour, linewidth=0.8, linestyle=style, zorder=1)
        # Two names overlap if their steps are within a factor of four.
        height, before = (1.2 if height == 1.02 and step < 4 * before else 1.02), step
        heights.add(height)
        if names:
            ax.annotate(name, (step, height), xycoords=ax.get_xaxis_transform(), color=colour, fontsize=6.5, ha="center")
    return len(heights)
