"""Turn override lines into a plan: the composed configurations, the axes to sweep over each, and the size of jobs."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lnt.column_names import COMPONENTS
from lnt.errors import NO_OPTION, require
from lnt.runs.experiments_from_settings import expand, with_classes, without_classes
from lnt.settings import Axis, flatten
from lnt.sweeps.axes import axes_of, encode
from lnt.sweeps.fitting_options import fitting_grids
from lnt.sweeps.hydra_internals import Composer
from lnt.sweeps.refinement import Refinement, check_grid
from lnt.training.experiment import Experiment

MAX_RUNS = 10**8  # of a grid
MAX_COMPOSED = 10_000  # configurations of a grid that Hydra composes one by one, in about 10 ms each
MAX_JOBS = 32  # of an automatic plan for a launcher that runs jobs side by side
BLOCK = 200_000  # runs that are validated at a time
Classes = Mapping[tuple[str, str], Any]  # (group, option) -> the class behind it


@dataclass(frozen=True)
class Plan:
    """Composed configurations, each with the axes to sweep over it, how many runs make a job, and which of them to train."""

    groups: tuple[tuple[dict[str, Any], tuple[Axis, ...]], ...]
    runs_per_job: int
    refine: Refinement | None = None  # None: all runs

    def runs(self) -> int:
        """How many runs there are; they are numbered through all groups."""
        return sum(map(_size, self.groups))

    @cached_property
    def asked(self) -> np.ndarray | None:
        """The numbers of the runs that are to be trained so far, in ascending order; None: all."""
        return self.refine.asked(*self.groups[0]) if self.refine else None

    def runs_asked(self) -> int:
        """How many runs are to be trained so far."""
        return self.runs() if self.asked is None else len(self.asked)

    def asked_of_job(self, job: int) -> np.ndarray | None:
        """For each run of a job whether it is to be trained; None: all."""
        if self.asked is None:
            return None
        first = job * self.runs_per_job
        last = min(first + self.runs_per_job, self.runs())
        found = np.zeros(last - first, bool)
        found[self.asked[slice(*self.asked.searchsorted([first, last]))] - first] = True
        return found

    def jobs(self) -> range:
        """The numbers of the jobs."""
        return range(-(-self.runs() // self.runs_per_job))

    def batches(self, first: int = 0, last: int | None = None) -> Iterator[Experiment]:
        """The runs numbered `first` to `last` - 1, in batches that share shapes; validates their values. Raises ConfigError."""
        offset, last = 0, self.runs() if last is None else last
        for config, axes in self.groups:
            size = _size((config, axes))
            if first < offset + size and offset < last:
                yield from expand(config, axes, max(first - offset, 0), min(last - offset, size))
            offset += size

    def of_job(self, job: int) -> list[Experiment]:
        """The runs of one job."""
        return list(self.batches(job * self.runs_per_job, (job + 1) * self.runs_per_job))

    def in_blocks(self) -> Iterator[Experiment]:
        """All runs, in batches of at most BLOCK runs, so that a plan of any size fits into memory."""
        total = self.runs()
        for first in range(0, total, BLOCK):
            yield from self.batches(first, min(first + BLOCK, total))

    def classes(self) -> dict[tuple[str, str], Any]:
        """The class behind each option that is used."""
        return {
            (group, config["choices"][group]): config[group]["_target_"] for config, _ in self.groups for group in COMPONENTS
        }

    def to_plain(self) -> dict[str, Any]:
        """The plan as YAML writes it: components are known by their options, since classes move."""
        groups = [{"config": without_classes(config), "axes": [asdict(axis) for axis in axes]} for config, axes in self.groups]
        # Through JSON: a new plan is compared with one from a file, where tuples are lists.
        refine = {"refine": asdict(self.refine)} if self.refine else {}
        return json.loads(json.dumps({**refine, "groups": groups, "runs_per_job": self.runs_per_job}))

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
        return cls(tuple(groups), plain["runs_per_job"], Refinement(**plain["refine"]) if "refine" in plain else None)


def _size(group: tuple[dict[str, Any], tuple[Axis, ...]]) -> int:
    return math.prod(len(axis.points) for axis in group[1])


def plan(
    grids: Sequence[Sequence[str]],
    composer: Composer,
    runs_per_job: int | str,
    one_job: bool,
    refine: Refinement | None = None,
) -> Plan:
    """Turn the override lines of one or several grids into a plan: the union of what each of them spans.

    `one_job`: what runs_per_job=auto means where jobs run one after another.
    """
    fitting = [grid for overrides in grids for grid in fitting_grids(overrides, composer)]
    groups = [group for overrides in fitting for group in _groups(overrides, composer)]
    # The size of jobs depends on the batches, and only a plan makes batches; 1 is replaced at once.
    found = Plan(tuple(groups), 1)
    if refine:
        check_grid(refine, found.groups)
    return Plan(found.groups, _runs_per_job(runs_per_job, found, one_job), refine)


def _groups(overrides: Sequence[str], composer: Composer) -> list[tuple[dict[str, Any], tuple[Axis, ...]]]:
    """Compose one configuration for each combination of group choices, with the axes to sweep over it.

    Values of other axes are written into the composed configuration; an axis on which more than its own key depends (by
    interpolation) is composed value by value instead.
    """
    # A dictionary: where a study and the command line sweep the same key, the command line comes later and wins.
    parsed = {o.key_or_group: o for o in composer.parse(overrides)}
    fixed = [str(o.input_line) for o in parsed.values() if not o.is_sweep_override()]
    axes = axes_of([o for o in parsed.values() if o.is_sweep_override()])
    check_axes(axes)

    composed_from: dict[tuple[str, ...], dict[str, Any]] = {}

    def compose(points: Sequence[tuple[Axis, tuple[Any, ...]]]) -> dict[str, Any]:
        lines = [f"{key}={encode(value)}" for axis, point in points for key, value in zip(axis.keys, point, strict=True)]
        # In one order, so that what was composed to look for dependent keys is not composed again.
        if (asked := tuple(sorted(lines))) not in composed_from:
            composed_from[asked] = composer.compose(fixed + list(asked))
        return composed_from[asked]

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


def check_axes(axes: Sequence[Axis]) -> None:
    """Raise ConfigError for a grid of too many runs, or an axis of options with a value that is no name."""
    runs = math.prod(len(axis.points) for axis in axes)
    require(runs <= MAX_RUNS, "sweep", f"{runs} runs", f"must be at most {MAX_RUNS:.0e}; make several sweeps of it")
    for axis in axes:
        for key, values in zip(axis.keys, zip(*axis.points, strict=True), strict=True):
            named = key not in (*COMPONENTS, "experiment") or all(isinstance(value, str) for value in values)
            require(named, key, list(values), NO_OPTION)


def _dependent_keys(moved: Sequence[Axis], axes: Sequence[Axis], compose: Callable[..., dict[str, Any]]) -> set[str]:
    """The keys, other than their own, that change between the first and the last points of the axes `moved`."""
    before, after = (
        dict(flatten(compose([(axis, axis.points[end if axis in moved else 0]) for axis in axes]))) for end in (0, -1)
    )
    own = {key for axis in moved for key in axis.keys}
    return {key for key in {*before, *after} - own if before.get(key) != after.get(key)}


def _runs_per_job(wanted: int | str, found: Plan, one_job: bool) -> int:
    """All runs in one job on this machine; for other launchers one long run, or so many runs that MAX_JOBS jobs do."""
    # A list, so that each value is looked at.
    long = True in [batch.one_run_per_job for batch in found.in_blocks()]
    if wanted == "auto":
        # Rounded up, so that there are never more than MAX_JOBS jobs.
        return found.runs() if one_job else 1 if long else -(-found.runs() // MAX_JOBS)
    require(isinstance(wanted, int) and wanted >= 1, "hydra.sweeper.runs_per_job", wanted, "must be auto or at least 1")
    return int(wanted)


def outlook(found: Plan) -> str:
    """Describe what would be trained: batches, runs, jobs, and about how long and how large."""
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], Experiment] = {}
    for batch in found.in_blocks():
        look = batch.shape(), " ".join(f"{key}={value}" for key, value in batch.choices.items())
        counts[look] += batch.runs
        examples.setdefault(look, batch)
    seconds, lines = 0.0, []
    for (shape, kind), batch in examples.items():
        runs = counts[shape, kind]
        takes = batch.estimated_seconds() * runs / batch.runs
        seconds += takes
        lines.append(f"{runs:8d} runs  {shape}  {kind}  about {batch.bytes_at_once() / 2**20:.0f} MiB, {takes:.1f} s")
    total = f"{found.runs()} runs in {len(found.jobs())} jobs of at most {found.runs_per_job}"
    return "\n".join(
        [
            *lines,
            f"{total}, about {seconds:.1f} s in all",
            *([found.refine.outlook(found.groups[0][1])] if found.refine else []),
        ]
    )
