"""The measurements at every recorded step. A value that does not exist (no mislabelled sample, say) is NaN.

lnt/column_names.py lists the metrics.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from lnt.column_names import METRICS, OF_TEST_TRUTH, OF_TRUTH, TAKEN
from lnt.errors import ConfigError, require
from lnt.settings import import_module_of
from lnt.training.engine import Coefficients, Snapshot, Truth
from lnt.training.selection_signals import History

STAGE_REACHED = 0.99  # accuracy from which a stage counts as reached

OwnMetric = Callable[[Snapshot, Truth], Tensor]  # a user's own: [R]


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values [R, n] where mask [R, n] holds, [R]; NaN if it holds nowhere."""
    # Not a product with the mask: an infinite value outside it would give NaN. Where the mask is empty, 0 / 0 gives NaN.
    return torch.where(mask, values, 0).sum(1) / mask.sum(1)


def measure(snapshot: Snapshot, problem: Truth, own: Sequence[OwnMetric] = (), history: History | None = None) -> Tensor:
    """The METRICS of R runs and then the user's own, [M, R]. `history` has this step in it; None if it is not known."""
    clean = snapshot.observed == problem.labels
    fitted = (snapshot.predicted == snapshot.observed).to(snapshot.losses.dtype)
    wrong = snapshot.test_predicted != problem.test_labels
    # Below the loss at margin 0: two classes and a loss that falls everywhere, those that are predicted as labelled.
    small, kept = snapshot.losses < snapshot.loss_at_zero, snapshot.weights > 0
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
    if snapshot.margins is not None:
        values["auc_margin"] = separation(-snapshot.margins, clean)
    if history is not None:
        for name, counts in (("auc_learning_time", history.learned), ("auc_wrong_events", history.wrong)):
            values[name] = separation_by_counts(counts, clean, history.records).to(fitted.dtype)
    if snapshot.losses_used is not None:
        values["train_loss_used"] = snapshot.losses_used.mean(1)
    if (on_observed := problem.test_error_observed(snapshot.test_predicted)) is not None:
        values["test_error_observed"] = on_observed.to(fitted.dtype)
    if snapshot.coefficients is not None:
        values |= measure_coefficients(snapshot.coefficients, problem.as_classes(snapshot.observed), clean)
    if (rare := problem.test_rare) is not None:
        values["test_error_rare"] = mean_over(wrong.to(fitted.dtype), rare)
    # Where observed labels stand in for true ones, what rests on the truth is not known.
    unknown = {*(() if problem.labels_known else OF_TRUTH), *(() if problem.test_labels_known else OF_TEST_TRUTH)}
    values = {name: value for name, value in values.items() if name not in unknown}
    missing = torch.full_like(values["train_loss"], torch.nan)
    measured = [values.get(name, missing) for name in METRICS]
    # A user's metric may return another dtype or device, which torch.stack would refuse.
    return torch.stack([*measured, *(metric(snapshot, problem).to(missing) for metric in own)])


def stage_level(margins: Tensor, mask: Tensor) -> float:
    """A number that is positive if and only if a share of STAGE_REACHED of the samples in `mask` has a positive margin.

    It is the k-th largest of their margins, k the fewest samples that make such a share, so it is continuous in the weights.
    `margins` and `mask` are [n]; NaN if the mask is empty.
    """
    ordered = margins[mask].sort(descending=True).values
    # Less a rounding error: 0.99 * 100 may be a little more than 99.
    return float(ordered[math.ceil(STAGE_REACHED * len(ordered) - 1e-9) - 1]) if len(ordered) else math.nan


def errors_on_halves(snapshot: Snapshot, problem: Truth) -> Tensor:
    """Test error on each half of the test samples, [2, R]; NaN on a half without samples, and without true labels."""
    wrong = (snapshot.test_predicted != problem.test_labels).to(snapshot.losses)  # [R, N]
    if not problem.test_labels_known:
        return wrong.new_full((2, len(wrong)), torch.nan)  # of the same shape with no or one test sample, too
    first = torch.as_tensor(first_half(wrong.shape[1]), device=wrong.device).to(wrong)
    halves = torch.stack([first, 1 - first])  # [2, N]
    return halves @ wrong.T / halves.sum(1, keepdim=True)


def first_half(count: int) -> np.ndarray:
    """Which of `count` test samples form the first half, [N]; with an odd number it has one more than the second."""
    # Shuffled: files of images may be sorted, or take turns between classes. The same for all runs of so many samples.
    return np.random.default_rng(0).permutation(count) % 2 == 0


def cross_fitted_error(errors: np.ndarray, count: int) -> np.ndarray:
    """Test error of the best recorded step, [R], from the errors on both halves of `count` test samples, [T, 2, R].

    Each half is evaluated at the step that the other half chooses; the mean over all samples. Given the networks on the way,
    the two halves are independent draws, so the choice knows nothing of the samples that judge it: this is an unbiased estimate
    of the error of the network that half of the test set chooses. The lowest error of the whole test set is biased downwards,
    as it is a minimum over recorded steps of noisy numbers. The price is that a choice by N/2 samples is a slightly worse one
    than a choice by N, and the expectation is that much higher; the variance is about that of an error measured on N samples.
    NaN where an error is missing; infinite errors are never chosen.
    """
    # Of equal steps the middle one: where few samples are wrong many steps are equal, and the first of them is still learning.
    order = (errors == errors.min(0)).cumsum(0)
    chosen = (order == order[-1] // 2 + 1).argmax(0)  # [2, R]
    other = np.take_along_axis(errors, chosen[None, ::-1], 0)[0]  # of each half, at the step that the other one chooses
    first = first_half(count).mean()
    return np.where(np.isnan(errors).any((0, 1)), np.nan, first * other[0] + (1 - first) * other[1])


def own_metrics(names: Sequence[str]) -> dict[str, OwnMetric]:
    """The user's metrics under the names of their columns, from dotted names: my_package.my_metric -> my_metric.

    Raises ConfigError if there is no such function, or if its column would have the name of another.
    """
    found: dict[str, OwnMetric] = {}
    for dotted in names:
        module, name = import_module_of("metrics", dotted), dotted.rpartition(".")[2]
        metric = getattr(module, name, None)
        if metric is None or not callable(metric):
            raise ConfigError("metrics", dotted, "must be the dotted name of a function of a snapshot and the truth")
        require(name not in TAKEN and name not in found, "metrics", dotted, f"there is a column {name} already")
        found[name] = metric
    return found


def measure_coefficients(coefficients: Coefficients, observed: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """Maxima and means of gamma, and of rho over the entries whose filter has the observed class (rho-bar), [R] each.

    Of several noise patches of a sample the largest counts in maxima, and their mean in means.
    """
    # [R, C, m L, n]: the noise patches of a sample lie beside the filters, as both are searched for the largest.
    by_class = coefficients.rho.unflatten(1, (coefficients.classes, -1)).unflatten(3, (-1, observed.shape[1])).flatten(2, 3)
    own = by_class.gather(1, observed[:, None, None].expand(-1, 1, by_class.shape[2], -1))[:, 0]  # [R, m L, n]
    highest, mean = own.amax(1), own.mean(1)
    values = {
        "signal_coef": coefficients.gamma.amax(1),
        "signal_coef_mean": coefficients.gamma.mean(1),
        "signal_coef_min": coefficients.gamma.amin(1),
        "overtaken_share": mean_over((highest > coefficients.gamma.amax(1)[:, None]).to(highest.dtype), ~clean),
        "decomposition_residual": coefficients.residual,
    }
    for name, mask in (("noise_coef_clean", clean), ("noise_coef_noisy", ~clean)):
        # Without such a sample the maximum would be -inf, which is a number to every mean.
        values[name] = torch.where(mask.any(1), torch.where(mask, highest, -torch.inf).amax(1), torch.nan)
        values[f"{name}_mean"] = mean_over(mean, mask)
    return values


def separation(losses: Tensor, clean: Tensor) -> Tensor:
    """Area under the ROC curve of small loss as a sign of a clean label, [R]; ties count one half.

    AUC = sum over mislabelled samples of (clean ones with a smaller loss + half of those with the same) / (n_c (n - n_c)).
    With clean or with mislabelled samples only, 0 / 0 gives NaN.
    """
    ordered, order = losses.sort(1)  # [R, n]
    sign = clean.gather(1, order)
    smaller = sign.cumsum(1).double()  # the clean ones up to each place, of which a mislabelled one is none itself
    # Looking for equal losses takes longer than sorting, and few runs have any.
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(1).nonzero()[:, 0]
    if len(tied):
        values, counted = ordered[tied], pad(smaller[tied], (1, 0))
        ends = (torch.searchsorted(values, values, right=right) for right in (False, True))
        smaller[tied] = sum(counted.gather(1, end) for end in ends) / 2
    return _share_of_pairs(smaller.masked_fill_(sign, 0).sum(1), clean).to(losses.dtype)


def separation_by_counts(counts: Tensor, clean: Tensor, most: int) -> Tensor:
    """`separation` by counts [R, n] from 0 to `most`, [R] in double precision: without sorting."""
    runs = torch.arange(len(counts), device=counts.device)[:, None]
    # Numbers of the triples (run, count, kind), so that a single bincount counts them all.
    triples = ((runs * (most + 1) + counts) * 2 + clean.long()).flatten()
    mislabelled, right = torch.bincount(triples, minlength=len(counts) * (most + 1) * 2).view(-1, most + 1, 2).unbind(2)
    smaller = right.cumsum(1) - right / 2
    return _share_of_pairs((mislabelled * smaller.double()).sum(1), clean)


def _share_of_pairs(pairs: Tensor, clean: Tensor) -> Tensor:
    """Pairs of a clean and a mislabelled sample, [R], as a share of all of them; NaN if there are none."""
    count = clean.sum(1).double()
    return pairs / (count * (clean.shape[1] - count))
