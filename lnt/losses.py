"""Losses as functions of the margin z = y~ f(x), each defined once: its value, and -l'(z) by coefficients (lnt/slopes.py).

Per-sample losses are l(z_i); training minimises their mean. With K classes p is the probability that softmax gives the observed
class, with two sigmoid(z): the logistic loss -log p is the cross entropy.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lnt.errors import ConfigError, require
from lnt.settings import Component
from lnt.slopes import Line, OfChances, PowerOfChance, Slope, of_class

if TYPE_CHECKING:  # PyTorch takes seconds to import, and commands that only print need none of it
    from torch import Tensor

Matrix = tuple[tuple[float, ...], ...]
MOST_SINGULAR = 1e6  # condition number of a transition matrix
CLIP = 1e-4  # probabilities stay so far from 0 and 1 in early-learning regularisation, or its logarithm would diverge
LOG2 = math.log(2)  # below it the observed class has a probability above 1/2, so it is predicted; with two classes, only then


class Loss(Component, ABC):
    """A loss of the margin. Adding one takes `value`; -l'(z) follows by automatic differentiation, or from `slope`, faster."""

    for_classes: ClassVar[bool] = False  # whether `of_logits` is defined, so that networks on images can train with it
    remembers: ClassVar[bool] = False  # whether an engine keeps a target of each sample for it, and adds its `penalty`
    estimable: ClassVar[bool] = False  # whether it is a cross entropy corrected by a transition, which may be an estimate

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A subclass may have changed `value`: it repeats the slope if that has stayed.
        if "slope" not in cls.__dict__:
            cls.slope = Loss.slope  # type: ignore[method-assign]

    @abstractmethod
    def value(self, margins: "Tensor") -> "Tensor":
        """l(z), elementwise."""

    def zero(self, observed: "Tensor") -> "Tensor | float":
        """The loss at margin 0 of samples with the observed labels [R, n], -1 or +1."""
        return self.at_zero

    def slope(self) -> Slope | None:
        """-l'(z) in a form that the kernels for CPUs know, so that small runs train several times as fast. Not inherited."""
        return None

    def minus_slope(self, margins: "Tensor") -> "Tensor":
        """-l'(z), elementwise: how hard a sample pulls on the network."""
        import torch

        slope = self.slope()
        return minus_gradient(self.value, margins) if slope is None else slope.pull(margins, torch.ones_like(margins))

    def of_logits(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        """Losses [B] of logits [B, K] for the classes `labels` [B]."""
        raise NotImplementedError(f"{type(self).__name__} is a loss of margins only; for_classes promises of_logits")

    def pull_of_logits(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        """Minus the gradient of each loss by its logits, [B, K]."""
        return minus_gradient(lambda z: self.of_logits(z, labels), logits)

    def remembered(self, targets: "Tensor", probabilities: "Tensor") -> "Tensor":
        """The targets [.., K] of samples after a step that predicts `probabilities` [.., K] for them; they begin at 0."""
        raise NotImplementedError(f"{type(self).__name__} has no targets; remembers promises remembered and penalty")

    def penalty(self, targets: "Tensor", probabilities: "Tensor") -> "Tensor":
        """What training adds to the losses of samples [..], given their targets and predicted probabilities [.., K]."""
        raise NotImplementedError(f"{type(self).__name__} has no targets; remembers promises remembered and penalty")

    def check(self, classes: int, transition: Callable[[], np.ndarray]) -> None:
        """Raise ConfigError if this loss cannot be one of so many classes, or not of labels with this `transition()`."""

    def bound(self, transition: Callable[[], np.ndarray]) -> "Loss":
        """The loss of an experiment whose label noise has the `transition()` P(observed | true), [R or 1, K, K]."""
        return self

    @property
    def transition(self) -> np.ndarray:
        """P(observed | true) of each run, [R or 1, K, K]. Raises ConfigError before `bound`, and for a loss that knows none."""
        found = getattr(self, "_transition", None)
        if found is None:
            raise ConfigError("loss", type(self).option, "needs the transition matrix of an experiment's label noise")
        return np.asarray(found)

    def of_runs(self, runs: np.ndarray) -> "Loss":
        """The loss of some of the runs of such an experiment."""
        return self

    def of(self, margins: "Tensor", observed: "Tensor") -> "Tensor":
        """Losses [R, n] of margins [R, n] of samples with the observed labels [R, n], -1 or +1."""
        return self.value(margins)

    def pull(self, margins: "Tensor", observed: "Tensor") -> "Tensor":
        """-l'(z) of the same, [R, n]."""
        slope = self.slope()
        return self.minus_slope(margins) if slope is None else slope.pull(margins, observed)

    @property
    def at_zero(self) -> float:
        """l(0), the loss of a sample on the decision boundary."""
        import torch

        return float(self.value(torch.zeros(1, dtype=torch.float64)))


def minus_gradient(losses: Callable[["Tensor"], "Tensor"], at: "Tensor") -> "Tensor":
    """Minus the gradient of the sum of losses, by automatic differentiation."""
    import torch

    with torch.enable_grad():
        z = at.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(losses(z).sum(), z)
    return -gradient


@dataclass(frozen=True)
class Logistic(Loss):
    """l(z) = log(1 + exp(-z)); for K classes the cross entropy."""

    for_classes = True
    at_zero = LOG2

    def value(self, margins: "Tensor") -> "Tensor":
        from torch.nn.functional import softplus

        return softplus(-margins)

    def slope(self) -> Slope:
        return OfChances(s=1.0)

    def of_logits(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True)
class EarlyLearning(Logistic):
    """The cross entropy; training adds strength log(1 - <p, t>), which pulls towards what was predicted early.

    The target of a sample is t <- beta t + (1 - beta) p at each step that sees it, from 0, before it is used. p are predicted
    probabilities, in [CLIP, 1 - CLIP]; in the target they are divided by their sum. What is recorded is the cross entropy.
    Source: Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels", NeurIPS 2020; numbers as in the
    authors' code for symmetric noise on CIFAR-10.
    """

    beta: float = 0.7  # the share of a target that stays at each step, in [0, 1)
    strength: float = 3.0  # lambda, the weight of the added term

    option = "elr"
    for_classes = True
    remembers = True

    def validate(self) -> None:
        require(0 <= self.beta < 1, "beta", self.beta, "must lie in [0, 1)")
        require(self.strength >= 0, "strength", self.strength, "must be at least 0")

    def remembered(self, targets: "Tensor", probabilities: "Tensor") -> "Tensor":
        clipped = probabilities.clamp(CLIP, 1 - CLIP)
        return self.beta * targets + (1 - self.beta) * clipped / clipped.sum(-1, keepdim=True)

    def penalty(self, targets: "Tensor", probabilities: "Tensor") -> "Tensor":
        return self.strength * (1 - (targets * probabilities.clamp(CLIP, 1 - CLIP)).sum(-1)).log()


@dataclass(frozen=True)
class Hinge(Loss):
    """l(z) = max(0, 1 - z)."""

    def value(self, margins: "Tensor") -> "Tensor":
        return (1 - margins).relu()

    def slope(self) -> Slope:
        return Line(1.0, below=1.0)


@dataclass(frozen=True)
class Exponential(Loss):
    """l(z) = exp(-z), the loss of AdaBoost (Friedman, Hastie, Tibshirani 2000)."""

    def value(self, margins: "Tensor") -> "Tensor":
        return (-margins).exp()

    def slope(self) -> Slope:
        return OfChances(s=1.0, over_s=0.0)  # s / p


@dataclass(frozen=True)
class Squared(Loss):
    """l(z) = (1 - z)^2 / 2, which is (y~ - f)^2 / 2."""

    def value(self, margins: "Tensor") -> "Tensor":
        return (1 - margins).square() / 2

    def slope(self) -> Slope:
        return Line(1.0, rise=-1.0)


class OfChance(Loss):
    """A loss of the probability p of the observed class."""

    for_classes = True

    @abstractmethod
    def of_chance(self, log_p: "Tensor") -> "Tensor":
        """The loss, elementwise, given log p."""

    def value(self, margins: "Tensor") -> "Tensor":
        from torch.nn.functional import logsigmoid

        return self.of_chance(logsigmoid(margins))

    def of_logits(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        return self.of_chance(logits.log_softmax(1).gather(1, labels[:, None])[:, 0])


@dataclass(frozen=True)
class MeanAbsoluteError(OfChance):
    """l = 2 (1 - p), the sum over classes of |p_k - [k = y~]|. Source: Ghosh, Kumar, Sastry, AAAI 2017."""

    option = "mae"

    def of_chance(self, log_p: "Tensor") -> "Tensor":
        return -2 * log_p.expm1()

    def slope(self) -> Slope:
        return OfChances(sp=2.0)


@dataclass(frozen=True)
class GeneralisedCrossEntropy(OfChance):
    """l = (1 - p^q) / q. Source: Zhang, Sabuncu, "Generalized Cross Entropy Loss", NeurIPS 2018."""

    q: float = 0.7  # in (0, 1]: near 0 the cross entropy, 1 half the mean absolute error

    option = "gce"

    def validate(self) -> None:
        require(0 < self.q <= 1, "q", self.q, "must lie in (0, 1]")

    def of_chance(self, log_p: "Tensor") -> "Tensor":
        return -(self.q * log_p).expm1() / self.q

    def slope(self) -> Slope:
        return PowerOfChance(self.q)


@dataclass(frozen=True)
class SymmetricCrossEntropy(OfChance):
    """l = -a log p + 4 b (1 - p): the cross entropy, and the reverse one with log 0 := -4.

    Source: Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels", ICCV 2019; a, b as there on CIFAR-10.
    """

    a: float = 0.1  # weight of the cross entropy
    b: float = 1.0  # weight of the reverse cross entropy

    option = "sce"

    def validate(self) -> None:
        for key in ("a", "b"):
            require(getattr(self, key) >= 0, key, getattr(self, key), "must be at least 0")
        require(self.a + self.b > 0, "a, b", f"{self.a}, {self.b}", "must not both be 0")

    def of_chance(self, log_p: "Tensor") -> "Tensor":
        return -self.a * log_p - 4 * self.b * log_p.expm1()

    def slope(self) -> Slope:
        return OfChances(s=self.a, sp=4 * self.b)


@dataclass(frozen=True)
class LabelSmoothing(Loss):
    """The cross entropy with the target (1 - eps) [k = y~] + eps / K.

    With two classes l(z) = (1 - eps/2) log(1 + exp(-z)) + (eps/2) log(1 + exp(z)). Source: Szegedy et al., CVPR 2016.
    """

    eps: float = 0.1  # share of the target that is spread over all classes

    for_classes = True

    def validate(self) -> None:
        require(0 <= self.eps < 1, "eps", self.eps, "must lie in [0, 1)")

    def value(self, margins: "Tensor") -> "Tensor":
        from torch.nn.functional import softplus

        return (1 - self.eps / 2) * softplus(-margins) + self.eps / 2 * softplus(margins)

    def slope(self) -> Slope:
        return OfChances(s=1 - self.eps / 2, p=-self.eps / 2)

    def of_logits(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, labels, reduction="none", label_smoothing=self.eps)


class Correction(Loss):
    """A cross entropy that knows the transition T[c, k] = P(observed = k | true = c).

    Source: Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach", CVPR 2017.
    """

    matrix: Matrix | None

    for_classes = True
    estimable = True
    at_zero = LOG2  # at equal rates of both classes; of `backward` always

    def validate(self) -> None:
        if self.matrix is None:
            return
        rows = [len(row) for row in self.matrix]
        require(set(rows) == {len(rows)}, "matrix", self.matrix, "must be square")
        array = np.array(self.matrix)
        stochastic = bool((array >= 0).all() and np.allclose(array.sum(1), 1))
        require(stochastic, "matrix", self.matrix, "must have rows of probabilities: not negative, with sum 1")
        require(np.linalg.cond(array) < MOST_SINGULAR, "matrix", self.matrix, "must have an inverse")

    def check(self, classes: int, transition: Callable[[], np.ndarray]) -> None:
        rows = classes if self.matrix is None else len(self.matrix)
        require(rows == classes, "matrix", self.matrix, f"must have {classes} rows")
        known = np.asarray(transition() if self.matrix is None else [self.matrix])
        inverse = "that of the label noise, has no inverse: the labels say nothing of the classes"
        require(bool((np.linalg.cond(known) < MOST_SINGULAR).all()), "matrix", self.matrix, inverse)

    def bound(self, transition: Callable[[], np.ndarray]) -> "Loss":
        return self._with(np.asarray(transition() if self.matrix is None else [self.matrix]))

    def of_runs(self, runs: np.ndarray) -> "Loss":
        return self if len(self.transition) == 1 else self._with(self.transition[runs])

    def _with(self, transition: np.ndarray) -> "Loss":
        found = copy.copy(self)
        # The field stays what was asked for; this is no setting.
        object.__setattr__(found, "_transition", transition)
        return found

    def value(self, margins: "Tensor") -> "Tensor":
        import torch

        swapped = self.transition[:, ::-1, ::-1]
        alike = np.allclose(swapped, self.transition)
        require(alike, "loss", type(self).option, "is a function of the margin only if both classes have the same rate")
        return self.of(margins, torch.ones_like(margins))

    def minus_slope(self, margins: "Tensor") -> "Tensor":
        # Not from `slope`, which has an entry for each class.
        return minus_gradient(self.value, margins)


def _entries(matrices: np.ndarray, transposed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """M[k, k] and M[k, c] of each observed class k and the other one c, [R or 1, 2]; `transposed`: M[c, k]."""
    m = matrices.swapaxes(1, 2) if transposed else matrices
    # Class 0 is +1, class 1 is -1.
    return np.stack([m[:, 0, 0], m[:, 1, 1]], 1), np.stack([m[:, 0, 1], m[:, 1, 0]], 1)


@dataclass(frozen=True)
class Forward(Correction):
    """l = -log sum_c T[c, y~] p_c: the cross entropy of what the noise makes of the network's prediction."""

    matrix: Matrix | None = None  # T, rows are true classes; null = that of the label noise

    def of(self, margins: "Tensor", observed: "Tensor") -> "Tensor":
        import torch
        from torch.nn.functional import logsigmoid

        # In logarithms, since p underflows at large -z.
        own, other = (torch.as_tensor(of_class(part, observed)).log() for part in self._columns())
        return -torch.logaddexp(own + logsigmoid(margins), other + logsigmoid(-margins))

    def zero(self, observed: "Tensor") -> "Tensor | float":
        import torch

        return self.of(torch.zeros_like(observed), observed)

    def slope(self) -> Slope:
        own, other = self._columns()
        return OfChances(sp=own - other, over_s=other, over_p=own)

    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        """T[k, k] and T[c, k]."""
        return _entries(self.transition, transposed=True)

    def of_logits(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        import torch

        log_matrix = torch.as_tensor(self.transition).to(logits).log()
        log_chances = logits.log_softmax(1).unflatten(0, (len(log_matrix), -1))  # [R, B, K]
        log_observed = (log_chances[..., None] + log_matrix[:, None]).logsumexp(2)
        return -log_observed.flatten(0, 1).gather(1, labels[:, None])[:, 0]


@dataclass(frozen=True)
class Backward(Correction):
    """l = sum_k (T^-1)[y~, k] (-log p_k): its mean over the noise is the cross entropy with the true class. No lower bound."""

    matrix: Matrix | None = None  # T, rows are true classes; null = that of the label noise

    def of(self, margins: "Tensor", observed: "Tensor") -> "Tensor":
        from torch.nn.functional import softplus

        own, other = (of_class(part, observed) for part in self._rows())
        return own * softplus(-margins) + other * softplus(margins)

    def slope(self) -> Slope:
        own, other = self._rows()
        return OfChances(s=own, p=-other)

    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        """(T^-1)[k, k] and (T^-1)[k, c]."""
        return _entries(np.linalg.inv(self.transition))

    def of_logits(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        import torch

        inverse = torch.as_tensor(np.linalg.inv(self.transition)).to(logits)
        losses = -logits.log_softmax(1).unflatten(0, (len(inverse), -1)) @ inverse.mT
        return losses.flatten(0, 1).gather(1, labels[:, None])[:, 0]


@dataclass(frozen=True)
class BackwardSquared(Backward):
    """l = sum_k (T^-1)[y~, k] (1 - k f)^2 / 2 with k = +1, -1: its mean over the noise is the squared loss of the true label.

    For a linear network it is a least-squares problem with the targets y~ (1 + p_y~ - p_-y~) / (1 - p_+ - p_-), where p are the
    flip rates in T. Source: Natarajan et al., NeurIPS 2013; Firdoussi et al., arXiv 2405.14088 (label-perturbed classifier).
    """

    for_classes = False
    estimable = False  # f is no log odds, so it gives no probabilities
    at_zero = 0.5

    def of(self, margins: "Tensor", observed: "Tensor") -> "Tensor":
        own, other = (of_class(part, observed) for part in self._rows())
        return (own * (1 - margins).square() + other * (1 + margins).square()) / 2

    def slope(self) -> Slope:
        own, other = self._rows()
        return Line(own - other, rise=-(own + other))
