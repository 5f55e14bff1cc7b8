"""What an engine shows of its runs at one step; metrics are computed from nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lnt.coefficients import Coefficients


@dataclass(frozen=True)
class Snapshot:
    """The state of R runs at one step, seen through their predictions.

    Labels are -1 and +1, and a prediction is the sign of f (0 at f = 0, which is never right); for images labels are classes,
    and a prediction is the class with the largest output.
    """

    losses: Tensor  # [R, n] cross entropies: log(1 + exp(-observed f)) with one output f
    observed: Tensor  # [R, n] observed labels in force
    weights: Tensor  # [R, n] of the samples in the loss in force
    predicted: Tensor  # [R, n]
    test_predicted: Tensor  # [R, N]
    coefficients: Coefficients | None = None
    parameters: Mapping[str, Tensor] | None = None  # of the networks, [R, ..] each; a view, where networks are worth keeping
