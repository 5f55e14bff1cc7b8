"""Training on images: against a loop written the usual way, side by side against alone, resumed against undisturbed."""

import copy
import errno
import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from lnt.column_names import METRICS
from lnt.errors import ConfigError
from lnt.images.networks import ImageModel, NineLayerCNN, PreActResNet, ResNet, SmallCNN, Vgg
from lnt.progress import StepCount
from lnt.training.batch_order import MiniBatches
from lnt.training.checkpoint import Checkpoint
from lnt.training.loop import Training, train

DIGITS = ("data=digits", "data.classes=[3,8]", "data.n_train=40", "data.n_test=30", "model.width=4", "optimizer.epochs=6")
EXACT = (*DIGITS, "precision=float64")
NORMED = (*DIGITS[:-2], "optimizer.epochs=6", "~model.width", f"++model._target_={__name__}.Normed")
STRATEGIES = {
    "none": (),
    "holdout": ("strategy=early_stopping",),
    "changes": ("strategy=early_stopping", "strategy.rule=prediction_changes"),
    "small_loss": ("strategy=small_loss", "strategy.step=4", "strategy.keep=share"),
    "restart": ("strategy=small_loss", "strategy.step=5", "strategy.restart=true"),
    "co_teaching": ("strategy=co_teaching", "strategy.every=3"),
}


@dataclass(frozen=True)
class Normed(ImageModel):
    """A small network with batch normalisation, whose statistics move in training mode only."""

    def architecture(self, channels, pixels, classes):
        layers = [
            nn.Conv2d(channels, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * (pixels - 2) ** 2, classes),
        ]
        return nn.Sequential(*layers)


def usual_loop(experiment, optimizer, scheduler=None):
    """Images, labels and order as the experiment draws them; everything else as one writes it without this package."""
    problem = experiment.sample()
    images, labels = problem.train.at(problem.index)[0], problem.observed.at(0)[0]
    network = problem.networks()[0].to(images.dtype)
    optimizer, criterion = optimizer(network.parameters()), nn.CrossEntropyLoss()
    schedule = scheduler and scheduler(optimizer)
    batches = MiniBatches(experiment.n, experiment.optimizer.batch_size, np.array([experiment.seeds.order]))
    for step in range(experiment.total_steps()):
        batch = batches.at(step)[0]
        optimizer.zero_grad()
        criterion(network(images[batch]), labels[batch]).backward()
        optimizer.step()
        if schedule is not None and step < experiment.total_steps() - 1:
            schedule.step()
    return network


@pytest.mark.parametrize(
    ("overrides", "optimizer", "scheduler"),
    [
        ((), lambda p: torch.optim.SGD(p, 0.1), None),
        (
            ("optimizer.momentum=0.9", "optimizer.weight_decay=0.01", "optimizer.schedule=one_cycle"),
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
            lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=12, cycle_momentum=False),
        ),
        (("optimizer=adam", "optimizer.epochs=6"), lambda p: torch.optim.Adam(p, 0.001), None),
        (
            ("optimizer=adamw", "optimizer.epochs=6", "optimizer.weight_decay=0.3"),
            lambda p: torch.optim.AdamW(p, 0.001, weight_decay=0.3),
            None,
        ),
        (
            ("optimizer.schedule=step", "optimizer.milestones=[2,4]", "optimizer.drop=0.3"),
            lambda p: torch.optim.SGD(p, 0.1),
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [4, 8], gamma=0.3),  # two steps an epoch
        ),
        (("data.classes=null", "noise=pair"), lambda p: torch.optim.SGD(p, 0.1), None),
    ],
)
def test_training_is_the_usual_loop(experiment, overrides, optimizer, scheduler):
    ours = experiment(*EXACT, *overrides)
    engine = ours.start(ours.sample())
    engine.advance(ours.total_steps())
    oracle = usual_loop(ours, optimizer, scheduler)
    for name, value in oracle.named_parameters():
        torch.testing.assert_close(engine.parameters[name], value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("left_out", [5, 17])
def test_samples_of_weight_zero_enter_no_batch_statistics(experiment, left_out):
    """As a loop that takes them out of each batch; with 17 of 20 left out some batches are empty."""
    settings = (*EXACT[:2], "data.n_train=20", "data.n_test=5", "optimizer.batch_size=4", "precision=float64")
    ours = experiment(*settings, "optimizer.epochs=2", "optimizer.momentum=0.9", "optimizer.weight_decay=0.01")
    torch.manual_seed(0)
    untrained = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
    problem = replace(ours.sample(), networks=lambda: [copy.deepcopy(untrained)])
    engine, kept = ours.start(problem), torch.arange(20) >= left_out
    engine.weights.copy_(kept[None] * 20 / kept.sum())
    engine.advance(10)
    images, labels = problem.train.at(problem.index)[0], problem.observed.at(0)[0]
    network, batches = untrained.to(images.dtype), MiniBatches(20, 4, np.array([ours.seeds.order]))
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    sizes = []
    for step in range(10):
        batch = torch.as_tensor(batches.at(step)[0])
        batch = batch[kept[batch]]
        sizes.append(len(batch))
        if len(batch):
            optimizer.zero_grad()
            # A batch with fewer samples weighs less: each sample counts the same in an epoch.
            (nn.functional.cross_entropy(network(images[batch]), labels[batch], reduction="sum") * 5 / kept.sum()).backward()
        else:
            for parameter in network.parameters():
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    assert (0 in sizes) == (left_out == 17)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(engine.network.state_dict()[name], value, rtol=1e-4, atol=1e-6)  # weights are float32


def predictions_while_training(ours):
    """The usual loop, and what it predicts in the forward passes of each epoch, [epochs, n]."""
    problem = ours.sample()
    images, labels = problem.train.at(problem.index)[0], problem.observed.at(0)[0]
    network, batch_size = problem.networks()[0].to(images.dtype), ours.optimizer.batch_size or ours.n
    optimizer = torch.optim.SGD(network.parameters(), ours.optimizer.lr)
    batches = MiniBatches(ours.n, batch_size, np.array([0]))
    per_epoch = ours.n // batch_size
    found = np.zeros((ours.total_steps() // per_epoch, ours.n), int)
    for step in range(ours.total_steps()):
        batch = batches.at(step)[0] if ours.optimizer.batch_size else np.arange(ours.n)
        optimizer.zero_grad()
        outputs = network(images[batch])
        found[step // per_epoch, batch] = outputs.argmax(1).numpy()
        nn.functional.cross_entropy(outputs, labels[batch]).backward()
        optimizer.step()
    return found


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer.epochs=30", "optimizer.batch_size=20"),
        ("optimizer.epochs=30", "optimizer.batch_size=20", "recordings=8"),
        ("optimizer=gd", "optimizer.steps=40", "recordings=100"),
        ("optimizer=gd", "optimizer.steps=40", "recordings=8"),
    ],
)
def test_label_wave_counts_changes_between_consecutive_epochs_while_training(experiment, overrides):
    """Neither recorded steps nor the predictions in evaluation mode decide."""
    digits = ("data=digits", "data.classes=null", "data.n_train=40", "data.n_test=30", "model.width=4", "precision=float64")
    ours = experiment(*digits, *overrides, "optimizer.lr=0.3", *STRATEGIES["changes"], "noise.rate=0.3")
    curves, predicted = train(ours), predictions_while_training(ours)
    changes = (predicted[1:] != predicted[:-1]).mean(1)
    assert len(set(changes)) > 5
    wanted = np.r_[1, 1, changes]  # nothing to compare with at step 0 and after the first epoch
    epochs = curves.steps // (1 if ours.optimizer.batch_size is None else 2)
    np.testing.assert_allclose(curves.values[:, METRICS.index("stopping_criterion"), 0], wanted[epochs], rtol=1e-6)


@pytest.mark.parametrize("name", STRATEGIES)
def test_side_by_side_equals_each_alone(experiment, name):
    """What a GPU does with small networks; seeds, noise rates and augmentation of their own."""
    settings = (*EXACT, *STRATEGIES[name], "data.augment=shift")
    varied = {"seed": np.array([3, 4, 5]), "noise__rate": np.array([0.0, 0.2, 0.4])}
    together = Training.of(experiment(*settings, runs=3, **varied))
    together.run(StepCount())
    curves = together.curves(0.0)
    for run, (seed, rate) in enumerate(zip(*varied.values(), strict=True)):
        alone = train(experiment(*settings, f"seed={seed}", f"noise.rate={rate}"))
        np.testing.assert_allclose(curves.values[..., run : run + 1], alone.values, rtol=1e-7, atol=1e-9)
        assert curves.chosen[run] == alone.chosen[0]
        torch.testing.assert_close(curves.kept.best.losses[run], alone.kept.best.losses[0], rtol=1e-7, atol=1e-9)
        for key, value in alone.kept.last.parameters.items():
            torch.testing.assert_close(curves.kept.last.parameters[key][run], value[0], rtol=1e-7, atol=1e-9)


def test_chunks_train_one_by_one_on_a_cpu_and_share_optimizers_on_a_gpu(experiment, monkeypatch):
    batch = experiment(*DIGITS, runs=6, seed=np.arange(6), optimizer__lr=np.array([0.1, 0.2, 0.1, 0.2, 0.1, 0.1]))
    assert [chunk.runs for chunk in batch.chunks()] == [1] * 6
    monkeypatch.setattr(type(batch), "runs_at_once", lambda self: 3)
    sizes = [(chunk.runs, set(chunk.per_run(chunk.optimizer.lr))) for chunk in batch.chunks()]
    assert sizes == [(3, {0.1}), (1, {0.1}), (2, {0.2})]


class Killed(Exception):
    """Stands for the end of the process."""


class Until(StepCount):
    """Lets training go on for so many steps."""

    def __init__(self, last):
        super().__init__()
        self.last = last

    def update(self, steps):
        super().update(steps)
        if self.done >= self.last:
            raise Killed


def assert_same_curves(one, other, images):
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.chosen, other.chosen)
    np.testing.assert_array_equal(one.fresh_error, other.fresh_error)
    assert (one.kept is not None, other.kept is not None) == (images, images)
    if images:
        for state in ("best", "last"):
            seen, wanted = getattr(one.kept, state), getattr(other.kept, state)
            assert torch.equal(seen.losses, wanted.losses)
            assert all(torch.equal(seen.parameters[key], value) for key, value in wanted.parameters.items())


RESUMED = {f"image {name}": (*DIGITS, *overrides) for name, overrides in STRATEGIES.items()}
RESUMED |= {
    "batch norm": (*NORMED, "optimizer.momentum=0.5"),
    "dropout": (*DIGITS[:-2], "optimizer.epochs=6", "~model.width", "++model._target_=test_networks.Dropping"),
    "momentum": (*DIGITS, "optimizer.momentum=0.9", "optimizer.schedule=cosine", "data.augment=shift_flip"),
    "adam": (*DIGITS, "optimizer=adam", "optimizer.epochs=6", "noise.resample=true"),
    "span": ("data.n_train=12", "data.n_test=9", "optimizer.steps=300", "optimizer.momentum=0.5"),
    "span, co-teaching": ("data.n_train=12", "data.n_test=9", "optimizer.steps=300", "strategy=co_teaching"),
    "autograd": ("data.n_train=12", "data.n_test=9", "data.dim=30", "optimizer=adam", "optimizer.epochs=40"),
}


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.slow
def test_a_run_that_is_killed_at_random_and_resumed_ends_bit_for_bit_the_same(experiment, name, tmp_path, monkeypatch):
    monkeypatch.setattr("lnt.training.loop.BLOCK", 2)
    one = experiment(*RESUMED[name], "checkpoint_seconds=0")
    undisturbed, rng = train(one), random.Random(name)
    checkpoint, kills = Checkpoint(tmp_path), 0
    while kills < 4:
        training = Training.of(one)
        if (state := checkpoint.load(one)) is not None:
            training.load(state)
        try:
            training.run(Until(rng.randint(1, one.total_steps() // 2)), lambda state: checkpoint.save(one, state))
        except Killed:
            kills += 1
        else:
            break
    assert kills > 1
    assert_same_curves(train(one, checkpoint), undisturbed, images=one.data.kind == "images")


def test_a_checkpoint_of_another_configuration_is_refused_and_a_damaged_one_put_aside(experiment, tmp_path, caplog):
    one, other = (experiment(*DIGITS, "checkpoint_seconds=0", f"seed={seed}") for seed in (0, 1))
    checkpoint = Checkpoint(tmp_path)
    checkpoint.load(one)
    checkpoint.save(one, Training.of(one).state)
    before = checkpoint.path(one).read_bytes()
    checkpoint.path(other).write_bytes(before)
    with pytest.raises(ConfigError, match="is of another configuration"):
        train(other, checkpoint)
    damaged = before[: len(before) // 2]
    checkpoint.path(other).write_bytes(damaged)
    assert checkpoint.load(other) is None
    assert "was put aside" in caplog.text
    assert [file.read_bytes() for file in tmp_path.glob(".*damaged*")] == [damaged]
    assert checkpoint.path(one).read_bytes() == before


def test_the_checkpoint_before_serves_where_the_latest_is_damaged(experiment, tmp_path):
    one = experiment(*DIGITS, "checkpoint_seconds=0")
    checkpoint, training = Checkpoint(tmp_path), Training.of(one)
    for steps in (1, 2):
        training.engines[0].advance(1)
        checkpoint.save(one, training.state)
        assert checkpoint.load(one)["engines"][0]["step"] == steps
    content = bytearray(checkpoint.path(one).read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.path(one).write_bytes(content)
    assert checkpoint.load(one)["engines"][0]["step"] == 1


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(experiment, tmp_path, monkeypatch, caplog):
    one = experiment(*DIGITS, "checkpoint_seconds=0")

    def full(content, file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        found = train(one, Checkpoint(tmp_path))
    assert "cannot be written ([Errno 28] No space left on device); training goes on" in caplog.text
    np.testing.assert_array_equal(found.values, train(one).values)


def test_measuring_changes_nothing(experiment):
    """Batch statistics above all: they move in training mode only."""
    one = experiment(*NORMED)
    often, never = (one.start(one.sample()) for _ in range(2))
    for _ in range(3):
        often.advance(1)
        before = copy.deepcopy(often.network.state_dict())
        assert before["1.running_mean"].abs().max() > 0, "it has such statistics"
        often.snapshot(), often.losses()
        assert all(torch.equal(before[key], value) for key, value in often.network.state_dict().items())
    never.advance(3)
    assert all(torch.equal(often.network.state_dict()[key], value) for key, value in never.network.state_dict().items())


def test_metrics_are_what_their_names_say(experiment):
    one = experiment(*DIGITS, "data.classes=null", "data.n_train=100", "noise.rate=0.3")
    training = Training.of(one)
    training.run(StepCount())
    problem, engine = training.problem, training.engines[0]
    with torch.no_grad():
        logits = engine.network.eval()(problem.train.at(problem.index)[0])
        test = engine.network(problem.test.at(problem.test_index)[0])
    observed, clean = problem.observed.at(0)[0], problem.observed.at(0)[0] == problem.labels[0]
    losses = nn.functional.cross_entropy(logits, observed, reduction="none")
    right = logits.argmax(1) == observed
    wanted = {
        "train_loss": losses.mean(),
        "clean_accuracy": right[clean].float().mean(),
        "noisy_accuracy": right[~clean].float().mean(),
        "test_error": (test.argmax(1) != problem.test_labels[0]).float().mean(),
        "test_error_observed": (test.argmax(1) != problem.test_observed[0]).float().mean(),
        "realised_noise_rate": (~clean).float().mean(),
    }
    for name, value in wanted.items():
        assert training.values[-1, METRICS.index(name), 0] == pytest.approx(float(value), rel=1e-5)
    assert np.isnan(training.values[:, METRICS.index("signal_coef")]).all()


def test_the_observed_labels_of_data_seeds_and_noise_rates_are_independent(experiment):
    base, noisier = (experiment(*DIGITS, f"noise.rate={rate}").sample() for rate in (0.1, 0.4))
    assert torch.equal(base.index, noisier.index)
    wrong, more = (problem.observed.at(0) != problem.labels for problem in (base, noisier))
    assert (wrong <= more).all()
    assert 0 < wrong.sum() < more.sum()
    one, other = (problem.networks()[0].state_dict() for problem in (base, noisier))
    assert all(torch.equal(one[key], other[key]) for key in one)


NETWORKS = (SmallCNN(4), Vgg(11, False), Vgg(11, True), Vgg(16, True), ResNet(18), ResNet(34), PreActResNet(), NineLayerCNN())
SHAPES = [(model, *shape) for model in NETWORKS for shape in ((3, 32, 10), (1, 8, 2))]
SHAPES += [
    (model, 1, 28, 2) for model in (SmallCNN(4), Vgg(11, True), ResNet(18))
]  # one of each kind: a VGG takes seconds to build


@pytest.mark.parametrize(("model", "channels", "pixels", "classes"), SHAPES)
@pytest.mark.slow
def test_networks_take_any_images_and_return_a_logit_for_each_class(model, channels, pixels, classes):
    logits = model.build(channels, pixels, classes, 0).eval()(torch.randn(2, channels, pixels, pixels))
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("model", [SmallCNN(4), ResNet(18)])
def test_initial_weights_belong_to_the_seed_alone(model):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, same, other = (list(model.build(1, 8, 2, seed).parameters()) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator is left alone"
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_bf16_is_close_to_float32(experiment):
    exact, half = (train(experiment(*DIGITS, f"precision={precision}")).values for precision in ("float32", "bf16"))
    loss = METRICS.index("train_loss")
    assert (exact[:, loss] != half[:, loss]).any()
    np.testing.assert_allclose(exact[:, loss], half[:, loss], rtol=0.02)


@pytest.mark.slow
def test_compiled_networks_train_alike(experiment):
    plain, compiled = (train(experiment(*EXACT, f"model.compile={word}")).values for word in ("false", "true"))
    np.testing.assert_allclose(plain, compiled, rtol=1e-6, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize("model", ["small_cnn", "vgg11", "resnet18"])
def test_cuda_agrees_with_the_cpu(experiment, model):
    settings = [key for key in EXACT if "width" not in key] + [f"model={model}", "optimizer.epochs=2"]
    cpu, cuda = (train(experiment(*settings, f"device={device}")).values for device in ("cpu", "cuda"))
    loss = METRICS.index("train_loss")
    np.testing.assert_allclose(cpu[:, loss], cuda[:, loss], rtol=1e-6)


@pytest.mark.gpu
def test_small_networks_train_side_by_side_on_a_gpu(experiment):
    batch = experiment(*DIGITS, "device=cuda", "precision=bf16", runs=8, seed=np.arange(8))
    assert [chunk.runs for chunk in batch.chunks()] == [8]
    assert np.isfinite(train(batch).values[:, METRICS.index("train_loss")]).all()
