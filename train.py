"""Train one run, or with -m a sweep: python train.py [overrides]. Results land in outputs/, sweeps in multirun/."""

import logging
import os
import sys
from pathlib import Path

import hydra
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lnt.config import ConfigError, explain, to_plain
from lnt.experiment import Experiment
from lnt.loop import train
from lnt.results import RunDirectory, curves_table, runs_table

log = logging.getLogger("lnt")


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="config")
def main(config: DictConfig) -> None:
    """Compose, validate, train, write."""
    job = HydraConfig.get()
    directory = RunDirectory.claim(Path(job.runtime.output_dir))
    try:
        directory.say("running", pid=os.getpid())
        plain = to_plain(config, job.runtime.choices)
        experiment = Experiment.from_config(plain)
        directory.describe(plain, experiment.like().device)
        curves = train(experiment)
        runs = runs_table(experiment, curves)
        directory.save(runs, curves_table(runs["run_id"].tolist(), curves))
    except BaseException as error:
        directory.say("failed", error=f"{type(error).__name__}: {error}")
        log.exception("The run failed")
        raise
    directory.say("completed", runs=runs["status"].value_counts().to_dict())
    report(runs.iloc[0].to_dict(), directory.path)


def report(run: dict, path: Path) -> None:
    """Log what a reader wants to know first."""
    ended = {stage: "never" if pd.isna(run[stage]) else f"at step {run[stage]}" for stage in ("stage1_step", "stage2_step")}
    log.info("%s after step %s; clean samples fitted: %s", run["status"], run["last_step"], ended["stage1_step"])
    log.info("mislabelled samples memorised: %s (%.1f %% now)", ended["stage2_step"], 100 * run["noisy_accuracy"])
    log.info(
        "test error: %.4f; the lowest was %.4f, at step %s", *(run[k] for k in ("test_error", "best_test_error", "best_step"))
    )
    log.info("results in %s", path)


if __name__ == "__main__":
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach this line instead of being printed by Hydra
    try:
        main()
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {explain(error)}")
