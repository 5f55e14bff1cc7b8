"""Optimizers as numbers: step sizes for each run and step, number of steps, and which samples each step sees."""

import math
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
    require(optimizer.schedule in SCHEDULES, "schedule", optimizer.schedule, f"must be one of {', '.join(SCHEDULES)}")


SCHEDULES = ("constant", "step", "cosine", "one_cycle")
DROPS, DROP = (0.5, 0.75), 0.1  # of the step schedule: after these shares of training, by this factor
PEAK, FIRST, LAST = 0.3, 1 / 25, 1 / 25e4  # of one_cycle, as in torch.optim.lr_scheduler.OneCycleLR


def schedule_factor(schedule: str, step: int, total: int) -> float:
    """What the step size is multiplied by at `step` of `total` steps.

    step: 0.1 from half of training on, 0.01 from three quarters on (He et al., CVPR 2016). cosine: (1 + cos(pi t / T)) / 2
    (Loshchilov & Hutter, ICLR 2017). one_cycle: from 1/25 up to 1 and down to 4e-6 along cosines (Smith & Topin 2018).
    """
    if schedule == "step":
        return DROP ** sum(step >= share * total for share in DROPS)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * step / total)) / 2
    if schedule == "one_cycle":
        peak = PEAK * total - 1
        begin, end, share = (FIRST, 1.0, step / peak) if step <= peak else (1.0, LAST, (step - peak) / (total - 1 - peak))
        return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2
    return 1.0


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

    schedule = "constant"
    batch_size = None

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

    def make(self, parameters: Iterable[torch.Tensor], lr: float) -> torch.optim.Optimizer:
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
    schedule: str

    def __post_init__(self) -> None:
        _check_epochs(self)
        _check_rates(self)

    def step_size(self, data: SignalNoise, model: TwoLayerCNN) -> np.ndarray:
        """eta, a number or [R]."""
        return np.asarray(self.lr, float)

    def total_steps(self, n: int) -> int:
        return self.epochs * -(-n // self.batch_size)

    def make(self, parameters: Iterable[torch.Tensor], lr: float) -> torch.optim.Optimizer:
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
    schedule: str

    def __post_init__(self) -> None:
        _check_epochs(self)
        require(np.asarray(self.weight_decay) >= 0, "weight_decay", self.weight_decay, "must be at least 0")

    def step_size(self, data: SignalNoise, model: TwoLayerCNN) -> np.ndarray:
        """eta, a number or [R]."""
        return np.asarray(self.lr, float)

    def total_steps(self, n: int) -> int:
        return self.epochs * -(-n // self.batch_size)

    def make(self, parameters: Iterable[torch.Tensor], lr: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr, weight_decay=np.asarray(self.weight_decay).item())


Optimizer = GradientDescent | StochasticGradientDescent | Adam


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
