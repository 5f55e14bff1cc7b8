"""The plan of a sweep as sweep.yaml holds it: for each grid a configuration and the axes over it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lnt.files import DamagedFile, is_plain, read_yaml, write_yaml


def write_plan(directory: Path, plan: Mapping[str, Any]) -> None:
    """Write DIR/sweep.yaml: YAML, but the points of an axis are one word, in JSON.

    YAML takes a millisecond for ten points, and each of a thousand jobs reads the plan.
    """
    groups = [
        {**group, "axes": [{**axis, "points": json.dumps(axis["points"], separators=(",", ":"))} for axis in group["axes"]]}
        for group in plan["groups"]
    ]
    write_yaml(directory / "sweep.yaml", {**plan, "groups": groups})


def read_plan(file: Path) -> dict[str, Any]:
    """The plan in a file of this or an earlier version, once it has the form of one. Raises DamagedFile."""
    plan = read_yaml(file)
    try:
        for axis in (axis for group in plan["groups"] for axis in group["axes"]):
            if isinstance(axis["points"], str):
                axis["points"] = json.loads(axis["points"])
    except (KeyError, TypeError, ValueError, RecursionError):
        plan = {}
    if not _is_plan(plan):
        raise DamagedFile(
            file, "is no plan of a sweep: it should hold groups of a configuration and axes, and the size of jobs"
        )
    return plan


def planned_runs(plan: Mapping[str, Any]) -> int:
    """How many runs a plan holds."""
    return sum(math.prod(len(axis["points"]) for axis in group["axes"]) for group in plan["groups"])


def _is_plan(plan: Mapping[str, Any]) -> bool:
    groups, size = plan.get("groups"), plan.get("runs_per_job")
    return isinstance(groups, list) and all(map(_is_group, groups)) and isinstance(size, int) and size >= 1


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
