"""Optimizers that PyTorch lacks, as torch.optim.Optimizers of one network. All of them need the closure of `step`.

Norms are over all parameters. lnt/two_layer/update_rules.py has the same updates for the exact reduction.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

# Singular values below this share of the largest count as zero: single precision knows no smaller ones.
CUTOFF = 1e-6

Closure = Callable[[], Any]  # zeroes the gradients, computes the loss and its gradients


class SharpnessAware(torch.optim.SGD):
    """SGD with the gradient at w + rho g / |g|, g the gradient at w. Source: Foret et al., ICLR 2021."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, rho: float, **numbers: Any) -> None:
        super().__init__(parameters, lr, **numbers)
        self.rho = rho

    @torch.no_grad()
    def step(self, closure: Closure) -> Any:  # type: ignore[override]
        """Take a step; `closure` is called at w and at the point ahead."""
        with torch.enable_grad():
            loss = closure()
        parameters = trained(self)
        before = [parameter.clone() for parameter in parameters]
        away = self.rho * inverse(norm(parameters))
        for parameter, gradient in zip(parameters, gradients(parameters), strict=True):
            parameter += away * gradient
        with torch.enable_grad():
            closure()
        for parameter, value in zip(parameters, before, strict=True):
            parameter.copy_(value)
        super().step()
        return loss


class NormalizedDescent(torch.optim.SGD):
    """w <- w - eta g / |g|; no step where g = 0."""

    @torch.no_grad()
    def step(self, closure: Closure) -> Any:  # type: ignore[override]
        """Take a step."""
        with torch.enable_grad():
            loss = closure()
        share = inverse(norm(trained(self)))
        for gradient in gradients(trained(self)):
            gradient *= share
        super().step()
        return loss


class Spectral(torch.optim.Optimizer):
    """M <- momentum M + g;  w <- w - eta U V^T for matrices, M = U S V^T their singular value decomposition, else w - eta M."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Closure) -> Any:  # type: ignore[override]
        """Take a step."""
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                memory = self.state[parameter].setdefault("memory", torch.zeros_like(parameter))
                memory.mul_(group["momentum"]).add_(parameter.grad)
                parameter -= group["lr"] * (polar(memory) if memory.ndim == 2 else memory)
        return loss


class Flow(torch.optim.Optimizer):
    """Gradient flow dw/dt = -g(w) over a time eta in each step."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, tolerance: float) -> None:
        super().__init__(parameters, {"lr": lr})
        self.tolerance = tolerance

    @torch.no_grad()
    def step(self, closure: Closure) -> Any:  # type: ignore[override]
        """Take a step; `closure` is called as often as the integrator asks."""
        parameters = trained(self)
        rates = [group["lr"] for group in self.param_groups for _ in group["params"]]

        def slope(values: np.ndarray) -> np.ndarray:
            vector_to_parameters(torch.as_tensor(values).to(parameters[0]), parameters)
            with torch.enable_grad():
                closure()
            return as_array([-rate * gradient for rate, gradient in zip(rates, gradients(parameters), strict=True)])

        sizes = [parameter.numel() for parameter in parameters]
        end, _ = integrated(slope, as_array(parameters), sizes, self.tolerance)
        vector_to_parameters(torch.as_tensor(end).to(parameters[0]), parameters)


def integrated(
    slope: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    sizes: Sequence[int],
    tolerance: float,
    levels: Sequence[Callable[[np.ndarray], float]] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """y(1) of dy/dt = slope(y), y(0) = start, and the first t at which each of the `levels` of y is positive, NaN if none is.

    y(1) is NaN if the slope becomes infinite. Parts of `sizes` have scales of their own: local errors are about `tolerance`
    times the largest number of a part, or times what the part moves if that is more. Levels are looked at after each step of
    the integrator, and their crossings found on its cubic interpolant: one that rises and falls within a step is missed.

    Source: the pair of orders 3 and 2 of Bogacki & Shampine 1989, in SciPy. Its weights are positive: where a corner of relu is
    held from both sides, a step is a mean of the slopes around it, as the flow along the corner is (Filippov). The pair of
    orders 5 and 4 has a negative weight, and ends elsewhere.
    """
    from scipy.integrate import solve_ivp  # takes long to import, and few runs need it

    def finite(time: float, values: np.ndarray) -> np.ndarray:
        found = slope(values)
        if not np.isfinite(found).all():
            raise FloatingPointError  # SciPy would try ever smaller steps, without an end
        return found

    positive = np.array([level(start) > 0 for level in levels], dtype=bool)
    times = np.where(positive, 0, np.nan)
    events = [rising(level) for level, there in zip(levels, positive, strict=True) if not there]
    try:
        scale = np.maximum(abs(start), abs(finite(0, start)))
        largest = np.repeat(np.maximum.reduceat(scale, np.cumsum([0, *sizes[:-1]])), sizes)
        # Not 0 where nothing moves: 0 / 0 would be no error that an integrator can judge.
        absolute = tolerance * largest + np.finfo(float).tiny
        path = solve_ivp(finite, (0, 1), start, "RK23", rtol=tolerance, atol=absolute, events=events or None)
    except FloatingPointError:
        return np.full_like(start, np.nan), times
    times[~positive] = [found[0] if len(found) else np.nan for found in path.t_events or ()]
    return path.y[:, -1], times


def rising(level: Callable[[np.ndarray], float]) -> Callable[[float, np.ndarray], float]:
    """The event at which a level rises above 0, as SciPy takes it."""

    def event(time: float, values: np.ndarray) -> float:
        return level(values)

    event.direction = 1  # type: ignore[attr-defined]
    return event


def as_array(tensors: Iterable[Tensor]) -> np.ndarray:
    """All numbers of some tensors, float64."""
    return parameters_to_vector(tensors).double().cpu().numpy()


def polar(matrix: Tensor) -> Tensor:
    """The polar factor U V^T of a matrix U S V^T, over the singular values that are not zero."""
    if not bool(matrix.isfinite().all()):
        return torch.full_like(matrix, torch.nan)
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    return (left * (values > CUTOFF * values[0]) @ right).to(matrix)


def trained(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The parameters of an optimizer."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Those of parameters that all have one."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def norm(parameters: Iterable[Tensor]) -> Tensor:
    """|g| over all parameters."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients(parameters)]))


def inverse(norms: Tensor) -> Tensor:
    """1 / norms, 0 where these are 0: without a gradient nothing moves."""
    return torch.where(norms == 0, 0, 1 / norms)
