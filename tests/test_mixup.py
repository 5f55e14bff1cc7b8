"""Mixup: numbers by hand, what a step mixes, and networks on images against a loop written the usual way.

The engines of signal-noise data are compared in test_span.py.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lnt.column_names import METRICS
from lnt.errors import ConfigError
from lnt.training.batch_order import MiniBatches
from lnt.training.loop import Training, train
from lnt.training.mixup import Mixup, mixed, mixed_losses
from lnt.two_layer.mixed_patches import mixed_values, unmixed_values

DIGITS = ("data=digits", "data.classes=[3,8]", "data.n_train=40", "data.n_test=30", "model.width=2")
MIXED = (*DIGITS, "data.mixup=0.7", "noise.rate=0.3", "precision=float64")
PARTNERS, SHARE = torch.tensor([[2, 0, 1]]), torch.tensor([[0.75]], dtype=torch.float64)


def test_a_mixture_by_hand():
    values = torch.tensor([[[4.0, 8.0, 12.0]]], dtype=torch.float64)
    assert mixed_values(values, PARTNERS, SHARE).tolist() == [[[3 + 3, 6 + 1, 9 + 2]]]
    assert mixed(values.mT, PARTNERS, SHARE).tolist() == [[[3 + 3], [6 + 1], [9 + 2]]]


def test_losses_of_mixed_samples_by_hand():
    """3/4 of the loss for the own label and 1/4 of that for the partner's, each with the weight of its sample."""
    labels, weights = torch.tensor([[0, 1, 2]]), torch.tensor([[1.0, 0.0, 2.0]], dtype=torch.float64)
    given = mixed_losses(lambda y: torch.tensor([[1.0, 10.0, 100.0]]) * (y + 1), labels, weights, PARTNERS, SHARE)
    # Partners 2, 0, 1: own losses 1, 20, 300; for the partner's label 3, 10, 200.
    assert given.tolist() == [[0.75 * 1 + 0.25 * 2 * 3, 0 + 0.25 * 1 * 10, 0.75 * 2 * 300 + 0]]


def test_what_moves_of_mixed_samples_are_for_the_samples_themselves():
    """The transpose: sample 0 has 3/4 of its own move and 1/4 of that of sample 1, whose partner it is."""
    moves = torch.tensor([[[4.0, 8.0, 12.0]]], dtype=torch.float64)
    assert unmixed_values(moves, PARTNERS, SHARE).tolist() == [[[3 + 2, 6 + 3, 9 + 1]]]


def test_shares_follow_the_beta_distribution_and_partners_are_a_permutation():
    like = torch.zeros(1, dtype=torch.float64)
    draws = [Mixup(np.array([0.5, 0.0]), np.array([3, 3])).at(step, 5, like) for step in range(2000)]
    partners, shares = (torch.stack(parts) for parts in zip(*draws, strict=True))
    assert (partners.sort(2).values == torch.arange(5)).all()
    assert (shares[:, 1] == 1).all(), "alpha = 0 mixes nothing"
    # Beta(1/2, 1/2): mean 1/2, variance 1/8; four standard errors.
    assert abs(float(shares[:, 0].mean()) - 0.5) < 4 * np.sqrt(1 / 8 / 2000)
    assert abs(float(shares[:, 0].var()) - 0.125) < 0.01


def test_a_run_without_mixup_beside_one_with_it_trains_as_alone(experiment):
    settings = ("data.n_train=12", "data.dim=60", "data.n_test=20", "optimizer.steps=40", "precision=float64", "model.width=2")
    both = train(experiment(*settings, runs=2, data__mixup=np.array([0.0, 1.0]))).values
    np.testing.assert_allclose(both[..., 0], train(experiment(*settings)).values[..., 0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(both[..., 1], train(experiment(*settings, "data.mixup=1")).values[..., 0], rtol=1e-9, atol=1e-12)
    assert both[-1, 0, 0] != both[-1, 0, 1]


def usual_loop(experiment, losses=nn.functional.cross_entropy, optimizer=torch.optim.SGD, kept=None):
    """Zhang et al.'s loop with the draws of an experiment; only the samples `kept` [n] are there, and weigh n / count each."""
    problem, n = experiment.sample(), experiment.n
    images, labels = problem.train.at(problem.index)[0], problem.observed.at(0)[0]
    kept = torch.ones(n, dtype=torch.bool) if kept is None else kept
    network, size = problem.networks()[0].to(images.dtype), experiment.optimizer.batch_size
    optimizer = optimizer(network.parameters(), lr=float(experiment.optimizer.lr))
    seeds = np.array([experiment.seeds.order])
    batches, draws = size and MiniBatches(n, size, seeds), Mixup(np.array([experiment.data.mixup]), seeds)
    for step in range(experiment.total_steps()):
        batch = torch.as_tensor(batches.at(step)[0]) if size else torch.arange(n)
        x, y, weight = images[batch], labels[batch], kept[batch].double() * n / kept.sum()
        (partners,), ((lam,),) = draws.at(step, len(batch), x)
        outputs = network(lam * x + (1 - lam) * x[partners])
        own, other = (losses(outputs, to, reduction="none") for to in (y, y[partners]))
        optimizer.zero_grad()
        (lam * weight * own + (1 - lam) * weight[partners] * other).mean().backward()
        optimizer.step()
    return network


@pytest.mark.parametrize(
    ("overrides", "optimizer"),
    [
        (("optimizer.epochs=4",), torch.optim.SGD),
        (("optimizer.epochs=4", "data.classes=null", "noise=pair"), torch.optim.SGD),
        (("optimizer=gd", "optimizer.steps=6", "optimizer.lr=0.1"), torch.optim.SGD),
        (("optimizer=adam", "optimizer.epochs=4"), torch.optim.Adam),
    ],
)
def test_mixup_of_images_is_the_usual_loop(experiment, overrides, optimizer):
    ours = experiment(*MIXED, *overrides)
    engine = ours.start(ours.sample())
    engine.advance(ours.total_steps())
    for name, value in usual_loop(ours, optimizer=optimizer).named_parameters():
        torch.testing.assert_close(engine.parameters[name], value, rtol=1e-9, atol=1e-11)


def test_a_loss_of_mixed_labels_is_not_that_of_the_cross_entropy_alone(experiment):
    ours = experiment(*MIXED, "optimizer.epochs=4", "loss=mae", "data.classes=[1,2,3]")

    def mae(logits, labels, reduction):
        return (logits.softmax(1) - nn.functional.one_hot(labels, 3)).abs().sum(1)

    engine = ours.start(ours.sample())
    engine.advance(ours.total_steps())
    for name, value in usual_loop(ours, mae).named_parameters():
        torch.testing.assert_close(engine.parameters[name], value, rtol=1e-9, atol=1e-11)


def test_a_sample_that_is_left_out_lends_its_pixels_and_not_its_label(experiment):
    """As on signal-noise data: weights of both partners."""
    ours, kept = experiment(*MIXED, "optimizer.epochs=4"), torch.arange(40) >= 15
    engine = ours.start(ours.sample())
    engine.weights.copy_(kept * 40 / kept.sum())
    engine.advance(ours.total_steps())
    for name, value in usual_loop(ours, kept=kept).named_parameters():
        torch.testing.assert_close(engine.parameters[name], value, rtol=1e-6, atol=1e-8)  # weights are float32


def test_with_batch_statistics_only_samples_that_are_kept_are_mixed(experiment):
    """As a loop that takes the others out of the batch, and mixes what is left."""
    settings = (*MIXED[:3], "data.n_train=12", "data.mixup=0.7", "precision=float64", "optimizer=gd", "optimizer.steps=5")
    ours, kept = experiment(*settings, "optimizer.lr=0.1"), torch.arange(12) >= 5
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
    untrained = nn.Sequential(*layers)
    problem = replace(ours.sample(), networks=lambda: [copy.deepcopy(untrained)])
    engine = ours.start(problem)
    engine.weights.copy_(kept * 12 / 7)
    engine.advance(5)
    images, labels = problem.train.at(problem.index)[0][kept], problem.observed.at(0)[0][kept]
    network, draws = untrained.to(images.dtype), Mixup(np.array([0.7]), np.array([ours.seeds.order]))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for step in range(5):
        (partners,), ((lam,),) = draws.at(step, 7, images)
        outputs = network(lam * images + (1 - lam) * images[partners])
        own, other = (nn.functional.cross_entropy(outputs, to) for to in (labels, labels[partners]))
        optimizer.zero_grad()
        (lam * own + (1 - lam) * other).backward()
        optimizer.step()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(engine.network.state_dict()[name], value, rtol=1e-6, atol=1e-8)


def test_both_gradients_of_sam_are_at_the_same_mixture(experiment):
    ours = experiment(*MIXED, "optimizer=sam", "optimizer.steps=1", "optimizer.lr=0.1", "optimizer.rho=0.3")
    engine = ours.start(ours.sample())
    engine.advance(1)
    problem, draws = ours.sample(), Mixup(np.array([0.7]), np.array([ours.seeds.order]))
    x, y = problem.train.at(problem.index)[0], problem.observed.at(0)[0]
    network = problem.networks()[0].to(x.dtype)
    (partners,), ((lam,),) = draws.at(0, 40, x)

    def gradients():
        outputs = network(lam * x + (1 - lam) * x[partners])
        own, other = (nn.functional.cross_entropy(outputs, to) for to in (y, y[partners]))
        return torch.autograd.grad(lam * own + (1 - lam) * other, list(network.parameters()))

    start = [value.detach().clone() for value in network.parameters()]
    first = gradients()
    norm = torch.cat([g.flatten() for g in first]).norm()
    with torch.no_grad():
        for value, g in zip(network.parameters(), first, strict=True):
            value += 0.3 * g / norm
    for found, at, g in zip(engine.parameters.values(), start, gradients(), strict=True):
        torch.testing.assert_close(found, at - 0.1 * g, rtol=1e-9, atol=1e-11)


def test_images_side_by_side_mix_as_alone_and_a_resumed_run_goes_on_alike(experiment):
    settings = (*MIXED, "data.augment=shift", "strategy=co_teaching", "strategy.every=3", "optimizer.epochs=4")
    batch = experiment(*settings, runs=2, seed=np.array([3, 4]))
    together, first = (batch.start(batch.sample()) for _ in range(2))
    together.advance(8)
    first.advance(5)
    resumed = batch.start(batch.sample())
    resumed.load(first.state())
    resumed.advance(3)
    for run, seed in enumerate((3, 4)):
        alone = experiment(*settings, f"seed={seed}")
        one = alone.start(alone.sample())
        one.advance(8)
        for name, value in together.parameters.items():
            torch.testing.assert_close(value[run], one.parameters[name], rtol=1e-7, atol=1e-9)
            assert torch.equal(resumed.parameters[name], value)


def test_without_mixup_images_train_as_before(experiment):
    plain, none = (train(experiment(*DIGITS, "optimizer.epochs=3", *more)).values for more in ((), ("data.mixup=0",)))
    np.testing.assert_array_equal(plain, none)
    assert experiment(*DIGITS).run_ids() == experiment(*DIGITS, "data.mixup=0").run_ids()
    assert experiment(*DIGITS).run_ids() != experiment(*DIGITS, "data.mixup=1").run_ids()


def test_label_wave_compares_recorded_predictions_where_training_sees_mixed_samples_only(experiment):
    ours = experiment(*MIXED, "strategy=early_stopping", "strategy.rule=prediction_changes", "optimizer.epochs=30")
    training = Training.of(ours)
    (engine,), seen = training.engines, []
    for step in training.steps:
        engine.advance(int(step) - engine.step)
        with torch.no_grad():
            seen.append(engine.network.eval()(engine.problem.train.at(engine.problem.index)[0]).argmax(1).numpy())
    changes = np.r_[1, (np.diff(seen, axis=0) != 0).mean(1)]
    assert len(set(changes)) > 2
    found = train(ours).values[:, METRICS.index("stopping_criterion"), 0]
    np.testing.assert_allclose(found, changes, rtol=1e-6)


@pytest.mark.parametrize(("value", "said"), [("-1", "must be at least 0"), ("nan", "finite"), ("a", "number")])
def test_a_mixup_that_is_no_number_from_0_on_is_refused(experiment, value, said):
    with pytest.raises(ConfigError, match=rf"data\.mixup.*{said}"):
        experiment(*DIGITS, f"data.mixup={value}")
