"""Step sizes over time: torch's own schedulers, and both engines on the same schedule."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from test_span import DEEP, assert_engines_agree
from torch.optim import lr_scheduler

import lnt
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


@pytest.mark.parametrize("milestones", [(0.6,), (0.07, 0.55), (0.1, 0.2, 0.999)])
@pytest.mark.parametrize("total", [7, 100, 1001])
def test_milestones_are_shares_of_all_steps(milestones, total):
    """MultiStepLR counts in steps. 0.07 and 0.55 of 100 steps are 7 and 55, though the products are a little more."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    oracle, rates = lr_scheduler.MultiStepLR(optimizer, [math.ceil(Fraction(str(m)) * total) for m in milestones]), []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        oracle.step()
    numbers = lnt.StochasticGradientDescent(schedule="step", milestones=milestones)
    np.testing.assert_allclose([numbers.factor(step, total) for step in range(total)], rates, rtol=1e-12)


def test_adamw_with_milestones_is_the_usual_loop(experiment):
    """Written as one writes it without this package; images: test_image_engine.py."""
    settings = ("optimizer=adamw", "optimizer.batch_size=12", "optimizer.epochs=9", "optimizer.weight_decay=0.2")
    settings += ("optimizer.lr=0.01", "optimizer.schedule=step", "optimizer.milestones=[0.3,0.7]")
    one = experiment("data.n_train=12", "data.n_test=5", "data.dim=30", "precision=float64", *settings)
    engine, start = (one.start(one.sample()) for _ in range(2))
    engine.advance(9)
    network, observed = start.network, start.problem.observed.at(0)[0]
    optimizer = torch.optim.AdamW(network.parameters(), 0.01, weight_decay=0.2)
    schedule = lr_scheduler.MultiStepLR(optimizer, [3, 7])  # 2.7 and 6.3 of 9 steps
    for _ in range(9):
        optimizer.zero_grad()
        torch.nn.functional.softplus(-observed * network(start.samples)).mean().backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(engine.network.filters, network.filters, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [lnt.StochasticGradientDescent, lnt.Adam, lnt.AdamW])
@pytest.mark.parametrize(
    ("epochs", "n", "milestones", "drop"), [(9, 7, (3, 7), 0.2), (100, 50, (60,), 0.1), (5, 8, (1, 4), 3.0)]
)
def test_milestones_in_epochs_are_multi_step_lr_called_once_an_epoch(kind, epochs, n, milestones, drop):
    """As the usual program has it: the scheduler steps after each epoch, whose last batch may be smaller."""
    numbers = kind(epochs=epochs, batch_size=4, schedule="step", milestones=milestones, drop=drop)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    oracle, rates = lr_scheduler.MultiStepLR(optimizer, list(milestones), gamma=drop), []
    for _ in range(epochs):
        rates += [optimizer.param_groups[0]["lr"]] * math.ceil(n / 4)
        optimizer.step()
        oracle.step()
    total = numbers.total_steps(n)
    np.testing.assert_allclose([numbers.factor(step, total) for step in range(total)], rates, rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedule": "cosine", "drop": 0.2}, "drop=0.2: is that of schedule=step"),
        ({"schedule": "step", "drop": 0}, "drop=0.0: must be positive"),
        ({"schedule": "step", "milestones": (60, 100)}, r"that rise between 0 and 1, or epochs that rise from 1 to 99"),
        ({"schedule": "step", "milestones": (0.5, 60)}, "or epochs that rise from 1 to 99"),
        ({"schedule": "step", "milestones": (2.5, 60)}, "or epochs that rise from 1 to 99"),
        ({"schedule": "step", "milestones": (60, 30)}, "or epochs that rise from 1 to 99"),
        ({"schedule": "cosine", "milestones": (0.6,)}, r"milestones=\[0.6\]: are those of schedule=step"),
        ({"schedule": "step", "milestones": ()}, r"milestones=\[\]: must be shares of training that rise between 0 and 1"),
        ({"schedule": "step", "milestones": (0.6, 0.3)}, "must be shares of training that rise"),
        ({"schedule": "step", "milestones": (0.6, 0.6)}, "must be shares of training that rise"),
        ({"schedule": "step", "milestones": (0.0, 0.6)}, "must be shares of training that rise"),
    ],
)
def test_milestones_that_cannot_be_are_refused(settings, said):
    for optimizer in (lnt.StochasticGradientDescent, lnt.Adam, lnt.AdamW):
        with pytest.raises(ConfigError, match=said):
            optimizer(**settings)


def test_an_optimizer_that_counts_steps_has_no_milestones_in_epochs():
    with pytest.raises(ConfigError, match=r"must be shares of training that rise between 0 and 1$"):
        lnt.SharpnessAwareDescent(schedule="step", milestones=(30, 60))


def test_decoupled_weight_decay_by_hand():
    """The first step of Adam is lr against the sign of each gradient, whatever its size; decay shrinks w by lr times 0.5."""
    weights = torch.nn.Parameter(torch.tensor([2.0, -3.0, 0.5], dtype=torch.float64))
    optimizer = lnt.AdamW(lr=0.1, weight_decay=0.5).make([weights], 0.1)
    weights.grad = torch.tensor([4.0, 7.0, 0.0], dtype=torch.float64)
    optimizer.step()
    torch.testing.assert_close(
        weights.detach(), torch.tensor([2 * 0.95 - 0.1, -3 * 0.95 - 0.1, 0.5 * 0.95], dtype=torch.float64)
    )
    assert lnt.AdamW().weight_decay == 0.01, "PyTorch's"


@pytest.mark.parametrize("schedule", [*SCHEDULES, "step optimizer.milestones=[0.3,0.6]"])
def test_span_equals_autograd_on_every_schedule(experiment, schedule):
    """With momentum and weight decay, whose memory a changing step size rescales."""
    overrides = [*(key for key in DEEP if "optimizer" not in key), "optimizer=sgd", *f"optimizer.schedule={schedule}".split()]
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
