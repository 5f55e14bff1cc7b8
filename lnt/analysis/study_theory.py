"""What analyze.py draws of the mean-field theory: predictions for the runs that it is about, at their own label counts."""

import pandas as pd

from lnt.analysis.figure_theory import figure_phases, figure_predicted
from lnt.analysis.report import Report
from lnt.theory.laws import flip_rate, kappa
from lnt.theory.mean_field import last_crossing
from lnt.theory.run_cells import predictable, predicted_outcomes, unit_of_time

MOST = 3000  # runs that are predicted; of larger sweeps, as many seeds of each cell as fit
FEWEST_CELLS = 9  # of a diagram of phases


def add_theory(report: Report, x: str | None, y: str | None) -> pd.DataFrame | None:
    """The figures of predictions, if the theory is about these runs; the table of runs that were predicted."""
    runs, curves = report.results.runs, report.results.curves
    runs = runs[predictable(runs)]
    # A curve must show when samples are memorised.
    if len(runs) < 2 or curves.groupby("run_id").size().max() < 10:
        return None
    runs = _first_seeds(runs, [key for key in (x, y) if key])
    table = runs.join(predicted_outcomes(runs), rsuffix="_predicted").rename(columns={"memorised": "memorised_predicted"})
    table["memorised"] = _memorised(runs, curves)
    columns = ["run_id", *(key for key in (x, y) if key), "memorised", "memorised_predicted"]
    columns += [f"{name}{of}" for name in ("test_error", "best_test_error") for of in ("", "_predicted")]
    report.figure("theory", figure_predicted(table), table[columns], "Measured against predicted run by run, nothing fitted")
    if x and y:
        phases = _phases(table, curves, x, y)
        if len(phases) >= FEWEST_CELLS and phases["kappa"].nunique() > 2 and phases["rate"].nunique() > 2:
            report.figure("phases", figure_phases(phases, x, y), phases, "Phases, and the predicted borders")
    return table


def _first_seeds(runs: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """At most MOST runs, the same number in each cell."""
    if len(runs) <= MOST or not keys:
        return runs.head(MOST)
    grouped = runs.groupby(keys, dropna=False)
    return runs[grouped.cumcount() < max(1, MOST // grouped.ngroups)]


def _memorised(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.Series:
    """The time in T1 after which half of the mislabelled samples are fitted as labelled."""
    wide = curves.pivot(index="step", columns="run_id", values="noisy_accuracy").reindex(columns=runs["run_id"])
    # Runs of other lengths leave rows empty: between recorded steps nothing changes sign twice, as far as this table tells.
    wide = wide.interpolate(limit_area="inside").ffill()
    times = pd.Series(last_crossing(wide.index.to_numpy(float), wide.to_numpy(float), 0.5), runs.index)
    return times / unit_of_time(runs).astype(float)


def _phases(table: pd.DataFrame, curves: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """One row for each cell over x and y, as figure_phases takes it.

    A run has a Stage I if fewer than half of its mislabelled samples are fitted when the clean ones first are.
    """
    fitted = curves.merge(table[["run_id", "stage1_step"]].rename(columns={"stage1_step": "step"}), on=["run_id", "step"])
    noisy = table["run_id"].map(fitted.set_index("run_id")["noisy_accuracy"])
    # Without a mislabelled sample there is nothing to ignore, and nothing to memorise.
    staged = (noisy < 0.5).where(noisy.notna()).astype(float)
    cells = table.assign(kappa=kappa(table), rate=flip_rate(table), staged=staged)
    cells["price"], cells["price_predicted"] = cells["price_of_memorising"], cells["price_of_memorising_predicted"]
    return cells.groupby([x, y], as_index=False)[["kappa", "rate", "staged", "price", "price_predicted"]].mean()
