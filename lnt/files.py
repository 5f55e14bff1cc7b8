"""How files appear: whole, or not at all."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path


def write_atomically(target: Path, write: Callable[[Path], object]) -> None:
    """Write beside the target, flush to the disk, then rename over it."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def parts_of(table: Path) -> list[Path]:
    """The files of a table that is one file or a folder of parts; a folder may be empty yet."""
    return sorted(table.glob("*.parquet")) if table.is_dir() else [table]
