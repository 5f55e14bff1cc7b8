"""strategy=estimated_transition against a plain PyTorch program, alone and in a batch, resumed, and where T is known."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from lnt.column_names import METRICS
from lnt.errors import ConfigError
from lnt.progress import StepCount
from lnt.runs.tables import schemas, tables
from lnt.training.checkpoint import Checkpoint
from lnt.training.loop import Training, train
from lnt.training.strategies import transition_at_anchors
from lnt.two_layer.sampled_problem import sample_problem

LOSS = METRICS.index("train_loss")
ESTIMATED = ("strategy=estimated_transition", "strategy.step=40")
SMALL = (
    *("data.n_train=24", "data.n_test=20", "data.dim=60", "data.snr=0.6", "model.width=3", "model.init_std=0.05"),
    *("optimizer.lr=0.2", "optimizer.steps=90", "recordings=8", "precision=float64", "strategy.quantile=0.9"),
)
ONE = ("noise=asymmetric", *ESTIMATED, *SMALL)
THREE = ("data=signal_noise_classes", "data.class_count=3", "noise.rate=0.3", *ESTIMATED, *SMALL)
IMAGES = (
    *("data=digits", "data.classes=[3,5,8]", "data.n_train=60", "data.n_test=20", "noise.rate=0.2", "loss=forward"),
    *("model.width=3", "optimizer.batch_size=60", "optimizer.lr=0.2", "precision=float64", "strategy=estimated_transition"),
)


def program(samples, filters, labels, classes, loss, *, restart):
    """Patrini et al. 2017 as one writes it: train, estimate, correct. Returns the losses in the end and T.

    samples [n, patches, d], filters [P, d] class by class; with `classes` = 1 there is one output f, the log odds of class 0.
    """

    def logits(w):
        of_filters = (samples @ w.T).relu().sum(1).unflatten(1, (max(classes, 2), -1)).mean(2)
        if classes > 1:
            return of_filters
        f = of_filters[:, 0] - of_filters[:, 1]
        return torch.stack([f, torch.zeros_like(f)], 1)

    def losses(w):
        z = logits(w)
        if transition is None:
            return cross_entropy(z, labels, reduction="none")
        if loss == "forward":
            return -(z.softmax(1) @ transition)[range(len(labels)), labels].log()
        return -(z.log_softmax(1) @ transition.inverse().T)[range(len(labels)), labels]

    w, transition = filters.clone().requires_grad_(), None
    for step in range(90):
        if step == 40:
            p = logits(w).softmax(1).detach()
            anchors = [
                sorted(range(len(p)), key=lambda i, k=k: p[i, k])[math.floor(0.9 * (len(p) - 1))] for k in range(p.shape[1])
            ]
            transition = torch.stack([p[i] for i in anchors])
            w = filters.clone().requires_grad_() if restart else w
        (gradient,) = torch.autograd.grad(losses(w).mean(), w)
        w = (w - 0.2 * gradient).detach().requires_grad_()
    return losses(w).detach(), transition


def explicit(*arguments):
    """Problems on vectors of length d for either engine."""
    *rest, _, like = arguments
    return sample_problem(*rest, False, like)


@pytest.mark.parametrize("restart", [False, True], ids=["goes on", "restarts"])
@pytest.mark.parametrize("loss", ["forward", "backward"])
@pytest.mark.parametrize(("classes", "settings"), [(1, ONE), (3, THREE)], ids=["one output", "three classes"])
@pytest.mark.parametrize("engine", ["span", "autograd"])
def test_a_run_is_the_plain_program(experiment, monkeypatch, engine, classes, settings, loss, restart):
    monkeypatch.setattr("lnt.two_layer.two_layer_experiment.sample_problem", explicit)
    training = Training.of(experiment(*settings, f"loss={loss}", f"engine={engine}", f"strategy.restart={restart}"))
    training.run(StepCount())
    problem = training.problem
    labels = problem.as_classes(problem.observed.at(0))[0]
    wanted, transition = program(problem.samples(0), problem.filters[0], labels, classes, loss, restart=restart)
    assert np.abs(transition.numpy() - np.eye(max(classes, 2))).max() > 0.1, "what is estimated matters"
    torch.testing.assert_close(training.last.losses[0], wanted, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(training.curves(0).transition[..., 0], transition, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", [ONE, THREE], ids=["one output", "three classes"])
def test_a_batch_equals_each_run_alone(experiment, settings):
    """Each has its own matrix, by its own quantile."""
    varied = {"seed": np.array([3, 4, 5]), "strategy__quantile": np.array([0.8, 0.97, 1.0])}
    batch = train(experiment(*settings, "loss=forward", runs=3, **varied))
    for run in range(3):
        alone = train(experiment(*settings, "loss=forward", **{key: value[run].item() for key, value in varied.items()}))
        np.testing.assert_allclose(batch.values[..., run], alone.values[..., 0], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(batch.transition[..., run], alone.transition[..., 0], rtol=1e-9, atol=1e-9)


def test_runs_that_estimate_at_unlike_steps_keep_the_cross_entropy_until_theirs(experiment):
    """Step 20 and step 60: T1 is as many times as long as d is small."""
    at = ("loss=backward", "strategy.step=null", "strategy.t1=0.5")
    varied = {"data__dim": np.array([90, 30]), "seed": np.array([1, 2])}
    batch = train(experiment(*ONE, *at, runs=2, **varied))
    for run in range(2):
        alone = train(experiment(*ONE, *at, **{key: value[run].item() for key, value in varied.items()}))
        np.testing.assert_allclose(batch.values[..., run], alone.values[..., 0], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(batch.transition[..., run], alone.transition[..., 0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param((*ONE, "loss=backward", "optimizer.momentum=0.5"), id="span"),
        pytest.param((*THREE, "loss=forward", "engine=autograd"), id="autograd"),
        pytest.param((*IMAGES, "strategy.epoch=5", "optimizer.epochs=12"), id="images"),
    ],
)
def test_a_run_that_is_killed_after_the_estimate_goes_on_with_it(experiment, tmp_path, monkeypatch, settings):
    monkeypatch.setattr("lnt.training.loop.BLOCK", 3)
    one = experiment(*settings, "checkpoint_seconds=0")
    acts = 5 if one.one_run_per_job else 40
    checkpoint, undisturbed = Checkpoint(tmp_path), train(one)

    class Killed(Exception):
        """The process ends here."""

    def save(state):
        checkpoint.save(one, state)
        if training.step > acts:
            raise Killed

    training = Training.of(one)
    with pytest.raises(Killed):
        training.run(StepCount(), save)
    saved = checkpoint.load(one)["transition"].numpy()
    np.testing.assert_array_equal(np.moveaxis(saved, 0, -1), undisturbed.transition)
    resumed = train(one, checkpoint)
    np.testing.assert_array_equal(resumed.values, undisturbed.values)
    np.testing.assert_array_equal(resumed.transition, undisturbed.transition)


def test_on_images_the_matrix_is_that_of_the_network_that_the_cross_entropy_has_trained(experiment):
    """And after a restart training is that of a run that was given the matrix."""
    estimated = (*IMAGES, "strategy.epoch=6", "strategy.restart=true", "optimizer.epochs=10")
    curves = train(experiment(*estimated))
    plain = Training.of(experiment(*IMAGES[:-1], "loss=logistic", "optimizer.epochs=6"))
    plain.run(StepCount())
    (engine,), problem = plain.engines, plain.problem
    with torch.no_grad():
        p = engine.network.eval()(problem.train.at(problem.index)[0]).softmax(1).numpy()
    wanted = np.stack([p[np.argsort(p[:, k])[57]] for k in range(3)])  # 0.97 times 59 is 57.2
    np.testing.assert_allclose(curves.transition[..., 0], wanted, rtol=1e-9, atol=1e-9)
    given = train(experiment(*IMAGES[:-1], f"loss.matrix={wanted.tolist()}", "optimizer.epochs=4"))
    np.testing.assert_allclose(curves.values[-1, LOSS], given.values[-1, LOSS], rtol=1e-7)


def test_where_all_samples_of_a_class_are_alike_the_estimate_is_the_share_of_each_label_among_them(experiment):
    """The cross entropy is least where the predicted probabilities are these shares, whatever the quantile is."""
    easy = ("data.n_train=60", "data.n_test=10", "data.dim=50", "data.snr=1000", "data.noise_std=1e-4", "model.width=4")
    noise = ("noise=asymmetric", "noise.exact=true", "noise.rate_positive=0.4", "noise.rate_negative=0.1")
    trained = ("optimizer.lr=4", "optimizer.steps=900", "precision=float64", *ESTIMATED, "strategy.step=700", "loss=forward")
    one = experiment(*easy, *noise, *trained)
    curves = train(one)
    shares = curves.counts[..., 0] / curves.counts[..., 0].sum(1, keepdims=True)
    np.testing.assert_allclose(curves.transition[..., 0], shares, atol=1e-3)
    np.testing.assert_allclose(curves.transition[..., 0], [[0.6, 0.4], [0.1, 0.9]], atol=0.02, err_msg="rounded to samples")
    (row,) = tables(one, curves, schemas([one])).runs.to_pylist()
    assert row["estimated_flip_rate_positive"] == pytest.approx(0.4, abs=0.02)
    assert row["estimated_flip_rate_negative"] == pytest.approx(0.1, abs=0.02)
    assert row["transition_error"] < 0.02


def test_anchors_by_hand():
    """Of five samples the one of rank floor(0.8 4) = 3 by each class, or the last one; of equal ones those that come later."""
    first = np.array([0.2, 0.9, 0.5, 0.7, 0.7])
    p = np.stack([first, 1 - first], 1)[None]
    largest, second = [[[0.9, 0.1], [0.2, 0.8]]], [[[0.7, 0.3], [0.5, 0.5]]]
    np.testing.assert_allclose(transition_at_anchors(p, np.array([1.0])), largest)
    np.testing.assert_allclose(transition_at_anchors(p, np.array([0.8])), second)
    both = transition_at_anchors(np.concatenate([p, p]), np.array([0.8, 1.0]))
    np.testing.assert_allclose(both, [second[0], largest[0]])


def test_an_estimate_without_an_inverse_is_dropped(experiment):
    """A network that is 0 everywhere gives both classes one half."""
    curves = train(experiment(*ONE, "loss=backward", "model.init_std=0"))
    np.testing.assert_array_equal(curves.transition[..., 0], np.eye(2))
    np.testing.assert_allclose(curves.values[-1, LOSS], math.log(2))


def test_a_run_that_diverged_has_no_estimate(experiment):
    one = experiment(*ONE, "loss=backward", "model.power=3", "model.init_std=1", "optimizer.lr=50")
    (row,) = tables(one, train(one), schemas([one])).runs.to_pylist()
    assert row["status"] == "diverged"
    assert row["estimated_transition"] is None
    assert math.isnan(row["transition_error"])


def test_noise_that_only_pixels_tell_is_estimated_and_has_no_error(experiment):
    """The corrections themselves need the matrix of the noise: here an estimate takes its place."""
    with pytest.raises(
        ConfigError, match=r"loss\.matrix=None: is not known of noise that looks at pixels; give it, or strategy="
    ):
        experiment(*IMAGES[:-1], "noise=instance")
    one = experiment(*IMAGES, "noise=instance", "strategy.epoch=2", "optimizer.epochs=4")
    (row,) = tables(one, train(one), schemas([one])).runs.to_pylist()
    np.testing.assert_allclose(np.sum(json.loads(row["estimated_transition"]), 1), 1, atol=1e-5)
    assert (row["transition_error"], row["estimated_flip_rate_positive"]) == (None, None)


def test_a_matrix_without_an_inverse_is_no_error_where_it_is_estimated(experiment):
    """Nobody knows the true one: half of all labels are wrong."""
    even = ("noise=asymmetric", "noise.rate_positive=0.5", "noise.rate_negative=0.5")
    np.testing.assert_array_equal(experiment(*ONE, *even, "loss=forward").bound_loss().transition, [np.eye(2)])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), "loss=logistic: has no transition matrix to estimate; use forward or backward"),
        (("loss=gce",), "loss=gce: has no transition matrix to estimate"),
        (("loss=backward_squared",), "loss=backward_squared: has no transition matrix to estimate"),
        (
            ("loss=forward", "loss.matrix=[[0.9,0.1],[0.2,0.8]]"),
            "loss.matrix=[(0.9, 0.1), (0.2, 0.8)]: must be null with strategy=estimated_transition, which estimates it",
        ),
        (("loss=backward_squared", "loss.matrix=[[0.9,0.1],[0.2,0.8]]"), "loss=backward_squared: has no transition matrix"),
        (("loss=forward", "strategy.quantile=0"), "strategy.quantile=0.0: must lie in (0, 1]"),
        (("loss=forward", "strategy.quantile=1.1"), "strategy.quantile=1.1: must lie in (0, 1]"),
        (("loss=forward", "strategy.step=2000"), "strategy.step=2000: acts at step 2000, but training has 2000 steps"),
        (("loss=forward", "strategy.step=5", "strategy.t1=1"), "exactly one of the three must be given"),
        (("loss=forward", "optimizer.until=fitted"), "strategy=estimated_transition: is for optimizer.until=end"),
        (
            ("loss=forward", "strategy.restart=true", "optimizer=sgd", "optimizer.schedule=cosine"),
            "strategy.restart=True: starts again in the middle of the schedule",
        ),
    ],
)
def test_what_cannot_be_estimated_is_refused(experiment, overrides, message):
    with pytest.raises(ConfigError) as error:
        experiment("strategy=estimated_transition", *overrides)
    assert message in str(error.value)
