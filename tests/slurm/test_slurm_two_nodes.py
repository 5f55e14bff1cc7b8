"""A node that loses its slurmd: SLURM takes its jobs for dead and requeues them elsewhere, while their processes live on."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from test_slurm import LONG, SCRIPT, SLURM, assert_same, run, start, states, table, until

pytestmark = pytest.mark.slurm


@pytest.fixture(autouse=True)
def cluster():
    """Two nodes on this machine; a node without its slurmd is down after ten seconds."""
    environment = {**os.environ, "ACCT": "none", "NODES": "2"}
    try:
        subprocess.run(["bash", SCRIPT, "up"], env=environment, check=True)
        yield
    finally:
        subprocess.run(["bash", SCRIPT, "down"], env=environment, check=True)


def test_a_job_that_is_requeued_while_its_process_lives_on_doubles_nothing(tmp_path):
    run(tmp_path, *LONG, directory="alone")
    sweep = start(tmp_path, *LONG, *SLURM, "hydra.sweeper.runs_per_job=4")
    until(lambda: states(tmp_path).get(0, {}).get("done"))
    node = subprocess.run(["squeue", "-h", "-o", "%N"], capture_output=True, text=True, check=True).stdout.split()[0]
    first = states(tmp_path)[0]["pid"]
    os.kill(first, signal.SIGSTOP)  # or a fast machine would finish before SLURM notices
    os.kill(int(Path(f"/run/lnt-slurm/slurmd-{node}.pid").read_text()), signal.SIGKILL)
    requeued = ["squeue", "-h", "-o", "%N %T"]
    until(lambda: node not in subprocess.run(requeued, capture_output=True, text=True, check=True).stdout)
    os.kill(first, signal.SIGCONT)  # raises if it does not live
    sweep.communicate(timeout=600)
    run(tmp_path, *LONG, *SLURM, "hydra.sweeper.runs_per_job=4")
    assert_same(table(tmp_path / "sweep"), table(tmp_path / "alone"))
