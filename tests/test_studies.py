"""Studies: the configurations in conf/experiment/ run, and agree with what was published."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from image_sets import learnable, write_mnist
from omegaconf import OmegaConf

from lnt.images.augment import sample_shifts
from lnt.images.datasets import Cifar10
from lnt.intervals import mean_interval
from lnt.runs.experiments_from_settings import expand, experiment_from
from lnt.runs.tables import schemas, tables
from lnt.settings import Axis
from lnt.training.loop import train

ROOT = Path(__file__).parents[1]


def test_kou2023_agrees_with_the_published_cells(composed):
    """The 66 cells read from the authors' result files, means of ten runs each; the same runs as in the whole study.

    A published cell's own standard error is about 0.02.
    """
    table = pd.read_csv(ROOT / "docs" / "published" / "kou2023.csv", comment="#")
    published = table.set_index(["data.dim", "data.signal_norm"])["test_error_observed"].unstack()
    norms = [float(norm) for norm in published.columns]
    config = composed("experiment=kou2023")
    axes = [
        Axis(("data.dim",), tuple((dim,) for dim in published.index)),
        Axis(("data.signal_norm",), tuple((norm,) for norm in norms)),
        Axis(("seed",), tuple((seed,) for seed in range(10))),
    ]
    (batch,) = expand(config, axes)
    runs = tables(batch, train(batch), schemas([batch]))[0].to_pandas()
    ours = runs.groupby(["data.dim", "data.signal_norm"])["test_error_observed"].mean().unstack()
    difference = ours.loc[published.index, norms].to_numpy() - published.to_numpy()
    assert np.sqrt((difference**2).mean()) <= 0.03
    assert abs(difference.mean()) <= 0.02


@pytest.mark.slow
def test_karhadkar2024_agrees_with_the_published_cells(composed):
    """The ten cells of n = 50 from the authors' result file, means of five runs each, whose standard errors are about 0.01."""
    published = pd.read_csv(ROOT / "docs" / "published" / "karhadkar2024.csv", comment="#")
    published = published[published["data.n_train"] == 50].set_index("data.dim_over_n")["test_error"]
    axes = [
        Axis(("data.dim_over_n",), tuple((ratio,) for ratio in published.index)),
        Axis(("seed",), tuple((s,) for s in range(20))),
    ]
    (batch,) = expand(composed("experiment=karhadkar2024", "data.n_train=50"), axes)
    runs = tables(batch, train(batch), schemas([batch]))[0].to_pandas()
    assert (runs["noisy_accuracy"].dropna() == 1).all(), "all labels are fitted"
    difference = runs.groupby("data.dim_over_n")["test_error"].mean() - published
    assert np.sqrt((difference**2).mean()) <= 0.02
    assert abs(difference.mean()) <= 0.01


@pytest.mark.slow
def test_robust_losses_end_at_the_error_of_logistic_where_it_is_far_from_zero(composed):
    """Twelve seeds at n SNR^2 = 2, everything memorised. Losses with a tail exp(-z) end within 0.01 of logistic; those that
    want one margin of all samples, squared and label smoothing, end above it, and logistic goes on rising towards them.
    """
    losses = ("logistic", "mae", "gce", "sce", "forward", "label_smoothing", "squared")
    seeds, parts = Axis(("seed",), tuple((seed,) for seed in range(12))), []
    for loss in losses:
        (batch,) = expand(composed("experiment=robust_losses_final", "data.snr=0.2", f"loss={loss}"), [seeds])
        parts.append(tables(batch, train(batch), schemas([batch])))
    runs, curves = (pd.concat(part[i].to_pandas() for part in parts) for i in (0, 1))
    assert len(runs) == 7 * 12
    assert (runs["noisy_accuracy"] == 1).all()
    assert (runs["clean_accuracy"] == 1).all()
    errors = runs.pivot(index="seed", columns="loss", values="test_error")
    assert 0.05 < errors["logistic"].mean() < 0.25
    for loss in ("mae", "gce", "sce", "forward"):
        low, high = mean_interval(errors[loss] - errors["logistic"])
        assert low > -0.01, loss
        assert high < 0.01, loss
    for loss in ("label_smoothing", "squared"):
        low, _ = mean_interval(errors[loss] - errors["logistic"])
        assert low > 0.002, loss
    curves = curves.merge(runs[["run_id", "loss", "seed"]], on="run_id")
    early = curves[(curves["loss"] == "logistic") & (curves["step"] > 900)].groupby("seed").first()
    assert (early["noisy_accuracy"] == 1).all()
    low, _ = mean_interval(errors["logistic"] - early["test_error"])
    assert low > 0.002


NEEDS_FILES = {"han2025_cifar", "wei2022_cifar10n"}  # of CIFAR-10, which nobody has to have
STUDIES = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))


def own_file(folder):
    """Images of 32 x 32 pixels with true and with human labels, a fifth of which are wrong."""
    rng, labels = np.random.default_rng(0), np.tile(np.arange(10), 10)
    images = learnable(rng, labels, 10, (3, 32, 32))
    worse = np.where(np.arange(100) % 5, labels, (labels + 1) % 10)
    np.savez(folder / "images.npz", train=images, train_labels=labels, test=images, test_labels=labels, worse_label=worse)
    return folder / "images.npz"


@pytest.mark.parametrize("study", [study for study in STUDIES if study not in NEEDS_FILES])
def test_every_study_trains(composed, study, tmp_path):
    images = any(name in study for name in ("digits", "mnist", "cifar", "human"))
    short = ["optimizer.epochs=1"] if images else ["optimizer.steps=3"]
    if "mnist" in study:
        write_mnist(tmp_path, "MNIST", per_class=10)
        short += [f"data.root={tmp_path}", "data.n_train=20"]
    if study in ("cifar_stages", "human_labels"):
        short += ["data=arrays", f"data.file={own_file(tmp_path)}", "data.n_train=20"]
    if study == "human_labels":
        short += [f"noise.file={tmp_path / 'images.npz'}", "noise.column=worse_label"]
    (batch,) = expand(composed(f"experiment={study}", "data.n_test=10", *short), [])
    assert np.isfinite(train(batch).values[-1, 0]).all()


@pytest.fixture
def cifar(monkeypatch):
    """CIFAR-10 of its real size, with images of one pixel."""
    images = {"train": np.zeros((50_000, 3, 32, 32), np.uint8), "test": np.zeros((10_000, 3, 32, 32), np.uint8)}
    for pixels in images.values():
        pixels[::2, :, 16, 16] = 255
    labels = {f"{split}_labels": np.arange(len(images[split])) % 10 for split in images}
    monkeypatch.setattr(Cifar10, "arrays", lambda self: images | labels)
    monkeypatch.setattr(Cifar10, "fingerprint", lambda self: "")
    return labels


@pytest.mark.slow
def test_han2025_cifar_has_the_settings_of_the_published_code(composed, cifar):
    """Read from it: train_binary.py and cifar_vgg.py of zzp1012/label-noise-theory."""
    one = experiment_from(composed("experiment=han2025_cifar"))
    assert (one.n, one.data.task().numbers, one.data.test_size()) == (10_000, (0, 1), 2000)
    problem = one.sample()
    changed = (problem.observed.at(0) != problem.labels)[0]
    assert changed.sum() == int(0.2 * 10_000)
    assert 0 < (changed & (problem.labels[0] == 0)).sum() != 1000, "over both classes together"
    network = problem.networks()[0]
    assert [tuple(p.shape) for p in network.parameters() if p.ndim == 2] == [(4096, 512), (4096, 4096), (2, 4096)]
    assert [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)] == [0.5, 0.5]
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    optimizer = one.optimizer.make(network.parameters(), 1.0)
    assert type(optimizer) is torch.optim.Adam
    assert (one.optimizer.lr, one.optimizer.weight_decay, one.optimizer.batch_size) == (12e-4, 0.0, 60)
    assert (one.total_steps(), one.optimizer.factor(9000, one.total_steps())) == (60 * 167, 1.0)
    assert (one.data.augment, one.loss.option) == ("none", "logistic")


@pytest.mark.slow
def test_wei2022_cifar10n_has_the_settings_of_the_published_log(composed, cifar, tmp_path):
    """ResNet-34, all 50 000 images of ten classes, SGD, a tenth of the step size after 60 of 100 epochs of 391 steps."""
    file, rng, clean = tmp_path / "CIFAR-10_human.pt", np.random.default_rng(0), cifar["train_labels"]
    worse = np.where(rng.random(50_000) < 0.4, rng.integers(0, 10, 50_000), clean)
    torch.save({"clean_label": clean, "worse_label": worse, "aggre_label": clean, "random_label1": worse}, file)
    config = composed("experiment=wei2022_cifar10n", f"noise.file={file}")
    swept = OmegaConf.load(ROOT / "conf" / "experiment" / "wei2022_cifar10n.yaml").hydra.sweeper.params
    columns = swept["noise.column"].split(",")
    assert columns == ["clean_label", "aggre_label", "random_label1", "worse_label"]
    (batch,) = expand(config, [Axis(("noise.column",), (("worse_label",),))])
    assert (batch.n, batch.classes().count, batch.data.test_size()) == (50_000, 10, 10_000)
    problem, optimizer = batch.sample(), batch.optimizer
    np.testing.assert_array_equal(problem.observed.at(0)[0], worse[problem.index[0]])
    assert sum(p.numel() for p in problem.networks()[0].parameters()) == 21_282_122, "ResNet-34 with a 3 x 3 stem, 10 classes"
    made = optimizer.make(problem.networks()[0].parameters(), 0.1)
    assert type(made) is torch.optim.SGD
    assert [made.defaults[key] for key in ("lr", "momentum", "weight_decay")] == [0.1, 0.9, 5e-4]
    assert (optimizer.lr, optimizer.batch_size, batch.total_steps()) == (0.1, 128, 100 * 391)
    factors = [optimizer.factor(step, batch.total_steps()) for step in (0, 60 * 391 - 1, 60 * 391, 100 * 391 - 1)]
    np.testing.assert_allclose(factors, [1, 1, 0.1, 0.1])
    corners = sample_shifts(0, 0, 10_000, problem.train.images.shape[-1] // 8)
    assert batch.data.augment == "shift_flip"
    assert (corners[:2].min(), corners[:2].max()) == (0, 8), "a crop of 32 x 32 out of 40 x 40: padding 4"
