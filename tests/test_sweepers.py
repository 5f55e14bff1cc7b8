"""What train.py returns to sweepers that search, and other sweepers and launchers of Hydra."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import yaml

import train
from lnt import cli
from lnt.errors import ConfigError

SMALL = ("data.n_train=20", "data.n_test=40", "data.dim=60", "model.width=2", "optimizer.t1_steps=null", "optimizer.steps=30")


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """call(*overrides) runs train.py in an empty directory and returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides):
        monkeypatch.setattr(sys, "argv", ["train.py", *overrides, *SMALL, "recordings=8"])
        train.main()
        return capsys.readouterr().out

    return run


def values(column):
    """A column of the runs below this directory, by the directory of each."""
    return {path.parent.name: pd.read_parquet(path)[column].item() for path in Path().rglob("runs.parquet")}


@pytest.mark.slow
def test_a_sweeper_gets_the_optimized_metric_of_each_run(call, monkeypatch):
    returned = []
    # Hydra tells its callbacks what a job has returned.
    monkeypatch.setattr(
        cli.CheckBeforeRun, "on_job_end", lambda _, job_return, **more: returned.append(job_return.return_value)
    )
    call("-m", "hydra/sweeper=basic", "optimizer.lr=0.01,1", "optimized_metric=train_loss", "hydra.sweep.dir=sweep")
    assert {str(number): value for number, value in enumerate(returned)} == values("train_loss")
    assert returned[0] > returned[1] > 0


def test_a_metric_that_is_null_is_a_trial_that_failed(call):
    with pytest.raises(ConfigError, match="optimized_metric=noisy_accuracy: the run has no such number: the column is null"):
        call("optimized_metric=noisy_accuracy", "noise=none", "optimizer.lr=0.1", "hydra.run.dir=run")
    assert values("status") == {"run": "completed"}


def test_of_a_run_that_failed_the_error_is_told():
    with pytest.raises(ConfigError, match="no such number: it failed: MemoryError: none left"):
        cli.optimized("test_error", {"test_error": None, "status": "failed", "error": "MemoryError: none left"})


@pytest.mark.parametrize("name", ["test_eror", "status", "noise.rate", "[test_error]"])
@pytest.mark.parametrize("command", [(), ("-m", "seed=1,2"), ("-m", "hydra/sweeper=basic", "seed=1,2")], ids=" ".join)
def test_a_metric_that_does_not_exist_is_refused_before_training(call, tmp_path, name, command):
    with pytest.raises(SystemExit) as error:
        call(*command, f"optimized_metric={name}")
    assert str(error.value).startswith("error: optimized_metric=")
    assert "must be a column of numbers" in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not find_spec("optuna"), reason="needs hydra-optuna-sweeper: docs/tools.md has the versions")
def test_optuna_finds_the_best_of_its_runs(call):
    search = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=1", "hydra.sweep.dir=sweep")
    call("-m", *search, "optimizer.lr=tag(log,interval(0.001,1))", "optimized_metric=train_loss")
    found = yaml.safe_load(Path("sweep/optimization_results.yaml").read_text())
    assert found["best_value"] == min(values("train_loss").values())
    assert set(found["best_params"]) == {"optimizer.lr"}
    with pytest.raises(SystemExit, match="optimized_metric=None: hydra/sweeper=optuna needs one"):
        call("-m", *search, "optimizer.lr=interval(0.001,1)")


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("ray"), reason="needs hydra-ray-launcher: docs/tools.md has the versions")
def test_ray_trains_a_packed_sweep(call):
    call(
        "-m", "hydra/launcher=ray", "hydra.sweeper.runs_per_job=2", "seed=range(4)", "optimizer.lr=0.1", "hydra.sweep.dir=sweep"
    )
    assert sorted(len(pd.read_parquet(path)) for path in Path("sweep").rglob("runs.parquet")) == [2, 2]
