"""From results on disk to tables. Reads files only: nothing here trains, needs a GPU, or instantiates a configuration."""

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lnt.config import ConfigError, require

log = logging.getLogger(__name__)
SEEDS = ("seed", "seeds.data", "seeds.noise", "seeds.init", "seeds.order", "seeds.test")
BOOTSTRAPS = 200


@dataclass(frozen=True)
class Results:
    """All runs found under a directory. Duplicates and failed runs are dropped and counted."""

    path: Path
    runs: pd.DataFrame  # one row per run_id that was measured
    failed: pd.DataFrame  # rows of runs that raised
    sources: list[Path]
    planned: int | None  # runs that the sweeps' plans name, None without a plan
    dropped: dict[str, int] = field(default_factory=dict)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """run_id, step, metrics; read when first asked for."""
        tables = [pd.read_parquet(source.with_name("curves.parquet")) for source in self.sources]
        return pd.concat(tables, ignore_index=True).drop_duplicates(["run_id", "step"])


def load(path: Path) -> Results:
    """Read every runs.parquet below `path`, of running and partial sweeps too. Raises ConfigError if there is none.

    A run that appears twice counts once; one that failed and was trained later is not failed. The column
    `price_of_memorising` = test_error - best_test_error is added.
    """
    require(path.is_dir(), "path", path, "is not a directory")
    sources = sorted(source for source in path.rglob("runs.parquet") if "analysis" not in source.relative_to(path).parts)
    require(bool(sources), "path", path, "holds no results: no runs.parquet in it or below it")
    plans = sorted(path.rglob("sweep.yaml"))
    studies = {study_of(plan) for plan in plans}
    require(len(studies) <= 1, "path", path, f"holds sweeps of different studies: {', '.join(map(str, plans))}; name one")
    rows = pd.concat([pd.read_parquet(source) for source in sources], ignore_index=True)
    failed = rows["status"] == "failed"
    runs = rows[~failed].drop_duplicates("run_id")
    lost = rows[failed & ~rows["run_id"].isin(runs["run_id"])].drop_duplicates("run_id")
    dropped = {"failed": len(lost), "duplicates": len(rows) - len(runs) - len(lost)}
    runs = runs.assign(price_of_memorising=runs["test_error"] - runs["best_test_error"]).reset_index(drop=True)
    return Results(path, runs, lost, sources, sum(map(planned_runs, plans)) if plans else None, dropped)


def study_of(plan: Path) -> tuple[str, ...]:
    """What makes sweeps one study: the same configuration keys (values may differ) and the same swept axes."""
    groups = yaml.safe_load(plan.read_text())["groups"]
    keys = {
        f"{name}.{key}" for group in groups for name, part in group["config"].items() if isinstance(part, dict) for key in part
    }
    return (*sorted(keys), *sorted({key for group in groups for axis in group["axes"] for key in axis["keys"]}))


def planned_runs(plan: Path) -> int:
    """How many runs a sweep.yaml names."""
    groups = yaml.safe_load(plan.read_text())["groups"]
    return sum(int(np.prod([len(axis["points"]) for axis in group["axes"]], dtype=int)) for group in groups)


def config_columns(runs: pd.DataFrame) -> list[str]:
    """The columns that hold configuration: those between run_id and status."""
    columns = list(runs.columns)
    return columns[columns.index("run_id") + 1 : columns.index("status")]


def swept(runs: pd.DataFrame) -> list[str]:
    """The configuration keys that take more than one value, seeds left out."""
    return [key for key in config_columns(runs) if key not in SEEDS and runs[key].nunique(dropna=False) > 1]


def outcome_columns(runs: pd.DataFrame) -> list[str]:
    """The numeric columns after the configuration."""
    return [key for key in runs.columns[len(config_columns(runs)) + 1 :] if pd.api.types.is_numeric_dtype(runs[key])]


def check_column(runs: pd.DataFrame, key: str, column: str, allowed: list[str]) -> None:
    """Raise ConfigError, with the columns that there are, if `column` is none of them."""
    if column not in allowed:
        raise ConfigError(key, column, f"no such column; there are {', '.join(allowed)}")


def title_of(keys: list[str], values: tuple) -> str:
    """key=value, key=value."""
    pairs = zip(keys, values, strict=True)
    return ", ".join(f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}" for key, value in pairs)


def conditions(runs: pd.DataFrame, keys: list[str] | None = None) -> dict[str, pd.DataFrame]:
    """Runs grouped by `keys` (default: all swept keys, so that a group differs by seed alone), under a title each."""
    keys = swept(runs) if keys is None else keys
    if not keys:
        return {"": runs}
    return {title_of(keys, values): group for values, group in runs.groupby(keys, dropna=False, sort=True)}


def cells(results: Results, keys: list[str], values: list[str]) -> pd.DataFrame:
    """For each combination of `keys` and each value column: n, mean, sd, 95 % confidence interval over seeds; failed, missing.

    The interval is mean -/+ 1.96 sd / sqrt(n). Without a plan, a cell misses what it has less than the fullest cell.
    """
    numbers = results.runs[keys + values].astype(dict.fromkeys(values, float))
    grouped = numbers.groupby(keys, dropna=False)
    mean, sd, there = grouped[values].mean(), grouped[values].std(), grouped[values].count()
    half = 1.96 * sd / np.sqrt(there.clip(lower=1))
    kinds = {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}
    table = pd.DataFrame({f"{value}_{kind}": kinds[kind][value] for value in values for kind in kinds})
    table.insert(0, "n", grouped.size())
    lost = results.failed.groupby(keys, dropna=False).size() if len(results.failed) else pd.Series(dtype=int)
    table.insert(1, "failed", lost.reindex(table.index).fillna(0).astype(int) if len(lost) else 0)
    expected = results.planned // len(table) if results.planned else int((table["n"] + table["failed"]).max())
    table.insert(2, "missing", (expected - table["n"] - table["failed"]).clip(lower=0))
    return table.reset_index()


@dataclass(frozen=True)
class Grid:
    """A value over two axes, seed by seed: the data of a phase diagram."""

    x: np.ndarray  # [X]
    y: np.ndarray  # [Y]
    values: np.ndarray  # [Y, X, seeds], NaN where missing

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean over the seeds that there are, [Y, X], NaN in empty cells."""
        return _mean(self.values)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN where all are."""
    there = np.isfinite(values)
    total, count = np.where(there, values, 0).sum(-1), there.sum(-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def grid(runs: pd.DataFrame, x: str, y: str, value: str) -> Grid:
    """Arrange runs on the axes x and y; runs of a cell are ordered by their seeds, so that seeds pair across cells."""
    (xs, i), (ys, j) = (np.unique(runs[key].astype(float), return_inverse=True) for key in (x, y))
    seeds = runs.groupby([key for key in SEEDS if key in runs], dropna=False, sort=True).ngroup().to_numpy()
    values = np.full((len(ys), len(xs), seeds.max() + 1), np.nan)
    values[j, i, seeds] = runs[value].astype(float)
    return Grid(xs, ys, values)


@dataclass(frozen=True)
class Boundary:
    """Where a phase diagram crosses a level: y as a function of x, with bootstrap quantiles over seeds."""

    level: float
    y: np.ndarray  # [X], NaN where the column never crosses
    low: np.ndarray
    high: np.ndarray
    resampled: np.ndarray  # [BOOTSTRAPS, X]


def boundary(data: Grid, level: float) -> Boundary:
    """The crossing of `level` in each column, its 95 % band from resampling seeds (the same seeds in all cells)."""
    rng = np.random.default_rng(0)
    seeds = data.values.shape[2]
    samples = np.stack(
        [crossing(data.y, _mean(data.values[:, :, rng.integers(0, seeds, seeds)]), level) for _ in range(BOOTSTRAPS)]
    )
    enough = np.isfinite(samples).mean(0) > 0.5
    low, high = (
        np.where(enough, np.nanquantile(np.where(enough, samples, 0), quantile, axis=0), np.nan) for quantile in (0.025, 0.975)
    )
    return Boundary(level, crossing(data.y, data.mean, level), low, high, samples)


def crossing(y: np.ndarray, mean: np.ndarray, level: float) -> np.ndarray:
    """For each column of mean [Y, X] the y at which it crosses `level` for good, interpolated linearly; NaN if it does not."""
    above = mean > level
    changes = above[1:] != above[:-1]
    last = len(y) - 2 - changes[::-1].argmax(0)
    columns = np.arange(mean.shape[1])
    below, over = mean[last, columns], mean[last + 1, columns]
    step = np.divide(level - below, over - below, out=np.zeros_like(below), where=over != below)
    return np.where(changes.any(0), y[last] + step * (y[last + 1] - y[last]), np.nan)


@dataclass(frozen=True)
class PowerLaw:
    """y = constant * x^exponent along a boundary, with 95 % bootstrap intervals."""

    exponent: tuple[float, float, float]  # measured: value, low, high
    constant: tuple[float, float, float]  # at the predicted exponent
    predicted: float


def power_law(data: Grid, edge: Boundary, predicted: float) -> PowerLaw | None:
    """The log-log slope of a boundary beside the predicted one, and the constant at the predicted one; None if too short."""

    def fits(y: np.ndarray) -> tuple[float, float]:
        use = np.isfinite(y) & (y > 0) & (data.x > 0)
        if use.sum() < 3:
            return np.nan, np.nan
        log_x, log_y = np.log(data.x[use]), np.log(y[use])
        return float(np.polyfit(log_x, log_y, 1)[0]), float(np.exp(np.mean(log_y - predicted * log_x)))

    measured, samples = fits(edge.y), np.array([fits(y) for y in edge.resampled])
    samples = samples[np.isfinite(samples).all(1)]
    if not np.isfinite(measured[0]) or len(samples) < BOOTSTRAPS // 2:
        return None
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    exponent, constant = ((measured[i], float(low[i]), float(high[i])) for i in (0, 1))
    return PowerLaw(exponent, constant, predicted)


def collapse(combination: np.ndarray, value: np.ndarray, bins: int = 40) -> float:
    """How much of the variance of cell means a function of the combination alone explains, 1 for a perfect collapse.

    R^2 of the means over `bins` quantile bins of the combination.
    """
    use = np.isfinite(combination) & np.isfinite(value)
    if use.sum() < 2 * bins or np.var(value[use]) == 0:
        return np.nan
    group = pd.qcut(combination[use], bins, duplicates="drop")
    fitted = pd.Series(value[use]).groupby(group, observed=True).transform("mean")
    return float(1 - np.var(value[use] - fitted) / np.var(value[use]))
