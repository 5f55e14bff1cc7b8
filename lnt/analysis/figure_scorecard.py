"""The figure beside the scorecard: six panels, named in its rows."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import NullFormatter
from scipy.special import ndtr

from lnt.analysis import figure_style as style
from lnt.analysis.figure_legend import drawn, legend_above
from lnt.analysis.scorecard import Row
from lnt.analysis.scorecard_evidence import EARLY_T1, Evidence
from lnt.analysis.statements import EXPONENT, signal_leads, stage1_exists
from lnt.intervals import half_width

X_LABEL = r"$x = n\,\mathrm{SNR}^2 (1 - 2\tau)$"
BY_X: Any = {"cmap": "viridis", "norm": LogNorm(0.3, 30), "s": 10, "linewidth": 0}
# A row has an exponent if its prediction is one; the names under the axis are short forms of the claims.
EXPONENTS = {
    "Stage I lasts for a time ~ n^a": "length, $n$",
    "Stage I lasts for a time ~ d^a": "length, $d$",
    "x = n SNR^2 (1 - 2 tau) decides on Stage I, not n SNR^2": "border, $1-2\\tau$",
    f"test error after {EARLY_T1:g} T1 = Phi(-z), z^2 ~ n^a": "early error, $n$",
    f"test error after {EARLY_T1:g} T1 = Phi(-z), z^2 ~ d^a": "early error, $d$",
    "final test error = Phi(-z), z^2 ~ (n|mu|^4 / (s^4 d (1 + n SNR^2)))^a": "final error (e)",
}


def figure_scorecard(evidence: Evidence, rows: Sequence[Row]) -> style.Drawn:
    """(a) exponents, (b) length of Stage I, (c) borders in x, (d) final, (e) noiseless, (f) early test error."""
    with mpl.rc_context(style.STYLE):
        figure = style.NotebookFigure(figsize=(style.DOUBLE, 4.4), least=5, layout="constrained")
        axes = figure.subplots(2, 3)
        _exponents(axes[0, 0], rows)
        _lengths(axes[0, 1], evidence)
        _borders(axes[0, 2], evidence)
        _final(axes[1, 0], evidence)
        _error(axes[1, 1], evidence.clean_errors, "test_error", "benign", "final test error,\nno label noise")
        axes[1, 1].set_xlabel(r"$n|\mu|^4 / (s^4 d\,(1 + n\,\mathrm{SNR}^2))$")
        _error(axes[1, 2], evidence.early_errors, "test_error_early", "early", f"test error after {EARLY_T1:g} $T_1$")
        early = r"$(1-2\tau)^2 n|\mu|^4 \,/$" + "\n" + r"$(s^4 d\,(1 + n\,\mathrm{SNR}^2 (1-2\tau)^2))$"
        axes[1, 2].set_xlabel(early)
        for name, ax in zip("abcdef", axes.flat, strict=True):
            ax.set_title(f"({name})", loc="left")
    return style.Drawn(figure, [*axes.flat])


def _exponents(ax: Axes, rows: Sequence[Row]) -> None:
    """Measured exponents with their intervals; grey: what agrees with the prediction."""
    found = {row.statement: row for row in rows}
    for place, claim in enumerate(EXPONENTS):
        row = found[claim]
        predicted = float(row.predicted.removeprefix("a = "))
        ax.fill_between([place - 0.35, place + 0.35], predicted - EXPONENT, predicted + EXPONENT, color="0.85", linewidth=0)
        ax.plot([place - 0.35, place + 0.35], [predicted, predicted], color=style.PLAIN, linewidth=0.8)
        if np.isfinite([row.value, row.low, row.high]).all():
            errors = [[row.value - row.low], [row.high - row.value]]
            ax.errorbar(place, row.value, errors, fmt="o", markersize=3.5, color=style.SIGNAL)
    ax.set_xticks(range(len(EXPONENTS)), list(EXPONENTS.values()), fontsize=6, rotation=40, ha="right")
    ax.set_ylabel("exponent (grey: predicted)")


def _lengths(ax: Axes, evidence: Evidence) -> None:
    """The time at which half of the mislabelled samples are memorised, in units of T1: a constant for n and d alone."""
    runs = evidence.lengths.dropna(subset="memorising_step")
    ax.set(xscale="log", xlabel="$n$ or $d / 40$", ylabel="half of the mislabelled\nmemorised ($T_1$)")
    for key, scale, colour, marker in (("n", 1.0, style.SIGNAL, "o"), ("dim", 40.0, style.NOISY, "s")):
        other = "dim" if key == "n" else "n"
        alone = runs[runs[other] == runs[other].mode().iloc[0]] if len(runs) else runs
        means = (alone["memorising_step"] / alone["t1"]).groupby(alone[key])
        ax.errorbar(
            means.mean().index / scale,
            means.mean(),
            half_width(means.std(), means.count()),
            fmt=f"{marker}-",
            markersize=3,
            linewidth=0.8,
            color=colour,
            label="$n$ varied" if key == "n" else "$d$ varied",
        )
    if len(runs):
        ax.set_ylim(0, None)
        ax.xaxis.set_minor_formatter(NullFormatter())
    _legend(ax)


def _borders(ax: Axes, evidence: Evidence) -> None:
    """Shares of runs with Stage I, and with gamma above rho-bar in it, by x; dotted: the predicted borders."""
    lines = (
        ("Stage I exists", stage1_exists(evidence), 1, style.NOISY, "o"),
        (r"$\gamma > \bar\rho$", signal_leads(evidence.across_x), 2, style.SIGNAL, "s"),
    )
    for name, runs, predicted, colour, marker in lines:
        for number, (_, part) in enumerate(runs.groupby("rate")):
            share = part.groupby(part["x"].round(2))["true"].mean()
            ax.plot(
                share.index, share, f"{marker}-", markersize=2.5, linewidth=0.8, color=colour, label=None if number else name
            )
        ax.axvline(predicted, color=colour, linestyle=":", linewidth=1)
    ax.set(xscale="log", ylim=(-0.04, 1.04), xlabel=X_LABEL, ylabel="share of runs\n(a line for each $\\tau$)")
    ax.xaxis.set_minor_formatter(NullFormatter())
    _legend(ax)


def _final(ax: Axes, evidence: Evidence) -> None:
    """Test error at convergence over the lower bound, against d / n, cell means."""
    cells = evidence.converged.groupby("cell")[["floor", "test_error", "dim_over_n", "x"]].mean()
    ax.set(xscale="log", xlabel="$d/n$", ylabel=r"final test error / $0.5\,\min(\tau_+, \tau_-)$")
    ax.axhline(1, color=style.PLAIN, linestyle="--", linewidth=0.8, label="lower bound")
    if cells.empty:
        return
    points = ax.scatter(cells["dim_over_n"], cells["test_error"] / cells["floor"], c=cells["x"], **BY_X)
    bar = ax.figure.colorbar(points, ax=ax, label="$x$", ticks=[0.5, 1, 2, 5, 10, 20], format="%g")
    bar.minorticks_off()
    _legend(ax)


def _error(ax: Axes, runs: pd.DataFrame, error: str, combination: str, y_label: str) -> None:
    """Cell means of an error above 0 on a log axis against a combination of parameters, and Phi(-sqrt(it)): no constant."""
    ax.set(yscale="log", ylabel=y_label)
    means = runs.groupby("cell")[[error, combination]].mean()
    # The axis is logarithmic.
    means = means[means[error] > 0].sort_values(combination)
    if len(means) < 2:
        return
    line = np.linspace(means[combination].min(), means[combination].max(), 100)
    ax.plot(means[combination], means[error], "o", color=style.SIGNAL, markersize=3)
    ax.plot(line, ndtr(-np.sqrt(line)), "--", color=style.PLAIN, linewidth=0.8, label=r"$\Phi(-\sqrt{\cdot})$, not fitted")
    ax.yaxis.set_minor_formatter(NullFormatter())
    _legend(ax)


def _legend(ax: Axes) -> None:
    """Above the panel, beside its letter."""
    legend_above(
        ax, drawn([ax]), room=130, loc="lower right", bbox_to_anchor=(1, 1), fontsize=6, handlelength=1.2, columnspacing=1
    )
