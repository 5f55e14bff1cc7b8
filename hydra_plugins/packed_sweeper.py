"""The sweeper behind -m: packs many runs into few jobs and hands these to whichever launcher is configured.

Hydra finds plugins in this package only; all that is worth reading is in lnt/plan.py and lnt/sweep.py.
"""

from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig


class PackedSweeper(Sweeper):
    """Expands Hydra's override grammar into batches of runs; see conf/hydra/sweeper/packed.yaml for the settings."""

    config: DictConfig
    launcher: Launcher

    def __init__(self, runs_per_job: str | int, params: dict[str, Any] | list[dict[str, Any]] | None) -> None:
        self.runs_per_job = runs_per_job
        self.grids = params if isinstance(params, list | ListConfig) else [params or {}]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        from hydra.core.plugins import Plugins

        from lnt.plan import FrozenLoader

        self.config, self.loader = config, hydra_context.config_loader
        frozen = HydraContext(FrozenLoader(self.loader.get_search_path()), hydra_context.callbacks)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=frozen, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Plan, write the plan to the sweep's directory, launch the jobs that have runs to train, sum up."""
        from lnt.plan import plan
        from lnt.sweep import start

        grids = [
            [f"{key}={'null' if value is None else value}" for key, value in grid.items()] + arguments for grid in self.grids
        ]
        start(plan(grids, self.config, self.loader, self.runs_per_job), self.config, self.launcher)
