"""An experiment: the validated description of R runs that train side by side or one after another.

What all of them share is here; lnt/two_layer/two_layer_experiment.py and lnt/images/image_experiment.py know how to set up
their engines, and lnt/runs/experiments_from_settings.py tells which of the two a configuration describes.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from lnt import hardware
from lnt.column_names import COMPONENTS, EXECUTION_SETTINGS, METRICS
from lnt.errors import keys_under, require
from lnt.losses import Loss
from lnt.noise.observed_labels import Classes, LabelNoise, Samples
from lnt.seeding import Seeds, is_seed
from lnt.settings import Component, PerRunInt, flatten
from lnt.training.batch_order import MiniBatches
from lnt.training.engine import Engine, Truth
from lnt.training.metrics import OwnMetric, own_metrics
from lnt.training.mixup import Mixup
from lnt.training.optimizers import Optimizer
from lnt.training.run_id import identity, run_ids
from lnt.training.strategies import PriorKnowledge, Strategy

MAX_STEPS = 10**9  # of a run: days, even of the smallest
PEER_SEED_STEP = 2**32  # added to seeds.init for each further network of a run
# bf16 is the dtype of forward passes only; weights, losses and metrics stay in float32.
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bf16": torch.float32}
PARTS = (*COMPONENTS, "seeds")
ENGINES = ("auto", "span", "autograd")
DEVICES = ("auto", "cpu", "cuda")


class Data(Component):
    """The source of samples. `kind` says which experiment trains on them, and which models take them."""

    kind: ClassVar[str]  # vectors (lnt/two_layer) or images (lnt/images)

    def fingerprint(self) -> str:
        """A hash of the files that the samples come from; empty without files, and for those that are published."""
        return ""


class Model(Component):
    """The network that is trained. `takes` is the kind of data that it takes."""

    takes: ClassVar[str]


@dataclass(frozen=True)
class Settings(Component):
    """The top-level keys of conf/config.yaml."""

    seed: PerRunInt = 0  # of all random streams that have no seed of their own below `seeds`
    engine: str = "auto"  # auto | span (exact, dimension-free) | autograd (PyTorch at full dimension)
    device: str = "auto"  # auto | cpu | cuda
    precision: str = "float32"  # float32 | float64 | bf16 (images: forward passes in bfloat16, weights in float32)
    recordings: int | None = None  # measured steps, even in log(step); 1 = only the last; null = about 60, or every epoch
    keep_networks: bool = True  # images: keep the weights at the lowest test error and at the end, for attributions
    checkpoint_seconds: float = 60.0  # how often a long training is saved; a run that was broken off goes on from there
    metrics: tuple[str, ...] = ()  # metrics of your own: dotted names of functions, see docs/extending.md

    def validate(self) -> None:
        require(is_seed(self.seed), "seed", self.seed, "must be an integer from 0 to 2^62")
        for key, options in (("engine", ENGINES), ("device", DEVICES), ("precision", tuple(DTYPES))):
            require(getattr(self, key) in options, key, getattr(self, key), f"must be one of {', '.join(options)}")
        cuda = torch.cuda.is_available()
        require(self.device != "cuda" or cuda, "device", self.device, "no CUDA device is available; use cpu or auto")
        require(self.recordings is None or self.recordings >= 1, "recordings", self.recordings, "must be at least 1")
        require(self.checkpoint_seconds >= 0, "checkpoint_seconds", self.checkpoint_seconds, "must be at least 0")
        # Imports them, for its errors only: a wrong name must fail before training, not after.
        own_metrics(self.metrics)


@dataclass(frozen=True)
class Experiment(ABC):
    """R = `runs` runs that share all shapes; a component's numbers may be arrays [R]."""

    data: Any  # of the kind that the subclass names
    noise: LabelNoise
    model: Any
    loss: Loss
    optimizer: Optimizer
    strategy: Strategy
    seeds: Seeds
    settings: Settings
    choices: Mapping[str, str]  # the option chosen for each component: noise -> symmetric
    runs: int = 1

    one_run_per_job: ClassVar[bool] = False  # whether a run is long enough for a cluster's job of its own

    # Each kind of experiment implements these.

    @abstractmethod
    def completed(self) -> "Experiment":
        """A copy with every `auto` and null setting filled in. Raises ConfigError if its components do not fit each other."""

    @abstractmethod
    def classes(self) -> Classes:
        """The classes of the task."""

    @property
    @abstractmethod
    def n(self) -> int:
        """Training samples of each run."""

    @abstractmethod
    def representatives(self) -> Samples:
        """Samples that stand for the training set when a noise rate is asked for, [R or 1, ..]."""

    @abstractmethod
    def positions(self) -> np.ndarray:
        """Positions of the training samples in the files of their data set, [R, n]."""

    @abstractmethod
    def predicted_t1(self) -> np.ndarray:
        """Predicted length of Stage I in steps, [R]; NaN where theory predicts none."""

    @abstractmethod
    def step_size(self) -> np.ndarray:
        """eta of each run, [R]."""

    @abstractmethod
    def recorded_steps(self) -> np.ndarray:
        """The steps at which everything is measured, [T]; the last is the end of training."""

    @abstractmethod
    def sample(self, peer: int = 0) -> Truth:
        """Draw the inputs of all runs, as the engine takes them; another `peer` has other initial weights."""

    @abstractmethod
    def start(self, problem: Any) -> Engine:
        """The engine at step 0."""

    @abstractmethod
    def chunks(self, workers: int = 1) -> Iterator["Experiment"]:
        """The experiment in pieces that train at once, `workers` of which fit the memory that is free now."""

    @abstractmethod
    def workers(self) -> int:
        """The number of processes, of one core each, that share the chunks of a job."""

    @abstractmethod
    def load_code(self) -> None:
        """Load compiled code, so that worker processes, which are forked, have it from the start."""

    def cores(self) -> int:
        """The number of cores that a chunk computes on."""
        return hardware.cores()

    @abstractmethod
    def bytes_at_once(self) -> int:
        """Memory that training takes."""

    @abstractmethod
    def estimated_seconds(self) -> float:
        """Rough time that all runs take, measured now."""

    @abstractmethod
    def step_cost(self) -> float:
        """Multiply-adds of a step of one run, roughly: what weighs runs of different sizes against each other."""

    @abstractmethod
    def shape(self) -> str:
        """The sizes of a run, in words."""

    def warnings(self) -> list[str]:
        """Warn of settings that are allowed but may not be meant, a line each."""
        return []

    # All kinds share these.

    @property
    def knows_truth(self) -> bool:
        """Whether the true labels of training samples are known."""
        return True

    def check(self) -> None:
        """Raise ConfigError if these runs are too long, or label noise or strategy cannot act in them."""
        takes, fits = self.total_steps(), f"must come to at most {MAX_STEPS:.0e} steps"
        require(takes <= MAX_STEPS, "optimizer", f"{takes} steps", fits)
        needed, free = self.recorded_bytes(), hardware.free_bytes(torch.device("cpu"))
        few = f"needs {needed >> 20} MiB for what is recorded, {free >> 20} MiB are free; record fewer steps"
        require(needed <= free, "recordings", self.settings.recordings, few)
        with keys_under("noise"):
            self.noise.check(self.classes())
        with keys_under("loss"):
            self.loss.check(self.classes().count, self.known_transition)
        estimable, chosen = self.loss.estimable or not self.strategy.estimates_transition, self.choices["loss"]
        require(estimable, "loss", chosen, "has no transition matrix to estimate; use forward or backward")
        given = getattr(self.loss, "matrix", None) if self.strategy.estimates_transition else None
        require(given is None, "loss.matrix", given, "must be null with strategy=estimated_transition, which estimates it")
        known, mixes = self.prior_knowledge(), self.mixup() is not None
        alone = "is for steps on samples as they are; use data.mixup=0"
        require(not (mixes and self.loss.remembers), "loss", chosen, alone)
        require(not (mixes and self.strategy.looks_ahead), "strategy.within", "batch", alone)
        with keys_under("strategy"):
            self.strategy.check(self.total_steps(), len(self.recorded_steps()), known)
            constant = self.optimizer.schedule == "constant"
            unfit = "starts again in the middle of the schedule; use optimizer.schedule=constant"
            require(constant or not self.strategy.restarts, "restart", True, unfit)

    def recorded_bytes(self) -> int:
        """Memory of what is recorded of one run: float64, as measured, as tables, and twice more as these are joined."""
        return len(self.recorded_steps()) * (len(METRICS) + len(self.settings.metrics) + 4) * 8 * 4

    def check_model(self, options: str) -> None:
        """Raise ConfigError if the model takes another kind of data."""
        names = {"vectors": "vector data", "images": "images"}
        takes = self.model.takes
        fits = takes == self.data.kind
        require(fits, "model", self.choices["model"], f"is for {names.get(takes, takes)}; use {options}")

    def columns(self) -> dict[str, Any]:
        """Every config value under its dotted key: a scalar, text for a list, or an array [R]."""
        nested = {name: {f.name: getattr(getattr(self, name), f.name) for f in fields(getattr(self, name))} for name in PARTS}
        settings = {f.name: getattr(self.settings, f.name) for f in fields(Settings) if f.name not in EXECUTION_SETTINGS}
        choices = {name: self.choices[name] for name in COMPONENTS}
        values = {**choices, **dict(flatten(nested)), **settings}
        return {key: json.dumps(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def run_ids(self) -> list[str]:
        """For each run a hash of all that can change its result, [R]; the same alone and in any batch (run_id.py)."""
        return self._run_ids

    def identity(self) -> tuple[str, dict[str, np.ndarray]]:
        """The input of the hashes: a template with everything that the runs share, and the values [R] that fill it."""
        return identity(self.columns(), self.noise.fingerprint(), self.data.fingerprint())

    def redrawn(self) -> np.ndarray | bool:
        """Whether an earlier version drew other labels or samples for these settings, so that run_ids must differ, [R]."""
        return self.classes().count > 2 and not self.noise.one_wrong_class()

    # Hashing a large sweep takes a while, and checkpoints ask at every save.
    @cached_property
    def _run_ids(self) -> list[str]:
        return run_ids(*self.identity(), self.runs, self.redrawn())

    def own_metrics(self) -> dict[str, OwnMetric]:
        """The user's metrics under the names of their columns."""
        return own_metrics(self.settings.metrics)

    def take(self, runs: np.ndarray) -> "Experiment":
        """The experiment of the given runs only."""
        parts = {}
        for name in (*PARTS, "settings"):
            part = getattr(self, name)
            # Only arrays differ between runs; every other value is shared and stays as it is.
            arrays = {f.name: getattr(part, f.name) for f in fields(part) if isinstance(getattr(part, f.name), np.ndarray)}
            parts[name] = replace(part, **{key: value[runs] for key, value in arrays.items()})
        taken = replace(self, **parts, runs=len(runs))
        if "_run_ids" in vars(self):
            # Hashes of many runs take a while, and a sweep has made them when it looked for runs that are there.
            vars(taken)["_run_ids"] = [self._run_ids[run] for run in runs]
        return taken

    def by_test_set(self) -> "Experiment":
        """The same runs, reordered: those that share a test set are neighbours, so that it is drawn less often."""
        # Stable: with one test seed for all, the runs stay in the order in which they were planned.
        return self.take(np.argsort(np.broadcast_to(self.seeds.test, (self.runs,)), kind="stable"))

    def total_steps(self) -> int:
        return self.optimizer.total_steps(self.n)

    def work(self) -> float:
        """Multiply-adds of all runs, roughly."""
        return self.runs * self.total_steps() * self.step_cost()

    def steps_per_epoch(self) -> int:
        batch = self.optimizer.batch_size
        return 1 if batch is None else -(-self.n // batch)

    def empty_tensor(self) -> torch.Tensor:
        """An empty tensor of the dtype and on the device that the runs train with."""
        device = self.settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.empty(0, dtype=DTYPES[self.settings.precision], device=device)

    def per_run(self, value: Any) -> np.ndarray:
        """A shared number or one for each run, as [R]."""
        return np.broadcast_to(np.asarray(value), (self.runs,))

    def prior_knowledge(self) -> PriorKnowledge:
        """The knowledge that strategies may use."""
        # Nobody knows the rate that is realised in a run's own labels in practice.
        seeds = self.per_run(self.seeds.order)
        return PriorKnowledge(self.predicted_t1(), 1 - self.flip_rate(), seeds, self.steps_per_epoch())

    def flip_rate(self) -> np.ndarray:
        """P(observed != true) of the label noise, [R]: the rate on average, not the one realised in a run's own labels.

        NaN where true labels are not known.
        """
        if not self.knows_truth:
            return np.full(self.runs, np.nan)
        return self.per_run(self.noise.flip_rate(self.representatives()))

    def transition(self) -> np.ndarray:
        """P(observed = k | true = c) of the label noise, [R or 1, K, K]. Raises ConfigError where nobody knows it."""
        unknown = "must be given, or strategy=estimated_transition: true labels, which would tell the noise, are not known"
        require(self.knows_truth, "matrix", None, unknown)
        return self.noise.mean_transition(self.representatives())

    def bound_loss(self) -> Loss:
        """The loss, which may need to know what the label noise does."""
        return self.loss.bound(self.known_transition)

    def known_transition(self) -> np.ndarray:
        """P(observed | true), [R or 1, K, K], as training knows it at step 0: the identity where a strategy estimates it."""
        return np.eye(self.classes().count)[None] if self.strategy.estimates_transition else self.transition()

    def batches(self) -> MiniBatches | None:
        """The samples that each step sees; None for full-batch descent."""
        size = self.optimizer.batch_size
        return None if size is None else MiniBatches(self.n, size, self.per_run(self.seeds.order))

    def mixup(self) -> Mixup | None:
        """What each step mixes; None if no run mixes."""
        alpha = self.per_run(self.data.mixup)
        return Mixup(alpha, self.per_run(self.seeds.order)) if alpha.any() else None


def recorded_steps(total: int, recordings: int) -> np.ndarray:
    """About `recordings` steps from 0 to `total`: all of the first ones, then evenly in log(step), always the last."""
    if recordings == 1:
        return np.array([total])
    if recordings > total:
        return np.arange(total + 1)
    # From `total` down: where only one point is left for geomspace, it returns its start, which must be the last step.
    return np.unique(np.r_[0, np.rint(np.geomspace(total, 1, recordings - 1))]).astype(int)
