"""Optimizers as numbers: step sizes for each run and step, and the number of steps."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from lnt.errors import require
from lnt.settings import Component, PerRunFloat, require_one_of, unless
from lnt.training.torch_optimizers import Flow, NormalizedDescent, SharpnessAware, Spectral

SCHEDULES = ("constant", "step", "cosine", "one_cycle")
MILESTONES, DROP = (0.5, 0.75), 0.1  # of the step schedule where none are given, as in He et al., CVPR 2016
PEAK, FIRST, LAST = 0.3, 1 / 25, 1 / 25e4  # of one_cycle, as in torch.optim.lr_scheduler.OneCycleLR


def schedule_factor(
    schedule: str, step: int, total: int, milestones: Sequence[float] | None = None, drop: float = DROP
) -> float:
    """The factor on the step size at `step` of `total` steps.

    step: times `drop` after each of the `milestones`, shares of training; null = from half and again from three quarters on.
    cosine: (1 + cos(pi t / T)) / 2 (Loshchilov & Hutter, ICLR 2017). one_cycle: from 1/25 up to 1 and down to 4e-6 along
    cosines (Smith & Topin 2018).
    """
    if schedule == "step":
        # Rounded: 0.07 * 100 is a little more than 7.
        return drop ** sum(step >= round(share * total, 6) for share in milestones or MILESTONES)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * step / total)) / 2
    if schedule == "one_cycle":
        # torch counts its phases in this way, minus one included; a peak at PEAK * total would be another schedule.
        peak = PEAK * total - 1
        begin, end, share = (FIRST, 1.0, step / peak) if step <= peak else (1.0, LAST, (step - peak) / (total - 1 - peak))
        return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2
    return 1.0


class Optimizer(Component, ABC):
    """A rule by which weights follow gradients. An optimizer says how many steps it takes and makes a torch.optim.Optimizer.

    `stays_in_span` promises that every update follows `rule`: then the exact reduction may train it. The rule of most is
    v <- momentum v + grad + weight_decay w; w <- w - eta v, with eta the step size times the schedule's factor. A subclass that
    does not repeat the promise does not make it, and trains with plain PyTorch.
    """

    stays_in_span: ClassVar[bool] = False
    rule: ClassVar[str] = "descent"  # a name in lnt/two_layer/update_rules.py
    cost: ClassVar[int] = 1  # time of a step in gradients, roughly
    looks_ahead: ClassVar[bool] = False  # whether it takes gradients at other weights, too
    couples: ClassVar[bool] = False  # whether a number moves by the gradient of others, so that networks train one by one
    sets_pace: ClassVar[bool] = True  # whether a step is eta times a gradient, so that Stage I has a predicted length
    for_images: ClassVar[bool] = True  # whether networks on images can train with it

    # The settings of most optimizers; one without them has these values.
    lr: Any = None
    t1_steps: Any = None
    until: str = "end"
    batch_size: int | None = None
    schedule: str = "constant"
    milestones: tuple[float, ...] | None = None
    drop: float = DROP
    epochs: int | None = None
    momentum: PerRunFloat = 0.0
    weight_decay: PerRunFloat = 0.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A subclass with another update must not inherit the promise: the exact reduction would train it wrongly, silently.
        cls.reset_unless_declared("stays_in_span")

    def factor(self, step: int, total: int) -> float:
        """The factor on the step size at `step` of `total` steps."""
        return schedule_factor(self.schedule, step, total, self.milestone_shares(), self.drop)

    def milestone_shares(self) -> tuple[float, ...] | None:
        """The milestones as shares of training; those of 1 and more are epochs."""
        if self.milestones is None or self.epochs is None:
            return self.milestones
        return tuple(m / self.epochs if m >= 1 else m for m in self.milestones)

    @property
    def until_fitted(self) -> bool:
        """Whether a network that predicts all observed labels right moves no more."""
        return self.until == "fitted"

    @abstractmethod
    def total_steps(self, n: int) -> int:
        """Steps of a whole training on n samples."""

    @abstractmethod
    def make(self, parameters: Iterable[torch.Tensor], lr: float) -> torch.optim.Optimizer:
        """The optimizer for one network, or for several side by side; the loop sets its step size at every step."""


class ByStep(Optimizer):
    """An optimizer that takes `steps` steps, however many samples there are."""

    steps: int

    def total_steps(self, n: int) -> int:
        return self.steps


def _check_rates(optimizer: "Optimizer") -> None:
    # A number or an array [R], with one check for both.
    momentum = np.asarray(optimizer.momentum)
    require((momentum >= 0) & (momentum < 1), "momentum", optimizer.momentum, "must lie in [0, 1)")
    require(np.asarray(optimizer.weight_decay) >= 0, "weight_decay", optimizer.weight_decay, "must be at least 0")


def _check_steps(optimizer: "Optimizer") -> None:
    for key in ("lr", "t1_steps"):
        if (value := getattr(optimizer, key)) is not None:
            require(np.asarray(value) > 0, key, value, "must be positive")
    steps, batch = optimizer.total_steps(1), optimizer.batch_size
    require(steps >= 1, "steps", steps, "must be at least 1")
    require(batch is None or batch >= 1, "batch_size", batch, "must be at least 1")
    require(optimizer.until in ("end", "fitted"), "until", optimizer.until, "must be one of end, fitted")
    unseen = "is for batch_size=null: a mini-batch does not tell whether all labels are fitted"
    require(batch is None or not optimizer.until_fitted, "until", optimizer.until, unseen)
    _check_schedule(optimizer)


def _check_epochs(optimizer: "StochasticGradientDescent | Adam") -> None:
    require(np.asarray(optimizer.lr) > 0, "lr", optimizer.lr, "must be positive")
    require(optimizer.epochs >= 1, "epochs", optimizer.epochs, "must be at least 1")
    require(optimizer.batch_size >= 1, "batch_size", optimizer.batch_size, "must be at least 1")
    _check_schedule(optimizer)


def _check_schedule(optimizer: "Optimizer") -> None:
    require(optimizer.schedule in SCHEDULES, "schedule", optimizer.schedule, f"must be one of {', '.join(SCHEDULES)}")
    require(optimizer.drop > 0, "drop", optimizer.drop, "must be positive")
    require(optimizer.drop == DROP or optimizer.schedule == "step", "drop", optimizer.drop, "is that of schedule=step")
    if (given := optimizer.milestones) is not None:
        require(optimizer.schedule == "step", "milestones", list(given), "are those of schedule=step")
        shares = optimizer.milestone_shares() or ()
        rising = len(shares) > 0 and all(a < b for a, b in zip((0, *shares), (*shares, 1), strict=True))
        # 0.5 of training and epoch 60 in one list would be a mistake more often than meant.
        one_unit = all(m < 1 for m in given) or all(m >= 1 and m == int(m) for m in given)
        or_epochs = "" if optimizer.epochs is None else f", or epochs that rise from 1 to {optimizer.epochs - 1}"
        allowed = f"must be shares of training that rise between 0 and 1{or_epochs}"
        require(rising and one_unit, "milestones", list(given), allowed)


@dataclass(frozen=True)
class GradientDescent(ByStep):
    """Full-batch gradient descent: v <- momentum v + grad + weight_decay w;  w <- w - eta v.

    eta is `lr`, or such that the predicted length of Stage I, n m / (eta s^2 d), is `t1_steps` steps.
    """

    lr: PerRunFloat | None = unless("t1_steps", value=0.01)  # eta; give this or t1_steps
    t1_steps: PerRunFloat | None = None  # eta such that the predicted scale T1 = n m / (eta s^2 d) is this many steps
    steps: int = 2000  # each sees all samples
    momentum: PerRunFloat = 0.0  # the share of the last update that goes on, in [0, 1)
    weight_decay: PerRunFloat = 0.0  # this much of the weights is added to the gradient
    until: str = "end"  # end | fitted (signal-noise data: a network that fits all observed labels moves no more)

    option = "gd"
    stays_in_span = True

    def validate(self) -> None:
        require_one_of(self, "lr", "t1_steps")
        _check_steps(self)
        _check_rates(self)

    def make(self, parameters: Iterable[torch.Tensor], lr: float) -> torch.optim.Optimizer:
        # torch takes one number for all parameters: networks that train side by side share these (ImageExperiment.chunks).
        return torch.optim.SGD(
            parameters, lr, np.asarray(self.momentum).item(), weight_decay=np.asarray(self.weight_decay).item()
        )


@dataclass(frozen=True)
class SharpnessAwareDescent(ByStep):
    """Sharpness-aware minimisation: each step takes the gradient at w + rho g / |g|, with g that of the loss at w.

    v <- momentum v + grad(w + rho g / |g|) + weight_decay w;  w <- w - eta v. |g| is over all that a run trains; where it is 0
    nothing is added. Source: Foret et al., ICLR 2021; on signal-noise data Chen et al., "Why Does Sharpness-Aware Minimization
    Generalize Better Than SGD?", NeurIPS 2023.
    """

    lr: PerRunFloat | None = unless("t1_steps", value=0.01)  # eta; give this or t1_steps
    t1_steps: PerRunFloat | None = None  # eta such that the predicted scale T1 = n m / (eta s^2 d) is this many steps
    steps: int = 2000  # each takes two gradients
    batch_size: int | None = None  # samples of each step, null = all
    rho: PerRunFloat = 0.05  # how far ahead of the weights the gradient is taken
    momentum: PerRunFloat = 0.0  # the share of the last update that goes on, in [0, 1)
    weight_decay: PerRunFloat = 0.0  # this much of the weights is added to the gradient
    schedule: str = "constant"  # constant | step (x drop at each of the milestones) | cosine | one_cycle
    milestones: tuple[float, ...] | None = None  # of schedule=step: shares of training, as [0.6]; null = [0.5, 0.75]
    drop: float = DROP  # of schedule=step: the factor on the step size at each milestone
    until: str = "end"  # end | fitted (signal-noise data: a network that fits all observed labels moves no more)

    option = "sam"
    stays_in_span = True
    rule = "sam"
    cost = 3
    looks_ahead = True
    couples = True

    def validate(self) -> None:
        require_one_of(self, "lr", "t1_steps")
        _check_steps(self)
        _check_rates(self)
        require(np.asarray(self.rho) >= 0, "rho", self.rho, "must be at least 0")

    def make(self, parameters: Iterable[torch.Tensor], lr: float) -> torch.optim.Optimizer:
        numbers = {key: np.asarray(getattr(self, key)).item() for key in ("rho", "momentum", "weight_decay")}
        return SharpnessAware(parameters, lr, **numbers)


@dataclass(frozen=True)
class NormalizedGradientDescent(ByStep):
    """w <- w - eta g / |g|: every step has the length eta. |g| is over all that a run trains; where it is 0 nothing moves."""

    lr: PerRunFloat = 0.01  # eta, the length of a step
    steps: int = 2000  # of the length lr each
    batch_size: int | None = None  # samples of each step, null = all
    schedule: str = "constant"  # constant | step (x drop at each of the milestones) | cosine | one_cycle
    milestones: tuple[float, ...] | None = None  # of schedule=step: shares of training, as [0.6]; null = [0.5, 0.75]
    drop: float = DROP  # of schedule=step: the factor on the step size at each milestone
    until: str = "end"  # end | fitted (signal-noise data: a network that fits all observed labels moves no more)

    option = "normalized_gd"
    stays_in_span = True
    rule = "normalized"
    cost = 2
    couples = True
    sets_pace = False

    def validate(self) -> None:
        _check_steps(self)

    def make(self, parameters: Iterable[torch.Tensor], lr: float) -> torch.optim.Optimizer:
        return NormalizedDescent(parameters, lr)


@dataclass(frozen=True)
class Muon(ByStep):
    """Spectral descent of the filters: M <- momentum M + grad;  W <- W - eta U V^T, with M = U S V^T.

    All directions of the gradient weigh the same. The polar factor U V^T is exact (singular values below 1e-6 of the largest
    count as 0), where the original approximates it by five Newton-Schulz steps. Biases and a trained second layer are no
    matrices, and take plain steps with the same momentum. Source: Jordan et al., "Muon", 2024.
    """

    lr: PerRunFloat = 0.01  # eta, the length of a step in each direction
    steps: int = 2000  # of the length lr each
    batch_size: int | None = None  # samples of each step, null = all
    momentum: PerRunFloat = 0.95  # the share of the sum of gradients that goes on, in [0, 1)
    schedule: str = "constant"  # constant | step (x drop at each of the milestones) | cosine | one_cycle
    milestones: tuple[float, ...] | None = None  # of schedule=step: shares of training, as [0.6]; null = [0.5, 0.75]
    drop: float = DROP  # of schedule=step: the factor on the step size at each milestone
    until: str = "end"  # end | fitted (signal-noise data: a network that fits all observed labels moves no more)

    stays_in_span = True
    rule = "spectral"
    cost = 10
    couples = True
    sets_pace = False
    for_images = False

    def validate(self) -> None:
        _check_steps(self)
        _check_rates(self)

    def make(self, parameters: Iterable[torch.Tensor], lr: float) -> torch.optim.Optimizer:
        return Spectral(parameters, lr, np.asarray(self.momentum).item())


@dataclass(frozen=True)
class GradientFlow(ByStep):
    """dw/dt = -g, the limit of gradient descent at small steps: step k shows the time k eta, as that of gd does.

    Each step is integrated as finely as `tolerance` asks, by SciPy's Bogacki-Shampine pair of orders 3 and 2. Where samples
    hold a pre-activation at a corner of relu from both sides, that takes evaluations in proportion to 1 / tolerance.
    """

    lr: PerRunFloat | None = unless("t1_steps", value=0.01)  # the time of a step; give this or t1_steps
    t1_steps: PerRunFloat | None = None  # lr such that the predicted scale T1 = n m / (lr s^2 d) is this many steps
    steps: int = 2000  # of the time lr each
    tolerance: float = 1e-4  # error of each move, as a share of the largest weight or move
    until: str = "end"  # end | fitted (signal-noise data: a network that fits all observed labels moves no more)

    option = "flow"
    stays_in_span = True
    rule = "flow"
    cost = 20
    couples = True
    for_images = False

    def validate(self) -> None:
        require_one_of(self, "lr", "t1_steps")
        _check_steps(self)
        bounds = "must lie between 1e-12 and 0.1"
        require(1e-12 <= self.tolerance <= 0.1, "tolerance", self.tolerance, bounds)

    def make(self, parameters: Iterable[torch.Tensor], lr: float) -> torch.optim.Optimizer:
        return Flow(parameters, lr, self.tolerance)


@dataclass(frozen=True)
class StochasticGradientDescent(Optimizer):
    """Mini-batch SGD with the update of GradientDescent; each epoch visits the samples once in a fresh order."""

    lr: PerRunFloat = 0.1  # eta
    epochs: int = 100  # passes over the training samples
    batch_size: int = 32  # samples of each step
    momentum: PerRunFloat = 0.0  # the share of the last update that goes on, in [0, 1)
    weight_decay: PerRunFloat = 0.0  # this much of the weights is added to the gradient
    schedule: str = "constant"  # constant | step (x drop at each of the milestones) | cosine | one_cycle
    milestones: tuple[float, ...] | None = None  # schedule=step: shares of training [0.6] or epochs [60]; null = [0.5, 0.75]
    drop: float = DROP  # of schedule=step: the factor on the step size at each milestone

    option = "sgd"
    stays_in_span = True

    def validate(self) -> None:
        _check_epochs(self)
        _check_rates(self)

    def total_steps(self, n: int) -> int:
        # Rounded up: the last batch of an epoch may be smaller, but is not dropped.
        return self.epochs * -(-n // self.batch_size)

    def make(self, parameters: Iterable[torch.Tensor], lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters, lr, np.asarray(self.momentum).item(), weight_decay=np.asarray(self.weight_decay).item()
        )


@dataclass(frozen=True)
class Adam(Optimizer):
    """Mini-batch Adam (Kingma & Ba 2015) with PyTorch's other defaults. Its steps leave the span of the data."""

    lr: PerRunFloat = 0.001  # eta
    epochs: int = 100  # passes over the training samples
    batch_size: int = 32  # samples of each step
    weight_decay: PerRunFloat = 0.0  # this much of the weights is added to the gradient
    schedule: str = "constant"  # constant | step (x drop at each of the milestones) | cosine | one_cycle
    milestones: tuple[float, ...] | None = None  # schedule=step: shares of training [0.6] or epochs [60]; null = [0.5, 0.75]
    drop: float = DROP  # of schedule=step: the factor on the step size at each milestone

    def validate(self) -> None:
        _check_epochs(self)
        require(np.asarray(self.weight_decay) >= 0, "weight_decay", self.weight_decay, "must be at least 0")

    def total_steps(self, n: int) -> int:
        return self.epochs * -(-n // self.batch_size)

    def make(self, parameters: Iterable[torch.Tensor], lr: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr, weight_decay=np.asarray(self.weight_decay).item())


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019): w <- (1 - lr weight_decay) w, then Adam's step.

    As in PyTorch, the schedule's factor multiplies both parts.
    """

    weight_decay: PerRunFloat = 0.01  # the weights shrink by lr times this at each step, apart from the gradient

    option = "adamw"

    def make(self, parameters: Iterable[torch.Tensor], lr: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr, weight_decay=np.asarray(self.weight_decay).item())
