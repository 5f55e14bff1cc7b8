"""Where the laws apply: conditions that can be read off a run, and the law that they leave for a test error.

What a run's label noise does is read from the outcomes that training writes. Unknown means outside the conditions.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from lnt.theory.laws import (
    BENIGN_LAW,
    EARLY_LAW,
    FINITE_SIZE,
    MARGIN,
    Law,
    class_rates,
    deep_law,
    flip_rate,
    kappa,
    signal_norm,
    stage1_scale,
)

WITHOUT_T1 = ("mixture", "xor_mixture", "signal_noise_classes")  # one patch, or K classes: Stage I has no predicted scale
PLAIN_STEPS = ("gd", "sgd", "flow")  # optimizers that follow the gradient; of others the laws say nothing
USUAL = {
    "strategy": "none",
    "noise.resample": False,
    "optimizer.momentum": 0,
    "optimizer.weight_decay": 0,
    "model.init_law": "normal",
    "model.activation": "relu",
    "model.output": "mean",
    "model.second_layer": "fixed",
    "optimizer.until": "end",
    "data.noise_patches": 1,
    "data.mixup": 0,
    "data.balanced": False,
    "data.positive_share": 0.5,
    "data.noise_ratio": 1,
}
FINAL_ERRORS = ("test_error", "test_error_observed")
EARLY_ERRORS = ("best_test_error", "best_test_error_fresh")


def law_of(value: str, runs: pd.DataFrame) -> Law | None:
    """The law that the theory has for a test error of these runs, None if it has none."""
    if not {"model.power", "data.dim", "flip_rate"} <= set(runs):
        return None  # the theory is about the two-layer network only
    powers, data, rates = runs["model.power"].unique(), set(runs["data"].unique()), flip_rate(runs)
    xor = data == {"xor"} and bool((runs["data.angle"] == 90).all())
    # An axis noise.rate stands for tau, which holds of most kinds of noise only.
    misread = MARGIN in runs and not np.allclose(runs[MARGIN].astype(float).fillna(rates), rates)
    if len(powers) != 1 or not (xor or data == {"signal_noise"}) or outside_laws(runs) or misread:
        return None
    if powers[0] > 2:
        noiseless = bool((rates == 0).all())
        return deep_law(float(powers[0])) if value == "test_error" and noiseless and not xor else None
    law = BENIGN_LAW if value in FINAL_ERRORS else EARLY_LAW if value in EARLY_ERRORS else None
    # EARLY_LAW and the finite-size term are derived for one signal direction only.
    if powers[0] != 1 or law is None or (xor and law is EARLY_LAW):
        return None
    orthogonal = xor or bool(runs["data.orthogonal_noise"].astype(bool).all())
    return law if orthogonal else replace(law, formula=law.formula + FINITE_SIZE, finite_size=True)


def outside_laws(runs: pd.DataFrame) -> list[str]:
    """What of the training and the label noise of these runs no law is about, in words."""
    # The laws are of one flip rate, the same for both classes, with which most labels are right.
    one_rate = np.isclose(*class_rates(runs).T.to_numpy()) & (flip_rate(runs) < 0.5)
    reasons = {
        "optimizer": ~runs["optimizer"].isin(PLAIN_STEPS),
        "loss": runs["loss"] != "logistic",
        **departures(runs),
        "flip rates that differ between the classes, or are not below 1/2": ~one_rate,
    }
    return [name for name, outside in reasons.items() if outside.any()]


def final_error_floor(runs: pd.DataFrame) -> pd.Series:
    """0.5 min(tau_plus, tau_minus): the test error on clean labels is at least this once all labels are memorised.

    Source: Han et al. 2025, Stage II; the constant 0.5 is theirs. Conditions: those of `stage1_conditions`, training converged.
    """
    # skipna=False: the minimum is unknown where one rate is.
    return 0.5 * class_rates(runs).min(axis=1, skipna=False)


def plain_network(runs: pd.DataFrame) -> pd.Series:
    """Whether a run trains what the paper is about: `plain_descent` on the logistic loss."""
    return plain_descent(runs) & (runs["loss"] == "logistic")


def plain_descent(runs: pd.DataFrame) -> pd.Series:
    """Whether a run is gradient descent, or its flow, with sigma(z) = max(0, z), no biases, and `usual_training`."""
    # A setting that is missing or null belongs to another option: the run has none of it.
    biased = runs["model.bias"].astype(float).fillna(0) != 0 if "model.bias" in runs else False
    return (runs["model.power"] == 1) & runs["optimizer"].isin(["gd", "flow"]) & ~biased & usual_training(runs)


def usual_training(runs: pd.DataFrame) -> pd.Series:
    """Whether a run trains on all samples, with labels that are drawn once, to the last step, without momentum or weight decay;
    initial weights are normal, sigma is a power of relu, the second layer j/m and fixed, labels are -1 or 1, and samples have
    one noise patch of one size and classes that are drawn equally often. Runs of earlier versions, which do not say, do.
    """
    usual = pd.Series(True, runs.index)
    for departs in departures(runs).values():
        usual &= ~departs
    return usual


def departures(runs: pd.DataFrame) -> dict[str, pd.Series]:
    """Settings of which the theory knows one value, and in which runs they have another one; null is that of other options."""
    found = {key: runs[key].notna() & (runs[key] != value) for key, value in USUAL.items() if key in runs}
    if "noise" in runs:
        found["noise=label_multipliers"] = runs["noise"] == "label_multipliers"
    return found


def predicted_t1(runs: pd.DataFrame) -> pd.Series:
    """The predicted scale of Stage I of each run, in steps; NaN where theory has none. L noise patches make it L times shorter.

    Each patch adds its own rho to the margin of its sample, so margins grow L times as fast. Derived here.
    """
    columns = ("data.n_train", "model.width", "step_size", "data.noise_std", "data.dim")
    if not set(columns) <= set(runs):
        return pd.Series(np.nan, runs.index)
    others = runs.reindex(columns=["data.noise_patches", "data.noise_ratio"]).astype(float).fillna(1)
    scale = pd.Series(stage1_scale(*(runs[key].astype(float) for key in columns)), runs.index) / others["data.noise_patches"]
    return scale.where((others["data.noise_ratio"] == 1) & ~runs["data"].isin(WITHOUT_T1))


def stage1_factors(runs: pd.DataFrame) -> pd.DataFrame:
    """The paper's conditions on Stage I that can be read off a run, with our constants: by what factor each is met.

    A condition holds where its factor is at least 1. n SNR^2 = Theta(1): from 0.3 to 30. d of order n^2 and above: at least
    n^2 / 10. Small initial filters: pre-activations of signal and noise of at most 0.1. Small steps: T1 of at least 5 steps.
    """
    n, dim, s = (runs[key].astype(float) for key in ("data.n_train", "data.dim", "data.noise_std"))
    norm, strength = signal_norm(runs), kappa(runs)
    # One of the two is given: s0, or its product with sqrt(d).
    init = runs["model.init_std"].astype(float).fillna(runs["model.init_norm"].astype(float) / np.sqrt(dim))
    return pd.DataFrame(
        {
            "n SNR^2 is at least 0.3": strength / 0.3,
            "n SNR^2 is at most 30": 30 / strength,
            "d is at least n^2 / 10": 10 * dim / n**2,
            "<w(0), mu> is at most 0.1": 0.1 / (init * norm),
            "<w(0), xi> is at most 0.1": 0.1 / (init * s * np.sqrt(dim)),
            "T1 is at least 5 steps": stage1_scale(n, runs["model.width"], runs["step_size"], s, dim) / 5,
        }
    )


def stage1_conditions(runs: pd.DataFrame) -> pd.Series:
    """Whether the statements on Stage I apply: every factor of `stage1_factors` is at least 1, the network is plain, and most
    labels of each class are right.
    """
    minority = (class_rates(runs) < 0.5).all(axis=1)
    return (stage1_factors(runs) >= 1).all(axis=1) & plain_network(runs) & minority


def combinations(runs: pd.DataFrame) -> dict[str, pd.Series | np.ndarray]:
    """Quantities of the theory for each run of a results table, as columns; rate and x are of the class with more noise."""
    n, dim = runs["data.n_train"].astype(float), runs["data.dim"].astype(float)
    rate, strength = class_rates(runs).max(axis=1, skipna=False), kappa(runs)
    return {
        "rate": rate,
        "t1": stage1_scale(n, runs["model.width"], runs["step_size"], runs["data.noise_std"], dim),
        "kappa": strength,
        "x": strength * (1 - 2 * rate),
        "dim_over_n": dim / n,
        "benign": replace(BENIGN_LAW, finite_size=True).of(runs),
        "early": replace(EARLY_LAW, finite_size=True).of(runs),
        "floor": final_error_floor(runs),
        "stage1_conditions": stage1_conditions(runs),
        "plain_network": plain_network(runs),
    }
