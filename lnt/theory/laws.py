"""The laws of the theory as formulas. Constants are unknown there and are fitted, never claimed."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # training needs one formula from here, and no tables
    import pandas as pd


def stage1_scale(n: object, m: object, lr: object, noise_std: object, dim: object) -> np.ndarray:
    """T1 = n m / (eta s^2 d): the order of the number of steps after which Stage I ends.

    Solved for eta it is its own inverse: stage1_scale(n, m, T1, s, d) is the step size whose scale is T1 steps.
    Source: Han et al., "On the Role of Label Noise in the Feature Learning Process", ICML 2025, Stage I; the regime is
    n SNR^2 = Theta(1) and d of order n^2 and above.
    """
    size = np.asarray(n, float) * np.asarray(m, float)
    return size / (np.asarray(lr, float) * np.square(np.asarray(noise_std, float)) * np.asarray(dim, float))


MARGIN = "noise.rate"  # enters as 1 - 2 tau, the mean of y y~


def coordinate(key: str, values: object) -> np.ndarray:
    """The coordinate in which laws are powers: 1 - 2 tau for the noise rate, the value itself for anything else."""
    numbers = np.asarray(values, float)
    return 1 - 2 * numbers if key == MARGIN else numbers


def value_at(key: str, coordinates: np.ndarray) -> np.ndarray:
    """The inverse of `coordinate`."""
    return (1 - coordinates) / 2 if key == MARGIN else coordinates


def least_coordinate(key: str, n: int) -> float:
    """The value that `coordinate` must exceed: laws are about expectations, and the mean of y y~ over n samples scatters by
    1 / sqrt(n).
    """
    # Three standard deviations of that mean.
    return 3 / np.sqrt(n) if key == MARGIN else 0.0


def signal_norm(runs: "pd.DataFrame") -> "pd.Series":
    """|mu| of each run of a results table, also where the SNR was given."""
    # A table may hold runs of both kinds; where the SNR is null this is NaN, and |mu| was given.
    from_snr = runs["data.snr"].astype(float) * runs["data.noise_std"] * np.sqrt(runs["data.dim"].astype(float))
    return runs["data.signal_norm"].astype(float).fillna(from_snr)


def flip_rate(runs: "pd.DataFrame") -> "pd.Series":
    """tau of each run of a results table, the mean of both classes' rates; NaN where it is unknown.

    Training writes it, whatever the kind of label noise and its settings are called: nothing is concluded from their names.
    """
    # Tables of earlier versions lack the column.
    return runs["flip_rate"].astype(float) if "flip_rate" in runs else runs["data.n_train"] * np.nan


RATES = ("flip_rate_positive", "flip_rate_negative")  # columns: tau_plus and tau_minus


def class_rates(runs: "pd.DataFrame") -> "pd.DataFrame":
    """tau_plus and tau_minus of each run of a results table, [R, 2]; NaN where they are unknown."""
    return runs.reindex(columns=[*RATES]).astype(float)


def kappa(runs: "pd.DataFrame") -> "pd.Series":
    """kappa = n SNR^2 = n |mu|^2 / (s^2 d) of each run of a results table."""
    n, s, dim = (runs[key].astype(float) for key in ("data.n_train", "data.noise_std", "data.dim"))
    return n * (signal_norm(runs) / s) ** 2 / dim


@dataclass(frozen=True)
class Law:
    """A test error is small where a product of powers of the parameters is large, and of constant order where it is small.

    `finite_size`: the product is divided by 1 + kappa (1 - 2 tau)^2 in runs whose noise is not orthogonal to mu. Fresh noise
    then has a share along mu, and the learned signal direction, of weight kappa (1 - 2 tau)^2 relative to that of the
    training noise, reads it as noise too. So the exponents are those of large d.
    """

    formula: str
    exponents: Mapping[str, float]  # of n, |mu|, s, d, 1 - 2 tau under their keys
    finite_size: bool = False

    def exponents_of(self, keys: object) -> dict[str, float]:
        """The exponents if the signal is given as `keys` say: with data.snr, |mu| = SNR s sqrt(d)."""
        given = dict(self.exponents)
        if "data.snr" in keys:  # type: ignore[operator]
            signal = given.pop("data.signal_norm")
            given |= {"data.snr": signal}
            # Added to what the law says already: |mu| = SNR s sqrt(d) brings s and d with it.
            given["data.noise_std"] = given.get("data.noise_std", 0) + signal
            given["data.dim"] = given.get("data.dim", 0) + signal / 2
        return given

    def boundary_exponent(self, x: str, y: str) -> float | None:
        """a in v(y) ~ u(x)^a along a line of constant error (u, v: `coordinate`); None if the law is not about x and y."""
        exponents = self.exponents_of((x, y))
        # An exponent of 0 counts too: the law says nothing about that axis.
        if not exponents.get(x) or not exponents.get(y):
            return None
        return -exponents[x] / exponents[y]

    def of(self, runs: "pd.DataFrame") -> np.ndarray:
        """The combination for each run of a results table, [R]; NaN where a parameter is unknown."""
        columns = runs.assign(**{"data.signal_norm": signal_norm(runs), MARGIN: flip_rate(runs)})
        product = np.prod([coordinate(key, columns[key]) ** exponent for key, exponent in self.exponents.items()], axis=0)
        if not self.finite_size:
            return product
        share = kappa(runs) * (1 - 2 * flip_rate(runs)) ** 2
        return product / (1 + np.where(runs["data.orthogonal_noise"].astype(bool), 0, share))


FINITE_SIZE = r"\,/\,(1+n\mathrm{SNR}^2(1-2\tau)^2)"
# Kou et al., ICML 2023, Theorems 4.2 and 4.3 (ReLU, small flip rate, training converged); with the noiseless bound
# exp(-n |mu|^4 / (C s^4 d)) of Han et al. 2025. XOR data: Meng et al., ICML 2024, the classic regime.
BENIGN_LAW = Law(
    r"n|\mu|^4/(s^4 d)",
    MappingProxyType({"data.n_train": 1, "data.signal_norm": 4, "data.noise_std": -4, "data.dim": -1}),
)
# The same with label noise, before any label is memorised. While f is small, all samples push alike and the filters move
# along the mean of y~_i x_i: its signal is (1 - 2 tau) mu, its noise has norm s sqrt(d / n), and a fresh sample is wrong
# where (1 - 2 tau) |mu|^2 < z sqrt(s^4 d / n + s^2 (1 - 2 tau)^2 |mu|^2), z ~ N(0, 1): the second term, fresh noise along mu,
# is the finite-size one. So tau takes from n a factor (1 - 2 tau)^2, and error = Phi(-sqrt(combination)). Derived here.
EARLY_LAW = Law(r"(1-2\tau)^2 n|\mu|^4/(s^4 d)", MappingProxyType({**BENIGN_LAW.exponents, MARGIN: 2}))


def deep_law(q: float) -> Law:
    """n SNR^q, for sigma(z) = max(0, z)^q with q > 2 and no label noise.

    Source: Cao et al., NeurIPS 2022, Theorems 4.3 and 4.4.
    """
    exponents = {"data.n_train": 1, "data.signal_norm": q, "data.noise_std": -q, "data.dim": -q / 2}
    return Law(rf"n\,\mathrm{{SNR}}^{{{q:g}}}", MappingProxyType(exponents))


def error_bound(combination: np.ndarray, constant: float) -> np.ndarray:
    """exp(-combination / C): the form in which test errors are bounded from above, with a free constant C.

    Source: Han et al. 2025: combination = d / n when stopped in Stage I, under `stage1_conditions`; n |mu|^4 / (s^4 d) without
    label noise, at convergence and where it is at least 1.
    """
    return np.exp(-combination / constant)


def bound_constant(combination: np.ndarray, error: np.ndarray) -> float:
    """The smallest C for which error_bound holds of all the errors in (0, 1)."""
    # exp(-x / C) >= error for all means C >= x / -log(error) for all.
    return float(np.max(combination / -np.log(error)))
