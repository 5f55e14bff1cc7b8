"""Disks that flip a bit, kills at any moment, two processes where one should be: no run is lost, and none is doubled."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest
import torch

import lnt
from lnt import table_files
from lnt.errors import ConfigError
from lnt.files import DamagedFile, UnreadableNow, check_zip, read_json, read_yaml
from lnt.plan_file import read_plan
from lnt.runs import owner
from lnt.runs.directory import RunDirectory
from lnt.runs.owner import Lost, Owner
from lnt.runs.tables import schemas, tables
from lnt.runs.train_runs import SavedResults
from lnt.table_files import join_parts, mend, read_parts, read_table, write_table
from lnt.training.checkpoint import Checkpoint
from lnt.training.loop import train

ROOT = Path(__file__).parents[1]
TINY = ("data.n_train=8", "data.n_test=10", "data.dim=50", "model.width=2")


def train_py(*arguments, **more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **more,
    )


# A bit.


def content_of(file):
    """What the program reads of a file, in a form that can be compared."""
    if file.suffix == ".parquet":
        return read_table(file).to_pandas()
    if file.name == "sweep.yaml":
        return read_plan(file)
    if file.suffix == ".yaml":
        return read_yaml(file)
    if file.suffix == ".json":
        return read_json(file)
    check_zip(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # all who load weights or states take any of them for a damaged file
        raise DamagedFile(file, str(error)) from error


def equal(one, other):
    if isinstance(one, pd.DataFrame):
        return one.equals(other) and list(one) == list(other) and (one.dtypes == other.dtypes).all()
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and torch.equal(one.nan_to_num(7), other.nan_to_num(7))
    if isinstance(one, dict):
        # A key that a flipped bit has made of the checksum's name says nothing about the others.
        return all(key in other and equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other or (one != one and other != other)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A sweep on images that was stopped as it ran: tables, plan, configuration, status, weights and a checkpoint."""
    path = tmp_path_factory.mktemp("written")
    images = ("data=digits", "data.classes=[3,8]", "data.n_train=20", "data.n_test=8", "model.width=1", "checkpoint_seconds=0")
    process = train_py("-m", *images, "optimizer.epochs=300", "seed=range(4)", "hydra.sweep.dir=sweep", cwd=path)
    while not (list(path.glob("sweep/0/runs.parquet/*.parquet")) and list(path.glob("sweep/checkpoints/0/*.pt"))):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return path / "sweep"


@pytest.mark.slow
def test_no_flipped_bit_goes_unnoticed(written, tmp_path):
    """1000 of them, over all kinds of files; a bit that changes nothing that is read is no damage."""
    kinds = ("sweep.yaml", "*/runs.parquet/*", "*/curves.parquet/*", "*/samples.parquet/*", "*/config.yaml", "*/status.json")
    kinds += ("*/provenance.json", "*/networks/*.pt", "checkpoints/*/*.pt")
    files = [next(written.glob(kind)) for kind in kinds]
    rng, silent, noticed = random.Random(0), [], 0
    for number in range(1000):
        file = files[number % len(files)]
        bits = bytearray(file.read_bytes())
        place = rng.randrange(8 * len(bits))
        bits[place // 8] ^= 1 << place % 8
        flipped = tmp_path / file.name
        flipped.write_bytes(bits)
        try:
            found = content_of(flipped)
        except DamagedFile:
            noticed += 1
        else:
            if not equal(content_of(file), found):
                silent.append((file, place))
    assert not silent
    assert noticed > 600, "most bits carry something"


def test_a_flipped_bit_in_a_table_is_noticed(tmp_path):
    rng = np.random.default_rng(0)
    columns = {"run_id": list("abcd"), "x": rng.random(4), "n": pd.array([1, None, 3, 4], dtype="Int64"), "b": [True] * 4}
    table = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    file = tmp_path / "t.parquet"
    write_table(file, table)
    good = file.read_bytes()
    assert read_table(file).equals(table)
    pd.testing.assert_frame_equal(pd.read_parquet(file), pd.DataFrame(columns), check_dtype=False)
    for place in random.Random(1).sample(range(8 * len(good)), 150):
        bits = bytearray(good)
        bits[place // 8] ^= 1 << place % 8
        file.write_bytes(bits)
        with contextlib.suppress(DamagedFile):
            assert read_table(file).to_pandas().equals(table.to_pandas())


def test_a_table_that_would_not_fit_into_memory_is_one_line(tmp_path, monkeypatch):
    write_table(tmp_path / "t.parquet", pa.table({"x": [0.0] * 1000}))
    monkeypatch.setattr(table_files, "SHARE_OF_MEMORY", 1e-12)
    with pytest.raises(DamagedFile, match=r"needs 0 MiB of memory, of \d+ MiB that are free"):
        read_table(tmp_path / "t.parquet")


# A kill.


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
    "single": ("optimizer.steps=4000", "hydra.run.dir=out", "checkpoint_seconds=0.05"),
    "sweep": ("-m", "optimizer.steps=2000", "seed=range(60)", "hydra.sweep.dir=out", "hydra.sweeper.runs_per_job=30"),
    "images": (
        *("-m", "data=digits", "data.n_train=20", "data.n_test=8", "model.width=1", "optimizer.epochs=60", "seed=range(6)"),
        *("hydra.sweep.dir=out", "checkpoint_seconds=0.05", "hydra.sweeper.runs_per_job=3"),
    ),
}


def arguments(case):
    return [*(CASES[case] if case == "images" else [*CASES[case], *TINY]), "device=cpu"]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("victim", ["parent", "worker", "group"])
def test_random_kills_lose_and_double_nothing(case, victim, tmp_path):
    """Killed four or five times at random moments, then finished: every run once, for pandas too."""
    rng = random.Random(f"{case} {victim}")
    for _ in range(5 if case == "sweep" else 4):
        process = train_py(*arguments(case), cwd=tmp_path)
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
    last = train_py(*arguments(case), cwd=tmp_path)
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


# Two processes.


def test_an_owner_that_lives_keeps_its_claim_and_one_that_is_gone_does_not(tmp_path, monkeypatch):
    file = tmp_path / "owner"
    first, second = Owner(file), Owner(file)
    first.claim()
    with pytest.raises(ConfigError, match=rf"is in use: .*:{os.getpid()} trains there"):
        second.claim()
    with monkeypatch.context() as patch:  # as if this process had ended, and its number been given again
        patch.setattr(owner, "_started", lambda pid: "earlier")
        second.claim()
    second.check()
    with pytest.raises(Lost, match="is another process's now"):
        first.check()
    first.release()
    second.check()
    second.release()
    assert not list(tmp_path.iterdir())


def test_a_step_of_the_clock_does_no_harm_to_an_owner(tmp_path, monkeypatch):
    Owner(tmp_path / "owner").claim()
    monkeypatch.setattr(psutil, "boot_time", lambda: 0.0)
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 12345.0)
    with pytest.raises(ConfigError, match="is in use"):
        Owner(tmp_path / "owner").claim()


def test_an_owner_whose_file_cannot_be_read_for_a_moment_does_not_give_up(tmp_path, monkeypatch):
    mine = Owner(tmp_path / "owner")
    mine.claim()

    def stale(file):
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(owner, "_read", stale)
        with pytest.raises(OSError, match="Stale file handle"):
            mine.check()
        with pytest.raises(ConfigError, match="Stale file handle"):
            Owner(tmp_path / "owner").claim()
    mine.check()


@pytest.mark.parametrize(("age", "taken"), [(0, False), (50, False), (70, True)])
def test_an_owner_elsewhere_is_gone_once_it_is_silent(tmp_path, monkeypatch, age, taken):
    """Of a process on another machine only the age of its file tells, by the clock of the file system."""
    file = tmp_path / "owner"
    with monkeypatch.context() as patch:
        patch.setattr(owner, "_machine", lambda: "another one")
        Owner(file)._create()
    os.utime(file, (time.time() - age,) * 2)
    with contextlib.nullcontext() if taken else pytest.raises(ConfigError, match="is in use"):
        Owner(file).claim()


def test_an_owner_that_has_just_been_replaced_by_another_is_left_alone(tmp_path):
    """Two processes find the same dead owner; the slower one must not remove the claim of the faster one."""
    file = tmp_path / "owner"
    file.write_text("")
    dead = file.stat().st_ino
    faster, slower = Owner(file), Owner(file)
    keep = file.rename(tmp_path / "kept")  # its inode must not be given again here
    assert faster._create()
    slower._replace(dead)
    faster.check()
    keep.unlink()


@pytest.mark.slow
def test_the_same_command_twice_trains_each_run_once(tmp_path):
    both = [train_py(*arguments("sweep"), cwd=tmp_path) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert sorted(process.returncode != 0 for process in both) == [False, True], said
    assert any("is in use" in text or "trains there" in text for text in said)
    found = lnt.load(tmp_path / "out")
    assert (len(found.runs), found.duplicates) == (60, 0)


def test_two_processes_of_one_job_train_it_once(tmp_path, monkeypatch):
    """As with several tasks on a node, or a job that is requeued while the first one lives on."""
    first = RunDirectory.claim_for_job(tmp_path / "0", tmp_path, 0)
    with pytest.raises(ConfigError, match="is in use"):
        RunDirectory.claim_for_job(tmp_path / "7", tmp_path, 0, patience=0)
    first.release()
    RunDirectory.claim_for_job(tmp_path / "7", tmp_path, 0, patience=0).release()


@pytest.mark.slow
def test_a_damaged_part_is_put_aside_and_its_runs_are_trained_again(tmp_path):
    assert train_py(*arguments("sweep"), cwd=tmp_path).wait() == 0
    before = lnt.load(tmp_path / "out").runs.set_index("run_id")["test_error"].sort_index()
    (part,) = (tmp_path / "out/1/curves.parquet").iterdir()
    part.write_bytes(part.read_bytes()[:-100])
    rerun = train_py(*arguments("sweep"), cwd=tmp_path)
    said = rerun.communicate()[0]
    assert rerun.returncode == 0, said
    assert "was put aside; its runs are trained again" in said
    found = lnt.load(tmp_path / "out")
    assert (found.duplicates, found.left_out) == (0, [])
    pd.testing.assert_series_equal(found.runs.set_index("run_id")["test_error"].sort_index(), before)
    assert len(found.curves["run_id"].unique()) == 60
    shutil.rmtree(tmp_path / "out")
