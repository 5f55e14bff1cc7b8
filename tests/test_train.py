"""train.py as users call it: what lands on disk, and what bad input says."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from image_sets import write_all

import train
from lnt import table_files
from lnt.column_names import COMPONENTS, METRICS
from lnt.files import read_json
from lnt.images.datasets import digits
from lnt.noise.by_class import Symmetric
from lnt.runs import train_runs
from lnt.runs.directory import RunDirectory
from lnt.runs.tables import Tables
from lnt.training import loop

ROOT = Path(__file__).parents[1]
TINY = ("data.n_train=10", "data.n_test=20", "data.dim=50", "optimizer.steps=20")
EXACTLY_ONE = "exactly one of the two must be given, the other null"
CONTRACT = [
    *("status", "train_loss", "clean_accuracy", "noisy_accuracy", "test_error", "test_error_observed"),
    *("signal_coef", "noise_coef_clean", "noise_coef_noisy", "signal_coef_mean", "noise_coef_clean_mean"),
    *("noise_coef_noisy_mean", "selection_precision", "selection_recall", "selection_auc", "best_test_error", "best_step"),
    *("stage1_step", "stage2_step", "realised_noise_rate", "wall_seconds"),
]


@pytest.fixture
def call(tmp_path, monkeypatch):
    """call(*overrides) runs train.py in an empty directory and returns the run's directory."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("status.json")}
        monkeypatch.setattr(sys, "argv", ["train.py", *overrides])
        train.main()
        (status,) = [path for path in tmp_path.rglob("status.json") if before.get(path) != path.stat().st_mtime_ns]
        return status.parent

    return run


def test_a_run_leaves_the_contract_on_disk(call):
    directory = call(*TINY, "noise.rate=0.25", "seeds.init=5")
    files = {path.name for path in directory.iterdir()}
    assert files == {"runs.parquet", "curves.parquet", "config.yaml", "provenance.json", "status.json", "train.log"}
    runs, curves = pd.read_parquet(directory / "runs.parquet"), pd.read_parquet(directory / "curves.parquet")
    assert list(runs.columns[:1]) == ["run_id"]
    assert set(CONTRACT) <= set(runs.columns)
    (row,) = runs.to_dict("records")
    assert (row["data"], row["noise"], row["noise.rate"], row["seed"], row["seeds.init"]) == (
        "signal_noise",
        "symmetric",
        0.25,
        0,
        5,
    )
    assert (row["engine"], row["status"]) == ("span", "completed")
    assert np.isnan(row["data.signal_norm"])
    assert list(curves.columns) == ["run_id", "step", *METRICS]
    assert curves["run_id"].unique().tolist() == [row["run_id"]]
    last = curves.iloc[-1]
    assert last["step"] == 20
    assert {name: row[name] for name in METRICS if not np.isnan(row[name])} == last[list(METRICS)].dropna().to_dict()
    assert [name for name in METRICS if np.isnan(row[name])] == ["test_error_rare", "stopping_criterion"]
    assert row["best_test_error"] == curves["test_error"].min()
    assert row["best_step"] == curves["step"][curves["test_error"].argmin()]
    assert json.loads((directory / "status.json").read_text())["state"] == "completed"
    assert {"git", "versions", "device", "command"} <= set(json.loads((directory / "provenance.json").read_text()))
    assert yaml.safe_load((directory / "config.yaml").read_text())["noise"]["rate"] == 0.25


@pytest.mark.slow
def test_run_id_follows_what_can_change_a_result(call):
    ids = [
        pd.read_parquet(call(*TINY, *more) / "runs.parquet")["run_id"][0]
        for more in ([], ["device=cpu"], ["seed=0"], ["engine=span"], ["data.dim=50.0"], ["seed=1"], ["noise.rate=0.1"])
    ]
    assert len(set(ids[:5])) == 1
    assert len(set(ids[4:])) == 3


def test_a_diverged_run_keeps_what_was_measured(call):
    directory = call(*TINY, "model.power=3", "model.init_std=1", "optimizer.lr=1e20")
    runs, curves = pd.read_parquet(directory / "runs.parquet"), pd.read_parquet(directory / "curves.parquet")
    assert runs["status"][0] == "diverged"
    assert 1 <= len(curves) < 20
    assert runs["train_loss"][0] == curves["train_loss"].iloc[-1]
    assert runs["last_step"][0] == curves["step"].iloc[-1] < 20


def test_an_exception_ends_in_the_runs_own_log(call, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(train_runs, "train_chunk", lambda *arguments: 1 / 0)
        with pytest.raises(SystemExit, match="1"):
            call(*TINY, "hydra.run.dir=run")
    (log,) = tmp_path.rglob("train.log")
    assert "Traceback" in log.read_text()
    assert "ZeroDivisionError" in log.read_text()
    status = json.loads((log.parent / "status.json").read_text())
    assert status["state"] == "failed"
    assert "ZeroDivisionError" in status["error"]
    (row,) = pd.read_parquet(log.parent / "runs.parquet").to_dict("records")
    assert (row["status"], row["error"]) == ("failed", "ZeroDivisionError: division by zero")
    call(*TINY, "hydra.run.dir=run")
    assert pd.read_parquet(log.parent / "runs.parquet")["status"].tolist() == ["completed"], "the same command tries again"


@pytest.mark.slow
def test_runs_never_share_or_overwrite_a_directory(call, tmp_path):
    assert call(*TINY) != call(*TINY)
    first = call(*TINY, "hydra.run.dir=mine")
    before = (first / "runs.parquet").read_bytes()
    with pytest.raises(SystemExit, match=r"output directory=mine: holds results already"):
        call(*TINY, "hydra.run.dir=mine", "seed=3")
    assert (first / "runs.parquet").read_bytes() == before


def test_a_claim_is_won_once(tmp_path):
    first = RunDirectory.claim(tmp_path / "run", {})
    with pytest.raises(ValueError, match="is in use"):
        RunDirectory.claim(tmp_path / "run", {})
    first.release()
    RunDirectory.claim(tmp_path / "run", {})


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    directory = RunDirectory.claim(tmp_path, {})
    directory.save(Tables(pa.table({"a": [1]}), pa.table({"b": [2]}), pa.table({})))

    def write_half(tables, schema, file):
        file.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(table_files, "_write", write_half)
    with pytest.raises(OSError, match="disk full"):
        directory.save(Tables(pa.table({"a": [3]}), pa.table({"b": [3]}), pa.table({})))
    assert pd.read_parquet(directory.runs)["a"].tolist() == [1]
    assert not list(tmp_path.glob(".*tmp"))


BAD = {
    "data.n_train=abc": "data.n_train=abc: must be an integer",
    "data.n_train=2.5": "data.n_train=2.5: must be an integer",
    "data.n_train=0": "data.n_train=0: must be at least 1",
    "data.n_test=0": "data.n_test=0: must be at least 1",
    "data.dim=0": "data.dim=0: must be at least 1",
    "data.dim=1 data.orthogonal_noise=true": "data.dim=1: must be at least 2",
    "data.noise_std=0": "data.noise_std=0.0: must be positive",
    "data=xor data.angle=0": "data.angle=0.0: must lie in (0, 90] degrees",
    "data=xor data.dim=1": "data.dim=1: must be at least 2",
    "strategy=small_loss strategy.keep=best": "strategy.keep=best: must be threshold, share or mixture",
    "strategy=small_loss strategy.step=2000": "strategy.step=2000: acts at step 2000, but training has 2000 steps",
    "strategy=small_loss strategy.step=5 strategy.t1=1": "strategy.t1=[5, None, 1.0]: exactly one of the three",
    "strategy=co_teaching strategy.every=2000": "strategy.every=2000: must be below the number of steps, 2000",
    "strategy=early_stopping recordings=2": "strategy.rule=holdout: chooses among the recorded steps; recordings=2 must be",
    "data.snr=null": f"data.snr, data.signal_norm=None, None: {EXACTLY_ONE}",
    "data.snr=1 data.signal_norm=2": f"data.snr, data.signal_norm=1.0, 2.0: {EXACTLY_ONE}",
    "data.snr=-1": "data.snr=-1.0: must be at least 0",
    "data.snr=nan": "data.snr=nan: must be a finite number",
    "data.dim=inf": "data.dim=inf: must be an integer",
    "data.n_train=nan": "data.n_train=nan: must be an integer",
    "data.dim=1e20": "data.dim=1e+20: must be an integer",
    "seeds=null": "seeds=None: must be given",
    "~noise": "noise=None: must be given",
    "data.orthogonal_noise=3": "data.orthogonal_noise=3: must be true or false",
    "noise.rate=0.5": "noise.rate=0.5: must lie in [0, 0.5)",
    "noise.rate=-0.1": "noise.rate=-0.1: must lie in [0, 1 - 1/K) for K classes",
    "noise=asymmetric noise.rate_positive=1": "noise.rate_positive=1.0: must lie in [0, 1)",
    "model.width=0": "model.width=0: must be at least 1",
    "model.power=0.5": "model.power=0.5: must be at least 1",
    "model.init_std=-1": "model.init_std=-1.0: must be at least 0",
    "optimizer.steps=0": "optimizer.steps=0: must be at least 1",
    "optimizer.lr=0": "optimizer.lr=0.0: must be positive",
    "optimizer.lr=1 optimizer.t1_steps=1": f"optimizer.lr, optimizer.t1_steps=1.0, 1.0: {EXACTLY_ONE}",
    "optimizer.momentum=1": "optimizer.momentum=1.0: must lie in [0, 1)",
    "optimizer=sgd optimizer.batch_size=0": "optimizer.batch_size=0: must be at least 1",
    "optimizer=adam engine=span": "engine=span: Adam's steps leave the span of the data; use engine=autograd or optimizer=gd",
    "engine=fast": "engine=fast: must be one of auto, span, autograd",
    "precision=half": "precision=half: must be one of float32, float64",
    "device=tpu": "device=tpu: must be one of auto, cpu, cuda",
    "recordings=0": "recordings=0: must be at least 1",
    "seed=-1": "seed=-1: must be an integer from 0 to 2^62",
    "seeds.init=-1": "seeds.init=-1: must be an integer from 0 to 2^62",
    "+data.colour=red": "data.colour=red: unknown key; known are n_train, n_test, dim, snr, signal_norm,",
    "engine=autograd data.dim=1e9": "data.dim=1000000000: one run needs",
    "hydra.run.dir=train.txt/run": "is not a directory",
    "hydra.run.dir=/proc/run": "output directory=/proc/run:",
}


@pytest.mark.parametrize("overrides", BAD)
def test_bad_input_is_one_line_before_anything_is_written(call, tmp_path, overrides):
    (tmp_path / "train.txt").write_text("in the way")
    with pytest.raises(SystemExit) as stop:
        call(*overrides.split())
    assert str(stop.value).startswith("error: ")
    assert BAD[overrides] in str(stop.value)
    assert "\n" not in str(stop.value)
    assert [path.name for path in tmp_path.iterdir()] == ["train.txt"]


@pytest.mark.skipif("__import__('torch').cuda.is_available()")
def test_a_device_that_is_not_there(call):
    with pytest.raises(SystemExit, match="device=cuda: no CUDA device is available; use cpu or auto"):
        call("device=cuda")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.n_trian=3", ["data.n_trian", "unknown key; known are data.n_train, data.n_test"]),
        ("nosie.rate=0.1", ["nosie.rate", "unknown key; known are noise, model, loss, optimizer"]),
        ("noise=loud", ["noise/loud", "asymmetric; file; human; instance; label_multipliers; matrix; none; pair; symmetric"]),
    ],
)
def test_unknown_keys_and_options_on_the_real_command_line(tmp_path, override, words):
    command = [sys.executable, str(ROOT / "train.py"), override]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("component", sorted(p for name in COMPONENTS for p in (ROOT / "conf" / name).glob("*.yaml")), ids=str)
@pytest.mark.slow
def test_every_component_in_conf_trains(experiment, component, tmp_path, monkeypatch):
    """A new component is one class and one YAML file; this test finds it."""
    group, option, text = component.parent.name, component.stem, component.read_text()
    settings = ["data.n_train=4", "data.n_test=4", f"{group}={option}", "data.dim=30"]
    if "lnt.images" in text or "lnt.noise.by_sample" in text or option == "elr":
        settings[-1:] = ["optimizer.epochs=2", *([] if group == "data" else ["data=digits"])]
    if "download:" in text:
        write_all(tmp_path, monkeypatch)
        settings += [f"data.root={tmp_path}"]
    if option == "human":
        np.save(tmp_path / "labels.npy", digits()["train_labels"])
        settings += [f"noise.file={tmp_path}/labels.npy", "data.classes=null", "data.n_train=10"]
    if option == "matrix":
        settings += ["noise.matrix=[[0.8,0.2],[0.1,0.9]]"]
    if option == "file":
        np.savez(tmp_path / "labels.npz", observed=digits()["train_labels"])
        settings += [f"noise.file={tmp_path}/labels.npz"]
    if option == "estimated_transition":
        settings += ["loss=forward"]
    if option == "arrays":
        rng = np.random.default_rng(0)
        np.savez(tmp_path / "mine.npz", x=rng.standard_normal((60, 5)), y=np.arange(60) % 3)
        settings += [f"data.file={tmp_path}/mine.npz"]
    values = loop.train(experiment(*settings)).values
    assert np.isfinite(values[:, METRICS.index("train_loss")]).all()


@dataclass(frozen=True)
class Faulty(Symmetric):
    """A user's own noise with a fault in it."""

    def check(self, classes):
        raise RuntimeError("out of order")


def test_a_fault_in_ones_own_component_keeps_its_traceback(call, capsys, tmp_path):
    """Nothing else tells its place; and nothing is written."""
    with pytest.raises(SystemExit, match="1"):
        call(f"++noise._target_={__name__}.Faulty", *TINY)
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert 'raise RuntimeError("out of order")' in said
    assert not list(tmp_path.iterdir())


def test_a_stage1_too_short_to_see_is_said(call, capsys):
    call(*TINY, "optimizer.lr=10")
    said = capsys.readouterr().out
    assert "Stage I is predicted to last 0.4 steps in this run, too few to see it: optimizer.t1_steps=40" in said
    assert "next: python analyze.py path=" in said
    call(*TINY, "optimizer.t1_steps=5")
    call(*TINY, "optimizer.lr=10", "recordings=1")
    assert "Stage I" not in capsys.readouterr().out


def test_an_interrupted_run_saves_what_it_has_and_says_so(tmp_path, monkeypatch):
    """Ctrl-C between the end of training and its saving."""

    def then_interrupted(*arguments, **more):
        for done in original(*arguments, **more):
            yield done
            signal.raise_signal(signal.SIGINT)

    original = train_runs.trained
    monkeypatch.setattr(train_runs, "trained", then_interrupted)
    monkeypatch.setattr(train_runs, "SECONDS_AT_RISK", 1000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *TINY, "hydra.run.dir=run"])
    with pytest.raises(SystemExit, match="interrupted; to go on: "):
        train.main()
    assert read_json(Path("run/status.json"))["state"] == "interrupted"
    assert len(pd.read_parquet("run/runs.parquet")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("data", [("data.dim=50",), ("data=digits", "data.classes=[3,8]", "optimizer.epochs=2")])
def test_nothing_is_said_on_stderr(tmp_path, data):
    """Nor by a library at the end: one that images need once told of hundreds of leaks."""
    for command in (["train.py", *data, "hydra.run.dir=out"], ["analyze.py", "path=out", "attributions=2"]):
        program, *words = command
        done = subprocess.run([sys.executable, ROOT / program, *words], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
