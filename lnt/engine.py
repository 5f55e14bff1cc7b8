"""What the loop and the strategies see of R runs in training, whatever the network and the data are."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from lnt.snapshot import Snapshot


class Engine(Protocol):
    """R runs that train side by side."""

    step: int
    weights: Tensor  # [R, n] of the samples in the loss; their mean is 1

    def advance(self, steps: int) -> None:
        """Take `steps` optimizer steps."""
        ...

    def losses(self) -> Tensor:
        """Training losses [R, n]."""
        ...

    def snapshot(self) -> Snapshot:
        """Losses and predictions at this step."""
        ...

    def restart(self, runs: Tensor) -> None:
        """Put the networks of the runs [R] (bool) back to where they started."""
        ...

    def state(self) -> dict[str, Any]:
        """All that training goes on from: tensors and numbers."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        ...
