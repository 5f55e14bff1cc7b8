"""A scheduler's signals: what is done stays, what is in work is written down, the same command goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_image_runs import DIGITS, assert_identical, rows

ROOT = Path(__file__).parents[1]
TRAIN = [sys.executable, str(ROOT / "train.py")]
IMAGES = (*DIGITS, "optimizer.epochs=150", "seed=range(4)")
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
    while process.poll() is None and not list(where.rglob("provenance.json")):
        time.sleep(0.02)
    time.sleep(0.5)
    (os.killpg if group else os.kill)(process.pid, number)
    _, said = process.communicate(timeout=60)
    return process.returncode, said.decode()


@pytest.mark.parametrize(
    ("settings", "number", "group"),
    [(IMAGES, signal.SIGTERM, False), (SPAN, signal.SIGUSR2, True)],
    ids=["images, TERM", "span, USR2 to all processes"],
)
def test_a_sweep_that_is_asked_to_end_writes_all_down_and_goes_on(tmp_path, settings, number, group):
    command = [*TRAIN, "-m", *settings, "hydra.sweep.dir=sweep"]
    status, said = stopped(command, tmp_path, number, group)
    assert status == 128 + number, said
    assert json.loads((tmp_path / "sweep" / "0" / "status.json").read_text())["state"] == "preempted"
    assert list(tmp_path.glob("sweep/checkpoints/*/*.pt")), "what was in work"
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    subprocess.run([*command[:-1], "hydra.sweep.dir=undisturbed"], cwd=tmp_path, check=True, capture_output=True)
    if settings is IMAGES:
        assert_identical(tmp_path / "sweep", tmp_path / "undisturbed")
    else:
        one, other = (rows(tmp_path / name).drop(columns="wall_seconds") for name in ("sweep", "undisturbed"))
        assert one.equals(other)
    assert not (tmp_path / "sweep" / "checkpoints").exists()


def test_a_single_run_that_is_asked_to_end_goes_on(tmp_path):
    command = [*TRAIN, *DIGITS, "optimizer.epochs=300", "hydra.run.dir=run"]
    status, said = stopped(command, tmp_path, signal.SIGTERM, group=False)
    assert status == 128 + signal.SIGTERM, said
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "preempted"
    assert len(list(tmp_path.glob("run/checkpoints/*.pt"))) == 1
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    subprocess.run([*command[:-1], "hydra.run.dir=undisturbed"], cwd=tmp_path, check=True, capture_output=True)
    assert_identical(tmp_path / "run", tmp_path / "undisturbed")
