"""Label-noise theory: exact, dimension-free experiments on how label noise shapes feature learning.

    results = lnt.simulate(noise=lnt.Symmetric(0.2), over={"seed": range(10)})
    results.stages().savefig("stages.png")

Letters for tensor dimensions, used in every shape comment of the package:

    R  runs trained side by side      n  training samples       N  test samples
    m  filters per output sign        P  filters, P = 2m        d  data dimension (patch length)
    D  coordinates that are stored    S  signal patches         K  distinct training patches, K = S + L n; or classes
    U  distinct random draws among R  T  recorded steps         M  metrics
    L  noise patches of a sample      V  signal directions      C  classes, beside patches
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Where each name of the public interface lives. It is imported when it is asked for: `python -m lnt.status` needs no PyTorch.
PUBLIC = {
    **dict.fromkeys(("simulate", "load", "Results"), "lnt.api"),
    "Probe": "lnt.probe",
    "look": "lnt.analysis.figure_style",
    **dict.fromkeys(("SignalNoise", "Features", "SignalNoiseClasses", "Xor", "Mixture", "XorMixture"), "lnt.two_layer.data"),
    **dict.fromkeys(("Digits", "Mnist", "FashionMnist", "Cifar10", "Cifar100", "OwnData"), "lnt.images.datasets"),
    **dict.fromkeys(("NoNoise", "Symmetric", "Pair", "Asymmetric", "Matrix", "LabelMultipliers"), "lnt.noise.by_class"),
    **dict.fromkeys(("Instance", "Human", "FileLabels"), "lnt.noise.by_sample"),
    "TwoLayerCNN": "lnt.two_layer.network",
    **dict.fromkeys(("SmallCNN", "Mlp", "Linear", "Vgg", "ResNet", "PreActResNet", "NineLayerCNN"), "lnt.images.networks"),
    **dict.fromkeys(
        ("Logistic", "Hinge", "Exponential", "Squared", "MeanAbsoluteError", "GeneralisedCrossEntropy"), "lnt.losses"
    ),
    **dict.fromkeys(("SymmetricCrossEntropy", "LabelSmoothing", "EarlyLearning"), "lnt.losses"),
    **dict.fromkeys(("Forward", "Backward", "BackwardSquared"), "lnt.losses"),
    **dict.fromkeys(("GradientDescent", "StochasticGradientDescent", "Adam", "AdamW"), "lnt.training.optimizers"),
    **dict.fromkeys(("SharpnessAwareDescent", "NormalizedGradientDescent", "Muon", "GradientFlow"), "lnt.training.optimizers"),
    **dict.fromkeys(
        ("NoStrategy", "EarlyStopping", "SmallLoss", "CoTeaching", "WeightAverage", "EstimatedTransition"),
        "lnt.training.strategies",
    ),
    "ConfigError": "lnt.errors",
}


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'lnt' has no attribute {name!r}; there are {', '.join(PUBLIC)}")
    return getattr(import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *PUBLIC]
