"""Figures of runs on images: losses sample by sample, and attributions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm

from lnt.analysis.figure_legend import drawn, legend_beside, titled, wrapped
from lnt.analysis.figure_names import heading
from lnt.analysis.figure_style import CLEAN, DOUBLE, NOISY, PLAIN, STYLE, Drawn, NotebookFigure
from lnt.column_names import KINDS, STATES
from lnt.intervals import FEWEST_SEEDS, TOO_FEW, half_width
from lnt.losses import LOG2

if TYPE_CHECKING:
    from lnt.images.attribution import Explained  # it needs PyTorch, which takes as long to import as most analyses

WHEN = {"best": "lowest test error\n(early stopping)", "last": "end of training"}
BINS = np.logspace(-6, 1.5, 61)
SUSPECTS_IN_A_ROW = 8
SHOWN = 4  # samples of each kind in a figure of attributions


def figure_losses(groups: Mapping[str, pd.DataFrame]) -> tuple[Drawn, pd.DataFrame]:
    """Per-sample losses of clean and mislabelled samples at early stopping (top) and at the end, a column for each condition.

    `groups` maps a title to rows of samples.parquet. Shares are within each kind; losses below the first bin count there.
    """
    rows = []
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(3 * len(groups) + 1.7, 3.6), least=1.4 * len(groups) + 1.7, layout="constrained")
        axes = figure.subplots(2, len(groups), sharex=True, sharey="row", squeeze=False)
        for column, (title, samples) in enumerate(groups.items()):
            wrong = samples["true"] != samples["observed"]
            for ax, state in zip(axes[:, column], STATES, strict=True):
                for kind, colour, mask in (("clean", CLEAN, ~wrong), ("mislabelled", NOISY, wrong)):
                    # Clipped, not dropped: losses can be far below the first bin at the end of training.
                    losses = samples.loc[mask, f"loss_{state}"].clip(BINS[0], BINS[-1])
                    if losses.empty:
                        continue
                    share = np.histogram(losses, BINS)[0] / len(losses)
                    ax.stairs(share, BINS, fill=True, color=colour, alpha=0.5, label=f"{kind} samples")
                    bins = pd.DataFrame({"loss_from": BINS[:-1], "loss_to": BINS[1:], "share": share})
                    rows.append(bins.assign(condition=title, state=state, kind=kind))
                ax.axvline(LOG2, color=PLAIN, linewidth=0.8, linestyle=":", label="log 2")
            room = (figure.get_figwidth() - 2.3) / len(groups) - 0.1  # inches
            titled(axes[0, column], heading(title), room)
            words = wrapped("loss against the observed label", 72 * room, mpl.rcParams["axes.labelsize"])
            axes[1, column].set_xlabel(words)
        axes[0, 0].set_xscale("log")
        for ax, state in zip(axes[:, 0], STATES, strict=True):
            ax.set_ylabel(f"{WHEN[state]}\nshare of samples")
        legend_beside(axes[0, -1], drawn(axes.flat))
    return Drawn(figure, [*axes.flat]), pd.concat(rows, ignore_index=True)


def figure_suspects(suspects: pd.DataFrame, images: np.ndarray) -> Drawn:
    """Images [n, C, H, W] of the rows of a table of suspects, by rank, with their observed labels, and true ones if known."""
    rows = -(-len(suspects) // SUSPECTS_IN_A_ROW)
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(DOUBLE, 1.2 * rows), least=5, layout="constrained")
        axes = figure.subplots(rows, SUSPECTS_IN_A_ROW, squeeze=False)
        for ax in axes.flat:
            ax.axis("off")
        for ax, image, sample in zip(axes.flat, images, suspects.to_dict("records"), strict=False):
            shown = image.transpose(1, 2, 0)
            ax.imshow(shown if shown.shape[2] == 3 else shown[..., 0], cmap="gray_r")
            known = pd.notna(sample["true"])
            colour = PLAIN if not known else CLEAN if sample["true"] == sample["observed"] else NOISY
            words = f"observed {sample['observed']}" + (f"\ntrue {sample['true']:.0f}" if known else "")
            ax.set_title(words, color=colour, fontsize=7)
    return Drawn(figure, [*axes.flat])


def figure_attributions(explained: "Explained") -> Drawn:
    """Some samples of each kind: the image with its labels, and its SHAP values at both states, each on its own scale.

    What is explained is the margin of the observed class over the mean of the others. Red pixels raise it, blue ones lower it
    (summed over channels).
    """
    chosen = np.concatenate([np.flatnonzero(explained.samples["kind"] == kind)[:SHOWN] for kind in KINDS])
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(0.95 * len(chosen) + 1.5, 3.6), least=0.6 * len(chosen) + 1.5, layout="constrained")
        axes = figure.subplots(3, len(chosen), squeeze=False)
        for column, i in enumerate(chosen):
            sample, maps = explained.samples.iloc[i], [explained.values[state][i].sum(0) for state in STATES]
            image = explained.images[i].transpose(1, 2, 0)
            axes[0, column].imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray_r")
            colour = NOISY if sample["kind"] == "mislabelled" else CLEAN
            axes[0, column].set_title(f"observed {sample['observed']}\ntrue {sample['true']}", color=colour)
            for ax, values in zip(axes[1:, column], maps, strict=True):
                # Each map on its own scale: SHAP values of both states differ in size. A map of zeros stays 0.
                shown = ax.imshow(values / (np.abs(values).max() or 1), cmap="RdBu_r", norm=TwoSlopeNorm(0, -1, 1))
        for ax in axes.flat:
            ax.set(xticks=[], yticks=[])
            ax.spines[["top", "right"]].set_visible(True)
        for ax, label in zip(axes[:, 0], ("image", *WHEN.values()), strict=True):
            ax.set_ylabel(label)
        figure.colorbar(
            shown, ax=axes[1:], label="SHAP value of the observed class's\nmargin (of the map's largest)", shrink=0.9
        )
    return Drawn(figure, [*axes.flat])


def figure_attribution_numbers(summary: pd.DataFrame) -> Drawn:
    """Shares on the centre and agreements by condition and kind, means and 95 % intervals; nulls as grey lines.

    `summary` is the table of that name of lnt/images/attribution.py.
    """
    panels = {
        "share of |SHAP|\non the centre": {"centre_share_best": ("o", "lowest test error"), "centre_share_last": ("s", "end")},
        "correlation of both maps": {"agreement": ("o", "SHAP"), "overlap": ("s", "|SHAP|")},
    }
    nulls = {"centre_share_best": "centre_share_null", "agreement": "agreement_null", "overlap": "overlap_null"}
    summary = summary.replace([np.inf, -np.inf], np.nan)
    places = np.arange(len(summary))
    over = summary["runs"]
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(DOUBLE, 2.9), least=5, layout="constrained")
        axes = figure.subplots(1, 2)
        for ax, (label, marks) in zip(axes, panels.items(), strict=True):
            for shift, (column, (marker, name)) in zip((-0.13, 0.13), marks.items(), strict=True):
                colours = [NOISY if kind == "mislabelled" else CLEAN for kind in summary["kind"]]
                half = half_width(summary[f"{column}_sem"] * np.sqrt(over), over)
                ax.errorbar(places + shift, summary[column], half, fmt="none", ecolor=colours, linewidth=1)
                filled = colours if marker == "o" else "white"
                ax.scatter(places + shift, summary[column], 22, filled, marker=marker, edgecolors=colours, zorder=3)
                ax.scatter([], [], 22, PLAIN if marker == "o" else "white", marker=marker, edgecolors=PLAIN, label=name)
                if column in nulls:
                    reach = 0.3 if label.startswith("share") else 0.11
                    middle = places if label.startswith("share") else places + shift
                    ax.hlines(summary[nulls[column]], middle - reach, middle + reach, color=PLAIN, linewidth=1.2, zorder=1)
            ax.plot([], [], color=PLAIN, linewidth=1.2, label="null")
            for kind in dict.fromkeys(summary["kind"]):
                ax.plot([], [], color=NOISY if kind == "mislabelled" else CLEAN, linewidth=3, label=kind)
            middles = pd.Series(places).groupby(summary["condition"].array, sort=False).mean()
            room = 72 * (figure.get_figwidth() / 2 - 0.9) / len(middles) - 3
            ax.set_xticks(middles, [wrapped(heading(name), room, 6.5) for name in middles.index], fontsize=6.5)
            ax.set_ylabel(label)
            ax.set_xlabel(TOO_FEW if (over < FEWEST_SEEDS).any() else "")
            # Above the axes: the error bars of any study may reach into a corner.
            ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return Drawn(figure, [*axes])
