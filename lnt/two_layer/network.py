"""The two-layer CNN and how its initial filters are drawn. The second layer starts with m filters of +1 and m of -1."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lnt.errors import require
from lnt.seeding import generator
from lnt.settings import PerRunFloat, require_one_of, unless
from lnt.training.experiment import Model
from lnt.two_layer.activations import NAMES, Activation
from lnt.two_layer.data import adapted_rows

LEAK = 0.01  # the default of PyTorch


def second_layer(filters: int, like: Tensor, output: str = "mean", outputs: int = 1) -> Tensor:
    """The weight of each of P filters, [P]: j/m, or j for output=sum; the first m have j = +1, the others j = -1.

    With K `outputs` it is 1/m, or 1, in that of its class: the first m have class 0, the next m class 1, and so on.
    """
    m = filters // max(2, outputs)
    share = 1 / m if output == "mean" else 1
    if outputs > 1:
        return like.new_full((filters,), share)
    return torch.cat([like.new_full((m,), share), like.new_full((m,), -share)])


@dataclass(frozen=True)
class TwoLayerCNN(Model):
    """f(x) = sum_j (j/m) sum_r [sigma(<w_{j,r}, y mu> + b_{j,r}) + sigma(<w_{j,r}, xi> + b_{j,r})], j = +1 and -1, r = 1 .. m.

    w(0) ~ N(0, s0^2 I_d) with s0 = init_std, or init_norm / sqrt(d), which makes |w(0)| about init_norm: exactly one. With
    `bias`, trainable b(0) ~ N(0, s0^2), otherwise b = 0. init_law=uniform: entries from U(-sqrt(3) s0, sqrt(3) s0), which
    have no rotational symmetry and so need vectors of length d; s0 = 1 / sqrt(3 d) is the default of torch.nn.Linear. The
    second layer j/m (or j, output=sum) is fixed, or trained too.
    On data of K classes there are m filters and an output f_k for each class k, in place of the two signs.
    Source: Kou et al. 2023; Han et al. 2025.
    """

    width: int = 20  # m filters per output sign
    init_std: PerRunFloat | None = unless("init_norm", value=0.001)  # s0; give this or init_norm
    init_norm: PerRunFloat | None = None  # s0 sqrt(dim), about |w(0)|
    init_law: str = "normal"  # of an entry of w(0) and b(0): normal | uniform (PyTorch's default at init_norm=0.57735)
    power: float = 1  # q >= 1 in sigma(z) = max(0, z)^q
    bias: bool = False  # one trainable bias per filter
    activation: str = "relu"  # sigma: relu (to the power q) | leaky_relu | gelu | softplus | tanh | linear | quadratic (z^2)
    leak: float = LEAK  # slope of leaky_relu below 0
    output: str = "mean"  # mean | sum over the m filters of a sign
    second_layer: str = "fixed"  # fixed | trained
    second_layer_rate: float = 1.0  # step size of a trained second layer, as a multiple of the filters'

    takes = "vectors"

    def validate(self) -> None:
        require(self.width >= 1, "width", self.width, "must be at least 1")
        require_one_of(self, "init_std", "init_norm")
        for key in ("init_std", "init_norm"):
            if (value := getattr(self, key)) is not None:
                require(np.asarray(value) >= 0, key, value, "must be at least 0")
        require(self.power >= 1, "power", self.power, "must be at least 1")
        for key, known in (
            ("init_law", ("normal", "uniform")),
            ("activation", NAMES),
            ("output", ("mean", "sum")),
            ("second_layer", ("fixed", "trained")),
        ):
            require(getattr(self, key) in known, key, getattr(self, key), f"must be one of {', '.join(known)}")
        require(self.power == 1 or self.activation == "relu", "power", self.power, "is that of activation=relu")
        leaky, trained = self.activation == "leaky_relu", self.second_layer == "trained"
        require(leaky or self.leak == LEAK, "leak", self.leak, "is that of activation=leaky_relu")
        require(
            trained or self.second_layer_rate == 1, "second_layer_rate", self.second_layer_rate, "is for second_layer=trained"
        )
        require(-1 <= self.leak <= 1, "leak", self.leak, "must lie in [-1, 1]")
        require(self.second_layer_rate > 0, "second_layer_rate", self.second_layer_rate, "must be positive")

    @property
    def sigma(self) -> Activation:
        return Activation(self.activation, self.power, self.leak)

    def initial_std(self, dim: np.ndarray) -> np.ndarray:
        """s0 in dimension d, a number or [R]."""
        if self.init_std is not None:
            return np.asarray(self.init_std, float)
        return np.asarray(self.init_norm, float) / np.sqrt(dim)

    def sample_filters(
        self, seed: int, dim: int, taken: int, width: int, reduced: bool, classes: int = 2
    ) -> tuple[np.ndarray, np.ndarray]:
        """w(0) / s0 [P, width] and b(0) / s0 [P]: in the coordinates adapted to `taken` data vectors, or explicitly."""
        # dim is in the key, since in reduced coordinates the law of the filters depends on it.
        rng, count = generator("init", seed, dim), classes * self.width
        # Drawn first, and also without biases: model.bias then does not change the filters.
        bias = self._entries(rng, (count,))
        if reduced:
            return adapted_rows(rng, dim, taken, count, width), bias
        return self._entries(rng, (count, width)), bias

    def _entries(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Independent numbers of mean 0 and variance 1."""
        return rng.standard_normal(shape) if self.init_law == "normal" else rng.uniform(-np.sqrt(3), np.sqrt(3), shape)


class TwoLayerNet(nn.Module):
    """The same network as a plain PyTorch module over explicit patches; output [batch], or [batch, K] with K `outputs`."""

    def __init__(self, filters: Tensor, bias: Tensor | None, model: TwoLayerCNN, outputs: int = 1) -> None:
        super().__init__()
        self.outputs = outputs
        self.filters = nn.Parameter(filters.clone())  # [P, D]
        self.bias = None if bias is None else nn.Parameter(bias.clone())  # [P]
        self.sigma = model.sigma
        self.second_layer: Tensor
        weights = second_layer(len(filters), filters, model.output, outputs)
        if model.second_layer == "trained":
            self.second_layer = nn.Parameter(weights)
        else:
            # A buffer, not a parameter: it moves with the module, but no optimizer trains it.
            self.register_buffer("second_layer", weights)

    def forward(self, patches: Tensor) -> Tensor:
        """f(x) [batch] or [batch, K] for patches [batch, 2, D], or any other number of patches."""
        z = nn.functional.linear(patches, self.filters, self.bias)
        # [batch, 2, P]: all patches pass through the same filters, and their activations add up.
        activations = self.sigma.value(z).sum(1)
        if self.outputs == 1:
            return activations @ self.second_layer
        return (activations * self.second_layer).unflatten(1, (self.outputs, -1)).sum(2)
