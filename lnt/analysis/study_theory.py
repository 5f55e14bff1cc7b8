"""What analyze.py draws of the mean-field theory: predictions for the runs that it is about, at their own label counts."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from lnt.analysis.figure_theory import figure_phases, figure_predicted
from lnt.analysis.phase_diagram import Facet
from lnt.analysis.report import Report
from lnt.analysis.time_diagram import memorised_step
from lnt.theory.laws import flip_rate, kappa
from lnt.theory.run_cells import predictable, predicted_outcomes, unit_of_time

# Runs that are predicted: predicting 100 takes about a second. A diagram needs many seeds, as few label counts make the mean.
MOST_OF_GRID, MOST = 3000, 400
FEWEST = 3  # values on an axis of a diagram of phases
FEWEST_STEPS = 10  # recorded ones of a curve
BRIEF = 0.1  # in T1: a Stage I that is over by then is none


def add_theory(report: Report, x: str | None, y: str | None, others: Sequence[str] = ()) -> pd.DataFrame | None:
    """The figures of predictions, if the theory is about these runs; the table of all these runs, predicted or not.

    Of many runs some are predicted, the same number in each cell over x, y and `others`.
    """
    runs = report.results.runs
    about = predictable(runs)
    # A curve must show when samples are memorised. Curves are read only where some may be as long as that.
    if about.sum() < 2 or runs.loc[about, "recordings"].max() < FEWEST_STEPS:
        return None
    runs, curves = runs[about], report.results.curves
    if curves.groupby("run_id").size().max() < FEWEST_STEPS:
        return None
    grid = bool(x and y) and _is_grid(runs)
    some = _first_seeds(runs, [key for key in (x, y, *others) if key], MOST_OF_GRID if grid else MOST)
    table = runs.join(predicted_outcomes(some).add_suffix("_predicted"))
    table["memorised"] = memorised_step(runs, curves) / unit_of_time(runs).astype(float)
    columns = ["run_id", *(key for key in (x, y) if key), "memorised", "memorised_predicted"]
    columns += [f"{name}{of}" for name in ("test_error", "best_test_error_fresh") for of in ("", "_predicted")]
    report.figure(
        "theory",
        figure_predicted(table),
        table.loc[some.index, columns],
        "Measured against predicted run by run, nothing fitted",
    )
    if grid:
        phases = _phases(table)
        report.figure("phases", figure_phases(phases), phases, "Phases, and the predicted borders")
    return table


def with_prediction(panel: Facet, table: pd.DataFrame, x: str, y: str, value: str) -> Facet:
    """A panel of a phase diagram with the mean over seeds of what is predicted for its value, if anything is."""
    column = f"{value}_predicted"
    if column not in table or panel.data.asked is not None:  # few cells make no contour
        return panel
    means = table.astype({x: float, y: float}).pivot_table(index=y, columns=x, values=column)
    return replace(panel, predicted=means.reindex(index=panel.data.y, columns=panel.data.x).to_numpy(float))


def _first_seeds(runs: pd.DataFrame, keys: list[str], most: int) -> pd.DataFrame:
    """About `most` runs, the same number in each cell."""
    if len(runs) <= most or not keys:
        return runs.head(most)
    grouped = runs.groupby(keys, dropna=False)
    return runs[grouped.cumcount() < max(1, most // grouped.ngroups)]


def _places(runs: pd.DataFrame) -> pd.DataFrame:
    """kappa and rate of each run; rounded, as kappa is worked out from other settings."""
    return pd.DataFrame({"kappa": kappa(runs).map("{:.9g}".format).astype(float), "rate": flip_rate(runs).round(9)})


def _is_grid(runs: pd.DataFrame) -> bool:
    """Whether kappa and rate take several values each, and all combinations of them."""
    places = _places(runs)
    sizes = places.nunique()
    return bool(sizes.min() >= FEWEST and len(places.drop_duplicates()) == sizes.prod())


def _phases(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each kappa and rate, as figure_phases takes it.

    A run has a Stage I if half of its mislabelled samples are still not fitted at BRIEF T1.
    """
    table = table.assign(**_places(table))
    mislabelled = table[["flipped_positive", "flipped_negative"]].sum(axis=1) > 0
    for of in ("", "_predicted"):
        # Never memorised is NaN, and late; a run that was not predicted is not.
        late = ~(table[f"memorised{of}"] <= BRIEF)
        table[f"staged{of}"] = late.astype(float).where(mislabelled & table[f"test_error{of}"].notna())
        table[f"price{of}"] = table[f"price_of_memorising{of}"]
    columns = [f"{name}{of}" for name in ("staged", "price") for of in ("", "_predicted")]
    return table.groupby(["kappa", "rate"])[columns].mean().reset_index()
