"""Which training images are probably mislabelled: a table of suspects, and their pictures."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lnt.analysis.cells import conditions
from lnt.analysis.figure_images import figure_suspects
from lnt.analysis.report import Report
from lnt.column_names import STATES

log = logging.getLogger(__name__)
MAX_SUSPECTS = 1000  # of each condition
SHOWN = 24
MAX_CONDITIONS = 4
# Which end of a signal is suspect, and how the values of several runs are joined: a learning time may be infinite.
SIGNALS = {
    "loss": (False, "mean"),
    "margin": (True, "mean"),
    "learning_time": (False, "median"),
    "wrong_events": (False, "mean"),
}


def add_suspects(report: Report, runs: pd.DataFrame, folders: Sequence[Path]) -> None:
    """The table of suspects of all conditions of runs on images, and a figure of the first ones of each."""
    samples, tables = report.results.samples, []
    if samples.empty:
        return
    groups = conditions(runs, report.keys)
    for number, (title, group) in enumerate(groups.items(), 1):
        found = suspects(samples[samples["run_id"].isin(group["run_id"])])
        if found.empty:
            continue
        tables.append(found.assign(condition=title))
        if number <= MAX_CONDITIONS:
            name = f"suspects_{number}" if len(groups) > 1 else "suspects"
            _draw(report, name, title, found.head(SHOWN), group.iloc[0], folders)
    if tables:
        table = pd.concat(tables, ignore_index=True)
        report.table("suspects", table[["condition", *table.columns.drop("condition")]])


def _draw(report: Report, name: str, title: str, shown: pd.DataFrame, run: pd.Series, folders: Sequence[Path]) -> None:
    """The figure of the first suspects of a condition."""
    from lnt.images.attribution import training_images  # with PyTorch, which few analyses need

    try:  # whatever the files of the data set have come to, the rest of the report is written
        images = training_images(run, shown["index"].to_numpy(), folders)
    except Exception as error:
        report.note(f"no pictures of suspects {title}: {type(error).__name__}: {error}")
        return
    if images.shape[-1] == 1:  # vectors, each a column
        return
    wrong = int((shown["true"] != shown["observed"]).sum())
    counted = f"; {wrong} of these {len(shown)} are mislabelled" if shown["true"].notna().all() else ""
    caption = f"Suspects {title}: the largest losses at the lowest test error{counted}"
    report.figure(name, figure_suspects(shown, images), shown, caption)


def suspects(samples: pd.DataFrame) -> pd.DataFrame:
    """The training samples of the runs of one condition, the most suspect first, at most MAX_SUSPECTS.

    A row for each sample and observed label, over the runs in which it has that label; `rank` goes by the loss at the lowest
    test error, and each other signal there has a rank of its own, from 1, equal ones sharing the first.
    """
    ways = {f"{signal}_{state}": how for signal, (_, how) in SIGNALS.items() for state in STATES}
    # Tables of earlier versions have the losses only, and where the true label is not known it is null.
    ways = {column: how for column, how in ways.items() if column in samples and samples[column].notna().any()}
    grouped = samples.groupby(["index", "observed", "true"], dropna=False)
    table = grouped.agg(ways).assign(runs=grouped.size()).reset_index().dropna(subset="loss_best")
    for signal, (low, _) in SIGNALS.items():
        if f"{signal}_best" in ways:
            name = "rank" if signal == "loss" else f"rank_{signal}"
            table[name] = (
                table[f"{signal}_best"].rank(ascending=low, method="min" if signal != "loss" else "first").astype("Int64")
            )
    first = ["rank", "index", "observed", "true", "runs"]
    return table.sort_values("rank").head(MAX_SUSPECTS)[[*first, *table.columns.drop(first)]].reset_index(drop=True)
