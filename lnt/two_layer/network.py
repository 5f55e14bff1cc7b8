"""The two-layer CNN and how its initial filters are drawn. The second layer is fixed: m filters with +1, m with -1."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lnt.errors import require
from lnt.seeding import generator
from lnt.settings import PerRunFloat, require_one_of, unless
from lnt.training.experiment import Model
from lnt.two_layer.data import adapted_rows


def activation(z: Tensor, power: float, out: Tensor | None = None) -> Tensor:
    """sigma(z) = max(0, z)^q. With `out` (which may be z) nothing is allocated and no gradient is kept."""
    positive = torch.relu(z) if out is None else torch.clamp_min(z, 0, out=out)
    if power == 1:
        return positive
    return positive.pow(power) if out is None else positive.pow_(power)


def slope(z: Tensor, power: float, out: Tensor) -> Tensor:
    """sigma'(z) = q max(0, z)^(q - 1), with sigma'(0) = 0 for q = 1 as well; written to `out`."""
    if power == 1:
        # With `out` of floats the comparison gives 0.0 and 1.0 directly.
        return torch.gt(z, 0, out=out)
    return torch.clamp_min(z, 0, out=out).pow_(power - 1).mul_(power)


def second_layer(filters: int, like: Tensor) -> Tensor:
    """The fixed weight j/m of each of P filters, [P]: the first m have j = +1, the others j = -1."""
    m = filters // 2
    return torch.cat([like.new_full((m,), 1 / m), like.new_full((m,), -1 / m)])


@dataclass(frozen=True)
class TwoLayerCNN(Model):
    """f(x) = sum_j (j/m) sum_r [sigma(<w_{j,r}, y mu> + b_{j,r}) + sigma(<w_{j,r}, xi> + b_{j,r})], j = +1 and -1, r = 1 .. m.

    w(0) ~ N(0, s0^2 I_d) with s0 = init_std, or init_norm / sqrt(d), which makes |w(0)| about init_norm: exactly one. With
    `bias`, trainable b(0) ~ N(0, s0^2), otherwise b = 0.
    Source: Kou et al. 2023; Han et al. 2025.
    """

    width: int = 20  # m filters per output sign
    init_std: PerRunFloat | None = unless("init_norm", value=0.001)  # s0; give this or init_norm
    init_norm: PerRunFloat | None = None  # s0 sqrt(dim), about |w(0)|
    power: float = 1  # q >= 1 in sigma(z) = max(0, z)^q
    bias: bool = False  # one trainable bias per filter

    takes = "vectors"

    def validate(self) -> None:
        require(self.width >= 1, "width", self.width, "must be at least 1")
        require_one_of(self, "init_std", "init_norm")
        for key in ("init_std", "init_norm"):
            if (value := getattr(self, key)) is not None:
                require(np.asarray(value) >= 0, key, value, "must be at least 0")
        require(self.power >= 1, "power", self.power, "must be at least 1")

    def initial_std(self, dim: np.ndarray) -> np.ndarray:
        """s0 in dimension d, a number or [R]."""
        if self.init_std is not None:
            return np.asarray(self.init_std, float)
        return np.asarray(self.init_norm, float) / np.sqrt(dim)

    def sample_filters(self, seed: int, dim: int, taken: int, width: int, reduced: bool) -> tuple[np.ndarray, np.ndarray]:
        """w(0) / s0 [P, width] and b(0) / s0 [P]: in the coordinates adapted to `taken` data vectors, or explicitly."""
        # dim is in the key, since in reduced coordinates the law of the filters depends on it.
        rng = generator("init", seed, dim)
        # Drawn first, and also without biases: model.bias then does not change the filters.
        bias = rng.standard_normal(2 * self.width)
        if reduced:
            return adapted_rows(rng, dim, taken, 2 * self.width, width), bias
        return rng.standard_normal((2 * self.width, width)), bias


class TwoLayerNet(nn.Module):
    """The same network as a plain PyTorch module over explicit patches; output [batch]."""

    def __init__(self, filters: Tensor, bias: Tensor | None, power: float) -> None:
        super().__init__()
        self.filters = nn.Parameter(filters.clone())  # [P, D]
        self.bias = None if bias is None else nn.Parameter(bias.clone())  # [P]
        self.power = power
        self.second_layer: Tensor
        # A buffer, not a parameter: it moves with the module, but no optimizer trains it.
        self.register_buffer("second_layer", second_layer(len(filters), filters))

    def forward(self, patches: Tensor) -> Tensor:
        """f(x) [batch] for patches [batch, 2, D]."""
        z = nn.functional.linear(patches, self.filters, self.bias)
        # [batch, 2, P]: both patches pass through the same filters, and their activations add up.
        return activation(z, self.power).sum(1) @ self.second_layer
