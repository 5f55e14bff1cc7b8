"""Update rules of the span engine: how the gradient of a step becomes a move of C, biases and second layer.

The gradient of W is S X, with S [R, P, k] in the columns of the k patches seen. So |S X|^2 = sum_p S_p G S_p^T, and all that a
rule makes of it by numbers, or by products from the left, stays in the span of the data. Each rule is that of an optimizer
(`Optimizer.rule`); lnt/training/torch_optimizers.py has the same ones for explicit parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lnt.training.torch_optimizers import CUTOFF, as_array, integrated, inverse


@dataclass(frozen=True)
class Seen:
    """The patches that a step computes with: k = S + L B of them in mini-batches, or all."""

    rows: Tensor  # [R, k, K] of G or [R, k, D] of X
    signal_index: Tensor  # [R, B] the signal patch of each sample
    samples: Tensor | None = None  # [R, B], None for all in their order
    patches: Tensor | None = None  # [R, k]


class InSpan(Protocol):
    """What a rule sees of the span engine, which explains these."""

    step_size: Tensor
    second_rate: float
    on_vectors: bool
    patches: Tensor
    velocities: dict[str, Tensor]

    def stages_ahead(self) -> list[int]: ...
    def stage_level(self, stage: int) -> float: ...
    def reach(self, stages: Sequence[int], shares: np.ndarray) -> None: ...
    def states(self) -> dict[str, Tensor]: ...
    def recall(self, factor: float) -> None: ...
    def descend(self, rate: Tensor, seen: Seen) -> None: ...
    def go(self, moves: Mapping[str, Tensor]) -> None: ...
    def move(self, rate: Tensor, seen: Seen) -> dict[str, Tensor]: ...
    def add(self, moved: Mapping[str, Tensor], move: Mapping[str, Tensor], seen: Seen) -> None: ...


class Descent:
    """v <- momentum v + grad + weight_decay w;  w <- w - eta v."""

    remembers = False  # whether there are velocities whatever momentum and weight decay are
    between_steps = False  # whether it knows the weights between steps, and so the times of stages

    def step(self, engine: InSpan, rate: Tensor, factor: float, seen: Seen) -> None:
        """Take a step on the samples seen; `rate` [R, n] is eta / n times their weights, with the factor on eta in it."""
        engine.recall(factor)
        self.descend(engine, rate, seen)
        self.go(engine, factor)

    def descend(self, engine: InSpan, rate: Tensor, seen: Seen) -> None:
        """Add -eta times the gradient to what moves."""
        engine.descend(rate, seen)

    def go(self, engine: InSpan, factor: float) -> None:
        """Move by the velocities, if there are any."""
        engine.go(engine.velocities)

    def of(self, runs: Tensor) -> "Descent":
        """The rule of some of the runs."""
        return self


DESCENT = Descent()


class SharpnessAware(Descent):
    """Descent with the gradient at w + rho g / |g|. Source: Foret et al., ICLR 2021."""

    def __init__(self, rho: Tensor) -> None:
        self.rho = rho  # [R]

    def of(self, runs: Tensor) -> "SharpnessAware":
        return SharpnessAware(self.rho[runs])

    def descend(self, engine: InSpan, rate: Tensor, seen: Seen) -> None:
        down = engine.move(rate, seen)  # -eta g
        # Only the direction counts, so eta drops out; the second layer's own factor would not.
        down = {name: part / engine.second_rate if name == "second" else part for name, part in down.items()}
        away = -self.rho * inverse(norm(engine, down, seen))
        engine.add(engine.states(), scaled(down, away), seen)
        engine.descend(rate, seen)
        engine.add(engine.states(), scaled(down, -away), seen)


class Normalized(Descent):
    """w <- w - eta g / |g|."""

    def step(self, engine: InSpan, rate: Tensor, factor: float, seen: Seen) -> None:
        move = engine.move(rate, seen)
        direction = {name: part / engine.second_rate if name == "second" else part for name, part in move.items()}
        share = factor * engine.step_size * inverse(norm(engine, direction, seen))
        engine.add(engine.states(), scaled(move, share), seen)


class Spectral(Descent):
    """M <- momentum M + grad;  W <- W - eta U V^T with M = U S V^T, biases and second layer by -eta M."""

    remembers = True

    def go(self, engine: InSpan, factor: float) -> None:
        """U V^T = (U S^-1 U^T) M: a product from the left."""
        span, eta = engine.velocities["span"], factor * engine.step_size
        # Velocities are -eta M, with the same polar factor but for its sign.
        memory = engine.velocities["vectors"] if engine.on_vectors else span @ engine.patches
        left = eta[:, None, None] * whitening(memory)
        engine.go({name: left @ v if name in ("span", "vectors") else v for name, v in engine.velocities.items()})


class Flow(Descent):
    """dw/dt = -grad, over a time eta in each step. One run at a time, since each has steps of its own."""

    between_steps = True

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance

    def step(self, engine: InSpan, rate: Tensor, factor: float, seen: Seen) -> None:
        states = {name: state for name, state in engine.states().items() if name != "decay"}
        sizes = [state.numel() for state in states.values()]

        def put(values: np.ndarray) -> None:
            for state, part in zip(states.values(), np.split(values, np.cumsum(sizes)[:-1]), strict=True):
                state.copy_(torch.as_tensor(part).view(state.shape))

        def slope(values: np.ndarray) -> np.ndarray:
            put(values)
            slopes = {name: torch.zeros_like(state) for name, state in states.items()}
            engine.add(slopes, engine.move(rate, seen), seen)
            return as_array(slopes.values())

        def level(stage: int) -> Callable[[np.ndarray], float]:
            def of(values: np.ndarray) -> float:
                put(values)
                return engine.stage_level(stage)

            return of

        ahead = engine.stages_ahead()
        end, shares = integrated(slope, as_array(states.values()), sizes, self.tolerance, [level(stage) for stage in ahead])
        put(end)
        engine.reach(ahead, shares)


# By the name that an optimizer gives; a function makes tensors [R] of its numbers.
RULES: Mapping[str, Callable[[Any, Callable[[object], Tensor]], Descent]] = {
    "descent": lambda optimizer, tensor: DESCENT,
    "sam": lambda optimizer, tensor: SharpnessAware(tensor(optimizer.rho)),
    "normalized": lambda optimizer, tensor: Normalized(),
    "spectral": lambda optimizer, tensor: Spectral(),
    "flow": lambda optimizer, tensor: Flow(optimizer.tolerance),
}


def scaled(move: Mapping[str, Tensor], factors: Tensor) -> dict[str, Tensor]:
    """A move times a number for each run [R]."""
    return {name: part * factors.view(-1, *[1] * (part.ndim - 1)) for name, part in move.items()}


def norm(engine: InSpan, move: Mapping[str, Tensor], seen: Seen) -> Tensor:
    """The norm over all that is trained, [R]: of S X, biases and second layer."""
    step, rows = move["span"], seen.rows
    if engine.on_vectors:
        square = (step @ rows).square().sum((1, 2))
    else:
        # The part of G between the patches seen.
        columns = rows if seen.patches is None else rows.gather(2, seen.patches[:, None].expand(-1, rows.shape[1], -1))
        square = (step @ columns * step).sum((1, 2))
    return sum((part.square().sum(1) for name, part in move.items() if name != "span"), square).clamp_min(0).sqrt()


def whitening(matrices: Tensor) -> Tensor:
    """U S^-1 U^T [R, P, P] of matrices U S V^T [R, P, D], over the singular values that are not zero."""
    finite = matrices.isfinite().all((1, 2))[:, None, None]
    # A diverged run must not stop the others: the decomposition raises on what is not finite.
    left, values, _ = torch.linalg.svd(torch.where(finite, matrices, 0).double(), full_matrices=False)
    shares = torch.where(values > CUTOFF * values[:, :1], 1 / values, 0)
    return torch.where(finite, (left * shares[:, None]) @ left.mT, torch.nan).to(matrices)
