"""Random combinations of data, network, loss, noise and optimizer: the exact reduction against plain PyTorch.

Each trains for 300 steps, with Muon for 30.

Other tests take each setting alone, and name what they try; these look for combinations of which nobody has thought.
"""

from itertools import chain

import numpy as np
import pytest
import test_data
import test_losses
import test_span
import test_update_rules
import torch
from conftest import measured
from hydra.errors import ConfigCompositionException
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_span import assert_close, assert_engines_agree

from lnt.errors import ConfigError
from lnt.options import CONF, read_option
from lnt.settings import class_of
from lnt.training.experiment import recorded_steps
from lnt.training.loop import train
from lnt.two_layer.activations import NAMES
from lnt.two_layer.data import VectorData

SIZES = ("data.n_train=12", "data.n_test=50", "model.width=2", "model.init_std=0.1", "precision=float64")
DATA = {
    "signal_noise": ("", "data.noise_patches=2", "data.positive_share=0.3", "data.noise_ratio=2", "data.balanced=true"),
    "xor": ("", "data.angle=60", "data.orthogonal_noise=true"),
    "mixture": ("", "data.noise_ratio=0.5"),
    "xor_mixture": ("",),
    "features": ("", "data.noise_patches=3"),
    "signal_noise_classes": ("data.class_count=3", "data.class_count=2"),
}
OPTIMIZERS = {
    "gd": ("optimizer.steps=300",),
    "sgd": ("optimizer.batch_size=5", "optimizer.epochs=100"),
    "sam": ("optimizer.steps=300",),
    "normalized_gd": ("optimizer.steps=300",),
    # Its polar factor magnifies rounding, step after step; tests/test_update_rules.py takes 300 steps.
    "muon": ("optimizer.steps=30",),
}  # flow has an error of its own: tests/test_update_rules.py
LOSSES = (
    "logistic",
    "hinge",
    "exponential",
    "squared",
    "mae",
    "gce",
    "sce",
    "label_smoothing",
    "forward",
    "backward",
    "backward_squared",
)
NOISES = (
    *("noise.rate=0.2", "noise.resample=true", "noise=pair", "noise=none", "noise=asymmetric", "noise=label_multipliers"),
    "noise=matrix noise.matrix=[[0.8,0.2],[0.1,0.9]]",
)
ACTIVATIONS = (
    *("relu", "leaky_relu", "gelu", "softplus", "tanh", "linear", "quadratic"),
    "relu model.power=2",
)


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Overrides that may or may not fit each other."""
    data, optimizer = draw(st.sampled_from(sorted(DATA))), draw(st.sampled_from(sorted(OPTIMIZERS)))
    lines = [f"data={data}", f"optimizer={optimizer}", *SIZES, *OPTIMIZERS[optimizer]]
    lines += [draw(st.sampled_from(DATA[data])), f"loss={draw(st.sampled_from(LOSSES))}"]
    lines += draw(st.sampled_from(NOISES)).split()
    lines += f"model.activation={draw(st.sampled_from(ACTIVATIONS))}".split()
    # Few dimensions: on vectors. Small steps: rounding grows with the steps where the slope of the loss is steep.
    lines += [f"data.dim={draw(st.sampled_from((5, 60)))}", f"optimizer.lr={draw(st.sampled_from((0.01, 0.05)))}"]
    for key, values in {
        "model.bias": ("true",),
        "model.second_layer": ("trained",),
        "model.output": ("sum",),
        "optimizer.momentum": ("0.5",),
        "optimizer.weight_decay": ("0.01",),
        "data.mixup": ("0.5",),
    }.items():
        if draw(st.booleans()):
            lines.append(f"{key}={draw(st.sampled_from(values))}")
    return [line for line in lines if line]


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(command_lines(), st.booleans())
def test_the_exact_reduction_is_plain_pytorch(experiment, lines, all_alike):
    ours = possible(experiment, *lines)
    weights = torch.tensor([[1.0] * 12 if all_alike else [0, 2, 1, 0.5, 0, 1, 3, 0, 1, 1, 2, 0.5]])
    problem = ours.sample()
    engine = ours.start(problem)
    engine.weights.copy_(weights)
    losses = measured([engine], problem, recorded_steps(ours.total_steps(), 30))[:, 0]
    assume(np.isfinite(losses).all() and (losses < 100).all())  # what diverges amplifies the last digits
    assume(are_stable(lines, losses).all())
    # The polar factor of a gradient with small singular values magnifies rounding, up to 1e6 times in a step.
    tolerance = 1e-5 if "optimizer=muon" in lines else 1e-9
    assert_engines_agree(ours, experiment(*lines, "engine=autograd"), tolerance, weights)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(command_lines())
def test_a_batch_is_each_of_its_runs_alone(experiment, lines):
    batch = possible(experiment, *lines, runs=3, seed=np.arange(3), optimizer__lr=np.array([0.01, 0.03, 0.05]))
    together = train(batch).values
    assume(np.isfinite(together[:, 0]).all() and (together[:, 0] < 100).all())
    tolerance = 1e-5 if "optimizer=muon" in lines else 1e-9
    for run in range(3):
        stable = are_stable(lines, together[:, 0, run])
        alone = train(batch.take(np.array([run]))).values[..., 0]
        assert_close(together[stable][..., run], alone[stable], tolerance)


def are_stable(lines, losses):
    """Whether rounding is not magnified, for each recorded step: steps of one length jump to and fro once the loss is small."""
    fitted = np.maximum.accumulate(losses < 1e-6)
    return ~fitted if "optimizer=normalized_gd" in lines else np.ones(len(losses), bool)


def possible(experiment, *lines, **numbers):
    """The experiment, if its settings fit each other: an optimizer may have no such key, a loss no form for classes."""
    try:
        return experiment(*lines, **numbers)
    except (ConfigError, ConfigCompositionException):
        assume(False)


def options(group, fits):
    """The options of a group whose class fits."""
    return {file.stem for file in (CONF / group).glob("*.yaml") if fits(class_of(read_option(group, file.stem)))}


def named(group, overrides, default):
    """The options of a group that command lines name; `default` stands for those that name none."""
    found = (line.removeprefix(f"{group}=") for line in overrides if line.startswith(f"{group}="))
    return {default, *found}


def test_every_option_of_the_exact_reduction_is_tried_alone_and_in_combinations():
    """A loss, activation, data model, optimizer or label noise that comes later fails here until it is."""
    alone = [*chain(*test_span.SETTINGS.values()), *chain(*test_update_rules.SETTINGS.values())]
    vectors = options("data", lambda data: issubclass(data, VectorData))
    assert vectors == set(DATA) == named("data", alone, "signal_noise")
    laws = (model if isinstance(model, str) else model.values[0] for model in test_data.MODELS)
    assert vectors == {law.split()[0] for law in laws}, "sampled without d as with vectors of length d"
    losses = options("loss", lambda loss: not loss.remembers)
    assert losses == set(LOSSES) == {"logistic", *test_losses.OPTIONS}
    in_span = options("optimizer", lambda optimizer: optimizer.stays_in_span)
    assert in_span - {"flow"} == set(OPTIMIZERS) == named("optimizer", alone, "gd") | {"sgd"}
    assert set(NAMES) == {words.split()[0] for words in ACTIVATIONS} == named("model.activation", alone, "relu")
    by_class = options("noise", lambda noise: not (noise.needs_images or noise.needs_positions))
    assert by_class - {"file", "human"} == named("noise", " ".join(NOISES).split(), "symmetric")
