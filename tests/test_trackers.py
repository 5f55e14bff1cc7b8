"""What trackers were handed, read back by their own readers and compared with the tables; nothing leaves the directory."""

import importlib.util
import socket
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import train
from lnt import cli
from lnt.column_names import METRICS, OUTCOME_TYPES
from lnt.errors import ConfigError
from lnt.runs import trackers
from lnt.runs.trackers import Mlflow, NoTracker, TensorBoard, Wandb

SMALL = ("data.n_train=20", "data.n_test=40", "data.dim=60", "model.width=2", "optimizer.t1_steps=null", "optimizer.lr=0.1")
SMALL = (*SMALL, "optimizer.steps=30", "recordings=8")


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """call(*overrides) runs train.py in an empty directory, with no way to the network; it returns what that printed."""
    connect = socket.socket.connect

    def local_only(self, address):
        assert self.family == socket.AF_UNIX, address
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
    monkeypatch.chdir(tmp_path)

    def run(*overrides):
        monkeypatch.setattr("sys.argv", ["train.py", *overrides, *SMALL])
        train.main()
        return capsys.readouterr().out

    return run


def needs(package):
    """Skip where an optional package is absent."""
    return pytest.importorskip(package, reason=f"{package} is an extra: pip install 'lnt[...]'")


def saved(directory):
    """The row and the curve of the one run in a directory, without what is null, as parquet has them."""
    row = pd.read_parquet(Path(directory) / "runs.parquet").iloc[0].dropna()
    curve = pd.read_parquet(Path(directory) / "curves.parquet")
    return row, {name: curve.set_index("step")[name].dropna() for name in METRICS if curve[name].notna().any()}


def numbers(row):
    """The outcomes in a row that are numbers."""
    return {name: float(row[name]) for name, kind in OUTCOME_TYPES.items() if kind != "str" and name in row}


def test_tensorboard_has_what_the_tables_have(call):
    needs("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    call("tracker=tensorboard", "hydra.run.dir=run", "noise.rate=0.2")
    row, curves = saved("run")
    found = EventAccumulator(f"run/tensorboard/{row['run_id']}").Reload()
    tags = found.Tags()["scalars"]
    assert set(tags) == {*curves, *(f"outcome/{name}" for name in numbers(row))}
    for name, curve in curves.items():
        assert [event.step for event in found.Scalars(name)] == curve.index.tolist()
        np.testing.assert_allclose([event.value for event in found.Scalars(name)], curve, rtol=1e-6)
    for name, value in numbers(row).items():
        (event,) = found.Scalars(f"outcome/{name}")
        assert (event.step, event.value) == (row["last_step"], pytest.approx(value, rel=1e-6))
    text = found.Tensors("run/text_summary")[0].tensor_proto.string_val[0].decode()
    assert f"| run_id | {row['run_id']} |" in text
    assert "| noise.rate | 0.2 |" in text
    content = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"optimizer.steps" in content


def test_wandb_is_offline_and_has_what_the_tables_have(call, monkeypatch):
    needs("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "online")  # of the shell: the setting tracker.mode decides
    call("tracker=wandb", "hydra.run.dir=run", "noise.rate=0.2")
    row, curves = saved("run")
    (file,) = Path("run").glob("wandb/offline-run-*/*.wandb")
    records = [Record.FromString(content) for content in leveldb_log(file.read_bytes())]
    (run,) = [record.run for record in records if record.HasField("run")][:1]
    assert run.display_name == row["run_id"]
    assert {"noise.rate": "0.2", "run_id": f'"{row["run_id"]}"'}.items() <= {
        i.key: i.value_json for i in run.config.update
    }.items()
    history = [
        {item.key or "/".join(item.nested_key): float(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    for name, curve in curves.items():
        at = {int(entry["_step"]): entry[name] for entry in history if name in entry}
        assert at == pytest.approx(curve.to_dict())
    summary = {}
    for record in records:
        if record.HasField("summary"):
            summary |= {item.key or "/".join(item.nested_key): item.value_json for item in record.summary.update}
    assert summary["status"] == '"completed"'
    assert {name: float(summary[name]) for name in numbers(row)} == pytest.approx(numbers(row))


def leveldb_log(data):
    """The records of a .wandb file: 7 bytes, then LevelDB's log format (blocks of 32 KiB, chunks with a header of 7)."""
    assert data[:4] == b":W&B"
    place, record = 7, b""
    while place + 7 <= len(data):
        room = 32768 - place % 32768
        if room < 7:  # the end of a block that holds no chunk
            place += room
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole of a record, or its last part
            yield record
            record = b""


def test_mlflow_has_what_the_tables_have(call, monkeypatch):
    needs("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.invalid")  # of the shell: the setting tracker.uri decides
    call("tracker=mlflow", "hydra.run.dir=run", "noise.rate=0.2")
    from mlflow import MlflowClient

    row, curves = saved("run")
    client = MlflowClient(Path("run/mlruns").resolve().as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("lnt").experiment_id])
    assert (run.info.run_name, run.info.status) == (row["run_id"], "FINISHED")
    assert {"noise.rate": "0.2", "noise": "symmetric"}.items() <= run.data.params.items()
    assert run.data.tags["lnt.status"] == "completed"
    for name, curve in curves.items():
        at = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, name)}
        assert at == pytest.approx(curve.to_dict())
    assert {name: run.data.metrics[name] for name in numbers(row)} == pytest.approx(numbers(row))


class Recorder(NoTracker):
    """Keeps what it gets, or fails."""

    logs, fails = True, False
    got: list = []  # noqa: RUF012

    def log_run(self, run, folder):
        if self.fails:
            raise RuntimeError("the server is away")
        self.got.append((run, folder))


@pytest.fixture
def recorder(monkeypatch):
    """tracker=none is this one."""
    found = type("Found", (Recorder,), {"got": []})()
    monkeypatch.setattr(cli, "tracker", lambda config: found)
    return found


def test_each_run_of_a_sweep_is_logged_once(call, recorder):
    call("-m", "seed=range(3)", "noise.rate=0,0.4", "hydra.sweep.dir=sweep")
    runs = pd.read_parquet("sweep/0/runs.parquet").set_index("run_id")
    assert sorted(run.run_id for run, _ in recorder.got) == sorted(runs.index)
    curves = pd.read_parquet("sweep/0/curves.parquet").set_index("run_id")
    for run, folder in recorder.got:
        assert folder.resolve() == Path("sweep/0").resolve()
        assert run.configuration["noise.rate"] == runs.loc[run.run_id, "noise.rate"]
        assert list(run.curves) == curves.loc[run.run_id, "step"].tolist()
        # Without label noise nothing is mislabelled: that is no number, and not logged.
        assert ("noisy_loss" in run.curves[0]) == (run.configuration["noise.rate"] > 0)


def test_a_sweep_of_too_many_runs_is_not_logged_and_says_so(call, recorder):
    object.__setattr__(recorder, "most_runs", 2)
    said = call("-m", "seed=range(3)", "hydra.sweep.dir=sweep")
    assert recorder.got == []
    assert "none of 3 runs will be logged, more than tracker.most_runs=2" in said
    assert len(pd.read_parquet("sweep/0/runs.parquet")) == 3


def test_a_tracker_that_fails_costs_a_warning(call, recorder):
    type(recorder).fails = True
    said = call("hydra.run.dir=run")
    assert "failed, results are saved all the same: the server is away" in said
    assert saved("run")[0]["status"] == "completed"


def test_a_tracker_changes_neither_run_id_nor_configuration(call, recorder):
    call("hydra.run.dir=one")
    call("hydra.run.dir=two", "tracker=wandb", "optimized_metric=test_error")
    assert Path("one/config.yaml").read_text() == Path("two/config.yaml").read_text()
    assert saved("one")[0]["run_id"] == saved("two")[0]["run_id"]


@pytest.mark.parametrize(("option", "package"), [("tensorboard", "tensorboard"), ("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_missing_package_is_refused_before_training(call, monkeypatch, option, package, tmp_path):
    known = importlib.util.find_spec
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == package else known(name))
    for command in ((), ("-m", "seed=1,2")):
        with pytest.raises(SystemExit) as error:
            call(*command, f"tracker={option}")
        assert str(error.value) == (
            f"error: tracker={option}: needs {package}, which is not installed: pip install 'lnt[{option}]'"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_that_name_is_no_package(tmp_path, monkeypatch):
    """wandb itself leaves a folder wandb/, which Python takes for a namespace package."""
    (tmp_path / "a_tracker_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(Wandb, "package", "a_tracker_package")
    with pytest.raises(ConfigError, match="which is not installed"):
        Wandb().check()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TensorBoard(most_runs=0), "most_runs=0: must be at least 1"),
        (lambda: Wandb(mode="disabled"), "mode=disabled: must be offline or online"),
        (lambda: Mlflow(uri=3), "uri=3: must be a word or null"),
    ],
)
def test_settings_out_of_bounds_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
