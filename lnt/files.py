"""Write files so that they appear whole or not at all."""

import os
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


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
