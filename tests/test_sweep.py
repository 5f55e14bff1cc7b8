"""Packed sweeps: the same numbers as each run alone, whatever the packing; nothing lost, nothing twice."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.errors import HydraException
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import analyze
import train
from lnt.analysis.results import load
from lnt.errors import ConfigError
from lnt.files import read_json
from lnt.hardware import threads
from lnt.plan_file import read_plan
from lnt.progress import StepCount
from lnt.runs import train_runs
from lnt.runs.experiments_from_settings import expand
from lnt.runs.tables import schemas
from lnt.seeding import STREAMS
from lnt.settings import Axis
from lnt.signals import Stopped
from lnt.sweeps import job as sweep
from lnt.sweeps.distinct_runs import check_distinct
from lnt.sweeps.hydra_internals import FrozenLoader
from lnt.sweeps.plan import Plan
from lnt.table_files import read_table, write_table
from lnt.training import loop
from lnt.training.checkpoint import Checkpoint

ROOT = Path(__file__).parents[1]
TINY = ("data.n_train=8", "data.n_test=10", "data.dim=50", "optimizer.steps=10", "model.width=2")
NUMBERS = ["train_loss", "test_error", "signal_coef", "best_test_error", "stage1_step"]


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """call(*overrides) runs train.py -m with its results in DIR/sweep and returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides, directory="sweep", status=0):
        where = [f"hydra.sweep.dir={directory}"] if directory else []
        monkeypatch.setattr(sys, "argv", ["train.py", "-m", *TINY, *where, *overrides])
        ended = 0
        try:
            train.main()
        except SystemExit as stop:  # 1 if runs are missing or failed
            ended = stop.code
        assert ended == status
        return capsys.readouterr().out

    return run


def rows(path):
    return load(Path(path)).runs.set_index("run_id").sort_index()


def assert_same(found, expected):
    assert found.index.tolist() == expected.index.tolist()
    for name in NUMBERS:
        np.testing.assert_allclose(found[name].astype(float), expected[name].astype(float), rtol=1e-4, atol=1e-6, err_msg=name)


NOWHERE = (Checkpoint(Path("nowhere")), Path("nowhere"))
AXES = {
    "noise.rate": [0, 0.2, 0.4],
    "seed": [0, 1, 2],
    "data.dim": [5, 60],
    "data.n_train": [6, 9],
    "model.bias": [True, False],
    "optimizer.lr": [0.01, 0.1],
    "seeds.init": [4, 5],
    "data.orthogonal_noise": [False, True],
}


@pytest.mark.slow
@settings(max_examples=8, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(sorted(AXES)), st.integers(1, 3), st.data())
def test_any_packing_equals_each_run_alone(composed, order, count, data):
    """Grouping, order of axes and chunk size change neither run_id nor numbers."""
    config = composed(*TINY, "optimizer.steps=5")
    axes = [Axis((key,), tuple((value,) for value in AXES[key])) for key in order[:count]]
    packed, alone = {}, {}
    for batch in expand(config, axes):
        for chunk in (
            batch.take(part) for part in np.array_split(np.arange(batch.runs), data.draw(st.integers(1, batch.runs)))
        ):
            for found, _ in train_runs.train_or_fail(chunk, StepCount(), schemas([chunk]), *NOWHERE):
                packed |= {row["run_id"]: row for row in found.runs.to_pandas().to_dict("records")}
    points = [
        dict(zip(order[:count], values, strict=True))
        for values in np.array(np.meshgrid(*[AXES[k] for k in order[:count]])).T.reshape(-1, count)
    ]
    for point in points:
        lines = [f"{key}={AXES[key][[float(v) for v in AXES[key]].index(float(value))]}" for key, value in point.items()]
        ((single,),) = [list(expand(composed(*TINY, "optimizer.steps=5", *lines), []))]
        for found, _ in train_runs.train_or_fail(single, StepCount(), schemas([single]), *NOWHERE):
            alone |= {row["run_id"]: row for row in found.runs.to_pandas().to_dict("records")}
    assert set(packed) == set(alone)
    assert_same(*(pd.DataFrame(table.values()).set_index("run_id").sort_index() for table in (packed, alone)))


@pytest.mark.slow
def test_a_study_may_span_several_grids(call, monkeypatch):
    """The union of its grids, each with the overrides of the command line; strategies are compared in one figure."""
    said = call("experiment=han2025_early_stopping", "seed=range(2)", "noise.rate=0.1,0.2,0.3")
    assert "18 runs: 18 completed" in said
    found = rows("sweep")
    assert found.groupby("strategy").size().to_dict() == {"none": 6, "early_stopping": 12}
    assert found["strategy.rule"].value_counts().to_dict() == {"holdout": 6, "prediction_changes": 6}
    monkeypatch.setattr(sys, "argv", ["analyze.py", "path=sweep"])
    analyze.main()
    table = pd.read_csv("sweep/analysis/strategies.csv")
    assert set(table["name"]) == {"none", "early_stopping holdout", "early_stopping prediction_changes"}
    assert len(table) == 9
    mean = found[(found["strategy"] == "none") & (found["noise.rate"] == 0.2)]["strategy_test_error"].mean()
    assert table.set_index(["name", "rate"])["strategy_test_error_mean"]["none", 0.2] == pytest.approx(mean)


def test_a_sweep_over_everything_equals_single_runs(call, tmp_path, monkeypatch):
    said = call("noise=none,symmetric", "data.dim=50,60", "model.width=1,2", "seed=range(2)", "hydra.sweeper.runs_per_job=3")
    assert "16 runs: 16 completed, 0 diverged, 0 failed, 0 missing" in said
    found = rows("sweep")
    for run, (noise, dim, width, seed) in enumerate([("none", 60, 1, 1), ("symmetric", 50, 2, 0)]):
        overrides = [f"noise={noise}", f"data.dim={dim}", f"model.width={width}", f"seed={seed}"]
        monkeypatch.setattr(sys, "argv", ["train.py", *TINY, *overrides, f"hydra.run.dir=single{run}"])
        train.main()
        single = rows(f"single{run}")
        assert_same(found.loc[single.index], single)
        assert found.loc[single.index, "noise"].tolist() == [noise]
    assert found["noise.rate"].isna().sum() == 8, "noise=none has no rate"


@pytest.mark.slow
def test_grammar(call):
    call(
        "data.snr=linspace(0.1,0.3,3)",
        "data.dim=int(geomspace(100,10000,3))",
        "optimizer.lr=logspace(-3,-1,3)",
        directory="spaces",
    )
    found = rows("spaces")
    assert sorted(found["data.snr"].unique()) == [0.1, 0.2, 0.3]
    assert sorted(found["data.dim"].unique()) == [100, 1000, 10000]
    assert sorted(found["optimizer.lr"].unique()) == [0.001, 0.01, 0.1]
    call("data.dim=tag(pair,choice(50,60))", "seed=range(2)", "data.snr=tag(pair,choice(0.5,0.6))", directory="pairs")
    assert sorted(map(tuple, rows("pairs")[["data.dim", "data.snr"]].values)) == [(50, 0.5), (50, 0.5), (60, 0.6), (60, 0.6)]
    call("noise.rate=range(0,0.45,0.1)", directory="dust")
    assert sorted(rows("dust")["noise.rate"]) == [0, 0.1, 0.2, 0.3, 0.4]


@pytest.mark.slow
def test_an_axis_on_which_others_depend_is_composed_value_by_value(call):
    call("optimizer.t1_steps=null,5", "data.n_test=10,20")
    found = rows("sweep")
    assert len(found) == 4
    assert (found["optimizer.lr"].isna() == found["optimizer.t1_steps"].notna()).all()


def test_a_rerun_trains_nothing_twice(call):
    call("seed=range(4)")
    before = {path: path.read_bytes() for path in Path("sweep").rglob("*.parquet") if path.is_file()}
    assert "4 completed" in call("seed=range(4)")
    assert {path: path.read_bytes() for path in Path("sweep").rglob("*.parquet") if path.is_file()} == before


def test_a_rerun_with_other_jobs_or_order_finishes_what_is_missing(call):
    call("seed=range(5)", "data.dim=50,60", "hydra.sweeper.runs_per_job=10")
    (part,) = Path("sweep/0/runs.parquet").iterdir()
    pd.read_parquet(part).iloc[3:8].to_parquet(part)
    assert "10 completed" in call("data.dim=50,60", "seed=range(5)", "hydra.sweeper.runs_per_job=2")
    assert len(rows("sweep")) == 10


@pytest.mark.slow
def test_a_job_killed_before_its_first_part_can_be_rerun(call):
    call("seed=range(2)")
    for part in Path("sweep/0").rglob("*.parquet/*"):
        part.unlink()
    assert "2 completed" in call("seed=range(2)")


@pytest.mark.parametrize(
    ("optimizer", "axis"),
    [
        ("gd", "momentum"),
        ("sgd", "momentum"),
        ("sgd", "weight_decay"),
        ("adam", "weight_decay"),
        ("adam", "lr"),
        ("adamw", "weight_decay"),
    ],
)
@pytest.mark.slow
def test_autograd_sweeps_over_any_rate(call, monkeypatch, optimizer, axis):
    overrides = [key for key in TINY if "steps" not in key]
    steps = "optimizer.steps=3" if optimizer == "gd" else "optimizer.epochs=2"
    argv = ["train.py", "-m", *overrides, f"optimizer={optimizer}", "engine=autograd", f"optimizer.{axis}=0.1,0.2", steps]
    monkeypatch.setattr(sys, "argv", [*argv, "hydra.sweep.dir=sweep"])
    train.main()
    found = rows("sweep")
    assert found["status"].tolist() == ["completed"] * 2
    assert sorted(found[f"optimizer.{axis}"]) == [0.1, 0.2]
    assert found["train_loss"].nunique() == 2, "the rate has its effect"


@pytest.mark.slow
def test_glob_and_nulls(call):
    assert "2 completed" in call("noise=glob(*symmetric)", directory="glob")
    assert "3 completed" in call("optimizer.t1_steps=5,null,10", directory="nulls")


@pytest.mark.slow
def test_another_sweep_in_the_same_directory_is_refused(call):
    call("seed=range(4)")
    with pytest.raises(ValueError, match=r"holds another sweep \(noise.rate: 0.35 there, 0.1 now\)"):
        call("seed=range(4)", "noise.rate=0.1")
    with pytest.raises(ValueError, match=r"holds another sweep \(seed: "):
        call("seed=range(5)")


@pytest.mark.slow
def test_two_sweeps_in_the_same_second_get_two_directories(call):
    call("seed=range(2)", directory=None), call("seed=range(2)", directory=None)
    assert len(list(Path("multirun").rglob("sweep.yaml"))) == 2


def test_a_failing_run_costs_one_row(call, monkeypatch):
    original = train_runs.train_chunk

    def broken(chunk, progress, checkpoint):
        if 3 in np.atleast_1d(chunk.seeds.data):
            raise RuntimeError("seed 3 is cursed")
        return original(chunk, progress, checkpoint)

    monkeypatch.setattr(train_runs, "train_chunk", broken)
    said = call("seed=range(8)", status=1)
    assert "8 runs: 7 completed, 0 diverged, 1 failed, 0 missing" in said
    assert "to finish the rest: python train.py -m" in said
    found = load(Path("sweep"))
    assert found.failed[["seed", "error"]].values.tolist() == [[3, "RuntimeError: seed 3 is cursed"]]
    assert found.runs["error"].isna().sum() == 7
    monkeypatch.setattr(train_runs, "train_chunk", original)
    assert "8 runs: 8 completed, 0 diverged, 0 failed, 0 missing" in call("seed=range(8)")
    assert len(rows("sweep")) == 8


@pytest.mark.slow
def test_a_sweep_whose_runs_all_fail_or_diverge_at_once_still_has_its_rows(call, monkeypatch):
    said = call("model.power=3", "model.init_std=1", "optimizer.lr=1e20,1e21", "recordings=1", directory="diverged")
    assert "2 runs: 0 completed, 2 diverged" in said
    assert len(pd.read_parquet("diverged/0/curves.parquet")) == 0
    monkeypatch.setattr(train_runs, "train_chunk", lambda *arguments: 1 / 0)
    assert "2 runs: 0 completed, 0 diverged, 2 failed" in call("seed=1,2", directory="failed", status=1)
    found = pd.read_parquet("failed/0/runs.parquet")
    assert found["error"].tolist() == ["ZeroDivisionError: division by zero"] * 2
    assert found["test_error"].isna().all()


def test_a_diverging_run_is_a_row_of_its_own(call):
    assert "3 runs: 2 completed, 1 diverged" in call("model.power=3", "model.init_std=1", "optimizer.lr=0.001,1e20,0.002")


@pytest.mark.slow
def test_a_run_that_ends_its_process_is_a_row_and_the_others_are_done(call, monkeypatch):
    def crash(chunk, progress, checkpoint):
        if 3 in np.broadcast_to(chunk.settings.seed, chunk.runs):
            os.kill(os.getpid(), signal.SIGKILL)
        return train_chunk(chunk, progress, checkpoint)

    train_chunk = train_runs.train_chunk
    with monkeypatch.context() as patch:
        patch.setattr(train_runs, "train_chunk", crash)
        patch.setattr("lnt.two_layer.two_layer_experiment.workers_for", lambda device: 2)
        said = call("seed=range(12)", "hydra.sweeper.runs_per_job=12", status=1)
    assert "12 runs: 11 completed, 0 diverged, 1 failed, 0 missing" in said
    assert load(Path("sweep")).failed["error"].item().startswith("RuntimeError: its process died")
    assert "12 runs: 12 completed" in call("seed=range(12)", "hydra.sweeper.runs_per_job=12")


@pytest.mark.slow
def test_a_completed_job_has_one_file_for_each_table(call, monkeypatch):
    monkeypatch.setattr(train_runs.SavedResults, "add", lambda parts, done: parts.waiting.extend(done) or parts.flush())
    monkeypatch.setattr("lnt.two_layer.two_layer_experiment.workers_for", lambda device: 2)
    monkeypatch.setattr("lnt.two_layer.two_layer_experiment.CACHE_BYTES", 1)
    call("seed=range(6)", "hydra.sweeper.runs_per_job=6")
    for name in ("runs.parquet", "curves.parquet"):
        assert len(list(Path("sweep", "0", name).iterdir())) == 1
    together = load(Path("sweep"))
    assert len(together.runs) == 6
    assert together.duplicates == 0
    call("seed=range(6)", "hydra.sweeper.runs_per_job=2", directory="other")
    assert_same(rows("sweep"), rows("other"))


def test_jobs_carry_their_configuration(call):
    """Hydra's loader composes it from conf/ when a job starts; here conf/ is not even read."""
    loader = FrozenLoader(ConfigSearchPathImpl())
    config = OmegaConf.create({"hydra": {"sweep": {"subdir": "there"}}, "seed": 1})
    assert loader.load_sweep_config(config, ["+job=3"]) == {**config, "job": 3}
    assert "job" not in config


def test_jobs_use_the_plan_not_conf(call, tmp_path):
    """A job that starts late reads sweep.yaml: here with a value that conf/ does not have."""
    call("seed=range(2)")
    plan = yaml.safe_load(Path("sweep/sweep.yaml").read_text())
    plan["groups"][0]["config"]["noise"]["rate"] = 0.2
    (other := tmp_path / "other").mkdir()
    (other / "0").mkdir()
    (other / "sweep.yaml").write_text(yaml.safe_dump(plan))
    sweep.run_job(other, 0, other / "0")
    assert rows(other)["noise.rate"].tolist() == [0.2, 0.2]


def test_a_requeued_job_with_nothing_left_to_train_is_complete(call):
    """It was stopped between its last part and its last word."""
    call("seed=range(2)")
    status = Path("sweep/0/status.json")
    status.write_text(status.read_text().replace("completed", "running"))
    sweep.run_job(Path("sweep"), 0, Path("sweep/0"))
    assert '"state": "completed"' in status.read_text()
    assert len(rows("sweep")) == 2


def test_dry_run_prints_the_plan_and_trains_nothing(call, tmp_path):
    said = call("seed=range(5)", "model.width=1,2", "dry_run=true", "hydra.sweeper.runs_per_job=4")
    assert "10 runs in 3 jobs of at most 4" in said
    assert said.count("5 runs  n = 8") == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_runs_go_through_any_launcher(call):
    said = call("seed=range(6)", "hydra/launcher=local_pool", "hydra.sweeper.runs_per_job=3")
    assert "6 runs: 6 completed" in said
    assert len(list(Path("sweep").glob("*/runs.parquet"))) == 2


@pytest.mark.parametrize("launcher", ["slurm", "slurm_gpu"])
def test_presets_for_a_cluster_plan_without_one(call, tmp_path, launcher):
    said = call("seed=range(6)", f"hydra/launcher={launcher}", "hydra.launcher.partition=gpu", "dry_run=true")
    assert "6 runs in 6 jobs of at most 1" in said
    assert not list(tmp_path.iterdir())


def test_a_time_limit_that_leaves_no_time_to_train_is_refused(call, tmp_path):
    with pytest.raises(ConfigError, match="signal_delay_s=90: must be below 90 with timeout_min=2"):
        call("seed=range(6)", "hydra/launcher=slurm", "hydra.launcher.timeout_min=2")
    assert not list(tmp_path.iterdir())


BAD = {
    "data.colour=1,2": "data.colour",
    "colour=1,2": "colour",
    "data.dim=range(5,5)": "data.dim=range(5,5): the axis is empty",
    "seed=0,0,1": "drop values that repeat",
    "device=auto,cpu": "axes that change no result",
    "data.snr=0.1,inf": "data.snr=inf: must be a finite number",
    "data.dim=interval(1,5)": "data.dim=interval(1,5): is continuous; use linspace(start,stop,num)",
    "data.dim=linspace(1,2,4)": "data.dim=1.33333333333: must be an integer",
    "noise.rate=0.1,0.7": "noise.rate=0.7: must lie in [0, 0.5)",
    "model.width=2,0": "model.width=0: must be at least 1",
    "data.dim=tag(p,choice(1,2)) data.snr=tag(p,choice(1,2,3))": "axes that advance together need the same length",
    "seed=1,2 hydra.sweeper.runs_per_job=0": "hydra.sweeper.runs_per_job=0: must be auto or at least 1",
}


@pytest.mark.parametrize("overrides", BAD)
@pytest.mark.slow
def test_bad_axes_are_refused_before_anything_is_written(call, tmp_path, overrides):
    with pytest.raises((ConfigError, HydraException)) as error:
        call(*overrides.split())
    assert BAD[overrides] in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_killed_again_and_again_then_finished(tmp_path):
    """kill -9 at random moments, twenty times; the rerun's table equals that of an undisturbed sweep."""
    overrides = ["data.n_train=20", "data.n_test=100", "optimizer.steps=200", "model.width=3", "data.dim=range(100,200,1)"]
    command = [sys.executable, str(ROOT / "train.py"), "-m", *overrides, "seed=range(60)", "hydra.sweeper.runs_per_job=2000"]
    rng = np.random.default_rng(0)
    for _ in range(20):
        process = subprocess.Popen([*command, "hydra.sweep.dir=killed"], cwd=tmp_path, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(2, 12))
        process.send_signal(signal.SIGKILL)
        process.wait()
    for directory in ("killed", "undisturbed"):
        subprocess.run([*command, f"hydra.sweep.dir={directory}"], cwd=tmp_path, check=True)
    found, expected = rows(tmp_path / "killed"), rows(tmp_path / "undisturbed")
    assert len(found) == 6000
    assert_same(found, expected)
    raw = pd.concat(pd.read_parquet(part) for part in (tmp_path / "killed").rglob("runs.parquet/*.parquet"))
    assert not raw["run_id"].duplicated().any()


def test_grids_that_share_a_run_are_refused(composed):
    """A run of two grids, one of which varies a key that the other holds still, would count as missing for ever."""
    norms, seeds = Axis(("data.signal_norm",), ((2.0,), (3.0,))), Axis(("seed",), ((0,), (1,)))
    both = (composed(*TINY, "data.signal_norm=2.0"), (norms, seeds))
    again, other = ((composed(*TINY, f"data.signal_norm={norm}"), (seeds,)) for norm in (3.0, 4.0))
    assert set(*(batch.run_ids() for batch in expand(*again))) < set(*(batch.run_ids() for batch in expand(*both)))
    with pytest.raises(ConfigError, match="sweep=2: points name a run that another point names too"):
        check_distinct(Plan((both, again), 1))
    check_distinct(Plan((both, other), 1))


@pytest.mark.parametrize(
    ("axes", "twice"),
    [
        ({"seed": [0, 1], "seeds.data": [5, 6]}, 0),
        ({"seed": [0, 1], **{f"seeds.{stream}": [1, 2] for stream in STREAMS}}, 32),
        ({"seed": [0, 1, 1], "data.dim": [50, 60]}, 2),
        ({"data.dim": [50, 50.0], "seed": [0, 1]}, 2),
        ({"data.n_train": [6, 8, 6], "seed": [0, 1]}, 2),
        ({"device": ["auto", "cpu"], "seed": [0, 1]}, 2),
        ({"data.n_train": [6, 8], "model.width": [2, 3], "noise.rate": [0.1, 0.2]}, 0),
        ({"seed": [0]}, 0),
        ({}, 0),
    ],
)
def test_points_that_name_the_same_run_are_counted(composed, axes, twice):
    """The verdict from the axes alone is that of all runs, and these are looked at only if it is no."""
    plan = Plan(((composed(*TINY), tuple(Axis((key,), tuple((v,) for v in values)) for key, values in axes.items())),), 1)
    ids = [run for batch in plan.batches() for run in batch.run_ids()]
    assert len(ids) - len(set(ids)) == twice
    if twice:
        with pytest.raises(ConfigError, match=f"sweep={twice}: points name a run"):
            check_distinct(plan)
    else:
        check_distinct(plan)


def test_any_slice_of_a_plan_has_the_runs_of_the_whole(composed):
    axes = {"seed": range(3), "data.n_train": (6, 8), "data.dim": range(50, 54), "model.bias": (True, False)}
    grids = [tuple(Axis((key,), tuple((v,) for v in values)) for key, values in axes.items()), (Axis(("seed",), ((7,), (8,))),)]
    plan = Plan(tuple((composed(*TINY), grid) for grid in grids), 7)
    whole = [run for batch in plan.batches() for run in batch.run_ids()]
    assert len(whole) == plan.runs() == 50
    assert list(plan.jobs()) == list(range(8))
    for first, last in ((0, 50), (0, 1), (11, 12), (5, 31), (47, 50), (48, 49), (20, 20)):
        assert [run for batch in plan.batches(first, last) for run in batch.run_ids()] == whole[first:last]
    assert [run for job in plan.jobs() for batch in plan.of_job(job) for run in batch.run_ids()] == whole


def test_plans_of_earlier_versions_are_read(call):
    """Their points are YAML, not JSON; jobs, status, reruns and the analysis read both."""
    call("seed=range(4)", "data.snr=0.1,1e-5", "hydra.sweeper.runs_per_job=4")
    plan = read_plan(Path("sweep/sweep.yaml"))
    assert [axis["points"] for axis in plan["groups"][0]["axes"]] == [[[0], [1], [2], [3]], [[0.1], [1e-05]]]
    text = Path("sweep/sweep.yaml").read_text()
    assert "points: '[[0.1],[1e-05]]'" in text
    Path("sweep/sweep.yaml").write_text(yaml.safe_dump(plan))
    assert read_plan(Path("sweep/sweep.yaml")) == plan
    for part in Path("sweep/1/runs.parquet").iterdir():
        part.unlink()
    assert "8 completed" in call("seed=range(4)", "data.snr=0.1,1e-5", "hydra.sweeper.runs_per_job=4")
    assert len(rows("sweep")) == 8


@pytest.mark.parametrize(("on_slurm", "wrong", "code"), [(True, 3, "all 3 runs failed"), (True, 1, None), (False, 3, None)])
@pytest.mark.slow
def test_a_job_of_failed_runs_only_fails_on_slurm(call, monkeypatch, on_slurm, wrong, code):
    call("seed=range(3)")
    shutil.rmtree("sweep/0")
    alone = []

    def train_chunk(chunk, *arguments):
        alone.extend([1] * (chunk.runs == 1))
        if chunk.runs > 1 or len(alone) <= wrong:
            raise ValueError("no")
        return loop.train_chunk(chunk, *arguments)

    monkeypatch.setattr(train_runs, "train_chunk", train_chunk)
    monkeypatch.setattr(sweep, "slurm_job", lambda: "17_0" if on_slurm else None)
    with threads(1), pytest.raises(SystemExit, match=code) if code else contextlib.nullcontext():
        sweep.run_job(Path("sweep"), 0, Path("sweep/0"))
    (part,) = Path("sweep/0/runs.parquet").iterdir()
    assert pd.read_parquet(part)["status"].tolist().count("failed") == wrong


def test_a_signal_on_a_full_disk_still_requeues_the_job(call, monkeypatch):
    """What cannot be written is trained again by the job's next start; without a place in the queue there is none."""
    finished = []

    def train_chunk(*arguments):
        raise Stopped

    def say(directory, state, **more):
        if state == "preempted":
            raise OSError(28, "No space left on device")

    def finish(*arguments):
        finished.append(arguments)
        sys.exit(138)

    with monkeypatch.context() as patch, threads(1):
        patch.setattr(train_runs, "train_chunk", train_chunk)
        patch.setattr(train_runs.RunDirectory, "say", say)
        patch.setattr(train_runs.signals, "finish", finish)
        call("seed=range(4)", status=138)
    assert len(finished) == 1
    call("seed=range(4)")
    assert rows("sweep")["status"].tolist() == ["completed"] * 4


def test_a_fault_of_the_machine_is_no_fault_of_a_run(call, monkeypatch):
    """An OSError: no row says failed, no chunk is tried in halves, and the status says why."""
    tried = []

    def train_chunk(chunk, *arguments):
        tried.append(chunk.runs)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, threads(1):
        patch.setattr(train_runs, "train_chunk", train_chunk)
        call("seed=range(8)", status=1)
    assert tried == [8]
    assert not Path("sweep/0/runs.parquet").exists()
    assert "No space left on device" in read_json(Path("sweep/0/status.json"))["error"]
    call("seed=range(8)")
    assert rows("sweep")["status"].tolist() == ["completed"] * 8


def test_a_job_that_is_requeued_between_two_options_has_tables_of_one_form(call):
    """The parts of its second start hold the columns of all its runs, not of the missing ones only."""
    call("strategy=none,early_stopping", "seed=0,1")
    runs = rows("sweep")
    first = runs.index[runs["strategy"] == "none"].tolist()
    for name in ("runs", "curves"):
        (part,) = Path(f"sweep/0/{name}.parquet").iterdir()
        table = read_table(part)
        part.unlink()
        write_table(part.with_name("0.parquet"), table.filter(pc.is_in(table["run_id"], pa.array(first, table["run_id"].type))))
    plan = Plan.from_plain(read_plan(Path("sweep/sweep.yaml")), {})
    sweep.run_job(Path("sweep"), 0, Path("sweep/0"), [[*key, value] for key, value in plan.classes().items()])
    assert read_json(Path("sweep/0/status.json"))["state"] == "completed"
    assert len(list(Path("sweep/0/runs.parquet").iterdir())) == 1, "its parts were joined"
    assert len(rows("sweep")) == 4
