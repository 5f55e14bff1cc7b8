"""Hydra behind plain functions. All code that rests on its private parts is here; tests/test_hydra_internals.py checks it.

1. The override grammar is made by `overrides_parser.create_functions`, looked up at each use.
2. Launchers ask a config loader for the configuration of each job through `load_sweep_config(master_config, overrides)`, and
   call nothing else of it; `ConfigLoaderImpl` can be made from a search path.
3. A launcher's configuration names its class under `_target_`: BasicLauncher, SlurmLauncher.
4. The submitit launcher keeps its settings in `params`, and reads them when it launches.
5. Hydra composes a sweep's own configuration, of the first options, without what is swept.
6. What a job has raised is raised again by `JobReturn.return_value`, which writes a line of its own before.
7. Hydra composes a configuration to read its mode (`Hydra.get_mode`), and again to run it. If the mode is None, the command
   line decides.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser import overrides_parser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from lnt.column_names import COMPONENTS
from lnt.settings import flatten

NOT_SETTINGS = (
    "hydra",
    "dry_run",
    "tracker",
    "optimized_metric",
    "job",
    "classes",
)  # top-level keys that say how to run, not what


def to_plain(config: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    """The resolved configuration without Hydra's own node; `choices` (group -> option) name the components."""
    # Masked before it is resolved: in Hydra's own node values are missing, which would raise here.
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key not in NOT_SETTINGS])
    plain = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {**plain, "choices": {name: choices.get(name) for name in COMPONENTS}}


def for_swept_options(words: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Command-line words, in which the settings of swept groups count as swept: choice(value).

    Hydra would set `optimizer.rho=0.1` also in the configuration of the sweep as a whole, whose option may have no rho.
    """
    parser = overrides_parser.OverridesParser.create()
    given = [word for word in words if "=" in word and not word.startswith("-")]
    with suppress(HydraException):  # Hydra itself says what is wrong with its grammar
        parsed = {word: parser.parse_override(word) for word in given}
        swept = {o.key_or_group for o in parsed.values() if o.key_or_group in groups and o.is_sweep_override()}
        own = {word for word, o in parsed.items() if o.key_or_group.partition(".")[0] in swept - {o.key_or_group}}
        return [_as_choice(word) if word in own and not parsed[word].is_sweep_override() else word for word in words]
    return list(words)


def _as_choice(word: str) -> str:
    key, _, value = word.partition("=")
    return f"{key}=null,null" if value == "null" else f"{key}=choice({value})"  # the grammar has no choice(null)


def as_typed(line: str) -> str:
    """The inverse of what `for_swept_options` does to a word: a sweep over one value is a value."""
    sweep = overrides_parser.OverridesParser.create().parse_override(line).value()
    one = isinstance(sweep, ChoiceSweep) and (len(sweep.list) == 1 or sweep.list == [None, None])
    typed = line.replace("=choice(", "=", 1).removesuffix(")").removesuffix(",null")
    return typed if one and _as_choice(typed) == line else line


@dataclass(frozen=True)
class Composer:
    """Composes plain configurations from conf/ and override lines."""

    config: DictConfig  # as Hydra has composed it for the sweep as a whole
    loader: ConfigLoader

    def parse(self, lines: Sequence[str]) -> list[Override]:
        """Override lines as Hydra's grammar reads them."""
        return overrides_parser.OverridesParser.create(config_loader=self.loader).parse_overrides(list(lines))

    def is_group(self, key: str) -> bool:
        """Whether a key chooses an option of a group."""
        return bool(self.loader.get_group_options(key))

    def keys(self, lines: Sequence[str]) -> set[str]:
        """The keys under these override lines, also those whose value must still be given."""
        composed = OmegaConf.to_container(self.loader.load_sweep_config(self.config, list(lines)))
        assert isinstance(composed, dict)
        return {key for key, _ in flatten({str(key): value for key, value in composed.items() if key != "hydra"})}

    def compose(self, lines: Sequence[str]) -> dict[str, Any]:
        """The plain configuration under these override lines."""
        composed = self.loader.load_sweep_config(self.config, list(lines))
        return to_plain(composed, composed.hydra.runtime.choices)


@dataclass(frozen=True)
class JobLauncher:
    """The configured launcher, and the facts about it that its configuration has."""

    launcher: Launcher
    config: DictConfig  # that jobs get, with their number

    @property
    def one_by_one(self) -> bool:
        """Whether it runs one job after another in this process."""
        return str(self.config.hydra.launcher._target_).endswith("BasicLauncher")

    @property
    def on_slurm(self) -> bool:
        """Whether it submits jobs to SLURM."""
        return str(self.config.hydra.launcher._target_).endswith("SlurmLauncher")

    @property
    def settings(self) -> dict[str, Any]:
        """Its settings of SLURM's jobs."""
        return self.launcher.params  # type: ignore[attr-defined]

    def carry(self, classes: Mapping[tuple[str, str], Any]) -> None:
        """Hand the classes of this process to the jobs: conf/ may change before they start, and files of results name none."""
        with open_dict(self.config):
            self.config.classes = [[group, option, target] for (group, option), target in classes.items()]

    def launch(self, lines: Sequence[Sequence[str]], initial_job_idx: int) -> None:
        """Launch a job for each list of override lines."""
        self.launcher.launch(lines, initial_job_idx=initial_job_idx)


def raise_quietly() -> None:
    """Let what a job raises pass without Hydra's line "Error executing job with overrides": the error says what is wrong."""
    original: Any = vars(JobReturn)["return_value"]

    def result(job: JobReturn) -> Any:
        if job.status == JobStatus.FAILED:
            raise job._return_value
        return original.fget(job)

    JobReturn.return_value = original.getter(result)  # type: ignore[method-assign]


def compose_once(mode_known: bool) -> None:
    """Spare Hydra the composition that it makes only to read its mode, which takes a tenth of a second or more.

    Where `mode_known`, the command line says the mode. Otherwise what is composed to read it is kept if it is a sweep's.
    """
    original: Any = Hydra.get_mode

    def get_mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        if mode_known:
            return None
        try:
            composed = hydra.compose_config(config_name, overrides, RunMode.MULTIRUN, with_log_configuration=True)
        except Exception:  # Hydra reads the mode of what is no valid sweep too, and says later what is wrong
            return original(hydra, config_name, overrides)
        if composed.hydra.mode == RunMode.MULTIRUN:
            hydra.compose_config = lambda **same: composed  # type: ignore[method-assign]
        return composed.hydra.mode

    Hydra.get_mode = get_mode  # type: ignore[method-assign, assignment]


def extend_grammar(functions: Sequence[Callable[..., Any]]) -> None:
    """Let Hydra's parser know these functions under their names, wherever it is created."""
    original = overrides_parser.create_functions

    def create_functions() -> Any:
        known = original()
        for function in functions:
            # `register` raises for a name that it has; the grammar may be extended twice in one process.
            if function.__name__ not in known.definitions:
                known.register(name=function.__name__, func=function)
        return known

    overrides_parser.create_functions = create_functions


class FrozenLoader(ConfigLoaderImpl):
    """Gives jobs the configuration of the moment of submission; Hydra's own composes it from conf/ when a job starts."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The sweep's configuration with the job's number, from ["+job=3"]."""
        # All jobs get the same master configuration.
        config = copy.deepcopy(master_config)
        (job,) = (int(override.removeprefix("+job=")) for override in sweep_overrides)
        # open_dict: Hydra's configuration refuses keys that conf/ does not have.
        with open_dict(config):
            config.job = job
        return config


def frozen(loader: ConfigLoader) -> FrozenLoader:
    """Replace a loader by a frozen one."""
    return FrozenLoader(loader.get_search_path())
