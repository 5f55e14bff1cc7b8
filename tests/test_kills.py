"""Kills and faults at any moment: no run is lost, and none is doubled."""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pandas as pd
import psutil
import pyarrow as pa
import pytest
from train_process import SWEEP, TINY, train_py

import lnt
from lnt import table_files
from lnt.files import UnreadableNow
from lnt.runs.directory import RunDirectory
from lnt.runs.tables import schemas, tables
from lnt.runs.train_runs import SavedResults
from lnt.table_files import join_parts, mend, read_parts, write_table
from lnt.training.checkpoint import Checkpoint
from lnt.training.loop import train


@pytest.fixture
def parts(tmp_path):
    """A table of four parts with a row each."""
    table = tmp_path / "t.parquet"
    table.mkdir()
    for number in range(4):
        write_table(table / f"{number}.parquet", pa.table({"row": [number]}))
    return table


@pytest.mark.parametrize("killed", range(9))
def test_a_kill_while_parts_are_joined_loses_and_doubles_nothing(parts, killed, monkeypatch):
    """After each of the calls that change the disk; pandas sees each row once, or, between two renames, no table at all."""
    done = []

    def dying(method):
        def call(*arguments, **keywords):
            if len(done) == killed:
                raise SystemExit("killed")
            done.append(method)
            return method(*arguments, **keywords)

        return call

    with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
        for name in ("mkdir", "rename", "replace", "unlink", "rmdir"):
            patch.setattr(Path, name, dying(getattr(Path, name)))
        join_parts(parts)
    for _ in range(2):
        found, damaged = read_parts(parts)
        assert not damaged
        assert sorted(row for part in found for row in part["row"].to_pylist()) == [0, 1, 2, 3]
        if parts.exists():
            assert sorted(pd.read_parquet(parts)["row"]) == [0, 1, 2, 3]
        assert mend(parts) == []
        assert parts.exists()
    assert not list(parts.parent.glob(".*"))


CASES = {
    "single": (*TINY, "optimizer.steps=4000", "hydra.run.dir=out", "checkpoint_seconds=0.05"),
    "sweep": SWEEP,
    "images": (
        *("-m", "data=digits", "data.n_train=20", "data.n_test=8", "model.width=1", "optimizer.epochs=60", "seed=range(6)"),
        *("hydra.sweep.dir=out", "checkpoint_seconds=0.05", "hydra.sweeper.runs_per_job=3", "device=cpu"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("victim", ["parent", "worker", "group"])
def test_random_kills_lose_and_double_nothing(case, victim, tmp_path):
    """Killed four or five times at random moments, then finished: every run once, for pandas too."""
    rng = random.Random(f"{case} {victim}")
    for _ in range(5 if case == "sweep" else 4):
        process = train_py(*CASES[case], cwd=tmp_path)
        time.sleep(rng.uniform(2.5, 6))
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if victim == "group":
                os.killpg(process.pid, signal.SIGKILL)
            elif victim == "parent":
                process.kill()
            else:
                children = psutil.Process(process.pid).children()
                (rng.choice(children) if children else process).kill()
        process.communicate()
    last = train_py(*CASES[case], cwd=tmp_path)
    said = last.communicate()[0]
    assert last.returncode == 0 or "holds results already" in said, said
    runs = {"single": 1, "sweep": 60, "images": 6}[case]
    found = lnt.load(tmp_path / "out")
    assert len(found.runs) == runs
    assert (len(found.failed), len(found.diverged), found.duplicates, found.left_out) == (0, 0, 0, [])
    folders = [tmp_path / "out"] if case == "single" else [f for f in (tmp_path / "out").iterdir() if f.name.isdecimal()]
    for name, key in (("runs", ["run_id"]), ("curves", ["run_id", "step"])):
        tables = [pd.read_parquet(f / f"{name}.parquet") for f in folders if (f / f"{name}.parquet").exists()]
        assert all(not table.duplicated(key).any() for table in tables)
        if name == "runs":
            ids = pd.concat(tables)["run_id"]
            assert len(ids) == ids.nunique() == runs


def test_links_in_the_place_of_unfinished_files_are_not_followed(parts, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    for name in (f".{parts.name}.dead.tmp", f".{parts.name}.parts"):
        (tmp_path / name).symlink_to(tmp_path / "precious")
    mend(parts)
    assert (tmp_path / "precious" / "file").exists()
    assert not (tmp_path / f".{parts.name}.dead.tmp").is_symlink()


def test_what_cannot_be_read_now_is_not_taken_for_damaged(tmp_path, monkeypatch):
    """A memory that is short, or a disk that is away, must not put finished runs aside."""
    directory = RunDirectory.claim_for_job(tmp_path / "0", tmp_path, 0)
    (tmp_path / "0/runs.parquet").mkdir()
    write_table(tmp_path / "0/runs.parquet/a.parquet", pa.table({"x": [0.0]}))
    monkeypatch.setattr(table_files, "SHARE_OF_MEMORY", 1e-12)
    with pytest.raises(UnreadableNow, match="of memory"):
        directory.mend()
    assert (tmp_path / "0/runs.parquet/a.parquet").exists()


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(116, "Stale file handle")])
def test_what_was_saved_is_not_saved_again(tmp_path, monkeypatch, fault, experiment):
    """Whatever interrupts the end of a save: no row is in two parts."""
    one = experiment(*TINY, "optimizer.steps=5")
    directory = RunDirectory.claim_for_job(tmp_path / "0", tmp_path, 0)

    def broken(path):
        raise fault

    saved = SavedResults(directory, 1)
    saved.add([(tables(one, train(one), schemas([one])), Path("checkpoint"))])
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(Checkpoint, "forget", staticmethod(broken))
        saved.flush()
    saved.flush()
    assert len(pd.read_parquet(directory.runs)) == 1
    directory.release()


@pytest.mark.slow
def test_a_damaged_part_is_put_aside_and_its_runs_are_trained_again(tmp_path):
    assert train_py(*SWEEP, cwd=tmp_path).wait() == 0
    before = lnt.load(tmp_path / "out").runs.set_index("run_id")["test_error"].sort_index()
    (part,) = (tmp_path / "out/1/curves.parquet").iterdir()
    part.write_bytes(part.read_bytes()[:-100])
    rerun = train_py(*SWEEP, cwd=tmp_path)
    said = rerun.communicate()[0]
    assert rerun.returncode == 0, said
    assert "was put aside; its runs are trained again" in said
    found = lnt.load(tmp_path / "out")
    assert (found.duplicates, found.left_out) == (0, [])
    pd.testing.assert_series_equal(found.runs.set_index("run_id")["test_error"].sort_index(), before)
    assert len(found.curves["run_id"].unique()) == 60
