"""From runs of a results table to the cells of the mean-field theory."""

import numpy as np
import pandas as pd

from lnt.theory.conditions import plain_network
from lnt.theory.laws import kappa, stage1_scale
from lnt.theory.mean_field import Cells

COUNTS = ("clean_positive", "flipped_positive", "flipped_negative", "clean_negative")  # columns, in the order of KINDS


def predictable(runs: pd.DataFrame) -> pd.Series:
    """Whether the mean-field theory is about these runs: one signal direction, the network and training of `plain_network`, all
    samples weighted alike, and label counts known.
    """
    if not {"model.power", "data.dim", "optimizer", *COUNTS} <= set(runs):
        return pd.Series(False, runs.index)
    # A strategy that trains on some of the samples, or on changing ones, follows other equations.
    alike = runs["strategy"].isin(["none"])
    return (runs["data"] == "signal_noise") & plain_network(runs) & alike & runs[list(COUNTS)].notna().all(axis=1)


def unit_of_time(runs: pd.DataFrame) -> pd.Series:
    """T1 in steps, of each run."""
    n, dim, s = runs["data.n_train"], runs["data.dim"], runs["data.noise_std"]
    return pd.Series(stage1_scale(n, runs["model.width"], runs["step_size"], s, dim), runs.index)


def cells_of(runs: pd.DataFrame) -> Cells:
    """The cell of each run, at its own label counts."""
    dim, s = runs["data.dim"].astype(float), runs["data.noise_std"].astype(float)
    norm = runs["model.init_norm"].astype(float).fillna(runs["model.init_std"].astype(float) * np.sqrt(dim))
    return Cells(
        runs[list(COUNTS)].to_numpy(float),
        kappa(runs).to_numpy(float),
        dim.to_numpy(),
        runs["model.width"].to_numpy(float),
        (norm * s).to_numpy(),
        1 / unit_of_time(runs).to_numpy(float),
        runs["data.orthogonal_noise"].to_numpy(float),
    )
