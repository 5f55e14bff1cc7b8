"""The page docs/atlas.md: published diagrams beside ours, with their agreement in numbers (called by docs/draw.py)."""

from pathlib import Path

import numpy as np
import pandas as pd

PUBLISHED = Path(__file__).parents[1] / "tests" / "data"
HEAD = """# Atlas of published experiments

Each is one command, `python train.py experiment=NAME`, then `python analyze.py path=DIR`; settings and sources are in
conf/experiment/NAME.yaml. `python docs/draw.py` trains and measures all of it again and writes this page. "rms" is the root
mean square difference to the published cells, "expected" what the published means of few seeds and ours would differ by anyway.

"""


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


def kou2023(results: Path) -> dict[str, float]:
    table = pd.read_csv(PUBLISHED / "kou2023_test_error.csv", comment="#")
    long = table.melt("d", var_name="data.signal_norm", value_name="published").rename(columns={"d": "data.dim"})
    long = long.astype({"data.signal_norm": float})
    ours = runs_of(results, "kou2023").round({"data.signal_norm": 6})
    return compared(ours, long, ["data.dim", "data.signal_norm"], "test_error_observed", 10)


def karhadkar2024(results: Path) -> dict[str, float]:
    table = pd.read_csv(PUBLISHED / "karhadkar2024_test_error.csv", comment="#")
    table = table.rename(columns={"n": "data.n_train", "d_over_n": "data.dim_over_n", "test_error": "published"})
    ours = runs_of(results, "karhadkar2024")
    return compared(ours, table, ["data.n_train", "data.dim_over_n"], "test_error", 5)


def robust_losses(results: Path) -> str:
    """When half of the mislabelled samples are memorised, relative to the logistic loss: measured and predicted."""
    folder = results / "robust_losses" / "analysis"
    runs = runs_of(results, "robust_losses")[["run_id", "loss", "data.snr", "noisy_accuracy"]]
    left = runs[runs["noisy_accuracy"] < 1].groupby(["loss", "data.snr"])["noisy_accuracy"].agg(["size", "min"])
    rest = [
        f"{size} runs of {loss} at n SNR^2 = {100 * snr**2:.0f}, where at least {low:.0%} are"
        for (loss, snr), size, low in left.itertuples()
    ]
    times = pd.read_csv(folder / "theory.csv").drop(columns="data.snr", errors="ignore").merge(runs, on="run_id")
    cells = times.groupby(["data.snr", "loss"])[["memorised", "memorised_predicted", "test_error"]].mean().unstack()
    lines = ["| n SNR^2 | " + " | ".join(sorted(runs["loss"].unique())) + " |"]
    lines.append("| --- |" + " --- |" * (lines[0].count("|") - 2))
    for snr, row in cells.iterrows():
        measured, predicted = (row[name] / row[name]["logistic"] for name in ("memorised", "memorised_predicted"))
        shown = (f"{measured[loss]:.2f}, {predicted[loss]:.2f}" for loss in sorted(measured.index))
        lines.append(f"| {100 * snr**2:.0f} | " + " | ".join(shown) + " |")
    closing = f"\n\nThe largest final test error of a cell is {cells['test_error'].to_numpy().max():.4f}. After 200 T1 every "
    closing += f"mislabelled sample is memorised{' but for ' + '; '.join(rest) if rest else ''}.\n"
    return "\n".join(lines) + closing


def page(results: Path) -> str:
    """The whole page."""
    rows = [
        ("kou2023", "Kou et al., ICML 2023: error by d and norm of the signal", kou2023(results)),
        ("karhadkar2024", "Karhadkar et al., NeurIPS 2024: error by n and d / n, leaky ReLU", karhadkar2024(results)),
    ]
    lines = [
        "| experiment | what was published | cells | rms | expected | mean difference | correlation |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| [{name}](../conf/experiment/{name}.yaml) | {what} | {found['cells']} | {found['rms']:.4f} "
        f"| {found['expected']:.4f} | {found['mean']:+.4f} | {found['correlation']:.3f} |"
        for name, what, found in rows
    ]
    return (
        HEAD
        + "\n".join(lines)
        + """

The published cells of kou2023 share their test sets, whose flipped labels move all of them together; ours are means over the
flips. Other studies are compared with their papers in words: [studies](studies.md).

![error by n and d / n](karhadkar2024_phase_test_error.png)

## Losses that are called robust

`experiment=robust_losses` (settings are ours: n = 100, d = 4000, tau = 0.2, ten seeds). The time at which half of the
mislabelled samples are memorised for good, relative to the logistic loss: measured, and predicted by the mean-field theory
with nothing fitted ([theory](theory.md)). Robust losses put memorising off, the more the stronger the signal.

"""
        + robust_losses(results)
        + """
![measured against predicted](robust_losses_theory.png)
"""
    )
