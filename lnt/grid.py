"""Sweeps: from axes to batches of runs that train side by side, without composing a configuration for each run."""

import copy
import itertools
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hydra.core.override_parser import overrides_parser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString, RangeSweep, Sweep, Transformer
from hydra.utils import get_class

from lnt.compose import experiment_from
from lnt.config import COMPONENTS, PER_RUN, ConfigError, require
from lnt.experiment import Experiment, Settings
from lnt.seeding import Seeds


@dataclass(frozen=True)
class Axis:
    """Keys that advance together, and the values that they take: one tuple for each point."""

    keys: tuple[str, ...]
    points: tuple[tuple[Any, ...], ...]

    def title(self) -> str:
        return f"{' & '.join(self.keys)} ({len(self.points)})"


def values_of(override: Override) -> list[Any]:
    """The points of a swept override; ranges of floats are freed of rounding dust (0.30000000000000004)."""
    key, _, text = str(override.input_line).partition("=")
    require(override.is_discrete_sweep(), key, text, "is continuous; use linspace(start,stop,num) or logspace, geomspace")
    values = [v.text if isinstance(v, QuotedString) else v for v in override.sweep_iterator(transformer=Transformer.identity)]
    if isinstance(override.value(), RangeSweep):
        values = [float(f"{value:.12g}") if isinstance(value, float) else value for value in values]
    require(len(values) > 0, key, text, "the axis is empty")
    return values


def axes_of(overrides: Sequence[Override]) -> list[Axis]:
    """One axis for each swept override; sweeps that share a tag, tag(pair, choice(..)), advance together."""
    pairs: dict[object, list[Override]] = {}
    for override in overrides:
        sweep = override.value()
        tags = sweep.tags if isinstance(sweep, Sweep) else ()  # glob(..) has none
        tag = ("tag", *sorted(tags)) if tags else ("key", override.get_key_element())
        pairs.setdefault(tag, []).append(override)
    axes = []
    for group in pairs.values():
        columns = [values_of(override) for override in group]
        keys = tuple(override.get_key_element() for override in group)
        lengths = ", ".join(str(len(column)) for column in columns)
        require(len(set(map(len, columns))) == 1, ", ".join(keys), lengths, "axes that advance together need the same length")
        axes.append(Axis(keys, tuple(zip(*columns, strict=True))))
    return axes


def is_per_run(config: Mapping[str, Any], key: str) -> bool:
    """Whether runs that differ in `key` can train in one batch. Raises ConfigError if there is no such key."""
    group, _, name = key.rpartition(".")
    owner: type = Settings
    if group in COMPONENTS:
        owner = get_class(config[group]["_target_"])
    elif group == "seeds":
        owner = Seeds
    hints = typing.get_type_hints(owner, include_extras=True)
    known = ", ".join(f"{group}.{field}".lstrip(".") for field in hints)
    if name not in hints:
        raise ConfigError(key, "...", f"the axis names no key; known are {known}")
    options = (hints[name], *typing.get_args(hints[name]))
    return any(PER_RUN in getattr(option, "__metadata__", ()) for option in options)


def with_values(config: Mapping[str, Any], keys: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """A copy of the nested configuration with the dotted `keys` set."""
    changed = copy.deepcopy(dict(config))
    for key, value in zip(keys, values, strict=True):
        *groups, name = key.split(".")
        node = changed
        for group in groups:
            node = node[group]
        node[name] = value
    return changed


def expand(config: Mapping[str, Any], axes: Sequence[Axis]) -> Iterator[Experiment]:
    """The batches of a sweep over `axes`: one for each combination of values that runs of a batch must share."""
    side_by_side = [axis for axis in axes if all(is_per_run(config, key) and _numeric(axis) for key in axis.keys)]
    shared = [axis for axis in axes if axis not in side_by_side]
    sizes = [len(axis.points) for axis in side_by_side]
    runs = int(np.prod(sizes, dtype=int))
    index = np.indices(sizes).reshape(len(sizes), runs)
    arrays = [
        np.array(column)[i] for axis, i in zip(side_by_side, index, strict=True) for column in zip(*axis.points, strict=True)
    ]
    keys = [key for axis in side_by_side for key in axis.keys]
    for combination in itertools.product(*(axis.points for axis in shared)):
        chosen = [value for point in combination for value in point]
        names = [key for axis in shared for key in axis.keys]
        yield experiment_from(with_values(config, names + keys, chosen + arrays), runs)


def _numeric(axis: Axis) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for point in axis.points for value in point)


# Additions to Hydra's override grammar: data.dim=logspace(2,5,10), data.snr=linspace(0,1,11).


def linspace(start: int | float, stop: int | float, num: int) -> ChoiceSweep:
    """`num` values from `start` to `stop`, evenly spaced."""
    return _points(np.linspace(start, stop, num))


def logspace(start: int | float, stop: int | float, num: int) -> ChoiceSweep:
    """`num` values from 10^start to 10^stop, evenly spaced in the exponent."""
    return _points(np.logspace(start, stop, num))


def geomspace(start: int | float, stop: int | float, num: int) -> ChoiceSweep:
    """`num` values from `start` to `stop`, each a constant multiple of the one before."""
    return _points(np.geomspace(start, stop, num))


def _points(values: np.ndarray) -> ChoiceSweep:
    return ChoiceSweep(list=[float(f"{value:.12g}") for value in values])


def extend_grammar() -> None:
    """Let Hydra's parser know the functions above, wherever it is created."""
    original = overrides_parser.create_functions

    def create_functions() -> Any:
        functions = original()
        for function in (linspace, logspace, geomspace):
            functions.register(name=function.__name__, func=function)
        return functions

    overrides_parser.create_functions = create_functions
