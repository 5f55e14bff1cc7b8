"""Step sizes over time: torch's own schedulers, and both engines on the same schedule."""

import numpy as np
import pytest
import torch
from test_span import DEEP, assert_engines_agree
from torch.optim import lr_scheduler

from lnt.errors import ConfigError
from lnt.training.optimizers import SCHEDULES, Adam, GradientDescent, StochasticGradientDescent, schedule_factor

ORACLES = {
    "constant": lambda optimizer, total: lr_scheduler.ConstantLR(optimizer, 1),
    "step": lambda optimizer, total: lr_scheduler.MultiStepLR(optimizer, [-(-total // 2), -(-3 * total // 4)]),
    "cosine": lambda optimizer, total: lr_scheduler.CosineAnnealingLR(optimizer, total),
    "one_cycle": lambda optimizer, total: lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=total, cycle_momentum=False),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("total", [7, 100, 1001])
@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")
def test_schedules_are_torchs(schedule, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.2)
    oracle, rates = ORACLES[schedule](optimizer, total), []
    for step in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < total - 1:
            oracle.step()
    np.testing.assert_allclose([0.2 * schedule_factor(schedule, step, total) for step in range(total)], rates, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_span_equals_autograd_on_every_schedule(experiment, schedule):
    """With momentum and weight decay, whose memory a changing step size rescales."""
    overrides = [*(key for key in DEEP if "optimizer" not in key), "optimizer=sgd", f"optimizer.schedule={schedule}"]
    overrides += ["optimizer.lr=0.3", "optimizer.epochs=40", "optimizer.momentum=0.5", "optimizer.weight_decay=0.01"]
    assert_engines_agree(experiment(*overrides), experiment(*overrides, "engine=autograd"))


# By hand.


def factors(schedule, total):
    return [schedule_factor(schedule, step, total) for step in range(total)]


def test_the_schedules_at_steps_that_are_known():
    assert factors("constant", 3) == [1, 1, 1]
    np.testing.assert_allclose(factors("step", 8), [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    np.testing.assert_allclose(factors("step", 6), [1, 1, 1, 0.1, 0.1, 0.01], err_msg="3/4 of six steps is 4.5")
    np.testing.assert_allclose(factors("cosine", 6), [1, 0.5 + 3**0.5 / 4, 0.75, 0.5, 0.25, 0.5 - 3**0.5 / 4])
    # The peak of 20 steps lies at 0.3 * 20 - 1 = 5, the end at 19, the middle of the fall at 12.
    one_cycle = factors("one_cycle", 20)
    np.testing.assert_allclose([one_cycle[k] for k in (0, 5, 12, 19)], [0.04, 1, (1 + 4e-6) / 2, 4e-6], rtol=1e-12)


def test_an_optimizer_takes_so_many_steps():
    """Ten samples in batches of four are three steps an epoch; the last batch is smaller, not dropped."""
    assert GradientDescent(steps=7).total_steps(10) == 7
    assert StochasticGradientDescent(epochs=5, batch_size=4).total_steps(10) == 15
    assert StochasticGradientDescent(epochs=5, batch_size=5).total_steps(10) == 10
    assert Adam(epochs=2, batch_size=64).total_steps(10) == 2


@pytest.mark.parametrize("kind", [GradientDescent, StochasticGradientDescent])
def test_two_steps_of_gradient_descent_by_hand(kind):
    """w = 2, gradient 1 twice, eta = 1/2, momentum 1/2, weight decay 1/4.

    v = 1 + 1/2 = 3/2, w = 2 - 3/4 = 5/4;  v = 3/4 + 1 + 5/16 = 33/16, w = 5/4 - 33/32 = 7/32.
    """
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = kind(lr=0.5, momentum=0.5, weight_decay=0.25).make([weight], 0.5)
    found = []
    for _ in range(2):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        found.append(weight.item())
    assert found == [5 / 4, 7 / 32]


def test_a_step_of_adam_by_hand():
    """Its first step is eta g / (|g| + 1e-8), with g = 1 + 1/4 w."""
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = Adam(lr=0.5, weight_decay=0.25).make([weight], 0.5)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert weight.item() == pytest.approx(2 - 0.5 * 1.5 / (1.5 + 1e-8), rel=1e-12)
    assert optimizer.param_groups[0]["weight_decay"] == 0.25


@pytest.mark.parametrize("kind", [GradientDescent, StochasticGradientDescent, Adam])
def test_bounds_of_an_optimizer(kind):
    assert kind.stays_in_span == (kind is not Adam)
    bad = {"lr": (0, "lr=0.0: must be positive"), "weight_decay": (-0.1, "weight_decay=-0.1: must be at least 0")}
    if kind is not Adam:
        bad["momentum"] = (1, r"momentum=1.0: must lie in \[0, 1\)")
        kind(momentum=0, weight_decay=0)
        with pytest.raises(ConfigError, match=r"momentum=-0.1: must lie in \[0, 1\)"):
            kind(momentum=-0.1)
    if kind is GradientDescent:
        bad |= {"t1_steps": (0, "t1_steps=0.0: must be positive"), "steps": (0, "steps=0: must be at least 1")}
        assert kind(steps=1).steps == 1
    else:
        bad |= {"epochs": (0, "epochs=0: must be at least 1"), "batch_size": (0, "batch_size=0: must be at least 1")}
        bad["schedule"] = ("linear", "schedule=linear: must be one of constant, step, cosine, one_cycle")
        assert kind(epochs=1, batch_size=1).total_steps(3) == 3
    for key, (value, said) in bad.items():
        with pytest.raises(ConfigError, match=f"^{said}"):
            kind(**{key: value})
