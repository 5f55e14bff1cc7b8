"""Optimizers beyond descent, moving averages of weights and multiplied labels: against plain PyTorch, limits, and by hand."""

import gc
from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import measured
from scipy.integrate import solve_ivp
from scipy.stats import norm, uniform
from test_span import DEEP, ON_VECTORS, assert_close, assert_engines_agree
from torch.optim import lr_scheduler

import lnt
from lnt.column_names import METRICS
from lnt.errors import ConfigError
from lnt.noise.observed_labels import ObservedLabels, Samples
from lnt.progress import StepCount
from lnt.training.loop import Training, train
from lnt.training.torch_optimizers import Flow, NormalizedDescent, SharpnessAware, Spectral, integrated, polar
from lnt.training.weight_average import AveragedEngine

DATA = (*(key for key in DEEP if "optimizer" not in key), "recordings=12")
ALL = ("model.second_layer=trained", "model.second_layer_rate=0.3", "model.bias=true")
SAM = ("optimizer=sam", "optimizer.lr=0.3", "optimizer.rho=0.2", "optimizer.steps=300")
NORMALIZED = ("optimizer=normalized_gd", "optimizer.steps=300")
MUON = ("optimizer=muon", "optimizer.steps=300")
MEMORY = ("optimizer.momentum=0.7", "optimizer.weight_decay=0.01")
SETTINGS = {
    "sam": SAM,
    "sam, all": (*SAM, *ALL, *MEMORY),
    "sam, all, mini-batches": (*SAM, *ALL, *MEMORY, "optimizer.batch_size=7", "loss=squared", "optimizer.lr=0.05"),
    "sam, mixture, q = 2": (*SAM, "data=mixture", "model.power=2", "optimizer.lr=0.05"),
    "normalized": NORMALIZED,
    "normalized, all, mini-batches": (*NORMALIZED, *ALL, "optimizer.batch_size=7"),
    "muon": MUON,
    "muon, all": (*MUON, *ALL),
    "muon, mixture, mini-batches": (*MUON, "data=mixture", "optimizer.batch_size=7", "optimizer.momentum=0"),
    "muon, gradients of rank 1": (*MUON, "model.activation=linear"),
    "multiplied labels": ("noise=label_multipliers", "~noise.rate", "optimizer.lr=0.3", "optimizer.steps=300"),
    "multiplied once, uniform": (
        *("noise=label_multipliers", "noise.law=uniform", "noise.scale=0.8", "noise.resample=false", "model.bias=true"),
        *("optimizer.lr=0.3", "optimizer.steps=300"),
    ),
}
FLOWS = {"tanh, all": ("model.activation=tanh", *ALL), "on vectors": ON_VECTORS}
# As in test_span.py: that a batch is each alone is tested in both forms below, and faster.
VECTORS = [pytest.param(False, id="by Gram matrix"), pytest.param(True, id="on vectors", marks=pytest.mark.slow)]


def of(setting):
    """The settings of a run: those of noise.rate only where the noise has one."""
    data = [key for key in DATA if "noise.rate" not in key] if "noise=label_multipliers" in setting else DATA
    return [*data, *(key for key in setting if key != "~noise.rate")]


@pytest.mark.parametrize("on_vectors", VECTORS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_span_equals_autograd(experiment, setting, on_vectors):
    overrides = [*of(SETTINGS[setting]), *(ON_VECTORS if on_vectors else ())]
    ours = experiment(*overrides)
    assert ours.settings.engine == "span"
    assert ours.on_vectors().all() == on_vectors
    assert_engines_agree(ours, experiment(*overrides, "engine=autograd"))


@pytest.mark.parametrize("setting", FLOWS)
@pytest.mark.slow
def test_flow_on_coefficients_is_flow_on_filters(experiment, setting):
    """At corners of relu two integrators part, so sigma is smooth here."""
    flow = (*DATA, "optimizer=flow", "optimizer.lr=3", "optimizer.steps=10", "optimizer.tolerance=1e-9")
    flow += ("model.activation=softplus", *FLOWS[setting])
    assert_engines_agree(experiment(*flow), experiment(*flow, "engine=autograd"), 1e-6)


@pytest.mark.parametrize(("activation", "parts", "closer"), [("softplus", (8, 16, 32), 2), ("relu", (8, 128), 10)])
@pytest.mark.slow
def test_descent_at_small_steps_approaches_flow_to_first_order(experiment, activation, parts, closer):
    """At the same time eta * steps, errors are in proportion to eta. Corners of relu, held from both sides, blur that."""
    settings = (*DATA, f"model.activation={activation}", "model.init_std=0.01")
    flow = experiment(*settings, "optimizer=flow", "optimizer.lr=1", "optimizer.steps=10", "optimizer.tolerance=1e-5")
    problem = flow.sample()
    limit, errors = flow.start(problem), []
    limit.advance(10)
    for count in parts:
        descent = experiment(*settings, f"optimizer.lr={1 / count}", f"optimizer.steps={10 * count}").start(problem)
        descent.advance(10 * count)
        errors.append(float((descent.filters() - limit.filters()).norm() / limit.filters().norm()))
    assert errors[-1] < 0.005
    for coarse, fine in pairwise(errors):
        assert coarse / fine > 0.95 * closer


@pytest.mark.parametrize("on_vectors", [False, True])
@pytest.mark.parametrize(
    "setting", [SAM, NORMALIZED, MUON, ("optimizer=flow", "optimizer.steps=20"), SETTINGS["multiplied labels"]]
)
def test_a_batch_of_runs_is_each_alone_and_resumes(experiment, setting, on_vectors):
    overrides = [*of(setting), *ALL, *(ON_VECTORS if on_vectors else ())]
    batch = experiment(*overrides, runs=3, seed=np.arange(3), optimizer__lr=np.array([0.01, 0.03, 0.05]))
    engine, again = batch.start(batch.sample()), batch.start(batch.sample())
    if batch.runs_at_once() > 1:
        engine.advance(20)
        for run in range(3):
            alone = batch.take(np.array([run]))
            one = alone.start(alone.sample())
            one.advance(20)
            assert_close(engine.filters()[run], one.filters()[0], 1e-9)
    else:
        batch = batch.take(np.array([0]))
        engine, again = batch.start(batch.sample()), batch.start(batch.sample())
        engine.advance(20)
    again.advance(7)
    resumed = batch.start(batch.sample())
    resumed.load(again.state())
    resumed.advance(13)
    assert torch.equal(resumed.filters(), engine.filters())


# By hand.


def quadratic(weights):
    """A closure of the loss 2 w1^2 + w2^2 / 2, whose gradient is (4 w1, w2)."""

    def closure():
        weights.grad = None
        (2 * weights[0] ** 2 + weights[1] ** 2 / 2).backward()

    return closure


def at(*values):
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def test_a_step_of_sam_by_hand():
    """w = (3/4, 4): g = (3, 4), |g| = 5; rho = 5/2 leads to (9/4, 6), where the gradient is (9, 6); weight decay adds w / 2."""
    weights = at(0.75, 4.0)
    optimizer = SharpnessAware([weights], 0.5, 2.5, weight_decay=0.5)
    optimizer.step(quadratic(weights))
    assert weights.tolist() == [0.75 - 0.5 * (9 + 0.375), 4 - 0.5 * (6 + 2)]


def test_a_normalized_step_by_hand_and_none_without_a_gradient():
    weights = at(0.75, 4.0)
    NormalizedDescent([weights], 0.5).step(quadratic(weights))
    torch.testing.assert_close(weights.detach(), at(0.75 - 0.3, 4 - 0.4).detach())
    for optimizer in (NormalizedDescent, lambda p, lr: SharpnessAware(p, lr, 0.1)):
        weights = at(0.0, 0.0)
        optimizer([weights], 0.5).step(quadratic(weights))
        assert weights.tolist() == [0, 0]


def test_spectral_steps_by_hand():
    """Gradients G, then 0: the factor of M = G and of M = G / 2 is the same; of a rank 1 matrix u v^T it is u v^T / |u| |v|."""
    matrix, bias = torch.nn.Parameter(torch.zeros(2, 3, dtype=torch.float64)), at(0.0)
    optimizer = Spectral([matrix, bias], 0.1, 0.5)
    turned = torch.tensor([[0.0, 7, 0], [-2, 0, 0]], dtype=torch.float64)
    for gradient in (turned, 0 * turned):
        matrix.grad, bias.grad = gradient, gradient[:1, 1]
        optimizer.step(lambda: None)
    assert_close(matrix.detach(), -0.2 * turned.sign(), 1e-14)
    assert bias.item() == pytest.approx(-0.1 * 7 * 1.5)
    assert_close(polar(torch.tensor([[3.0, 4], [6, 8]])), torch.tensor([[3.0, 4], [6, 8]]) / 125**0.5, 1e-6)
    assert torch.equal(polar(torch.zeros(2, 3)), torch.zeros(2, 3))
    assert polar(torch.full((2, 2), torch.inf)).isnan().all()


def test_the_flow_of_a_quadratic_is_exponential():
    weights = at(2.0, -3.0)
    optimizer = Flow([weights], 0.25, 1e-9)
    for _ in range(2):
        optimizer.step(quadratic(weights))
    np.testing.assert_allclose(weights.detach(), [2 * np.exp(-2), -3 * np.exp(-0.5)], rtol=1e-7)


def test_an_integrator_without_a_way_says_nan():
    assert np.isnan(integrated(lambda y: y * np.nan, np.ones(2), [1, 1], 1e-4)[0]).all()
    assert integrated(lambda y: 0 * y, np.zeros(3), [1, 2], 1e-4)[0].tolist() == [0, 0, 0]


def test_an_integrator_finds_the_first_time_at_which_levels_rise_above_0():
    """The circle y = (cos 4 t, sin 4 t): y_2 - 1/2 at pi / 24, y_1 at once, -y_1 at pi / 8, y_2 - 2 never."""
    levels = [lambda y: y[1] - 0.5, lambda y: y[0], lambda y: -y[0], lambda y: y[1] - 2]
    end, times = integrated(lambda y: 4 * np.array([-y[1], y[0]]), np.array([1.0, 0]), [2], 1e-9, levels)
    np.testing.assert_allclose(end, [np.cos(4), np.sin(4)], rtol=1e-7)
    np.testing.assert_allclose(times, [np.pi / 24, 0, np.pi / 8, np.nan], rtol=1e-7)


def stage_times(one, problem):
    """Times of both stages by another integrator, of order 8, on explicit vectors, from the accuracy at 4000 times."""
    samples, observed, labels, start = (
        part.numpy() for part in (problem.samples(0), problem.observed.at(0)[0], problem.labels[0], problem.filters[0])
    )
    sign = np.repeat([1.0, -1.0], len(start) // 2) / (len(start) // 2)

    def margins(flat):
        z = samples @ flat.reshape(start.shape).T  # [n, patches, P]
        return observed * (np.logaddexp(0, z).sum(1) @ sign), z

    def slope(time, flat):
        margin, z = margins(flat)
        pull = observed / (1 + np.exp(margin)) / len(samples)  # -l'(z) y~ / n
        moves = sign * pull[:, None, None] / (1 + np.exp(-z))  # [n, patches, P]
        return np.einsum("ikp,ikd->pd", moves, samples).ravel()

    end = float(one.step_size()[0] * one.total_steps())
    path = solve_ivp(slope, (0, end), start.ravel(), "DOP853", rtol=1e-10, atol=1e-12, dense_output=True).sol

    def reached(time, kind):
        return (margins(path(time))[0][kind] > 0).mean() >= 0.99

    def first(kind):
        low, high = next(pair for pair in pairwise(np.linspace(0, end, 4000)) if reached(pair[1], kind))
        for _ in range(40):
            low, high = (low, (low + high) / 2) if reached((low + high) / 2, kind) else ((low + high) / 2, high)
        return high

    return [first(observed == labels), first(observed != labels)]


SMOOTH_FLOW = ("model.activation=softplus", "noise.rate=0.3", "optimizer=flow", "optimizer.tolerance=1e-6")


@pytest.mark.slow
def test_stages_of_the_flow_end_when_another_integrator_says(experiment):
    """Whatever the steps are that it is recorded at; a run that stops and goes on has the times of one that does not."""
    runs = [experiment(*DATA, *SMOOTH_FLOW, f"optimizer.lr={12 / steps}", f"optimizer.steps={steps}") for steps in (1, 6, 16)]
    expected = stage_times(runs[0], runs[0].sample())
    assert 0 < expected[0] < expected[1] < 12
    for one in runs:
        training, states = Training.of(one), []
        training.run(StepCount(), lambda state, states=states: states.append(deepcopy(state())))
        np.testing.assert_allclose(training.curves(0).stage_times[:, 0], expected, rtol=1e-4)
    resumed = Training.of(runs[-1])
    resumed.load(states[len(states) // 2])
    resumed.run(StepCount())
    np.testing.assert_array_equal(resumed.curves(0).stage_times, training.curves(0).stage_times)


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "tolerance", "most"), [("softplus", 1e-5, 2), ("relu", 1e-5, 6)])
def test_stages_of_descent_at_small_steps_end_when_those_of_the_flow_do(experiment, activation, tolerance, most):
    """eta times the first step that has reached a stage is late by at most `most` times eta, whatever eta is."""
    settings = (*DATA, f"model.activation={activation}", "model.init_std=0.01", "noise.rate=0.3")
    flow = experiment(*settings, "optimizer=flow", "optimizer.lr=3", "optimizer.steps=10", f"optimizer.tolerance={tolerance}")
    times = train(flow).stage_times[:, 0]
    assert np.isfinite(times).all()
    for eta in (0.25, 0.0625, 0.015625):
        steps = int(30 / eta)
        curves = train(experiment(*settings, f"optimizer.lr={eta}", f"optimizer.steps={steps}", f"recordings={steps + 1}"))
        accuracies = curves.values[:, [METRICS.index(name) for name in ("clean_accuracy", "noisy_accuracy")], 0]
        late = eta * (accuracies >= 0.99).argmax(0) - times
        assert (abs(late) < most * eta).all(), late


def test_stage_times_are_those_of_the_network_that_is_measured_and_of_flow_alone(experiment):
    flow = ("model.activation=softplus", "optimizer=flow", "optimizer.lr=0.1", "optimizer.steps=1")
    assert train(experiment(*DATA, *flow)).stage_times.shape == (2, 1)
    for other in ((*flow, "strategy=weight_average"), (*flow, "engine=autograd"), ("optimizer.steps=3",)):
        assert train(experiment(*DATA, *other)).stage_times is None


def test_diverged_runs_leave_the_others_alone(experiment):
    """A run of infinite filters beside one that trains: a decomposition raises on what is not finite."""
    batch = experiment(*DATA, *MUON, runs=2, seed=np.arange(2))
    engine, other = batch.start(batch.sample()), batch.start(batch.sample())
    engine.initial[0] = torch.inf
    engine.advance(3), other.advance(3)
    assert not engine.span[0].isfinite().all()
    assert_close(engine.span[1], other.span[1], 1e-12)


# Schedules, and training that ends where all labels are fitted.

SCHEDULERS = {
    "constant": lambda optimizer, steps: lr_scheduler.ConstantLR(optimizer, 1),
    "step optimizer.milestones=[0.3,0.7]": lambda optimizer, steps: lr_scheduler.MultiStepLR(
        optimizer, [-(-3 * steps // 10), -(-7 * steps // 10)]
    ),
    "cosine": lr_scheduler.CosineAnnealingLR,
    "one_cycle": lambda optimizer, steps: lr_scheduler.OneCycleLR(optimizer, 1, total_steps=steps, cycle_momentum=False),
}


def torch_factors(schedule, steps):
    """What PyTorch's own scheduler makes of the step size 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    scheduler, factors = SCHEDULERS[schedule](optimizer, steps), []
    for step in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return factors


def plain_loop(kind, samples, observed, start, rates, until_fitted=False, numbers=(0.0, 0.0, 0.0), sigma=torch.relu):
    """Filters [2 m, D] after a step of each of the rates, and the steps taken; numbers are rho, momentum, weight decay."""
    weights, memory, (rho, momentum, decay) = start, torch.zeros_like(start), numbers
    second = torch.ones(len(start)).double() / (len(start) // 2)
    second[len(start) // 2 :] *= -1

    def margins(filters):
        return observed * (sigma(samples @ filters.T).sum(1) @ second)

    def slope(filters):
        point = filters.detach().requires_grad_()
        return torch.autograd.grad(torch.log1p(torch.exp(-margins(point))).mean(), point)[0]

    for step, rate in enumerate(rates):
        if until_fitted and (margins(weights) > 0).all():
            return weights, step
        gradient = slope(weights)
        if kind == "normalized_gd":
            weights = weights - rate * gradient / gradient.norm()
            continue
        if kind == "sam":
            gradient = slope(weights + rho * gradient / gradient.norm()) + decay * weights
        memory = momentum * memory + gradient
        if kind == "muon":
            u, _, v = torch.linalg.svd(memory, full_matrices=False)
            weights = weights - rate * u @ v
        else:
            weights = weights - rate * memory
    return weights, len(rates)


RULES = {
    "sam": (0.3, ("optimizer.rho=0.2", "optimizer.momentum=0.6", "optimizer.weight_decay=0.01"), (0.2, 0.6, 0.01)),
    "normalized_gd": (0.1, (), (0, 0, 0)),
    "muon": (0.02, ("optimizer.momentum=0.6",), (0, 0.6, 0)),
}


@pytest.mark.parametrize("engine", ["span", pytest.param("autograd", marks=pytest.mark.slow)])
@pytest.mark.parametrize("until", ["end", "fitted"])
@pytest.mark.parametrize("schedule", SCHEDULERS)
@pytest.mark.parametrize("kind", RULES)
def test_schedules_and_ends_are_those_of_a_plain_loop(experiment, kind, schedule, until, engine):
    """The labels are fitted long before the last of 60 steps, and the filters stand still from there."""
    rate, settings, numbers = RULES[kind]
    chosen = (f"optimizer={kind}", f"optimizer.lr={rate}", "optimizer.steps=60", f"optimizer.until={until}", *settings)
    one = experiment(*DATA, *chosen, *f"optimizer.schedule={schedule}".split(), f"engine={engine}")
    problem = one.sample()
    trained = one.start(problem)
    trained.advance(25), trained.advance(35)
    rates = [rate * factor for factor in torch_factors(schedule, 60)]
    given = problem.samples(0), problem.observed.at(0)[0], problem.filters[0]
    filters, steps = plain_loop(kind, *given, rates, until == "fitted", numbers)
    found = trained.network.filters.detach() if engine == "autograd" else trained.filters()[0]
    assert_close(found, filters, 1e-9)
    assert (steps < 60) == (until == "fitted")


@pytest.mark.parametrize("kind", ["sam", "normalized_gd", "muon"])
def test_runs_that_end_leave_the_others_of_their_batch_alone(experiment, kind):
    """Each ends at its own step; with its own rho, and a memory that a schedule rescales after others have left."""
    rate, settings, numbers = RULES[kind]
    chosen = (f"optimizer={kind}", "optimizer.steps=60", "optimizer.until=fitted", "optimizer.schedule=cosine", *settings)
    sizes, rhos = rate * np.array([1, 0.2, 0.5, 0.05]), np.array([0.2, 0.1, 0.4, 0.3])
    own = {"optimizer__lr": sizes} | ({"optimizer__rho": rhos} if kind == "sam" else {})
    batch = experiment(*DATA, *chosen, runs=4, seed=np.arange(4), **own)
    problem = batch.sample()
    engine, ends = batch.start(problem), []
    for _ in range(12):
        engine.advance(5)
    for run in range(4):
        rates = [sizes[run] * factor for factor in torch_factors("cosine", 60)]
        given = problem.samples(run), problem.observed.at(0)[run], problem.filters[run]
        filters, steps = plain_loop(kind, *given, rates, True, (rhos[run], *numbers[1:]))
        assert_close(engine.filters()[run], filters, 1e-9)
        ends.append(steps)
    assert len(set(ends)) > 2, ends
    assert min(ends) < 30


def test_sam_ends_where_the_weights_fit_the_labels_not_the_point_ahead(experiment):
    """With sigma = z^2 a long way ahead turns the sign of the outputs."""
    settings = ("optimizer=sam", "optimizer.rho=2", "optimizer.lr=0.02", "optimizer.steps=20", "optimizer.until=fitted")
    small = (
        "data.n_train=2",
        "data.dim=10",
        "data.n_test=5",
        "model.width=1",
        "model.activation=quadratic",
        "model.init_std=0.3",
    )
    batch = experiment(*small, *settings, "precision=float64", runs=30, seed=np.arange(30))
    problem = batch.sample()
    engine = batch.start(problem)
    engine.advance(20)
    for run in range(30):
        given = problem.samples(run), problem.observed.at(0)[run], problem.filters[run]
        filters, _ = plain_loop("sam", *given, [0.02] * 20, True, (2.0, 0, 0), torch.square)
        assert_close(engine.filters()[run], filters, 1e-9)


@pytest.mark.parametrize("engine", ["span", "autograd"])
def test_the_flow_ends_at_the_first_step_that_finds_all_labels_fitted(experiment, engine):
    """Against another integrator, of order 8; sigma is smooth, or the two would part at its corners."""
    flow = ("optimizer=flow", "optimizer.lr=0.8", "optimizer.steps=12", "optimizer.tolerance=1e-9", "optimizer.until=fitted")
    one = experiment(*DATA, *flow, "model.activation=softplus", f"engine={engine}")
    problem = one.sample()
    trained = one.start(problem)
    trained.advance(4), trained.advance(8)
    samples, observed, start = problem.samples(0), problem.observed.at(0)[0], problem.filters[0]
    sign = torch.tensor([1.0] * 4 + [-1.0] * 4).double() / 4

    def margins(weights):
        return observed * (torch.nn.functional.softplus(samples @ weights.T).sum(1) @ sign)

    def slope(time, flat):
        weights = torch.tensor(flat).view(start.shape).requires_grad_()
        return -torch.autograd.grad(torch.log1p(torch.exp(-margins(weights))).mean(), weights)[0].flatten().numpy()

    flat, steps = start.flatten().numpy(), 0
    while not (margins(torch.tensor(flat).view(start.shape)) > 0).all():
        flat, steps = solve_ivp(slope, (0, 0.8), flat, "DOP853", rtol=1e-10, atol=1e-12).y[:, -1], steps + 1
    assert 1 < steps < 11
    found = trained.network.filters.detach() if engine == "autograd" else trained.filters()[0]
    assert_close(found.flatten(), flat, 1e-6)


# Networks on images.


@pytest.mark.parametrize("kind", ["sam", "normalized_gd"])
@pytest.mark.parametrize("batch", [(), ("optimizer.batch_size=20", "optimizer.schedule=cosine")])
def test_networks_on_images_train_as_one_writes_it(experiment, kind, batch):
    """Written out, with torch.autograd.grad and lists of gradients."""
    factors = torch_factors("cosine" if batch else "constant", 6)
    settings = ("data=digits", "data.classes=[3,8]", "data.n_train=40", "data.n_test=30", "model.width=4", "precision=float64")
    ours = experiment(*settings, f"optimizer={kind}", "optimizer.steps=6", "optimizer.lr=0.05", *batch)
    problem = ours.sample()
    engine, (network,) = ours.start(problem), [network.double() for network in problem.networks()]
    engine.advance(6)
    weights, batches = list(network.parameters()), ours.batches()
    for step in range(6):
        seen = torch.arange(40) if batches is None else batches.at(step)[0]
        images, labels = problem.train.at(problem.index)[0, seen], problem.observed.at(step)[0, seen]

        def slope(images=images, labels=labels):
            return torch.autograd.grad(torch.nn.functional.cross_entropy(network(images), labels), weights)

        gradients = slope()
        size = torch.cat([part.flatten() for part in gradients]).norm()
        with torch.no_grad():
            if kind == "sam":
                ahead = [0.05 * part / size for part in gradients]
                [weight.add_(part) for weight, part in zip(weights, ahead, strict=True)]
                with torch.enable_grad():
                    moves = slope()
                [weight.sub_(part) for weight, part in zip(weights, ahead, strict=True)]
            else:
                moves = [part / size for part in gradients]
            [weight.sub_(0.05 * factors[step] * part) for weight, part in zip(weights, moves, strict=True)]
    for ours_now, oracle in zip(engine.parameters.values(), weights, strict=True):
        assert_close(ours_now.detach(), oracle.detach(), 1e-10)


@pytest.mark.slow
def test_what_does_not_combine_is_refused_in_one_line(experiment):
    digits = ("data=digits", "model=small_cnn")
    for overrides, said in (
        ((*digits, "optimizer=muon"), "optimizer=muon: is for signal-noise data; use sgd"),
        ((*digits, "optimizer=flow"), "optimizer=flow: is for signal-noise data; use sgd"),
        (("data=digits", "model=resnet18", "optimizer=sam"), "optimizer=sam: passes twice"),
        (
            (*digits, "data.n_train=40", "optimizer=sam", "optimizer.batch_size=20", "optimizer.steps=7"),
            "optimizer.steps=7: must be whole epochs of 2 steps on images",
        ),
        ((*digits, "data.classes=[3,8]", "noise=label_multipliers"), "noise=label_multipliers: multiplies labels -1 and"),
        (("optimizer=sam", "optimizer.rho=-1"), "optimizer.rho=-1.0: must be at least 0"),
        (("optimizer=flow", "optimizer.tolerance=1"), "optimizer.tolerance=1.0: must lie between"),
        (("optimizer=flow", "optimizer.t1_steps=40", "optimizer.lr=1"), "exactly one of the two"),
        (
            ("optimizer=sam", "optimizer.until=fitted", "optimizer.batch_size=5"),
            "optimizer.until=fitted: is for batch_size=null",
        ),
        (("optimizer=muon", "optimizer.until=never"), "optimizer.until=never: must be one of end, fitted"),
        (("optimizer=muon", "optimizer.schedule=linear"), "optimizer.schedule=linear: must be one of constant, step"),
        (("optimizer=normalized_gd", "optimizer.milestones=[0.5]"), "optimizer.milestones=[0.5]: are those of schedule=step"),
        ((*digits, "optimizer=sam", "optimizer.until=fitted"), "optimizer.until=fitted: is for signal-noise data"),
        (("optimizer=flow", "optimizer.until=fitted", "data.mixup=1"), "data.mixup=1.0: is for optimizer.until=end"),
        (("optimizer=muon", "optimizer.momentum=1"), r"optimizer.momentum=1.0: must lie in [0, 1)"),
        (("noise=label_multipliers", "noise.law=cauchy"), "noise.law=cauchy: must be normal or uniform"),
        (("noise=label_multipliers", "noise.scale=0"), "noise.scale=0.0: must be positive"),
        (("optimizer=muon", "strategy=small_loss"), "strategy.t1=0.2: Stage I has a predicted length"),
        (("optimizer.until=fitted", "strategy=weight_average"), "strategy=weight_average: is for optimizer.until=end"),
        (("strategy=weight_average", "strategy.start=2000"), "strategy.start=2000: must be below the number of steps, 2000"),
    ):
        with pytest.raises(ConfigError) as error:
            experiment(*overrides).check()
        assert said in str(error.value)


# Moving averages.

AVERAGED = ("strategy=weight_average", "strategy.decay=0.9", "strategy.start=5")
ENGINES = {
    "span": (*DATA, *ALL, *MEMORY, "optimizer.lr=0.3", "optimizer.steps=30"),
    "on vectors": (*DATA, *ON_VECTORS, *MEMORY, "optimizer.lr=0.3", "optimizer.steps=30"),
    "autograd": (*DATA, *ALL, *MEMORY, "optimizer.lr=0.3", "optimizer.steps=30", "engine=autograd"),
    "images": (
        *("data=digits", "data.classes=[3,8]", "data.n_train=40", "data.n_test=30", "model.width=4", "precision=float64"),
        *("optimizer.epochs=15", "optimizer.batch_size=20"),
    ),
}


@pytest.mark.parametrize("kind", ENGINES)
def test_snapshots_show_the_average_written_out(experiment, kind):
    """sum_t decay^(T - t) (1 - decay) w(t), with what is left on w(start); training goes on as without it."""
    one = experiment(*ENGINES[kind])
    averaged, plain, shown = AveragedEngine(one.start(one.sample()), 0.9, 5), one.start(one.sample()), one.start(one.sample())
    history = [{name: value.clone() for name, value in plain.trained().items()}]
    for _ in range(30):
        plain.advance(1)
        history.append({name: value.clone() for name, value in plain.trained().items()})
    averaged.advance(9), averaged.snapshot(), averaged.advance(21)
    found = averaged.snapshot()
    for name, value in averaged.trained().items():
        assert torch.equal(value, plain.trained()[name]), "the average changes no training"
    shares = np.r_[0.9**25, 0.1 * 0.9 ** np.arange(24, -1, -1)]
    assert shares.sum() == pytest.approx(1)
    for name, value in shown.trained().items():
        value.detach().copy_(sum(share * state[name] for share, state in zip(shares, history[5:], strict=True)))
    shown.step = 30
    expected = shown.snapshot()
    assert_close(found.losses.detach(), expected.losses.detach(), 1e-10)
    assert not np.allclose(found.losses.detach(), plain.snapshot().losses.detach(), rtol=1e-3)
    if found.coefficients is not None:
        assert_close(found.coefficients.rho, expected.coefficients.rho, 1e-10)
    if found.parameters is not None:
        for name, value in found.parameters.items():
            assert_close(value, expected.parameters[name], 1e-10)


def bytes_of_tensors():
    """Of all tensors that are alive in this process; several views of one memory count once."""
    storages = [found.untyped_storage() for found in gc.get_objects() if issubclass(type(found), torch.Tensor)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize("kind", ENGINES)
def test_the_memory_of_an_average_is_foreseen(experiment, monkeypatch, kind):
    """Measured while the average is shown, when there are most copies of the weights."""
    settings = [key for key in ENGINES[kind] if "width" not in key and "precision" not in key]
    settings += ["model.width=30", "data.n_train=30"]  # 32 patches, which fill whole vectors of the processor
    one = experiment(*settings, *AVERAGED)
    engine, seen = one.start(one.sample()), []
    before, shown = bytes_of_tensors(), engine.snapshot
    monkeypatch.setattr(engine, "snapshot", lambda: seen.append(bytes_of_tensors()) or shown())
    AveragedEngine(engine, 0.9, 5).snapshot()
    (without, with_average) = (experiment(*settings, *extra).bytes_per_run() for extra in ((), AVERAGED))
    foreseen = np.max(with_average) - np.max(without)
    assert seen[0] - before > 10_000
    assert seen[0] - before <= foreseen <= 1.1 * (seen[0] - before)


def test_an_average_is_recorded_and_goes_on_after_a_stop(experiment):
    whole, states = train(experiment(*ENGINES["span"], *AVERAGED)), []
    Training.of(experiment(*ENGINES["span"], *AVERAGED)).run(StepCount(), lambda state: states.append(deepcopy(state())))
    resumed = Training.of(experiment(*ENGINES["span"], *AVERAGED))
    resumed.load(states[3 * len(states) // 4])
    assert 5 < resumed.step < 30
    resumed.run(StepCount())
    np.testing.assert_array_equal(resumed.values, whole.values)
    none = train(experiment(*ENGINES["span"]))
    losses = [curves.values[:, METRICS.index("train_loss")] for curves in (whole, none)]
    np.testing.assert_array_equal(losses[0][whole.steps <= 5], losses[1][whole.steps <= 5])
    assert not np.isclose(losses[0][-1], losses[1][-1], rtol=1e-3)


# Multiplied labels.


@pytest.mark.parametrize(("law", "scale"), [("normal", 1.0), ("normal", 0.5), ("uniform", 1.0), ("uniform", 0.4)])
def test_multipliers_have_their_law(law, scale):
    """Against scipy.stats: mean 1, the standard deviation `scale`, and the share below 0 that the rate says."""
    noise, count = lnt.LabelMultipliers(law=law, scale=scale), 20000
    truth = Samples(np.arange(count)[None] % 2)
    labels = ObservedLabels(noise, truth, np.zeros(1, int), lambda classes: torch.tensor(1.0 - 2 * classes)).at(3)[0]
    multipliers = labels.numpy() * (1 - 2 * truth.labels[0])
    reach = 3**0.5 * scale
    expected = norm(1, scale) if law == "normal" else uniform(1 - reach, 2 * reach)
    quantiles = np.linspace(0.01, 0.99, 21)
    np.testing.assert_allclose(np.quantile(multipliers, quantiles), expected.ppf(quantiles), atol=0.06 * scale)
    assert noise.flip_rate(truth)[0] == pytest.approx(expected.cdf(0))
    assert (multipliers < 0).mean() == pytest.approx(expected.cdf(0), abs=0.01)


def test_what_is_measured_of_multiplied_labels_takes_their_signs(experiment):
    one = experiment(*of(SETTINGS["multiplied labels"]))
    problem = one.sample()
    engine = one.start(problem)
    values = measured([engine], problem, np.array([20]))[0, :, 0]
    multiplied = problem.observed.at(20)
    assert not torch.equal(multiplied, multiplied.sign())
    wrong = (multiplied.sign() != problem.labels).double().mean()
    assert values[METRICS.index("realised_noise_rate")] == pytest.approx(float(wrong))
    now = engine.snapshot()
    assert torch.equal(now.observed, multiplied.sign())
    outputs = torch.log(1 / (torch.exp(now.losses) - 1)) / multiplied  # of log(1 + exp(-eps y f))
    assert torch.equal(outputs.sign(), now.predicted)
