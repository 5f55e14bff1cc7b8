"""Signals that tell mislabelled training samples from clean ones, beside the loss: margins, and past predictions."""

from dataclasses import dataclass

import torch
from torch import Tensor

SIGNALS = ("loss", "margin", "learning_time", "wrong_events")


def class_margins(outputs: Tensor, labels: Tensor) -> Tensor:
    """The output of the observed class minus the largest other one, of outputs [.., K] and classes [..]; shaped like labels."""
    chosen = labels[..., None].long()
    return outputs.gather(-1, chosen)[..., 0] - outputs.scatter(-1, chosen, -torch.inf).amax(-1)


@dataclass
class History:
    """How the training samples of R runs were predicted at the recorded steps so far.

    `wrong` counts wrong events: recorded steps at which a sample is predicted otherwise than its observed label. That is the
    metric of Zhang et al., "Handling Label Noise via Instance-Level Difficulty Modeling and Dynamic Optimization", NeurIPS 2025
    (arXiv 2505.00812), whose program counts the predictions made in the forward passes of every epoch.
    """

    learned: Tensor  # [R, n] number of the recorded step from which on it is predicted as observed; `records` stands for never
    wrong: Tensor  # [R, n]
    records: int = 0

    @classmethod
    def like(cls, labels: Tensor) -> "History":
        """That of samples [R, n] before anything was recorded."""
        zeros = torch.zeros(labels.shape, dtype=torch.int64, device=labels.device)
        return cls(zeros, zeros.clone())

    def add(self, fitted: Tensor) -> None:
        """Note which samples [R, n] are predicted as observed at one more recorded step."""
        self.records += 1
        self.learned = torch.where(fitted, self.learned, self.records)
        self.wrong = self.wrong + ~fitted

    def learning_times(self, steps: Tensor) -> Tensor:
        """The learning times in steps, [R, n], given the recorded `steps` [T]; infinite for never."""
        never = steps.new_full((1,), torch.inf)
        return torch.cat([steps[: self.records], never])[self.learned]


def ranks(signal: Tensor, losses: Tensor) -> Tensor:
    """Places [R, n], from 0, of samples by a signal [R, n]; equal ones go by their loss, and then by position."""
    by_loss = losses.argsort(stable=True, dim=1)
    order = by_loss.gather(1, signal.gather(1, by_loss).argsort(stable=True, dim=1))
    return order.argsort(1)
