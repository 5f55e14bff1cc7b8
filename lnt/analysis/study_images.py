"""The analysis of runs on images: losses sample by sample, noise as it was realised, attributions."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lnt.analysis import figure_images, study_suspects
from lnt.analysis.cells import conditions
from lnt.analysis.report import Report
from lnt.errors import require
from lnt.files import write_atomically

log = logging.getLogger(__name__)
MAX_CONDITIONS = 4
RUNS_EXPLAINED = 5  # of each condition, those of the first seeds


@dataclass(frozen=True)
class Attributions:
    """What is explained in a run on images, and where explanations start from. Raises ConfigError."""

    count: int  # samples of each kind; 0 = none
    background: str  # all | clean
    background_size: int  # samples

    def __post_init__(self) -> None:
        for key, value, least in (("attributions", self.count, 0), ("attributions_background_size", self.background_size, 1)):
            whole = isinstance(value, int) and not isinstance(value, bool)
            require(whole and value >= least, key, value, f"must be an integer of at least {least}")
        require(self.background in ("all", "clean"), "attributions_background", self.background, "must be all or clean")


def add_images(report: Report, attributions: Attributions, folders: Sequence[Path]) -> None:
    """Tables and figures that only runs on images have."""
    runs = report.results.runs
    # Only data sets of images have it; a study may hold others beside them.
    if "data.augment" in runs and (on_images := runs["data.augment"].notna()).any():
        study_suspects.add_suspects(report, runs[on_images], folders)
    # Only runs on images whose true labels are known have it.
    if "realised_transition" not in runs or runs["realised_transition"].isna().all():
        return
    runs = runs[runs["realised_transition"].notna()]
    report.table("transitions", transitions(runs))
    groups = conditions(runs)
    shown = dict(list(groups.items())[:MAX_CONDITIONS])
    if len(groups) > len(shown):
        report.note(f"{len(groups)} conditions: losses and attributions are drawn for the first {len(shown)}")
    samples = report.results.samples
    of_group = {title: samples[samples["run_id"].isin(group["run_id"])] for title, group in shown.items()}
    figure, data = figure_images.figure_losses(of_group)
    report.figure("losses", figure, data, "Losses of clean and mislabelled samples")
    if attributions.count:
        _explain(report, shown, attributions, folders)


def transitions(runs: pd.DataFrame) -> pd.DataFrame:
    """Realised P(observed | true), mean and standard deviation over the runs of each condition, in long form."""
    rows = []
    for title, group in conditions(runs).items():
        matrices = np.array([json.loads(text) for text in group["realised_transition"]])
        mean, deviation = matrices.mean(0), matrices.std(0)
        for true, observed in np.ndindex(mean.shape):
            place = {"condition": title, "true_class": true, "observed_class": observed}
            rows.append({**place, "share": mean[true, observed], "sd": deviation[true, observed], "runs": len(matrices)})
    return pd.DataFrame(rows)


def _explain(report: Report, groups: dict[str, pd.DataFrame], asked: Attributions, folders: Sequence[Path]) -> None:
    """SHAP values of some runs of each condition: arrays, a figure for each condition, numbers with their errors."""
    from lnt.images import attribution  # with PyTorch, which nothing else here needs

    samples, numbers = report.results.samples, []
    start = (asked.background, asked.background_size)
    arrays: dict[str, np.ndarray] = {}
    for number, (title, group) in enumerate(groups.items(), 1):
        first = None
        for _, run in group.sort_values(["seed", "run_id"]).head(RUNS_EXPLAINED).iterrows():
            # None where weights were not kept (keep_networks=false).
            weights = report.results.networks(run["run_id"])
            if weights is None:
                continue
            log.info("explaining run %s %s", run["run_id"], title)
            try:  # whatever one network does to SHAP, the rest of the report is written
                own = samples[samples["run_id"] == run["run_id"]]
                found = attribution.explain_run(run, own, weights, asked.count, folders, *start)
            except Exception as error:
                report.note(f"no attributions of run {run['run_id']}: {type(error).__name__}: {error}")
                continue
            if found is None:
                continue
            # The figure shows one run of each condition, the first that could be explained.
            first = first or found
            numbers.append(attribution.numbers_of(found).assign(condition=title, run_id=run["run_id"]))
            arrays |= {f"{run['run_id']}_{state}": values.astype(np.float32) for state, values in found.values.items()}
            arrays[f"{run['run_id']}_images"] = found.images
        if first is not None:
            name = f"attributions_{number}" if len(groups) > 1 else "attributions"
            caption = f"Attributions {title}: red pixels raise the margin of the observed class ({first.method} SHAP)"
            report.figure(name, figure_images.figure_attributions(first), numbers[-1], caption)
    if numbers:
        table = pd.concat(numbers, ignore_index=True)
        report.table("attributions_by_sample", table)
        summary = attribution.summary(table)
        report.table("attributions_summary", summary)
        figure = figure_images.figure_attribution_numbers(summary)
        report.figure("attributions_numbers", figure, summary, "Attributions in numbers, beside what would be expected anyway")
        write_atomically(report.folder / "attributions.npz", lambda file: _save(file, arrays))
        report.written.append("attributions.npz")


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    # np.savez appends .npz to a name without it, and the temporary name must stay as it is.
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
