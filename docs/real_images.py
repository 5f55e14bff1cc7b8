"""The tables of "Real results" in docs/images.md (called by docs/draw.py where the files are)."""

from pathlib import Path

import pandas as pd
from atlas_numbers import by_cell, curves_of, runs_of

PAGE = Path(__file__).with_name("images.md")
COLUMNS = {
    "best_test_error_fresh": "lowest test error",
    "test_error": "at the end",
    "early_auc": "AUC at the lowest",
    "selection_auc": "at the end",
    "early_noisy": "memorised at the lowest",
    "noisy_accuracy": "at the end",
    "early_clean": "clean fitted at the lowest",
}
EARLY = {"selection_auc": "early_auc", "clean_accuracy": "early_clean", "noisy_accuracy": "early_noisy"}
KEYS = {  # the columns that tell the conditions of a study apart, with what to call a row where one is null
    "mnist_stages": {"data.classes": "ten classes", "noise.rate": ""},
    "cifar_stages": {"noise.rate": ""},
    "human_labels": {"noise.column": "symmetric", "noise.rate": ""},
}
NAMES = {"[3, 8]": "3 against 8", "worse_label": "human, worse", "random_label1": "human, random1"}


def with_early(results: Path, study: str) -> pd.DataFrame:
    """The runs of a study, with what their curves say at the step of the lowest test error."""
    curves = curves_of(results, study).rename(columns={**EARLY, "step": "best_step"})
    keys = ["run_id", "best_step"]
    return runs_of(results, study).sort_values("seed").merge(curves[[*keys, *EARLY.values()]], on=keys, validate="one_to_one")


def table(results: Path, study: str) -> str:
    """A row for each condition."""
    cells, keys = [], KEYS[study]
    for place, cell in with_early(results, study).groupby(list(keys), dropna=False):
        names = [
            null if pd.isna(value) else NAMES.get(value, str(value)) for value, null in zip(place, keys.values(), strict=True)
        ]
        cells.append((", ".join(name for name in names if name), cell))
    return by_cell(cells, "condition", COLUMNS)


def write(study: str, results: Path) -> None:
    """Put the table of a study between its marks in docs/images.md."""
    start, end = f"<!-- table of {study} -->\n\n", "\n<!-- end of table -->\n"
    before, _, rest = PAGE.read_text().partition(start)
    PAGE.write_text(before + start + table(results, study) + end + rest.partition(end)[2])
