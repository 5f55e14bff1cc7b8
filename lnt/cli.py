"""The parts that both commands need: errors in one line, the check before a run, `from=DIR`, and resolvers for conf/*.yaml.

Nothing heavy is imported here: help, tab completion and a mistyped key are answered at once.
"""

import math
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lnt.column_names import COMPONENTS, OUTCOME_TYPES
from lnt.errors import MENDABLE, NO_OPTION, one_line, printable, require
from lnt.files import is_plain, read_yaml
from lnt.help import help_text
from lnt.options import CONF, TOP
from lnt.settings import build_component, check_writable, flatten
from lnt.sweeps.axes import geomspace, linspace, logspace
from lnt.sweeps.hydra_internals import compose_once, extend_grammar, for_swept_options, raise_quietly, to_plain

if TYPE_CHECKING:
    from lnt.runs.trackers import Tracker

ENUMERATING = ("packed", "basic")  # sweepers that train given values; others choose the next ones by what a run returns
MULTIRUN = {"-m", "--multirun"}
GROUPS = (*COMPONENTS, "tracker", "experiment")
TYPED: list[str] = []  # the command as the user typed it: `from=` is written out in sys.argv itself

extend_grammar((linspace, logspace, geomspace))
raise_quietly()


def fresh_name() -> str:
    """A directory name that no other run takes, however many start in the same millisecond."""
    return f"{datetime.now():%Y-%m-%d/%H-%M-%S}-{token_hex(4)}"


# use_cache: an interpolation is evaluated at each access, and all accesses must see the same name.
OmegaConf.register_new_resolver("fresh_name", fresh_name, use_cache=True, replace=True)
OmegaConf.register_new_resolver("unless", lambda given, default: default if given is None else None, replace=True)


class CheckBeforeRun(Callback):
    """Checks a single run before Hydra makes its directory, so that a bad setting leaves nothing behind."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with one line of explanation if the configuration cannot be run."""
        with exit_in_one_line():
            check_outputs(config)
            check(to_plain(config, config.hydra.runtime.choices), Path(config.hydra.run.dir), bool(config.dry_run))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with one line of explanation if the runs of a sweep could not hand on their results; any sweeper."""
        with exit_in_one_line():
            check_outputs(config)


@contextmanager
def exit_in_one_line() -> Iterator[None]:
    """Exit at an error: Hydra would turn an exception of a callback into a warning and train all the same."""
    try:
        yield
    except MENDABLE as error:
        sys.exit(f"error: {one_line(error)}")
    except Exception:  # a fault in a user's own component: the place counts
        traceback.print_exc()
        sys.exit(1)


def check_outputs(config: DictConfig) -> None:
    """Raise ConfigError if there is no such tracker, or no such column to be optimised."""
    tracker(config).check()
    metric, sweeper = config.optimized_metric, config.hydra.runtime.choices["hydra/sweeper"]
    columns = {name for name, kind in OUTCOME_TYPES.items() if kind != "str"}
    columns |= {str(name).rpartition(".")[2] for name in config.metrics or ()}
    known = "must be a column of numbers among outcomes and metrics (docs/results.md), such as best_test_error_fresh"
    require(metric is None or metric in columns, "optimized_metric", metric, known)
    searched = config.hydra.mode == RunMode.MULTIRUN and sweeper not in ENUMERATING
    require(metric is not None or not searched, "optimized_metric", None, f"hydra/sweeper={sweeper} needs one; it {known}")


def tracker(config: DictConfig) -> "Tracker":
    """The tracker of this process. Raises ConfigError."""
    # It imports what help need not: see CheckBeforeRun.
    from lnt.runs.trackers import Tracker

    values: Any = OmegaConf.to_container(config.tracker, resolve=True)
    return build_component("tracker", values, Tracker)


def optimized(metric: str, run: Mapping[str, Any]) -> float:
    """The number that a sweeper optimises, from a row of runs.parquet; of a run that diverged the last finite one.

    Raises ConfigError if there is none, which sweepers take for a trial that failed.
    """
    value = run[metric]
    there = value is not None and math.isfinite(value)
    because = f"it failed: {run['error']}" if run["status"] == "failed" else "the column is null"
    require(there, "optimized_metric", metric, f"the run has no such number: {because}")
    return float(value)


def check(config: dict[str, Any], directory: Path, dry_run: bool) -> None:
    """Raise ConfigError if a run cannot start; with `dry_run` say what it would do, and exit."""
    # Imported here because these modules import PyTorch, and --help, which needs this file, must answer at once.
    from lnt.runs.directory import RunDirectory
    from lnt.runs.experiments_from_settings import experiment_from
    from lnt.sweeps.plan import Plan, outlook

    experiment_from(config)
    if dry_run:
        print(outlook(Plan(((config, ()),), 1)))
        sys.exit(0)
    check_writable(directory)
    RunDirectory(directory).check_free(config)


def plain(config: DictConfig) -> dict[str, Any]:
    """The plain configuration of the run that Hydra has started."""
    return to_plain(config, HydraConfig.get().runtime.choices)


def output_directory() -> Path:
    """Where Hydra wants the results of this run, or of this job of a sweep."""
    return Path(HydraConfig.get().runtime.output_dir)


def sweep_directory() -> Path:
    """The directory of the sweep that this process is a job of."""
    return Path(HydraConfig.get().sweep.dir)


def config_folders() -> list[Path]:
    """The folders that Hydra has composed from, those of --config-dir last."""
    # Hydra lists the source that wins first; read_option wants it last.
    sources = [source.path for source in HydraConfig.get().runtime.config_sources if source.schema == "file"]
    return [Path(path) for path in reversed(sources)]


def command_line(*more: str) -> str:
    """The command that started this process, with those overrides added that it lacks."""
    # A user copies this line to go on: it must name the directory even where Hydra has chosen it.
    program, *arguments = TYPED or sys.argv
    added = [override for override in more if not any(a.startswith(override.split("=")[0] + "=") for a in arguments)]
    return shlex.join([*(["python", program] if program.endswith(".py") else [Path(program).name]), *arguments, *added])


def analyze_command(path: Path) -> str:
    """The command that turns results into figures."""
    program = "python analyze.py" if (TYPED or sys.argv)[0].endswith(".py") else "lnt-analyze"
    return f"{program} path={shlex.quote(str(path))}"


def run(main: Callable[[], None], config_name: str) -> None:
    """Run an entry point; what a user can mend ends in one line on stderr, anything else in its traceback."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach the next lines instead of being printed by Hydra
    try:
        TYPED[:] = TYPED or sys.argv
        words = [word for argument in sys.argv[1:] for word in written_out(argument)]
        sys.argv[1:] = for_swept_options(words, COMPONENTS)
        check_options(sys.argv[1:])
        if {"--help", "-h"} & set(sys.argv[1:]):
            print(help_text(config_name, sys.argv[1:]))
        else:
            mode_typed = any(word.startswith("hydra.mode=") for word in sys.argv[1:])
            compose_once(not mode_typed and (config_name == "analyze" or bool(MULTIRUN & set(sys.argv[1:]))))
            main()
    except MENDABLE as error:
        sys.exit(f"error: {one_line(error)}")
    except OSError as error:  # a disk, a permission, a name: nothing that a traceback would explain
        sys.exit(f"error: {one_line(error)}")
    except KeyboardInterrupt:
        sys.exit("interrupted")


def check_options(words: Sequence[str]) -> None:
    """Raise ConfigError if a group is given what can be no option's name: Hydra would end in its own traceback."""
    parser = OverridesParser.create()
    for word in words:
        group = word.partition("=")[0]
        if (group in GROUPS or "/" in group) and "=" in word:
            with suppress(HydraException):  # Hydra itself says what is wrong with its grammar
                given = parser.parse_override(word)
                named = given.is_sweep_override() or isinstance(given.value(), str | QuotedString)
                # A sweep composes again, where Hydra takes null for no option.
                none = given.value() is None and group not in (*COMPONENTS, "tracker") and not MULTIRUN & set(words)
                require(named or none, group, given.get_value_element_as_str(), NO_OPTION)


def written_out(argument: str) -> list[str]:
    """`from=DIR` as the overrides that repeat the run in DIR under its own run_id; any other argument as it is."""
    if not argument.startswith("from="):
        return [argument]
    file = Path(argument.removeprefix("from=")) / "config.yaml"
    require(file.is_file(), "from", file.parent, "holds no run (no config.yaml)")
    config = read_yaml(file)
    require(
        isinstance(config.get("choices"), dict), "from", file.parent, "is no single run: its config.yaml names no components"
    )
    # Components are repeated by their options: conf/ knows where each class lies today, the file may not.
    choices = config.pop("choices")
    if own := config.pop("metrics", None):
        # They change no result, and name functions: a file must not choose what is executed.
        print(f"left out: metrics={printable(str(own))}; give it again if you want them", file=sys.stderr)
    values = [(key, value) for key, value in flatten(config) if not key.endswith("._target_")]
    strange = [key for key, option in choices.items() if key not in COMPONENTS or not is_plain(option)]
    strange += [key for key, value in values if not _is_setting(key, value)]
    require(not strange, "from", file.parent, f"is no run of train.py: its config.yaml holds {printable(str(strange[:1]))}")
    return [f"{group}={option}" for group, option in choices.items()] + [f"{key}={_quoted(value)}" for key, value in values]


def configuration(overrides: Sequence[str]) -> dict[str, Any]:
    """The plain configuration that train.py would run; of a study that sweeps, its first settings."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", list(overrides), return_hydra_config=True)
    return to_plain(config, config.hydra.runtime.choices)


def _is_setting(key: str, value: Any) -> bool:
    """Whether a value of a file may be handed to Hydra: of a run's own settings, and nothing that Hydra would evaluate."""
    if key.partition(".")[0] == "hydra" or not is_plain(key):
        return False
    return _is_value(value, 4)


def _is_value(value: Any, depth: int) -> bool:
    """Whether a value is a scalar, or a list of scalars at most `depth` levels deep, without an interpolation."""
    if isinstance(value, list):
        return depth > 0 and all(_is_value(item, depth - 1) for item in value)
    return value is None or (isinstance(value, bool | int | float | str) and "${" not in str(value))


def _quoted(value: Any) -> str:
    """A value as Hydra's grammar reads it."""
    if isinstance(value, list):
        return f"[{','.join(map(_quoted, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    # repr keeps every digit of a float, and the run_id rests on its exact value.
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def train() -> None:
    """The command lnt-train."""
    _script("train.py")


def analyze() -> None:
    """The command lnt-analyze."""
    _script("analyze.py")


def _script(name: str) -> None:
    """Run one of the two commands as Python runs a file: they lie inside the package once it is installed."""
    import runpy

    TYPED[:] = sys.argv  # runpy puts the file's own name there
    runpy.run_path(str(TOP / name), run_name="__main__")
