"""Label noise: which label is observed for each sample. Labels are -1 and +1."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lnt.config import PerRunFloat, require
from lnt.seeding import draw_per_run, generator

RESAMPLE_BLOCK = 64  # steps whose labels are drawn together


def _column(rate: PerRunFloat) -> np.ndarray:
    """A rate as [R, 1] (or [1, 1]), to act on labels [R, n]."""
    return np.atleast_1d(np.asarray(rate, float))[:, None]


def _smallest(uniforms: np.ndarray, among: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Mask of the round(rate * size) smallest uniforms of the set `among` in each row. All [R, n]; rate [R, 1]."""
    rank = np.where(among, uniforms, 2.0).argsort(-1).argsort(-1)
    return rank < np.rint(rate * among.sum(-1, keepdims=True))


class LabelNoise(ABC):
    """How true labels turn into observed ones."""

    resample = False

    @abstractmethod
    def flips(self, labels: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Which training labels are wrong, [R, n] bool, given true labels and independent U(0, 1), both [R, n]."""

    @abstractmethod
    def flip_rate(self, labels: np.ndarray) -> np.ndarray:
        """P(observed != true | true), [R, n], for true labels [R, n]."""


@dataclass(frozen=True)
class NoNoise(LabelNoise):
    """Observed labels are the true ones."""

    def flips(self, labels: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        return np.zeros(labels.shape, bool)

    def flip_rate(self, labels: np.ndarray) -> np.ndarray:
        return np.zeros(labels.shape)


@dataclass(frozen=True)
class Symmetric(LabelNoise):
    """Every label is flipped with probability `rate`; `exact`: exactly round(rate n) of them."""

    rate: PerRunFloat
    exact: bool
    resample: bool

    def __post_init__(self) -> None:
        rate = np.asarray(self.rate)
        require((rate >= 0) & (rate < 0.5), "rate", self.rate, "must lie in [0, 0.5)")

    def flips(self, labels: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        if self.exact:
            return _smallest(uniforms, np.ones(labels.shape, bool), _column(self.rate))
        return uniforms < _column(self.rate)

    def flip_rate(self, labels: np.ndarray) -> np.ndarray:
        return np.broadcast_to(_column(self.rate), labels.shape)


@dataclass(frozen=True)
class Asymmetric(LabelNoise):
    """tau_plus = P(observed -1 | true +1), tau_minus = P(observed +1 | true -1); `exact`: round(tau n_class) in each class."""

    rate_positive: PerRunFloat
    rate_negative: PerRunFloat
    exact: bool
    resample: bool

    def __post_init__(self) -> None:
        for key in ("rate_positive", "rate_negative"):
            rate = np.asarray(getattr(self, key))
            require((rate >= 0) & (rate < 1), key, getattr(self, key), "must lie in [0, 1)")

    def flips(self, labels: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        if self.exact:
            positive = _smallest(uniforms, labels > 0, _column(self.rate_positive))
            return positive | _smallest(uniforms, labels < 0, _column(self.rate_negative))
        return uniforms < self.flip_rate(labels)

    def flip_rate(self, labels: np.ndarray) -> np.ndarray:
        return np.where(labels > 0, _column(self.rate_positive), _column(self.rate_negative))


class ObservedLabels:
    """The observed training labels of R runs at every step: fixed, or (`resample`) drawn afresh for each step."""

    def __init__(self, noise: LabelNoise, true: np.ndarray, seeds: np.ndarray, like: Tensor) -> None:
        self.noise, self.true, self.seeds, self.like = noise, true, seeds, like  # true [R, n], seeds [R]
        self._block = -1
        self._labels = like

    def at(self, step: int) -> Tensor:
        """Labels [R, n] in force in the update from `step` to `step` + 1, with the dtype and device of `like`."""
        block, offset = divmod(step, RESAMPLE_BLOCK) if self.noise.resample else (0, 0)
        if block != self._block:
            self._block, self._labels = block, torch.tensor(self._draw(block)).to(self.like)
        return self._labels[offset]

    def _draw(self, block: int) -> np.ndarray:
        """Labels [steps of the block, R, n]."""
        steps, n = (RESAMPLE_BLOCK if self.noise.resample else 1), self.true.shape[1]
        (uniforms,), index = draw_per_run(
            self.seeds[:, None], lambda seed: (generator("noise", seed, block).random((steps, n)),)
        )
        return np.stack(
            [np.where(self.noise.flips(self.true, u[index]), -self.true, self.true) for u in uniforms.swapaxes(0, 1)]
        )
