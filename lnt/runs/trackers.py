"""Results in the trackers that people use: TensorBoard, Weights & Biases, MLflow.

A tracker is handed runs whose tables are saved, so it cannot change a result, and one that fails costs a warning. The package
behind it is imported when the first run is logged. By default all that is logged stays in the directory of the run.
"""

import logging
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.compute as pc

from lnt import signals
from lnt.column_names import METRICS, OUTCOME_TYPES
from lnt.errors import one_line, require
from lnt.runs.tables import Tables
from lnt.settings import Component

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers take it; what is null or not finite is left out."""

    run_id: str
    configuration: Mapping[str, Any]  # dotted key -> value
    outcomes: Mapping[str, Any]  # the other columns of runs.parquet
    curves: Mapping[int, Mapping[str, float]]  # step -> metric -> value, as in curves.parquet

    @property
    def numbers(self) -> dict[str, float]:
        """The outcomes that are numbers."""
        return {key: value for key, value in self.outcomes.items() if not isinstance(value, str)}

    @property
    def last_step(self) -> int:
        """The last measured step; 0 where nothing was measured."""
        return self.outcomes.get("last_step", 0)


def tracked_runs(tables: Tables) -> Iterator[TrackedRun]:
    """The runs of some tables."""
    own = set(tables.curves.column_names) - {"run_id", "step", *METRICS}
    for row in tables.runs.to_pylist():
        known = {key: value for key, value in row.items() if _exists(value)}
        run_id = known.pop("run_id")
        outcomes = {key: known.pop(key) for key in (*OUTCOME_TYPES, *own) if key in known}
        curves = tables.curves.filter(pc.equal(tables.curves["run_id"], run_id)).drop(["run_id"]).to_pylist()
        measured = {at.pop("step"): {key: value for key, value in at.items() if _exists(value)} for at in curves}
        yield TrackedRun(run_id, known, outcomes, measured)


def _exists(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


@dataclass(frozen=True)
class Tracker(Component, ABC):
    """Where finished runs are logged. A new one takes `log_run`."""

    most_runs: int = 100  # a sweep of more runs is not logged

    logs: ClassVar[bool] = True  # whether it does anything
    package: ClassVar[str] = ""  # what it imports; the extra of lnt that installs it has the name of the option
    see: ClassVar[str] = ""  # the command that shows what was logged, of the folder {folder}

    def validate(self) -> None:
        require(self.most_runs >= 1, "most_runs", self.most_runs, "must be at least 1")

    def check(self) -> None:
        """Raise ConfigError if its package is not installed."""
        found = find_spec(self.package) if self.package else None
        # A folder of that name, such as wandb leaves, is found too; it has no origin.
        there = not self.package or (found and found.origin)
        require(
            there, "tracker", self.option, f"needs {self.package}, which is not installed: pip install 'lnt[{self.option}]'"
        )

    def check_bound(self, runs: int) -> None:
        """Warn if a sweep has so many runs that they will not be logged."""
        if self.logs and runs > self.most_runs:
            bound = f"tracker.most_runs={self.most_runs}"
            log.warning("tracker=%s: none of %d runs will be logged, more than %s", self.option, runs, bound)

    def of_sweep(self, runs: int) -> "Tracker":
        """The tracker of a sweep of so many runs: this one, or none if they are too many."""
        return self if runs <= self.most_runs else NoTracker()

    @abstractmethod
    def log_run(self, run: TrackedRun, folder: Path) -> None:
        """Log a run that is saved in the directory `folder`."""


@dataclass(frozen=True)
class NoTracker(Tracker):
    """Nothing is logged."""

    option = "none"
    logs = False

    def log_run(self, run: TrackedRun, folder: Path) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class TensorBoard(Tracker):
    """Event files in tensorboard/RUN_ID: metrics, outcomes under outcome/, and the configuration as hyperparameters."""

    option = "tensorboard"
    package = "tensorboard"
    see = "tensorboard --logdir {folder}"

    def log_run(self, run: TrackedRun, folder: Path) -> None:
        """Write one event file."""
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        with SummaryWriter(str(folder / "tensorboard" / run.run_id)) as writer:
            for step, metrics in run.curves.items():
                for name, value in metrics.items():
                    writer.add_scalar(name, value, step)
            outcomes = {f"outcome/{name}": value for name, value in run.numbers.items()}
            for name, value in outcomes.items():
                writer.add_scalar(name, value, run.last_step)
            # add_hparams would write them as a further run, beside the curves.
            for summary in hparams({"run_id": run.run_id, **run.configuration}, outcomes):
                writer.file_writer.add_summary(summary)
            words = {key: value for key, value in run.outcomes.items() if key not in run.numbers}
            lines = (f"| {key} | {value} |" for key, value in {"run_id": run.run_id, **words, **run.configuration}.items())
            writer.add_text("run", "\n".join(["| key | value |", "|---|---|", *lines]))


@dataclass(frozen=True)
class Wandb(Tracker):
    """Weights & Biases: a run for each run, with the configuration as its config and the outcomes as its summary."""

    mode: str = "offline"  # offline: files in the directory of the run, for `wandb sync`; online: sent at once
    project: str = "lnt"  # the project of all runs
    entity: str | None = None  # the user or team that owns it; null = the account's default

    package = "wandb"
    see = "wandb sync {folder}/wandb/offline-run-*"

    def validate(self) -> None:
        super().validate()
        require(self.mode in ("offline", "online"), "mode", self.mode, "must be offline or online")

    def log_run(self, run: TrackedRun, folder: Path) -> None:
        """Log all of a run, and end it."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else it reports its own crashes, offline too
        import wandb

        quiet = wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True, login_timeout=30)
        where = {"project": self.project, "entity": self.entity, "dir": str(folder), "group": folder.name}
        config = {"run_id": run.run_id, **run.configuration}
        with wandb.init(mode=self.mode, name=run.run_id, config=config, settings=quiet, **where) as logged:
            for step, metrics in run.curves.items():
                logged.log(metrics, step=step)
            logged.summary.update(run.outcomes)


@dataclass(frozen=True)
class Mlflow(Tracker):
    """MLflow: a run for each run, the configuration as parameters; outcomes are metrics at the last step, words are tags."""

    uri: str | None = None  # of a tracking server; null = files in mlruns/, in the directory of the run
    experiment: str = "lnt"  # the experiment of all runs

    package = "mlflow"
    see = "MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {folder}/mlruns"

    def log_run(self, run: TrackedRun, folder: Path) -> None:
        """Log all of a run, and end it."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        if self.uri is None:
            # A store of files needs no database, which takes ten seconds to set up; MLflow wants to be asked for it.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param, RunTag

        client = MlflowClient(self.uri or (folder / "mlruns").resolve().as_uri())
        found = client.get_experiment_by_name(self.experiment)
        experiment = found.experiment_id if found else client.create_experiment(self.experiment)
        logged = client.create_run(experiment, run_name=run.run_id).info.run_id
        now, failed = int(1000 * time.time()), run.outcomes["status"] == "failed"
        at_last = {run.last_step: {**run.curves.get(run.last_step, {}), **run.numbers}}
        metrics = [
            Metric(name, value, now, step) for step, at in {**run.curves, **at_last}.items() for name, value in at.items()
        ]
        params = [Param(key, str(value)) for key, value in run.configuration.items()]
        words = {"run_id": run.run_id, **{key: value for key, value in run.outcomes.items() if key not in run.numbers}}
        # What one request may hold.
        for first in range(0, len(params), 100):
            client.log_batch(logged, params=params[first : first + 100])
        for first in range(0, len(metrics), 1000):
            client.log_batch(logged, metrics=metrics[first : first + 1000])
        client.log_batch(logged, tags=[RunTag(f"lnt.{key}", value) for key, value in words.items()])
        client.set_terminated(logged, "FAILED" if failed else "FINISHED")


class Tracking:
    """Hands runs that are saved in `folder` to a tracker; after an error it hands it no more."""

    def __init__(self, tracker: Tracker, folder: Path) -> None:
        self.tracker, self.folder = tracker, folder
        self.begun, self.off = False, not tracker.logs

    def add(self, tables: Tables) -> None:
        """Log the runs of some tables, or warn why not."""
        if self.off:
            return
        try:
            for run in tracked_runs(tables):
                # A scheduler that ends this job grants it seconds, and they are not for this.
                if signals.asked():
                    return
                self.tracker.log_run(run, self.folder)
                if not self.begun:
                    log.info("runs are logged; to see them: %s", self.tracker.see.format(folder=self.folder))
                self.begun = True
        except Exception as error:
            self.off = True
            log.warning("tracker=%s failed, results are saved all the same: %s", self.tracker.option, one_line(error))
