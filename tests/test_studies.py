"""Studies: the configurations in conf/experiment/ run, and agree with what was published."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from image_sets import write_mnist

from lnt.runs.experiments_from_settings import expand
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


@pytest.mark.parametrize("study", sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")))
def test_every_study_trains(composed, study, tmp_path):
    short = ["optimizer.epochs=1"] if "digits" in study or "mnist" in study else ["optimizer.steps=3"]
    if "mnist" in study:
        write_mnist(tmp_path, "MNIST", per_class=10)
        short += [f"data.root={tmp_path}", "data.n_train=20"]
    (batch,) = expand(composed(f"experiment={study}", "data.n_test=10", *short), [])
    assert np.isfinite(train(batch).values[-1, 0]).all()
