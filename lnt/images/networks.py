"""Networks with K outputs: torchvision's for images, adapted to 32 x 32 pixels; small ones, some of which take vectors too."""

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
    """VGG (Simonyan & Zisserman 2015) of `depth` 11 or 16 for 32 x 32 pixels: torchvision's features, one linear layer on them.

    Smaller images are padded with zeros (the mean) to 32 x 32.
    """

    depth: int = 11  # 11 or 16
    batch_norm: bool = True  # between convolution and ReLU

    @property
    def option(self) -> str:  # type: ignore[override]
        return f"vgg{self.depth}"

    def validate(self) -> None:
        require(self.depth in (11, 16), "depth", self.depth, "must be 11 or 16")

    def architecture(self, channels: int, pixels: int, classes: int) -> nn.Module:
        from torchvision.models import vgg  # takes a second to import

        network = getattr(vgg, f"vgg{self.depth}" + "_bn" * self.batch_norm)(weights=None)
        features = network.features
        if channels != 3:
            # torchvision builds for three channels, and its initialisation has run already.
            features[0] = he_normal(nn.Conv2d(channels, 64, 3, padding=1))
        linear = nn.Linear(512, classes)
        # 32 x 32 pixels leave 1 x 1 after five poolings, so 512 features; larger images are averaged.
        layers = [features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear]
        return nn.Sequential(*padding(pixels), *layers)


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
