"""`lnt.Probe`: the metrics, tables and figures of this package for a network that is trained elsewhere."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lnt.analysis.load import from_memory
from lnt.analysis.results import Results
from lnt.column_names import METRICS
from lnt.errors import ConfigError, require
from lnt.losses import Logistic
from lnt.runs.tables import label_counts, measured_outcomes, measured_tables, realised_transition, schemas
from lnt.training.engine import Snapshot
from lnt.training.loop import LOSS, Curves, class_counts
from lnt.training.metrics import cross_fitted_error, errors_on_halves, measure
from lnt.training.selection_signals import History, class_margins


@dataclass(frozen=True)
class Labels:
    """What a probe knows of the samples: a `Truth` of one run."""

    labels: Tensor  # [1, n] true labels, or observed ones where nobody knows the true ones
    test_labels: Tensor  # [1, N]
    labels_known: bool
    test_labels_known: bool
    test_rare: None = None

    def test_error_observed(self, predicted: Tensor) -> None:
        """Labels with noise are known of training samples only."""

    def as_classes(self, labels: Tensor) -> Tensor:
        """Asked for by coefficients only, which a probe does not know."""
        return labels


class Probe:
    """Measures a network in a training loop of one's own.

    `true` and `observed` [n] are the labels of the training samples, `test_true` [N] those of test samples: -1 and +1 where the
    network has one output f, or classes 0 to K - 1 where it has logits. Without `true`, metrics that tell clean samples from
    mislabelled ones are null. Losses are log(1 + exp(-observed f)), or the cross entropy, whatever the network is trained with.
    docs/results.md has the meaning of every metric. Raises ConfigError for what are no such labels.
    """

    def __init__(self, true: Any, observed: Any, test_true: Any = None) -> None:
        self._observed = _labels("observed", observed)
        self._known = true is not None
        self._true = _labels("true", true) if self._known else self._observed
        self._test = torch.empty(0, dtype=torch.int64) if test_true is None else _labels("test_true", test_true)
        shape, n = len(self._true), len(self._observed)
        require(shape == n, "true", f"{shape} labels", f"must be as many as observed: {n}")
        self._outputs: int | None = None  # of the network: 1, or K
        self._steps: list[int] = []
        self._values: list[np.ndarray] = []  # [M] at each of them
        self._halves: list[np.ndarray] = []  # [2]
        self._history = History.like(self._observed[None])
        self._start = time.perf_counter()

    def record(self, step: int, logits: Any, test_logits: Any = None) -> None:
        """Measure the network after `step` updates, from what it says of all training samples, in their order.

        `logits` are f [n], or [n, K]; `test_logits` likewise [N] or [N, K]: NumPy or PyTorch, on any device, of a network in
        evaluation mode.
        Raises ConfigError for another shape, or for a step that does not come after the last one.
        """
        later = isinstance(step, int | np.integer) and step > (self._steps[-1] if self._steps else -1)
        require(later, "step", step, f"must be an integer above {self._steps[-1] if self._steps else -1}")
        of_train = self._checked("logits", logits, len(self._observed))
        if test_logits is None:
            of_test, test = of_train[:0], self._test[:0]
        else:
            require(
                len(self._test) > 0, "test_logits", "...", "need the labels of these samples: lnt.Probe(..., test_true=labels)"
            )
            of_test, test = self._checked("test_logits", test_logits, len(self._test)), self._test
        losses = self._losses(of_train)[None]
        snapshot = Snapshot(
            losses=losses,
            observed=self._observed[None],
            weights=torch.ones_like(losses),
            predicted=_predicted(of_train)[None],
            test_predicted=_predicted(of_test)[None],
            loss_at_zero=Logistic.at_zero,
            losses_used=losses if step else None,
            margins=self._margins(of_train)[None],
        )
        self._history.add(snapshot.predicted == snapshot.observed)
        truth = Labels(self._true[None], test[None], self._known, test_logits is not None)
        values = measure(snapshot, truth, history=self._history)[:, 0].numpy()
        # As in training by this package: a run whose loss is finite again after it diverged stays diverged.
        alive = bool(np.isfinite(values[LOSS])) and not (self._values and np.isnan(self._values[-1][LOSS]))
        self._steps.append(int(step))
        self._values.append(values if alive else np.full_like(values, np.nan))
        self._halves.append(errors_on_halves(snapshot, truth)[:, 0].numpy() if alive else np.full(2, np.inf))

    def results(self) -> Results:
        """What was recorded so far, as `lnt.simulate` returns it: one run. Raises ConfigError if there is nothing."""
        require(len(self._steps) > 0, "results", "none", "nothing was recorded; call record(step, logits) first")
        counts = class_counts(self._classes(self._true)[None], self._classes(self._observed)[None], max(self._outputs or 0, 2))
        fresh = (
            cross_fitted_error(np.array(self._halves)[..., None], len(self._test)) if len(self._test) else np.full(1, np.nan)
        )
        curves = Curves(
            metrics=METRICS,
            steps=np.array(self._steps),
            values=np.array(self._values)[..., None],
            chosen=np.array([len(self._steps) - 1]),
            fresh_error=fresh,
            seconds=np.array([time.perf_counter() - self._start]),
            counts=counts,
        )
        outcomes = {**measured_outcomes(curves), "wall_seconds": curves.seconds}
        if self._known:
            outcomes |= {**label_counts(counts), "realised_transition": realised_transition(counts)}
        tables = measured_tables(["probe"], outcomes, curves, schemas([]))
        return Results(**vars(from_memory(*tables, {"groups": []})))

    def _checked(self, key: str, given: Any, samples: int) -> Tensor:
        """Outputs as float64 [n] or [n, K] on the CPU, for which the labels are fit."""
        outputs = _tensor(key, given).to(torch.float64)
        shape = tuple(outputs.shape)
        fits = outputs.ndim in (1, 2) and shape[0] == samples and shape[1:] != (1,)
        require(fits, key, f"shape {shape}", f"must be [{samples}] for labels -1 and +1, or [{samples}, K] for classes")
        count = 1 if outputs.ndim == 1 else shape[1]
        if self._outputs is None:
            for name, labels in (("true", self._true), ("observed", self._observed), ("test_true", self._test)):
                right = labels.abs() == 1 if count == 1 else (labels >= 0) & (labels < count)
                allowed = "-1 or +1 for outputs [n]" if count == 1 else f"classes 0 to {count - 1} for {key} [n, {count}]"
                require(right.numpy() if len(labels) else True, name, labels.numpy(), f"must be {allowed}")
            self._outputs = count
        require(count == self._outputs, key, f"{count} outputs", f"must be {self._outputs}, as before")
        return outputs

    def _losses(self, outputs: Tensor) -> Tensor:
        """[n]"""
        if outputs.ndim == 1:
            return Logistic().value(self._observed * outputs)
        return Logistic().of_logits(outputs, self._observed)

    def _margins(self, outputs: Tensor) -> Tensor:
        """Of the observed classes, [n]."""
        return self._observed * outputs if outputs.ndim == 1 else class_margins(outputs, self._observed)

    def _classes(self, labels: Tensor) -> Tensor:
        """The numbers of the classes, of which +1 is the first."""
        return (1 - labels) // 2 if self._outputs == 1 else labels


def _predicted(outputs: Tensor) -> Tensor:
    """Labels [n] that outputs stand for."""
    return outputs.sign().long() if outputs.ndim == 1 else outputs.argmax(1)


def _tensor(key: str, given: Any) -> Tensor:
    """What a user hands over, as a tensor on the CPU."""
    try:
        return given.detach().cpu() if isinstance(given, Tensor) else torch.from_numpy(np.array(given))
    except (TypeError, ValueError):
        raise ConfigError(key, type(given).__name__, "must be an array or a tensor of numbers") from None


def _labels(key: str, given: Any) -> Tensor:
    """Labels as integers [n]."""
    found = _tensor(key, given)
    require(found.ndim == 1 and len(found) > 0, key, f"shape {tuple(found.shape)}", "must be labels [n], one for each sample")
    whole = (found == found.round()).numpy() if found.is_floating_point() else True
    require(whole, key, found.numpy(), "must be -1 or +1, or classes 0, 1, 2, ...")
    return found.long()
