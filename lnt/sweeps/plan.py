"""Turn override lines into a plan: the composed configurations, the axes to sweep over each, and the size of jobs."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from lnt.column_names import COMPONENTS
from lnt.errors import NO_OPTION, require
from lnt.runs.experiments_from_settings import expand, with_classes, without_classes
from lnt.settings import Axis, flatten
from lnt.sweeps.axes import axes_of
from lnt.sweeps.hydra_internals import Composer
from lnt.training.experiment import Experiment

MAX_RUNS = 10**8  # of a grid
MAX_COMPOSED = 10_000  # configurations of a grid that Hydra composes one by one, in about 10 ms each
MAX_JOBS = 32  # of an automatic plan for a launcher that runs jobs side by side
Classes = Mapping[tuple[str, str], Any]  # (group, option) -> the class behind it


@dataclass(frozen=True)
class Plan:
    """Composed configurations, each with the axes to sweep over it, and how many runs make a job."""

    groups: tuple[tuple[dict[str, Any], tuple[Axis, ...]], ...]
    runs_per_job: int

    def batches(self) -> list[Experiment]:
        """All runs, in batches that share shapes; validates every value. Raises ConfigError."""
        return [batch for config, axes in self.groups for batch in expand(config, axes)]

    def classes(self) -> dict[tuple[str, str], Any]:
        """The class behind each option that is used."""
        return {
            (group, config["choices"][group]): config[group]["_target_"] for config, _ in self.groups for group in COMPONENTS
        }

    def to_plain(self) -> dict[str, Any]:
        """The plan as YAML writes it: components are known by their options, since classes move."""
        groups = [{"config": without_classes(config), "axes": [asdict(axis) for axis in axes]} for config, axes in self.groups]
        # Written and read again: a new plan is compared with one from a file, and both must have the same types.
        return yaml.safe_load(yaml.safe_dump({"groups": _listed(groups), "runs_per_job": self.runs_per_job}))

    @classmethod
    def from_plain(cls, plain: dict[str, Any], classes: Classes) -> "Plan":
        """A plan from YAML, of this or an earlier version, with the classes behind its options."""
        groups = [
            (
                with_classes(group["config"], classes),
                tuple(Axis(tuple(axis["keys"]), tuple(map(tuple, axis["points"]))) for axis in group["axes"]),
            )
            for group in plain["groups"]
        ]
        return cls(tuple(groups), plain["runs_per_job"])


def _listed(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def plan(grids: Sequence[Sequence[str]], composer: Composer, runs_per_job: int | str, one_job: bool) -> Plan:
    """Turn the override lines of one or several grids into a plan: the union of what each of them spans.

    `one_job`: what runs_per_job=auto means where jobs run one after another.
    """
    groups = [group for overrides in grids for group in _groups(overrides, composer)]
    # The size of jobs depends on the batches, and only a plan makes batches; 1 is replaced at once.
    found = Plan(tuple(groups), 1)
    return Plan(found.groups, _runs_per_job(runs_per_job, found.batches(), one_job))


def _groups(overrides: Sequence[str], composer: Composer) -> list[tuple[dict[str, Any], tuple[Axis, ...]]]:
    """Compose one configuration for each combination of group choices, with the axes to sweep over it.

    Values of other axes are written into the composed configuration; an axis on which more than its own key depends (by
    interpolation) is composed value by value instead.
    """
    # A dictionary: where a study and the command line sweep the same key, the command line comes later and wins.
    parsed = {o.key_or_group: o for o in composer.parse(overrides)}
    fixed = [str(o.input_line) for o in parsed.values() if not o.is_sweep_override()]
    axes = axes_of([o for o in parsed.values() if o.is_sweep_override()])
    runs = math.prod(len(axis.points) for axis in axes)
    require(runs <= MAX_RUNS, "sweep", f"{runs} runs", f"must be at most {MAX_RUNS:.0e}; make several sweeps of it")

    def compose(points: Sequence[tuple[Axis, tuple[Any, ...]]]) -> dict[str, Any]:
        lines = [f"{key}={encode(value)}" for axis, point in points for key, value in zip(axis.keys, point, strict=True)]
        return composer.compose(fixed + lines)

    for axis in axes:
        for key, values in zip(axis.keys, zip(*axis.points, strict=True), strict=True):
            require(
                key not in (*COMPONENTS, "experiment") or all(isinstance(v, str) for v in values), key, list(values), NO_OPTION
            )
    written: list[Axis] = []
    composed: list[Axis] = []
    # Composing is slow. Usually nothing depends on any axis, and then two compositions answer for all axes.
    independent = not _dependent_keys(axes, axes, compose)
    for axis in axes:
        chosen = any(composer.is_group(key) for key in axis.keys)
        nulls = any(value is None for point in axis.points for value in point)  # where one of two keys must be given
        dependent = not independent and _dependent_keys([axis], axes, compose)
        (composed if chosen or nulls or dependent else written).append(axis)
    groups = []
    compositions = math.prod(len(axis.points) for axis in composed)
    keys = ", ".join(key for axis in composed for key in axis.keys)
    allowed = f"makes {compositions} configurations, each composed on its own; at most {MAX_COMPOSED}"
    require(compositions <= MAX_COMPOSED, keys, "...", allowed)
    for points in itertools.product(*(axis.points for axis in composed)):
        # The first points stand in for the written axes: `expand` writes all values over them.
        base = compose([*zip(composed, points, strict=True), *((axis, axis.points[0]) for axis in written)])
        groups.append((base, tuple(written)))
    return groups


def _dependent_keys(moved: Sequence[Axis], axes: Sequence[Axis], compose: Callable[..., dict[str, Any]]) -> set[str]:
    """The keys, other than their own, that change between the first and the last points of the axes `moved`."""
    before, after = (
        dict(flatten(compose([(axis, axis.points[end if axis in moved else 0]) for axis in axes]))) for end in (0, -1)
    )
    own = {key for axis in moved for key in axis.keys}
    return {key for key in {*before, *after} - own if before.get(key) != after.get(key)}


def encode(value: Any) -> str:
    """A value as Hydra's grammar reads it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _runs_per_job(wanted: int | str, batches: Sequence[Experiment], one_job: bool) -> int:
    """All runs in one job on this machine; for other launchers one long run, or so many runs that MAX_JOBS jobs do."""
    if wanted == "auto":
        total = sum(batch.runs for batch in batches)
        if one_job:
            return total
        # Rounded up, so that there are never more than MAX_JOBS jobs.
        return 1 if any(batch.one_run_per_job for batch in batches) else -(-total // MAX_JOBS)
    require(isinstance(wanted, int) and wanted >= 1, "hydra.sweeper.runs_per_job", wanted, "must be auto or at least 1")
    return int(wanted)


def outlook(batches: Sequence[Experiment], runs_per_job: int) -> str:
    """Describe what would be trained: batches, runs, jobs, and about how long and how large."""
    total, seconds = sum(batch.runs for batch in batches), 0.0
    lines = []
    for batch in batches:
        takes = batch.estimated_seconds()
        seconds += takes
        kind = " ".join(f"{key}={value}" for key, value in batch.choices.items())
        mebibytes = batch.bytes_at_once() / 2**20
        lines.append(f"{batch.runs:8d} runs  {batch.shape()}  {kind}  about {mebibytes:.0f} MiB, {takes:.1f} s")
    lines.append(f"{total} runs in {-(-total // runs_per_job)} jobs of at most {runs_per_job}, about {seconds:.1f} s in all")
    return "\n".join(lines)
