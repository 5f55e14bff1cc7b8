"""What is measured at every recorded step. A value that does not exist (no mislabelled sample, say) is NaN."""

import math
from typing import Protocol

import torch
from torch import Tensor

from lnt.coefficients import Coefficients
from lnt.snapshot import Snapshot

METRICS = (
    "train_loss",  # mean loss against observed labels
    "clean_loss",  # the same over correctly labelled samples
    "noisy_loss",  # the same over mislabelled samples
    "clean_accuracy",  # share of correctly labelled samples predicted as labelled
    "noisy_accuracy",  # share of mislabelled samples predicted as (wrongly) labelled
    "test_error",  # share of test samples predicted wrong against true labels
    "test_error_observed",  # the same against labels drawn with the training noise
    "signal_coef",  # max over filters of gamma
    "signal_coef_mean",
    "signal_coef_min",
    "noise_coef_clean",  # max of rho over filters and correctly labelled samples with observed label j
    "noise_coef_clean_mean",
    "noise_coef_noisy",  # the same over mislabelled samples
    "noise_coef_noisy_mean",
    "overtaken_share",  # share of mislabelled samples whose largest rho exceeds the largest gamma
    "decomposition_residual",
    "selection_precision",  # share of clean samples among those with loss below log 2
    "selection_recall",  # share of clean samples with loss below log 2
    "selection_auc",  # P(loss of a clean sample < loss of a mislabelled one)
    "realised_noise_rate",
    "kept_share",  # share of samples that the strategy trains on
    "kept_precision",  # share of correctly labelled samples among these
    "kept_recall",  # share of the correctly labelled samples that are among these
    "stopping_criterion",  # what early stopping looks at (lnt/strategies.py)
)


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values [R, n] where mask [R, n] holds, [R]; NaN if it holds nowhere."""
    return torch.where(mask, values, 0).sum(1) / mask.sum(1)


class Truth(Protocol):
    """What predictions are held against."""

    @property
    def labels(self) -> Tensor:
        """True training labels, [R, n]."""
        ...

    @property
    def test_labels(self) -> Tensor:
        """True test labels, [R, N]."""
        ...

    @property
    def test_observed(self) -> Tensor | None:
        """Test labels drawn with the training noise, [R, N]."""
        ...


def measure(snapshot: Snapshot, problem: Truth) -> Tensor:
    """The METRICS of R runs, [M, R]."""
    clean = snapshot.observed == problem.labels
    fitted = (snapshot.predicted == snapshot.observed).to(snapshot.losses.dtype)
    wrong = snapshot.test_predicted != problem.test_labels
    small, kept = snapshot.losses < math.log(2), snapshot.weights > 0
    values = {
        "train_loss": snapshot.losses.mean(1),
        "clean_loss": mean_over(snapshot.losses, clean),
        "noisy_loss": mean_over(snapshot.losses, ~clean),
        "clean_accuracy": mean_over(fitted, clean),
        "noisy_accuracy": mean_over(fitted, ~clean),
        "test_error": wrong.mean(1, dtype=fitted.dtype),
        "selection_precision": mean_over(clean.to(fitted.dtype), small),
        "selection_recall": mean_over(small.to(fitted.dtype), clean),
        "selection_auc": separation(snapshot.losses, clean),
        "realised_noise_rate": (~clean).to(fitted.dtype).mean(1),
        "kept_share": kept.to(fitted.dtype).mean(1),
        "kept_precision": mean_over(clean.to(fitted.dtype), kept),
        "kept_recall": mean_over(kept.to(fitted.dtype), clean),
    }
    if problem.test_observed is not None:
        values["test_error_observed"] = (snapshot.test_predicted != problem.test_observed).mean(1, dtype=fitted.dtype)
    if snapshot.coefficients is not None:
        values |= measure_coefficients(snapshot.coefficients, snapshot.observed, clean)
    missing = torch.full_like(values["train_loss"], torch.nan)
    return torch.stack([values.get(name, missing) for name in METRICS])


def measure_coefficients(coefficients: Coefficients, observed: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """Maxima and means of gamma, and of rho over the entries whose filter sign j is the observed label (rho-bar), [R] each."""
    m = coefficients.signal.shape[1] // 2
    own = torch.where(observed[:, None] > 0, coefficients.noise[:, :m], coefficients.noise[:, m:])  # [R, m, n]
    highest, mean = own.amax(1), own.mean(1)
    values = {
        "signal_coef": coefficients.signal.amax(1),
        "signal_coef_mean": coefficients.signal.mean(1),
        "signal_coef_min": coefficients.signal.amin(1),
        "overtaken_share": mean_over((highest > coefficients.signal.amax(1)[:, None]).to(highest.dtype), ~clean),
        "decomposition_residual": coefficients.residual,
    }
    for name, mask in (("noise_coef_clean", clean), ("noise_coef_noisy", ~clean)):
        values[name] = torch.where(mask.any(1), torch.where(mask, highest, -torch.inf).amax(1), torch.nan)
        values[f"{name}_mean"] = mean_over(mean, mask)
    return values


def separation(losses: Tensor, clean: Tensor) -> Tensor:
    """Area under the ROC curve of small loss as a sign of a clean label, [R]; ties count one half.

    The Mann-Whitney statistic: AUC = 1 - (sum of ranks of the clean - n_c (n_c + 1) / 2) / (n_c (n - n_c)).
    """
    ordered = losses.sort(1).values
    first, last = torch.searchsorted(ordered, losses), torch.searchsorted(ordered, losses, right=True)
    ranks = ((first + 1 + last) / 2).to(losses.dtype)  # equal losses share the mean of their ranks
    count = clean.sum(1).to(losses.dtype)
    below = torch.where(clean, ranks, 0).sum(1) - count * (count + 1) / 2
    return 1 - below / (count * (losses.shape[1] - count))
