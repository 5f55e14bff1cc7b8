"""Activations sigma(z) and their derivatives."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


def _gelu_slope(z: Tensor) -> Tensor:
    """Phi(z) + z phi(z)."""
    return torch.special.ndtr(z) + z * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)


# By name: sigma and its derivative. Those with settings of their own, relu and leaky_relu, are in the class.
SMOOTH: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "gelu": (functional.gelu, _gelu_slope),
    "softplus": (lambda z: functional.softplus(z, threshold=40), torch.sigmoid),
    "tanh": (torch.tanh, lambda z: 1 - torch.tanh(z).square()),
    "linear": (lambda z: z, torch.ones_like),
    "quadratic": (torch.square, lambda z: 2 * z),
}
NAMES = ("relu", "leaky_relu", *SMOOTH)


@dataclass(frozen=True)
class Activation:
    """sigma: max(0, z)^power for relu; max(leak z, z) for leaky_relu; z Phi(z) for gelu; log(1 + e^z); tanh z; z; z^2."""

    name: str = "relu"
    power: float = 1
    leak: float = 0.01

    @property
    def is_plain(self) -> bool:
        """Whether this is max(0, z), which the kernels know."""
        return self.name == "relu" and self.power == 1

    def value(self, z: Tensor, out: Tensor | None = None) -> Tensor:
        """sigma(z). With `out` (which may be z) the result is written there, and no gradient is kept."""
        if self.name == "relu":
            positive = torch.relu(z) if out is None else torch.clamp_min(z, 0, out=out)
            if self.power == 1:
                return positive
            return positive.pow(self.power) if out is None else positive.pow_(self.power)
        found = functional.leaky_relu(z, self.leak) if self.name == "leaky_relu" else SMOOTH[self.name][0](z)
        return found if out is None else out.copy_(found)

    def slope(self, z: Tensor, out: Tensor) -> Tensor:
        """sigma'(z), written to `out`; at the corner of relu and leaky_relu that of the left side."""
        if self.name != "relu":
            left = self.leak + (1 - self.leak) * (z > 0).to(z) if self.name == "leaky_relu" else SMOOTH[self.name][1](z)
            return out.copy_(left)
        if self.power == 1:
            # With `out` of floats the comparison gives 0.0 and 1.0 directly.
            return torch.gt(z, 0, out=out)
        return torch.clamp_min(z, 0, out=out).pow_(self.power - 1).mul_(self.power)
