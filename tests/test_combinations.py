"""Random combinations of data, network, loss, noise and optimizer: the exact reduction against plain PyTorch, 300 steps each.

Other tests take each setting alone, and name what they try; these look for combinations of which nobody has thought.
"""

import numpy as np
import pytest
from hydra.errors import ConfigCompositionException
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_span import assert_engines_agree

from lnt.errors import ConfigError
from lnt.training.loop import train

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
    "muon": ("optimizer.steps=300",),
}
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
NOISES = ("noise.rate=0.2", "noise.resample=true", "noise=pair", "noise=none")
ACTIVATIONS = (
    *("relu", "leaky_relu", "gelu", "softplus", "tanh", "linear", "quadratic"),
    "relu model.power=2",
)


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Overrides that may or may not fit each other."""
    data, optimizer = draw(st.sampled_from(sorted(DATA))), draw(st.sampled_from(sorted(OPTIMIZERS)))
    lines = [f"data={data}", f"optimizer={optimizer}", *SIZES, *OPTIMIZERS[optimizer]]
    lines += [draw(st.sampled_from(DATA[data])), f"loss={draw(st.sampled_from(LOSSES))}", draw(st.sampled_from(NOISES))]
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
@given(command_lines())
def test_the_exact_reduction_is_plain_pytorch(experiment, lines):
    try:
        ours = experiment(*lines)
    except (ConfigError, ConfigCompositionException):
        assume(False)  # an optimizer has no such key, a loss no form for classes
    losses = train(ours).values[:, 0]
    assume(np.isfinite(losses).all() and (losses < 100).all())  # what diverges amplifies the last digits
    # The polar factor of a gradient with small singular values magnifies rounding, up to 1e6 times in a step.
    tolerance = 1e-5 if "optimizer=muon" in lines else 1e-9
    assert_engines_agree(ours, experiment(*lines, "engine=autograd"), tolerance)
