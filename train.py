"""Train one run, or with -m a sweep: python train.py [overrides]. Results land in outputs/, sweeps in multirun/."""

import gc

from lnt import signals

if __name__ == "__main__":
    gc.set_threshold(100_000)  # what is imported stays: searching it for garbage again and again finds nothing
    signals.quit_on_interrupt()  # Ctrl-C during imports: nothing is there to save, and nobody needs a traceback

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from lnt import cli

if TYPE_CHECKING:
    from lnt.runs.trackers import Tracker

log = logging.getLogger("lnt")


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="config")
def main(config: DictConfig) -> float | None:
    """A single run, or a job of a sweep that lnt/sweeps/start.py has planned; returns `optimized_metric` of a run."""
    from lnt.hardware import heed_scheduler  # everything that imports PyTorch waits until here: --help needs none of it
    from lnt.sweeps.job import run_job

    heed_scheduler()
    if __name__ == "__main__" and not gc.get_freeze_count():  # in the program, once
        # What is imported by now is not searched for garbage again, here or in workers. What images import later still is: at
        # exit Triton reports hundreds of leaks if nobody has collected its objects.
        gc.freeze()
    tracker = cli.tracker(config)
    if "job" in config:
        run_job(cli.sweep_directory(), config.job, cli.output_directory(), config.get("classes", ()), tracker)
        return None
    run = train_one(cli.plain(config), cli.output_directory(), tracker)
    if config.optimized_metric is not None:
        return cli.optimized(config.optimized_metric, run)
    if run["status"] == "failed":
        sys.exit(1)
    return None


def train_one(config: dict[str, Any], path: Path, tracker: "Tracker") -> dict[str, Any]:
    """From a configuration to the tables of one run, in a directory of its own; returns its row of runs.parquet."""
    from lnt.runs.directory import RunDirectory
    from lnt.runs.experiments_from_settings import experiment_from, without_classes
    from lnt.runs.run_summary import run_summary
    from lnt.runs.train_runs import train_runs
    from lnt.sweeps.slurm import being_preempted
    from lnt.training.checkpoint import Checkpoint

    experiment, description = experiment_from(config), without_classes(config)
    directory, checkpoint = RunDirectory.claim(path, description), Checkpoint(path / "checkpoints")
    try:
        train_runs([experiment], directory, description, checkpoint, being_preempted, workers=1, tracker=tracker)
    except KeyboardInterrupt:
        sys.exit(f"interrupted; to go on: {cli.command_line(f'hydra.run.dir={path}')}")
    checkpoint.discard()
    (run,) = directory.rows()
    for line in run_summary(run):
        log.info(line)
    log.info("results in %s; next: %s", path, cli.analyze_command(path))
    return run


if __name__ == "__main__":
    cli.run(main, "config")
