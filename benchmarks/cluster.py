"""A packed sweep over SLURM jobs against the same in one process: wall time and number of files. Needs a SLURM."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import table

ROOT = Path(__file__).parents[1]
RUNS, JOBS = 10_000, 8
SWEEP = ("data.n_train=20", "data.n_test=100", "model.width=10", "optimizer.steps=100", "recordings=1", f"seed=range({RUNS})")
SLURM = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1")


def measured(folder: Path, *overrides: str) -> tuple[float, int, int]:
    """Seconds of a sweep, files below its directory, and those that the launcher keeps for itself."""
    command = [sys.executable, str(ROOT / "train.py"), "-m", *SWEEP, *overrides, f"hydra.sweep.dir={folder}"]
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    files = [path for path in folder.rglob("*") if path.is_file()]
    launchers = sum(".submitit" in path.parts for path in files)
    return seconds, len(files) - launchers, launchers


def report() -> str:
    """The table, with a heading."""
    assert shutil.which("sbatch"), "needs a SLURM; tests/slurm/onenode.sh up brings one up"
    with tempfile.TemporaryDirectory(dir=ROOT / "multirun") as folder:
        alone = measured(Path(folder) / "alone")
        packed = measured(Path(folder) / "packed", *SLURM, f"hydra.sweeper.runs_per_job={RUNS // JOBS}")
    rows = [
        ("one process", f"{alone[0]:.1f} s", *alone[1:]),
        (f"{JOBS} SLURM jobs of one core", f"{packed[0]:.1f} s", *packed[1:]),
    ]
    return f"""## A sweep over SLURM jobs

{RUNS:,} short runs (n = 20, m = 10, 100 steps) on one machine, `python -m benchmarks.cluster`:

{table(("how", "wall time", "files", "files of submitit"), rows)}"""


if __name__ == "__main__":
    text = report()
    (ROOT / "docs" / "benchmarks_slurm.md").write_text(text)
    print(text)
