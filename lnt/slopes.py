"""-l'(z), how hard a sample pulls on the network, by forms that PyTorch and the kernels for CPUs both compute.

A loss names a form and its coefficients: numbers, or arrays [R or 1, 2] of each run and observed class, +1 first. With z the
margin, p = 1 / (1 + e^-z) is the probability of the observed class, and s = 1 / (1 + e^z) that of the other one.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # PyTorch takes seconds to import, and commands that only print need none of it
    from torch import Tensor

Coefficient = float | np.ndarray
# What lnt/two_layer/kernels.py is to compute, and how many coefficients it takes for a sample.
SUM, QUOTIENT, LINE, POWER = range(4)
COEFFICIENTS = 5


@dataclass(frozen=True, eq=False)
class Slope(ABC):
    """A form of -l'(z); its fields are the coefficients."""

    @property
    @abstractmethod
    def form(self) -> int:
        """Its number for the kernels."""

    @abstractmethod
    def pull(self, margins: "Tensor", observed: "Tensor") -> "Tensor":
        """-l'(z) of margins [R, n] of samples with the observed labels [R, n], whose signs are the classes."""

    def table(self, runs: int) -> np.ndarray:
        """The coefficients for each run and observed class, [R, 2, COEFFICIENTS]; those that a form lacks are 0."""
        found = np.zeros((runs, 2, COEFFICIENTS))
        for number, coefficient in enumerate(astuple(self)):
            found[..., number] = coefficient
        return found


@dataclass(frozen=True, eq=False)
class OfChances(Slope):
    """(s S + p P + sp S P) / (over_s S + over_p P), where S and P are the chances s and p of above."""

    s: Coefficient = 0.0
    p: Coefficient = 0.0
    sp: Coefficient = 0.0
    over_s: Coefficient = 1.0
    over_p: Coefficient = 1.0

    @property
    def form(self) -> int:
        # s + p = 1: nothing to divide by.
        return SUM if np.all(self.over_s == 1) and np.all(self.over_p == 1) else QUOTIENT

    def pull(self, margins: "Tensor", observed: "Tensor") -> "Tensor":
        import torch

        if self.form == SUM:
            return self._sum(margins, observed)
        # Within these limits neither chance is 0, so that no 0 / 0 comes up.
        limit = -math.log(torch.finfo(margins.dtype).tiny)
        z = margins.clamp(-limit, limit)
        over = OfChances(self.over_s, self.over_p)
        return self._sum(z, observed) / over._sum(z, observed)

    def _sum(self, z: "Tensor", observed: "Tensor") -> "Tensor":
        """s S + p P + sp S P, without the terms that are 0."""
        terms: tuple[tuple[Coefficient, Callable[[], Tensor]], ...] = (
            (self.s, lambda: (-z).sigmoid()),
            (self.p, lambda: z.sigmoid()),
            (self.sp, lambda: z.sigmoid() * (-z).sigmoid()),
        )
        first, *rest = (times(weight, term(), observed) for weight, term in terms if np.any(weight))
        return sum(rest, first)


@dataclass(frozen=True, eq=False)
class Line(Slope):
    """level + rise z below a margin, and 0 from there on."""

    level: Coefficient
    rise: Coefficient = 0.0
    below: float = math.inf

    form = LINE

    def pull(self, margins: "Tensor", observed: "Tensor") -> "Tensor":
        line = times(self.rise, margins, observed) + of_class(self.level, observed)
        return line.masked_fill(margins >= self.below, 0)


@dataclass(frozen=True, eq=False)
class PowerOfChance(Slope):
    """s p^q."""

    q: float

    form = POWER

    def pull(self, margins: "Tensor", observed: "Tensor") -> "Tensor":
        return margins.sigmoid() ** self.q * (-margins).sigmoid()


def of_class(coefficient: Coefficient, observed: "Tensor") -> "Tensor | float":
    """The coefficient of each sample: a number as it is, of an array the entry of the observed class, [R, n]."""
    import torch

    if not isinstance(coefficient, np.ndarray):
        return coefficient
    by_class = torch.as_tensor(coefficient).to(observed)
    return torch.where(observed > 0, by_class[:, 0, None], by_class[:, 1, None])


def times(coefficient: Coefficient, term: "Tensor", observed: "Tensor") -> "Tensor":
    """Their product; no operation where the coefficient is the number 1."""
    return term if isinstance(coefficient, float) and coefficient == 1 else of_class(coefficient, observed) * term
