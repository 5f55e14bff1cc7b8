"""An engine whose snapshots show a moving average of its weights."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lnt.losses import Loss
from lnt.training.engine import Ahead, Engine, Snapshot


class AveragedEngine:
    """Trains as the engine that it holds does. Snapshots are of A(t) = decay A(t-1) + (1 - decay) w(t), A(start) = w(start).

    Batch statistics are averaged with the weights; what is no float is that of the last step.
    """

    def __init__(self, engine: Engine, decay: float, start: int) -> None:
        self.engine, self.decay, self.start = engine, decay, start
        self._average = {name: value.clone() for name, value in engine.trained().items()}

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.engine.step

    @property
    def weights(self) -> Tensor:
        """Those of the samples in the loss, [R, n]."""
        return self.engine.weights

    @property
    def loss(self) -> Loss:
        """The loss in force."""
        return self.engine.loss

    @loss.setter
    def loss(self, loss: Loss) -> None:
        self.engine.loss = loss

    def advance(self, steps: int) -> None:
        """Take `steps` optimizer steps."""
        for _ in range(steps):
            self.engine.advance(1)
            # Up to `start` the average is the weights.
            share = 1 - self.decay if self.engine.step > self.start else 1.0
            for name, value in self.engine.trained().items():
                self._average[name].lerp_(value, share) if value.is_floating_point() else self._average[name].copy_(value)

    def look_ahead(self) -> Ahead:
        """The samples of the coming step, as the network that is trained sees them."""
        return self.engine.look_ahead()

    def snapshot(self) -> Snapshot:
        """Losses and predictions of the average at this step."""
        trained = self.engine.trained()
        live = {name: value.clone() for name, value in trained.items()}
        overwrite(trained, self._average)
        # Stages are those of the network that is trained.
        shown = replace(self.engine.snapshot(), stage_times=None)
        if shown.parameters is not None:
            # Views of the live tensors, which get their own values back.
            shown = replace(shown, parameters=self._average)
        overwrite(trained, live)
        return shown

    def losses(self) -> Tensor:
        """Training losses [R, n] of the network that is trained."""
        return self.engine.losses()

    def margins(self) -> Tensor:
        """Margins of the training samples [R, n] by the network that is trained."""
        return self.engine.margins()

    def loss_at_zero(self) -> Tensor | float:
        """The loss of a sample on the decision boundary."""
        return self.engine.loss_at_zero()

    def probabilities(self) -> Tensor:
        """Probabilities of the classes [R, n, K] by the network that is trained."""
        return self.engine.probabilities()

    def trained(self) -> Mapping[str, Tensor]:
        """The weights that are trained."""
        return self.engine.trained()

    def restart(self, runs: Tensor) -> None:
        """Put the networks of the runs [R] (bool) back to where they started; averages go on from there."""
        self.engine.restart(runs)

    def state(self) -> dict[str, Any]:
        """Everything needed to resume training."""
        return {"engine": self.engine.state(), "average": self._average}

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from a state."""
        self.engine.load(state["engine"])
        overwrite(self._average, state["average"])


@torch.no_grad()
def overwrite(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values into tensors of the same names."""
    for name, tensor in tensors.items():
        tensor.copy_(values[name])
