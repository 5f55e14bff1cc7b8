"""The same without accounting, where submitit alone would wait for ever."""

import os
import signal

import pytest
import test_slurm
from test_slurm import LONG, SHORT, SLURM, assert_same, run, slurm, start, table, training, undisturbed  # noqa: F401

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def accounting():
    return "none"


def test_a_packed_sweep_ends(tmp_path, undisturbed):  # noqa: F811
    assert "8 runs: 8 completed" in run(tmp_path, *SHORT, *SLURM)
    assert_same(table(tmp_path / "sweep"), undisturbed["short"])


def test_a_job_that_dies_does_not_keep_the_launching_process_waiting(tmp_path, undisturbed):  # noqa: F811
    """A single job: SLURM gives it a name of another form than the tasks of an array."""
    alone = (*SLURM[:-1], "hydra.sweeper.runs_per_job=4")
    process = start(tmp_path, *LONG, *alone)
    os.kill(training(tmp_path)["pid"], signal.SIGKILL)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "missing" in said
    assert "4 runs: 4 completed" in run(tmp_path, *LONG, *alone)
    assert test_slurm.table(tmp_path / "sweep").equals(undisturbed["long"])
