"""Numbers of studies that pages of docs/ share: means and ratios with intervals over seeds, borders, published cells."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lnt.intervals import FEWEST_SEEDS, jackknife_interval, mean_interval


def compared(ours: pd.DataFrame, published: pd.DataFrame, keys: list[str], value: str, seeds: int) -> dict[str, float]:
    """Our cells against published ones, [cells] each: n, rms, mean difference, correlation, and the expected rms.

    The variance of a published mean over `seeds` runs is taken to be that of as many of ours.
    """
    cells = ours.groupby(keys)[value].agg(["mean", "var", "count"]).reset_index()
    both = published.merge(cells, on=keys)
    difference = both["mean"] - both["published"]
    expected = both["var"] * (1 / seeds + 1 / both["count"])
    return {
        "cells": len(both),
        "rms": float(np.sqrt((difference**2).mean())),
        "expected": float(np.sqrt(expected.mean())),
        "mean": float(difference.mean()),
        "correlation": float(np.corrcoef(both["mean"], both["published"])[0, 1]),
    }


def runs_of(results: Path, study: str) -> pd.DataFrame:
    """All runs of a study, as analyze.py has joined them."""
    return pd.read_parquet(results / study / "analysis" / "all_runs.parquet")


def curves_of(results: Path, study: str) -> pd.DataFrame:
    """The curves of all runs of a study."""
    return pd.concat(pd.read_parquet(path) for path in sorted((results / study).rglob("curves.parquet")))


def ratio(own: np.ndarray, base: np.ndarray) -> str:
    """The ratio of the means of own and base, [seeds] each, with its interval over seeds."""
    # Without one seed each, for the jackknife.
    without = [np.delete(own, i).mean() / np.delete(base, i).mean() for i in range(len(own))]
    low, high = jackknife_interval(own.mean() / base.mean(), without)
    return f"{own.mean() / base.mean():.2f} [{low:.2f}, {high:.2f}]"


def with_interval(values: pd.Series) -> str:
    """The mean over seeds and its 95 % interval; the value of each seed where they are too few for one."""
    if values.notna().sum() < FEWEST_SEEDS:
        return " / ".join(f"{value:.3f}" for value in values.dropna())
    low, high = mean_interval(values.to_numpy())
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def by_cell(cells: Iterable[tuple[object, pd.DataFrame]], key: str, columns: Mapping[str, str]) -> str:
    """A table with a row for each cell, and the means and intervals of `columns`, whose headings are given."""
    lines = ["| " + " | ".join([key, *columns.values()]) + " |", "| --- |" + " --- |" * len(columns)]
    lines += [f"| {name} | " + " | ".join(with_interval(cell[column]) for column in columns) + " |" for name, cell in cells]
    return "\n".join(lines) + "\n"


class Border(NamedTuple):
    """Where a mean error crosses a level."""

    x: np.ndarray
    y: np.ndarray
    exponent: tuple[float, float, float]  # a of y ~ x^a, and its 95 % interval over seeds

    @property
    def text(self) -> str:
        """The exponent with its interval."""
        value, low, high = self.exponent
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def border(runs: pd.DataFrame, x: str, y: str, level: float) -> Border:
    """Where the mean error of the runs crosses a level, as y by x.

    Columns in which the error does not reach the level within the grid are left out.
    """
    errors = runs.set_index([x, "seed", y])["test_error"].unstack()  # [(x, seed), y]
    places, seeds = (errors.index.unique(name).to_numpy(float) for name in (x, "seed"))
    heights = np.log(errors.columns.to_numpy(float))

    def crossings(chosen: np.ndarray) -> np.ndarray:
        means = errors[errors.index.isin(chosen, level="seed")].groupby(level=x).mean().to_numpy()
        # Errors fall with y, and np.interp wants rising ones.
        found = [np.interp(level, row[::-1], heights[::-1]) for row in means]
        return np.where((means.min(1) < level) & (means.max(1) > level), found, np.nan)

    inside = np.isfinite(crossings(seeds))

    def slope(chosen: np.ndarray) -> float:
        return float(np.polyfit(np.log(places[inside]), crossings(chosen)[inside], 1)[0])

    low, high = jackknife_interval(slope(seeds), [slope(np.setdiff1d(seeds, [seed])) for seed in seeds])
    return Border(places[inside], np.exp(crossings(seeds)[inside]), (slope(seeds), float(low), float(high)))


def memorising_times(results: Path) -> pd.DataFrame:
    """theory.csv of robust_losses, by (data.snr, loss, seed): when half of the mislabelled samples are memorised, and more."""
    runs = runs_of(results, "robust_losses")[["run_id", "loss", "data.snr", "seed"]]
    times = pd.read_csv(results / "robust_losses" / "analysis" / "theory.csv").drop(columns="data.snr", errors="ignore")
    return times.merge(runs, on="run_id").set_index(["data.snr", "loss", "seed"])
