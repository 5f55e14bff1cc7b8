"""From a composed Hydra configuration to validated plain objects.

A component is a frozen dataclass of numbers that validates itself. A number annotated `PerRunInt` or `PerRunFloat` may
differ between runs that train side by side, and is then an array [R]; everything else is shared by the batch.
"""

import os
import shutil
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any

import numpy as np
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

PER_RUN = "may differ between runs of a batch"
PerRunInt = Annotated[int | np.ndarray, PER_RUN]
PerRunFloat = Annotated[float | np.ndarray, PER_RUN]

COMPONENTS = ("data", "noise", "model", "optimizer", "strategy")
NOT_SETTINGS = ("hydra", "dry_run", "job")  # top-level keys that say how to run, not what
FREE_BYTES_NEEDED = 16 * 2**20


class ConfigError(ValueError):
    """A setting that cannot be used: which key, its value, and what would be right, in one line."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key}={value}: {allowed}")
        self.key, self.value, self.allowed = key, value, allowed

    def under(self, prefix: str) -> "ConfigError":
        """The same error with the keys of component `prefix` written out in full."""
        return ConfigError(", ".join(f"{prefix}.{key}" for key in self.key.split(", ")), self.value, self.allowed)


def require(holds: object, key: str, value: object, allowed: str) -> None:
    """Raise ConfigError unless `holds` (a bool, or an array [R]) is true of every run; name the first bad value."""
    bad = ~np.atleast_1d(np.asarray(holds, dtype=bool))
    if bad.any():
        if isinstance(value, list | tuple):
            raise ConfigError(key, list(value), allowed)
        values = np.broadcast_to(np.asarray(value, dtype=object), bad.shape)
        raise ConfigError(key, values[bad][0], allowed)


def require_one_of(component: object, first: str, second: str) -> None:
    """Raise ConfigError unless exactly one of two settings that say the same is given."""
    values = getattr(component, first), getattr(component, second)
    if (values[0] is None) == (values[1] is None):
        both = f"{values[0]}, {values[1]}"
        raise ConfigError(f"{first}, {second}", both, "exactly one of the two must be given, the other null")


def build(component: type, values: Mapping[str, Any]) -> Any:
    """Make the dataclass `component` from `values`, each checked against its annotation.

    Raises ConfigError for a key that is unknown, one that is missing, and a value of the wrong type.
    """
    hints = typing.get_type_hints(component, include_extras=True)
    known = {field.name: field for field in fields(component)}
    for key in values:
        if key not in known:
            raise ConfigError(key, values[key], f"unknown key; known are {', '.join(known) or 'none'}")
    for key, field in known.items():
        if key not in values and field.default is MISSING:
            raise ConfigError(key, None, "must be given")
    return component(**{key: check_type(key, value, hints[key]) for key, value in values.items()})


def check_type(key: str, value: Any, hint: Any) -> Any:
    """Return `value` as its annotation wants it (1e3 is an int where an int is wanted); raise ConfigError if it is not."""
    per_run = PER_RUN in getattr(hint, "__metadata__", ())
    options = set(typing.get_args(hint.__origin__) if per_run else alternatives(hint))
    for option in [o for o in options if typing.get_origin(o) is Annotated]:  # Optional[PerRun...]
        per_run, options = True, (options - {option}) | set(typing.get_args(option.__origin__))
    if value is None and type(None) in options:
        return None
    null = " or null" if type(None) in options else ""
    for option in [o for o in options if typing.get_origin(o) is tuple]:
        if isinstance(value, list | tuple):
            return tuple(check_type(key, item, typing.get_args(option)[0]) for item in value)
        raise ConfigError(key, value, f"must be a list{null}")
    wanted = next(kind for kind in (bool, int, float, str) if kind in options)
    if isinstance(value, np.ndarray):
        if per_run and wanted in (int, float) and value.dtype.kind in "if":
            require(np.isfinite(value), key, value, "must be a finite number")
            require(wanted is float or value == np.rint(value), key, value, "must be an integer")
            return value.astype(wanted)
    elif wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        require(np.isfinite(value), key, value, "must be a finite number")
        return float(value)
    elif wanted is int and isinstance(value, int | float) and not isinstance(value, bool):
        require(abs(value) < 2**63 and value == int(value), key, value, "must be an integer")
        return int(value)
    elif type(value) is wanted:
        return value
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a word"}
    raise ConfigError(key, value, f"must be {names[wanted]}{null}")


def alternatives(hint: Any) -> tuple[Any, ...]:
    """int | None -> int, None; any other annotation is its own only alternative."""
    return typing.get_args(hint) if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union else (hint,)


@contextmanager
def keys_under(prefix: str) -> Iterator[None]:
    """Write out the keys of a ConfigError raised inside in full: those of component `prefix`."""
    try:
        yield
    except ConfigError as error:
        raise error.under(prefix) from None


def build_component(name: str, values: Mapping[str, Any]) -> Any:
    """The component that conf/`name`/ describes: its class is `_target_`, its numbers are the other keys."""
    numbers = {key: value for key, value in values.items() if key != "_target_"}
    with keys_under(name):
        return build(get_class(values["_target_"]), numbers)


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) for every leaf of a nested configuration."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# What follows is Hydra's side: resolvers for conf/*.yaml, and the check that runs before Hydra writes anything.


def fresh_name() -> str:
    """A directory name that no other run takes, however many start in the same millisecond."""
    return f"{datetime.now():%Y-%m-%d/%H-%M-%S}-{token_hex(4)}"


OmegaConf.register_new_resolver("fresh_name", fresh_name, use_cache=True, replace=True)
OmegaConf.register_new_resolver("unless", lambda given, default: default if given is None else None, replace=True)


def to_plain(config: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    """The resolved configuration without Hydra's own node; `choices` (group -> option) name the components."""
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key not in NOT_SETTINGS])
    plain = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {**plain, "choices": {name: choices.get(name) for name in COMPONENTS}}


def check_writable(directory: Path) -> None:
    """Raise ConfigError if results cannot be written to `directory` (which need not exist yet)."""
    parent = next(path for path in [directory, *directory.resolve().parents] if path.exists())
    require(parent.is_dir(), "output directory", directory, f"{parent} is not a directory")
    require(os.access(parent, os.W_OK | os.X_OK), "output directory", directory, f"{parent} is not writable")
    free = shutil.disk_usage(parent).free
    require(free >= FREE_BYTES_NEEDED, "output directory", directory, f"only {free >> 20} MiB of disk are free")


class RefuseBadConfig(Callback):
    """Checks a single run before Hydra makes its directory, so that a bad setting leaves nothing behind."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with one line of explanation if the configuration cannot be run."""
        from lnt.compose import experiment_from
        from lnt.plan import outlook
        from lnt.results import RunDirectory

        try:
            plain = to_plain(config, config.hydra.runtime.choices)
            experiment = experiment_from(plain)
            if config.dry_run:
                print(outlook([experiment], 1))
                sys.exit(0)
            directory = Path(config.hydra.run.dir)
            check_writable(directory)
            RunDirectory(directory).check_free(plain)
        except Exception as error:
            # Hydra would turn it into a warning and train all the same; SystemExit passes.
            sys.exit(f"error: {explain(error)}")


def explain(error: BaseException) -> str:
    """One line for an error of composition; for an unknown key, the keys that there are."""
    cause = error.__cause__
    node = getattr(cause, "parent_node", None)
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and isinstance(node, DictConfig):
        prefix = str(cause.full_key).rpartition(".")[0]
        known = (
            ", ".join(f"{prefix}.{name}".lstrip(".") for name in map(str, node) if name not in ("_target_", "hydra")) or "none"
        )
        return f"{str(error).splitlines()[0].rstrip('.')}: unknown key; known are {known}"
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def run_entry(main: Callable[[], None]) -> None:
    """Run an entry point; what a user can mend ends in one line on stderr, anything else in its traceback."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach the next lines instead of being printed by Hydra
    try:
        main()
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {explain(error)}")
    except KeyboardInterrupt:
        sys.exit("interrupted; a sweep keeps what is done, the same command with the same hydra.sweep.dir trains the rest")
