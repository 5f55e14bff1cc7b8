"""What an engine shows of its runs at one step; metrics are computed from nothing else."""

from dataclasses import dataclass

from torch import Tensor

from lnt.coefficients import Coefficients


@dataclass(frozen=True)
class Snapshot:
    """The state of R runs at one step, seen through their predictions. Labels are -1 and +1."""

    losses: Tensor  # [R, n] log(1 + exp(-observed f))
    observed: Tensor  # [R, n] observed labels in force
    predicted: Tensor  # [R, n]
    test_predicted: Tensor  # [R, N]
    coefficients: Coefficients | None


def label_of(outputs: Tensor) -> Tensor:
    """The predicted label: the sign of f, -1 at f = 0."""
    return (outputs > 0).to(outputs.dtype) * 2 - 1
