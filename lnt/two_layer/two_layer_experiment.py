"""Experiments on signal-noise data, with the exact reduction (span_engine.py) or at full dimension (autograd_engine.py)."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from lnt import hardware
from lnt.errors import ConfigError, require
from lnt.hardware import free_bytes, threads, workers_for
from lnt.noise.observed_labels import Classes, Samples
from lnt.theory.laws import stage1_scale
from lnt.training.experiment import PEER_SEED_STEP, Experiment, recorded_steps
from lnt.training.strategies import NoStrategy
from lnt.two_layer import kernels
from lnt.two_layer.autograd_engine import AutogradEngine
from lnt.two_layer.data import VectorData
from lnt.two_layer.network import TwoLayerCNN
from lnt.two_layer.sampled_problem import SampledProblem, few_dimensions, sample_problem
from lnt.two_layer.span_engine import SpanEngine
from lnt.two_layer.update_rules import RULES

RECORDINGS = 60
FEWEST_STEPS_OF_STAGE1 = 5.0  # below this predicted length its steps are too coarse to show it
MEASURED_BYTES = 2**24  # of runs whose matrix products are timed for an estimate
CACHE_BYTES = 6 * 2**20  # chunks with more state than this fall out of a CPU's cache and train slower


@dataclass(frozen=True)
class TwoLayerExperiment(Experiment):
    """A two-layer CNN on signal-noise data."""

    data: VectorData
    model: TwoLayerCNN

    def completed(self) -> "TwoLayerExperiment":
        self.check_model("two_layer_cnn")
        given = self.optimizer.lr is not None or self.optimizer.t1_steps is not None
        require(given, "optimizer", self.choices["optimizer"], "has no step size: give it a field lr, or t1_steps")
        require(self.settings.precision != "bf16", "precision", "bf16", "is for images; use float32 or float64")
        unknown = (
            "Stage I has a predicted length for two classes, signal and noise in patches of their own, and noise of one size"
        )
        unpredicted = self.optimizer.lr is None and not self._has_t1().all()
        require(not unpredicted, "optimizer.t1_steps", self.optimizer.t1_steps, f"{unknown} only; give lr")
        classes_too = "is for two classes: it has no form for K classes (for_classes, of_logits)"
        require(self.loss.for_classes or not self.data.softmax, "loss", self.choices["loss"], classes_too)
        targets = "keeps a target of each sample, and is for images and vectors (as data=digits, data=arrays); use logistic"
        require(not self.loss.remembers, "loss", self.choices["loss"], targets)
        plain = isinstance(self.strategy, NoStrategy)
        chosen = self.choices["strategy"]
        require(plain or not self.optimizer.until_fitted, "strategy", chosen, "is for optimizer.until=end; use none")
        ends = self.optimizer.until_fitted and bool(np.any(self.data.mixup))
        require(not ends, "data.mixup", self.data.mixup, "is for optimizer.until=end: mixed samples are never fitted")
        settings, in_span = self.settings, self.optimizer.stays_in_span
        if settings.engine == "span" and not in_span:
            steps = f"{type(self.optimizer).__name__}'s steps leave the span of the data"
            raise ConfigError("engine", "span", f"{steps}; use engine=autograd or optimizer=gd")
        rotated = self.model.init_law == "normal"
        whole = "needs vectors of length d, as its law changes under rotations; use engine=autograd"
        require(rotated or settings.engine != "span", "model.init_law", self.model.init_law, whole)
        engine = settings.engine if settings.engine != "auto" else "span" if in_span and rotated else "autograd"
        recordings = RECORDINGS if settings.recordings is None else settings.recordings
        complete = replace(self, settings=replace(settings, engine=engine, recordings=recordings))
        for_images = self.noise.needs_images or self.noise.needs_positions
        require(not for_images, "noise", self.choices["noise"], "is for images; use symmetric")
        complete.check_memory()
        return complete

    def classes(self) -> Classes:
        return self.data.task()

    @property
    def n(self) -> int:
        return self.data.n_train

    def representatives(self) -> Samples:
        # One sample of each class: the noise here depends on the class alone.
        classes = self.data.task()
        return Samples(np.tile(np.arange(classes.count), (self.runs, 1)), classes)

    def flip_rate(self) -> np.ndarray:
        shares = np.broadcast_to(self.data.class_shares(), (self.runs, self.classes().count))
        if (shares == shares[:, :1]).all():
            return super().flip_rate()
        samples = self.representatives()
        rates = [self.per_run(self.noise.flip_rate_of(label, samples)) for label in range(shares.shape[1])]
        return (shares * np.stack(rates, 1)).sum(1)

    def positions(self) -> np.ndarray:
        return np.tile(np.arange(self.n), (self.runs, 1))

    def predicted_t1(self) -> np.ndarray:
        if not (self.optimizer.stays_in_span and self.optimizer.sets_pace):
            return np.full(self.runs, np.nan)  # the step size of Adam, say, is another quantity
        return np.where(self._has_t1(), self._stage1_scale(self.step_size()), np.nan)

    def _has_t1(self) -> np.ndarray:
        """Whether Stage I has a predicted scale, [R]."""
        alike = (np.atleast_2d(self.data.noise_scales()) == 1).all(1)
        return self.per_run(alike if len(alike) > 1 else alike[0]) & (not self.data.one_patch and not self.data.softmax)

    def _stage1_scale(self, step_size: object) -> np.ndarray:
        """T1 of a step size, and the step size of a T1, [R], as in lnt/theory/conditions.py."""
        data = self.data
        return self.per_run(stage1_scale(self.n, self.model.width, step_size, data.noise_std, data.dim)) / data.noise_patches

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
        optimizer = self.optimizer
        if optimizer.t1_steps is None:
            return self.per_run(optimizer.lr).astype(float)
        return self._stage1_scale(optimizer.t1_steps)

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
            own = float(self.step_size()[0]), batches, self.bound_loss(), self.mixup()
            return AutogradEngine(problem, self.model, optimizer, *own)

        def tensor(numbers: object) -> torch.Tensor:
            return torch.tensor(self.per_run(numbers)).to(problem.patches)

        eta, momentum, weight_decay = tensor(self.step_size()), tensor(optimizer.momentum), tensor(optimizer.weight_decay)

        def factor(step: int) -> float:
            return optimizer.factor(step, self.total_steps())

        rule = RULES[optimizer.rule](optimizer, tensor)
        rest = (batches, factor, self.bound_loss(), bool(self.on_vectors().all()), optimizer.until_fitted, rule, self.mixup())
        return SpanEngine(problem, self.model, eta, momentum, weight_decay, *rest)

    def on_vectors(self) -> np.ndarray:
        """Whether the span engine trains each run on its vectors, not by the Gram matrix, [R]."""
        return few_dimensions(self.data, self.per_run(self.data.dim)) & (self.settings.engine == "span")

    def redrawn(self) -> np.ndarray | bool:
        return self.on_vectors()

    def by_test_set(self) -> "Experiment":
        # Neighbours are of one form, too: a chunk is.
        return self.take(np.lexsort((self.per_run(self.seeds.test), self.on_vectors())))

    def chunks(self, workers: int = 1) -> Iterator["Experiment"]:
        # Each run in its own form, so that it trains in the same one in any company.
        changes = np.flatnonzero(np.diff(self.on_vectors())) + 1
        for alike in np.split(np.arange(self.runs), changes):
            size = self._of(alike).runs_at_once(workers)
            for start in range(0, len(alike), size):
                yield self._of(alike[start : start + size])

    def _of(self, runs: np.ndarray) -> "TwoLayerExperiment":
        found = self.take(runs)
        assert isinstance(found, TwoLayerExperiment)
        return found

    def load_code(self) -> None:
        if self.settings.engine == "span":
            kernels.load(self.empty_tensor().cpu().numpy().dtype)

    def workers(self) -> int:
        # The matrix products of one large run are shared by all cores instead.
        large = self.runs == 1 and self.bytes_per_run()[0] > CACHE_BYTES
        return 1 if large else workers_for(self.empty_tensor().device)

    def shape(self) -> str:
        return f"n = {self.n}, m = {self.model.width}, {self.total_steps()} steps, {self._form()}"

    def _form(self) -> str:
        """The engine; of the span engine also its form, and why: each costs so many multiply-adds a filter and patch seen."""
        short, patches = self.on_vectors(), self.data.distinct_patches
        if self.settings.engine != "span":
            return self.settings.engine
        if short.all():
            return f"span on vectors (2 d < K = {patches})"
        return "span by Gram matrix" + (f", on vectors where 2 d < K = {patches}" if short.any() else "")

    def bytes_at_once(self) -> int:
        return min(self.runs, self.workers() * self.runs_at_once(self.workers())) * self.bytes_per_run()[1]

    def runs_at_once(self, workers: int = 1) -> int:
        """The number of runs that train side by side, when `workers` processes share the free memory and the runs."""
        if self.settings.engine == "autograd" or self.optimizer.rule == "flow":
            return 1
        state, total = self.bytes_per_run()
        fit = free_bytes(self.empty_tensor().device) // 2 // total // workers
        # Runs that end early leave a few, whose steps cost what calling PyTorch costs: together they cost it once.
        cache = CACHE_BYTES * (16 if self.optimizer.until_fitted else 1)
        cached = cache // state if self.empty_tensor().device.type == "cpu" else fit
        # No chunk is larger than an even share of the runs, or some workers would have nothing to do.
        share = -(-self.runs // workers)
        if self.data.distinct_patches <= kernels.SMALL:
            # One run after another takes all its steps: what counts is how often Python sets a chunk up.
            cached = max(cached, min(4 * cached, share // 4))
        return max(1, min(fit, cached, share))

    def _sizes(self) -> tuple[int, int, int]:
        """Patches K, filters P, and the length D of vectors, the largest of these runs."""
        rows, filters, short = self.data.distinct_patches, self.classes().count * self.model.width, self.on_vectors()
        explicit = self.settings.engine == "autograd" or bool(short.all())
        reduced = self.data.axes + self.data.noise_patches * self.n + filters
        return rows, filters, int(np.max(self.data.dim)) if explicit else reduced

    def bytes_per_run(self) -> tuple[int, int]:
        """Bytes of one run: those that every step touches, and all of them, with the test set and the memory to draw it."""
        (rows, filters, width), size = self._sizes(), self.empty_tensor().element_size()
        by_gram = self.settings.engine == "span" and not self.on_vectors().all()
        # Smooth activations and other rules than descent allocate what they compute.
        plain = self.model.sigma.is_plain and self.optimizer.rule == "descent" and not np.any(self.data.mixup)
        state = size * ((8 if plain else 12) * filters * rows + (rows * rows if by_gram else rows * width))
        # C, the vectors where these are what is trained, bias, second layer and a.
        trained = filters * ((rows if self.settings.engine == "span" else 0) + (0 if by_gram else width) + 2) + 1
        state += size * self.strategy.copies * trained
        # Samples of one patch are made of their signals and noise, which are kept beside them for a while.
        tested = self.data.n_test * (self.data.noise_patches * width + 4 + (self.classes().count if self.data.softmax else 0))
        vectors = ((4 if self.data.one_patch else 1) * rows + 2 * filters) * width + tested
        state, vectors = state * self.strategy.networks, vectors * self.strategy.networks
        # numpy draws in float64; draws of several runs are stacked, which copies them.
        return state, self.recorded_bytes() + state + (size + (8 if self.runs == 1 else 16)) * vectors

    def estimated_seconds(self) -> float:
        """Twice the time of the matrix products, at a speed measured now on the cores that a chunk has."""
        (filters, inner, seen, passes), workers = self._products(), self.workers()
        count = max(1, MEASURED_BYTES // self.bytes_per_run()[0])
        like = self.empty_tensor()
        left, right = (torch.randn(count, *shape, device=like.device) for shape in ((filters, inner), (inner, seen)))
        times = []
        with threads(1 if workers > 1 else hardware.cores()):
            for _ in range(5):
                start = time.perf_counter()
                float((left @ right).sum())  # waits for the device
                times.append(time.perf_counter() - start)
        # The fastest of five: the first ones include warming up.
        per_step = passes * min(times) / count / min(workers, self.runs)
        gradients = self.total_steps() * self.optimizer.cost
        return 2 * per_step * gradients * self.runs * self.strategy.networks

    def _products(self) -> tuple[int, int, int, int]:
        """The sizes of a step's products, [filters, inner] x [inner, seen], and how often it takes them."""
        rows, filters, width = self._sizes()
        seen = rows if self.optimizer.batch_size is None else min(rows, self.optimizer.batch_size)
        # By Gram matrix once, on vectors there and back.
        inner, passes = (rows, 1) if width >= rows and self.settings.engine == "span" else (width, 2)
        return filters, inner, seen, passes

    def step_cost(self) -> float:
        return float(math.prod(self._products()) * self.optimizer.cost * self.strategy.networks)

    def check_memory(self) -> None:
        """Raise ConfigError if not even one run fits."""
        needed, free = self.bytes_per_run()[1], free_bytes(self.empty_tensor().device)
        advice = "use engine=span, whose cost does not depend on data.dim" if self.settings.engine == "autograd" else ""
        key = "data.dim" if self.settings.engine == "autograd" else "data.n_train"
        allowed = f"one run needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free {advice}".rstrip()
        require(needed <= free, key, np.max(getattr(self.data, key.split(".")[1])), allowed)
