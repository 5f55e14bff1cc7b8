"""The evidence of the scorecard: the runs of a study, with everything that its statements need as columns."""

from functools import cached_property

import numpy as np
import pandas as pd

from lnt.analysis.cells import swept
from lnt.theory import conditions

EARLY_T1 = 0.2  # Stage I is looked at after this many T1, whose constant the theory leaves open
FITTED = 0.99
COUNTED = 10  # wrong test samples from which a cell's mean error is taken for a number
RECORDED = (
    "data.n_test",
    "clean_accuracy",
    "noisy_accuracy",
    "test_error",
    "best_test_error",
    "signal_coef",
    "overtaken_share",
)
EXPONENTS = {  # of the length of Stage I
    "data.n_train": ("n", 1.0),
    "model.width": ("m", 1.0),
    "step_size": ("eta", -1.0),
    "data.noise_std": ("s", -2.0),
    "data.dim": ("d", -1.0),
}


class Evidence:
    """The runs of a study that train the theory's network with strategy=none, and what statements ask about as columns."""

    def __init__(self, runs: pd.DataFrame, curves: pd.DataFrame) -> None:
        plain = runs[(runs["model"] == "two_layer_cnn") & (runs["data"] == "signal_noise") & (runs["strategy"] == "none")]
        plain = plain.set_index("run_id")
        self.curves = curves[curves["run_id"].isin(plain.index)]
        # Runs of a cell differ by seed alone. dropna=False: in each run one of snr and signal_norm, say, is null.
        cell = plain.groupby(swept(runs) or ["data"], dropna=False).ngroup()
        columns = plain[["seed", *EXPONENTS, *RECORDED]].assign(**conditions.combinations(plain), cell=cell)
        lowest = self.curves.groupby("run_id")["signal_coef_min"].min().rename("gamma_lowest")
        self.runs = columns.join(self._at_stage1(columns["t1"])).join(self._memorising_step()).join(lowest)

    def _at_stage1(self, t1: pd.Series) -> pd.DataFrame:
        """Metrics at the recorded step nearest to EARLY_T1 T1, within a factor of 1.5; columns are named metric + _early."""
        columns = ["clean_accuracy", "noisy_accuracy", "signal_coef", "noise_coef_clean", "noise_coef_noisy"]
        columns += ["selection_precision", "selection_recall", "test_error"]
        # Distances are in log(step), which step 0 does not have.
        later = self.curves[self.curves["step"] > 0]
        target = EARLY_T1 * t1.reindex(later["run_id"]).to_numpy()
        distance = np.abs(np.log(later["step"].to_numpy() / target))
        near = later.assign(distance=distance)[distance <= np.log(1.5)]
        # Stable: of two steps equally near, the earlier one.
        nearest = near.sort_values("distance", kind="stable").drop_duplicates("run_id")
        return nearest.set_index("run_id")[columns].add_suffix("_early")

    def _memorising_step(self) -> pd.Series:
        """Where noisy_accuracy last rises through 1/2, interpolated in log(step); runs in which it never does are left out."""
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
    def converged(self) -> pd.DataFrame:
        """Noisy runs whose labels, right and wrong ones, are all fitted in the end."""
        return self.noisy[(self.noisy["clean_accuracy"] >= FITTED) & (self.noisy["noisy_accuracy"] >= FITTED)]

    @cached_property
    def early_errors(self) -> pd.DataFrame:
        """Runs to judge the decay of the early-stopped error by: one noise rate, one n SNR^2."""
        return controlled(counted(self.noisy, "test_error_early"), "dim_over_n")

    @cached_property
    def clean_errors(self) -> pd.DataFrame:
        """Runs to judge the decay of the noiseless error by."""
        return counted(self.noiseless, "test_error")

    @cached_property
    def noiseless(self) -> pd.DataFrame:
        """Runs without label noise that have fitted their labels, where n |mu|^4 >= s^4 d."""
        runs = self.runs[self.runs["plain_network"]]
        return runs[(runs["rate"] == 0) & (runs["clean_accuracy"] >= FITTED) & (runs["benign"] >= 1)]


def counted(runs: pd.DataFrame, error: str) -> pd.DataFrame:
    """The runs of cells in which at least COUNTED test samples are wrong."""
    # Counts, not shares: a mean of very few errors has a log that says little.
    wrong = (runs[error] * runs["data.n_test"].astype(float)).groupby(runs["cell"]).transform("sum")
    return runs[wrong >= COUNTED]


def controlled(runs: pd.DataFrame, varied: str) -> pd.DataFrame:
    """The runs of one noise rate and one n SNR^2 (to 5 %): that pair for which `varied` takes most values."""
    if runs.empty:
        return runs
    # In steps of 5 % on a log scale, since n SNR^2 is computed from other keys and is only nearly equal.
    pairs = runs.groupby([runs["rate"], np.rint(np.log(runs["kappa"].astype(float)) / np.log(1.05))])
    return max((part for _, part in pairs), key=lambda part: part[varied].nunique())
