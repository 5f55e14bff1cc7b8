"""Train from Python: components are objects, nothing is written, numbers and run_ids are those of the command line."""

import itertools
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

from lnt.column_names import COMPONENTS
from lnt.errors import ConfigError, require
from lnt.hardware import threads
from lnt.images.networks import SmallCNN
from lnt.losses import Logistic
from lnt.noise.by_class import Symmetric
from lnt.options import read_option
from lnt.progress import Progress
from lnt.runs.experiments_from_settings import expand
from lnt.runs.tables import Tables, joined, schemas
from lnt.runs.train_runs import trained
from lnt.seeding import STREAMS
from lnt.settings import Axis, Component, build_component
from lnt.training.optimizers import GradientDescent, StochasticGradientDescent
from lnt.training.strategies import NoStrategy
from lnt.two_layer.data import SignalNoise
from lnt.two_layer.network import TwoLayerCNN

DEFAULTS: dict[str, type[Component]] = {"data": SignalNoise, "noise": Symmetric, "loss": Logistic, "strategy": NoStrategy}
BY_KIND: dict[str, dict[str, type[Component]]] = {  # as conf/data/*.yaml choose them
    "vectors": {"model": TwoLayerCNN, "optimizer": GradientDescent},
    "images": {"model": SmallCNN, "optimizer": StochasticGradientDescent},
}
Given = Component | str | None  # a component, the name of an option, or the default
Axes = Mapping[str | tuple[str, ...], Iterable[Any]]


class Simulated(NamedTuple):
    """The tables of all runs, and the plan that they fulfil."""

    tables: Tables
    plan: dict[str, Any]


def simulated(
    components: Mapping[str, Given],
    settings: Mapping[str, Any],
    seeds: Mapping[str, int],
    over: Axes,
    workers: int,
    progress: bool,
) -> Simulated:
    """Train all points of the grid `over`. Raises ConfigError before any work starts if a setting or an axis cannot be used."""
    axes = [_axis(key, values) for key, values in over.items()]
    # Another component has other settings, so each combination of components is a configuration of its own.
    chosen = [axis for axis in axes if any(key in COMPONENTS for key in axis.keys)]
    written = [axis for axis in axes if axis not in chosen]
    groups = []
    for points in itertools.product(*(axis.points for axis in chosen)):
        options = {
            key: option
            for axis, point in zip(chosen, points, strict=True)
            for key, option in zip(axis.keys, point, strict=True)
        }
        groups.append((configuration({**components, **options}, settings, seeds), written))
    batches = [batch for config, group_axes in groups for batch in expand(config, group_axes)]
    # Before training: two points with one run_id could not be told apart in the tables.
    ids = [run for batch in batches for run in batch.run_ids()]
    allowed = "points name a run that another point names too; drop values that repeat, and axes that change no result"
    require(len(set(ids)) == len(ids), "over", len(ids) - len(set(ids)), allowed)
    schema, work = schemas(batches), sum(batch.work() for batch in batches)
    # One core each, as the workers of a sweep have it: numbers end alike whoever trains.
    with threads(1) if workers == 1 else nullcontext(), Progress(work, len(ids), shown=progress) as bar:
        done = [tables for part in trained(batches, schema, bar, workers=workers) for tables, _ in part]
    plan = {"groups": [{"config": config, "axes": [vars(axis) for axis in group_axes]} for config, group_axes in groups]}
    return Simulated(joined(done), plan)


def configuration(components: Mapping[str, Given], settings: Mapping[str, Any], seeds: Mapping[str, int]) -> dict[str, Any]:
    """The nested configuration that the command line would compose."""
    data = _component("data", components.get("data"), DEFAULTS)
    kind = str(getattr(data, "kind", None))  # of a class that is no data, experiment_from says what is wrong
    defaults = {**DEFAULTS, **BY_KIND.get(kind, BY_KIND["vectors"])}
    found = {group: data if group == "data" else _component(group, components.get(group), defaults) for group in COMPONENTS}
    nested = {group: {"_target_": type(part), **part.given()} for group, part in found.items()}
    unknown = set(seeds) - set(STREAMS)
    require(not unknown, "seeds", sorted(unknown), f"unknown streams; known are {', '.join(STREAMS)}")
    own = {stream: seeds.get(stream) for stream in STREAMS}
    return {**nested, **settings, "seeds": own, "choices": {group: part.option for group, part in found.items()}}


def _component(group: str, given: Given, defaults: Mapping[str, type[Component]]) -> Any:
    """A component as given, by the name of its option, or the default of its group."""
    if isinstance(given, Component):
        return given
    if given is None:
        return defaults[group]()
    if not isinstance(given, str):
        raise ConfigError(group, given, "must be a component, the name of an option of conf/, or None")
    return build_component(group, read_option(group, given), Component)


def _axis(key: str | tuple[str, ...], values: Iterable[Any]) -> Axis:
    """An axis of one key, or of several that advance together: ("data.dim", "data.snr"): [(100, 0.3), (1000, 0.1)]."""
    keys = (key,) if isinstance(key, str) else tuple(key)
    points = tuple((_python(value),) if isinstance(key, str) else tuple(map(_python, value)) for value in values)
    require(len(points) > 0, ", ".join(keys), "", "the axis is empty")
    require(
        all(len(point) == len(keys) for point in points), ", ".join(keys), list(points[0]), "must be one value for each key"
    )
    return Axis(keys, points)


def _python(value: Any) -> Any:
    """Turn a NumPy number into a Python number; leave anything else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
