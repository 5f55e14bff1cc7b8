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
from lnt.images.augment import Batches, unit
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


@lru_cache
def forward_cost(model: ImageModel, channels: int, pixels: int, classes: int) -> float:
    """Multiply-adds of a network's forward pass of one sample."""
    from torch.utils.flop_counter import FlopCounterMode  # it imports Triton, and only images need it

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.build(channels, pixels, classes, seed=0).eval()(torch.zeros(1, channels, pixels, pixels))
    return counter.get_total_flops() / 2


@dataclass(frozen=True)
class ImageExperiment(Experiment):
    """A network on images of some classes."""

    data: Images
    model: ImageModel

    one_run_per_job = True

    def completed(self) -> "ImageExperiment":
        self.check_model("small_cnn, vgg11, vgg16, resnet18, resnet34, preact_resnet18, cnn9, mlp or linear")
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
        self.check_inputs()
        self.check_labels()
        epochs, rest = divmod(self.optimizer.total_steps(n), self.steps_per_epoch())
        whole = f"must be whole epochs of {self.steps_per_epoch()} steps on images"
        require(rest == 0, "optimizer.steps", self.optimizer.total_steps(n), whole)
        # Step 0 and the end of each epoch. A full-batch step is an epoch, and there may be thousands of them.
        every = epochs + 1 if self.optimizer.batch_size else RECORDINGS
        recordings = every if self.settings.recordings is None else self.settings.recordings
        self.check_memory()
        return replace(self, settings=replace(self.settings, engine="autograd", recordings=recordings))

    def check_inputs(self) -> None:
        """Raise ConfigError if the network takes no vectors, and these are."""
        if self.data.is_vectors():
            require(
                self.model.for_vectors,
                "model",
                self.choices["model"],
                "is for images, and these are vectors; use mlp or linear",
            )
            require(
                self.data.augment == "none", "data.augment", self.data.augment, "is for images, and these are vectors; use none"
            )

    def check_labels(self) -> None:
        """Raise ConfigError if the label noise is about other labels than these, or has none for some of the samples."""
        noise, data = self.noise, self.data
        if not noise.from_data:
            said = "needs true labels, and the training samples have observed ones only; use noise=file, noise.file=null"
            require(data.knows_truth("train"), "noise", self.choices["noise"], said)
            with keys_under("noise"):
                noise.check_truth(data.row_labels())
        if noise.needs_positions:
            with keys_under("noise"):
                everywhere = bool(noise.covers(self.members()).all())
            # The same samples for many seeds: they are looked at one by one only where some have no label.
            for place in () if everywhere else np.unique(self.places(), axis=0):
                lacking = data.rows()[place][~noise.covers(self.samples_at(place[None]))[0]]
                said = f"has no label of the classes kept for {len(lacking)} of the samples of this run, the first at position"
                require(not len(lacking), "noise.file", getattr(noise, "file", None), f"{said} {lacking[:1].sum()}")
        if noise.from_data and data.observed("test") is not None:
            chosen = np.flatnonzero(np.isin(data.arrays()["test_labels"], data.task().numbers))
            inside = bool(noise.covers(self.samples_at(chosen[None], "test")).all())
            said = "keeps test samples whose observed class it does not keep"
            require(inside, "data.classes", list(data.task().numbers), said)

    def warnings(self) -> list[str]:
        """Observed labels that come with the data, and are not trained on."""
        if self.noise.from_data or self.data.observed("train") is None:
            return []
        return [
            f"the observed labels that come with the data are not used: noise={self.choices['noise']}; "
            "noise=file with noise.file=null takes them"
        ]

    @property
    def knows_truth(self) -> bool:
        return self.data.knows_truth("train")

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
            everyone = self.members()
            covered = self.noise.covers(everyone)[0]
            return everyone if covered.all() else self.samples_at(np.flatnonzero(self.kept())[covered][None])
        return Samples(np.tile(np.arange(classes.count), (self.runs, 1)), classes, features=_no_representative)

    def redrawn(self) -> np.ndarray | bool:
        return super().redrawn() or self.data.redrawn()

    def kept(self) -> np.ndarray:
        """Which training samples are of the classes kept."""
        return np.isin(self.data.arrays()["train_labels"], self.data.task().numbers)

    def members(self) -> Samples:
        """All training samples of the classes kept, as one run."""
        return self.samples_at(np.flatnonzero(self.kept())[None])

    def samples_at(self, places: np.ndarray, split: str = "train") -> Samples:
        """Samples at places [R, n] in the arrays of the data, without their pixels."""
        data = self.data
        given = data.observed(split)
        return Samples(
            data.as_classes(data.arrays()[f"{split}_labels"])[places],
            data.task(),
            index=data.rows()[places] if split == "train" else places,
            given=None if given is None else data.as_classes(given)[places],
        )

    def places(self) -> np.ndarray:
        """Where the training samples of each run lie in the arrays of the data, [R, n]."""
        return np.stack([self.data.sample_training_set(int(seed)) for seed in self.per_run(self.seeds.data)])

    def positions(self) -> np.ndarray:
        return self.data.rows()[self.places()]

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
        data, like = self.data, self.empty_tensor()
        arrays, (train, test) = data.arrays(), on_device(data, like.device)
        mean, std = (statistic.astype(np.float32) for statistic in pixel_statistics(data))
        one = np.float32(unit(not data.is_vectors()))

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(array, device=like.device)

        index = self.places()
        drawn = [data.sample_test_set(int(seed)) for seed in self.per_run(self.seeds.test)]
        test_index, uniforms = (np.stack(parts) for parts in zip(*drawn, strict=True))
        seeds = self.per_run(self.seeds.noise)

        def samples(split: str, places: np.ndarray) -> Samples:
            # A function: only noise that looks at pixels needs them, and one run at a time.
            def features(run: int) -> np.ndarray:
                pixels = arrays[split][places[run]] / one
                # In place: a copy of the training set for each operation would take twice the memory.
                pixels -= mean[:, None, None]
                pixels /= std[:, None, None]
                return pixels.reshape(len(pixels), -1)

            return replace(self.samples_at(places, split), seeds=seeds, features=features)

        truth, test_truth = samples("train", index), samples("test", test_index)
        for_test = data.observed("test") is not None if self.noise.from_data else self.noise.for_test
        return ImageProblem(
            train=Batches(train, mean, std, like.dtype),
            test=Batches(test, mean, std, like.dtype),
            index=tensor(index),
            test_index=tensor(test_index),
            labels=tensor(truth.labels),
            observed=ObservedLabels(self.noise, truth, seeds, tensor),
            test_labels=tensor(test_truth.labels),
            test_observed=tensor(self.noise.observe(test_truth, uniforms)) if for_test else None,
            networks=lambda: self.networks(peer),
            seeds=self.per_run(self.seeds.order),
            augment=data.augment,
            classes=self.classes().count,
            labels_known=data.knows_truth("train"),
            test_labels_known=data.knows_truth("test"),
            peer=peer,
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
        held = (24 + 4 * self.strategy.copies) * weights + (4 * self.n * self.classes().count if self.loss.remembers else 0)
        return self.strategy.networks * (held + self.activation_bytes()) + self.recorded_bytes()

    def activation_bytes(self) -> int:
        """Rough size of the activations in a forward pass of the largest batch: 64 numbers for each of its pixels.

        Networks without convolutions have few more than their input.
        """
        pixels = int(np.prod(self.data.arrays()["train"].shape[1:]))
        batch = max(self.optimizer.batch_size or self.n, min(self.n, EVALUATED_AT_ONCE))
        return 4 * (4 if self.model.for_vectors else 64) * min(batch, self.n) * pixels

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

    def step_cost(self) -> float:
        _, channels, pixels, _ = self.data.arrays()["train"].shape
        # There and back, to the weights and to what is before them: three passes.
        seen = 3 * min(self.optimizer.batch_size or self.n, self.n) * self.optimizer.cost * self.strategy.networks
        return seen * forward_cost(self.model, channels, pixels, self.classes().count)

    def shape(self) -> str:
        return f"n = {self.n}, K = {self.classes().count}, {self.total_steps()} steps of {self.optimizer.batch_size or self.n}"
