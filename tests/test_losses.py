"""Losses: one definition each, and both engines train with any of them alike."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from test_span import assert_engines_agree

from lnt.column_names import METRICS
from lnt.errors import ConfigError
from lnt.losses import (
    Backward,
    BackwardSquared,
    Exponential,
    Forward,
    GeneralisedCrossEntropy,
    Hinge,
    LabelSmoothing,
    Logistic,
    Loss,
    MeanAbsoluteError,
    Squared,
    SymmetricCrossEntropy,
)
from lnt.training.loop import train
from lnt.two_layer.sampled_problem import sample_problem

SMALL = ("data.n_train=24", "data.n_test=50", "data.dim=80", "model.width=4", "optimizer.steps=120", "precision=float64")


@dataclass(frozen=True)
class Decaying(Loss):
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
    torch.testing.assert_close(Decaying(0.7).minus_slope(margins), 0.7 * torch.exp(-0.7 * margins))
    torch.testing.assert_close(Loss.minus_slope(Logistic(), margins), Logistic().minus_slope(margins))
    assert Decaying().at_zero == 1


def explicit(*arguments):
    """Problems on vectors of length d for either engine: reduced coordinates are other vectors of the same law."""
    *rest, _, like = arguments
    return sample_problem(*rest, False, like)


@pytest.mark.parametrize("power", [1, 2])
def test_both_engines_train_alike_with_a_loss_of_ones_own(experiment, monkeypatch, power):
    monkeypatch.setattr("lnt.two_layer.two_layer_experiment.sample_problem", explicit)
    settings = (*SMALL, f"model.power={power}", "model.init_std=0.05")
    own = (f"++loss._target_={__name__}.Decaying", "++loss.rate=0.5")
    span, autograd = (train(experiment(*settings, *own, f"engine={engine}")) for engine in ("span", "autograd"))
    np.testing.assert_allclose(span.values, autograd.values, rtol=1e-8, atol=1e-9)
    logistic = train(experiment(*settings)).values
    assert np.abs(span.values[-1] - logistic[-1])[METRICS.index("signal_coef")] > 1e-3, "another loss is another training"


def test_a_loss_of_margins_only_is_refused_on_images(experiment):
    with pytest.raises(ConfigError, match="it has no form for K classes"):
        experiment("data=digits", "data.n_train=8", f"++loss._target_={__name__}.Decaying")


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
        slope = Decaying(1.0).minus_slope(margins)
    np.testing.assert_allclose(slope, [[1, math.exp(-1)], [math.exp(-2), math.exp(1)]])
    assert not slope.requires_grad
    assert not margins.requires_grad


def test_promises_of_a_loss_are_not_inherited():
    """The slope and the cross entropy are those of the logistic loss."""

    class Other(Logistic):
        def value(self, margins):
            return margins**2

    class Promised(Logistic):
        slope = Logistic.slope

    assert [kind().slope() is None for kind in (Logistic, Other, Promised)] == [False, True, False]
    margins = torch.tensor([[-1.0, 0.5]])
    np.testing.assert_allclose(Other().pull(margins, torch.ones_like(margins)), [[2, -1]])
    assert (Logistic.for_classes, Decaying.for_classes) == (True, False)
    with pytest.raises(NotImplementedError, match="Decaying is a loss of margins only; for_classes promises of_logits"):
        Decaying().of_logits(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))
    for method in (Decaying().remembered, Decaying().penalty):
        with pytest.raises(NotImplementedError, match="Decaying has no targets; remembers promises remembered and penalty"):
            method(torch.zeros(1, 2), torch.zeros(1, 2))


UNEVEN = np.array([[[0.7, 0.3], [0.1, 0.9]]])  # T[c, k], class 0 is +1
CORRECTIONS = tuple(kind().bound(lambda: UNEVEN) for kind in (Forward, Backward))
OF_MARGINS = (
    *(Logistic(), Hinge(), Exponential(), Squared(), MeanAbsoluteError(), GeneralisedCrossEntropy(0.7)),
    *(SymmetricCrossEntropy(0.1, 1.0), LabelSmoothing(0.2)),
)
FOR_CLASSES = tuple(loss for loss in (*OF_MARGINS, *CORRECTIONS) if loss.for_classes)
# At z = log 3: p = 3/4, exp(-z) = 1/3. By hand, with the formulas of the papers.
LOG3 = math.log(3)
AT_LOG3 = {
    "hinge": 0,
    "exponential": 1 / 3,
    "squared": (1 - LOG3) ** 2 / 2,
    "mae": 0.5,
    "gce": (1 - 0.75**0.7) / 0.7,
    "sce": -0.1 * math.log(0.75) + 4 * 0.25,
    "label_smoothing": -0.9 * math.log(0.75) - 0.1 * math.log(0.25),
    "logistic": -math.log(0.75),
}


@pytest.mark.parametrize("loss", OF_MARGINS, ids=lambda loss: loss.option)
def test_each_loss_at_a_point_that_is_known(loss):
    margins = torch.tensor([LOG3], dtype=torch.float64)
    np.testing.assert_allclose(loss.value(margins), [AT_LOG3[loss.option]], atol=1e-15)


def test_the_corrections_at_a_point_that_is_known():
    """p = 3/4 of the observed class; T^-1 = [[0.9, -0.3], [-0.1, 0.7]] / 0.6."""
    margins, observed = torch.full((1, 2), LOG3, dtype=torch.float64), torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    forward, backward = CORRECTIONS
    wanted = [-math.log(0.7 * 0.75 + 0.1 * 0.25), -math.log(0.9 * 0.75 + 0.3 * 0.25)]
    np.testing.assert_allclose(forward.of(margins, observed), [wanted])
    right, wrong = -math.log(0.75), -math.log(0.25)
    wanted = [(0.9 * right - 0.3 * wrong) / 0.6, (0.7 * right - 0.1 * wrong) / 0.6]
    np.testing.assert_allclose(backward.of(margins, observed), [wanted])


def test_the_corrected_squared_loss_at_a_point_that_is_known():
    """Margin 3: (1 - 3)^2 / 2 = 2 of the observed class, (1 + 3)^2 / 2 = 8 of the other; T^-1 as above."""
    loss, margins = BackwardSquared().bound(lambda: UNEVEN), torch.full((1, 2), 3.0, dtype=torch.float64)
    found = loss.of(margins, torch.tensor([[1.0, -1.0]], dtype=torch.float64))
    np.testing.assert_allclose(found, [[(0.9 * 2 - 0.3 * 8) / 0.6, (0.7 * 2 - 0.1 * 8) / 0.6]])


def test_descent_on_the_corrected_squared_loss_ends_at_ridge_regression(experiment):
    """A linear network w+ - w- with weight decay 2 g is ridge regression with g, on the targets of the docstring."""
    settings = ("data=mixture", "data.n_train=12", "data.dim=50", "noise=asymmetric", "loss=backward_squared")
    network = ("model.width=1", "model.activation=linear", "model.init_std=0", "precision=float64")
    run = experiment(*settings, *network, "optimizer.lr=0.01", "optimizer.steps=4000", "optimizer.weight_decay=0.6")
    problem = run.sample()
    engine = run.start(problem)
    engine.advance(4000)
    observed, x = problem.observed.at(0)[0].numpy(), problem.patches[0].numpy()
    plus, minus = 0.4, 0.1
    target = observed * (1 + observed * (plus - minus)) / (1 - plus - minus)
    wanted = np.linalg.solve(x.T @ x / 12 + 0.3 * np.eye(x.shape[1]), x.T @ target / 12)
    found = engine.filters()[0].numpy()
    np.testing.assert_allclose(found[0] - found[1], wanted, atol=1e-8)


def test_the_backward_correction_is_the_cross_entropy_on_average_over_the_noise():
    f = torch.linspace(-3, 3, 7, dtype=torch.float64)[None]
    for true, chances in ((1, UNEVEN[0, 0]), (-1, UNEVEN[0, 1])):
        mean = sum(
            chance * CORRECTIONS[1].of(observed * f, torch.full_like(f, observed))
            for observed, chance in zip((1.0, -1.0), chances, strict=True)
        )
        torch.testing.assert_close(mean, Logistic().value(true * f))


@pytest.mark.parametrize("loss", [*OF_MARGINS, *CORRECTIONS], ids=lambda loss: loss.option)
def test_each_slope_is_the_derivative_of_its_value(loss):
    margins = torch.tensor(np.random.default_rng(0).normal(0, 3, (2, 50)), requires_grad=True)
    observed = torch.ones_like(margins)
    observed[1] = -1
    (slope,) = torch.autograd.grad(loss.of(margins, observed).sum(), margins)
    torch.testing.assert_close(loss.pull(margins.detach(), observed), -slope)


@pytest.mark.parametrize(
    "loss", [loss for loss in (*OF_MARGINS, *CORRECTIONS) if loss.for_classes], ids=lambda loss: loss.option
)
def test_with_two_classes_both_forms_are_one_loss(loss):
    """Class 0 is +1."""
    margins = torch.linspace(-4, 4, 9, dtype=torch.float64)
    for number, observed in enumerate((1.0, -1.0)):
        logits = torch.zeros(9, 2, dtype=torch.float64)
        logits[:, number] = margins
        found = loss.of_logits(logits, torch.full((9,), number))
        torch.testing.assert_close(found, loss.of(margins[None], torch.full((1, 9), observed, dtype=torch.float64))[0])


def test_corrections_of_several_runs_use_each_its_own_matrix():
    both = np.stack([UNEVEN[0], np.eye(2)])
    logits, labels = torch.randn(6, 2, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 1, 0])
    for kind in (Forward, Backward):
        together = kind().bound(lambda: both).of_logits(logits, labels)
        for run in range(2):
            alone = (
                kind()
                .bound(lambda run=run: both[run : run + 1])
                .of_logits(logits[3 * run : 3 * run + 3], labels[3 * run : 3 * run + 3])
            )
            torch.testing.assert_close(together[3 * run : 3 * run + 3], alone)


OPTIONS = ("hinge", "exponential", "squared", "mae", "gce", "sce", "label_smoothing", "forward", "backward", "backward_squared")


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param((), id="full"),
        pytest.param(("optimizer=sgd", "optimizer.batch_size=7", "optimizer.epochs=75"), id="batches", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("option", OPTIONS)
def test_both_engines_train_alike_with_every_loss(experiment, option, batch):
    """300 steps, with biases and momentum; rates differ between the classes."""
    steps = () if batch else ("optimizer.steps=300",)
    settings = ("noise=asymmetric", f"loss={option}", "model.bias=true", "optimizer.momentum=0.5", "optimizer.lr=0.05")
    settings = [*(key for key in SMALL if "optimizer" not in key), *batch, *steps, *settings]
    assert_engines_agree(experiment(*settings), experiment(*settings, "engine=autograd"))


@pytest.mark.parametrize("option", ["mae", "gce", "sce", "label_smoothing", "forward", "backward"])
def test_networks_on_images_train_with_every_loss_of_classes(experiment, option):
    """Three classes, and two runs of different noise rates, each as alone."""
    settings = ("data=digits", "data.classes=[3,5,8]", "data.n_train=60", "data.n_test=30", f"loss={option}")
    small = ("model.width=4", "optimizer.epochs=3", "optimizer.lr=0.1", "optimizer.batch_size=20", "precision=float64")
    rates = np.array([0.1, 0.4])
    both = experiment(*settings, *small, runs=2, noise__rate=rates)
    together = train(both).values
    assert together[-1, 0, 0] != together[0, 0, 0]
    for run in range(2):
        alone = train(both.take(np.array([run]))).values
        np.testing.assert_allclose(together[..., run], alone[..., 0], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("loss=gce", "loss.q=0"), "loss.q=0"),
        (("loss=sce", "loss.a=0", "loss.b=0"), "must not both be 0"),
        (("loss=label_smoothing", "loss.eps=1"), "loss.eps=1"),
        (("loss=forward", "loss.matrix=[[0.9,0.2],[0,1]]"), "rows of probabilities"),
        (("loss=backward", "loss.matrix=[[0.5,0.5],[0.5,0.5]]"), "must have an inverse"),
        (("loss=forward", "loss.matrix=[[0.9,0.1]]"), "must be square"),
        (("data=digits", "loss=hinge"), "it has no form for K classes"),
        (("noise=asymmetric", "noise.rate_positive=0.5", "noise.rate_negative=0.5", "loss=backward"), "has no inverse"),
        (("data=digits", "data.classes=[1,2,3]", "loss=forward", "loss.matrix=[[0.8,0.2],[0,1]]"), "must have 3 rows"),
    ],
)
def test_losses_that_make_no_sense_are_refused(experiment, overrides, message):
    with pytest.raises(ConfigError, match=message.replace("[", "\\[")):
        experiment(*overrides)


def test_the_matrix_of_a_correction_is_that_of_the_noise_unless_it_is_given(experiment):
    known = experiment("noise=asymmetric", "loss=forward").bound_loss().transition
    np.testing.assert_allclose(known, [[[0.6, 0.4], [0.1, 0.9]]])
    given = experiment("noise=asymmetric", "loss=forward", "loss.matrix=[[0.8,0.2],[0,1]]").bound_loss().transition
    np.testing.assert_allclose(given, [[[0.8, 0.2], [0, 1]]])


def test_a_corrected_loss_is_small_where_a_sample_is_predicted_as_labelled(experiment):
    """Its loss at margin 0 depends on the label, where the classes have different rates."""
    one = experiment(*SMALL, "noise=asymmetric", "noise.rate_positive=0.05", "noise.rate_negative=0.6", "loss=forward")
    curves = train(one)
    small = METRICS.index("selection_recall"), METRICS.index("clean_accuracy")
    np.testing.assert_allclose(curves.values[1:, small[0]], curves.values[1:, small[1]])


def test_the_forward_correction_without_noise_is_the_cross_entropy_however_wrong_the_network_is():
    """In float32, where sigmoid(-200) is 0."""
    forward = Forward().bound(lambda: np.eye(2)[None])
    margins, observed = torch.tensor([[-200.0, -3.0, 0.0, 200.0]]), torch.ones(1, 4)
    torch.testing.assert_close(forward.of(margins, observed), Logistic().value(margins))
    torch.testing.assert_close(forward.pull(margins, observed), Logistic().minus_slope(margins))
    logits = torch.stack([margins[0], torch.zeros(4)], 1)
    torch.testing.assert_close(forward.of_logits(logits, torch.zeros(4, dtype=torch.long)), Logistic().value(margins[0]))
