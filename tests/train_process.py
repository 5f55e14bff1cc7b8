"""train.py as a process of its own, which a test can kill."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = ("data.n_train=8", "data.n_test=10", "data.dim=50", "model.width=2", "device=cpu")
SWEEP = ("-m", *TINY, "optimizer.steps=2000", "seed=range(60)", "hydra.sweep.dir=out", "hydra.sweeper.runs_per_job=30")


def train_py(*arguments, **more):
    """The process of train.py, in a group of its own."""
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
