"""Where the laws apply: conditions that can be read off a run, and the law that they leave for a test error."""

import numpy as np
import pandas as pd

from lnt.theory.laws import BENIGN_LAW, EARLY_LAW, Law, deep_law, noise_rate, signal_norm, stage1_scale

PARAMETERS = (  # runs that agree in these differ by seed alone
    *("data.n_train", "data.dim", "data.signal_norm", "data.snr", "data.noise_std", "data.orthogonal_noise"),
    *("noise", "noise.rate", "noise.rate_positive", "noise.rate_negative", "noise.exact", "noise.resample"),
    *("model.width", "model.init_std", "model.init_norm", "model.power", "model.bias"),
    *("optimizer", "optimizer.momentum", "optimizer.weight_decay", "step_size", "last_step"),
)


def law_of(value: str, runs: pd.DataFrame) -> Law | None:
    """The law that the theory has for a test error of these runs, None if it has none."""
    if "model.power" not in runs:
        return None  # the theory is about the two-layer network only
    powers, data = runs["model.power"].unique(), set(runs["data"])
    xor = data == {"xor"} and bool((runs["data.angle"] == 90).all())
    if len(powers) != 1 or not (xor or data == {"signal_noise"}) or (runs["optimizer"] == "adam").any():
        return None
    if powers[0] == 1 and value in ("test_error", "test_error_observed"):
        return BENIGN_LAW
    if powers[0] == 1:
        # Derived for one signal direction only.
        return EARLY_LAW if value == "best_test_error" and not xor else None
    noiseless = bool((noise_rate(runs) == 0).all())
    return deep_law(float(powers[0])) if powers[0] > 2 and value == "test_error" and noiseless and not xor else None


def final_error_floor(runs: pd.DataFrame) -> pd.Series:
    """0.5 min(tau_plus, tau_minus): the test error on clean labels is at least this once all labels are memorised.

    Source: Han et al. 2025, Stage II; the constant 0.5 is theirs. Conditions: those of `stage1_conditions`, training converged.
    """
    # Of asymmetric noise; a run without these has one rate, which is the minimum of both.
    rates = runs.reindex(columns=["noise.rate_positive", "noise.rate_negative"]).astype(float)
    return 0.5 * rates.min(axis=1).fillna(noise_rate(runs))


def plain_network(runs: pd.DataFrame) -> pd.Series:
    """Whether a run trains what the paper is about: sigma(z) = max(0, z), no biases, gradient descent, labels drawn once."""
    others = runs.reindex(columns=["optimizer.momentum", "optimizer.weight_decay", "noise.resample", "model.bias"])
    # A column that is missing or null says that a run has none of it.
    nothing_else = (others.astype(float).fillna(0) == 0).all(axis=1)
    return (runs["model.power"] == 1) & (runs["optimizer"] == "gd") & nothing_else


def stage1_conditions(runs: pd.DataFrame) -> pd.Series:
    """Whether the statements on Stage I apply: those of the paper's conditions that can be read off a run, with our constants.

    n SNR^2 = Theta(1): from 0.3 to 30. d of order n^2 and above: d >= n^2 / 10. Small initial filters: pre-activations of
    signal and noise below 0.1 at first. Small steps: T1 of at least 5 steps. The network and training of `plain_network`.
    """
    n, dim, s = (runs[key].astype(float) for key in ("data.n_train", "data.dim", "data.noise_std"))
    norm = signal_norm(runs)
    # One of the two is given: s0, or its product with sqrt(d).
    init = runs["model.init_std"].astype(float).fillna(runs["model.init_norm"].astype(float) / np.sqrt(dim))
    n_snr2 = n * (norm / s) ** 2 / dim
    t1 = stage1_scale(n, runs["model.width"], runs["step_size"], s, dim)
    small = (init * norm <= 0.1) & (init * s * np.sqrt(dim) <= 0.1)
    return n_snr2.between(0.3, 30) & (dim >= n**2 / 10) & small & (t1 >= 5) & plain_network(runs)


def combinations(runs: pd.DataFrame) -> dict[str, pd.Series | np.ndarray]:
    """Quantities of the theory for each run of a results table, as columns."""
    n, dim = runs["data.n_train"].astype(float), runs["data.dim"].astype(float)
    return {
        "rate": noise_rate(runs),
        "t1": stage1_scale(n, runs["model.width"], runs["step_size"], runs["data.noise_std"], dim),
        "n_snr2": n * (signal_norm(runs) / runs["data.noise_std"]) ** 2 / dim,
        "dim_over_n": dim / n,
        "benign": BENIGN_LAW.of(runs),
        "floor": final_error_floor(runs),
        "stage1_conditions": stage1_conditions(runs),
        "plain_network": plain_network(runs),
    }
