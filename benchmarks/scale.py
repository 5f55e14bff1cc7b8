"""10^7 runs in 1000 jobs, without a SLURM and without training: the plan, the start of a job, and lnt.status."""

import importlib
import json
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml
from pyarrow import parquet as pq

from benchmarks import table

RUNS, JOBS = 10_000_000, 1000
# One axis is long: its points are read by each job.
SWEEP = ("data.signal_norm=linspace(1,10,100000)", "seed=range(100)")
COLUMNS = 80  # of runs.parquet


def planned(folder: Path) -> None:
    """Plan the sweep, and write it: all that happens before jobs are submitted."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from benchmarks.engine import compose
    from lnt import cli  # noqa: F401  (it knows linspace)
    from lnt.sweeps.axes import axes_of
    from lnt.sweeps.distinct_runs import check_distinct
    from lnt.sweeps.hydra_internals import to_plain
    from lnt.sweeps.missing_runs import jobs_with_missing_runs
    from lnt.sweeps.plan import Plan
    from lnt.sweeps.start import write

    config = compose("data.signal_norm=1", "data.n_train=10", "data.n_test=10", "model.width=2", "optimizer.steps=10")
    axes = axes_of(OverridesParser.create().parse_overrides(list(SWEEP)))
    found = Plan(((to_plain(config, config.hydra.runtime.choices), tuple(axes)),), RUNS // JOBS)
    for _ in found.in_blocks():
        pass
    check_distinct(found)
    write(found, folder, "python train.py -m ...")
    assert len(jobs_with_missing_runs(folder, found)) == JOBS


def job_started(folder: Path) -> None:
    """Read the plan, and build what the job in the middle has to train."""
    from lnt.plan_file import read_plan
    from lnt.sweeps.missing_runs import directories_of_jobs, missing_of_job
    from lnt.sweeps.plan import Plan

    found = Plan.from_plain(read_plan(folder / "sweep.yaml"), {})
    job = JOBS // 2
    missing = missing_of_job(folder, found.of_job(job), directories_of_jobs(folder).get(job, ()))
    assert sum(batch.runs for batch in missing) == RUNS // JOBS


def asked(folder: Path) -> None:
    """What python -m lnt.status shows of the finished sweep."""
    from lnt.status import describe

    assert describe(folder).complete


def finish(folder: Path) -> None:
    """Write results as all jobs would."""
    rng, rows = np.random.default_rng(0), RUNS // JOBS
    others = pa.table({"status": ["completed"] * rows, **{f"c{number}": np.zeros(rows) for number in range(COLUMNS)}})
    for job in range(JOBS):
        (folder / f"{job}" / "runs.parquet").mkdir(parents=True)
        ids = [f"{number:016x}" for number in rng.integers(2**63, size=rows)]
        pq.write_table(others.append_column("run_id", [ids]), folder / f"{job}" / "runs.parquet" / "rows.parquet")
        (folder / f"{job}" / "config.yaml").write_text(yaml.safe_dump({"sweep": str(folder), "job": job}))
        said = {"state": "completed", "time": "2026-01-01T00:00:00+00:00", "host": "node", "pid": 1, "slurm": f"17_{job}"}
        (folder / f"{job}" / "status.json").write_text(json.dumps({**said, "runs": rows}))


def _measure(work: Callable[[Path], None], folder: Path, imports: str) -> tuple[float, float]:
    importlib.import_module(imports)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    work(folder)
    return time.perf_counter() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def measured(work: Callable[[Path], None], folder: Path, imports: str) -> tuple[str, str]:
    """Seconds and memory of a function in a process of its own, beyond its imports."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        seconds, mebibytes = pool.submit(_measure, work, folder, imports).result()
    return f"{seconds:.1f} s", f"{mebibytes:.0f} MiB"


def report() -> str:
    """The table, with a heading."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [("plan, from override lines to the jobs", *measured(planned, folder, "lnt.sweeps.start"))]
        rows.append(("start of a job, beyond imports", *measured(job_started, folder, "lnt.sweeps.job")))
        finish(folder)
        rows.append(("`lnt.status` of the finished sweep", *measured(asked, folder, "lnt.status")))
    return f"## {RUNS:,} runs in {JOBS} jobs\n\n{table(('what', 'time', 'memory beyond imports'), rows)}"


if __name__ == "__main__":
    print(report())
