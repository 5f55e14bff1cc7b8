"""analyze.py: files in, figures out."""

import sys

import pandas as pd
import pytest
from matplotlib.image import imread

import analyze
from lnt import plots
from lnt.analysis import conditions, load
from lnt.loop import train
from lnt.results import RunDirectory, curves_table, runs_table


@pytest.fixture
def results(tmp_path, experiment):
    """Two conditions, three seeds each, in six directories."""
    for rate in (0, 0.3):
        for seed in range(3):
            settings = ("data.n_train=20", "data.n_test=50", "data.dim=200", "optimizer.steps=200")
            one = experiment(*settings, f"seed={seed}", f"noise.rate={rate}")
            curves = train(one)
            runs = runs_table(one, curves)
            RunDirectory.claim(tmp_path / f"{rate}-{seed}").save(runs, curves_table(runs["run_id"].tolist(), curves))
    return tmp_path


def call(monkeypatch, *overrides):
    monkeypatch.setattr(sys, "argv", ["analyze.py", *overrides])
    analyze.main()


def test_conditions_are_what_differs_besides_seeds(results):
    found = load(results)
    assert len(found.runs) == 6
    assert {title: len(runs) for title, runs in conditions(found.runs).items()} == {"noise.rate=0": 3, "noise.rate=0.3": 3}


def test_a_run_that_appears_twice_counts_once(results):
    before = load(results)
    runs = pd.read_parquet(results / "0-0" / "runs.parquet")
    curves = pd.read_parquet(results / "0-0" / "curves.parquet")
    RunDirectory.claim(results / "copy").save(runs, curves)
    after = load(results)
    assert len(after.runs) == len(before.runs)
    assert len(after.curves) == len(before.curves)


def test_the_stages_figure_is_drawn(results, monkeypatch):
    call(monkeypatch, f"path={results}")
    assert (results / "analysis" / "stages.pdf").read_bytes().startswith(b"%PDF")
    image = imread(results / "analysis" / "stages.png")
    assert image.shape[0] > 1000
    assert image[..., :3].std() > 0.05, "not an empty page"


def test_the_stages_figure_says_what_was_measured(results):
    found = load(results)
    groups = conditions(found.runs)
    tables = {title: (runs, found.curves[found.curves["run_id"].isin(runs["run_id"])]) for title, runs in groups.items()}
    figure = plots.stages(tables)
    assert len(figure.axes) == 8
    noiseless, noisy = figure.axes[2], figure.axes[3]
    assert "mislabelled samples" not in noiseless.get_legend_handles_labels()[1], "nothing is mislabelled at rate 0"
    line = dict(zip(noisy.get_legend_handles_labels()[1], noisy.lines, strict=False))["mislabelled samples"]
    curves = tables["noise.rate=0.3"][1].groupby("step")["noisy_accuracy"].mean()
    assert line.get_ydata().tolist() == pytest.approx(curves.tolist(), nan_ok=True)


@pytest.mark.parametrize(("path", "words"), [("nowhere", "is not a directory"), (".", "holds no results")])
def test_a_path_without_results(tmp_path, monkeypatch, path, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        call(monkeypatch, f"path={path}")
