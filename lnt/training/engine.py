"""The view of R runs in training that the loop, the metrics and the strategies share, whatever the network and the data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from lnt.losses import Loss


@dataclass(frozen=True)
class Coefficients:
    """gamma and rho of R runs, and how far the decomposition is from the filters it describes."""

    gamma: Tensor  # [R, P]: signal learning
    rho: Tensor  # [R, P, L n]: noise memorisation, of the first noise patches of all samples, then of the second ones
    residual: Tensor  # [R]: relative
    classes: int = 2  # filters lie class by class, P / classes of each; of two, the first half has j = +1


@dataclass(frozen=True)
class Snapshot:
    """The state of R runs at one step, seen through their predictions; metrics are computed from nothing else.

    Labels are -1 and +1, and a prediction is the sign of f (0 at f = 0, which is never right); of images and where the network
    has an output for each class labels are classes, and a prediction is the class with the largest output.
    """

    losses: Tensor  # [R, n] against observed labels; the logistic loss is log(1 + exp(-observed f)) with one output f
    observed: Tensor  # [R, n] observed labels in force
    weights: Tensor  # [R, n] of the samples in the loss in force
    predicted: Tensor  # [R, n]
    test_predicted: Tensor  # [R, N]
    loss_at_zero: float | Tensor  # or [R, n]: of a sample on the decision boundary, log 2 for the logistic loss
    coefficients: Coefficients | None = None
    changed: Tensor | None = None  # [R] share of the predictions made while training that differ in the last two epochs
    parameters: Mapping[str, Tensor] | None = None  # of the networks, [R, ..] each; a view, where networks are worth keeping
    losses_used: Tensor | None = None  # [R, n] against the labels of the update before; None at step 0
    margins: Tensor | None = None  # [R, n] of the observed class: y~ f, or its output minus the largest other one
    stage_times: Tensor | None = None  # [R, 2] at which both stages were reached, NaN before; None where only steps are known


@dataclass(frozen=True)
class Ahead:
    """The B samples that the coming step sees, as the network sees them before it."""

    samples: Tensor  # [R, B] their numbers
    losses: Tensor  # [R, B] against the labels of that step
    predicted: Tensor  # [R, B]


class Truth(Protocol):
    """The labels that predictions are compared with."""

    @property
    def labels(self) -> Tensor:
        """True training labels, [R, n]."""
        ...

    @property
    def test_labels(self) -> Tensor:
        """True test labels, [R, N]."""
        ...

    @property
    def labels_known(self) -> bool:
        """Whether the true training labels are known; else observed ones stand in their place."""
        ...

    @property
    def test_labels_known(self) -> bool:
        """The same of the test labels."""
        ...

    @property
    def test_rare(self) -> Tensor | None:
        """Which test samples show the rarest feature, [R, N] (bool); None where there are no features to tell apart."""
        ...

    def test_error_observed(self, predicted: Tensor) -> Tensor | None:
        """The error of predictions [R, N] against test labels with the training noise, [R]; None where there are none."""
        ...

    def as_classes(self, labels: Tensor) -> Tensor:
        """The numbers 0 .. K - 1 of the classes that labels stand for, of the same shape."""
        ...


class Engine(Protocol):
    """R runs that train side by side."""

    @property
    def step(self) -> int:
        """Steps taken."""
        ...

    @property
    def weights(self) -> Tensor:
        """Those of the samples in the loss, [R, n]; their mean is 1. Strategies write into it."""
        ...

    @property
    def loss(self) -> Loss:
        """The loss in force. Strategies may put another one in its place."""
        ...

    @loss.setter
    def loss(self, loss: Loss) -> None: ...

    def advance(self, steps: int) -> None:
        """Take `steps` optimizer steps."""
        ...

    def look_ahead(self) -> Ahead:
        """The samples of the coming step; `advance(1)` comes next."""
        ...

    def losses(self) -> Tensor:
        """Training losses [R, n]."""
        ...

    def margins(self) -> Tensor:
        """Margins of the training samples, [R, n]: y~ f, or the output of the observed class minus the largest other one."""
        ...

    def loss_at_zero(self) -> Tensor | float:
        """The loss of a sample on the decision boundary, [R, n] where it depends on the observed label."""
        ...

    def probabilities(self) -> Tensor:
        """Predicted probabilities of the classes of the training samples, [R, n, K], under the cross entropy."""
        ...

    def snapshot(self) -> Snapshot:
        """Losses and predictions at this step."""
        ...

    def trained(self) -> Mapping[str, Tensor]:
        """The live tensors that define the networks, in which these are linear; strategies may average them."""
        ...

    def restart(self, runs: Tensor) -> None:
        """Put the networks of the runs [R] (bool) back to where they started."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything needed to resume training: tensors and numbers."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from a state."""
        ...
