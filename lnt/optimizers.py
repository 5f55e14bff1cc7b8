"""Optimizers as numbers: step sizes for each run, number of steps, and which samples each step sees."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from lnt.config import PerRunFloat, require, require_one_of
from lnt.data import SignalNoise
from lnt.models import TwoLayerCNN
from lnt.seeding import draw_per_run, generator
from lnt.theory import stage1_scale


def _check_rates(optimizer: "GradientDescent | StochasticGradientDescent") -> None:
    momentum = np.asarray(optimizer.momentum)
    require((momentum >= 0) & (momentum < 1), "momentum", optimizer.momentum, "must lie in [0, 1)")
    require(np.asarray(optimizer.weight_decay) >= 0, "weight_decay", optimizer.weight_decay, "must be at least 0")


def _check_epochs(optimizer: "StochasticGradientDescent | Adam") -> None:
    require(np.asarray(optimizer.lr) > 0, "lr", optimizer.lr, "must be positive")
    require(optimizer.epochs >= 1, "epochs", optimizer.epochs, "must be at least 1")
    require(optimizer.batch_size >= 1, "batch_size", optimizer.batch_size, "must be at least 1")


@dataclass(frozen=True)
class GradientDescent:
    """Full-batch gradient descent: v <- momentum v + grad + weight_decay w;  w <- w - eta v.

    eta is `lr`, or such that the predicted length of Stage I, n m / (eta s^2 d), is `t1_steps` steps.
    """

    lr: PerRunFloat | None
    t1_steps: PerRunFloat | None
    steps: int
    momentum: PerRunFloat
    weight_decay: PerRunFloat

    def __post_init__(self) -> None:
        require_one_of(self, "lr", "t1_steps")
        for key in ("lr", "t1_steps"):
            if (value := getattr(self, key)) is not None:
                require(np.asarray(value) > 0, key, value, "must be positive")
        require(self.steps >= 1, "steps", self.steps, "must be at least 1")
        _check_rates(self)

    def step_size(self, data: SignalNoise, model: TwoLayerCNN) -> np.ndarray:
        """eta, a number or [R]."""
        if self.lr is not None:
            return np.asarray(self.lr, float)
        return stage1_scale(data.n_train, model.width, self.t1_steps, data.noise_std, data.dim)

    def total_steps(self, n: int) -> int:
        return self.steps

    def make(self, parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters, lr, np.asarray(self.momentum).item(), weight_decay=np.asarray(self.weight_decay).item()
        )


@dataclass(frozen=True)
class StochasticGradientDescent:
    """Mini-batch SGD with the update of GradientDescent; each epoch visits the samples once in a fresh order."""

    lr: PerRunFloat
    epochs: int
    batch_size: int
    momentum: PerRunFloat
    weight_decay: PerRunFloat

    def __post_init__(self) -> None:
        _check_epochs(self)
        _check_rates(self)

    def step_size(self, data: SignalNoise, model: TwoLayerCNN) -> np.ndarray:
        """eta, a number or [R]."""
        return np.asarray(self.lr, float)

    def total_steps(self, n: int) -> int:
        return self.epochs * -(-n // self.batch_size)

    def make(self, parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters, lr, np.asarray(self.momentum).item(), weight_decay=np.asarray(self.weight_decay).item()
        )


@dataclass(frozen=True)
class Adam:
    """Mini-batch Adam (Kingma & Ba 2015) with PyTorch's other defaults. Its steps leave the span of the data."""

    lr: PerRunFloat
    epochs: int
    batch_size: int
    weight_decay: PerRunFloat

    def __post_init__(self) -> None:
        _check_epochs(self)
        require(np.asarray(self.weight_decay) >= 0, "weight_decay", self.weight_decay, "must be at least 0")

    def step_size(self, data: SignalNoise, model: TwoLayerCNN) -> np.ndarray:
        """eta, a number or [R]."""
        return np.asarray(self.lr, float)

    def total_steps(self, n: int) -> int:
        return self.epochs * -(-n // self.batch_size)

    def make(self, parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr, weight_decay=np.asarray(self.weight_decay).item())


class MiniBatches:
    """Which samples each step of R runs sees, from the stream `order`."""

    def __init__(self, n: int, batch_size: int, seeds: np.ndarray) -> None:
        self.n, self.batch_size, self.seeds = n, batch_size, seeds  # seeds [R]
        self._epoch, self._order = -1, np.empty(0, int)

    def at(self, step: int) -> np.ndarray:
        """Sample indices [R, size of this batch]; the last batch of an epoch may be smaller."""
        epoch, position = divmod(step, -(-self.n // self.batch_size))
        if epoch != self._epoch:
            (orders,), index = draw_per_run(
                self.seeds[:, None], lambda seed: (generator("order", seed, epoch).permutation(self.n),)
            )
            self._epoch, self._order = epoch, orders[index]
        return self._order[:, position * self.batch_size : (position + 1) * self.batch_size]
