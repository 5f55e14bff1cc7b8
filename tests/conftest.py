"""Experiments for tests, composed from the real conf/ directory."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_slurm import FakeSlurm
from hydra import compose, initialize_config_dir

from lnt import cli  # noqa: F401  (its resolvers are those of conf/)
from lnt.progress import StepCount
from lnt.runs.experiments_from_settings import experiment_from
from lnt.sweeps.hydra_internals import to_plain
from lnt.training.engine import Engine, Truth
from lnt.training.experiment import Experiment
from lnt.training.loop import Training
from lnt.training.strategies import NoStrategy, PriorKnowledge

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests run side by side in several processes: more threads each would only get in the way."""
    torch.set_num_threads(1)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # as the entry points set it


def measured(engines: list[Engine], problem: Truth, steps: np.ndarray) -> np.ndarray:
    """What is measured of engines without a strategy at the given steps, [T, M, R]."""
    training = Training(engines, problem, steps, NoStrategy(), PriorKnowledge(*[np.full(len(problem.labels), np.nan)] * 3))
    training.run(StepCount())
    return training.values


@pytest.fixture(scope="session")
def composed() -> Iterator[Callable[..., dict[str, Any]]]:
    """composed(*overrides): the plain configuration that train.py would see."""

    def plain(*overrides: str) -> dict[str, Any]:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = compose("config", list(overrides), return_hydra_config=True)
            return to_plain(config, config.hydra.runtime.choices)

    return plain


@pytest.fixture(scope="session")
def experiment(composed: Callable[..., dict[str, Any]]) -> Callable[..., Experiment]:
    """experiment(*overrides, runs=1, **arrays): keys as data__dim=array differ between the runs of a batch."""

    def make(*overrides: str, runs: int = 1, **arrays: Any) -> Experiment:
        config = composed(*overrides)
        for key, value in arrays.items():
            *groups, name = key.split("__")
            (config[groups[0]] if groups else config)[name] = value
        return experiment_from(config, runs)

    return make


@pytest.fixture
def fake_slurm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """SLURM's programs, answering what the test wants."""
    return FakeSlurm(tmp_path_factory.mktemp("slurm") / "bin", monkeypatch)
