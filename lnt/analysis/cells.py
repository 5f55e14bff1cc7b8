"""Cells of a sweep: runs that differ by seed alone, with their means, intervals, and what is missing."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lnt.analysis.load import RunTables
from lnt.column_names import COMPONENTS, SEEDS
from lnt.errors import ConfigError
from lnt.intervals import half_width
from lnt.plan_file import asked_cells, roles
from lnt.settings import flatten

AT_ONCE = 16  # columns of values that are averaged together
FILES = ("data.file", "noise.file")  # keys whose values are paths


def planned_cells(plans: Sequence[Mapping[str, Any]], keys: list[str]) -> pd.DataFrame:
    """The cells that sweep plans name: a row for each combination of `keys`, with the number of runs `planned` in it."""
    rows: Counter[tuple] = Counter()
    for group, refine in ((group, plan.get("refine")) for plan in plans for group in plan["groups"]):
        given = dict(flatten(group["config"])) | group["config"]["choices"]
        fixed = {key: given.get(key) for key in keys}
        if refine:
            rows.update(_asked_cells(refine, group["axes"], fixed, keys))
            continue
        # Axes that no key of the cells belongs to (seeds, say) only multiply the number of runs in each cell.
        inner = [axis for axis in group["axes"] if not set(axis["keys"]) & set(keys)]
        outer = [axis for axis in group["axes"] if set(axis["keys"]) & set(keys)]
        # With no such axis the product is empty: one run.
        runs = math.prod(len(axis["points"]) for axis in inner)
        # An axis may have several keys that advance together, so a point is a tuple of values.
        names = [key for axis in outer for key in axis["keys"]]
        for points in itertools.product(*(axis["points"] for axis in outer)):
            chosen = fixed | dict(zip(names, itertools.chain(*points), strict=True))
            rows[_cell(chosen, keys)] += runs
    return pd.DataFrame([(*cell, runs) for cell, runs in rows.items()], columns=[*keys, "planned"])


def _asked_cells(
    refine: Mapping[str, Any], axes: Sequence[Mapping[str, Any]], fixed: Mapping[str, Any], keys: list[str]
) -> Counter[tuple]:
    """The runs that were asked for in each cell of a sweep with refine=boundary."""
    x, y = (axes[number] for number in roles([axis["keys"] for axis in axes])[0])
    rows: Counter[tuple] = Counter()
    for (i, j), seeds in asked_cells(refine).items():
        place = {x["keys"][0]: x["points"][i][0], y["keys"][0]: y["points"][j][0]}
        rows[_cell({**fixed, **place}, keys)] += seeds
    return rows


def _cell(chosen: Mapping[str, Any], keys: list[str]) -> tuple:
    """The values of `keys` as the table of runs has them."""
    return tuple(as_in_table(chosen.get(key)) for key in keys)


def as_in_table(value: Any) -> Any:
    """A configured value as the table of runs has it: there, a list is text."""
    return json.dumps(value) if isinstance(value, list) else value


def refinement(plans: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """What sweeps with refine=boundary look for: their `value` and `level`; None unless all plans are of these and agree."""
    found = [plan.get("refine") for plan in plans]
    same = len({refine and (refine["value"], refine["level"]) for refine in found}) == 1
    return found[0] if same else None


def planned_values(plans: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values that sweep plans give each configuration key, without repeats; axes come first, in the order of the plans.

    A key that some of the planned runs do not have is null (None) in these, as in the table of runs.
    """
    groups = [group for plan in plans for group in plan["groups"]]
    fixed = [dict(flatten(group["config"])) | group["config"]["choices"] for group in groups]
    # Keys of one axis advance together: its points, transposed, are the values of each.
    columns = [[(axis["keys"], list(zip(*axis["points"], strict=True))) for axis in group["axes"]] for group in groups]
    moved = [{key: values for axis in part for key, values in zip(*axis, strict=True)} for part in columns]
    found: dict[str, dict[str, Any]] = {key: {} for part in (*moved, *fixed) for key in part}
    for values, rest in zip(moved, fixed, strict=True):
        for key, known in found.items():
            # Known by their text, since a value may be a list.
            known.update((repr(value), value) for value in values.get(key, [rest.get(key)]))
    return {key: list(known.values()) for key, known in found.items()}


def swept_keys(results: RunTables) -> list[str]:
    """The configuration keys with more than one value, seeds left out: as planned and in this order, then any others.

    The table of runs alone would not do: while a sweep is running, a key may have one value there. A key that another one sets
    (data.dim_over_n sets data.dim, and an option its own settings) is no key of its own.
    """
    columns, values = config_columns(results.runs), planned_values(results.plans)
    planned = [key for key, points in values.items() if len(points) > 1 and key not in SEEDS and key in columns]
    found = list(dict.fromkeys([*planned, *swept(results.runs)]))
    return [key for key in found if not (_may_be_set(key, values, found) and _is_set(results.runs, key, planned))]


def _may_be_set(key: str, planned: Mapping[str, list[Any]], found: list[str]) -> bool:
    """Whether others may set a key: the plans give it one value at most, but for null where it belongs to other options."""
    given = [value for value in planned.get(key, []) if value is not None]
    own_option = key not in COMPONENTS and key.split(".")[0] in found
    return key in planned and (not given or (len(given) == 1 and own_option and None in planned[key]))


def _is_set(runs: pd.DataFrame, key: str, planned: list[str]) -> bool:
    """Whether the key has one value wherever the other planned keys and the options have."""
    others = [other for other in dict.fromkeys([*planned, *(group for group in COMPONENTS if group in runs)]) if other != key]
    return follows(runs, key, others)


def follows(runs: pd.DataFrame, key: str, keys: list[str]) -> bool:
    """Whether a key has one value wherever these have: one setting that sets another, as data.dim_over_n does, is one axis."""
    return bool(keys) and bool((runs.groupby(keys, dropna=False, observed=True)[key].nunique(dropna=False) <= 1).all())


def typed_plan(results: RunTables, keys: list[str]) -> pd.DataFrame:
    """`planned_cells` of all plans, with the column types of the table of runs, so that the cells of both align."""
    types = {key: results.runs[key].dtype for key in keys}
    try:
        return planned_cells(results.plans, keys).astype(types)
    except (ValueError, TypeError):
        raise ConfigError("path", results.path, "the plan in sweep.yaml has other kinds of values than the runs have") from None


def config_columns(runs: pd.DataFrame) -> list[str]:
    """The columns that hold configuration: those between run_id and status."""
    columns = list(runs.columns)
    return columns[columns.index("run_id") + 1 : columns.index("status")]


def swept(runs: pd.DataFrame) -> list[str]:
    """The configuration keys that take more than one value in a table of runs, seeds left out."""
    return [key for key in config_columns(runs) if key not in SEEDS and varies(runs[key])]


def varies(column: pd.Series) -> bool:
    """Whether a column has more than one value; null is one too, that of runs with another option."""
    first = column.iloc[:1]
    if first.isna().all():  # of an empty column too
        return bool(column.notna().any())
    # Not nunique: to count all values takes twice as long, and most settings have one.
    return bool(column.ne(first.item()).fillna(True).any())


def outcome_columns(runs: pd.DataFrame) -> list[str]:
    """The numeric columns after the configuration."""
    return [key for key in runs.columns[len(config_columns(runs)) + 1 :] if pd.api.types.is_numeric_dtype(runs[key])]


def check_column(runs: pd.DataFrame, key: str, column: str, allowed: list[str]) -> None:
    """Raise ConfigError, listing the allowed columns, if `column` is not one of them."""
    if column not in allowed:
        raise ConfigError(key, column, f"no such column; there are {', '.join(allowed)}{meant(column, allowed)}")


def meant(name: str, known: Sequence[str]) -> str:
    """The known name that is closest to one that is not, as the rest of a sentence; "" if none is close."""
    near = get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def title_of(keys: list[str], values: tuple) -> str:
    """key=value, key=value; keys without a value, which belong to other options, are left out unless there is no other."""
    pairs = [(key, value) for key, value in zip(keys, values, strict=True) if not pd.isna(value)]
    if not pairs:
        return ", ".join(f"{key}=null" for key in keys)
    return ", ".join(f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}" for key, value in pairs)


def conditions(runs: pd.DataFrame, keys: list[str] | None = None) -> dict[str, pd.DataFrame]:
    """Runs grouped by `keys` (default: all swept keys, so that a group differs by seed alone), under a title each."""
    keys = swept(runs) if keys is None else keys
    if not keys:
        return {"": runs}
    names = {key: _names(runs[key].dropna().unique().tolist()) for key in FILES if key in keys}

    def title(values: tuple) -> str:
        return title_of(keys, tuple(names.get(key, {}).get(value, value) for key, value in zip(keys, values, strict=True)))

    return {title(values): group for values, group in runs.groupby(keys, dropna=False, sort=True)}


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Paths by as few of their last parts as tell them apart: most often the names of the files."""
    parts = {path: Path(path).parts for path in paths}
    for count in range(1, max(map(len, parts.values()), default=0) + 1):
        names = {path: "/".join(own[-count:]) for path, own in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {}


def cells(results: RunTables, keys: list[str], values: list[str]) -> pd.DataFrame:
    """For each combination of `keys`: n completed, diverged, failed and missing runs, and of each value column the mean, sd and
    95 % confidence interval over the completed ones.

    Runs of one seed share its random streams: their mean is one value, however many other keys it runs over. The interval over
    these S values is Student's t, mean -/+ t_{S-1} sd / sqrt(S), and NaN below lnt.intervals.FEWEST_SEEDS of them.
    Without a plan, a cell misses what it has less than the fullest cell.
    """
    # dropna=False: keys of one option are null in runs of the others, and these have cells too.
    grouped = results.runs.groupby(keys, dropna=False)
    # Some values at a time: they are copied, and of a million runs all of them take as much memory as the runs.
    few = [values[start : start + AT_ONCE] for start in range(0, len(values), AT_ONCE)]
    parts = [_moments(seed_means(results.runs, keys, part).groupby(keys, dropna=False)[part]) for part in few]
    counts = {"n": grouped.size()}
    counts |= {name: getattr(results, name).groupby(keys, dropna=False).size() for name in ("diverged", "failed")}
    if results.plans:
        counts["planned"] = typed_plan(results, keys).groupby(keys, dropna=False)["planned"].sum()
    table = pd.DataFrame(counts).fillna(0).astype(int)
    there = table[["n", "diverged", "failed"]].sum(axis=1)
    # Clipped: more runs than planned, as after a second sweep, are not a negative number of missing ones.
    table["missing"] = ((table.pop("planned") if results.plans else there.max()) - there).clip(lower=0)
    measured = pd.DataFrame(
        {
            f"{value}_{kind}": of[value]
            for part, kinds in zip(few, parts, strict=True)
            for value in part
            for kind, of in kinds.items()
        }
    )
    return table.join(measured).rename_axis(keys).reset_index()


def seed_means(runs: pd.DataFrame, keys: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """The mean of each value over the runs of each seed where `keys` agree: the columns `keys` and `values`.

    A value that is not finite counts as missing. The order is that of the runs.
    """
    numbers = runs[[*values]].astype(float).replace([np.inf, -np.inf], np.nan)
    seeds = [key for key in SEEDS if key in runs and key not in keys and varies(runs[key])]
    places = [*keys, *seeds]
    table = runs[places].join(numbers)
    # Mostly a seed has one run in each place, and a table of a million runs need not be grouped.
    if seeds and table.duplicated(places).any():
        table = table.groupby(places, sort=False, dropna=False)[[*values]].mean().reset_index()
    return table[[*keys, *values]]


def _moments(grouped: Any) -> dict[str, pd.DataFrame]:
    """Mean, standard deviation and ends of the 95 % interval in each group of values that are one for each seed."""
    mean, sd = grouped.mean(), grouped.std()
    half = half_width(sd, grouped.count())
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}


def over_seeds(runs: pd.DataFrame, place: list[str], values: Sequence[str]) -> pd.DataFrame:
    """VALUE_mean, VALUE_low and VALUE_high of each value: its mean and 95 % interval over seeds where columns `place` agree.

    The order is that in which places first come up in `runs`.
    """
    parts = _moments(seed_means(runs, place, values).groupby(place, sort=False, dropna=False)[[*values]])
    return pd.concat([parts[name].add_suffix(f"_{name}") for name in ("mean", "low", "high")], axis=1)


def is_axis(column: pd.Series) -> bool:
    """Whether a configuration column holds numbers that can be an axis."""
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    return bool(numeric and column.notna().any())


def numeric_axes(results: RunTables) -> list[str]:
    """The swept keys that can be axes: numbers, and given for all runs. In the order of the plan, those of two values last."""
    runs, planned = results.runs, planned_values(results.plans)
    given = [key for key in swept_keys(results) if None not in planned.get(key, [])]
    axes = [key for key in given if is_axis(runs[key]) and runs[key].notna().all()]
    # Two columns make no diagram, but two panels of one.
    return sorted(axes, key=lambda key: len(planned.get(key, ())) == 2)


def is_product(results: RunTables, keys: list[str]) -> bool:
    """Whether most combinations of the swept values are planned (without a plan: were run), not several grids side by side.

    So are those of refine=boundary, though few are trained.
    """
    if refinement(results.plans):
        return True
    table = planned_cells(results.plans, keys) if results.plans else results.runs
    # Other keys belong to some of the options only.
    common = [key for key in keys if table[key].notna().all()]
    return len(table[common].drop_duplicates()) > math.prod(table[key].nunique() for key in common) / 4
