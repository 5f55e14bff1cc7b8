"""The figure beside the scorecard: six panels, named in its rows."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lnt.analysis import figure_style as style
from lnt.analysis.scorecard import Row
from lnt.analysis.scorecard_evidence import EARLY_T1, EXPONENTS, FITTED, Evidence, controlled
from lnt.theory.laws import bound_constant, error_bound

BY_N_SNR2: Any = {"cmap": "viridis", "norm": LogNorm(0.3, 30), "s": 10, "linewidth": 0}


def figure_scorecard(evidence: Evidence, rows: Sequence[Row]) -> Figure:
    """(a) exponents, (b) collapse of Stage I, (c) what is true in it, (d) final, (e) noiseless, (f) early test error."""
    with mpl.rc_context(style.STYLE):
        figure = style.NotebookFigure(figsize=(style.DOUBLE, 4.6), layout="constrained")
        axes = figure.subplots(2, 3)
        _exponents(axes[0, 0], rows)
        points = _lengths(axes[0, 1], evidence)
        _stage1(axes[0, 2], evidence)
        _final(axes[1, 0], evidence)
        _decay(axes[1, 1], evidence.clean_errors, "test_error", "benign", r"$n|\mu|^4/(s^4 d)$", "test error, no label noise")
        _decay(
            axes[1, 2], evidence.early_errors, "test_error_early", "dim_over_n", "$d/n$", f"test error after {EARLY_T1} $T_1$"
        )
        if points is not None:
            place: Any = {"location": "bottom", "shrink": 0.5, "aspect": 40, "ticks": [0.5, 1, 2, 5, 10, 20], "format": "%g"}
            bar = figure.colorbar(points, ax=axes[:, 0:2], label=r"$n\,$SNR$^2$ (b, d)", **place)
            bar.minorticks_off()
        for name, ax in zip("abcdef", axes.flat, strict=True):
            ax.set_title(f"({name})", loc="left")
    return figure


def _exponents(ax: Axes, rows: Sequence[Row]) -> None:
    """Measured exponents of the length of Stage I with their intervals, and the predicted ones."""
    names = [rf"${{\{name}}}$" if name == "eta" else f"${name}$" for name, _ in EXPONENTS.values()]
    # zip stops after the exponents, which are the first rows of the scorecard.
    for place, (row, (_, predicted)) in enumerate(zip(rows, EXPONENTS.values(), strict=False)):
        ax.plot(
            [place - 0.3, place + 0.3], [predicted, predicted], color=style.NOISY, label="predicted" if place == 0 else None
        )
        if np.isfinite([row.value, row.low, row.high]).all():
            # A bootstrap interval need not contain the value, and matplotlib refuses negative errors.
            errors = [[max(row.value - row.low, 0)], [max(row.high - row.value, 0)]]
            ax.errorbar(
                place, row.value, errors, fmt="o", markersize=4, color=style.SIGNAL, label="measured" if place == 0 else None
            )
    ax.set_xticks(range(len(names)), names)
    ax.set_ylabel("exponent of the length\nof Stage I")
    ax.legend()


def _lengths(ax: Axes, evidence: Evidence) -> PathCollection | None:
    """The step at which half of the mislabelled samples are memorised against T1, cell medians."""
    cells = evidence.noisy.groupby("cell")[["t1", "memorising_step", "kappa"]].median().dropna()
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=r"$T_1 = nm/(\eta s^2 d)$ (steps)",
        ylabel="half of the mislabelled\nmemorised (steps)",
    )
    if cells.empty:
        return None
    points = ax.scatter(cells["t1"], cells["memorising_step"], c=cells["kappa"].astype(float), **BY_N_SNR2)
    main = controlled(evidence.noisy[evidence.noisy["memorising_step"].notna()], "cell")
    constant = float((main["memorising_step"] / main["t1"]).median())
    ends = np.array([cells["t1"].min(), cells["t1"].max()])
    ax.plot(ends, constant * ends, "--", color=style.PLAIN, linewidth=0.8, label=f"${constant:.2g}\\, T_1$")
    ax.legend()
    return points


def _stage1(ax: Axes, evidence: Evidence) -> None:
    """Shares of runs of which the statements about Stage I are true, by n SNR^2."""
    runs = evidence.noisy[evidence.noisy["signal_coef_early"].notna()]
    selection = ["selection_precision_early", "selection_recall_early"]
    noise = runs[["noise_coef_clean_early", "noise_coef_noisy_early"]].max(axis=1)
    lines = {
        r"$\gamma > \bar\rho$": (runs["signal_coef_early"] > noise, style.SIGNAL, "o-"),
        "clean fitted": (runs["clean_accuracy_early"] >= FITTED, style.CLEAN, "s-"),
        "mislabelled\npredicted as true": (runs["noisy_accuracy_early"] <= 1 - FITTED, style.NOISY, "^-"),
        "loss separates": (runs[selection].min(axis=1) >= FITTED, style.PLAIN, "x:"),
    }
    for name, (true, colour, marker) in lines.items():
        # To two digits, as in scorecard.threshold: equal cells differ by rounding.
        share = true.groupby([float(f"{value:.2g}") for value in runs["kappa"]]).mean()
        ax.plot(share.index, share, marker, color=colour, markersize=3, label=name)
    ax.set(xscale="log", ylim=(-0.04, 1.04), xlabel=r"$n\,$SNR$^2$", ylabel=f"share of runs, after {EARLY_T1} $T_1$")
    ax.legend(loc="center left", handlelength=1.2, fontsize=6)


def _final(ax: Axes, evidence: Evidence) -> None:
    """Test error at convergence against the lower bound, cell means."""
    cells = evidence.converged.groupby("cell")[["floor", "test_error", "kappa"]].mean()
    ax.set(xlabel=r"lower bound $0.5\,\min(\tau_+, \tau_-)$", ylabel="test error at convergence")
    if cells.empty:
        return
    ax.scatter(cells["floor"], cells["test_error"], c=cells["kappa"].astype(float), **BY_N_SNR2)
    ends = np.array([0, cells["floor"].max()])
    ax.plot(ends, ends, "--", color=style.PLAIN, linewidth=0.8, label="bound")
    ax.legend()


def _decay(ax: Axes, runs: pd.DataFrame, error: str, combination: str, x_label: str, y_label: str) -> None:
    """Cell means of an error above 0 on a log axis against a combination of parameters, and the fitted exponential."""
    ax.set(yscale="log", xlabel=x_label, ylabel=y_label)
    means = runs.groupby("cell")[[error, combination]].mean()
    # The axis is logarithmic.
    means = means[means[error] > 0].sort_values(combination)
    if len(means) < 2:
        return
    x, y = means[combination].to_numpy(float), means[error].to_numpy(float)
    slope, offset = np.polyfit(x, np.log(y), 1)
    bound = bound_constant(x, y)
    ax.plot(x, y, "o", color=style.SIGNAL, markersize=3)
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.plot(x, np.exp(offset + slope * x), "--", color=style.PLAIN, linewidth=0.8, label=f"fit: $C = {-1 / slope:.3g}$")
    ax.plot(x, error_bound(x, bound), ":", color=style.NOISY, linewidth=0.8, label=f"bound: $C = {bound:.3g}$")
    ax.legend()
