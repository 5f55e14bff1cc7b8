"""Image data: what is read from real formats, which samples are chosen, what goes wrong and how that is said."""

import contextlib
import gzip
import hashlib
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
import torchvision.transforms.functional as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from image_sets import write_cifar, write_mnist

from lnt.errors import ConfigError
from lnt.images import dataset_files
from lnt.images.augment import Batches, sample_shifts, shift
from lnt.images.dataset_files import load
from lnt.images.datasets import Cifar10, Digits, Mnist, digits, pixel_statistics
from lnt.noise.by_class import Asymmetric

NONE = {"n_train": None, "n_test": None, "classes": None, "balanced": True, "augment": "none"}


def cifar10(root, **changes):
    return Cifar10(**(NONE | {"root": str(root), "download": False} | changes))


def test_cifar_arrays_are_torchvisions(tmp_path, monkeypatch):
    write_cifar(tmp_path, 10, monkeypatch, per_class=3)
    arrays = load("CIFAR10", str(tmp_path), False, True).arrays
    for split in ("train", "test"):
        oracle = torchvision.datasets.CIFAR10(tmp_path, train=split == "train")
        assert len(oracle) == len(arrays[split]) == {"train": 150, "test": 30}[split]
        for i in (0, 17, 29):
            image, label = oracle[i]
            np.testing.assert_array_equal(arrays[split][i], np.asarray(image).transpose(2, 0, 1))
            assert arrays[f"{split}_labels"][i] == label


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_mnist_arrays_are_torchvisions(tmp_path, name):
    write_mnist(tmp_path, name)
    arrays = load(name, str(tmp_path), False, False).arrays
    oracle = getattr(torchvision.datasets, name)(tmp_path, train=False)
    for i in (0, 39):
        image, label = oracle[i]
        np.testing.assert_array_equal(arrays["test"][i, 0], np.asarray(image))
        assert arrays["test_labels"][i] == label


def test_the_cache_stands_for_the_raw_files(tmp_path, monkeypatch):
    """It is read instead of them, made anew when they change or when it is damaged, and enough without them."""
    folder = write_cifar(tmp_path, 10, monkeypatch, per_class=1)
    first, cache = load("CIFAR10", str(tmp_path), False, True).arrays, tmp_path / "lnt-cifar10.npz"

    def again():
        load.cache_clear()
        return load("CIFAR10", str(tmp_path), False, True).arrays

    with monkeypatch.context() as patch:
        patch.setattr(torchvision.datasets, "CIFAR10", type("Unread", (torchvision.datasets.CIFAR10,), {"__init__": None}))
        np.testing.assert_array_equal(again()["train"], first["train"])
    np.savez(cache, train=first["train"])
    np.testing.assert_array_equal(again()["train"], first["train"], err_msg="a cache without its other members")
    content = bytearray(cache.read_bytes())
    content[len(content) // 2] ^= 1
    cache.write_bytes(content)
    np.testing.assert_array_equal(again()["train"], first["train"])
    assert cache.read_bytes() != bytes(content), "the damaged cache was replaced"
    other = write_cifar(tmp_path / "other", 10, monkeypatch, per_class=1, seed=1)
    for file in other.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    changed = again()["train"]
    assert (changed != first["train"]).any()
    for file in folder.iterdir():
        file.unlink()
    np.testing.assert_array_equal(again()["train"], changed)


def test_many_readers_at_once_get_the_same(tmp_path, monkeypatch):
    write_cifar(tmp_path, 10, monkeypatch, per_class=1)
    found = []
    reader = load.__wrapped__  # without the cache of this process
    read = lambda: found.append(reader("CIFAR10", str(tmp_path), False, True).arrays)  # noqa: E731
    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all((arrays["train"] == found[0]["train"]).all() for arrays in found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifar-10-batches-py", "lnt-cifar10.npz"]


def test_missing_and_damaged_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"CIFAR10 needs data_batch_1 there; there is no folder .*download=true"):
        load("CIFAR10", str(tmp_path / "nowhere"), False, True)
    folder = write_cifar(tmp_path, 10, monkeypatch)
    (folder / "data_batch_3").write_bytes(b"cut")
    with pytest.raises(ConfigError, match=r"data_batch_3: is damaged: its MD5"):
        load("CIFAR10", str(tmp_path), False, True)
    folder = write_mnist(tmp_path, "MNIST")
    (folder / "t10k-images-idx3-ubyte").write_bytes((folder / "t10k-images-idx3-ubyte").read_bytes()[:500])
    with pytest.raises(ConfigError, match=r"t10k-images-idx3-ubyte: is damaged"):
        load("MNIST", str(tmp_path), False, False)


def mnist_with(folder, **files):
    """MNIST's files, some of them with other content."""
    written = write_mnist(folder, "MNIST")
    for name, content in files.items():
        (written / f"{name}-ubyte").write_bytes(content)
    return written


IDX = bytes([0, 0, 8, 1, 0, 0, 0, 40])


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"train-labels-idx1": IDX + bytes(39) + bytes([77])}, "train labels from 0 to 77, where 0 to 9 are expected"),
        ({"train-labels-idx1": IDX + bytes([26] * 40)}, "train labels from 26 to 26, where 0 to 9 are expected"),
        (
            {"t10k-images-idx3": bytes([0, 0, 8, 3, 0, 0, 0, 40, 0, 0, 0, 3, 0, 0, 0, 3]) + bytes(360)},
            "training images of 1 x 28 x 28 and test images of 1 x 3 x 3",
        ),
        ({"train-labels-idx1": b""}, "train-labels-idx1-ubyte: is damaged: it is empty"),
        ({"train-labels-idx1": b"<!DOCTYPE html><title>404"}, "is damaged: it is a web page"),
        ({"train-labels-idx1": b"version https://git-lfs.github.com/spec/v1"}, "is damaged: it is a pointer of Git LFS"),
        ({"train-labels-idx1": IDX + bytes(17)}, "is damaged: it says 40 values and holds 17"),
        ({"train-labels-idx1": b"\x1f\x8b" + bytes(20)}, "is damaged: Unknown compression method"),
        ({"train-labels-idx1": bytes(50)}, "is damaged: it begins with the bytes 00 00 00 00, which is not its format"),
    ],
)
def test_image_files_that_do_not_fit_are_named_with_a_reason(tmp_path, files, problem):
    mnist_with(tmp_path, **files)
    with pytest.raises(ConfigError, match=problem):
        load("MNIST", str(tmp_path), False, False)
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize("where", [".", "MNIST", "MNIST/raw", "MNIST/raw/deeper"])
def test_files_are_found_under_all_their_names_one_folder_up_or_down(tmp_path, where):
    folder = write_mnist(tmp_path, "MNIST")
    (folder / "deeper").mkdir()
    wanted = load("MNIST", str(tmp_path), False, False).arrays["train"]
    (folder / "train-images-idx3-ubyte").rename(folder / "train-images.idx3-ubyte")
    packed = folder / "t10k-images-idx3-ubyte"
    packed.with_name(f"{packed.name}.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    (tmp_path / "lnt-mnist.npz").unlink()
    np.testing.assert_array_equal(load.__wrapped__("MNIST", str(tmp_path / where), False, False).arrays["train"], wanted)


def test_what_was_found_instead_is_said(tmp_path):
    folder = write_mnist(tmp_path, "MNIST")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ConfigError, match=r"needs t10k-labels-idx1-ubyte there; .*raw has train-images.* only; put the others"):
        load("MNIST", str(tmp_path), False, False)
    (tmp_path / "cifar-10-python.tar.gz").touch()
    with pytest.raises(ConfigError, match=r"CIFAR10 needs data_batch_1 there; unpack cifar-10-python.tar.gz there"):
        load("CIFAR10", str(tmp_path), False, True)


def test_other_files_make_other_runs_and_published_ones_the_same(tmp_path, monkeypatch):
    """Files of the same form under the same names; those of the published content keep the ids that they had."""
    write_mnist(tmp_path / "one", "MNIST")
    write_mnist(tmp_path / "two", "MNIST", seed=1)
    prints = [Mnist(**(NONE | {"root": str(tmp_path / name), "download": False})).fingerprint() for name in ("one", "two")]
    assert len({*prints, ""}) == 3
    again = load.__wrapped__("MNIST", str(tmp_path / "one"), False, False)
    assert again.fingerprint == prints[0], "from the cache"
    write_cifar(tmp_path / "cifar", 10, monkeypatch)
    published = cifar10(tmp_path / "cifar")
    assert published.fingerprint() == ""
    own = write_cifar(tmp_path / "own", 10, monkeypatch, seed=2)
    write_cifar(tmp_path / "third", 10, monkeypatch, seed=3)
    with pytest.raises(ConfigError, match=r"its MD5 is not the published one; .* or give data.verify=false for your own"):
        cifar10(tmp_path / "own").arrays()
    assert cifar10(tmp_path / "own", verify=False).fingerprint() != ""
    with pytest.raises(ConfigError, match=r"lnt-cifar10.npz was made of other files than the published ones"):
        cifar10(tmp_path / "own").arrays()
    # A cache made of others than the files that are there is not used.
    (own / "test_batch").write_bytes((tmp_path / "third" / own.name / "test_batch").read_bytes())
    other = load.__wrapped__("CIFAR10", str(tmp_path / "own"), False, False)
    assert other.fingerprint != cifar10(tmp_path / "own", verify=False).fingerprint()


def test_files_of_another_set_under_the_same_names_are_told_apart(tmp_path, monkeypatch):
    folder = write_mnist(tmp_path, "FashionMNIST")
    sums = tuple(hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir())
    monkeypatch.setitem(dataset_files.UNPACKED_MD5, "FashionMNIST", sums)
    with pytest.raises(ConfigError, match=r"FashionMNIST/raw: holds the files of FashionMNIST, not of MNIST"):
        load("MNIST", str(folder), False, False)


def test_raw_files_are_read_again_only_when_they_have_changed(tmp_path, monkeypatch):
    """Of files in place the cache is enough; a file that was replaced, with its old size and time, is another one."""
    folder = write_mnist(tmp_path, "MNIST")
    reader = load.__wrapped__
    first = reader("MNIST", str(tmp_path), False, False).arrays["train_labels"]
    with monkeypatch.context() as patch:
        patch.setattr(dataset_files, "content", None)
        np.testing.assert_array_equal(reader("MNIST", str(tmp_path), False, False).arrays["train_labels"], first)
    labels = folder / "train-labels-idx1-ubyte"
    before = labels.stat()
    labels.write_bytes(labels.read_bytes()[:8] + bytes(9 - first.astype(np.uint8)))
    os.utime(labels, ns=(before.st_atime_ns, before.st_mtime_ns))
    np.testing.assert_array_equal(reader("MNIST", str(tmp_path), False, False).arrays["train_labels"], 9 - first)


def test_a_batch_that_would_run_code_is_refused(tmp_path, monkeypatch):
    folder = write_cifar(tmp_path, 10, monkeypatch)
    (folder / "test_batch").write_bytes(pickle.dumps({"data": Mark(tmp_path / "mark"), "labels": []}, protocol=2))
    with pytest.raises(ConfigError, match=r"test_batch: is damaged: it asks for .*, which no image needs"):
        load("CIFAR10", str(tmp_path), False, False)
    assert not (tmp_path / "mark").exists()


def test_no_flipped_bit_of_packed_files_or_of_a_cache_ends_in_a_traceback(tmp_path, caplog):
    folder, rng = write_mnist(tmp_path, "MNIST", per_class=1), np.random.default_rng(0)
    wanted = load.__wrapped__("MNIST", str(tmp_path), False, False).arrays["train"]
    cache = tmp_path / "lnt-mnist.npz"
    whole, raw = cache.read_bytes(), folder / "train-labels-idx1-ubyte"
    for place in rng.choice(8 * len(whole), 60, replace=False):
        bits = bytearray(whole)
        bits[place // 8] ^= 1 << place % 8
        cache.write_bytes(bits)
        np.testing.assert_array_equal(load.__wrapped__("MNIST", str(tmp_path), False, False).arrays["train"], wanted)
    packed = gzip.compress(raw.read_bytes())
    for place in rng.choice(8 * len(packed), 60, replace=False):
        bits = bytearray(packed)
        bits[place // 8] ^= 1 << place % 8
        raw.write_bytes(bits)
        with contextlib.suppress(ConfigError):
            np.testing.assert_array_equal(load.__wrapped__("MNIST", str(tmp_path), False, False).arrays["train"], wanted)


class Mark:
    """Unpickled, it would make a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("split", ["train", "t10k"])
def test_as_many_labels_as_images_are_wanted(tmp_path, split):
    folder = write_mnist(tmp_path, "MNIST")
    other = write_mnist(tmp_path / "more", "MNIST", per_class=9)
    labels = f"{split}-labels-idx1-ubyte"
    (folder / labels).write_bytes((other / labels).read_bytes())
    with pytest.raises(ConfigError, match=r"MNIST/raw: holds 40 (train|test) images and 90 labels; put fresh copies"):
        load("MNIST", str(tmp_path), False, False)
    assert not list(tmp_path.glob("*.npz"))


def test_a_download_that_fails_says_what_to_put_where(tmp_path, monkeypatch):
    def offline(*arguments, **keywords):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", offline)
    with pytest.raises(ConfigError, match=r"^download=True: failed \(no network\); put cifar-10-batches-py/data_batch_1"):
        load("CIFAR10", str(tmp_path), True, True)


def test_a_download_is_done_once_by_many(tmp_path, monkeypatch):
    calls = []

    def fetch(dataset):
        calls.append(1)
        write_cifar(Path(dataset.root), 10, monkeypatch, per_class=1)

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", fetch)
    root, reader, found = str(tmp_path / "new"), load.__wrapped__, []
    threads = [threading.Thread(target=lambda: found.append(reader("CIFAR10", root, True, True))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(calls) == 1


@settings(deadline=None)  # the first one loads the digits
@given(st.integers(0, 2**31), st.permutations(range(10)).map(lambda p: tuple(p[:3])), st.integers(3, 300))
def test_training_samples_are_balanced_and_never_test_samples(seed, classes, n):
    data = Digits(**(NONE | {"classes": classes, "n_train": n}))
    chosen = data.sample_training_set(seed)
    counts = np.bincount(data.as_classes(digits()["train_labels"][chosen]), minlength=3)
    assert len(set(chosen)) == n == counts.sum() == data.size()
    assert counts.max() - counts.min() <= 1
    test, _ = data.sample_test_set(seed)
    np.testing.assert_array_equal(test, np.flatnonzero(np.isin(digits()["test_labels"], classes)))


def test_digits_are_split_without_overlap():
    arrays = digits()
    assert len(arrays["train"]) + len(arrays["test"]) == 1797
    assert not {image.tobytes() for image in arrays["train"]} & {image.tobytes() for image in arrays["test"]}


def test_seeds_choose_subsets_and_nothing_else():
    data = Digits(**(NONE | {"classes": (3, 8), "n_train": 50, "n_test": 20}))
    assert (data.sample_training_set(1) == data.sample_training_set(1)).all()
    assert (data.sample_training_set(1) != data.sample_training_set(2)).any()
    assert (data.sample_test_set(1)[0] != data.sample_test_set(2)[0]).any()
    everything = Digits(**(NONE | {"classes": (3, 8), "balanced": False}))
    assert (everything.sample_training_set(1) == everything.sample_training_set(2)).all(), "all there are"


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("order", [(5, 2, 7), (7, 5, 2), (2, 7, 5)])
def test_the_order_of_classes_changes_their_names_and_not_the_images(order, balanced):
    """100 = 3 x 33 + 1: the one that is left over goes to the lowest number, whatever stands first."""
    one, other = (
        Digits(**(NONE | {"classes": c, "n_train": 100, "n_test": 20, "balanced": balanced})) for c in ((2, 5, 7), order)
    )
    for seed in range(3):
        np.testing.assert_array_equal(one.sample_training_set(seed), other.sample_training_set(seed))
        np.testing.assert_array_equal(one.sample_test_set(seed)[0], other.sample_test_set(seed)[0])
    if balanced:
        assert dict(zip(order, other.counts(), strict=True)) == {2: 34, 5: 33, 7: 33}


def test_swapped_classes_are_the_same_task_with_the_labels_swapped(experiment):
    shared = ("data=digits", "data.n_train=51", "data.n_test=30", "noise.rate=0.3", "seed=4")
    one, other = (experiment(*shared, f"data.classes={classes}").sample() for classes in ("[3,8]", "[8,3]"))
    assert torch.equal(one.index, other.index)
    assert torch.equal(one.labels, 1 - other.labels)
    assert torch.equal(one.observed.at(0), 1 - other.observed.at(0))
    assert torch.equal(one.test_index, other.test_index)
    assert torch.equal(one.test_observed, 1 - other.test_observed)


def test_the_first_class_listed_is_class_0():
    data = Digits(**(NONE | {"classes": (8, 3)}))
    np.testing.assert_array_equal(data.as_classes(np.array([8, 3, 3])), [0, 1, 1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": (3, 3)}, r"classes=\[3, 3\]: must differ"),
        ({"classes": (3, 10)}, r"classes=\[3, 10\]: must lie in 0 to 9"),
        ({"classes": (3,)}, r"must be at least two"),
        ({"augment": "blur"}, r"augment=blur: must be one of none, shift, shift_flip"),
        ({"n_train": 0}, r"n_train=0: must be at least 1"),
    ],
)
def test_impossible_choices_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        Digits(**(NONE | changes))


def test_more_samples_than_there_are_is_refused():
    with pytest.raises(ConfigError, match=r"n_train=1000: must be at most \d+ for 2 balanced classes"):
        Digits(**(NONE | {"classes": (3, 8), "n_train": 1000})).size()
    with pytest.raises(ConfigError, match=r"n_test=1000: must be at most"):
        Digits(**(NONE | {"classes": (3, 8), "n_test": 1000})).test_size()


def test_batches_are_what_totensor_and_normalize_make(tmp_path, monkeypatch):
    write_cifar(tmp_path, 10, monkeypatch, per_class=2)
    data = cifar10(tmp_path)
    mean, std = pixel_statistics(data)
    pixels = data.arrays()["train"] / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)))
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)))
    batches = Batches(torch.as_tensor(data.arrays()["train"]), mean, std, torch.float32)
    oracle = torchvision.datasets.CIFAR10(tmp_path)
    for i in (0, 5, 99):
        wanted = reference.normalize(reference.to_tensor(oracle[i][0]), mean.tolist(), std.tolist())
        torch.testing.assert_close(batches.at(torch.tensor([[i]]))[0, 0], wanted, rtol=1e-5, atol=1e-6)


def test_shifts_are_torchvisions_crops_of_padded_images():
    rng = np.random.default_rng(0)
    images = torch.as_tensor(rng.integers(0, 256, (20, 3, 32, 32)), dtype=torch.uint8)
    right, down = (torch.as_tensor(rng.integers(0, 9, 20)) for _ in range(2))
    flip = torch.as_tensor(rng.random(20) < 0.5)
    shifted = shift(images, 4, right, down, flip)
    for i in range(20):
        crop = reference.crop(reference.pad(images[i], [4]), int(down[i]), int(right[i]), 32, 32)
        assert torch.equal(shifted[i], reference.hflip(crop) if flip[i] else crop)


@pytest.mark.parametrize("augment", ["none", "shift", "shift_flip"])
def test_the_fused_pass_of_a_cpu_equals_the_tensor_operations_of_a_gpu(augment):
    rng = np.random.default_rng(0)
    images = torch.as_tensor(rng.integers(0, 256, (50, 3, 32, 32)), dtype=torch.uint8)
    mean, std, positions = rng.random(3), rng.random(3) + 0.5, torch.as_tensor(rng.permutation(50).reshape(2, 25))
    batches, seeds = Batches(images, mean, std, torch.float64), np.array([5, 6])
    found = batches.augmented(positions, augment, seeds, 7)
    wanted = images[positions.flatten()]
    if augment != "none":
        right, down, mirror = torch.as_tensor(np.concatenate([sample_shifts(seed, 7, 25, 4) for seed in (5, 6)], 1))
        wanted = shift(wanted, 4, right, down, (mirror == 1) & (augment == "shift_flip"))
    wanted = (wanted.double() / 255 - torch.as_tensor(mean)[:, None, None]) / torch.as_tensor(std)[:, None, None]
    torch.testing.assert_close(found.flatten(0, 1), wanted, rtol=1e-12, atol=1e-12)


def test_augmentation_is_fresh_at_each_step_and_the_same_in_any_company():
    images = torch.as_tensor(digits()["train"])
    batches = Batches(images, np.array([0.3]), np.array([0.4]), torch.float32)
    positions, seeds = torch.arange(60).view(3, 20), np.array([1, 2, 3])
    at = [batches.augmented(positions, "shift_flip", seeds, step) for step in (0, 1, 0)]
    assert torch.equal(at[0], at[2])
    assert not torch.equal(at[0], at[1])
    assert torch.equal(batches.augmented(positions[1:2], "shift_flip", seeds[1:2], 0)[0], at[0][1])
    assert torch.equal(batches.augmented(positions, "none", seeds, 0), batches.at(positions))


@pytest.mark.parametrize(
    ("data", "confused"),
    [
        (Mnist, {2: 7, 3: 8, 5: 6, 6: 5, 7: 1}),  # Patrini et al., CVPR 2017
        (Cifar10, {2: 0, 3: 5, 4: 7, 5: 3, 9: 1}),  # the same
    ],
)
def test_classes_are_confused_as_is_customary(data, confused):
    """Each source class turns into its target at the given rate, the others keep their class."""
    wanted = np.eye(10)
    for source, target in confused.items():
        wanted[source, [source, target]] = 0.7, 0.3
    classes = data(**(NONE | {"root": "nowhere", "download": False})).task()
    np.testing.assert_allclose(Asymmetric(source_rate=0.3).transition(classes)[0], wanted)
