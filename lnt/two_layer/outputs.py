"""What the network's outputs mean: one output f, whose sign is the label, or an output for each class under softmax.

Outputs are [R, n] or [R, K, n]; labels [R, n] are -1 and +1, or classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lnt.losses import Loss
from lnt.training.selection_signals import class_margins


@dataclass(frozen=True)
class OneOutput:
    """The label is the sign of f."""

    loss: Loss

    def labels(self, observed: Tensor) -> Tensor:
        """The observed labels [R, n] that predictions are compared with: multiplied ones have sizes."""
        return observed.sign()

    def losses(self, outputs: Tensor, observed: Tensor) -> Tensor:
        """Losses against the observed labels, [R, n]."""
        return self.loss.of(observed * outputs, observed)

    def margins(self, outputs: Tensor, observed: Tensor) -> Tensor:
        """y~ f, [R, n]."""
        return observed.sign() * outputs

    def loss_at_zero(self, observed: Tensor) -> Tensor | float:
        """The loss of a sample on the decision boundary."""
        return self.loss.zero(observed)

    def push(self, outputs: Tensor, observed: Tensor, rate: Tensor) -> Tensor:
        """-rate times the derivative of the losses by the outputs, shaped like the outputs; `rate` is [R, n]."""
        return self.loss.pull(observed * outputs, observed) * observed * rate

    def predicted(self, outputs: Tensor) -> Tensor:
        """Predicted labels [R, n]; 0 where f = 0, which is never right."""
        return outputs.sign()

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Of both classes, [R, n, 2], the first of which is +1: f is the log odds."""
        return torch.stack([outputs.sigmoid(), (-outputs).sigmoid()], -1)

    def fitted(self, outputs: Tensor, observed: Tensor) -> Tensor:
        """Which samples are predicted as labelled, [R, n]; NaN is not."""
        return observed * outputs > 0


@dataclass(frozen=True)
class OutputForEachClass:
    """The label is the class with the largest output."""

    loss: Loss

    def labels(self, observed: Tensor) -> Tensor:
        """The observed classes [R, n]."""
        return observed

    def losses(self, outputs: Tensor, observed: Tensor) -> Tensor:
        """Losses against the observed classes, [R, n]."""
        # The loss takes one axis of samples, so R and n become one.
        return self.loss.of_logits(outputs.movedim(1, 2).flatten(0, 1), observed.flatten()).view(observed.shape)

    def margins(self, outputs: Tensor, observed: Tensor) -> Tensor:
        """The output of the observed class minus the largest other one, [R, n]."""
        return class_margins(outputs.movedim(1, 2), observed)

    def loss_at_zero(self, observed: Tensor) -> Tensor | float:
        """Below it the observed class has a probability above 1/2, as on images."""
        return self.loss.at_zero

    def push(self, outputs: Tensor, observed: Tensor, rate: Tensor) -> Tensor:
        """-rate times the derivative of the losses by the outputs, shaped like the outputs; `rate` is [R, n]."""
        pull = self.loss.pull_of_logits(outputs.movedim(1, 2).flatten(0, 1), observed.flatten())  # [R n, K]
        return pull.unflatten(0, observed.shape).movedim(2, 1) * rate[:, None]

    def predicted(self, outputs: Tensor) -> Tensor:
        """Predicted classes [R, n]; the first of equal outputs."""
        return outputs.argmax(1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Of all classes, [R, n, K]."""
        return outputs.softmax(1).movedim(1, 2)

    def fitted(self, outputs: Tensor, observed: Tensor) -> Tensor:
        """Which samples are predicted as labelled, [R, n]; NaN is not."""
        return (self.predicted(outputs) == observed) & outputs.isfinite().all(1)


Outputs = OneOutput | OutputForEachClass


def outputs_of(loss: Loss, softmax: bool) -> Outputs:
    """The meaning of the outputs of a network that trains with this loss."""
    return OutputForEachClass(loss) if softmax else OneOutput(loss)
