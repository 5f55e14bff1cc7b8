"""The page docs/mnist.md: losses that are called robust on MNIST (called by docs/draw.py where the files are)."""

from pathlib import Path

import matplotlib as mpl
import pandas as pd
from atlas_numbers import curves_of, ratio, runs_of, with_interval
from matplotlib.figure import Figure

from lnt.analysis.figure_style import CLEAN, DOUBLE, NOISY, PLAIN, SIGNAL, STYLE
from lnt.theory.mean_field import last_crossing

STUDY = "robust_losses_mnist"
COLOURS = {
    "logistic": PLAIN,
    "mae": SIGNAL,
    "gce": CLEAN,
    "sce": NOISY,
    "forward": "#CC79A7",
    "label_smoothing": "#E69F00",
}
TASKS = {"[3, 8]": "3 against 8", None: "all ten classes"}  # data.classes, as tables have it
COLUMNS = {
    "best_test_error_fresh": "lowest test error",
    "test_error": "final error",
    "clean_accuracy": "clean fitted",
    "noisy_accuracy": "memorised",
}
HEAD = """# Losses that are called robust, on MNIST

`experiment=robust_losses_mnist data.root=DIR` (settings are ours): 200 images of MNIST (LeCun et al. 1998) with 30 % of the
labels flipped, the small network with four filters, SGD with batches of 32 and one step size for all losses, 140 epochs, five
seeds, 1000 test images. `MNIST=DIR python docs/draw.py` trains and measures it again and writes this page.

The lowest test error is that of the step which other test images choose; the next three columns are of the last step. "Half
memorised" is the step from which on half of the mislabelled images are predicted as labelled, relative to the cross entropy
(logistic) on the same seeds. Intervals are over seeds, with 95 %. ">" stands where some runs never get there; they count as if
they did at the last step.

"""

READ = """
Beside the digits and the signal-noise data of the [atlas](atlas.md):

- As on both, the cross entropy and label smoothing memorise everything, in the same time, and GCE and the forward correction
  put memorising off. With 3 against 8 forward and GCE end below the cross entropy on average, which five
  seeds do not resolve; label smoothing and SCE do not, and the lowest errors are alike, as on the digits.
- It differs that GCE, forward and MAE stop memorising: between steps 665 and 980 their shares rise by 0.03 at most. On the
  digits, too, some labels are left after 150 epochs; on signal-noise data nearly all are memorised in the end, after 200 T1.
  Delays with two classes are shorter than there (n SNR^2 from 4 to 32): 1.5 for GCE and 1.9 for forward against 2.4 to 3.5
  and 2.0 to 2.4; five seeds leave them wide.
- With ten classes SCE puts memorising off, too, and GCE far more than with two. GCE, SCE and forward also reach a lower error
  than the cross entropy: by 0.10 [0.07, 0.13], 0.10 [0.04, 0.16] and 0.07 [0.04, 0.10] on the same seeds. A small part of
  that is the step size. With 0.05 for 0.2 the cross entropy reaches 0.34 [0.29, 0.39], and GCE and SCE at 0.2 remain below it
  by 0.09 [0.03, 0.14] and 0.08 [0.03, 0.13], forward by 0.05 [-0.00, 0.11], which is not resolved.
- MAE does not learn ten classes: it ends with 80 % of the clean images fitted, and an error like that of the cross entropy,
  which has memorised all labels. That it memorises only a third of the wrong ones is no merit. Larger steps do not help: 0.6
  ends with 15 % and 1 with 12 % of the clean images fitted (five seeds each).
- MAE with 3 against 8: before step 392 one of the five seeds falls from all clean images fitted to one class for all images,
  where the slope of MAE vanishes, and stays there. It is one of the two that never memorise half; without it the final error
  is 0.19 on average.
"""


def runs_of_task(results: Path, classes: str | None) -> pd.DataFrame:
    """The runs of 3 against 8 or of all classes, with the step `half` after which half of the mislabelled stay memorised."""
    runs, curves = runs_of(results, STUDY), curves_of(results, STUDY)
    runs = runs[runs["data.classes"].isna() if classes is None else runs["data.classes"] == classes]
    wide = curves.pivot(index="step", columns="run_id", values="noisy_accuracy")[runs["run_id"]]
    return runs.assign(half=last_crossing(wide.index.to_numpy(float), wide.to_numpy(float), 0.5))


def table(runs: pd.DataFrame) -> str:
    """A row for each loss."""
    lines = ["| loss | " + " | ".join([*COLUMNS.values(), "half memorised"]) + " |", "| --- |" + " --- |" * (len(COLUMNS) + 1)]
    half, last = runs.pivot(index="seed", columns="loss", values="half"), runs["last_step"].max()
    for loss in COLOURS:
        cells = [with_interval(runs.loc[runs["loss"] == loss, column]) for column in COLUMNS]
        lines.append(f"| {loss} | " + " | ".join([*cells, relative(half[loss], half["logistic"], last)]) + " |")
    return "\n".join(lines) + "\n"


def relative(own: pd.Series, base: pd.Series, last: int) -> str:
    """The mean of own times relative to those of the cross entropy; a lower bound where some are later than `last`."""
    missing = own.isna().sum()
    if not missing:
        return ratio(own.to_numpy(), base.to_numpy())
    return f"> {own.fillna(last).mean() / base.mean():.1f} ({missing} of {len(own)} seeds never)"


def figure_losses(results: Path) -> Figure:
    """Share of the mislabelled that is memorised, and test error, by step: means over seeds, a line a loss, a column a task."""
    curves = curves_of(results, STUDY)
    curves = curves[curves["step"] > 0]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(DOUBLE, 4), layout="constrained")
        axes = figure.subplots(2, 2, sharex=True, sharey="row")
        for column, (classes, name) in enumerate(TASKS.items()):
            runs = runs_of_task(results, classes)
            for loss, colour in COLOURS.items():
                own = curves[curves["run_id"].isin(runs.loc[runs["loss"] == loss, "run_id"])]
                for ax, value in zip(axes[:, column], ("noisy_accuracy", "test_error"), strict=True):
                    ax.plot(own.groupby("step")[value].mean(), color=colour, label=loss, linewidth=1)
            axes[0, column].set_title(name)
            axes[1, column].set(xscale="log", xlabel="step")
        axes[0, 0].set(ylabel="mislabelled, memorised", ylim=(0, 1))
        axes[1, 0].set(ylabel="test error (true labels)", ylim=(0, None))
        axes[0, 1].legend(loc="upper left")
    return figure


def page(results: Path) -> str:
    """The whole page."""
    tables = [f"## {name[0].upper()}{name[1:]}\n\n{table(runs_of_task(results, classes))}" for classes, name in TASKS.items()]
    return HEAD + "\n".join(tables) + "\n![memorised share and test error by step](robust_losses_mnist.png)\n" + READ
