"""An experiment: the validated description of R runs that train side by side or one after another.

What all of them share is here; lnt/synthetic.py and lnt/imaging.py know how to set up their engines, lnt/compose.py tells
which of the two a configuration describes.
"""

import hashlib
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import psutil
import torch

from lnt.config import COMPONENTS, PerRunInt, flatten, keys_under, require
from lnt.engine import Engine
from lnt.metrics import Truth
from lnt.noise import Classes, LabelNoise, Samples
from lnt.optimizers import MiniBatches, Optimizer
from lnt.seeding import Seeds, is_seed
from lnt.strategies import Knowns, Strategy

PEER = 2**32  # added to seeds.init for each further network of a run
HOW = ("keep_networks", "checkpoint_seconds")  # settings that say how to run, not what: no columns
WITHOUT_EFFECT = ("seed", "device", "data.root", "data.download", "noise.file")  # not in run_id: see `identity`
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bf16": torch.float32}
PARTS = (*COMPONENTS, "seeds")


@dataclass(frozen=True)
class Settings:
    """The top-level keys of conf/config.yaml."""

    seed: PerRunInt
    engine: str
    device: str
    precision: str
    recordings: int | None
    keep_networks: bool
    checkpoint_seconds: float

    def __post_init__(self) -> None:
        require(is_seed(self.seed), "seed", self.seed, "must be an integer from 0 to 2^62")
        for key, options in (
            ("engine", ("auto", "span", "autograd")),
            ("device", ("auto", "cpu", "cuda")),
            ("precision", tuple(DTYPES)),
        ):
            require(getattr(self, key) in options, key, getattr(self, key), f"must be one of {', '.join(options)}")
        cuda = torch.cuda.is_available()
        require(self.device != "cuda" or cuda, "device", self.device, "no CUDA device is available; use cpu or auto")
        require(self.recordings is None or self.recordings >= 1, "recordings", self.recordings, "must be at least 1")
        require(self.checkpoint_seconds >= 0, "checkpoint_seconds", self.checkpoint_seconds, "must be at least 0")


@dataclass(frozen=True)
class Experiment(ABC):
    """R = `runs` runs that share all shapes; a component's numbers may be arrays [R]."""

    data: Any  # of the kind that the subclass names
    noise: LabelNoise
    model: Any
    optimizer: Optimizer
    strategy: Strategy
    seeds: Seeds
    settings: Settings
    choices: Mapping[str, str]  # the option chosen for each component: noise -> symmetric
    runs: int = 1

    # What a kind of experiment has to say.

    @abstractmethod
    def completed(self) -> "Experiment":
        """The same with every `auto` and null setting filled in. Raises ConfigError if its components do not fit each other."""

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
        """Where the training samples lie in the files of their data set, [R, n]."""

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
        """How many processes, of one core each, share the chunks of a job."""

    def cores(self) -> int:
        """How many cores a chunk computes on."""
        return torch.get_num_threads()

    @abstractmethod
    def bytes_at_once(self) -> int:
        """Memory that training takes."""

    @abstractmethod
    def estimated_seconds(self) -> float:
        """About how long all runs take, measured now."""

    @abstractmethod
    def shape(self) -> str:
        """The sizes of a run, in words."""

    # What they have in common.

    def check(self) -> None:
        """Raise ConfigError if label noise or strategy cannot act in these runs."""
        with keys_under("noise"):
            self.noise.check(self.classes())
        with keys_under("strategy"):
            self.strategy.check(self.total_steps(), len(self.recorded_steps()), self.knowns())
            constant = self.optimizer.schedule == "constant"
            unfit = "starts again in the middle of the schedule; use optimizer.schedule=constant"
            require(constant or not getattr(self.strategy, "restart", False), "restart", True, unfit)

    def columns(self) -> dict[str, Any]:
        """Every config value under its dotted key: a scalar, text for a list, or an array [R]."""
        nested = {name: {f.name: getattr(getattr(self, name), f.name) for f in fields(getattr(self, name))} for name in PARTS}
        settings = {f.name: getattr(self.settings, f.name) for f in fields(Settings) if f.name not in HOW}
        choices = {name: self.choices[name] for name in COMPONENTS}
        values = {**choices, **dict(flatten(nested)), **settings}
        return {key: json.dumps(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def identity(self) -> tuple[str, dict[str, np.ndarray]]:
        """All that can change a result: a template with the values that the runs share, and the values [R] that fill it."""
        columns = {key: value for key, value in sorted(self.columns().items()) if key not in WITHOUT_EFFECT}
        if content := self.noise.fingerprint():  # of a file: where it lies cannot change a result
            columns["noise.file"] = content
        varying = {key: value for key, value in columns.items() if isinstance(value, np.ndarray)}
        lines = (
            f"{key}=%s" if key in varying else f"{key}={json.dumps(value)}".replace("%", "%%") for key, value in columns.items()
        )
        return "\n".join(lines), varying

    def run_ids(self) -> list[str]:
        """For each run a hash of all that can change its result, [R]; the same alone and in any batch."""
        return self._run_ids

    @cached_property
    def _run_ids(self) -> list[str]:
        template, varying = self.identity()
        values = zip(*(map(repr, array.tolist()) for array in varying.values()), strict=True) if varying else [()] * self.runs
        return [hashlib.sha256((template % run).encode()).hexdigest()[:16] for run in values]

    def take(self, runs: np.ndarray) -> "Experiment":
        """The experiment of the given runs only."""
        parts = {}
        for name in (*PARTS, "settings"):
            part = getattr(self, name)
            arrays = {f.name: getattr(part, f.name) for f in fields(part) if isinstance(getattr(part, f.name), np.ndarray)}
            parts[name] = replace(part, **{key: value[runs] for key, value in arrays.items()})
        return replace(self, **parts, runs=len(runs))

    def by_test_set(self) -> "Experiment":
        """The same runs, those that share a test set side by side: it is then drawn less often."""
        return self.take(np.argsort(np.broadcast_to(self.seeds.test, (self.runs,)), kind="stable"))

    def total_steps(self) -> int:
        return self.optimizer.total_steps(self.n)

    def steps_per_epoch(self) -> int:
        batch = self.optimizer.batch_size
        return 1 if batch is None else -(-self.n // batch)

    def like(self) -> torch.Tensor:
        """An empty tensor of the dtype and on the device that the runs train with."""
        device = self.settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.empty(0, dtype=DTYPES[self.settings.precision], device=device)

    def per_run(self, value: Any) -> np.ndarray:
        """A shared number or one for each run, as [R]."""
        return np.broadcast_to(np.asarray(value), (self.runs,))

    def knowns(self) -> Knowns:
        """What a strategy may know."""
        flipped = np.broadcast_to(self.noise.flip_rate(self.representatives()), (self.runs,))
        return Knowns(self.predicted_t1(), 1 - flipped, self.per_run(self.seeds.order), self.steps_per_epoch())

    def batches(self) -> MiniBatches | None:
        """Which samples each step sees; None for full-batch descent."""
        size = self.optimizer.batch_size
        return None if size is None else MiniBatches(self.n, size, self.per_run(self.seeds.order))


def free_bytes(device: torch.device) -> int:
    """Memory that is free on the device, and on the host, where everything is drawn before it moves to the device.

    In a SLURM job no more than it was granted, which it does not see as the size of its host.
    """
    granted = int(os.environ.get("SLURM_MEM_PER_NODE", 0)) << 20
    host = min(psutil.virtual_memory().available, granted or sys.maxsize)
    return min(host, torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else host


def recorded_steps(total: int, recordings: int) -> np.ndarray:
    """About `recordings` steps from 0 to `total`: all of the first ones, then evenly in log(step), always the last."""
    if recordings == 1:
        return np.array([total])
    if recordings > total:
        return np.arange(total + 1)
    return np.unique(np.r_[0, np.rint(np.geomspace(total, 1, recordings - 1))]).astype(int)
