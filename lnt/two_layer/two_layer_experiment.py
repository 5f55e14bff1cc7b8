"""Experiments on signal-noise data, with the exact reduction (span_engine.py) or at full dimension (autograd_engine.py)."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from lnt.errors import ConfigError, require
from lnt.hardware import free_bytes, threads, workers_for
from lnt.noise.observed_labels import Classes, Samples
from lnt.theory.laws import stage1_scale
from lnt.training.experiment import PEER_SEED_STEP, Experiment, recorded_steps
from lnt.two_layer import kernels
from lnt.two_layer.autograd_engine import AutogradEngine
from lnt.two_layer.data import SignalNoise
from lnt.two_layer.network import TwoLayerCNN
from lnt.two_layer.sampled_problem import SampledProblem, sample_problem
from lnt.two_layer.span_engine import SpanEngine

RECORDINGS = 60
FEWEST_STEPS_OF_STAGE1 = 5.0  # below this predicted length its steps are too coarse to show it
MEASURED_BYTES = 2**24  # of runs whose matrix products are timed for an estimate
CACHE_BYTES = 6 * 2**20  # chunks with more state than this fall out of a CPU's cache and train slower


@dataclass(frozen=True)
class TwoLayerExperiment(Experiment):
    """A two-layer CNN on signal-noise data."""

    data: SignalNoise
    model: TwoLayerCNN

    def completed(self) -> "TwoLayerExperiment":
        self.check_model("two_layer_cnn")
        given = self.optimizer.lr is not None or self.optimizer.t1_steps is not None
        require(given, "optimizer", self.choices["optimizer"], "has no step size: give it a field lr, or t1_steps")
        require(self.settings.precision != "bf16", "precision", "bf16", "is for images; use float32 or float64")
        settings, in_span = self.settings, self.optimizer.stays_in_span
        if settings.engine == "span" and not in_span:
            steps = f"{type(self.optimizer).__name__}'s steps leave the span of the data"
            raise ConfigError("engine", "span", f"{steps}; use engine=autograd or optimizer=gd")
        engine = settings.engine if settings.engine != "auto" else "span" if in_span else "autograd"
        recordings = RECORDINGS if settings.recordings is None else settings.recordings
        complete = replace(self, settings=replace(settings, engine=engine, recordings=recordings))
        for_images = self.noise.needs_images or self.noise.needs_positions
        require(not for_images, "noise", self.choices["noise"], "is for images; use symmetric")
        complete.check_memory()
        return complete

    def classes(self) -> Classes:
        return Classes()

    @property
    def n(self) -> int:
        return self.data.n_train

    def representatives(self) -> Samples:
        # One sample of each class: both are equally likely, and the noise here depends on the class alone.
        return Samples(np.tile([[0, 1]], (self.runs, 1)))

    def positions(self) -> np.ndarray:
        return np.tile(np.arange(self.n), (self.runs, 1))

    def predicted_t1(self) -> np.ndarray:
        if not self.optimizer.stays_in_span:
            return np.full(self.runs, np.nan)  # the step size of Adam, say, is another quantity
        return stage1_scale(self.n, self.model.width, self.step_size(), self.data.noise_std, self.data.dim)

    def warnings(self) -> list[str]:
        """A step so large that Stage I is over before it can be seen, where several steps are recorded at all."""
        t1 = self.predicted_t1()
        hurried = t1 < FEWEST_STEPS_OF_STAGE1
        if self.settings.recordings == 1 or not hurried.any():
            return []
        runs = f"{hurried.sum()} of {self.runs} runs" if self.runs > 1 else "this run"
        step = f"{t1.min():.2g} {'step' if t1.min() == 1 else 'steps'}"
        return [f"Stage I is predicted to last {step} in {runs}, too few to see it: optimizer.t1_steps=40 gives it 40"]

    def step_size(self) -> np.ndarray:
        optimizer, data = self.optimizer, self.data
        if optimizer.t1_steps is None:
            return self.per_run(optimizer.lr).astype(float)
        # stage1_scale is its own inverse in the step size.
        return self.per_run(stage1_scale(data.n_train, self.model.width, optimizer.t1_steps, data.noise_std, data.dim))

    def recorded_steps(self) -> np.ndarray:
        assert self.settings.recordings is not None
        return recorded_steps(self.total_steps(), self.settings.recordings)

    def sample(self, peer: int = 0) -> SampledProblem:
        """Reduced coordinates for span, explicit vectors for autograd."""
        reduced = self.settings.engine == "span"
        seeds = replace(self.seeds, init=np.asarray(self.seeds.init) + peer * PEER_SEED_STEP)
        return sample_problem(self.data, self.noise, self.model, seeds, self.runs, reduced, self.empty_tensor())

    def start(self, problem: SampledProblem) -> SpanEngine | AutogradEngine:
        optimizer, batches = self.optimizer, self.batches()
        if self.settings.engine == "autograd":
            # runs_at_once gives this engine one run at a time.
            return AutogradEngine(problem, self.model.power, optimizer, float(self.step_size()[0]), batches, self.loss)
        rates = (self.step_size(), optimizer.momentum, optimizer.weight_decay)
        eta, momentum, weight_decay = (torch.tensor(self.per_run(rate)).to(problem.patches) for rate in rates)

        def factor(step: int) -> float:
            return optimizer.factor(step, self.total_steps())

        return SpanEngine(problem, self.model.power, eta, momentum, weight_decay, batches, factor, self.loss)

    def chunks(self, workers: int = 1) -> Iterator["Experiment"]:
        size = self.runs_at_once(workers)
        for start in range(0, self.runs, size):
            yield self.take(np.arange(start, min(start + size, self.runs)))

    def load_code(self) -> None:
        if self.settings.engine == "span":
            kernels.load(self.empty_tensor().cpu().numpy().dtype)

    def workers(self) -> int:
        return workers_for(self.empty_tensor().device)

    def shape(self) -> str:
        return f"n = {self.n}, m = {self.model.width}, {self.total_steps()} steps, {self.settings.engine}"

    def bytes_at_once(self) -> int:
        return min(self.runs, self.workers() * self.runs_at_once(self.workers())) * self.bytes_per_run()[1]

    def runs_at_once(self, workers: int = 1) -> int:
        """The number of runs that train side by side, when `workers` processes share the free memory and the runs."""
        if self.settings.engine == "autograd":
            return 1
        state, total = self.bytes_per_run()
        fit = free_bytes(self.empty_tensor().device) // 2 // total // workers
        cached = CACHE_BYTES // state if self.empty_tensor().device.type == "cpu" else fit
        # No chunk is larger than an even share of the runs, or some workers would have nothing to do.
        return max(1, min(fit, cached, -(-self.runs // workers)))

    def bytes_per_run(self) -> tuple[int, int]:
        """Bytes of one run: those that every step touches, and all of them, with the test set and the memory to draw it."""
        n, filters, size = self.data.n_train, 2 * self.model.width, self.empty_tensor().element_size()
        rows = self.data.axes + n
        width = int(np.max(self.data.dim)) if self.settings.engine == "autograd" else rows + filters
        state = size * (rows * rows + 8 * filters * rows)
        vectors = (rows + 2 * filters) * width + self.data.n_test * (width + 4)
        state, vectors = state * self.strategy.networks, vectors * self.strategy.networks
        return state, self.recorded_bytes() + state + (size + 16) * vectors  # numpy draws in float64, and stacks

    def estimated_seconds(self) -> float:
        """Twice the time of the matrix products, at a speed measured now on one core."""
        rows, filters, count = 2 + self.data.n_train, 2 * self.model.width, max(1, MEASURED_BYTES // self.bytes_per_run()[0])
        left, right = (torch.randn(count, size, rows, device=self.empty_tensor().device) for size in (filters, rows))
        times = []
        # One core, since a worker trains on one.
        with threads(1):
            for _ in range(5):
                start = time.perf_counter()
                float((left @ right).sum())  # waits for the device
                times.append(time.perf_counter() - start)
        # The fastest of five: the first ones include warming up.
        per_step = min(times) / count / min(self.workers(), self.runs)
        if self.settings.engine == "autograd":
            # The products have d columns instead of K, once forward and once backward.
            per_step *= 2 * float(np.mean(self.data.dim)) / rows
        return 2 * per_step * self.total_steps() * self.runs * self.strategy.networks

    def check_memory(self) -> None:
        """Raise ConfigError if not even one run fits."""
        needed, free = self.bytes_per_run()[1], free_bytes(self.empty_tensor().device)
        advice = "use engine=span, whose cost does not depend on data.dim" if self.settings.engine == "autograd" else ""
        key = "data.dim" if self.settings.engine == "autograd" else "data.n_train"
        allowed = f"one run needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free {advice}".rstrip()
        require(needed <= free, key, np.max(getattr(self.data, key.split(".")[1])), allowed)
