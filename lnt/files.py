"""Write files so that they appear whole or not at all."""

import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

# Written in C where libyaml is there, ten times as fast.
LOADER, DUMPER = getattr(yaml, "CSafeLoader", yaml.SafeLoader), getattr(yaml, "CSafeDumper", yaml.SafeDumper)
TAIL_BYTES = 4096  # of a log, which may be large


def write_atomically(target: Path, write: Callable[[Path], object]) -> None:
    """Write beside the target, flush to the disk, then rename over it."""
    # Beside the target: a rename is atomic only within one file system. ".tmp" last: no reader's *.parquet or *.pt matches it.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        write(temporary)
        # Without fsync a machine that crashes after the rename could leave an empty file under the final name.
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        # After the rename there is nothing to remove; after an error the incomplete file goes.
        temporary.unlink(missing_ok=True)


def plan_text(plan: Mapping[str, Any]) -> str:
    """A plan as sweep.yaml holds it: YAML, but the points of an axis are one word, in JSON.

    YAML takes a millisecond for ten points, and each of a thousand jobs reads the plan.
    """
    axes = [
        [{**axis, "points": json.dumps(axis["points"], separators=(",", ":"))} for axis in g["axes"]] for g in plan["groups"]
    ]
    groups = [{**group, "axes": own} for group, own in zip(plan["groups"], axes, strict=True)]
    # Through JSON: tuples are lists in a file.
    return yaml.dump(json.loads(json.dumps({**plan, "groups": groups})), Dumper=DUMPER, sort_keys=False)


def plan_from_text(text: str) -> dict[str, Any]:
    """A plan from the text of a sweep.yaml, of this or of an earlier version, whose points are YAML."""
    plan = yaml.load(text, Loader=LOADER)
    for group in plan["groups"]:
        for axis in group["axes"]:
            if isinstance(axis["points"], str):
                axis["points"] = json.loads(axis["points"])
    return plan


def read_plan(directory: Path) -> dict[str, Any]:
    """The plan of the sweep in `directory`."""
    return plan_from_text((directory / "sweep.yaml").read_text())


def clock_of(folder: Path) -> float:
    """The time now by the clock that dates the files of `folder`; that of this machine, or of another node, may differ."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock.", suffix=".tmp") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # a folder that may be read only
        return time.time()


def last_line(file: Path) -> str:
    """The last line of a text that is not empty; none of a file that is not there."""
    try:
        with file.open("rb") as text:
            text.seek(max(0, file.stat().st_size - TAIL_BYTES))
            lines = text.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def parts_of(table: Path) -> list[Path]:
    """The files of a table that is one file or a folder of parts; a folder may be empty yet."""
    return sorted(table.glob("*.parquet")) if table.is_dir() else [table]


def read_parts(table: Path, columns: list[str] | None = None) -> list[pa.Table]:
    """Read the files of a table, also while a job joins them; rows may appear twice then."""
    parts = parts_of(table)
    try:
        # One file at a time: what its folders are called is no column.
        return [pq.ParquetFile(part).read(columns) for part in parts]
    except FileNotFoundError:
        # A file that vanished because its parts were joined changes the listing; with the same listing it is a real error.
        if parts_of(table) == parts:
            raise
        return read_parts(table, columns)


def join_parts(table: Path) -> None:
    """Replace the parts of a table by one file. It is written before the parts are removed, so a kill loses no row."""
    parts = parts_of(table) if table.is_dir() else []
    if len(parts) > 1:
        write_atomically(table / f"{secrets.token_hex(8)}.parquet", partial(_join, parts))
        for part in parts:
            part.unlink()


def _join(parts: list[Path], target: Path) -> None:
    # Part by part: the whole table need not fit in memory.
    with pq.ParquetWriter(target, pq.read_schema(parts[0])) as writer:
        for part in parts:
            writer.write_table(pq.ParquetFile(part).read())
