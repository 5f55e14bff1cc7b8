"""The sweeper behind -m: packs many runs into few jobs and hands these to whichever launcher is configured.

Hydra looks for plugins in this package only; the work is done in lnt/sweeps/.
"""

from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig


class PackedSweeper(Sweeper):
    """Expands Hydra's override grammar into batches of runs; see conf/hydra/sweeper/packed.yaml for the settings."""

    config: DictConfig
    launcher: Launcher

    def __init__(
        self, runs_per_job: str | int, params: dict[str, Any] | list[dict[str, Any]] | None = None, **refine: Any
    ) -> None:
        self.runs_per_job, self.refine = runs_per_job, refine
        self.grids = params if isinstance(params, list | ListConfig) else [params or {}]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        from hydra.core.plugins import Plugins

        from lnt.sweeps.hydra_internals import frozen

        # The sweeper itself composes from conf/; only jobs get the frozen loader.
        self.config, self.loader = config, hydra_context.config_loader
        context = HydraContext(frozen(self.loader), hydra_context.callbacks)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Plan, write the plan to the sweep's directory, launch the jobs that have runs to train, sum up."""
        # Hydra imports this file at every start, also to print help: what trains is imported only here.
        from lnt.cli import analyze_command, command_line, tracker
        from lnt.sweeps.hydra_internals import Composer, JobLauncher
        from lnt.sweeps.plan import plan
        from lnt.sweeps.refinement import refinement
        from lnt.sweeps.start import start

        # Overrides of the command line come last, so that they win over those of a study.
        grids = [
            [f"{key}={'null' if value is None else value}" for key, value in grid.items()] + arguments for grid in self.grids
        ]
        path, launcher = Path(self.config.hydra.sweep.dir), JobLauncher(self.launcher, self.config)
        composer, refine = Composer(self.config, self.loader), refinement(**self.refine)
        found = plan(grids, composer, self.runs_per_job, launcher.one_by_one, refine)
        tracker(self.config).check_bound(found.runs())
        start(found, path, launcher, bool(self.config.dry_run), command_line(f"hydra.sweep.dir={path}"), analyze_command(path))
