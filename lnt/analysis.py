"""From results on disk to tables. Reads files only: nothing here trains, needs a GPU, or instantiates a configuration."""

import itertools
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lnt.config import ConfigError, flatten, require
from lnt.files import read_parts
from lnt.theory import coordinate, least_coordinate

SEEDS = ("seed", "seeds.data", "seeds.noise", "seeds.init", "seeds.order", "seeds.test")
BOOTSTRAPS = 200
STATES = ("best", "last")  # of a network on images that are kept: at the lowest test error, at the end
KINDS = ("mislabelled", "clean")  # of samples


@dataclass(frozen=True)
class Results:
    """All runs found under a directory, by how they ended."""

    path: Path
    runs: pd.DataFrame  # completed: what means and figures are made of
    diverged: pd.DataFrame  # the last finite measurement of runs that diverged
    failed: pd.DataFrame  # runs that raised
    sources: list[Path]
    plans: list[Path]
    duplicates: int = 0

    @cached_property
    def curves(self) -> pd.DataFrame:
        """run_id, step, metrics; read when first asked for."""
        parts = [part for source in self.sources for part in read_parts(source.with_name("curves.parquet"))]
        return pd.concat(parts, ignore_index=True).drop_duplicates(["run_id", "step"])

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Training samples of runs on images (lnt/results.py: SAMPLES); empty without such runs."""
        tables = [source.with_name("samples.parquet") for source in self.sources]
        parts = [part for table in tables if table.exists() for part in read_parts(table)]
        if not parts:
            return pd.DataFrame({"run_id": []})
        return pd.concat(parts, ignore_index=True).drop_duplicates(["run_id", "index"])

    def networks(self, run_id: str) -> Path | None:
        """The file of a run's weights, if they were kept."""
        files = (source.with_name("networks") / f"{run_id}.pt" for source in self.sources)
        return next((file for file in files if file.is_file()), None)


def load(path: Path) -> Results:
    """Read every runs.parquet below `path`, of running and partial sweeps too. Raises ConfigError if no run completed.

    A run that appears twice counts once; one that failed and was trained later is not failed. The column
    `price_of_memorising` = test_error - best_test_error is added.
    """
    require(path.is_dir(), "path", path, "is not a directory")
    sources = sorted(source for source in path.rglob("runs.parquet") if "analysis" not in source.relative_to(path).parts)
    parts = [part for source in sources for part in read_parts(source)]
    require(bool(parts), "path", path, "holds no results: no runs.parquet in it or below it")
    plans = list({plan.read_bytes(): plan for plan in sorted(path.rglob("sweep.yaml"))}.values())
    studies = {study_of(plan) for plan in plans}
    require(len(studies) <= 1, "path", path, f"holds sweeps of different studies: {', '.join(map(str, plans))}; name one")
    rows = pd.concat(parts, ignore_index=True)
    rows = rows.assign(price_of_memorising=rows["test_error"] - rows["best_test_error"])
    measured = rows[rows["status"] != "failed"].drop_duplicates("run_id")
    failed = rows[(rows["status"] == "failed") & ~rows["run_id"].isin(measured["run_id"])].drop_duplicates("run_id")
    completed = measured["status"] == "completed"
    ends = f"no run completed: {(~completed).sum()} diverged, {len(failed)} failed"
    require(completed.any(), "path", path, ends)
    duplicates = len(rows) - len(measured) - len(failed)
    runs, diverged = measured[completed].reset_index(drop=True), measured[~completed]
    return Results(path, runs, diverged, failed, sources, plans, duplicates)


def study_of(plan: Path) -> tuple[str, ...]:
    """What makes sweeps one study: the same configuration keys (values may differ) and the same swept axes."""
    groups = yaml.safe_load(plan.read_text())["groups"]
    keys = {
        f"{name}.{key}" for group in groups for name, part in group["config"].items() if isinstance(part, dict) for key in part
    }
    return (*sorted(keys), *sorted({key for group in groups for axis in group["axes"] for key in axis["keys"]}))


def planned_cells(plans: list[Path], keys: list[str]) -> pd.DataFrame:
    """The cells that sweep plans name: a row for each combination of `keys`, with the number of runs `planned` in it."""
    rows: Counter[tuple] = Counter()
    for group in (group for plan in plans for group in yaml.safe_load(plan.read_text())["groups"]):
        fixed = dict(flatten(group["config"])) | group["config"]["choices"]
        inner = [axis for axis in group["axes"] if not set(axis["keys"]) & set(keys)]
        outer = [axis for axis in group["axes"] if set(axis["keys"]) & set(keys)]
        runs = int(np.prod([len(axis["points"]) for axis in inner], dtype=int))
        names = [key for axis in outer for key in axis["keys"]]
        for points in itertools.product(*(axis["points"] for axis in outer)):
            chosen = fixed | dict(zip(names, itertools.chain(*points), strict=True))
            values = (chosen.get(key) for key in keys)
            rows[tuple(json.dumps(value) if isinstance(value, list) else value for value in values)] += runs
    return pd.DataFrame([(*cell, runs) for cell, runs in rows.items()], columns=[*keys, "planned"])


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
    """key=value, key=value; keys without a value, which belong to other options, are left out unless there is no other."""
    pairs = [(key, value) for key, value in zip(keys, values, strict=True) if not pd.isna(value)]
    if not pairs:
        return ", ".join(f"{key}=null" for key in keys)
    return ", ".join(f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}" for key, value in pairs)


def conditions(runs: pd.DataFrame, keys: list[str] | None = None) -> dict[str, pd.DataFrame]:
    """Runs grouped by `keys` (default: all swept keys, so that a group differs by seed alone), under a title each."""
    keys = swept(runs) if keys is None else keys
    if not keys:
        return {"": runs}
    return {title_of(keys, values): group for values, group in runs.groupby(keys, dropna=False, sort=True)}


def cells(results: Results, keys: list[str], values: list[str]) -> pd.DataFrame:
    """For each combination of `keys`: n completed, diverged, failed and missing runs, and of each value column the mean, sd and
    95 % confidence interval over the completed ones.

    The interval is mean -/+ 1.96 sd / sqrt(n). Without a plan, a cell misses what it has less than the fullest cell.
    """
    grouped = results.runs[keys + values].astype(dict.fromkeys(values, float)).groupby(keys, dropna=False)
    mean, sd = grouped[values].mean(), grouped[values].std()
    half = 1.96 * sd / np.sqrt(grouped[values].count().clip(lower=1))
    kinds = {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}
    counts = {"n": grouped.size()}
    counts |= {name: getattr(results, name).groupby(keys, dropna=False).size() for name in ("diverged", "failed")}
    if results.plans:
        types = {key: results.runs[key].dtype for key in keys}
        counts["planned"] = planned_cells(results.plans, keys).astype(types).groupby(keys, dropna=False)["planned"].sum()
    table = pd.DataFrame(counts).fillna(0).astype(int)
    there = table[["n", "diverged", "failed"]].sum(axis=1)
    table["missing"] = ((table.pop("planned") if results.plans else there.max()) - there).clip(lower=0)
    measured = pd.DataFrame({f"{value}_{kind}": kinds[kind][value] for value in values for kind in kinds})
    return table.join(measured).rename_axis(keys).reset_index()


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
    runs = runs.dropna(subset=[x, y])
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
    above, there = mean > level, np.isfinite(mean)
    changes = (above[1:] != above[:-1]) & there[1:] & there[:-1]
    last = len(y) - 2 - changes[::-1].argmax(0)
    columns = np.arange(mean.shape[1])
    below, over = mean[last, columns], mean[last + 1, columns]
    step = np.divide(level - below, over - below, out=np.zeros_like(below), where=over != below)
    return np.where(changes.any(0), y[last] + step * (y[last + 1] - y[last]), np.nan)


@dataclass(frozen=True)
class PowerLaw:
    """v(y) = constant * u(x)^exponent along a boundary, with 95 % bootstrap intervals (u, v: theory.coordinate)."""

    exponent: tuple[float, float, float]  # measured: value, low, high
    constant: tuple[float, float, float]  # at the predicted exponent
    predicted: float


def power_law(x: np.ndarray, edge: Boundary, keys: tuple[str, str], predicted: float, n: int) -> PowerLaw | None:
    """The log-log slope of a boundary beside the predicted one, and the constant at the predicted one; None if too short.

    Only points where the law speaks of expectations are fitted: those with v(y) above theory.least_coordinate.
    """
    u, least = coordinate(keys[0], x), least_coordinate(keys[1], n)

    def fits(y: np.ndarray) -> tuple[float, float]:
        v = coordinate(keys[1], y)
        use = np.isfinite(v) & (v > least) & (u > 0)
        if use.sum() < 3:
            return np.nan, np.nan
        log_u, log_v = np.log(u[use]), np.log(v[use])
        return float(np.polyfit(log_u, log_v, 1)[0]), float(np.exp(np.mean(log_v - predicted * log_u)))

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
