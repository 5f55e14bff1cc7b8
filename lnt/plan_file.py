"""The plan of a sweep as sweep.yaml holds it: for each grid a configuration and the axes over it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lnt.files import DamagedFile, is_plain, read_yaml


def read_plan(file: Path) -> dict[str, Any]:
    """The plan in a file, once it has the form of one. Raises DamagedFile."""
    plan = read_yaml(file)
    if not _is_plan(plan):
        raise DamagedFile(
            file, "is no plan of a sweep: it should hold groups with a configuration and axes, and the size of jobs"
        )
    return plan


def planned_runs(plan: Mapping[str, Any]) -> int:
    """How many runs a plan holds."""
    return sum(math.prod(len(axis["points"]) for axis in group["axes"]) for group in plan["groups"])


def _is_plan(plan: Mapping[str, Any]) -> bool:
    groups, size = plan.get("groups"), plan.get("runs_per_job", 1)
    return isinstance(groups, list) and all(map(_is_group, groups)) and isinstance(size, int) and size >= 1


def _is_group(group: object) -> bool:
    if not isinstance(group, dict) or not isinstance(group.get("axes"), list):
        return False
    config = group.get("config")
    choices = config.get("choices") if isinstance(config, dict) else None
    # Options become names of files below conf/.
    named = isinstance(choices, dict) and all(is_plain(name) and is_plain(option) for name, option in choices.items())
    return named and all(map(_is_axis, group["axes"]))


def _is_axis(axis: object) -> bool:
    if not isinstance(axis, dict):
        return False
    keys, points = axis.get("keys"), axis.get("points")
    if not isinstance(keys, list) or not isinstance(points, list) or not all(map(is_plain, keys)):
        return False
    return bool(keys) and all(isinstance(point, list) and len(point) == len(keys) for point in points)
