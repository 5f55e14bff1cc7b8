"""Training on images against a loop in the style of published code: a torchvision data set, PIL, a DataLoader."""

import hashlib
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import interleaved, table
from benchmarks.engine import compose
from lnt.images.image_engine import ImageEngine, ImageProblem
from lnt.images.image_experiment import ImageExperiment
from lnt.runs.experiments_from_settings import experiment_from
from lnt.sweeps.hydra_internals import to_plain

PER_BATCH_FILE, BATCH = 2000, 128
AT_ONCE = {"small_cnn": 10_000, "vgg11": 640}  # training samples of a timed epoch


class Flipped(Dataset):
    """Binary labels with the flipped ones looked up in a list, image by image."""

    def __init__(self, images: Dataset, flipped: list[int]) -> None:
        self.images, self.flipped = images, flipped

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = self.images[index]
        return image, 1 - label if index in self.flipped else label


def write_files(root: Path) -> None:
    """Random images in the format of CIFAR-10, two classes; torchvision then expects their MD5 sums."""
    rng, dataset = np.random.default_rng(0), torchvision.datasets.CIFAR10
    (root / dataset.base_folder).mkdir(parents=True)

    def write(name: str, content: dict) -> list[str]:
        path = root / dataset.base_folder / name
        path.write_bytes(pickle.dumps(content, protocol=2))
        return [name, hashlib.md5(path.read_bytes()).hexdigest()]

    def batch(name: str) -> list[str]:
        images = rng.integers(0, 256, (PER_BATCH_FILE, 3072), dtype=np.uint8)
        return write(name, {"data": images, "labels": (np.arange(PER_BATCH_FILE) % 2).tolist()})

    dataset.train_list = [batch(name) for name, _ in dataset.train_list]
    dataset.test_list = [batch(name) for name, _ in dataset.test_list]
    name, md5 = write("batches.meta", {"label_names": ["a", "b"]})
    dataset.meta = {"filename": name, "key": "label_names", "md5": md5}


def usual_batches(root: Path, n: int, augment: bool, workers: int) -> DataLoader:
    """What a published training loop iterates over."""
    steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if augment else []
    steps += [transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))]
    images = torchvision.datasets.CIFAR10(root, transform=transforms.Compose(steps))
    flipped = np.random.default_rng(0).permutation(n)[: n // 5].tolist()
    subset = torch.utils.data.Subset(images, range(n))
    return DataLoader(Flipped(subset, flipped), BATCH, shuffle=True, num_workers=workers)


def experiment(root: Path, model: str, n: int, augment: bool) -> ImageExperiment:
    """One epoch of ours."""
    settings = ["data=cifar10", f"data.root={root}", f"model={model}", "noise.rate=0.2", f"data.n_train={n}", "data.n_test=2"]
    settings += [f"optimizer.batch_size={BATCH}", "optimizer.epochs=1", f"data.augment={'shift_flip' if augment else 'none'}"]
    config = compose(*settings)
    found = experiment_from(to_plain(config, config.hydra.runtime.choices))
    assert isinstance(found, ImageExperiment)
    return found


def our_batches(found: ImageExperiment, problem: ImageProblem) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The batches of an epoch, as lnt/image_engine.py makes them."""
    batches = found.batches()
    assert batches is not None
    for step in range(found.total_steps()):
        seen = torch.as_tensor(batches.at(step))[0]
        images = problem.train.augmented(problem.index[:, seen], problem.augment, problem.seeds, step)
        yield images, problem.observed.at(step)[:, seen]


def usual_epoch(loader: DataLoader, network: nn.Module, device: torch.device) -> None:
    """Forward, backward, step, batch by batch."""
    optimizer, criterion = torch.optim.SGD(network.parameters(), 0.01), nn.CrossEntropyLoss()
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        criterion(network(images), labels).backward()
        optimizer.step()


def run_through(batches: Iterable) -> None:
    """Take every batch and drop it."""
    for _ in batches:
        pass


def input_path(root: Path) -> str:
    """Samples per second without a model."""
    n, rows = AT_ONCE["small_cnn"], []
    for augment in (False, True):
        ours = experiment(root, "small_cnn", n, augment)
        loaders = {workers: usual_batches(root, n, augment, workers) for workers in (0, 2)}
        work: dict[str | int, Callable[[], None]] = {w: partial(run_through, loader) for w, loader in loaders.items()}
        problem = ours.sample()
        work["ours"] = lambda ours=ours, problem=problem: run_through(our_batches(ours, problem))  # type: ignore[misc]
        times = interleaved(work)
        speeds = [f"{n / times[name]:,.0f}" for name in ("ours", 0, 2)]
        ratios = [f"{times[name] / times['ours']:.0f}" for name in (0, 2)]
        rows.append(("crop and flip" if augment else "none", *speeds, *ratios))
    header = ("augmentation", "lnt", "DataLoader, in process", "DataLoader, 2 workers", "ratio, in process", "ratio, 2 workers")
    return table(header, rows)


def epochs(root: Path) -> str:
    """Seconds of a training epoch."""
    rows = []
    for model, n in AT_ONCE.items():
        ours, loader = experiment(root, model, n, True), usual_batches(root, n, True, 0)
        device = ours.empty_tensor().device
        engine, network = ours.start(ours.sample()), ours.networks()[0].to(device)
        work = {"ours": partial(our_epoch, engine, ours.total_steps()), "usual": partial(usual_epoch, loader, network, device)}
        times = interleaved(work, 3)
        rows.append((model, f"{n:,}", f"{times['ours']:.2f}", f"{times['usual']:.2f}", f"{times['usual'] / times['ours']:.2f}"))
    return table(("model", "samples", "lnt (s)", "usual loop (s)", "ratio"), rows)


def our_epoch(engine: ImageEngine, steps: int) -> None:
    """The same, and wait for the device."""
    engine.advance(steps)
    next(iter(engine.parameters.values())).sum().item()


def report() -> str:
    """Both tables, with a heading."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_files(root)
        device = experiment(root, "small_cnn", 100, True).empty_tensor().device
        return f"""## Images

Files in the format of CIFAR-10 with {5 * PER_BATCH_FILE:,} random images, two classes, batches of {BATCH}. The usual loop is a
torchvision data set, PIL, ToTensor, Normalize, flipped labels looked up in a list, a DataLoader. Samples per second of the
input path alone:

{input_path(root)}
A training epoch with crops and flips, both on the same device ({device}):

{epochs(root)}"""
