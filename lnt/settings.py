"""Components and settings: frozen dataclasses that fill in their defaults and check themselves.

A number annotated `PerRunInt` or `PerRunFloat` may differ between runs that train side by side, and is then an array [R];
everything else is shared by the batch.
"""

import importlib
import inspect
import math
import os
import re
import shutil
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from lnt.errors import ConfigError, keys_under, require, unknown_key

PER_RUN = "may differ between runs of a batch"
PerRunInt = Annotated[int | np.ndarray, PER_RUN]
PerRunFloat = Annotated[float | np.ndarray, PER_RUN]

FREE_BYTES_NEEDED = 16 * 2**20


@dataclass(frozen=True)
class Unless:
    """The default of one of several settings that say the same: `value`, or null where one of the `others` is given."""

    others: tuple[str, ...]
    value: Any


@dataclass(frozen=True)
class Axis:
    """Keys that advance together, and the values that they take: one tuple for each point."""

    keys: tuple[str, ...]
    points: tuple[tuple[Any, ...], ...]

    # Once for each axis: a plan with 10^5 points is looked at block by block.
    @cached_property
    def columns(self) -> list[np.ndarray] | None:
        """The values of each key as an array [points]; None unless all of them are numbers."""
        # bool is a subclass of int, and an array of both would turn true into 1.
        kinds = {type(value) for point in self.points for value in point}
        numeric = all(issubclass(kind, int | float) and kind is not bool for kind in kinds)
        return [np.array(column) for column in zip(*self.points, strict=True)] if numeric else None


def unless(*others: str, value: Any) -> Any:
    """`value` as a field's default unless one of the fields `others` is given; conf/*.yaml has a resolver of that name."""
    return Unless(others, value)


class Component:
    """Numbers that describe a part of an experiment; a frozen dataclass whose instances are always valid.

    Subclasses are dataclasses with a default and a comment for each field, and say their bounds in `validate`. What they can do
    beyond others is declared in class attributes (abilities): an experiment asks for these, never for a class.
    """

    sets: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # fields that, where they are given, fill in others
    option: ClassVar[str]  # the name in conf/ and in result tables; the class name in snake_case unless the class has its own

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "option" not in cls.__dict__:
            cls.option = snake_case(cls.__name__)

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        for key, value in given.items():
            if isinstance(value, Unless):
                value = None if any(_is_given(given[other]) for other in value.others) else value.value
            # The dataclass is frozen: this is the one place where its values are set.
            object.__setattr__(self, key, check_type(key, value, type_hints(type(self))[key]))  # type: ignore[arg-type]
        self.validate()

    def validate(self) -> None:
        """Raise ConfigError for a number out of its bounds."""

    def given(self) -> dict[str, Any]:
        """The fields without those that others fill in: what builds the same component again, and with other values too."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        filled = {name for key, names in self.sets.items() if values[key] is not None for name in names}
        return {name: None if name in filled else value for name, value in values.items()}

    @classmethod
    def reset_unless_declared(cls, *names: str) -> None:
        """Reset promises that a subclass does not repeat: it may have changed what they rest on."""
        for name in names:
            if name not in cls.__dict__:
                setattr(cls, name, False)


def _is_given(value: Any) -> bool:
    return value is not None and not isinstance(value, Unless)


def snake_case(name: str) -> str:
    """TwoLayerCNN -> two_layer_cnn."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


# Cached: resolving annotations takes long, and each value of each component asks for them.
@cache
def type_hints(component: Any) -> dict[str, Any]:
    """The annotations of a component's fields."""
    return typing.get_type_hints(component, include_extras=True)


def require_one_of(component: object, first: str, second: str) -> None:
    """Raise ConfigError unless exactly one of two settings that say the same is given."""
    values = getattr(component, first), getattr(component, second)
    if (values[0] is None) == (values[1] is None):
        both = f"{values[0]}, {values[1]}"
        raise ConfigError(f"{first}, {second}", both, "exactly one of the two must be given, the other null")


def build(component: type, values: Mapping[str, Any]) -> Any:
    """Build the dataclass `component` from `values`. Raises ConfigError for a key that is unknown or missing."""
    known = {field.name: field for field in fields(component)}
    for key in values:
        if key not in known:
            raise ConfigError(key, values[key], unknown_key(known))
    for key, field in known.items():
        if key not in values and field.default is MISSING:
            raise ConfigError(key, None, "must be given")
    return component(**values)


def build_component(group: str, values: Mapping[str, Any], base: type) -> Any:
    """The component that conf/`group`/ describes: its class is `_target_`, its numbers are the other keys.

    Raises ConfigError if its class is no subclass of `base`, the base class of the group, or lacks some of its methods.
    """
    component: Any = class_of(values, group)
    name = f"{component.__module__}.{component.__qualname__}"
    fits = issubclass(component, base) and is_dataclass(component)
    if not fits:
        raise ConfigError(group, name, f"must be a dataclass and a subclass of {base.__module__}.{base.__qualname__}")
    # Python would raise TypeError when the object is made; here the message names the group and the methods.
    if inspect.isabstract(component):
        raise ConfigError(group, name, f"lacks {', '.join(sorted(component.__abstractmethods__))}")
    numbers = {key: value for key, value in values.items() if key != "_target_"}
    with keys_under(group):
        return build(component, numbers)


def class_of(values: Mapping[str, Any], group: str = "_target_") -> type:
    """The class of a component: under `_target_` a dotted name, or (from Python) the class itself. Raises ConfigError."""
    target = values.get("_target_")
    if isinstance(target, type):
        return target
    if not isinstance(target, str):
        raise ConfigError(group, target, "names no class: its option needs a line _target_: module.Class")
    module = import_module_of(group, target)
    found = getattr(module, target.rpartition(".")[2], None)
    require(isinstance(found, type), group, target, "is no class")
    return found  # type: ignore[return-value]


def import_module_of(key: str, dotted: str) -> Any:
    """The module of a dotted name. Raises ConfigError if there is none; a fault inside it keeps its traceback."""
    name = dotted.rpartition(".")[0]
    require(bool(name), key, dotted, "must be a dotted name: my_package.my_name")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module itself, or a package above it, is missing. If it exists and one of its imports fails, that is its fault.
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(key, dotted, f"cannot be imported: {error}; is its folder in PYTHONPATH?") from error
        raise


def check_type(key: str, value: Any, hint: Any) -> Any:
    """Return `value` as its annotation wants it (1e3 is an int where an int is wanted); raise ConfigError if it is not."""
    per_run = PER_RUN in getattr(hint, "__metadata__", ())
    # Annotated[int | ndarray, PER_RUN].__origin__ is int | ndarray: the array is one of the alternatives there.
    options = set(typing.get_args(hint.__origin__) if per_run else alternatives(hint))
    for option in [o for o in options if typing.get_origin(o) is Annotated]:  # Optional[PerRun...]
        per_run, options = True, (options - {option}) | set(typing.get_args(option.__origin__))
    if value is None and type(None) in options:
        return None
    null = " or null" if type(None) in options else ""
    for option in [o for o in options if typing.get_origin(o) is tuple]:
        if isinstance(value, list | tuple | np.ndarray):
            return tuple(check_type(key, item, typing.get_args(option)[0]) for item in value)
        raise ConfigError(key, value, f"must be a list{null}")
    wanted = next((kind for kind in (bool, int, float, str) if kind in options), None)
    if wanted is None:
        raise ConfigError(key, value, f"is declared as {hint}; a field must be bool, int, float, str or a tuple of these")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        if per_run and wanted in (int, float) and value.dtype.kind in "if":
            require(np.isfinite(value), key, value, "must be a finite number")
            require(wanted is float or value == np.rint(value), key, value, "must be an integer")
            return value.astype(wanted)
    # bool is a subclass of int in Python, but `true` is no number in a setting.
    elif wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        # An integer of Python may be larger than any float.
        finite = abs(value) < sys.float_info.max if isinstance(value, int) else math.isfinite(value)
        require(finite, key, value, "must be a finite number")
        return float(value)
    elif wanted is int and isinstance(value, int | float) and not isinstance(value, bool):
        # int64 holds it, in arrays of a batch and in columns of the tables.
        require(abs(value) < 2**63 and value == int(value), key, value, "must be an integer")
        return int(value)
    elif type(value) is wanted:
        return value
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a word"}
    raise ConfigError(key, value, f"must be {names[wanted]}{null}")


def alternatives(hint: Any) -> tuple[Any, ...]:
    """int | None -> int, None; any other annotation is its own only alternative."""
    return typing.get_args(hint) if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union else (hint,)


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) for every leaf of a nested configuration."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def check_writable(directory: Path) -> None:
    """Raise ConfigError if results cannot be written to `directory` (which need not exist yet)."""
    # The directory may not exist yet: the nearest parent that does exist decides.
    try:
        parent = next(path for path in [directory, *directory.resolve().parents] if path.exists())
        long = [part for part in directory.parts if len(os.fsencode(part)) > os.pathconf(parent, "PC_NAME_MAX")]
        require(not long, "output directory", directory, "has a name that is too long for the file system")
    except OSError as error:
        raise ConfigError("output directory", directory, f"cannot be used: {error.strerror}") from None
    require(parent.is_dir(), "output directory", directory, f"{parent} is not a directory")
    require(os.access(parent, os.W_OK | os.X_OK), "output directory", directory, f"{parent} is not writable")
    free = shutil.disk_usage(parent).free
    require(free >= FREE_BYTES_NEEDED, "output directory", directory, f"only {free >> 20} MiB of disk are free")
