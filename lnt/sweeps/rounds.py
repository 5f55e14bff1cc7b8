"""The rounds of a sweep with refine=boundary, from its results: what to ask for next, or how the search has ended."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lnt.errors import require
from lnt.plan_file import asked_cells
from lnt.settings import Axis
from lnt.sweeps.missing_runs import job_directories, rows
from lnt.sweeps.next_round import Search
from lnt.sweeps.refinement import Refinement, grid_axes, points_of


def with_next_round(refine: Refinement, path: Path, axes: Sequence[Axis]) -> Refinement:
    """With the next round, or with the word of how the search has ended, by the results of the sweep at `path`."""
    search = refine.search(axes)
    x, y, _ = map(points_of, grid_axes(axes))
    asked = np.zeros((len(y), len(x)), int)
    for (i, j), seeds in asked_cells({"rounds": refine.rounds}).items():
        asked[j, i] = seeds
    # The search sees ascending axes; rounds name points by their place in the plan.
    ascending = np.ix_(y.argsort(), x.argsort())
    values = measured(path, refine.value, grid_axes(axes), int(asked.max()))
    # Rows that were not asked for are there if the plan was lost; they must not change what is chosen.
    values = np.where(np.arange(values.shape[2]) < asked[..., None], values, np.nan)[ascending]
    wanted = asked.copy()
    wanted[ascending] = search.next(values, asked[ascending])
    if (wanted == asked).all():
        return replace(refine, ended=_told(refine, search, values, asked[ascending]))
    cells = [[int(i), int(j), int(wanted[j, i])] for j, i in np.argwhere(wanted > asked)]
    return replace(refine, rounds=[*refine.rounds, cells])


def _told(refine: Refinement, search: Search, values: np.ndarray, asked: np.ndarray) -> str:
    """How the search has ended, in words."""
    share = search.found(values, asked).share
    crosses = int(np.isfinite(share).sum())
    if not crosses:
        return f"no boundary: the mean of {refine.value} crosses {refine.level:g} in none of {asked.any(0).sum()} columns"
    wide = int((share > refine.width).sum())
    why = f"; {wide} are wider than {refine.width:g}: budget or seeds are spent" if wide else ""
    of = f"{asked.sum()} of {asked.size * search.seeds} runs in {len(refine.rounds)} rounds"
    known = f"boundary in {crosses} of {len(share)} columns: {refine.value} crosses {refine.level:g}"
    return f"{known}, band {np.nanmean(share):.3g} of the axis in the mean, {np.nanmax(share):.3g} at most{why}; {of}"


def measured(path: Path, value: str, axes: Sequence[Axis], seeds: int) -> np.ndarray:
    """A column of the completed runs, [Y, X, seeds] at the points of x and y and the first of the seeds; NaN where none is."""
    keys, places = [axis.keys[0] for axis in axes], [points_of(axis) for axis in axes]
    found = np.full((len(places[1]), len(places[0]), seeds), np.nan)
    for part in (part for directory in job_directories(path) for part in rows(directory, (*keys, value, "status"))):
        text = next((name for name in (*keys, value) if not pa.types.is_primitive(part[name].type)), "")
        require(not text, "hydra.sweep.dir", path, f"holds a table of runs whose column {text} is no number")
        table = part.filter(pc.equal(part["status"].cast(pa.string()), "completed"))
        columns = [table[name].cast(pa.float64()).to_numpy() for name in (*keys, value)]
        x, y, seed = (_places(points, column) for points, column in zip(places, columns[:3], strict=True))
        use = (x >= 0) & (y >= 0) & (seed >= 0) & (seed < seeds)
        found[y[use], x[use], seed[use]] = columns[3][use]
    return found


def _places(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """At which of the points each value is; -1 at none."""
    order = points.argsort()
    found = order[np.searchsorted(points[order], values).clip(max=len(points) - 1)]
    return np.where(points[found] == values, found, -1)
