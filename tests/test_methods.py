"""Methods for noisy labels, each against a loop in plain PyTorch that is written from its published definition."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import nn
from torch.nn.functional import cross_entropy

from lnt.column_names import METRICS
from lnt.errors import ConfigError
from lnt.losses import EarlyLearning
from lnt.progress import StepCount
from lnt.training.batch_order import MiniBatches
from lnt.training.loop import Training, train
from lnt.training.strategies import CoTeaching, smallest

DIGITS = (
    *("data=digits", "data.classes=[0,3,8]", "data.n_train=50", "data.n_test=30", "model.width=3", "precision=float64"),
    *("noise.rate=0.3", "optimizer.epochs=6", "optimizer.batch_size=16", "optimizer.momentum=0.9", "optimizer.lr=0.05"),
)
BATCH = ("strategy=co_teaching", "strategy.within=batch", "strategy.ramp=12")
METHODS = {
    "elr": ("loss=elr",),
    "elr, restarted": ("loss=elr", "strategy=small_loss", "strategy.step=7", "strategy.restart=true"),
    "co-teaching": BATCH,
    "co-teaching, estimated": (*BATCH, "strategy.rate=estimated"),
    "co-teaching plus": (*BATCH, "strategy.disagreement=true", "strategy.initial=2"),
    "co-teaching plus, elr": (*BATCH, "strategy.disagreement=true", "loss=elr", "data.augment=shift"),
}


class Plain:
    """Images, labels and batches as the experiment draws them, networks with its initial weights; the loop is the test's."""

    def __init__(self, ours, networks=None):
        peers = [ours.sample(peer) for peer in range(ours.strategy.networks)]
        self.images = peers[0].train.at(peers[0].index)[0]
        self.labels = peers[0].observed.at(0)[0]
        self.networks = networks or [problem.networks()[0].to(self.images.dtype) for problem in peers]
        numbers = {"lr": ours.optimizer.lr, "momentum": ours.optimizer.momentum}
        self.optimizers = [torch.optim.SGD(network.parameters(), **numbers) for network in self.networks]
        self.epochs, self.per_epoch = ours.optimizer.epochs, ours.steps_per_epoch()
        self.order = MiniBatches(ours.n, ours.optimizer.batch_size, np.array([ours.seeds.order]))

    def batches(self):
        """(epoch, samples) of each step."""
        for step in range(self.epochs * self.per_epoch):
            yield step // self.per_epoch, self.order.at(step)[0]


def assert_same_networks(training, plain, rtol=1e-5):
    """The weights of samples are float32, as 16/11 is; so are the networks that train with them."""
    for engine, network in zip(training.engines, plain.networks, strict=True):
        for name, value in network.state_dict().items():
            torch.testing.assert_close(engine.network.state_dict()[name], value, rtol=rtol, atol=rtol / 100)


def ran(ours):
    training = Training.of(ours)
    training.run(StepCount())
    return training


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """The settings of 50 vectors of seven features in three classes, without those of a network."""
    rng, labels = np.random.default_rng(4), np.arange(80) % 3
    x = rng.normal(size=(80, 7)) + 2 * np.eye(3, 7)[labels]
    file = tmp_path_factory.mktemp("vectors") / "mine.npz"
    np.savez(file, train=x[:50], train_labels=labels[:50], test=x[50:], test_labels=labels[50:])
    return "data=arrays", f"data.file={file}", *(setting for setting in DIGITS if not setting.startswith(("data", "model")))


@pytest.mark.parametrize(
    ("beta", "strength", "model"),
    [(0.7, 3.0, None), (0.9, 1.0, None), (0.7, 3.0, "linear"), (0.9, 1.0, "mlp")],
)
def test_early_learning_regularisation_is_that_of_its_paper(experiment, vectors, beta, strength, model):
    data = (*vectors, f"model={model}") if model else DIGITS
    ours = experiment(*data, "loss=elr", f"loss.beta={beta}", f"loss.strength={strength}")
    plain = Plain(ours)
    (network,), (optimizer,) = plain.networks, plain.optimizers
    targets = torch.zeros(50, 3, dtype=torch.float64)
    for _, batch in plain.batches():
        logits = network(plain.images[batch])
        p = logits.softmax(1).clamp(1e-4, 1 - 1e-4)
        for row, sample in enumerate(batch.tolist()):
            now = p[row].detach()
            targets[sample] = beta * targets[sample] + (1 - beta) * now / now.sum()
        regulariser = torch.log(1 - (targets[batch] * p).sum(1)).mean()
        optimizer.zero_grad()
        (cross_entropy(logits, plain.labels[batch]) + strength * regulariser).backward()
        optimizer.step()
    training = ran(ours)
    assert_same_networks(training, plain, rtol=1e-9)
    with torch.no_grad():
        loss = cross_entropy(network(plain.images), plain.labels)
    assert training.values[-1, METRICS.index("train_loss"), 0] == pytest.approx(float(loss), rel=1e-8)


def test_probabilities_of_one_and_zero_leave_the_regulariser_finite():
    """A target of 1 - 1e-4 and a probability of 1: log(1 - 0.9999^2) = -8.517, and no gradient."""
    loss, logits = EarlyLearning(beta=0.0, strength=2.0), torch.tensor([[800.0, 0.0]], dtype=torch.float64, requires_grad=True)
    targets = loss.remembered(torch.zeros(1, 2, dtype=torch.float64), logits.softmax(1).detach())
    assert targets.tolist() == [[0.9999, 0.0001]]
    found = loss.penalty(targets, logits.softmax(1))
    found.sum().backward()
    assert found.item() == pytest.approx(2 * np.log(1 - 0.9999**2 - 0.0001**2))
    assert logits.grad.tolist() == [[0, 0]]


def plain_co_teaching(plain, tau, ramp, disagreement=False, initial=0):
    """Algorithm 1 of Han et al. 2018; of Yu et al. 2019 with `disagreement`, after `initial` epochs. `tau` gives both rates."""
    counts = []
    for epoch, batch in plain.batches():
        if len(counts) % plain.per_epoch == 0:
            rates = tau(plain)
        labels = plain.labels[batch]
        outputs = [network.train()(plain.images[batch]) for network in plain.networks]
        one, other = (logits.argmax(1) for logits in outputs)
        among = (one != other).nonzero()[:, 0] if disagreement and epoch >= initial else torch.arange(len(batch))
        best = []
        for logits, rate in zip(outputs, rates, strict=True):
            keep = 1 - min(epoch * plain.per_epoch / ramp * rate, rate)
            count = max(round(keep * len(among)), 1)
            losses = cross_entropy(logits[among], labels[among], reduction="none")
            best.append(among[losses.argsort()[:count]])
        counts.append(len(among))
        for logits, optimizer, kept in zip(outputs, plain.optimizers, reversed(best), strict=True):
            optimizer.zero_grad()
            (cross_entropy(logits[kept], labels[kept]) if len(kept) else 0 * logits.sum()).backward()
            optimizer.step()
    return counts


def oracle(rate):
    return lambda plain: (rate, rate)


def test_co_teaching_in_batches_is_that_of_its_paper(experiment):
    ours = experiment(*DIGITS, *BATCH)
    plain_co_teaching(plain := Plain(ours), oracle(0.3), 12)
    training = ran(ours)
    assert_same_networks(training, plain)
    # The last epoch keeps 0.7 of batches of 16, 16, 16 and 2 samples: 11, 11, 11 and 1.
    assert training.values[-1, METRICS.index("kept_share"), 0] == pytest.approx(34 / 50)


@pytest.mark.parametrize("initial", [0, 2])
def test_co_teaching_plus_is_that_of_its_paper(experiment, initial):
    ours = experiment(*DIGITS, *BATCH, "strategy.disagreement=true", f"strategy.initial={initial}")
    counts = plain_co_teaching(plain := Plain(ours), oracle(0.3), 12, True, initial)
    # Of batches of 16 and of 2 samples the networks disagree on all, on some and on none.
    assert {0, 16} <= set(counts)
    assert set(counts) & set(range(3, 16))
    assert_same_networks(ran(ours), plain)


def test_a_rate_in_batches_is_estimated_from_all_losses_once_an_epoch(experiment):
    ours = experiment(*DIGITS, *BATCH, "strategy.rate=estimated", "optimizer.epochs=12")
    seen = []

    def estimated(plain):
        with torch.no_grad():
            losses = [
                cross_entropy(network.eval()(plain.images), plain.labels, reduction="none").numpy()
                for network in plain.networks
            ]
        scaled = [((row - row.min()) / (row.max() - row.min()))[:, None] for row in losses]
        fits = [GaussianMixture(2, reg_covar=5e-4, random_state=0).fit(row) for row in scaled]
        seen.append([1 - fit.weights_[fit.means_[:, 0].argmin()] for fit in fits])
        return seen[-1]

    plain_co_teaching(plain := Plain(ours), estimated, 12)
    assert len(seen) == 12
    assert len({round(rate, 3) for pair in seen for rate in pair}) > 10, "the estimates differ between epochs and networks"
    nobody = replace(ours.prior_knowledge(), clean_share=np.array([np.nan]))
    training = Training.of(ours)
    blind = Training(training.engines, training.problem, training.steps, training.strategy, nobody)
    blind.run(StepCount())
    assert_same_networks(blind, plain)


def normed(channels=1, classes=3):
    torch.manual_seed(0)
    layers = nn.Conv2d(channels, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, classes)
    return nn.Sequential(*layers).double()


def test_samples_that_a_batch_leaves_out_are_in_its_statistics_as_published(experiment):
    ours = experiment(*DIGITS, *BATCH)
    networks = [normed(), normed()]
    networks[1][0].weight.data.mul_(-1)
    plain_co_teaching(plain := Plain(ours, copy.deepcopy(networks)), oracle(0.3), 12)
    problems = [replace(ours.sample(), networks=lambda net=net: [copy.deepcopy(net)]) for net in networks]
    engines = [ours.start(problem) for problem in problems]
    training = Training(engines, problems[0], ours.recorded_steps(), ours.strategy, ours.prior_knowledge(), classes=3)
    training.run(StepCount())
    assert_same_networks(training, plain)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.slow
def test_side_by_side_equals_each_alone(experiment, name):
    """What a GPU does with small networks."""
    varied = {"seed": np.array([3, 4]), "noise__rate": np.array([0.1, 0.4])}
    together = ran(experiment(*DIGITS, *METHODS[name], runs=2, **varied)).curves(0.0)
    for run, (seed, rate) in enumerate(zip(*varied.values(), strict=True)):
        alone = train(experiment(*DIGITS, *METHODS[name], f"seed={seed}", f"noise.rate={rate}"))
        np.testing.assert_allclose(together.values[..., run : run + 1], alone.values, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_goes_on_from_any_step_ends_bit_for_bit_the_same(experiment, name, monkeypatch):
    monkeypatch.setattr("lnt.training.loop.BLOCK", 1)
    one = experiment(*DIGITS, *METHODS[name], "optimizer.epochs=5")
    states = []
    whole = Training.of(one)
    whole.run(StepCount(), lambda state: states.append(copy.deepcopy(state())))
    for state in states[6::5]:
        again = Training.of(one)
        again.load(state)
        again.run(StepCount())
        np.testing.assert_array_equal(again.values, whole.values)
        for engine, wanted in zip(again.engines, whole.engines, strict=True):
            assert all(torch.equal(value, wanted.trained()[key]) for key, value in engine.trained().items())


VECTORS = (
    *(
        "data.n_train=24",
        "data.n_test=50",
        "data.dim=60",
        "noise.rate=0.3",
        "model.width=3",
        "precision=float64",
        "recordings=9",
    ),
    *("strategy=co_teaching", "strategy.ramp=20"),
)
SGD = ("optimizer=sgd", "optimizer.lr=0.1", "optimizer.epochs=20", "optimizer.batch_size=9", "optimizer.momentum=0.5")


@pytest.mark.parametrize("model", [(), ("model.bias=true", "model.activation=gelu"), ("data.noise_patches=2",)])
def test_full_batches_are_choices_among_all_samples_at_each_step(experiment, model):
    """Two roads to the same rule: weights that are set after a step, and before the next one."""
    descent = (*VECTORS, "optimizer.steps=60", "optimizer.lr=0.1", *model)
    one = train(experiment(*descent, "strategy.within=batch"))
    np.testing.assert_allclose(one.values, train(experiment(*descent, "strategy.every=1")).values, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("own", [(), ("strategy.disagreement=true",), ("strategy.rate=estimated",)])
def test_both_engines_agree_on_mini_batches(experiment, own, monkeypatch):
    from lnt.two_layer.sampled_problem import sample_problem

    monkeypatch.setattr(
        "lnt.two_layer.two_layer_experiment.sample_problem",
        lambda *arguments: sample_problem(*arguments[:-2], False, arguments[-1]),
    )
    settings = (*VECTORS, *SGD, "strategy.within=batch", *own)
    span, autograd = (train(experiment(*settings, f"engine={engine}")) for engine in ("span", "autograd"))
    np.testing.assert_allclose(span.values, autograd.values, rtol=1e-8, atol=1e-9)


def test_a_share_of_candidates():
    losses = torch.tensor([[3.0, 1, 2, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
    candidates = torch.tensor([[True, False, True, True], [False] * 4, [False, True, False, False]])
    chosen = smallest(losses, np.array([0.67, 0.67, 0.1]), candidates)
    assert chosen.int().tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: EarlyLearning(beta=1.0), r"beta=1.0: must lie in \[0, 1\)"),
        (lambda: EarlyLearning(strength=-1.0), "strength=-1.0: must be at least 0"),
        (lambda: CoTeaching(within="epoch"), "within=epoch: must be all or batch"),
        (lambda: CoTeaching(within="batch", every=3), "every=3: is for within=all; batch chooses at each step"),
        (lambda: CoTeaching(disagreement=True), "disagreement=True: is for within=batch"),
        (lambda: CoTeaching(within="batch", initial=3), "initial=3: is for disagreement=true"),
        (lambda: CoTeaching(within="batch", disagreement=True, initial=-1), "initial=-1: must be at least 0"),
    ],
)
def test_bad_numbers_are_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            ("loss=elr",),
            r"loss=elr: keeps a target of each sample, and is for images and vectors \(as data=digits, data=arrays\); use log",
        ),
        ((*VECTORS, "strategy.within=batch", "data.mixup=1"), "strategy.within=batch: is for steps on samples as they are"),
        (
            (*DIGITS, *BATCH, "strategy.disagreement=true", "strategy.initial=6"),
            "strategy.initial=6: ends at step 24, but training has 24 steps",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(experiment, settings, says):
    with pytest.raises(ConfigError, match=says) as refused:
        experiment(*settings)
    assert "\n" not in str(refused.value)
