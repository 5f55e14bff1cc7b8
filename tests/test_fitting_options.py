"""Options with settings of their own, compared by one command line; glob(*) takes the options that fit."""

import sys

import pytest

import train
from lnt import cli
from lnt.column_names import COMPONENTS
from lnt.errors import ConfigError
from lnt.plan_file import read_plan
from lnt.sweeps.hydra_internals import as_typed, for_swept_options

TINY = ("data.n_train=8", "data.n_test=10", "data.dim=50", "model.width=2", "optimizer.steps=3")


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """planned(*words): (options, values of the axes) of each group of runs that train.py -m plans."""
    monkeypatch.chdir(tmp_path)

    def plan(*words):
        monkeypatch.setattr(
            sys, "argv", ["train.py", "-m", *for_swept_options([*TINY, *words], COMPONENTS), "hydra.sweep.dir=s"]
        )
        train.main()
        groups = read_plan(tmp_path / "s" / "sweep.yaml")["groups"]
        return [(group["config"], {axis["keys"][0]: axis["points"] for axis in group["axes"]}) for group in groups]

    return plan


def test_a_swept_setting_goes_to_the_options_that_have_it(planned, capsys):
    (gd, of_gd), (sam, of_sam) = planned("optimizer=gd,sam", "optimizer.rho=0.05,0.1", "noise.rate=0.1,0.3")
    assert (gd["choices"]["optimizer"], sam["choices"]["optimizer"]) == ("gd", "sam")
    assert of_gd == {"noise.rate": [[0.1], [0.3]]}
    assert of_sam == {"optimizer.rho": [[0.05], [0.1]], "noise.rate": [[0.1], [0.3]]}
    said = capsys.readouterr().out
    assert "optimizer.rho is no setting of optimizer=gd, and is left out there" in said


def test_a_setting_that_no_option_has(planned):
    with pytest.raises(
        ConfigError, match=r"loss.qq=\.\.\.: is no setting of the options of loss: logistic has none; gce has q"
    ):
        planned("loss=logistic,gce", "loss.qq=0.3,0.4")


def test_a_fixed_setting_goes_to_the_options_that_have_it(planned):
    (none, _), (small_loss, axes) = planned(
        "strategy=none,small_loss", "strategy.keep=share", "strategy.step=2", "strategy.t1=null"
    )
    assert "keep" not in none["strategy"]
    assert (small_loss["strategy"]["keep"], small_loss["strategy"]["step"], axes) == ("share", 2, {})


@pytest.mark.slow
def test_settings_of_two_groups(planned):
    groups = planned("strategy=none,weight_average", "strategy.decay=0.5", "optimizer=gd,sam", "optimizer.rho=0.05,0.1")
    found = [(config["choices"]["strategy"], config["choices"]["optimizer"], list(axes)) for config, axes in groups]
    assert found == [
        ("none", "gd", []),
        ("none", "sam", ["optimizer.rho"]),
        ("weight_average", "gd", []),
        ("weight_average", "sam", ["optimizer.rho"]),
    ]
    assert [config["strategy"].get("decay") for config, _ in groups] == [None, None, 0.5, 0.5]


@pytest.mark.slow
def test_a_setting_that_must_be_given(planned):
    symmetric, matrix = planned("noise=symmetric,matrix", "noise.rate=0.1", "noise.matrix=[[0.7,0.3],[0.2,0.8]]")
    assert (symmetric[0]["noise"]["rate"], matrix[0]["noise"]["matrix"]) == (0.1, [[0.7, 0.3], [0.2, 0.8]])


@pytest.mark.slow
def test_options_that_have_all_settings_make_the_plan_that_they_made(planned):
    """Such a sweep can be resumed though an earlier version has begun it: settings are fixed, and no axis of one value."""
    groups = planned("optimizer=gd,sam", "optimizer.lr=0.02")
    assert [(config["optimizer"]["lr"], axes) for config, axes in groups] == [(0.02, {}), (0.02, {})]


@pytest.mark.parametrize("given", ["optimizer.rhoo=0.1", "optimizer.rhoo=0.1,0.2"])
def test_a_setting_that_no_option_has_is_an_error(planned, given):
    with pytest.raises(ConfigError, match=r"^optimizer\.rhoo=.*: gd has lr, .*; sam has .*, rho, ") as raised:
        planned("optimizer=gd,sam", given)
    assert "_target_" not in str(raised.value)


@pytest.mark.parametrize("values", ["fitted", "end,fitted"])
def test_optimizers_that_would_end_elsewhere_are_not_compared(planned, capsys, values):
    """Mini-batches have no until: with it, gd ends once all labels are fitted, and sgd goes on."""
    with pytest.raises(ConfigError, match=r"optimizer=sgd: has no setting optimizer\.until"):
        planned("optimizer=gd,sgd", f"optimizer.until={values}")
    groups = planned("optimizer=glob(*gd)", f"optimizer.until={values}")
    assert [config["choices"]["optimizer"] for config, _ in groups] == ["gd", "normalized_gd"]
    assert "left out: optimizer=sgd: has no setting optimizer.until" in capsys.readouterr().out


def test_where_all_train_to_the_end_all_are_compared(planned):
    groups = planned("optimizer=gd,adam", "optimizer.until=end", "engine=autograd")
    assert [config["optimizer"].get("until") for config, _ in groups] == ["end", None]


@pytest.mark.slow
def test_glob_takes_the_options_that_fit_and_names_the_others(planned, capsys):
    groups = planned("loss=glob(*)", "data=signal_noise_classes", "loss.q=0.5")
    found = {config["choices"]["loss"] for config, _ in groups}
    assert {"logistic", "gce", "mae", "sce", "forward"} <= found
    assert not found & {"hinge", "squared", "exponential"}
    said = capsys.readouterr().out
    for loss in ("hinge", "squared", "exponential"):
        assert f"left out: loss={loss}: is for two classes" in said
    assert {config["loss"].get("q") for config, _ in groups if config["choices"]["loss"] == "gce"} == {0.5}


def test_glob_of_options_none_of_which_fits_is_an_error(planned):
    with pytest.raises(ConfigError, match="is for images"):
        planned("model=glob(vgg*)")


@pytest.mark.parametrize("value", ["0.1", "share", "null", "[1,2]", "[[0.7,0.3],[0.3,0.7]]", "'a, b'", "{a:1}"])
def test_words_come_back_as_they_were_typed(value):
    words = ["optimizer=gd,sam", f"optimizer.x={value}", f"noise.x={value}", "-m"]
    made = for_swept_options(words, COMPONENTS)
    assert [made[0], *made[2:]] == [words[0], *words[2:]]
    assert made[1] != words[1]
    assert as_typed(made[1]) == words[1]


@pytest.mark.parametrize("line", ["a=choice(1,2)", "a=1", "a=range(3)", "a=tag(t,choice(1))", "a=1,null", "a=null"])
def test_other_lines_stay(line):
    assert as_typed(line) == line


def test_the_command_line_goes_this_way(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "TYPED", [])
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "optimizer=gd,sam", "optimizer.rho=0.1", "dry_run=true", *TINY])
    cli.run(train.main, "config")
    assert "2 runs in 1 jobs" in capsys.readouterr().out
