"""`lnt.simulate` and `lnt.load`: the numbers of the command line, from Python."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import lnt
import train
from lnt.column_names import COMPONENTS
from lnt.options import CONF

SMALL = {"data": lnt.SignalNoise(n_train=20, n_test=50, dim=200), "optimizer": lnt.GradientDescent(steps=60)}
OVERRIDES = ("data.n_train=20", "data.n_test=50", "data.dim=200", "optimizer.steps=60")


@pytest.fixture(scope="module")
def simulated():
    return lnt.simulate(**SMALL, over={"noise.rate": [0, 0.3], "seed": range(3)}, progress=False)


def test_the_same_runs_and_numbers_as_from_the_command_line(simulated, tmp_path, monkeypatch):
    command = ["train.py", "-m", *OVERRIDES, "noise.rate=0,0.3", "seed=range(3)", f"hydra.sweep.dir={tmp_path}/sweep"]
    monkeypatch.setattr(sys, "argv", command)
    train.main()
    loaded = lnt.load(tmp_path / "sweep")
    assert type(loaded) is type(simulated)
    assert loaded.axes == simulated.axes == {"noise.rate": [0, 0.3], "seed": [0, 1, 2]}
    for name, keys in (("runs", ["run_id"]), ("curves", ["run_id", "step"])):
        ours, other = (
            getattr(r, name).set_index(keys).sort_index().drop(columns="wall_seconds", errors="ignore")
            for r in (simulated, loaded)
        )
        pd.testing.assert_frame_equal(ours, other, rtol=1e-4, atol=1e-6)


def test_workers_change_nothing(simulated):
    spread = lnt.simulate(**SMALL, over={"noise.rate": [0, 0.3], "seed": range(3)}, workers=2, progress=False)
    ours, other = (r.runs.set_index("run_id").sort_index().drop(columns="wall_seconds") for r in (simulated, spread))
    pd.testing.assert_frame_equal(ours, other, rtol=1e-4, atol=1e-6)


def columns_of(drawn):
    """The titles of a figure's columns."""
    return [ax.get_title("left") or ax.get_title() for ax in drawn.axes if ax.get_subplotspec().rowspan.start == 0]


@pytest.fixture(scope="module")
def of_many_options(tmp_path_factory):
    """Loaded: there, numbers that some options lack are integers or booleans with nulls."""
    folder = tmp_path_factory.mktemp("options") / "sweep"
    options = ("strategy=none,co_teaching", "loss=logistic,gce", "optimizer=gd,sgd", "noise.rate=0.05,0.15", "optimizer.lr=1")
    command = [sys.executable, train.__file__, "-m", *OVERRIDES[:3], *options, f"hydra.sweep.dir={folder}"]
    subprocess.run(command, check=True, cwd=folder.parent)
    return lnt.load(folder)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 12),  # of 16
        ({"loss": "gce", "optimizer": "gd"}, 4),
        ({"loss": "gce", "optimizer": "gd", "noise.rate": 3 * 0.05}, 2),
        ({"loss.q": None, "strategy.disagreement": False}, 4),
        ({"optimizer.batch_size": 32, "strategy": "none", "data.orthogonal_noise": False}, 4),
    ],
)
def test_stages_of_some_settings(of_many_options, settings, count):
    assert len(of_many_options.runs) == 16
    columns = columns_of(of_many_options.stages(settings))
    assert len(columns) == count
    if "loss" in settings:
        assert all("gce" in title and "sgd" not in title for title in columns)
    if "noise.rate" in settings:
        assert all("0.15" in title for title in columns)


def test_axes_without_a_plan(of_many_options):
    """Values as Python has them, in order; null, which is a setting of other options, is left out."""
    axes = replace(of_many_options, plans=[]).axes
    assert axes["noise.rate"] == [0.05, 0.15]
    assert axes["loss"] == ["gce", "logistic"]
    assert axes["loss.q"] == [0.7]
    assert axes["optimizer.batch_size"] == [32]
    assert [type(value) for value in (*axes["noise.rate"], *axes["optimizer.batch_size"])] == [float, float, int]


def test_stages_of_a_list():
    over = {"data.classes": [[3, 8], [1, 7]]}
    small = {"data": lnt.Digits(n_train=20, n_test=20), "optimizer": lnt.StochasticGradientDescent(epochs=2)}
    results = lnt.simulate(**small, over=over, progress=False)
    assert len(columns_of(results.stages())) == 2
    for same in ([1, 7], (1, 7), results.axes["data.classes"][1]):
        assert columns_of(results.stages({"data.classes": same})) == ["data.classes=[1, 7]"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"noise.rate": 0.2}, "noise.rate=0.2: no completed run has it (with the settings before it); values: 0.05, 0.15"),
        ({"noise.rate": "0.15"}, "noise.rate='0.15': no completed run"),
        (
            {"loss": "logistic", "loss.q": 0.7},
            "loss.q=0.7: no completed run has it (with the settings before it); values: None",
        ),
        ({"noise.rat": 0.2}, "settings=noise.rat: no such column; there are "),
    ],
)
def test_settings_that_no_run_has(of_many_options, settings, said):
    with pytest.raises(lnt.ConfigError, match=re.escape(said)):
        of_many_options.stages(settings)


@pytest.mark.parametrize(
    ("figure", "axes", "each"), [("stages", (), 4), ("phase", ("data.dim", "data.snr"), 1), ("over_time", ("data.dim",), 1)]
)
@pytest.mark.parametrize("count", [12, 13])
def test_a_figure_has_no_more_panels_than_one_can_read(caplog, figure, axes, each, count):
    small = {**SMALL, "optimizer": lnt.GradientDescent(steps=2)}
    results = lnt.simulate(**small, over={"noise.rate": [0.01 * i for i in range(count)]}, progress=False)
    drawn = getattr(results, figure)(*axes)
    assert len(drawn.axes) == 12 * each
    assert (": the first 12 are drawn" in caplog.text) == (count == 13)


def test_results_draw_themselves(simulated, tmp_path):
    runs, curves = simulated.runs, simulated.curves
    lines = simulated.lines("noise.rate", "test_error", "best_test_error").axes[0].lines
    for line, value in zip(lines, ("test_error", "best_test_error"), strict=True):
        assert line.get_xdata().tolist() == [0, 0.3]
        np.testing.assert_allclose(line.get_ydata(), runs.groupby("noise.rate")[value].mean())
    noisy = curves[curves["run_id"].isin(runs.loc[runs["noise.rate"] == 0.3, "run_id"])].groupby("step")["noisy_accuracy"]
    drawn = [line.get_ydata() for ax in simulated.stages().axes for line in ax.lines]
    assert any(np.shape(y) == (noisy.ngroups,) and np.allclose(y, noisy.mean()) for y in drawn)
    grid = lnt.simulate(**SMALL, over={"data.dim": [100, 200, 400], "data.snr": [0.1, 0.3], "seed": range(2)}, progress=False)
    axes = grid.phase(value="best_test_error").axes[0]
    assert axes.get_xlim()[1] > 400
    assert grid.phase("data.snr", "data.dim").axes[0].get_ylim()[1] > 400
    grid.phase().savefig(tmp_path / "phase.png")
    with lnt.look(paper="icml", width="column", labels={"noise.rate": "flip rate"}):
        drawn = [simulated.stages(), simulated.lines("noise.rate"), simulated.compare("noise.rate"), grid.phase()]
    for figure, panels in drawn:
        assert figure.get_figwidth() == 3.25
        assert all(ax in figure.axes for ax in panels)
    assert [len(panels) for _, panels in drawn] == [8, 1, 1, 1]
    assert drawn[0].axes[1].get_title() == "flip rate 0.3"
    assert drawn[1].axes[0].get_xlabel() == "flip rate"
    with pytest.raises(lnt.ConfigError, match="value=colour: no such column; there are "):
        grid.phase(value="colour")
    with pytest.raises(lnt.ConfigError, match=r"y=data.dim: must be another key than x"):
        grid.phase("data.dim", "data.dim")
    with pytest.raises(lnt.ConfigError, match=r"x, hue=\['data.dim', 'data.dim'\]: must be different keys"):
        grid.compare("data.dim", hue="data.dim")
    with pytest.raises(lnt.ConfigError, match="no numeric key was swept"):
        simulated.phase()


@pytest.mark.slow
def test_options_groups_and_axes_that_advance_together():
    over = {"noise": ["none", lnt.Pair(0.2)], ("data.dim", "data.snr"): [(100, 0.3), (200, np.float64(0.2))]}
    found = lnt.simulate(**SMALL, over=over, seed=4, precision="float64", seeds={"test": 9}, progress=False)
    assert found.axes == {"noise": ["none", "pair"], "data.dim": [100, 200], "data.snr": [0.3, 0.2]}
    assert found.runs.groupby("noise")["data.dim"].apply(list).to_dict() == {"none": [100, 200], "pair": [100, 200]}
    assert set(found.runs["seed"]) == {4}
    assert set(found.runs["seeds.test"]) == {9}
    assert set(found.runs["precision"]) == {"float64"}


def test_images_bring_their_own_model_and_optimizer():
    digits = lnt.Digits(n_train=24, n_test=20, classes=(3, 8))
    found = lnt.simulate(
        digits, lnt.Symmetric(0.2), lnt.SmallCNN(2), optimizer=lnt.StochasticGradientDescent(epochs=2), progress=False
    )
    assert found.runs[["data", "model", "optimizer"]].values.tolist() == [["digits", "small_cnn", "sgd"]]
    assert len(found.samples) == 24


class Broken(lnt.NoNoise):
    def observe(self, samples, uniforms):
        raise RuntimeError("out of order")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: lnt.simulate(noise="loud"), "noise=loud: is no option of conf/noise"),
        (lambda: lnt.simulate(noise=0.3), "noise=0.3: must be a component, the name of an option of conf/, or None"),
        (lambda: lnt.simulate(data=lnt.Symmetric()), r"data=.*Symmetric: must be a dataclass and a subclass of .*Data"),
        (lambda: lnt.simulate(over={"data.colour": [1]}), "data.colour=...: the axis names no key; known are data.n_train"),
        (lambda: lnt.simulate(over={"seed": []}), "seed=: the axis is empty"),
        (lambda: lnt.simulate(over={"seed": [1, 1]}), "over=1: points name a run that another point names too"),
        (lambda: lnt.simulate(over={("data.dim", "seed"): [(1,)]}), "data.dim, seed=.*must be one value for each key"),
        (lambda: lnt.simulate(colour="red"), "colour=red: unknown key; known are seed"),
        (lambda: lnt.simulate(seeds={"luck": 1}), r"seeds=\['luck'\]: unknown streams"),
        (lambda: lnt.simulate(engine="fast"), "engine=fast: must be one of auto, span, autograd"),
        (
            lambda: lnt.simulate(**SMALL, noise=Broken(), progress=False),
            "all failed; .* RuntimeError: out of order",
        ),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(call, said):
    with pytest.raises(lnt.ConfigError, match=said):
        call()


def test_public_names():
    """Those of PUBLIC, among them the class of every option in conf/."""
    assert set(lnt.PUBLIC) <= set(dir(lnt))
    files = [file for group in COMPONENTS for file in (CONF / group).glob("*.yaml")]
    targets = [target for file in files for target in re.findall(r"^_target_: (.+)$", file.read_text(), re.MULTILINE)]
    assert len(targets) > 50
    assert {target: lnt.PUBLIC.get(target.rpartition(".")[2]) for target in targets} == {
        target: target.rpartition(".")[0] for target in targets
    }
    for name in lnt.PUBLIC:
        assert getattr(lnt, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'lnt' has no attribute 'Symetric'"):
        _ = lnt.Symetric
