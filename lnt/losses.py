"""Losses as functions of the margin z = y~ f(x), each defined once: its value and -loss'(z).

Per-sample losses are l(z_i); training minimises their mean. With K classes the logistic loss is the cross entropy.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from lnt.settings import Component

if TYPE_CHECKING:  # PyTorch takes seconds to import, and commands that only print need none of it
    from torch import Tensor

LOG2 = math.log(2)  # below it the observed class has a probability above 1/2, so it is predicted; with two classes, only then


class Loss(Component, ABC):
    """A loss of the margin. Adding one takes `value`; `minus_slope` follows from it by automatic differentiation."""

    for_classes: ClassVar[bool] = False  # whether `of_logits` is defined, so that networks on images can train with it
    has_kernel: ClassVar[bool] = False  # whether lnt/two_layer/kernels.py has its derivative

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # The kernel knows the slope of its own class only: a subclass that changes `value` must not inherit the promise.
        cls.reset_unless_declared("has_kernel")

    @abstractmethod
    def value(self, margins: "Tensor") -> "Tensor":
        """l(z), elementwise."""

    def minus_slope(self, margins: "Tensor") -> "Tensor":
        """-l'(z), elementwise: how hard a sample pulls on the network."""
        import torch

        with torch.enable_grad():
            z = margins.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.value(z).sum(), z)
        return -slope

    def of_logits(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        """Losses [B] of logits [B, K] for the classes `labels` [B]."""
        raise NotImplementedError(f"{type(self).__name__} is a loss of margins only; for_classes promises of_logits")

    @property
    def at_zero(self) -> float:
        """l(0), the loss of a sample on the decision boundary."""
        import torch

        return float(self.value(torch.zeros(1, dtype=torch.float64)))


@dataclass(frozen=True)
class Logistic(Loss):
    """l(z) = log(1 + exp(-z)); for K classes the cross entropy."""

    for_classes = True
    has_kernel = True
    at_zero = LOG2

    def value(self, margins: "Tensor") -> "Tensor":
        from torch.nn.functional import softplus

        return softplus(-margins)

    def minus_slope(self, margins: "Tensor") -> "Tensor":
        return (-margins).sigmoid()

    def of_logits(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, labels, reduction="none")
