"""The kernels for CPUs beside the same formulas in NumPy and plain PyTorch."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from test_span import assert_close
from torch.nn.functional import softplus

from lnt.slopes import COEFFICIENTS, LINE, POWER, QUOTIENT, SUM, Line, OfChances, PowerOfChance, Slope
from lnt.two_layer import kernels
from lnt.two_layer.two_layer_experiment import TwoLayerExperiment


def pulls(slope: Slope, margins: np.ndarray) -> np.ndarray:
    """As in the kernels: -l'(z) of samples with the label +1."""
    values, table = margins.copy(), slope.table(1)[0].astype(margins.dtype)
    coefficients = np.zeros((COEFFICIENTS, len(values)), values.dtype)
    kernels.by_sample(table, np.ones_like(values), coefficients)
    kernels.turn_into_pulls(slope.form, coefficients, values)
    return values


LOGISTIC = OfChances(s=1.0)
# Each form with its value in NumPy, given z and the chances s and p.
FORMS = {
    "logistic": (LOGISTIC, lambda z, s, p: s),
    "the other chance": (OfChances(p=1.0), lambda z, s, p: p),
    "their product": (OfChances(sp=3.0), lambda z, s, p: 3 * s * p),
    "exponential": (OfChances(s=1.0, over_s=0.0), lambda z, s, p: s / p),
    "quotient": (
        OfChances(s=2.0, p=0.5, sp=3.0, over_s=0.25, over_p=4.0),
        lambda z, s, p: (2 * s + 0.5 * p + 3 * s * p) / (0.25 * s + 4 * p),
    ),
    "power": (PowerOfChance(0.7), lambda z, s, p: s * p**0.7),
}
INFINITE = {
    "logistic": [0, 1],
    "the other chance": [1, 0],
    "their product": [0, 0],
    "exponential": [0, np.inf],
    "quotient": [0.125, 8],
    "power": [0, 0],
}


@pytest.mark.parametrize(("dtype", "largest"), [(np.float32, 80), (np.float64, 700)])
@pytest.mark.parametrize("name", FORMS)
def test_slopes_have_few_units_of_rounding(name: str, dtype: type, largest: float) -> None:
    slope, formula = FORMS[name]
    margins = np.linspace(-largest, largest, 8000).astype(dtype)
    z = margins.astype(np.longdouble)
    exact = formula(z, 1 / (1 + np.exp(z)), 1 / (1 + np.exp(-z)))
    # The number log 2 is rounded, and taken margin / log 2 times, for each of the factors.
    assert (np.abs(pulls(slope, margins) / exact - 1) < 2 * np.finfo(dtype).eps * (10 + np.abs(margins))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FORMS)
def test_slopes_of_infinite_and_missing_margins(name: str, dtype: type) -> None:
    found = pulls(FORMS[name][0], np.array([np.inf, -np.inf, np.nan, 1e30, -1e30, 0, 0, 0], dtype))
    assert np.isnan(found[2])
    wanted = np.array(INFINITE[name])
    enormous = wanted == np.inf
    assert (found[[1, 4]] > 1e37).all() or not enormous.any()
    for pair in (found[[0, 1]], found[[3, 4]]):
        np.testing.assert_allclose(pair[~enormous], wanted[~enormous], rtol=1e-6, atol=1e-25)


def test_slopes_on_a_line_end_at_a_margin() -> None:
    margins = np.array([-3, 0, 1, np.nextafter(1, 0), 2, np.nan, 0, 0])
    np.testing.assert_array_equal(pulls(Line(1.0, below=1.0), margins)[:6], [1, 1, 0, 1, 0, np.nan])
    np.testing.assert_array_equal(pulls(Line(1.0, rise=-1.0), margins)[:5], [4, 1, 0, 1 - margins[3], -1])


def test_the_kernels_know_each_form() -> None:
    known = [LOGISTIC.form, OfChances(s=1.0, over_s=0.5).form, Line(1.0).form, PowerOfChance(0.5).form]
    assert known == [SUM, QUOTIENT, LINE, POWER]


@pytest.mark.parametrize("samples", [1, 24, 61])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_outputs_on_short_test_patches(samples: int, width: int, biased: bool) -> None:
    rng, filters, inner = np.random.default_rng(0), 2 * width, 11
    w = rng.standard_normal((3, filters, inner))
    w[:, 0, 4:] = 0  # as in adapted coordinates, where a filter ends early
    w[1, 1, 2] = np.nan
    bias = rng.standard_normal((3, filters)) if biased else np.zeros((0, 0))
    patches, signal, index = rng.standard_normal((inner, samples)), rng.standard_normal((3, 2)), rng.integers(2, size=samples)
    outputs = np.full((5, samples), 7.0)
    padded = np.pad(patches, ((0, 0), (0, -samples % kernels.LANES)))
    kernels.write_short(w, bias, padded, signal, index, np.array([4, 0, 2]), outputs)
    z = np.maximum(w @ patches + (bias[..., None] if biased else 0), 0)
    expected = signal[:, index] + z[:, :width].mean(1) - z[:, width:].mean(1)
    np.testing.assert_allclose(outputs[[4, 0, 2]], expected, rtol=1e-12)
    assert np.isnan(outputs[0]).all()
    assert (outputs[[1, 3]] == 7).all()


def given_true(z: torch.Tensor, u: torch.Tensor, v: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """The observed class's entries of T^-1 = [[1 - b, -a], [-b, 1 - a]] / (1 - a - b) times the losses of both labels."""
    return ((1 - v) * loss(z) - u * loss(-z)) / (1 - u - v)


# Losses of the margin by hand; u and v are the flip rates of the observed class and of the other one.
BY_HAND: dict[str, Callable[..., torch.Tensor]] = {
    "logistic": lambda z, u, v: softplus(-z),
    "hinge": lambda z, u, v: (1 - z).clamp_min(0),
    "exponential": lambda z, u, v: (-z).exp(),
    "squared": lambda z, u, v: (1 - z) ** 2 / 2,
    "mae": lambda z, u, v: 2 - 2 / (1 + (-z).exp()),
    "gce": lambda z, u, v: (1 - (1 + (-z).exp()) ** -0.7) / 0.7,
    "sce": lambda z, u, v: 0.1 * softplus(-z) + 4 - 4 / (1 + (-z).exp()),
    "label_smoothing": lambda z, u, v: 0.95 * softplus(-z) + 0.05 * softplus(z),
    "forward": lambda z, u, v: -((1 - u) * z.sigmoid() + v * (-z).sigmoid()).log(),
    "backward": lambda z, u, v: given_true(z, u, v, lambda z: softplus(-z)),
    "backward_squared": lambda z, u, v: given_true(z, u, v, lambda z: (1 - z) ** 2 / 2),
}
STEPS, RUNS, RATE, PLUS, MINUS = 300, 3, 0.05, np.array([0.4, 0.0, 0.1]), np.array([0.1, 0.2, 0.3])
BASE = ("data.n_train=19", "data.n_test=10", "data.dim=60", "data.snr=0.3", "model.width=3", "model.init_std=0.1")
TRAININGS = {
    "small runs": (),
    "small runs, bias": ("model.bias=true",),
    "bias, momentum": ("model.bias=true", "optimizer.momentum=0.5"),
    "many patches, bias": ("data.n_train=50", "model.bias=true"),
    "on vectors": ("data.dim=8", "model.bias=true"),
    "mini-batches, momentum": ("optimizer=sgd", "optimizer.batch_size=7", "optimizer.epochs=100", "optimizer.momentum=0.5"),
    "fresh labels": ("noise.resample=true",),
}


def plain_filters(run: TwoLayerExperiment, loss: str, weights: torch.Tensor) -> torch.Tensor:
    """Filters [R, P, D] after STEPS steps of torch.optim on autograd's gradients, from the problem that `run` draws."""
    problem, n = run.sample(), weights.shape[1]
    bias = torch.zeros(problem.filters.shape[:2], dtype=torch.float64) if problem.bias is None else problem.bias.clone()
    trained = [problem.filters.clone().requires_grad_(), bias.requires_grad_()]
    momentum = float(run.per_run(run.optimizer.momentum)[0])
    optimizer = torch.optim.SGD(trained if problem.bias is not None else trained[:1], RATE, momentum)
    order = run.batches()
    plus, minus = (torch.tensor(rates)[:, None] for rates in (PLUS, MINUS))
    for step in range(STEPS):
        observed = problem.observed.at(step)
        w, b = trained
        by_patch = (w @ problem.patches.mT + b[..., None]).relu().unflatten(1, (2, -1)).mean(2)  # [R, 2, K]
        f = by_patch[:, 0] - by_patch[:, 1]
        f = f.gather(1, problem.signal_index) + f[:, problem.signals : problem.signals + n]
        u, v = torch.where(observed > 0, plus, minus), torch.where(observed > 0, minus, plus)
        losses = weights * BY_HAND[loss](observed * f, u, v)
        losses = losses if order is None else losses.gather(1, order.at(step))
        optimizer.zero_grad()
        losses.mean(1).sum().backward()
        optimizer.step()
    return trained[0].detach()


# The others use the same code of the loss from other places, which one loss whose slope depends on the label tells.
FAST = ("small runs, bias", "bias, momentum")
CASES = [
    pytest.param(loss, name, marks=[] if name in FAST or loss == "forward" else pytest.mark.slow)
    for loss in BY_HAND
    for name in TRAININGS
]


@pytest.mark.parametrize(("loss", "training"), CASES)
def test_kernels_train_as_plain_pytorch(experiment: Callable[..., TwoLayerExperiment], loss: str, training: str) -> None:
    """Also as the engine's batched operations, which CUDA uses; runs have rates, and samples weights, of their own."""
    steps = () if "batches" in training else (f"optimizer.steps={STEPS}",)
    settings = (*BASE, *TRAININGS[training], *steps, f"loss={loss}", f"optimizer.lr={RATE}", "precision=float64")
    rates = {"noise__rate_positive": PLUS, "noise__rate_negative": MINUS}
    run = experiment("noise=asymmetric", *settings, runs=RUNS, seed=np.arange(RUNS), **rates)
    by_kernel, by_batch = run.start(run.sample()), run.start(run.sample())
    assert by_kernel._slope is not None
    assert by_kernel._small == training.startswith(("small", "fresh"))
    by_batch._slope = None
    weights = torch.rand(by_kernel.weights.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights[:, 3] = 0
    for engine in (by_kernel, by_batch):
        engine.weights.copy_(weights)
        engine.advance(STEPS)
    assert_close(by_kernel.filters(), by_batch.filters(), 1e-12)
    assert_close(by_kernel.filters(), plain_filters(run, loss, weights), 1e-9)
    moved = (by_kernel.filters() - run.sample().filters).norm() / by_kernel.filters().norm()
    assert moved > 0.1, "it has trained"


def test_a_loss_put_in_place_on_the_way_is_the_one_of_the_next_steps(experiment: Callable[..., TwoLayerExperiment]) -> None:
    """As a strategy does that estimates the transition."""
    run = experiment(
        *BASE, "loss=forward", "noise.rate=0.2", "precision=float64", f"optimizer.lr={RATE}", "optimizer.steps=100"
    )
    by_kernel, by_batch = run.start(run.sample()), run.start(run.sample())
    by_batch.loss = by_kernel.loss = by_kernel.loss.bound(lambda: np.array([[[0.6, 0.4], [0.1, 0.9]]]))
    by_batch._slope = None
    by_kernel.advance(100), by_batch.advance(100)
    assert_close(by_kernel.filters(), by_batch.filters(), 1e-12)
