"""The evidence of the scorecard: the runs of a study, with everything that its statements need as columns."""

from functools import cached_property

import numpy as np
import pandas as pd

from lnt.analysis.cells import swept
from lnt.theory import conditions

EARLY_T1 = 0.1  # Stage I is looked at after this many T1, whose constant the theory leaves open
FITTED = 0.99
COUNTED = 10  # wrong test samples in a run, on average over a cell, from which its error is taken for a number
RECORDED = ("clean_accuracy", "noisy_accuracy", "test_error", "best_test_error_fresh", "signal_coef", "overtaken_share")
AT_STAGE1 = (
    *("clean_accuracy", "noisy_accuracy", "signal_coef", "noise_coef_clean", "noise_coef_noisy"),
    *("selection_precision", "selection_recall", "test_error"),
)


class Evidence:
    """The runs of a study that train the theory's network with strategy=none, and what statements ask about as columns."""

    def __init__(self, runs: pd.DataFrame, curves: pd.DataFrame) -> None:
        plain = runs[(runs["model"] == "two_layer_cnn") & (runs["data"] == "signal_noise") & (runs["strategy"] == "none")]
        plain = plain.set_index("run_id")
        self.curves = curves[curves["run_id"].isin(plain.index)]
        # Runs of a cell differ by seed alone. dropna=False: in each run one of snr and signal_norm, say, is null.
        cell = plain.groupby(swept(runs) or ["data"], dropna=False).ngroup()
        columns = plain[["seed", *RECORDED]].assign(
            **conditions.combinations(plain),
            cell=cell,
            n=plain["data.n_train"].astype(float),
            dim=plain["data.dim"].astype(float),
            tested=plain["data.n_test"].astype(float),
        )
        lowest = self.curves.groupby("run_id")["signal_coef_min"].min().rename("gamma_lowest")
        self.runs = columns.join(self._at_stage1(columns["t1"])).join(self._memorising_step()).join(lowest)

    def _at_stage1(self, t1: pd.Series) -> pd.DataFrame:
        """Metrics at the recorded step nearest to EARLY_T1 T1, within a factor of 1.5; columns are named metric + _early."""
        # Distances are in log(step), which step 0 does not have.
        later = self.curves[self.curves["step"] > 0]
        target = EARLY_T1 * t1.reindex(later["run_id"]).to_numpy()
        distance = np.abs(np.log(later["step"].to_numpy() / target))
        near = later.assign(distance=distance)[distance <= np.log(1.5)]
        # Stable: of two steps equally near, the earlier one.
        nearest = near.sort_values("distance", kind="stable").drop_duplicates("run_id")
        return nearest.set_index("run_id")[list(AT_STAGE1)].add_suffix("_early")

    def _memorising_step(self) -> pd.Series:
        """Where noisy_accuracy last rises through 1/2, interpolated in log(step).

        Runs in which it never does are left out: their mislabelled samples are fitted from the first step on, or not at all.
        """
        later = self.curves[self.curves["step"] > 0].sort_values(["run_id", "step"])
        step, value = np.log(later["step"].to_numpy(float)), later["noisy_accuracy"].to_numpy(float)
        # Runs lie one after another in one array: a rise from the end of one into the next is none.
        rises = (value[:-1] < 0.5) & (value[1:] >= 0.5) & (later["run_id"].to_numpy()[:-1] == later["run_id"].to_numpy()[1:])
        i = np.flatnonzero(rises)
        # Recorded steps are even in log(step), so the line between two of them is drawn there.
        at = np.exp(step[i] + (step[i + 1] - step[i]) * (0.5 - value[i]) / (value[i + 1] - value[i]))
        return pd.Series(at, later["run_id"].to_numpy()[i], name="memorising_step").groupby(level=0).last()

    @cached_property
    def noisy(self) -> pd.DataFrame:
        """Runs with label noise that meet the conditions of Stage I."""
        return self.runs[(self.runs["rate"] > 0) & self.runs["stage1_conditions"]]

    @cached_property
    def early(self) -> pd.DataFrame:
        """Those of them that were recorded after about EARLY_T1 T1."""
        return self.noisy[self.noisy["signal_coef_early"].notna()]

    @cached_property
    def lengths(self) -> pd.DataFrame:
        """Runs to judge the length of Stage I by, without a memorising step where they have no Stage I."""
        return controlled(self.noisy, "dim_over_n", at_least=2.0)

    @cached_property
    def across_x(self) -> pd.DataFrame:
        """Runs of the sizes n and d at which x takes most values."""
        sizes = [part for _, part in self.noisy.groupby(["n", "dim"])]
        return max(sizes, key=lambda part: part["cell"].nunique()) if sizes else self.noisy

    @cached_property
    def converged(self) -> pd.DataFrame:
        """Noisy runs whose labels, right and wrong ones, are all fitted in the end."""
        return self.noisy[(self.noisy["clean_accuracy"] >= FITTED) & (self.noisy["noisy_accuracy"] >= FITTED)]

    @cached_property
    def wide(self) -> pd.DataFrame:
        """Noisy runs of the largest d / n at which some converge, with label noise in both classes."""
        bounded, converged = (part[part["floor"] > 0] for part in (self.noisy, self.converged))
        return bounded[bounded["dim_over_n"] >= 0.999 * converged["dim_over_n"].max()]

    @cached_property
    def widest(self) -> pd.DataFrame:
        """The runs of `wide` that have converged."""
        return self.wide[self.wide.index.isin(self.converged.index)]

    @cached_property
    def early_errors(self) -> pd.DataFrame:
        """Runs to judge the decay of the early-stopped error by: one noise rate, one n SNR^2."""
        return controlled(counted(self.early, "test_error_early"), "dim_over_n")

    @cached_property
    def clean_errors(self) -> pd.DataFrame:
        """Runs to judge the decay of the noiseless error by."""
        return counted(self.noiseless, "test_error")

    @cached_property
    def easy(self) -> pd.DataFrame:
        """Runs without label noise where theory predicts a small error."""
        return self.runs[self.runs["plain_network"] & (self.runs["rate"] == 0) & (self.runs["benign"] >= 1)]

    @cached_property
    def noiseless(self) -> pd.DataFrame:
        """The runs of `easy` that have fitted their labels."""
        return self.easy[self.easy["clean_accuracy"] >= FITTED]


def counted(runs: pd.DataFrame, error: str) -> pd.DataFrame:
    """The runs of cells in which COUNTED test samples of a run are wrong, on average."""
    # Counts, not shares: very few errors have a log that says little.
    wrong = (runs[error] * runs["tested"]).groupby(runs["cell"]).transform("mean")
    return runs[wrong >= COUNTED]


def controlled(runs: pd.DataFrame, varied: str, at_least: float = 0.0) -> pd.DataFrame:
    """The runs of one noise rate and one n SNR^2 (to 5 %): that pair for which `varied` takes most values.

    Only pairs with x = n SNR^2 (1 - 2 tau) of `at_least` this are looked at.
    """
    runs = runs[runs["x"] >= at_least]
    if runs.empty:
        return runs
    # In steps of 5 % on a log scale, since n SNR^2 is computed from other keys and is only nearly equal. The floor tells apart
    # runs whose other class has another rate.
    pairs = runs.groupby([runs["rate"], runs["floor"], np.rint(np.log(runs["kappa"]) / np.log(1.05))])
    return max((part for _, part in pairs), key=lambda part: part[varied].round(6).nunique())
