"""The folder of an analysis: that it is ours, what an earlier analysis left there, and how tables are written into it."""

import itertools
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from lnt.analysis.figure_style import FORMATS
from lnt.analysis.load import MANIFEST, WRITER, is_analysis
from lnt.errors import require
from lnt.files import DamagedFile, is_plain, read_json, write_atomically, write_json
from lnt.settings import check_writable

ROWS = 2**16  # of a table that Arrow writes at a time
EARLIER_FILES = "earlier"  # the folder for what an earlier analysis wrote and this one did not


def own_folder(path: Path) -> Path:
    """The folder `path`/analysis, new, empty, or from an earlier analysis. Raises ConfigError if it holds anything else."""
    folder = path / "analysis"
    require(not folder.is_symlink(), "path", folder, "is a link, and is not followed; remove it")
    if folder.exists():
        require(folder.is_dir(), "path", folder, "is in the way: tables and figures go to a folder of this name")
        mine = is_analysis(folder) or not any(folder.iterdir())
        require(mine, "path", folder, "holds files that analyze.py did not write; rename it")
    check_writable(folder)
    folder.mkdir(exist_ok=True)
    before = files_before(folder)
    # At once: an analysis that is broken off leaves a folder that the next one knows as its own, with what is in it.
    write_json(folder / MANIFEST, {**WRITER, "files": before})
    return folder


def files_before(folder: Path) -> list[str]:
    """The names of the files that an earlier analysis wrote into its folder, by its manifest."""
    try:
        manifest = read_json(folder / MANIFEST)
    except DamagedFile:
        return []
    files, figures = manifest.get("files"), manifest.get("figures")
    if not isinstance(files, list):  # an earlier version named its figures only
        files = [f"{name}.{kind}" for name in figures for kind in (*FORMATS, "csv")] if isinstance(figures, dict) else []
    return [name for name in files if is_plain(name)]


def set_aside(folder: Path, names: Collection[str]) -> str | None:
    """Move files of an earlier analysis to a new folder in `folder`/earlier, and return its name; None if there are none.

    Moved, not deleted: somebody may have worked on them.
    """
    there = [folder / name for name in names if (folder / name).is_file() and not (folder / name).is_symlink()]
    earlier = folder / EARLIER_FILES
    if not there or earlier.is_symlink() or (earlier.exists() and not earlier.is_dir()):
        return None
    written = datetime.fromtimestamp(max(file.stat().st_mtime for file in there), UTC)
    place = next(
        p for i in itertools.count() if not (p := earlier / f"{written:%Y-%m-%d_%H-%M-%S}{f'_{i}' if i else ''}").exists()
    )
    place.mkdir(parents=True)
    for file in there:
        file.replace(place / file.name)
    return f"{EARLIER_FILES}/{place.name}"


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as `path`.parquet and `path`.csv."""

    def write(file: Path) -> None:
        schema = _schema(table)
        # Most numbers differ: to look for equal ones takes half of the time, and saves a twentieth of the size.
        with pq.ParquetWriter(file, schema, use_dictionary=False) as writer:
            for part in _parts(table, schema):
                writer.write_table(part)

    write_atomically(path.with_name(f"{path.name}.parquet"), write)
    write_csv(path.with_name(f"{path.name}.csv"), table)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV."""

    def write(file: Path) -> None:
        schema = _schema(table)
        # Arrow writes CSV many times faster than pandas, and a table may have a million rows.
        with pa.csv.CSVWriter(file, schema, write_options=pa.csv.WriteOptions(batch_size=ROWS)) as writer:
            for part in _parts(table, schema):
                writer.write_table(part)

    write_atomically(path, write)


def _schema(table: pd.DataFrame) -> pa.Schema:
    return pa.Schema.from_pandas(table, preserve_index=False)


def _parts(table: pd.DataFrame, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of a table for Arrow, some at a time: a table of a million runs has room once, not twice."""
    for start in range(0, len(table), ROWS):
        yield pa.Table.from_pandas(table.iloc[start : start + ROWS], schema, preserve_index=False)
