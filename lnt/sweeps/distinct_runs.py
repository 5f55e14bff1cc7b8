"""Whether all runs of a plan differ: a run that two points name would be missing for ever, or counted twice."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lnt.errors import require
from lnt.runs.experiments_from_settings import expand, with_values
from lnt.settings import Axis
from lnt.sweeps.plan import Plan
from lnt.training.experiment import Experiment


def check_distinct(plan: Plan) -> None:
    """Raise ConfigError if two points of the sweep's grids are one and the same run."""
    if _differ_by_their_axes(plan):
        return
    twice = _repeated(list(plan.batches()))
    allowed = "points name a run that another point names too; drop values that repeat, and axes that change no result"
    require(twice == 0, "sweep", twice, allowed)


def _differ_by_their_axes(plan: Plan) -> bool:
    """Whether the axes alone show that all runs differ; they are short, and a grid of them may have 10^7 points."""
    fixed, varying = [], set()
    for config, axes in plan.groups:
        begin = with_values(config, *_points(axes, 0))
        along = [_columns(expand(begin, [axis])) for axis in axes]
        for number, columns in enumerate(along):
            # What changes along this axis only: points that differ there differ whatever the other axes say.
            others = {key for other in along[:number] + along[number + 1 :] for key in other}
            own = pd.DataFrame({key: values for key, values in columns.items() if key not in others})
            if len(axes[number].points) > 1 and (own.empty or own.duplicated().any()):
                return False
        fixed.append(_shared(next(expand(begin, []))))
        varying |= {key for columns in along for key in columns} | {key for axis in axes for key in axis.keys}
    # Runs of two grids differ if anything does that changes in neither.
    left = {tuple(sorted((key, value) for key, value in group.items() if key not in varying)) for group in fixed}
    return len(left) == len(plan.groups)


def _points(axes: Sequence[Axis], number: int) -> tuple[list[str], list[Any]]:
    return [key for axis in axes for key in axis.keys], [value for axis in axes for value in axis.points[number]]


def _columns(batches: Iterable[Experiment]) -> dict[str, np.ndarray]:
    """What the hashes are made of and not all runs of the batches share: key by key, the values of all runs."""
    rows = [(batch.runs, {**_shared(batch), **batch.identity()[1]}) for batch in batches]
    columns = {}
    for key in {key: None for _, row in rows for key in row}:
        values = [row.get(key) for _, row in rows]
        if all(isinstance(value, str) and value == values[0] for value in values):
            continue
        parts = [
            v if isinstance(v, np.ndarray) else np.full(runs, v, object) for (runs, _), v in zip(rows, values, strict=True)
        ]
        column: np.ndarray = np.concatenate(parts)
        if (column != column[0]).any():
            columns[key] = column
    return columns


def _shared(batch: Experiment) -> Mapping[str, str]:
    """The values that the runs of a batch share, as the template of their hashes has them."""
    lines = (line.partition("=") for line in batch.identity()[0].split("\n"))
    return {key: text for key, _, text in lines if text != "%s"}


def _repeated(batches: Sequence[Experiment]) -> int:
    """How many runs repeat another one."""
    identities = [(batch.runs, *batch.identity()) for batch in batches]
    if len({tuple(varying) for _, _, varying in identities}) > 1:
        # A key varies in one grid and is shared in another: only the ids tell that two of their points are one run.
        return int(pd.Series([run for batch in batches for run in batch.run_ids()]).duplicated().sum())
    # The inputs of the ids, since a large grid would wait for a hash of each run.
    points = [pd.DataFrame({"shared": shared, **varying}, range(runs)) for runs, shared, varying in identities]
    return int(pd.concat(points).duplicated().sum())
