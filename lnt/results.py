"""Results on disk: two tables, written atomically, with all that is needed to know where they come from."""

import json
import os
import platform
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
import yaml
from filelock import FileLock, Timeout
from pyarrow import parquet as pq

from lnt.config import ConfigError, flatten, require
from lnt.experiment import HOW, WITHOUT_EFFECT, Experiment
from lnt.files import join_parts, write_atomically
from lnt.loop import LOSS, Curves, Kept
from lnt.metrics import METRICS

SAMPLES = pa.schema(  # of runs on images: a row for each training sample
    {"run_id": pa.string(), "index": pa.int32(), "true": pa.int16(), "observed": pa.int16()}
    | {"loss_best": pa.float32(), "loss_last": pa.float32()}
)


class Tables(NamedTuple):
    """Results of some runs."""

    runs: pa.Table
    curves: pa.Table
    samples: pa.Table


STAGE_REACHED = 0.99  # accuracy from which a stage counts as reached
TYPES = {"b": "boolean", "i": "Int64", "f": "float64", "O": "float64", "U": "str"}  # O: None, a number that is not given
OUTCOMES = {
    "status": "str",
    "error": "str",
    "last_step": "Int64",
    **dict.fromkeys(METRICS, "float64"),
    "best_test_error": "float64",
    "best_step": "Int64",
    "strategy_test_error": "float64",  # of the network that the strategy returns
    "strategy_step": "Int64",
    "stage1_step": "Int64",
    "stage2_step": "Int64",
    "step_size": "float64",
    "realised_transition": "str",  # P(observed | true) among the training samples of a run on images, as JSON
    "wall_seconds": "float64",
}
PACKAGES = ("lnt", "torch", "numpy", "pandas", "pyarrow", "hydra-core")


def schema_of(types: Mapping[str, str]) -> pa.Schema:
    """The schema with which pandas reads back the given types, nullable integers included."""
    return pa.Schema.from_pandas(
        pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()}), preserve_index=False
    )


CURVES = schema_of({"run_id": "str", "step": "int64", **dict.fromkeys(METRICS, "float64")})


def runs_schema(experiments: Sequence[Experiment]) -> pa.Schema:
    """The schema of a table that holds the runs of all these experiments, whatever their components are."""
    types = {"run_id": "str"}
    for experiment in experiments:
        for key, value in experiment.columns().items():
            if value is not None or key not in types:
                types[key] = TYPES[np.asarray(value).dtype.kind]
    return schema_of({**types, **OUTCOMES})


def _table(columns: Mapping[str, Any], rows: int, schema: pa.Schema) -> pa.Table:
    """Columns are arrays of `rows` values, or one value that all rows share; one that is not given is null."""

    def fill(value: Any, kind: pa.DataType) -> pa.Array:
        shared = value is None or isinstance(value, str | int | float)
        return pa.repeat(pa.scalar(value, kind), rows) if shared else pa.array(value, kind)

    return pa.Table.from_arrays([fill(columns.get(field.name), field.type) for field in schema], schema=schema)


def tables(experiment: Experiment, curves: Curves, schema: pa.Schema) -> Tables:
    """One row per run: run_id, every config value under its dotted key, then outcomes. And the curves, in long form:
    run_id, step, one column per metric, without the records of a run after it diverged.
    """
    ids = pa.array(experiment.run_ids())
    runs = _table({"run_id": ids, **experiment.columns(), **outcomes(experiment, curves)}, experiment.runs, schema)
    times, metrics, count = curves.values.shape
    columns = {
        "run_id": ids.take(np.repeat(np.arange(count), times)),
        "step": np.tile(curves.steps, count),
        **dict(zip(METRICS, curves.values.transpose(1, 2, 0).reshape(metrics, count * times), strict=True)),
    }
    recorded = _table(columns, count * times, CURVES).filter(np.isfinite(columns["train_loss"]))
    return Tables(runs, recorded, SAMPLES.empty_table() if curves.kept is None else samples(experiment, curves.kept))


def samples(experiment: Experiment, kept: Kept) -> pa.Table:
    """Training samples, run by run: position in the files, true and observed class number, losses at both networks kept."""
    count, n = kept.labels.shape
    numbers = np.array(experiment.classes().numbers)
    columns = {
        "run_id": np.repeat(experiment.run_ids(), n),
        "index": experiment.positions().ravel(),
        "true": numbers[kept.labels.cpu().numpy().ravel()],
        "observed": numbers[kept.observed.cpu().numpy().ravel()],
        "loss_best": kept.best.losses.cpu().numpy().ravel(),
        "loss_last": kept.last.losses.cpu().numpy().ravel(),
    }
    return _table(columns, count * n, SAMPLES)


def realised_transition(kept: Kept, classes: int) -> list[str]:
    """Shares of the observed classes (columns) among the training samples of each true one (rows), for each run."""
    counts = np.zeros((len(kept.labels), classes, classes))
    runs = np.arange(len(kept.labels))[:, None]
    np.add.at(counts, (runs, kept.labels.cpu().numpy(), kept.observed.cpu().numpy()), 1)
    rows = counts.sum(2, keepdims=True)
    shares = np.round(counts / np.maximum(rows, 1), 6)  # zeros in the row of a class without samples
    return [json.dumps(matrix.tolist()) for matrix in shares]


def save_networks(folder: Path, experiment: Experiment, kept: Kept) -> None:
    """For each run a file of the weights of its two networks kept: at the lowest test error, and the last."""
    folder.mkdir(parents=True, exist_ok=True)
    for r, run_id in enumerate(experiment.run_ids()):
        networks = {
            name: {key: value[r].cpu().clone() for key, value in seen.parameters.items()}
            for name, seen in (("best", kept.best), ("last", kept.last))
        }
        write_atomically(folder / f"{run_id}.pt", partial(torch.save, networks))


def failed_tables(experiment: Experiment, error: BaseException, schema: pa.Schema) -> Tables:
    """The row of a run that raised; it has no curve."""
    failure = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    runs = _table({"run_id": experiment.run_ids(), **experiment.columns(), **failure}, experiment.runs, schema)
    return Tables(runs, CURVES.empty_table(), SAMPLES.empty_table())


def outcomes(experiment: Experiment, curves: Curves) -> dict[str, Any]:
    """How each run ended: the last measured value of every metric, early-stopping oracle, stage steps. Columns [R]."""
    alive = np.isfinite(curves.values[:, LOSS])  # [T, R]
    last = np.maximum(alive.sum(0) - 1, 0)
    final = np.take_along_axis(curves.values, last[None, None, :], 0)[0]  # [M, R]
    error = np.where(alive, curves.values[:, METRICS.index("test_error")], np.inf)
    chosen = np.minimum(curves.chosen, last)
    best, measured = error.argmin(0), np.asarray(alive.any(0))
    return {
        "status": np.where(alive.all(0), "completed", "diverged"),
        "last_step": _steps(curves.steps[last], measured),
        **dict(zip(METRICS, final, strict=True)),
        "best_test_error": np.where(measured, error.min(0), np.nan),
        "best_step": _steps(curves.steps[best], measured),
        "strategy_test_error": np.where(measured, np.take_along_axis(error, chosen[None], 0)[0], np.nan),
        "strategy_step": _steps(curves.steps[chosen], measured),
        "stage1_step": _first_step(curves, "clean_accuracy"),
        "stage2_step": _first_step(curves, "noisy_accuracy"),
        "step_size": experiment.step_size(),
        "realised_transition": curves.kept and realised_transition(curves.kept, experiment.classes().count),
        "wall_seconds": curves.seconds,
    }


def _first_step(curves: Curves, metric: str) -> pa.Array:
    """First recorded step at which an accuracy reaches STAGE_REACHED, null if it never does."""
    reached = curves.values[:, METRICS.index(metric)] >= STAGE_REACHED
    return _steps(curves.steps[reached.argmax(0)], np.asarray(reached.any(0)))


def _steps(steps: np.ndarray, exists: np.ndarray) -> pa.Array:
    """Steps, null where there is none."""
    return pa.array(steps, pa.int64(), mask=~exists)


class RunDirectory:
    """Owns every path of a run's directory and how files appear there: whole, or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = path / "runs.parquet"
        self.curves = path / "curves.parquet"
        self.samples = path / "samples.parquet"
        self.networks = path / "networks"
        self.config = path / "config.yaml"
        self.provenance = path / "provenance.json"
        self.status = path / "status.json"
        self.lock = FileLock(path / ".lock")

    @classmethod
    def claim(cls, path: Path, config: Mapping[str, Any]) -> "RunDirectory":
        """Take `path` for a run, new or broken off, until this process ends or releases it.

        Raises ConfigError if another process trains there, a run is complete there, or one of another configuration.
        """
        directory = cls(path)
        path.mkdir(parents=True, exist_ok=True)
        try:
            directory.lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError("output directory", path, "holds a run that is in training") from None
        directory.check_free(config)
        directory.say("running")
        return directory

    def release(self) -> None:
        """Let go of the directory: another process may go on here, unless the run is complete."""
        self.lock.release()
        if self.runs.exists():
            Path(self.lock.lock_file).unlink(missing_ok=True)

    def check_free(self, config: Mapping[str, Any]) -> None:
        """Raise ConfigError unless a run with this configuration may start here, or go on."""
        complete = self.runs.exists() or (self.path / "sweep.yaml").exists()
        require(not complete, "output directory", self.path, "holds results already; choose another or leave it out")
        if not self.config.exists():
            return
        before, now = dict(flatten(yaml.safe_load(self.config.read_text()) or {})), dict(flatten(config))
        keys = [key for key in {**before, **now} if key not in (*HOW, *(key for key in WITHOUT_EFFECT if key != "seed"))]
        differing = [key for key in keys if before.get(key) != now.get(key)]
        shown = "; ".join(f"{key}: {before.get(key)} there, {now.get(key)} now" for key in differing[:3])
        require(not differing, "output directory", self.path, f"holds a run of another configuration ({shown}); choose another")

    def say(self, state: str, **more: object) -> None:
        """Replace status.json: running, completed, interrupted or failed, since when, and who said so."""
        who = {"host": platform.node(), "pid": os.getpid(), "slurm": slurm_job()}
        write_atomically(self.status, lambda file: file.write_text(_json({"state": state, "time": _now(), **who, **more})))

    def describe(self, config: dict[str, Any], device: torch.device) -> None:
        """Write the resolved configuration and where results come from."""
        write_atomically(self.config, lambda file: file.write_text(yaml.safe_dump(config, sort_keys=False)))
        write_atomically(self.provenance, lambda file: file.write_text(_json(provenance(device))))

    def save(self, tables: Tables) -> None:
        """Write the tables; runs last, so that a row always has its curve."""
        for target, table in self._targets(tables):
            write_atomically(target, partial(pq.write_table, table))

    def save_part(self, tables: Tables) -> None:
        """Add a part to each of the tables, which are then directories of parts; pandas reads these like files."""
        name = f"{secrets.token_hex(8)}.parquet"
        for target, table in self._targets(tables):
            target.mkdir(parents=True, exist_ok=True)
            write_atomically(target / name, partial(pq.write_table, table))

    def join_parts(self) -> None:
        """One file in the place of the parts of each table: the number of files grows with jobs, not with their time."""
        for table in (self.samples, self.curves, self.runs):
            join_parts(table)

    def _targets(self, tables: Tables) -> list[tuple[Path, pa.Table]]:
        samples = [(self.samples, tables.samples)] if len(tables.samples) else []
        return [*samples, (self.curves, tables.curves), (self.runs, tables.runs)]


def provenance(device: torch.device) -> dict[str, Any]:
    """Versions, code, device and command of this process."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "command": sys.argv,
        "time": _now(),
        "git": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
    }


def slurm_job() -> str | None:
    """SLURM's name of the job that this process is, if submitit has started it: 17_0 in an array, else 18."""
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return None
    array, task, alone = (os.environ.get(f"SLURM_{name}_ID") for name in ("ARRAY_JOB", "ARRAY_TASK", "JOB"))
    return f"{array}_{task}" if array else alone


def _git(*arguments: str) -> str | None:
    """What git says about the checkout that this package runs from, None without one."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
