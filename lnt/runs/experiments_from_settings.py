"""From settings to batches of runs that train side by side, without composing a configuration for each run."""

import copy
import itertools
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from lnt.column_names import ADDED_LATER, ADDED_TO_OPTIONS, COMPONENTS
from lnt.errors import ConfigError, keys_under, require
from lnt.images.image_experiment import ImageExperiment
from lnt.losses import Loss
from lnt.noise.observed_labels import LabelNoise
from lnt.options import read_option
from lnt.seeding import STREAMS, Seeds
from lnt.settings import PER_RUN, Axis, build, build_component, class_of, type_hints
from lnt.training.experiment import Data, Experiment, Model, Settings
from lnt.training.optimizers import Optimizer
from lnt.training.strategies import Strategy
from lnt.two_layer.two_layer_experiment import TwoLayerExperiment

BASES = {"data": Data, "noise": LabelNoise, "model": Model, "loss": Loss, "optimizer": Optimizer, "strategy": Strategy}
EXPERIMENTS: dict[str, type[Experiment]] = {"vectors": TwoLayerExperiment, "images": ImageExperiment}  # by kind of data
MAX_BATCHES = 100_000  # of a grid; each takes a millisecond or more to build, whoever looks at the sweep
NOT_SETTINGS = (*COMPONENTS, "seeds", "choices")
ADDED_SETTINGS: dict[str, Any] = {"metrics": []}  # keys that came later, with what they were in effect before


def current(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that an earlier version has written, with the groups and settings that came later."""
    # Additions first: whatever the file has wins over them.
    config = {**ADDED_SETTINGS, **{group: {} for group in ADDED_LATER}, **config}
    choices = {**ADDED_LATER, **config["choices"]}
    components = {
        group: {**ADDED_TO_OPTIONS.get((group, choices[group]), {}), **config[group]} for group in COMPONENTS if group in config
    }
    return {**config, **components, "choices": choices}


def without_classes(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as files hold it: a component is known by its option (`choices`), not by where its class lies today."""
    nested = {key: value for key, value in config.items() if isinstance(value, Mapping)}
    return {**config, **{key: {k: v for k, v in value.items() if k != "_target_"} for key, value in nested.items()}}


def with_classes(config: Mapping[str, Any], classes: Mapping[tuple[str, str], Any]) -> dict[str, Any]:
    """The inverse of `without_classes`: add each component's class, from `classes` (group, option) or else from conf/."""
    config = current(config)
    found = {}
    for group in COMPONENTS:
        option = config["choices"][group]
        target = classes.get((group, option)) or read_option(group, option)["_target_"]
        found[group] = {**config[group], "_target_": target}
    return {**config, **found}


def experiment_from(config: Mapping[str, Any], runs: int = 1) -> Experiment:
    """Validate a configuration whose values may be arrays [R]; raises ConfigError."""
    for name in (*COMPONENTS, "seeds"):
        require(isinstance(config.get(name), Mapping), name, config.get(name), "must be given")
    parts = {name: build_component(name, config[name], base) for name, base in BASES.items()}
    settings = build(Settings, {key: value for key, value in config.items() if key not in NOT_SETTINGS})
    unknown = set(config["seeds"]) - set(STREAMS)
    require(not unknown, "seeds", sorted(unknown), f"unknown streams; known are {', '.join(STREAMS)}")
    own = {name: config["seeds"].get(name) for name in STREAMS}
    with keys_under("seeds"):
        seeds = build(Seeds, {name: settings.seed if own[name] is None else own[name] for name in STREAMS})
    # Classes of users may lack `kind` or `takes`: that must be one line too, not an AttributeError.
    kind = str(getattr(parts["data"], "kind", None))
    require(kind in EXPERIMENTS, "data", config["choices"]["data"], f"declares kind={kind}; must be {' or '.join(EXPERIMENTS)}")
    takes = getattr(parts["model"], "takes", None)
    require(
        takes in EXPERIMENTS, "model", config["choices"]["model"], f"declares takes={takes}; must be {' or '.join(EXPERIMENTS)}"
    )
    experiment = EXPERIMENTS[kind](**parts, seeds=seeds, settings=settings, choices=config["choices"], runs=runs).completed()
    experiment.check()
    return experiment


def is_per_run(config: Mapping[str, Any], key: str) -> bool:
    """Whether runs that differ in `key` can train in one batch. Raises ConfigError if there is no such key."""
    group, _, name = key.rpartition(".")
    owner: Any = Settings
    if group in COMPONENTS:
        owner = class_of(config[group])
    elif group == "seeds":
        owner = Seeds
    hints, known = type_hints(owner), [field.name for field in fields(owner)]
    if name not in known:
        raise ConfigError(
            key, "...", f"the axis names no key; known are {', '.join(f'{group}.{k}'.lstrip('.') for k in known)}"
        )
    # In PerRunFloat | None the mark sits one level down, at the first alternative.
    options = (hints[name], *typing.get_args(hints[name]))
    return any(PER_RUN in getattr(option, "__metadata__", ()) for option in options)


def with_values(config: Mapping[str, Any], keys: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """A copy of the nested configuration with the dotted `keys` set."""
    # All combinations start from the same nested dictionaries.
    changed = copy.deepcopy(dict(config))
    for key, value in zip(keys, values, strict=True):
        *groups, name = key.split(".")
        node = changed
        for group in groups:
            node = node[group]
        node[name] = value
    return changed


def by_batch(config: Mapping[str, Any], axes: Sequence[Axis]) -> tuple[list[Axis], list[Axis]]:
    """The axes whose values the runs of a batch share, and those along which they differ.

    Runs are numbered with the axes in this order, the last of which changes fastest.
    """
    # Arrays [R] hold numbers only, so an axis of words or nulls makes batches of its own even where its key may differ per run.
    side_by_side = [axis for axis in axes if all(is_per_run(config, key) for key in axis.keys) and axis.columns is not None]
    return [axis for axis in axes if axis not in side_by_side], side_by_side


def expand(config: Mapping[str, Any], axes: Sequence[Axis], first: int = 0, last: int | None = None) -> Iterator[Experiment]:
    """The batches of a sweep over `axes`: one for each combination of values that runs of a batch must share.

    Only of the runs numbered `first` to `last` - 1, all by default: a job of a sweep of 10^7 runs builds a thousandth of them.
    """
    shared, side_by_side = by_batch(config, axes)
    sizes = [len(axis.points) for axis in side_by_side]
    # Without such an axis the product is 1: one run.
    size = math.prod(sizes)
    keys = [key for axis in side_by_side for key in axis.keys]
    batches, alone = math.prod(len(axis.points) for axis in shared), ", ".join(key for axis in shared for key in axis.keys)
    allowed = f"takes {batches} values that cannot train side by side; at most {MAX_BATCHES} fit in one sweep"
    require(batches <= MAX_BATCHES, alone, "...", allowed)
    for offset, combination in zip(itertools.count(0, size), itertools.product(*(axis.points for axis in shared))):
        runs = range(max(first - offset, 0), size if last is None else min(last - offset, size))
        if not runs:
            continue
        # For each axis the point [R] that each run takes; the last axis changes fastest.
        index = np.unravel_index(np.arange(runs.start, runs.stop), sizes) if sizes else ()
        arrays = [column[i] for i, axis in zip(index, side_by_side, strict=True) for column in axis.columns or ()]
        chosen = [value for point in combination for value in point]
        names = [key for axis in shared for key in axis.keys]
        yield experiment_from(with_values(config, names + keys, chosen + arrays), len(runs))
