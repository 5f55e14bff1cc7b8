"""From runs of a results table to the mean-field theory, and back to the columns that training writes."""

from collections.abc import Hashable, Iterator

import numpy as np
import pandas as pd

from lnt import losses
from lnt.theory.conditions import plain_descent
from lnt.theory.laws import RATES, class_rates, kappa, stage1_scale
from lnt.theory.mean_field import CLEAN, LOGISTIC, NOISY, Cells, MarginLoss, Prediction, predict

# Losses of the margin by their options. The corrections are losses of the margin where both classes have the same rate.
LOSSES = {
    kind.option: kind
    for kind in (
        *(losses.Logistic, losses.Hinge, losses.Exponential, losses.Squared, losses.MeanAbsoluteError),
        *(losses.GeneralisedCrossEntropy, losses.SymmetricCrossEntropy, losses.LabelSmoothing, losses.Forward, losses.Backward),
    )
}
COUNTS = ("clean_positive", "flipped_positive", "flipped_negative", "clean_negative")  # columns, in the order of KINDS


def predictable(runs: pd.DataFrame) -> pd.Series:
    """Whether the mean-field theory is about these runs: one signal direction, the network and training of `plain_descent` on
    a loss of the margin, all samples weighted alike, and label counts known.
    """
    if not {"model.power", "data.dim", "optimizer", *COUNTS} <= set(runs):
        return pd.Series(False, runs.index)
    equal = pd.Series(np.isclose(*class_rates(runs).T.to_numpy()), runs.index)
    given = runs["loss.matrix"].notna() if "loss.matrix" in runs else False
    known = runs["loss"].isin(LOSSES) & (~runs["loss"].isin(["forward", "backward"]) | (equal & ~given))
    return (runs["data"] == "signal_noise") & plain_descent(runs) & known & runs[list(COUNTS)].notna().all(axis=1)


def loss_of(run: pd.Series) -> MarginLoss:
    """The loss of a run in a results table, as the theory takes it."""
    if run["loss"] == "logistic":
        return LOGISTIC
    kind = LOSSES[run["loss"]]
    keys = [str(key) for key in run.index if str(key).startswith("loss.") and pd.notna(run[key])]
    numbers = {key.removeprefix("loss."): run[key] for key in keys}
    plus, minus = (float(run[key]) if key in run else 0.0 for key in RATES)
    return of_margin(kind(**numbers).bound(lambda: np.array([[[1 - plus, plus], [minus, 1 - minus]]])))


def of_margin(loss: losses.Loss) -> MarginLoss:
    """A loss of the package, or of one's own, as the theory takes it."""
    import torch  # takes seconds, and the logistic loss needs none of it

    return MarginLoss(
        lambda z: loss.minus_slope(torch.as_tensor(z)).numpy(),
        lambda z: loss.value(torch.as_tensor(z)).numpy(),
    )


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
    """Groups of runs that agree in T1, length and loss, each with its prediction at the runs' own label counts."""
    t1 = unit_of_time(runs).astype(float)
    # Rounded: T1 comes from a step size that was itself worked out from T1.
    lengths = (runs["last_step"].astype(float) / t1).map("{:.9g}".format)
    keys = [lengths, t1.map("{:.9g}".format), *(runs[key] for key in runs if key == "loss" or str(key).startswith("loss."))]
    # A correction depends on the rates of the noise.
    keys += [runs[key] for key in RATES if key in runs and (runs["loss"] != "logistic").any()]
    for _, group in runs.groupby(keys, sort=False, dropna=False):
        yield group, predict(cells_of(group), float(lengths[group.index[0]]), loss_of(group.iloc[0]))


def predicted_outcomes(runs: pd.DataFrame) -> pd.DataFrame:
    """For each run, under its index: `memorised` (half of the mislabelled samples are, in T1), and columns of runs.parquet."""
    found = []
    for group, prediction in predictions(runs):
        final, lowest = prediction.test_error(), prediction.lowest_test_error()[0]
        columns = {"memorised": prediction.memorised(), "test_error": final, "best_test_error_fresh": np.minimum(lowest, final)}
        found.append(pd.DataFrame(columns, group.index))
    outcomes = pd.concat(found).reindex(runs.index)
    return outcomes.assign(price_of_memorising=outcomes["test_error"] - outcomes["best_test_error_fresh"])


def predicted_curves_of_each(runs: pd.DataFrame) -> Iterator[tuple[Hashable, pd.DataFrame]]:
    """Metrics of curves.parquet by step, of each run under its index."""
    for group, prediction in predictions(runs):
        steps, metrics = _metrics(group, prediction)
        for number, index in enumerate(group.index):
            yield index, pd.DataFrame({name: values[:, number] for name, values in metrics.items()}, steps)


def _metrics(runs: pd.DataFrame, prediction: Prediction) -> tuple[pd.Index, dict[str, np.ndarray]]:
    """The steps of a prediction, and metrics [steps, runs]."""
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
    return pd.Index(steps[1:], name="step"), {name: values[-len(steps) + 1 :] for name, values in metrics.items()}
