"""Writes small data sets in the on-disk formats of the real ones, with images from which the class can be learned."""

import hashlib
import pickle
import struct

import numpy as np
import torchvision.datasets


def learnable(rng, labels, classes, shape):
    """uint8 images [N, *shape]: a fixed pattern for each class, and noise."""
    patterns = np.random.default_rng(0).integers(0, 256, (classes, *shape))
    noise = rng.normal(0, 60, (len(labels), *shape))
    return np.clip(0.5 * patterns[labels] + 64 + noise, 0, 255).astype(np.uint8)


def write_cifar(root, classes, monkeypatch, per_class=4, seed=0):
    """CIFAR-10 (five training batches) or CIFAR-100 (one) as pickled dictionaries; torchvision then expects their MD5 sums."""
    rng, name = np.random.default_rng(seed), f"CIFAR{classes}"
    dataset, key = getattr(torchvision.datasets, name), "labels" if classes == 10 else "fine_labels"
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    sums = {}

    def write(file, content):
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
        sums[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()

    for file, _ in [*dataset.train_list, *dataset.test_list]:
        labels = rng.permutation(np.repeat(np.arange(classes), per_class))
        images = learnable(rng, labels, classes, (3, 32, 32))
        write(file, {"data": images.reshape(len(labels), -1), key: labels.tolist(), "filenames": ["x"] * len(labels)})
    names = [f"class {k}" for k in range(classes)]
    write(dataset.meta["filename"], {dataset.meta["key"]: names})
    for which in ("train_list", "test_list"):
        monkeypatch.setattr(dataset, which, [[file, sums[file]] for file, _ in getattr(dataset, which)])
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": sums[dataset.meta["filename"]]})
    return folder


def write_mnist(root, name, per_class=4, seed=0):
    """MNIST or FashionMNIST in the IDX format: a magic number, the sizes, then bytes."""
    rng, folder = np.random.default_rng(seed), root / name / "raw"
    folder.mkdir(parents=True)
    for split in ("train", "t10k"):
        labels = rng.permutation(np.repeat(np.arange(10), per_class)).astype(np.uint8)
        images = learnable(rng, labels, 10, (28, 28))
        (folder / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, *images.shape) + images.tobytes())
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, len(labels)) + labels.tobytes())
    return folder


def write_all(root, monkeypatch):
    """All four data sets below `root`."""
    write_cifar(root, 10, monkeypatch)
    write_cifar(root, 100, monkeypatch, per_class=2)
    write_mnist(root, "MNIST")
    write_mnist(root, "FashionMNIST")
