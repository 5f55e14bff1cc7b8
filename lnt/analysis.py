"""From results on disk to tables. Reads files only: nothing here trains, needs a GPU, or instantiates a configuration."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lnt.config import require

SEEDS = ("seed", "seeds.data", "seeds.noise", "seeds.init", "seeds.order", "seeds.test")


@dataclass(frozen=True)
class Results:
    """All runs found under a directory, and their curves."""

    runs: pd.DataFrame  # one row per run_id
    curves: pd.DataFrame  # run_id, step, metrics
    sources: list[Path]


def load(path: Path) -> Results:
    """Read every runs.parquet below `path`; a run that appears twice counts once. Raises ConfigError if there is none."""
    require(path.is_dir(), "path", path, "is not a directory")
    sources = sorted(path.rglob("runs.parquet"))
    require(bool(sources), "path", path, "holds no results: no runs.parquet in it or below it")
    runs = pd.concat([pd.read_parquet(source) for source in sources], ignore_index=True)
    curves = pd.concat([pd.read_parquet(source.with_name("curves.parquet")) for source in sources], ignore_index=True)
    return Results(runs.drop_duplicates("run_id"), curves.drop_duplicates(["run_id", "step"]), sources)


def config_columns(runs: pd.DataFrame) -> list[str]:
    """The columns that hold configuration: those between run_id and status."""
    columns = list(runs.columns)
    return columns[columns.index("run_id") + 1 : columns.index("status")]


def swept(runs: pd.DataFrame) -> list[str]:
    """The configuration keys that take more than one value, seeds left out."""
    return [key for key in config_columns(runs) if key not in SEEDS and runs[key].nunique(dropna=False) > 1]


def conditions(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Runs that differ by their seeds alone, under a title that says what is different about them."""
    keys = swept(runs)
    if not keys:
        return {"": runs}
    groups = runs.groupby(keys, dropna=False, sort=True)
    return {
        ", ".join(
            f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in zip(keys, values, strict=True)
        ): group
        for values, group in groups
    }
