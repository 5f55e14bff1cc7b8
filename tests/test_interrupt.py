"""Ctrl-C at any moment: one line, no traceback, and what is said of directories is true."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONG = ("data.n_train=60", "data.n_test=100", "optimizer.steps=200000", "noise.rate=0.1")


def interrupted(command, where, begun):
    """What a command says when it is interrupted as soon as `begun` is true."""
    process = subprocess.Popen([sys.executable, *command], cwd=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 60
        while not begun(where) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()  # one that did not end would train on beside the other tests
    assert process.returncode != 0
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.6])
def test_during_imports(tmp_path, seconds):
    start = time.monotonic()
    said = interrupted([str(ROOT / "train.py"), *LONG], tmp_path, lambda where: time.monotonic() - start > seconds)
    assert "interrupted" in said
    assert "sweep" not in said


def training(where):
    return bool(list(where.rglob("provenance.json")))


@pytest.mark.slow
def test_a_single_run(tmp_path):
    said = interrupted([str(ROOT / "train.py"), *LONG, "hydra.run.dir=run"], tmp_path, training)
    assert said.splitlines()[-1].startswith("interrupted; to go on: python ")
    assert "hydra.run.dir=" in said
    assert "sweep" not in said


@pytest.mark.slow
def test_a_sweep(tmp_path):
    said = interrupted([str(ROOT / "train.py"), "-m", *LONG, "seed=range(4)", "hydra.sweep.dir=sweep"], tmp_path, training)
    assert "interrupted; runs that ended are kept; to finish the rest: python " in said
    assert "hydra.sweep.dir=sweep" in said
