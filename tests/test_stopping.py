"""A scheduler's signals: what is done stays, what is in work is written down, the same command goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_image_runs import DIGITS, assert_identical, rows

import train as train_entry
from lnt import signals
from lnt.progress import StepCount
from lnt.training.checkpoint import Checkpoint
from lnt.training.loop import Training, train

ROOT = Path(__file__).parents[1]
TRAIN = [sys.executable, str(ROOT / "train.py")]
IMAGES = (*DIGITS, "optimizer.epochs=150", "seed=range(2)")
SPAN = (
    "data.n_train=60",
    "data.n_test=100",
    "optimizer.steps=6000",
    "noise.rate=0.1,0.2",
    "seed=range(3)",
    "precision=float64",
)


def stopped(command, where, number, group):
    """Start a command, send it the signal when it has begun to train, return its status."""
    process = subprocess.Popen(command, cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        while process.poll() is None and not list(where.rglob("provenance.json")):
            time.sleep(0.02)
        time.sleep(0.5)
        (os.killpg if group else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, said.decode()


@pytest.fixture
def call(tmp_path, monkeypatch):
    """call(command): the command in this process, which has imported everything already."""

    def run(command):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", command[1:])
        train_entry.main()

    return run


def assert_goes_on(log):
    """Training went on from a step that was trained before."""
    assert re.search(r"runs go on from step [1-9]", log.read_text()), log.read_text()


@pytest.mark.parametrize("moment", [1, 7, 50, 299, 300])
def test_a_stop_at_any_moment_is_saved(experiment, tmp_path, monkeypatch, moment):
    """Also at a recorded step, where every block of steps of a short run ends."""
    one, checkpoint = experiment("data.n_train=12", "data.n_test=9", "optimizer.steps=300"), Checkpoint(tmp_path)
    training = Training.of(one)
    with monkeypatch.context() as patch:
        patch.setattr(signals, "asked", lambda: training.step >= moment)
        with pytest.raises(signals.Stopped):
            training.run(StepCount(), partial(checkpoint.save, one))
    resumed = Training.of(one)
    resumed.load(checkpoint.load(one))
    assert resumed.step == training.step >= moment
    resumed.run(StepCount())
    np.testing.assert_array_equal(resumed.values, train(one).values)


def test_states_are_found_whatever_would_fit_now(experiment, tmp_path):
    """A rerun has other runs missing, or other cores: what was trained together goes on together."""
    checkpoint = Checkpoint(tmp_path)
    settings = ("data.n_train=12", "data.n_test=9", "optimizer.steps=20", "checkpoint_seconds=0")
    eight = experiment(*settings, runs=8, seed=np.arange(8))
    checkpoint.save(eight.take(np.arange(4, 8)), Training.of(eight.take(np.arange(4, 8))).state)
    missing = eight.take(np.array([1, 4, 5, 6, 7, 2]))
    first, *others = (chunk.run_ids() for chunk in checkpoint.chunks(missing, 3))
    assert first == eight.run_ids()[4:]
    assert sorted(run for chunk in others for run in chunk) == sorted(eight.run_ids()[1:3])
    (tmp_path / "damaged.pt").write_bytes(b"no checkpoint")
    some = eight.take(np.array([4, 5]))
    assert sorted(run for chunk in checkpoint.chunks(some, 2) for run in chunk.run_ids()) == sorted(some.run_ids())


@pytest.mark.parametrize(
    ("settings", "number", "group"),
    [pytest.param(IMAGES, signal.SIGTERM, False, marks=pytest.mark.slow), (SPAN, signal.SIGUSR2, True)],
    ids=["images, TERM", "span, USR2 to all processes"],
)
@pytest.mark.slow
def test_a_sweep_that_is_asked_to_end_writes_all_down_and_goes_on(tmp_path, call, settings, number, group):
    command = [*TRAIN, "-m", *settings, "hydra.sweep.dir=sweep"]
    status, said = stopped(command, tmp_path, number, group)
    assert status == 128 + number, said
    assert json.loads((tmp_path / "sweep" / "0" / "status.json").read_text())["state"] == "preempted"
    assert list(tmp_path.glob("sweep/checkpoints/*/*.pt")), "what was in work"
    call(command)
    assert_goes_on(tmp_path / "sweep" / "1" / "train.log")
    call([*command[:-1], "hydra.sweep.dir=undisturbed"])
    if settings is IMAGES:
        assert_identical(tmp_path / "sweep", tmp_path / "undisturbed")
    else:
        one, other = (rows(tmp_path / name).drop(columns="wall_seconds") for name in ("sweep", "undisturbed"))
        assert one.equals(other)
    assert not (tmp_path / "sweep" / "checkpoints").exists()


@pytest.mark.slow
def test_a_single_run_that_is_asked_to_end_goes_on(tmp_path, call):
    command = [*TRAIN, *DIGITS, "optimizer.epochs=200", "hydra.run.dir=run"]
    status, said = stopped(command, tmp_path, signal.SIGTERM, group=False)
    assert status == 128 + signal.SIGTERM, said
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "preempted"
    assert len(list(tmp_path.glob("run/checkpoints/*.pt"))) == 1
    call(command)
    assert_goes_on(tmp_path / "run" / "train.log")
    call([*command[:-1], "hydra.run.dir=undisturbed"])
    assert_identical(tmp_path / "run", tmp_path / "undisturbed")
