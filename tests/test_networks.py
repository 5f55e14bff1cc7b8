"""Networks of the literature against definitions written out here, and dropout that is a function of seed and step."""

import copy
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lnt
from lnt.errors import ConfigError
from lnt.images.networks import ImageModel


class Block(nn.Module):
    """A pre-activation block as one writes it: He et al. 2016, figure 4(e), with two 3 x 3 convolutions."""

    def __init__(self, before, width, stride, pure):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(before), nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.pure, self.project = pure, nn.Sequential()
        if before != width:
            self.project = nn.Conv2d(before, width, 1, stride, bias=False)

    def forward(self, x):
        out = F.relu(self.bn1(x))
        skip = self.project(out) if isinstance(self.project, nn.Conv2d) else x if self.pure else out
        return self.conv2(F.relu(self.bn2(self.conv1(out)))) + skip


class PreAct(nn.Module):
    """He et al.: normalised at the end. The public codes of DivideMix and ELR+: after the first layer instead."""

    def __init__(self, form, classes=10):
        super().__init__()
        self.form, last = form, nn.BatchNorm2d(512)
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        if form == "dividemix":
            self.bn1 = nn.BatchNorm2d(64)
        widths, blocks = [64, 64, 64, 128, 128, 256, 256, 512, 512], []
        for number, (before, width) in enumerate(pairwise(widths)):
            blocks.append(Block(before, width, 2 if number in (2, 4, 6) else 1, form == "he"))
        self.blocks = nn.Sequential(*blocks)
        if form == "he":
            self.last = last
        self.linear = nn.Linear(512, classes)

    def forward(self, x):
        x = self.conv1(x)
        x = F.relu(self.bn1(x)) if self.form == "dividemix" else x
        x = self.blocks(x)
        x = F.relu(self.last(x)) if self.form == "he" else x
        return self.linear(F.avg_pool2d(x, 4).flatten(1))


class NineLayers(nn.Module):
    """Table 2 of Han et al., NeurIPS 2018."""

    def __init__(self):
        super().__init__()
        widths = [3, 128, 128, 128, 256, 256, 256, 512, 256, 128]
        for number in range(1, 10):
            convolution = nn.Conv2d(widths[number - 1], widths[number], 3, padding=1 if number < 7 else 0)
            setattr(self, f"c{number}", convolution)
            setattr(self, f"bn{number}", nn.BatchNorm2d(widths[number]))
        self.linear = nn.Linear(128, 10)

    def forward(self, x):
        for number in range(1, 10):
            x = F.leaky_relu(getattr(self, f"bn{number}")(getattr(self, f"c{number}")(x)), 0.01)
            if number in (3, 6):
                x = F.dropout2d(F.max_pool2d(x, 2), 0.25, self.training)
        return self.linear(F.avg_pool2d(x, 2).flatten(1))


class Vgg11(nn.Module):
    """Configuration A of Simonyan & Zisserman without batch normalisation, on the head 512 - 4096 - 4096 - 10."""

    def __init__(self):
        super().__init__()
        widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.linear = nn.ModuleList([nn.Linear(512, 4096), nn.Linear(4096, 4096), nn.Linear(4096, 10)])

    def forward(self, x):
        for number, convolution in enumerate(self.convolutions):
            x = F.relu(convolution(x))
            if number in (0, 1, 3, 5, 7):
                x = F.max_pool2d(x, 2)
        x = x.flatten(1)
        for layer in self.linear[:2]:
            x = F.dropout(F.relu(layer(x)), 0.5, self.training)
        return self.linear[2](x)


NETWORKS = {
    # Stem 1728, blocks 11 164 288, linear layer 5130; and a batch normalisation of 512 or of 64 channels.
    "preact": (lnt.PreActResNet(), lambda: PreAct("he"), 11_171_146 + 2 * 512),
    "preact, dividemix": (lnt.PreActResNet(form="dividemix"), lambda: PreAct("dividemix"), 11_171_146 + 2 * 64),
    # 9 for each of 491 904 pairs of channels, bias and batch normalisation of 2048 channels, and 129 x 10.
    "cnn9": (lnt.NineLayerCNN(), NineLayers, 9 * 491_904 + 3 * 2048 + 1290),
    "vgg11": (lnt.Vgg(batch_norm=False, head="classic", dropout=0.5), Vgg11, 9_220_480 + 513 * 4096 + 4097 * 4096 + 40_970),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_networks_are_those_of_the_literature(name):
    """Parameters counted by hand; the same function of the same weights, batch statistics and dropped units."""
    model, definition, count = NETWORKS[name]
    ours, wanted = model.build(3, 32, 10, 0).double(), definition().double()
    assert sum(weight.numel() for weight in ours.parameters()) == count
    torch.manual_seed(0)
    for key, value in ours.state_dict().items():
        if value.is_floating_point():  # initial weights leave batch normalisation and biases without effect
            value.mul_(1 + 0.3 * torch.rand_like(value)).add_(0.1 * torch.rand_like(value) if value.ndim == 1 else 0)
        assert "weight" in key or "bias" in key or "running" in key or "num_batches" in key
    wanted.load_state_dict(dict(zip(wanted.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    for network in (ours, wanted):
        network.requires_grad_(False).eval()
    torch.testing.assert_close(ours(images), wanted(images), rtol=1e-9, atol=1e-12)
    outputs = []
    for network in (ours, wanted):
        torch.manual_seed(1)
        outputs.append(network.train()(images))
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(outputs[0], ours.eval()(images))


@pytest.mark.slow
def test_initial_weights_of_the_classic_head():
    """N(0, 0.01^2) and no biases; the linear head of the same seed is another one."""
    network = lnt.Vgg(batch_norm=False, head="classic").build(1, 8, 2, 0)
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in layers] == [(4096, 512), (4096, 4096), (2, 4096)]
    assert all((layer.bias == 0).all() for layer in layers)
    assert layers[1].weight.std().item() == pytest.approx(0.01, rel=2e-3)
    assert layers[1].weight.mean().abs() < 1e-5


def test_settings_of_networks_that_cannot_be_are_refused():
    for make, said in (
        (lambda: lnt.Vgg(dropout=0.5), r"dropout=0.5: is that of head=classic"),
        (lambda: lnt.Vgg(head="classic", dropout=1.0), r"dropout=1.0: must lie in \[0, 1\)"),
        (lambda: lnt.Vgg(head="deep"), "head=deep: must be linear or classic"),
        (lambda: lnt.NineLayerCNN(dropout=-0.1), r"dropout=-0.1: must lie in \[0, 1\)"),
        (lambda: lnt.PreActResNet(form="she"), "form=she: must be he or dividemix"),
    ):
        with pytest.raises(ConfigError, match=said):
            make()


@dataclass(frozen=True)
class Dropping(ImageModel):
    """A small network that leaves out units, by a module and by a function."""

    def architecture(self, channels, pixels, classes):
        return Dropped(channels * pixels**2, classes)


class Dropped(nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.first, self.second = nn.Linear(features, 20), nn.Linear(20, classes)
        self.module = nn.Dropout(0.5)

    def forward(self, images):
        hidden = self.module(self.first(images.flatten(1)).relu())
        return self.second(F.dropout(hidden, 0.2, self.training))


DIGITS = ("data=digits", "data.classes=[3,8]", "data.n_train=40", "data.n_test=30", "precision=float64")
DROPPING = (*DIGITS, "optimizer.epochs=6", "~model.width", f"++model._target_={__name__}.Dropping")


def test_dropout_is_that_of_the_usual_loop_seeded_at_each_step(experiment):
    """The seed of step k comes from the stream order under the key (k, 2, 0), written out here."""
    one = experiment(*DROPPING, "seeds.order=7", "optimizer.batch_size=40")
    engine, problem = one.start(one.sample()), one.sample()
    network = problem.networks()[0].double()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    images, labels = problem.train.at(problem.index)[0], problem.observed.at(0)[0]
    before = torch.random.get_rng_state()
    engine.advance(6)
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator is left alone"
    for step in range(6):
        order = np.random.Generator(np.random.SFC64(np.random.SeedSequence(7, spawn_key=(3, step)))).permutation(40)
        seeds = np.random.Generator(np.random.SFC64(np.random.SeedSequence(7, spawn_key=(3, step, 2, 0))))
        torch.manual_seed(int(seeds.integers(2**62)))
        optimizer.zero_grad()
        F.cross_entropy(network(images[order]), labels[order]).backward()
        optimizer.step()
    for name, value in network.named_parameters():
        torch.testing.assert_close(engine.parameters[name], value, rtol=1e-9, atol=1e-12)


def test_a_resumed_run_drops_the_same_units(experiment):
    one = experiment(*DROPPING)
    whole, first, second = (one.start(one.sample()) for _ in range(3))
    whole.advance(9)
    first.advance(4)
    second.load(copy.deepcopy(first.state()))
    torch.manual_seed(12345)
    second.snapshot(), second.losses()
    second.advance(5)
    assert all(torch.equal(value, second.trained()[name]) for name, value in whole.trained().items())


def test_two_networks_of_a_run_drop_units_of_their_own(experiment):
    """From the same initial weights; without dropout they would be the same."""
    one, plain = experiment(*DROPPING), experiment(*DIGITS, "model.width=4", "optimizer.epochs=6")
    for problem, same in ((one.sample(), False), (plain.sample(), True)):
        engines = [(one if not same else plain).start(replace(problem, peer=peer)) for peer in (0, 1)]
        for engine in engines:
            engine.advance(3)
        first, second = (engine.trained() for engine in engines)
        assert all(torch.equal(first[name], second[name]) for name in first) == same
    assert one.sample(peer=1).peer == 1


def test_networks_with_dropout_train_one_by_one():
    """torch.func would draw the same units for all runs, or refuse: none of them is packed."""
    assert not any(model.small for model, _, _ in NETWORKS.values())
