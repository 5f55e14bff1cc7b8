"""Experiments on images."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from lnt.errors import ConfigError, keys_under, require
from lnt.hardware import free_bytes, workers_for
from lnt.images.augment import Batches
from lnt.images.datasets import Images, on_device, pixel_statistics
from lnt.images.image_engine import EVALUATED_AT_ONCE, ImageEngine, ImageProblem
from lnt.images.networks import ImageModel
from lnt.noise.observed_labels import Classes, ObservedLabels, Samples
from lnt.training.experiment import PEER_SEED_STEP, Experiment, recorded_steps

RECORDINGS = 60  # of full-batch descent, whose steps are epochs
SIDE_BY_SIDE = 64  # at most so many networks at once on a GPU
TIMED_STEPS = 3


def _no_representative(run: int) -> np.ndarray:
    raise ConfigError("noise", "of this kind", "looks at pixels, so a few samples tell no rate: it must define flip_rate")


# Cached: the points of a sweep share the network, and a large one takes a while to build.
@lru_cache
def misfit(model: ImageModel, channels: int, pixels: int, classes: int) -> str:
    """Why a network cannot take images of this size; empty if it can."""
    try:
        with torch.no_grad():
            model.build(channels, pixels, classes, seed=0).eval()(torch.zeros(1, channels, pixels, pixels))
    except (RuntimeError, ValueError) as error:
        return str(error).strip().splitlines()[0]
    return ""


@dataclass(frozen=True)
class ImageExperiment(Experiment):
    """A network on images of some classes."""

    data: Images
    model: ImageModel

    one_run_per_job = True

    def completed(self) -> "ImageExperiment":
        self.check_model("small_cnn, vgg11, vgg16, resnet18 or resnet34")
        classes_too = "is for signal-noise data: it has no form for K classes (for_classes, of_logits)"
        chosen = self.choices["optimizer"]
        require(self.optimizer.for_images, "optimizer", chosen, "is for signal-noise data; use sgd")
        once = not self.optimizer.looks_ahead or self.model.small
        require(once, "optimizer", chosen, "passes twice, which batch statistics would count; use model=small_cnn")
        require(not self.optimizer.until_fitted, "optimizer.until", "fitted", "is for signal-noise data")
        classes = "multiplies labels -1 and +1, and is for signal-noise data; use symmetric"
        require(not self.noise.multiplies, "noise", self.choices["noise"], classes)
        require(self.loss.for_classes, "loss", self.choices["loss"], classes_too)
        require(self.settings.engine != "span", "engine", "span", "is for signal-noise data; use auto or autograd")
        if self.optimizer.lr is None:
            if self.optimizer.t1_steps is None:
                raise ConfigError("optimizer", self.choices["optimizer"], "has no step size: give it a field lr")
            raise ConfigError("optimizer.t1_steps", self.optimizer.t1_steps, "has no meaning on images; give optimizer.lr")
        with keys_under("data"):
            n, _ = self.data.size(), self.data.test_size()
        with keys_under("noise"):
            self.noise.check_truth(self.data.arrays()["train_labels"])
        epochs, rest = divmod(self.optimizer.total_steps(n), self.steps_per_epoch())
        whole = f"must be whole epochs of {self.steps_per_epoch()} steps on images"
        require(rest == 0, "optimizer.steps", self.optimizer.total_steps(n), whole)
        # Step 0 and the end of each epoch. A full-batch step is an epoch, and there may be thousands of them.
        every = epochs + 1 if self.optimizer.batch_size else RECORDINGS
        recordings = every if self.settings.recordings is None else self.settings.recordings
        self.check_memory()
        return replace(self, settings=replace(self.settings, engine="autograd", recordings=recordings))

    def check(self) -> None:
        super().check()
        _, channels, height, width = self.data.arrays()["train"].shape
        problem = misfit(self.model, channels, height, self.classes().count)
        size = f"{channels} x {height} x {width}"
        require(not problem, "model", self.choices["model"], f"cannot take images of {size}: {problem}")

    def classes(self) -> Classes:
        return self.data.task()

    @property
    def n(self) -> int:
        return self.data.size()

    def representatives(self) -> Samples:
        classes = self.data.task()
        if self.noise.needs_positions:  # its labels are those of samples, not of classes
            truth = self.data.as_classes(self.data.arrays()["train_labels"])[None]
            return Samples(truth, classes, index=np.arange(truth.size)[None])
        return Samples(np.tile(np.arange(classes.count), (self.runs, 1)), classes, features=_no_representative)

    def redrawn(self) -> np.ndarray | bool:
        return super().redrawn() or self.data.redrawn()

    def positions(self) -> np.ndarray:
        return np.stack([self.data.sample_training_set(int(seed)) for seed in self.per_run(self.seeds.data)])

    def predicted_t1(self) -> np.ndarray:
        return np.full(self.runs, np.nan)

    def step_size(self) -> np.ndarray:
        return self.per_run(self.optimizer.lr).astype(float)

    def recorded_steps(self) -> np.ndarray:
        """Whole epochs."""
        assert self.settings.recordings is not None
        per_epoch = self.steps_per_epoch()
        return per_epoch * recorded_steps(self.total_steps() // per_epoch, self.settings.recordings)

    def sample(self, peer: int = 0) -> ImageProblem:
        data, like, classes = self.data, self.empty_tensor(), self.data.task()
        arrays, (train, test) = data.arrays(), on_device(data, like.device)
        mean, std = (statistic.astype(np.float32) for statistic in pixel_statistics(data))

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(array, device=like.device)

        index = self.positions()
        drawn = [data.sample_test_set(int(seed)) for seed in self.per_run(self.seeds.test)]
        test_index, uniforms = (np.stack(parts) for parts in zip(*drawn, strict=True))
        labels, test_labels = (data.as_classes(arrays[f"{split}_labels"]) for split in ("train", "test"))
        seeds = self.per_run(self.seeds.noise)

        def samples(split: str, true: np.ndarray, positions: np.ndarray) -> Samples:
            # A function: only noise that looks at pixels needs them, and one run at a time.
            def features(run: int) -> np.ndarray:
                pixels = arrays[split][positions[run]] / np.float32(255)
                # In place: a copy of the training set for each operation would take twice the memory.
                pixels -= mean[:, None, None]
                pixels /= std[:, None, None]
                return pixels.reshape(len(pixels), -1)

            return Samples(true[positions], classes, seeds, features, positions)

        truth, test_truth = samples("train", labels, index), samples("test", test_labels, test_index)
        return ImageProblem(
            train=Batches(train, mean, std, like.dtype),
            test=Batches(test, mean, std, like.dtype),
            index=tensor(index),
            test_index=tensor(test_index),
            labels=tensor(truth.labels),
            observed=ObservedLabels(self.noise, truth, seeds, tensor),
            test_labels=tensor(test_truth.labels),
            test_observed=tensor(self.noise.observe(test_truth, uniforms)) if self.noise.for_test else None,
            networks=lambda: self.networks(peer),
            seeds=self.per_run(self.seeds.order),
            augment=data.augment,
        )

    def networks(self, peer: int = 0) -> list[nn.Module]:
        """The networks of all runs with their initial weights, on the CPU."""
        _, channels, pixels, _ = self.data.arrays()["train"].shape
        classes = self.data.task().count
        return [
            self.model.build(channels, pixels, classes, int(seed) + peer * PEER_SEED_STEP)
            for seed in self.per_run(self.seeds.init)
        ]

    def start(self, problem: ImageProblem) -> ImageEngine:
        total, rate = self.total_steps(), float(self.step_size()[0])

        # estimated_seconds steps past the end of a very short training, where the schedule is not defined.
        def rate_at(step: int) -> float:
            return rate * self.optimizer.factor(min(step, total - 1), total)

        autocast, own = self.settings.precision == "bf16", (self.bound_loss(), self.mixup())
        return ImageEngine(problem, self.optimizer, rate_at, self.batches(), autocast, self.model.compile, *own)

    def chunks(self, workers: int = 1) -> Iterator["Experiment"]:
        """One run at a time; on a GPU small networks side by side, as many as share the optimizer's numbers."""
        optimizer = self.optimizer
        numbers = [optimizer.lr, optimizer.weight_decay, optimizer.momentum]
        table = np.stack([self.per_run(number) for number in numbers], 1)
        # The optimizer has one step size, momentum and decay for all the networks that it trains.
        _, group = np.unique(table, axis=0, return_inverse=True)
        size = self.runs_at_once()
        for members in (np.flatnonzero(group == number) for number in range(group.max() + 1)):
            for start in range(0, len(members), size):
                yield self.take(members[start : start + size])

    def runs_at_once(self) -> int:
        """One on a CPU, where side by side gains little, and a run's last bits would depend on the runs beside it."""
        device = self.empty_tensor().device
        if device.type == "cpu" or not self.model.small or self.model.compile or self.optimizer.couples:
            return 1
        memory = torch.cuda.get_device_properties(device).total_memory  # not what is free: a rerun makes the same chunks
        return int(min(SIDE_BY_SIDE, self.runs, max(1, memory // 4 // self.bytes_per_run())))

    def load_code(self) -> None:
        """Nothing: a network trains on all cores of this process."""

    def workers(self) -> int:
        return workers_for(self.empty_tensor().device) if self.model.small else 1

    def cores(self) -> int:
        """One for small networks: a second core gains nothing, and a run alone ends bit for bit as in a sweep."""
        return 1 if self.model.small else super().cores()

    def bytes_per_run(self) -> int:
        """Weights with gradients and an optimizer's memory, and about the activations of the largest batch."""
        # Any seed will do: only the number of weights is needed.
        (network,) = replace(self, seeds=replace(self.seeds, init=0), runs=1).networks()
        weights = sum(parameter.numel() for parameter in network.parameters())
        held = (24 + 4 * self.strategy.copies) * weights
        return self.strategy.networks * (held + self.activation_bytes()) + self.recorded_bytes()

    def activation_bytes(self) -> int:
        """Rough size of the activations in a forward pass of the largest batch: 64 numbers for each of its pixels."""
        pixels = int(np.prod(self.data.arrays()["train"].shape[1:]))
        batch = max(self.optimizer.batch_size or self.n, min(self.n, EVALUATED_AT_ONCE))
        return 4 * 64 * min(batch, self.n) * pixels

    def check_memory(self) -> None:
        """Raise ConfigError if not even one batch fits."""
        needed, free = self.activation_bytes(), free_bytes(self.empty_tensor().device)
        said = f"a batch needs about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free; use smaller ones"
        require(needed <= free, "optimizer.batch_size", self.optimizer.batch_size or self.n, said)

    def bytes_at_once(self) -> int:
        images = sum(array.nbytes for array in self.data.arrays().values())
        return images + min(self.runs, self.workers() * self.runs_at_once()) * self.bytes_per_run()

    def estimated_seconds(self) -> float:
        """Twice the time of training, timed now on a few steps of one run: measuring after each epoch takes time too."""
        one = self.take(np.arange(1))
        engine = one.start(one.sample())
        # The first step is not timed: kernels are compiled and memory is allocated in it.
        engine.advance(1)
        start = time.perf_counter()
        engine.advance(TIMED_STEPS)
        engine.weights.sum().item()  # waits for the device
        steps = (time.perf_counter() - start) / TIMED_STEPS * self.total_steps()
        return 2 * steps * self.runs * self.strategy.networks / min(self.runs, self.workers() * self.runs_at_once())

    def shape(self) -> str:
        return f"n = {self.n}, K = {self.classes().count}, {self.total_steps()} steps of {self.optimizer.batch_size or self.n}"
