"""The figure of the two stages: coefficients, accuracies, test error and loss against the gradient step."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter

from lnt.analysis.figure_legend import drawn, legend_below, legend_beside, titled, wrapped
from lnt.analysis.figure_names import heading
from lnt.analysis.figure_style import CLEAN, NOISY, PLAIN, SIGNAL, STYLE, Drawn, NotebookFigure, on_paper, shown
from lnt.intervals import FEWEST_SEEDS, TOO_FEW, half_width
from lnt.losses import LOG2
from lnt.theory.conditions import predicted_t1
from lnt.theory.run_cells import predictable, predicted_curves_of_each

Middle = Literal["mean", "median"]
LEGEND = 2.3  # inches, beside the panels
SMALL = 0.02  # an error, from which on its axis is linear
THEORY: dict[str, Any] = {"linestyle": ":", "linewidth": 1.6}
COEFFICIENT, BOTH_COEFFICIENTS = "coefficient (max)", "signal $\\gamma$,\nnoise $\\bar\\rho$ (max)"
ACCURACY = "training accuracy\n(observed labels)"
ERROR, OBSERVED_ERROR = "test error\n(true labels)", "test error\n(observed labels)"
LOSS = "training loss\n(observed labels)"
PANELS: dict[str, dict[str, tuple[str, str]]] = {
    COEFFICIENT: {
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
    LOSS: {
        "clean_loss": (CLEAN, "clean samples"),
        "noisy_loss": (NOISY, "mislabelled samples"),
        "train_loss": (PLAIN, "all samples"),
    },
}


def figure_stages(groups: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> Drawn:
    """Coefficients, accuracies, test error and loss against log step: a column per group of runs that differ by seed.

    Dotted lines: the mean-field theory at the label counts of these runs, where it is about them; nothing is fitted.

    `groups` maps a title to (runs, curves). Lines are means over runs, bands their 95 % intervals; where the axis of an error
    is logarithmic they are medians and quartiles, which lie on it where all values do. Vertical lines: where clean samples are
    fitted and where mislabelled ones are (medians over runs), and the scale n m / (eta s^2 d). Panels of which nothing was
    measured are left out.
    """
    with mpl.rc_context(STYLE):
        panels = _panels([curves for _, curves in groups.values()])
        size = 3.2 * len(groups) + LEGEND, (1.2 if on_paper() else 1.6) * len(panels) + 0.2
        figure = NotebookFigure(figsize=size, least=1.3 * len(groups) + 0.6, layout="constrained")
        beside = figure.get_figwidth() - LEGEND >= 2 * len(groups)
        axes = figure.subplots(len(panels), len(groups), sharex="col", sharey="row", squeeze=False)
        theories = [_predicted(runs) for runs, _ in groups.values()]
        looks: dict[tuple, dict[str, Line2D]] = {}
        for row, name in enumerate(panels):
            entries = _draw_row(axes[row], name, [*groups.values()], theories, first=row == 0)
            if beside:
                legend_beside(axes[row, -1], entries)
            elif name == COEFFICIENT:  # a legend below says nothing of the panel
                axes[row, 0].set_ylabel(BOTH_COEFFICIENTS)
            for text, handle in entries.items():
                looks.setdefault((handle.get_color(), handle.get_linestyle(), handle.get_linewidth()), {})[text] = handle
        if not beside:  # the colours mean the same in all panels: the shortest name will do
            legend_below(figure, dict(min(names.items(), key=lambda name: len(name[0])) for names in looks.values()))
        room = (figure.get_figwidth() - LEGEND * beside - 0.7) / len(groups) - 0.1  # inches
        for ax, (title, (runs, _)) in zip(axes.T, groups.items(), strict=True):
            words = "gradient step" + ("" if len(runs) >= FEWEST_SEEDS else f"\n({TOO_FEW})")
            ax[-1].set_xlabel(wrapped(words, 72 * room, mpl.rcParams["axes.labelsize"]))
            titled(ax[0], heading(title), room)
        figure.align_ylabels(axes[:, 0])
    return Drawn(figure, [*axes.flat])


def _panels(measured: Sequence[pd.DataFrame]) -> dict[str, dict[str, tuple[str, str]]]:
    """Those of PANELS of which the curves hold something, and which are shown."""
    panels = {name: lines for name, lines in PANELS.items() if any(c[list(lines)].notna().any(axis=None) for c in measured)}
    panels = panels or {ERROR: PANELS[ERROR]}
    if ERROR in panels:  # what stands in for it where true labels are not known
        panels.pop(OBSERVED_ERROR, None)
    return {name: panels[name] for name in shown(panels)}


def _draw_row(
    axes: Sequence[Axes],
    name: str,
    groups: Sequence[tuple[pd.DataFrame, pd.DataFrame]],
    theories: Sequence[pd.DataFrame],
    first: bool,
) -> dict[str, Line2D]:
    """The metrics of one of PANELS for each group, measured and as theory has them; the entries of its legend.

    The `first` row names the ends of the stages.
    """
    lines, least = PANELS[name], None
    if name in (ERROR, OBSERVED_ERROR):
        (error,) = lines
        least = least_error([curves[["step", error]] for _, curves in groups], error)
    middle: Middle = "mean" if least is None else "median"
    known = False
    for ax, (runs, curves), theory in zip(axes, groups, theories, strict=True):
        draw_by_step(ax, curves, lines, middle)
        known |= _draw_theory(ax, theory, lines, middle)
        _boundaries(ax, runs, named=first)
        if name == LOSS:
            ax.axhline(LOG2, color="0.6", linewidth=0.8, zorder=1, label="log 2")
    axes[0].set_ylabel(name if least is None else f"{name}\nmedian, quartiles")
    _set_heights(axes[0], name, least)
    return drawn(axes) | ({"theory, nothing fitted": Line2D([], [], color=PLAIN, **THEORY)} if known else {})


def least_error(curves: Sequence[pd.DataFrame], error: str) -> float | None:
    """The smallest error above 0 of any run, down to which the axis is logarithmic; None where it is linear.

    `curves` have the columns step and the error. The error is a share of test samples, so that there is nothing between 0 and
    what one of these makes. An axis on which no median is below SMALL has no need to be logarithmic.
    """
    medians = pd.concat([table.groupby("step")[error].median() for table in curves])
    values = pd.concat([table[error] for table in curves]).replace(np.inf, np.nan)
    above = values[values > 0]
    return float(above.min()) if len(above) and medians.min() < SMALL else None


def _set_heights(ax: Axes, name: str, least: float | None) -> None:
    """The vertical axis of a panel."""
    if name == ACCURACY:
        ax.set_ylim(-0.04, 1.04)
    elif least is not None:
        # Down to the smallest error logarithmic, and from there linear to 0, which errors may reach.
        ax.set_yscale("symlog", linthresh=least, linscale=0.3)
        ax.set_ylim(-0.2 * least, 1)
        ax.yaxis.set_major_locator(FixedLocator([0, *10.0 ** np.arange(np.ceil(np.log10(least)), 1)]))
        ax.yaxis.set_minor_formatter(NullFormatter())
    elif name in (ERROR, OBSERVED_ERROR) or name == LOSS:
        ax.set_ylim(bottom=-0.05 * ax.get_ylim()[1])  # intervals reach below 0, errors and losses do not


def draw_by_step(ax: Axes, curves: pd.DataFrame, lines: Mapping[str, tuple[str, str]], middle: Middle = "mean") -> None:
    """Mean over runs of the given metrics with its 95 % interval, or their median and quartiles."""
    by_step = curves.groupby("step")[list(lines)]
    if middle == "mean":
        centre, half = by_step.mean(), half_width(by_step.std(), by_step.count())
        low, high = centre - half, centre + half
    else:
        enough = by_step.count() >= FEWEST_SEEDS
        centre, low, high = by_step.median(), by_step.quantile(0.25).where(enough), by_step.quantile(0.75).where(enough)
    for metric, (colour, label) in lines.items():
        if centre[metric].notna().any():
            ax.plot(centre.index, centre[metric], color=colour, label=label)
            ax.fill_between(centre.index, low[metric], high[metric], color=colour, alpha=0.2, linewidth=0)
    # Step 0 is recorded too, and a log axis cannot show it.
    ax.set_xscale("symlog", linthresh=1, linscale=0.6 if on_paper() else 0.4)  # there labels are larger
    ax.set_xlim(0, max(centre.index.max(), 1))


def _predicted(runs: pd.DataFrame) -> pd.DataFrame:
    """The metrics of each run by step as theory has them, columns (run, metric); none if it is not about the runs."""
    if not predictable(runs).all():
        return pd.DataFrame()
    curves = pd.concat(dict(predicted_curves_of_each(runs)), axis=1).sort_index()
    # Runs of other lengths are predicted at other steps.
    return curves.interpolate("index", limit_area="inside")


def _draw_theory(ax: Axes, theory: pd.DataFrame, lines: Mapping[str, tuple[str, str]], middle: Middle) -> bool:
    """The same metrics as theory has them; whether it has any."""
    if theory.empty:
        return False
    metrics = theory.columns.get_level_values(1)
    found = {metric: theory.loc[:, metrics == metric] for metric in lines}
    known = {metric: values for metric, values in found.items() if values.notna().any(axis=None)}
    for metric, values in known.items():
        ax.plot(values.index, values.agg(middle, axis=1), color=lines[metric][0], **THEORY)
    return bool(known)


def _boundaries(ax: Axes, runs: pd.DataFrame, named: bool) -> None:
    """Mark the ends of both stages as measured (median over runs, if most reach them), and the predicted scale of T1."""
    marks = [
        ("clean fitted", runs["stage1_step"].astype(float), CLEAN, "-"),
        ("mislabelled fitted", runs["stage2_step"].astype(float), NOISY, "-"),
    ]
    if (scale := predicted_t1(runs)).notna().all():
        marks.append((r"$nm/\eta s^2d$, predicted", scale, PLAIN, "--"))
    for name, steps, colour, style in marks:
        # A run that never reaches the end of a stage counts as infinitely late: the median is finite if most reach it.
        step = steps.fillna(np.inf).median()
        if step < ax.get_xlim()[1]:
            ax.axvline(step, color=colour, linewidth=0.8, linestyle=style, zorder=1, label=name if named else None)
