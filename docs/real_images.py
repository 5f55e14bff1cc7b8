"""The tables of docs/images.md, and the figures that analyze.py does not draw (called by docs/draw.py)."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from atlas_numbers import by_cell, curves_of, runs_of
from matplotlib.figure import Figure

from lnt.analysis.cells import over_seeds
from lnt.analysis.figure_selection import LOOKS, WHEN, figure_signals_by
from lnt.analysis.figure_stages import draw_by_step
from lnt.analysis.figure_style import DOUBLE, NOISY, SIGNAL, STYLE

PAGE = Path(__file__).with_name("images.md")
STAGES = {
    "best_test_error_fresh": "lowest test error",
    "test_error": "at the end",
    "early_auc": "AUC at the lowest",
    "selection_auc": "at the end",
    "early_noisy": "memorised at the lowest",
    "noisy_accuracy": "at the end",
    "early_clean": "clean fitted at the lowest",
}
SIGNALS = {f"{column}{suffix}": f"{name}, {when}" for suffix, when in WHEN.items() for column, (_, name) in LOOKS.items()}
EARLY = {"selection_auc": "early_auc", "clean_accuracy": "early_clean", "noisy_accuracy": "early_noisy"}
TASK = {"data.classes": "ten classes"}
KEYS = {  # the columns that tell the conditions of a study apart, with what to call a row where one is null
    "mnist_stages": {**TASK, "noise.rate": ""},
    "cifar_stages": {"noise.rate": ""},
    "human_labels": {"noise.column": "symmetric", "noise.rate": ""},
    "selection_signals_mnist": {**TASK, "noise.rate": "", "data.n_train": ""},
}
NAMES = {
    "[3, 8]": "3 against 8",
    "worse_label": "human, worse",
    "random_label1": "human, random 1",
}
HUMAN = {"random_label1": 0.1782, "worse_label": 0.4104}  # the shares of all labels that are wrong
HUMAN_PANELS = {
    "test_error": "test error\n(true labels)",
    "noisy_accuracy": "mislabelled,\nmemorised",
    "selection_auc": "AUC of the loss",
}
METHODS = {  # the settings of each, below the directory that has its runs
    "cross_entropy": (),
    "gce": ("loss=gce",),
    "elr": ("loss=elr",),
    "mixup": ("data.mixup=1",),
    "co_teaching": ("strategy=co_teaching", "strategy.within=batch"),
    "co_teaching_estimated": ("strategy=co_teaching", "strategy.within=batch", "strategy.rate=estimated"),
    "co_teaching_plus": ("strategy=co_teaching", "strategy.within=batch", "strategy.disagreement=true", "strategy.initial=10"),
}


def with_early(results: Path, study: str) -> pd.DataFrame:
    """The runs of a study, with what their curves say at the step of the lowest test error."""
    curves = curves_of(results, study).rename(columns={**EARLY, "step": "best_step"})
    keys = ["run_id", "best_step"]
    return runs_of(results, study).sort_values("seed").merge(curves[[*keys, *EARLY.values()]], on=keys, validate="one_to_one")


def conditions(runs: pd.DataFrame, keys: Mapping[str, str]) -> Iterable[tuple[str, pd.DataFrame]]:
    """The runs of each condition, below its name; `keys` as in KEYS."""
    for place, cell in runs.groupby(list(keys), dropna=False):
        names = [
            null if pd.isna(value) else NAMES.get(value, str(value)) for value, null in zip(place, keys.values(), strict=True)
        ]
        yield ", ".join(name for name in names if name), cell


def stages(results: Path, study: str) -> str:
    """A row for each condition: errors, AUCs of the loss, and what is fitted, at the lowest test error and at the end."""
    return by_cell(conditions(with_early(results, study), KEYS[study]), "condition", STAGES)


def signals(results: Path, study: str) -> str:
    """A row for each condition: AUCs of all signals at the lowest test error and at the end."""
    return by_cell(conditions(runs_of(results, study), KEYS[study]), "condition, images", SIGNALS)


def methods(results: Path, study: str) -> str:
    """A row for each method: test errors, and what the samples are that it trains on at the end."""
    columns = {
        "best_test_error": "lowest",
        "best_test_error_fresh": "lowest, chosen by other samples",
        "test_error": "last",
        "kept_share": "kept at the end",
        "kept_precision": "clean among these",
    }
    cells = []
    for name, settings in METHODS.items():
        runs = pd.concat(pd.read_parquet(path) for path in sorted((results / study / name).rglob("runs.parquet"))).sort_values(
            "seed"
        )
        cells.append((f"`{' '.join(settings)}`" if settings else "none: cross entropy", runs))
    return by_cell(cells, "METHOD", columns)


def figure_signals(results: Path) -> Figure:
    """AUCs of the signals on MNIST by the number of images, a column for each task and rate."""
    runs = runs_of(results, "selection_signals_mnist").sort_values("data.n_train")
    named = [cell.assign(condition=name) for name, cell in conditions(runs, {**TASK, "noise.rate": ""})]
    table = over_seeds(pd.concat(named), ["condition", "data.n_train"], list(SIGNALS))
    return figure_signals_by(table.reset_index(), "data.n_train", "condition").figure


def figure_human(results: Path) -> Figure:
    """Test error, what is memorised and the AUC of the loss by step, a column for each kind of human labels."""
    runs, curves = runs_of(results, "human_labels"), curves_of(results, "human_labels")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(DOUBLE, 5), layout="constrained")
        axes = figure.subplots(len(HUMAN_PANELS), len(HUMAN), sharex=True, sharey="row")
        for column, (kind, rate) in enumerate(HUMAN.items()):
            parts = {
                "human": (SIGNAL, runs["noise.column"] == kind),
                "symmetric": (NOISY, np.isclose(runs["noise.rate"], rate)),
            }
            for ax, metric in zip(axes[:, column], HUMAN_PANELS, strict=True):
                for name, (colour, chosen) in parts.items():
                    own = curves[curves["run_id"].isin(runs.loc[chosen, "run_id"])]
                    draw_by_step(ax, own, {metric: (colour, name)})
            axes[0, column].set_title(f"{NAMES[kind].removeprefix('human, ')}: {100 * rate:.0f} % of the labels wrong")
            axes[-1, column].set_xlabel("gradient step")
        for ax, name in zip(axes[:, 0], HUMAN_PANELS.values(), strict=True):
            ax.set_ylabel(name)
        axes[0, 0].legend(loc="lower left", title="label noise")
    return figure


TABLES: dict[str, Callable[[Path, str], str]] = {
    "methods_digits": methods,
    "selection_signals_mnist": signals,
    **dict.fromkeys(("mnist_stages", "cifar_stages", "human_labels"), stages),
}
FIGURES: dict[str, Callable[[Path], Figure]] = {"selection_signals_mnist": figure_signals, "human_labels": figure_human}


def write(study: str, results: Path) -> None:
    """Put the table of a study between its marks in docs/images.md, and its figure beside the page if it has one here."""
    start, end = f"<!-- table of {study} -->\n", "<!-- end of table -->\n"
    before, _, rest = PAGE.read_text().partition(start)
    PAGE.write_text(f"{before}{start}\n{TABLES[study](results, study)}\n{end}{rest.partition(end)[2]}")
    if study in FIGURES:
        FIGURES[study](results).savefig(PAGE.with_name(f"{study}.png"), dpi=200)
