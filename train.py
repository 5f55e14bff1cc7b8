"""Train one run, or with -m a sweep: python train.py [overrides]. Results land in outputs/, sweeps in multirun/."""

import logging
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lnt import stopping
from lnt.checkpoint import Checkpoint
from lnt.compose import experiment_from
from lnt.config import run_entry, to_plain
from lnt.grid import extend_grammar
from lnt.loop import train
from lnt.results import RunDirectory, runs_schema, save_networks, tables
from lnt.stopping import Stopped
from lnt.sweep import run_job
from lnt.workers import heed_scheduler

log = logging.getLogger("lnt")


extend_grammar()


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="config")
def main(config: DictConfig) -> None:
    """Hand over to a single run, or to a job of a sweep."""
    heed_scheduler()
    hydra_config = HydraConfig.get()
    directory = Path(hydra_config.runtime.output_dir)
    if "job" in config:
        run_job(Path(hydra_config.sweep.dir), config.job, directory)
    else:
        plain = to_plain(config, hydra_config.runtime.choices)
        run_one(plain, RunDirectory.claim(directory, plain))


def run_one(config: dict[str, Any], directory: RunDirectory) -> None:
    """Validate, train from the start or from a checkpoint, write."""
    checkpoint = Checkpoint(directory.path / "checkpoints")
    try:
        experiment = experiment_from(config)
        directory.describe(config, experiment.like().device)
        with stopping.listening() as handlers:
            try:
                curves = train(experiment, checkpoint)
            except Stopped:
                directory.say("preempted")
                log.info("stopped; to go on: the same command with hydra.run.dir=%s", directory.path)
                stopping.finish(handlers)
        found = tables(experiment, curves, runs_schema([experiment]))
        if curves.kept is not None and experiment.settings.keep_networks:
            save_networks(directory.networks, experiment, curves.kept)
        directory.save(found)
        checkpoint.discard()
    except KeyboardInterrupt:
        directory.say("interrupted")
        raise
    except Exception as error:
        directory.say("failed", error=f"{type(error).__name__}: {error}")
        log.exception("The run failed")
        raise
    finally:
        directory.release()
    (run,) = found.runs.to_pylist()
    directory.say("completed", runs={run["status"]: 1})
    report(run, directory.path)


def report(run: dict, path: Path) -> None:
    """Log what a reader wants to know first."""
    ended = {stage: "never" if run[stage] is None else f"at step {run[stage]}" for stage in ("stage1_step", "stage2_step")}
    log.info("%s after step %s; clean samples fitted: %s", run["status"], run["last_step"], ended["stage1_step"])
    log.info("mislabelled samples memorised: %s (%.1f %% now)", ended["stage2_step"], 100 * run["noisy_accuracy"])
    log.info(
        "test error: %.4f; the lowest was %.4f, at step %s", *(run[k] for k in ("test_error", "best_test_error", "best_step"))
    )
    log.info("results in %s", path)


if __name__ == "__main__":
    run_entry(main)
