"""Figures of selection signals: how well each tells mislabelled samples from clean ones, by step and by a swept key."""

from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from pandas.api.types import is_number

from lnt.analysis.figure_legend import drawn, legend_below, legend_beside, titled
from lnt.analysis.figure_names import heading, label
from lnt.analysis.figure_phase_diagram import scale_axis
from lnt.analysis.figure_stages import COEFFICIENT, PANELS, draw_by_step
from lnt.analysis.figure_style import NOISY, PLAIN, SIGNAL, STYLE, Drawn, NotebookFigure, shown
from lnt.intervals import FEWEST_SEEDS, TOO_FEW

AUC = "AUC of the signal"
LOOKS = {  # of the AUC of each signal: colour, name
    "selection_auc": (PLAIN, "loss"),
    "auc_margin": ("#E69F00", "margin"),
    "auc_learning_time": (SIGNAL, "learning time"),
    "auc_wrong_events": (NOISY, "wrong events"),
}
DASHED = ("margin", "wrong events")  # with two classes the first lies on the loss; the second may lie on the learning time
WHEN = {"_best": "at the lowest test error", "": "at the end"}
OVERTAKEN = "overtaken_share"


def figure_signals(groups: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> Drawn:
    """AUCs of the signals against log step below the coefficients, a column for each group of runs that differ by seed.

    `groups` maps a title to (runs, curves). Lines are means over runs, bands their 95 % intervals. Vertical lines are medians
    over runs: the lowest test error, and the step at which rho-bar exceeds gamma in half of the mislabelled samples.
    """
    with mpl.rc_context(STYLE):
        coefficients = any(curves[list(PANELS[COEFFICIENT])].notna().any(axis=None) for _, curves in groups.values())
        panels = {**({COEFFICIENT: PANELS[COEFFICIENT]} if coefficients else {}), AUC: LOOKS}
        panels = {name: panels[name] for name in shown(panels)}
        size = 3.2 * len(groups) + 2, 1.9 * len(panels) + 0.7
        figure = NotebookFigure(figsize=size, least=1.6 * len(groups) + 2, layout="constrained")
        axes = figure.subplots(len(panels), len(groups), sharex="col", sharey="row", squeeze=False)
        for column, (title, (runs, curves)) in enumerate(groups.items()):
            overtaken = curves[curves[OVERTAKEN] >= 0.5].groupby("run_id")["step"].min().reindex(runs["run_id"])
            marks = {"lowest test error": (runs["best_step"], ":"), r"$\bar\rho > \gamma$": (overtaken, "--")}
            for ax, (name, lines) in zip(axes[:, column], panels.items(), strict=True):
                draw_by_step(ax, curves, lines)
                ax.set_ylabel(name if column == 0 else "")
                for mark, (steps, style) in marks.items():
                    if np.isfinite(step := steps.astype(float).fillna(np.inf).median()):
                        ax.axvline(step, color=PLAIN, linewidth=0.8, linestyle=style, label=mark, zorder=1)
            for line in axes[-1, column].lines:
                if line.get_label() in DASHED:
                    line.set_linestyle("--")
            titled(axes[0, column], heading(title), (figure.get_figwidth() - 2) / len(groups) - 0.4)
            axes[-1, column].set_xlabel("gradient step" + ("" if len(runs) >= FEWEST_SEEDS else f"\n({TOO_FEW})"))
        if AUC in panels:
            axes[-1, 0].set_ylim(top=1.02)
        for row in axes:
            legend_beside(row[-1], drawn(row))
    return Drawn(figure, [*axes.flat])


def figure_signals_by(table: pd.DataFrame, x: str, key: str | None) -> Drawn:
    """AUCs of the signals by one swept key, at the lowest test error and at the end, a column for each value of another.

    `table` is one of analysis.cells. Bars are 95 % intervals over seeds.
    """
    groups: Iterable[tuple[Any, pd.DataFrame]] = table.groupby(key) if key else []
    # A number needs the name of its key, an option does not.
    named = {f"{label(str(key))} {value:.6g}" if is_number(value) else str(value): part for value, part in groups}
    parts = named or {"": table}
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(1.9 * len(parts) + 1, 3.8), least=1.2 * len(parts) + 0.6, layout="constrained")
        axes = figure.subplots(2, len(parts), sharex=True, sharey=True, squeeze=False)
        for column, (title, part) in enumerate(parts.items()):
            for ax, suffix in zip(axes[:, column], WHEN, strict=True):
                for name, (colour, signal) in LOOKS.items():
                    value = f"{name}{suffix}"
                    half = part[f"{value}_high"] - part[f"{value}_mean"]
                    style = "--" if signal in DASHED else "-"
                    ax.errorbar(part[x], part[f"{value}_mean"], half, color=colour, linestyle=style, label=signal)
                scale_axis(ax, "x", part[x].to_numpy(float))
            titled(axes[0, column], title, figure.get_figwidth() / len(parts) - 0.4)
            axes[1, column].set_xlabel(label(x))
        for ax, when in zip(axes[:, 0], WHEN.values(), strict=True):
            ax.set_ylabel(f"AUC of the signal\n{when}")
        axes[0, 0].set_ylim(top=1.04)  # an interval may reach beyond 1, which no AUC can
        sure = table["selection_auc_low"].notna().any()
        legend_below(figure, drawn(axes.flat), None if sure else TOO_FEW)
    return Drawn(figure, [*axes.flat])
