"""The plan of a sweep as sweep.yaml holds it: for each grid a configuration and the axes over it."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lnt.column_names import SEEDS
from lnt.files import DamagedFile, is_plain, read_yaml, write_yaml


def write_plan(directory: Path, plan: Mapping[str, Any]) -> None:
    """Write DIR/sweep.yaml: YAML, but the points of an axis are one word, in JSON.

    YAML takes a millisecond for ten points, and each of a thousand jobs reads the plan.
    """
    groups = [
        {**group, "axes": [{**axis, "points": json.dumps(axis["points"], separators=(",", ":"))} for axis in group["axes"]]}
        for group in plan["groups"]
    ]
    refine = plan.get("refine")
    # So are the cells of a round: x, y and seeds, hundreds of them.
    words = {"refine": {**refine, "rounds": [json.dumps(r, separators=(",", ":")) for r in refine["rounds"]]}} if refine else {}
    write_yaml(directory / "sweep.yaml", {**plan, "groups": groups, **words})


def read_plan(file: Path) -> dict[str, Any]:
    """The plan in a file of this or an earlier version, once it has the form of one. Raises DamagedFile."""
    plan = read_yaml(file)
    try:
        for axis in (axis for group in plan["groups"] for axis in group["axes"]):
            if isinstance(axis["points"], str):
                axis["points"] = json.loads(axis["points"])
        if "refine" in plan:
            plan["refine"]["rounds"] = [json.loads(cells) for cells in plan["refine"]["rounds"]]
    except (KeyError, TypeError, ValueError, RecursionError):
        plan = {}
    if not _is_plan(plan):
        raise DamagedFile(
            file, "is no plan of a sweep: it should hold groups of a configuration and axes, and the size of jobs"
        )
    return plan


def planned_runs(plan: Mapping[str, Any]) -> int:
    """How many runs a plan asks for."""
    if "refine" in plan:
        return sum(asked_cells(plan["refine"]).values())
    return sum(math.prod(len(axis["points"]) for axis in group["axes"]) for group in plan["groups"])


def asked_cells(refine: Mapping[str, Any]) -> dict[tuple[int, int], int]:
    """The cells that the rounds of refine=boundary have asked for: (number of x, number of y) -> how many of the seeds."""
    return {(x, y): seeds for cells in refine["rounds"] for x, y, seeds in cells}


def roles(keys: Sequence[Sequence[str]]) -> tuple[list[int], list[int]]:
    """The numbers of the axes with these keys that span a diagram, x before y, and of those that sweep seeds only."""
    seeds = [number for number, axis in enumerate(keys) if set(axis) <= set(SEEDS)]
    return [number for number in range(len(keys)) if number not in seeds], seeds


def _is_plan(plan: Mapping[str, Any]) -> bool:
    groups, size = plan.get("groups"), plan.get("runs_per_job")
    if not (isinstance(groups, list) and all(map(_is_group, groups)) and isinstance(size, int) and size >= 1):
        return False
    return "refine" not in plan or _is_refinement(plan["refine"], groups)


def _is_refinement(refine: object, groups: list[dict[str, Any]]) -> bool:
    """Whether this is a boundary that is looked for on the grid of these groups."""
    if not isinstance(refine, dict) or set(refine) != {"value", "level", "width", "budget", "rounds", "ended"}:
        return False
    numbers = [refine["level"], refine["width"], *([] if refine["budget"] is None else [refine["budget"]])]
    said = is_plain(refine["value"]) and isinstance(refine["ended"], str)
    if len(groups) != 1 or not said or not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        return False
    axes = groups[0]["axes"]
    spanning, seeds = roles([axis["keys"] for axis in axes])
    if (len(spanning), len(seeds)) != (2, 1):
        return False
    sizes = [len(axes[number]["points"]) for number in (*spanning, *seeds)]
    return all(isinstance(cells, list) and all(_is_cell(cell, sizes) for cell in cells) for cells in refine["rounds"])


def _is_cell(cell: object, sizes: list[int]) -> bool:
    if not isinstance(cell, list) or len(cell) != 3 or not all(type(number) is int for number in cell):
        return False
    x, y, seeds = cell
    return 0 <= x < sizes[0] and 0 <= y < sizes[1] and 1 <= seeds <= sizes[2]


def _is_group(group: object) -> bool:
    if not isinstance(group, dict) or not isinstance(group.get("axes"), list):
        return False
    config = group.get("config")
    choices = config.get("choices") if isinstance(config, dict) else None
    # Options become names of files below conf/.
    named = isinstance(choices, dict) and all(is_plain(name) and is_plain(option) for name, option in choices.items())
    if not (named and isinstance(config, dict) and isinstance(choices, dict)):
        return False
    return (
        "data" in choices and all(isinstance(config.get(name), dict) for name in choices) and all(map(_is_axis, group["axes"]))
    )


def _is_axis(axis: object) -> bool:
    if not isinstance(axis, dict):
        return False
    keys, points = axis.get("keys"), axis.get("points")
    if not isinstance(keys, list) or not isinstance(points, list) or not all(map(is_plain, keys)):
        return False
    return bool(keys and points) and all(
        isinstance(point, list) and len(point) == len(keys) and not any(isinstance(value, dict) for value in point)
        for point in points
    )
