"""Losses: one definition each, and both engines train with any of them alike."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from lnt.column_names import METRICS
from lnt.errors import ConfigError
from lnt.losses import Logistic, Loss
from lnt.training.loop import train
from lnt.two_layer.sampled_problem import sample_problem

SMALL = ("data.n_train=24", "data.n_test=50", "data.dim=80", "model.width=4", "optimizer.steps=120", "precision=float64")


@dataclass(frozen=True)
class Exponential(Loss):
    """l(z) = exp(-rate z), by its value alone."""

    rate: float = 0.5  # how fast it falls

    def value(self, margins):
        return torch.exp(-self.rate * margins)


def test_the_logistic_loss_by_hand():
    margins = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
    wanted = [math.log(1 + math.exp(-z)) for z in margins.tolist()]
    torch.testing.assert_close(Logistic().value(margins), torch.tensor(wanted, dtype=torch.float64))
    slopes = [1 / (1 + math.exp(z)) for z in margins.tolist()]
    torch.testing.assert_close(Logistic().minus_slope(margins), torch.tensor(slopes, dtype=torch.float64))
    assert Logistic().at_zero == math.log(2)


def test_the_slope_of_a_loss_follows_from_its_value():
    margins = torch.linspace(-3, 3, 7, dtype=torch.float64)
    torch.testing.assert_close(Exponential(0.7).minus_slope(margins), 0.7 * torch.exp(-0.7 * margins))
    torch.testing.assert_close(Loss.minus_slope(Logistic(), margins), Logistic().minus_slope(margins))
    assert Exponential().at_zero == 1


def explicit(*arguments):
    """Problems on vectors of length d for either engine: reduced coordinates are other vectors of the same law."""
    *rest, _, like = arguments
    return sample_problem(*rest, False, like)


@pytest.mark.parametrize("power", [1, 2])
def test_both_engines_train_alike_with_a_loss_of_ones_own(experiment, monkeypatch, power):
    monkeypatch.setattr("lnt.two_layer.two_layer_experiment.sample_problem", explicit)
    settings = (*SMALL, f"model.power={power}", "model.init_std=0.05")
    own = (f"++loss._target_={__name__}.Exponential", "++loss.rate=0.5")
    span, autograd = (train(experiment(*settings, *own, f"engine={engine}")) for engine in ("span", "autograd"))
    np.testing.assert_allclose(span.values, autograd.values, rtol=1e-8, atol=1e-9)
    logistic = train(experiment(*settings)).values
    assert np.abs(span.values[-1] - logistic[-1])[METRICS.index("signal_coef")] > 1e-3, "another loss is another training"


def test_a_loss_of_margins_only_is_refused_on_images(experiment):
    with pytest.raises(ConfigError, match="it has no form for K classes"):
        experiment("data=digits", "data.n_train=8", f"++loss._target_={__name__}.Exponential")


# By hand: e^ln 3 = 3, so log(1 + 1/3) = log 4/3 and log(1 + 3) = log 4.


def test_the_logistic_loss_at_points_that_are_known():
    log3 = math.log(3)
    margins = torch.tensor([-log3, 0.0, log3], dtype=torch.float64)
    np.testing.assert_allclose(Logistic().value(margins), [1.3862943611198906, 0.6931471805599453, 0.28768207245178090])
    np.testing.assert_allclose(Logistic().minus_slope(margins), [3 / 4, 1 / 2, 1 / 4])
    assert Logistic().at_zero == pytest.approx(0.6931471805599453, abs=1e-16)


def test_the_cross_entropy_of_logits_by_hand():
    """Probabilities 1/4, 3/4 and 1/6, 3/6, 2/6: one loss for each sample, of its own class."""
    two = torch.tensor([[0, math.log(3)], [0, math.log(3)]], dtype=torch.float64)
    np.testing.assert_allclose(Logistic().of_logits(two, torch.tensor([0, 1])), [math.log(4), math.log(4 / 3)])
    three = torch.tensor([[0, math.log(3), math.log(2)]], dtype=torch.float64)
    np.testing.assert_allclose(Logistic().of_logits(three, torch.tensor([2])), [math.log(3)])


def test_the_slope_by_differentiation_is_that_of_each_margin_and_leaves_no_trace():
    margins = torch.tensor([[0.0, 1.0], [2.0, -1.0]], dtype=torch.float64)
    with torch.no_grad():
        slope = Exponential(1.0).minus_slope(margins)
    np.testing.assert_allclose(slope, [[1, math.exp(-1)], [math.exp(-2), math.exp(1)]])
    assert not slope.requires_grad
    assert not margins.requires_grad


def test_promises_of_a_loss_are_not_inherited():
    """The kernel and the cross entropy are those of the logistic loss."""

    class Other(Logistic):
        def value(self, margins):
            return margins**2

    class Promised(Logistic):
        has_kernel = True

    assert (Logistic.has_kernel, Other.has_kernel, Promised.has_kernel) == (True, False, True)
    assert (Logistic.for_classes, Exponential.for_classes) == (True, False)
    with pytest.raises(NotImplementedError, match="Exponential is a loss of margins only; for_classes promises of_logits"):
        Exponential().of_logits(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))
