"""Networks with K outputs: torchvision's and those of the literature for 32 x 32 pixels; small ones, some for vectors too."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from lnt.errors import require
from lnt.seeding import generator
from lnt.training.experiment import Model


@dataclass(frozen=True)
class ImageModel(Model, ABC):
    """Builds networks that take images [B, C, H, W] and return logits [B, K]. compile: by torch.compile."""

    compile: bool = field(default=False, kw_only=True)  # by torch.compile

    takes = "images"
    small: ClassVar[bool] = False  # trained on one core each, and many at once on a GPU, which one alone leaves idle
    for_vectors: ClassVar[bool] = False  # whether it takes vectors, too: D channels of one pixel

    @abstractmethod
    def architecture(self, channels: int, pixels: int, classes: int) -> nn.Module:
        """A network with PyTorch's random initial weights, for square images of `pixels` each way."""

    def build(self, channels: int, pixels: int, classes: int, seed: int) -> nn.Module:
        """The network whose initial weights belong to this seed of the stream init, on the CPU."""
        # torch draws initial weights from its global generator: seeded here, and put back afterwards. No GPU draws any.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator("init", seed).integers(2**62)))
            return self.architecture(channels, pixels, classes)


@dataclass(frozen=True)
class SmallCNN(ImageModel):
    """Two 3 x 3 convolutions of `width` and 2 `width` filters, ReLU and 2 x 2 max-pooling each, one hidden layer of 64."""

    width: int = 16  # filters of the first convolution; the second has twice as many

    small = True

    def validate(self) -> None:
        require(self.width >= 1, "width", self.width, "must be at least 1")

    def architecture(self, channels: int, pixels: int, classes: int) -> nn.Module:
        layers: list[nn.Module] = []
        for filters in (self.width, 2 * self.width):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels = filters
        # Two poolings halve the size, rounded down, twice.
        features = channels * (pixels // 4) ** 2
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, classes))


@dataclass(frozen=True)
class Mlp(ImageModel):
    """A fully connected network: `depth` hidden layers of `width` ReLUs each, with biases, on all pixels or features."""

    width: int = 256  # units of each hidden layer
    depth: int = 2  # hidden layers

    small = True
    for_vectors = True

    def validate(self) -> None:
        for key in ("width", "depth"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "must be at least 1")

    def architecture(self, channels: int, pixels: int, classes: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        features = channels * pixels**2
        for _ in range(self.depth):
            layers += [nn.Linear(features, self.width), nn.ReLU()]
            features = self.width
        return nn.Sequential(*layers, nn.Linear(features, classes))


@dataclass(frozen=True)
class Linear(ImageModel):
    """A linear function of all pixels or features, with a bias, for each class: softmax regression under the logistic loss."""

    small = True
    for_vectors = True

    def architecture(self, channels: int, pixels: int, classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * pixels**2, classes))


@dataclass(frozen=True)
class Vgg(ImageModel):
    """VGG (Simonyan & Zisserman 2015) of `depth` 11 or 16 for 32 x 32 pixels: torchvision's features and a head on them.

    The head is one linear layer, or the classic one: 512 - 4096 - 4096 - K with ReLU and dropout, initial weights N(0, 0.01^2),
    as in the code that Han et al. (ICML 2025) published. Smaller images are padded with zeros (the mean) to 32 x 32.
    """

    depth: int = 11  # 11 or 16
    batch_norm: bool = True  # between convolution and ReLU
    head: str = "linear"  # linear (512 - K) | classic (512 - 4096 - 4096 - K)
    dropout: float = 0.0  # share of the hidden units of the classic head that a step leaves out, in [0, 1)

    @property
    def option(self) -> str:  # type: ignore[override]
        return f"vgg{self.depth}"

    def validate(self) -> None:
        require(self.depth in (11, 16), "depth", self.depth, "must be 11 or 16")
        require(self.head in ("linear", "classic"), "head", self.head, "must be linear or classic")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "must lie in [0, 1)")
        require(self.dropout == 0 or self.head == "classic", "dropout", self.dropout, "is that of head=classic")

    def architecture(self, channels: int, pixels: int, classes: int) -> nn.Module:
        from torchvision.models import vgg  # takes a second to import

        network = getattr(vgg, f"vgg{self.depth}" + "_bn" * self.batch_norm)(weights=None)
        features = network.features
        if channels != 3:
            # torchvision builds for three channels, and its initialisation has run already.
            features[0] = he_normal(nn.Conv2d(channels, 64, 3, padding=1))
        head = [nn.Linear(512, classes)] if self.head == "linear" else classic_head(classes, self.dropout)
        # 32 x 32 pixels leave 1 x 1 after five poolings, so 512 features; larger images are averaged.
        return nn.Sequential(*padding(pixels), features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)


@dataclass(frozen=True)
class ResNet(ImageModel):
    """ResNet (He et al., CVPR 2016) of `depth` 18 or 34; for 32 x 32 pixels the first layer is 3 x 3 without stride or pooling.

    Smaller images are padded with zeros (the mean) to 32 x 32.
    """

    depth: int = 18  # 18 or 34

    @property
    def option(self) -> str:  # type: ignore[override]
        return f"resnet{self.depth}"

    def validate(self) -> None:
        require(self.depth in (18, 34), "depth", self.depth, "must be 18 or 34")

    def architecture(self, channels: int, pixels: int, classes: int) -> nn.Module:
        from torchvision.models import resnet  # takes a second to import

        network = getattr(resnet, f"resnet{self.depth}")(weights=None, num_classes=classes)
        # torchvision initialises its layers as it builds them; a layer put in later would keep PyTorch's default.
        network.conv1 = he_normal(nn.Conv2d(channels, 64, 3, padding=1, bias=False))
        network.maxpool = nn.Identity()
        return nn.Sequential(*padding(pixels), network)


@dataclass(frozen=True)
class PreActResNet(ImageModel):
    """The pre-activation ResNet-18 (He et al., ECCV 2016) for 32 x 32 pixels, with a first layer of 3 x 3.

    A block is x + conv(relu(bn(conv(relu(bn(x)))))); where size or width change, the shortcut is a 1 x 1 convolution of
    relu(bn(x)). `form=he` ends with batch normalisation and ReLU before the mean over pixels. `form=dividemix` is what the
    public codes of DivideMix (Li et al., ICLR 2020) and ELR+ (Liu et al., NeurIPS 2020) train: these two follow the first layer
    instead, and the shortcut of every block starts from relu(bn(x)). Smaller images are padded with zeros (the mean).
    """

    form: str = "he"  # he (as published) | dividemix (as in the public codes of DivideMix and ELR+)

    option = "preact_resnet18"

    def validate(self) -> None:
        require(self.form in ("he", "dividemix"), "form", self.form, "must be he or dividemix")

    def architecture(self, channels: int, pixels: int, classes: int) -> nn.Module:
        as_published = self.form == "he"
        blocks: list[nn.Module] = []
        for before, width, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
            blocks += [PreActBlock(before, width, stride, as_published), PreActBlock(width, width, 1, as_published)]
        normed = [nn.BatchNorm2d(512 if as_published else 64), nn.ReLU()]
        blocks = [*blocks, *normed] if as_published else [*normed, *blocks]
        stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        return nn.Sequential(*padding(pixels), stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


class PreActBlock(nn.Module):
    """Two 3 x 3 convolutions, each after batch normalisation and ReLU, added to a shortcut; [B, before, ..] -> [B, width, ..].

    `pure`: without a change of shape, the shortcut is the input itself rather than its activation.
    """

    def __init__(self, before: int, width: int, stride: int, pure: bool) -> None:
        super().__init__()
        self.activation = nn.Sequential(nn.BatchNorm2d(before), nn.ReLU())
        first = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.convolutions = nn.Sequential(
            first, nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False)
        )
        changes = stride != 1 or before != width
        self.shortcut = nn.Conv2d(before, width, 1, stride, bias=False) if changes else nn.Identity()
        self.pure = pure and not changes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        active = self.activation(images)
        return self.convolutions(active) + self.shortcut(images if self.pure else active)


@dataclass(frozen=True)
class NineLayerCNN(ImageModel):
    """The nine-layer CNN of co-teaching (Han et al., NeurIPS 2018) for 32 x 32 pixels, after Laine & Aila (ICLR 2017).

    3 x 3 convolutions of 128, 128, 128, then 256, 256, 256 filters, each three followed by 2 x 2 max-pooling and dropout of
    whole channels; then 512, 256, 128 without padding, the mean over pixels, and a linear layer. Batch normalisation and leaky
    ReLU (0.01) follow each convolution. Unlike in the public code, dropout ends with training. Smaller images are padded.
    """

    dropout: float = 0.25  # share of the channels that a step leaves out after each pooling, in [0, 1)

    option = "cnn9"

    def validate(self) -> None:
        require(0 <= self.dropout < 1, "dropout", self.dropout, "must lie in [0, 1)")

    def architecture(self, channels: int, pixels: int, classes: int) -> nn.Module:
        layers: list[nn.Module] = []
        for widths, around in (((128,) * 3, 1), ((256,) * 3, 1), ((512, 256, 128), 0)):
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=around), nn.BatchNorm2d(width), nn.LeakyReLU(0.01)]
                channels = width
            if around:
                layers += [nn.MaxPool2d(2), nn.Dropout2d(self.dropout)]
        return nn.Sequential(*padding(pixels), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def classic_head(classes: int, dropout: float) -> list[nn.Module]:
    """Two hidden layers of 4096 ReLUs with dropout on 512 features, and a linear one."""
    linear = [nn.Linear(512, 4096), nn.Linear(4096, 4096), nn.Linear(4096, classes)]
    for layer in linear:
        nn.init.normal_(layer.weight, 0, 0.01)
        nn.init.zeros_(layer.bias)
    hidden = [module for layer in linear[:2] for module in (layer, nn.ReLU(), nn.Dropout(dropout))]
    return [*hidden, linear[2]]


def padding(pixels: int, wanted: int = 32) -> list[nn.Module]:
    """Zeros around images smaller than `wanted` each way."""
    missing = max(0, wanted - pixels)
    # Inside the network, after standardisation, where 0 is the mean.
    return [nn.ZeroPad2d((missing // 2, missing - missing // 2) * 2)] if missing else []


def he_normal(layer: nn.Conv2d) -> nn.Conv2d:
    """Initial weights as torchvision gives them to the layers of its networks."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
