"""Step sizes over time: torch's own schedulers, and both engines on the same schedule."""

import numpy as np
import pytest
import torch
from test_span import DEEP, assert_engines_agree
from torch.optim import lr_scheduler

from lnt.training.optimizers import SCHEDULES, schedule_factor

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
