"""The mean-field theory against training, run by run at each run's own label counts: `python -m benchmarks.mean_field`.

Training takes a quarter of an hour on two cores; its runs are kept in multirun/mean_field/ and not trained again.
Writes docs/mean_field_validation.csv (one row for each cell) and docs/mean_field_validation.png, and prints the tables of
docs/theory.md. Nothing in the theory is fitted, and none of these cells was looked at while it was derived.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import lnt
from benchmarks import table
from lnt.analysis.figure_style import STYLE
from lnt.intervals import half_width
from lnt.theory.mean_field import last_crossing, predict
from lnt.theory.run_cells import COUNTS, cells_of

DOCS = Path(__file__).parents[1] / "docs"
KEPT = Path(__file__).parents[1] / "multirun" / "mean_field"
KAPPA, RATES = (0.5, 1, 2, 4, 8, 16, 32), (0, 0.1, 0.2, 0.3, 0.4, 0.45)
T1_STEPS, STEPS = 40, 1000
EARLIEST, LEAST_ERROR = 0.3, 0.005  # relative errors are judged of times after, and of test errors above
KEYS = ["kappa", "rate", "dim_over_n", "n", "width", "initial"]


def design(widths: tuple[int, ...], seed: int, repeats: int) -> pd.DataFrame:
    """Every kappa with every rate, `repeats` times; the other settings are dealt out at random, each equally often."""
    rng = np.random.default_rng(seed)
    grid = [(kappa, rate) for kappa in KAPPA for rate in RATES] * repeats
    dealt = {"dim_over_n": (5, 10, 20, 50, 100, 200), "n": (50, 100, 200), "width": widths, "initial": (0.001, 0.1)}
    columns = {key: rng.permutation(np.resize(values, len(grid))) for key, values in dealt.items()}
    return pd.DataFrame(grid, columns=["kappa", "rate"]).assign(**columns).drop_duplicates()


def train(cells: pd.DataFrame, name: str, seeds: range) -> pd.DataFrame:
    """One row for each run: its cell, label counts, and what was measured, in units of T1."""
    found = []
    for number, cell in enumerate(cells.itertuples()):
        file = KEPT / f"{name}_{number}.parquet"
        if not file.exists():
            KEPT.mkdir(parents=True, exist_ok=True)
            train_cell(cell, seeds).to_parquet(file)
        found.append(pd.read_parquet(file).assign(cell=number, **cells.iloc[number][KEYS].to_dict()))
    return pd.concat(found, ignore_index=True)


def train_cell(cell: Any, seeds: range) -> pd.DataFrame:
    """The runs of one cell, with the time in T1 at which half of the mislabelled samples are memorised for good."""
    results = lnt.simulate(
        lnt.SignalNoise(n_train=int(cell.n), dim=int(cell.n * cell.dim_over_n), snr=float(np.sqrt(cell.kappa / cell.n))),
        lnt.Symmetric(float(cell.rate)),
        lnt.TwoLayerCNN(width=int(cell.width), init_norm=float(cell.initial)),
        optimizer=lnt.GradientDescent(t1_steps=T1_STEPS, steps=STEPS),
        over={"seed": seeds},
        progress=False,
    )
    runs = results.runs
    curves = results.curves.pivot(index="step", columns="run_id", values="noisy_accuracy")[runs["run_id"]]
    return runs.assign(time=last_crossing(curves.index.to_numpy() / T1_STEPS, curves.to_numpy(float), 0.5))


def compare(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with what is predicted for each at its own label counts."""
    predicted = predict(cells_of(runs), STEPS / T1_STEPS)
    return runs.assign(
        predicted_time=predicted.memorised(),
        predicted_error=predicted.test_error(),
        predicted_best=predicted.lowest_test_error(40)[0],
    )


def by_cell(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each cell: medians of times, means of errors with half their 95 % intervals, relative errors of predictions.

    Of the `runs` of a cell `timed` have both a measured and a predicted time; medians are over these.
    """
    runs = runs.copy()
    absent = runs["time"].isna() | runs["predicted_time"].isna()
    runs.loc[absent, ["time", "predicted_time"]] = np.nan
    grouped = runs.groupby(["cell", *KEYS])
    measured = {"error": "test_error", "best": "best_test_error_fresh"}
    cells = pd.DataFrame(
        {
            "runs": grouped.size(),
            "timed": grouped["time"].count(),
            "time": grouped["time"].median(),
            "predicted_time": grouped["predicted_time"].median(),
            **{name: grouped[column].mean() for name, column in measured.items()},
            **{f"{name}_half": half_width(grouped[column].std(), grouped[column].count()) for name, column in measured.items()},
            **{f"predicted_{name}": grouped[f"predicted_{name}"].mean() for name in measured},
        }
    ).reset_index()
    for name, judged in (
        ("time", cells["time"] > EARLIEST),
        ("error", cells["error"] > LEAST_ERROR),
        ("best", cells["best"] > LEAST_ERROR),
    ):
        cells[f"{name}_off"] = (cells[f"predicted_{name}"] / cells[name] - 1).where(judged)
    return cells


def summary(cells: pd.DataFrame) -> str:
    """Median and 90 % quantile of the relative errors: of all cells, and by each setting."""
    cells = cells.assign(
        load=pd.cut(cells["kappa"] / cells["dim_over_n"], [0, 0.1, 1, 10], labels=["< 0.1", "0.1 to 1", "> 1"])
    )
    groups = [("all", "", cells)]
    for key in (*KEYS, "load"):
        groups += [(key, value, part) for value, part in cells.groupby(key, observed=True)]
    rows = []
    for key, value, part in groups:
        row: list[object] = [key, value]
        for name in ("time", "error", "best"):
            off = part[f"{name}_off"].dropna()
            row += [
                len(off),
                *(f"{off.abs().quantile(q):.1%}" if len(off) else "-" for q in (0.5, 0.9)),
                f"{off.median():+.1%}",
            ]
        rows.append(tuple(row))
    header = (
        "by",
        "value",
        *(f"{name} {what}" for name in ("time", "final", "best") for what in ("cells", "median", "90 %", "bias")),
    )
    return table(header, rows)


def rare_failures(runs: pd.DataFrame) -> str:
    """Runs whose final error is at least 0.05 and three times what is predicted, and what they have in common."""
    majority = np.stack([runs["clean_positive"] - runs["flipped_positive"], runs["clean_negative"] - runs["flipped_negative"]])
    runs = runs.assign(majority=majority.min(0) / runs["data.n_train"], unturned=runs["signal_coef_min"] < 0)
    failed = (runs["test_error"] >= 0.05) & (runs["test_error"] > 3 * runs["predicted_error"])
    # Of the cells that have such a run: what sets it apart from the other seeds.
    others = runs["cell"].isin(runs.loc[failed, "cell"]) & ~failed
    columns = [*KEYS, "seed", *COUNTS, "test_error", "predicted_error", "signal_coef_min", "signal_coef_mean", "majority"]
    lines = [
        f"{name}: {part.sum()} runs, smallest majority of a class / n {runs.loc[part, 'majority'].median():.3f} (median), "
        f"a filter with gamma < 0 in {runs.loc[part, 'unturned'].mean():.0%}"
        for name, part in (("failed", failed), ("other seeds of these cells", others))
    ]
    return "\n".join([*lines, runs.loc[failed, columns].to_string(index=False, float_format="{:.3f}".format)])


def figure(cells: pd.DataFrame) -> Figure:
    """Measured against predicted: memorising time, final and lowest test error; bars are 95 % intervals over seeds."""
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(10.5, 3.6), layout="constrained")
        axes = drawn.subplots(1, 3)
        names = {
            "time": "half of the mislabelled\nmemorised, t / T1",
            "error": "final test error",
            "best": "lowest test error",
        }
        for ax, (name, label) in zip(axes, names.items(), strict=True):
            judged = cells[cells[f"{name}_off"].notna() & (cells[f"predicted_{name}"] > 0)]
            colours = ax.scatter(
                judged[f"predicted_{name}"], judged[name], c=judged["dim_over_n"], norm="log", cmap="viridis", s=16, zorder=3
            )
            if name != "time":
                ax.errorbar(
                    judged[f"predicted_{name}"], judged[name], judged[f"{name}_half"], fmt="none", ecolor="0.7", linewidth=0.8
                )
            low, high = (
                judged[[name, f"predicted_{name}"]].min().min() * 0.8,
                judged[[name, f"predicted_{name}"]].max().max() * 1.2,
            )
            ax.plot([low, high], [low, high], color="0.4", linewidth=0.8)
            ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_minor_formatter(NullFormatter())
            ax.set_xlabel(f"predicted: {label}")
            ax.set_ylabel("measured")
            ax.set_title(f"{cells[f'{name}_off'].count()} cells, median error {cells[f'{name}_off'].abs().median():.1%}")
        drawn.colorbar(colours, ax=axes[-1], label="d / n")
        return drawn


def main() -> None:
    """Train, compare, write."""
    validation = compare(train(design((10, 20), seed=5, repeats=2), "validation", range(100, 120)))
    cells = by_cell(validation)
    cells.round(5).to_csv(DOCS / "mean_field_validation.csv", index=False)
    figure(cells).savefig(DOCS / "mean_field_validation.png", dpi=150)
    print(f"{len(cells)} cells, {len(validation)} runs\n\n{summary(cells)}")
    worst = cells.assign(worst=cells[["time_off", "error_off"]].abs().max(axis=1)).nlargest(12, "worst")
    print(worst.drop(columns="worst").round(4).to_string(index=False))
    small = compare(train(design((5,), seed=3, repeats=1), "small", range(20)))
    print(f"\nm = 5, {small['cell'].nunique()} cells\n\n{summary(by_cell(small))}")
    for name, runs in (("m = 10, 20", validation), ("m = 5", small)):
        print(f"rare failures, {name}, of {len(runs)} runs\n{rare_failures(runs)}\n")


if __name__ == "__main__":
    main()
