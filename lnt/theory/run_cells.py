"""From runs of a results table to the mean-field theory, and back to the columns that training writes."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from lnt.theory.conditions import plain_network
from lnt.theory.laws import kappa, stage1_scale
from lnt.theory.mean_field import CLEAN, NOISY, Cells, Prediction, predict

COUNTS = ("clean_positive", "flipped_positive", "flipped_negative", "clean_negative")  # columns, in the order of KINDS


def predictable(runs: pd.DataFrame) -> pd.Series:
    """Whether the mean-field theory is about these runs: one signal direction, the network and training of `plain_network`, all
    samples weighted alike, and label counts known.
    """
    if not {"model.power", "data.dim", "optimizer", *COUNTS} <= set(runs):
        return pd.Series(False, runs.index)
    # A strategy that trains on some of the samples, or on changing ones, follows other equations.
    alike = runs["strategy"] == "none"
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


def predictions(runs: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, Prediction]]:
    """Groups of runs that agree in T1 and in their length, each with its prediction at the runs' own label counts."""
    t1 = unit_of_time(runs).astype(float)
    # Rounded: T1 comes from a step size that was itself worked out from T1.
    lengths = (runs["last_step"].astype(float) / t1).map("{:.9g}".format)
    for _, group in runs.groupby([lengths, t1.map("{:.9g}".format)], sort=False):
        yield group, predict(cells_of(group), float(lengths[group.index[0]]))


def predicted_outcomes(runs: pd.DataFrame) -> pd.DataFrame:
    """For each run, under its index: `memorised` (half of the mislabelled samples are, in T1), and columns of runs.parquet."""
    found = []
    for group, prediction in predictions(runs):
        final, lowest = prediction.test_error(), prediction.lowest_test_error()[0]
        columns = {"memorised": prediction.memorised(), "test_error": final, "best_test_error_fresh": np.minimum(lowest, final)}
        found.append(pd.DataFrame(columns, group.index))
    outcomes = pd.concat(found).reindex(runs.index)
    return outcomes.assign(price_of_memorising=outcomes["test_error"] - outcomes["best_test_error_fresh"])


def predicted_curves(runs: pd.DataFrame) -> pd.DataFrame:
    """Metrics of curves.parquet by step, the mean over runs that differ by seed alone."""
    ((_, prediction),) = predictions(runs)
    metrics = {
        "signal_coef": prediction.gamma.max(2),
        "noise_coef_clean": np.fmax(*np.moveaxis(prediction.rho_max[..., CLEAN], 2, 0)),
        "noise_coef_noisy": np.fmax(*np.moveaxis(prediction.rho_max[..., NOISY], 2, 0)),
        "clean_accuracy": prediction.over_kinds(prediction.accuracy, CLEAN),
        "noisy_accuracy": prediction.over_kinds(prediction.accuracy, NOISY),
        "clean_loss": prediction.over_kinds(prediction.loss, CLEAN),
        "noisy_loss": prediction.over_kinds(prediction.loss, NOISY),
        "train_loss": prediction.over_kinds(prediction.loss, np.arange(4)),
        "test_error": prediction.test_error(slice(1, None)),
    }
    steps = prediction.t * float(unit_of_time(runs).iloc[0])
    # From the first step on: at t = 0 no margin has a sign.
    means = {name: pd.DataFrame(values[-len(steps) + 1 :]).mean(axis=1).to_numpy() for name, values in metrics.items()}
    return pd.DataFrame(means, pd.Index(steps[1:], name="step"))
