"""Tables on the disk: one parquet file, or a folder of parts, that pandas reads as well, with a checksum of every column.

Parquet's own checksums cover the pages with values, not the description of the columns at the end of the file. So each group
of rows has a checksum of the values of each column, as they are read, in the file's metadata (`CHECKSUMS`).
"""

import json
import secrets
import shutil
import zlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lnt.column_names import OUTCOME_TYPES
from lnt.errors import one_line
from lnt.files import LONGEST, PLAIN, DamagedFile, UnreadableNow, check_regular, is_plain, write_atomically

CHECKSUMS = "lnt.checksums"
JOINED = "joined-"  # how the name of a part begins that others were joined into
ROWS = 2**20  # of a group; a whole group is read at once
NEEDED = {  # columns without which a file is no such table
    "runs": ("run_id", "status", "seed", "last_step", "test_error", "best_step", "stage1_step", "stage2_step"),
    "curves": ("run_id", "step"),
    "samples": ("run_id", "index", "true", "observed", "loss_best", "loss_last"),
}
ENDS = ("completed", "diverged", "failed")
SHARE_OF_MEMORY = 0.5  # a table may take: its user needs room for a copy


def write_table(target: Path, table: pa.Table) -> None:
    """Write a table to one file, whole or not at all."""
    write_atomically(target, partial(_write, [table], table.schema))


def _write(tables: Iterable[pa.Table], schema: pa.Schema, target: Path) -> None:
    checksums = []
    # Without dictionaries: measured numbers hardly repeat, and looking for repetitions takes longer than all else here.
    with pq.ParquetWriter(target, schema, write_page_checksum=True, use_dictionary=False) as writer:
        for table in tables:
            for first in range(0, len(table), ROWS) or [0]:
                group = table.slice(first, ROWS)
                writer.write_table(group, row_group_size=ROWS)
                checksums.append(checksums_of(group))
        writer.add_key_value_metadata({CHECKSUMS: json.dumps(checksums)})


def checksums_of(table: pa.Table) -> dict[str, str]:
    """CRC-32 of the type and the values of each column, and, without a name, of how pandas reads them."""
    columns = {name: _crc(table.column(name).combine_chunks()) for name in table.column_names}
    columns[""] = zlib.crc32((table.schema.metadata or {}).get(b"pandas", b""))
    return {name: f"{crc:08x}" for name, crc in columns.items()}


def _crc(column: pa.Array) -> int:
    crc = zlib.crc32(f"{column.type} {len(column)}".encode())
    # What lies in the place of a null is not part of the table.
    crc = zlib.crc32(np.packbits(column.is_null().to_numpy(zero_copy_only=False)).data, crc)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = column.cast(pa.large_string()).fill_null("")
        _, offsets, characters = texts.buffers()
        places = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        crc = zlib.crc32(np.diff(places).data, crc)
        return zlib.crc32(memoryview(characters or b"")[places[0] : places[-1]], crc)
    if pa.types.is_null(column.type):
        return crc
    values = column.fill_null(False if pa.types.is_boolean(column.type) else 0).to_numpy(zero_copy_only=False)
    return zlib.crc32(np.ascontiguousarray(values).data, crc)


def fault(table: pa.Table, name: str) -> str | None:
    """What keeps a table from being used, None if nothing does: names in it become parts of file names, and words of a page."""
    lacking = [column for column in NEEDED[name] if column not in table.column_names]
    if lacking:
        return f"is no table of {name}: it lacks the column {lacking[0]}"
    strange = [column for column in table.column_names if not is_plain(column)]
    if strange:
        return f"is no table of {name}: the column {strange[0]!r} has a name that is no plain word"
    text = {field.name: _is_text(field.type) for field in table.schema}
    kinds = {**OUTCOME_TYPES, "run_id": "str", "step": "int64"}
    wrong = [column for column in table.column_names if column in kinds and text[column] != (kinds[column] == "str")]
    # A column of nulls has no type of its own.
    wrong = [column for column in wrong if not pa.types.is_null(table.schema.field(column).type)]
    wrong += [field.name for field in table.schema if pa.types.is_nested(field.type) or pa.types.is_binary(field.type)]
    if wrong:
        return f"is no table of {name}: the column {wrong[0]} holds {table.schema.field(wrong[0]).type}"
    if strange := _strange_ids(table["run_id"]):
        return f"is no table of {name}: the run_id {strange[0]!r} is no plain word"
    strange = [end for end in table["status"].unique().to_pylist() if end not in ENDS] if name == "runs" else []
    return f"is no table of runs: the status {strange[0]!r} is none of {', '.join(ENDS)}" if strange else None


def _strange_ids(ids: pa.ChunkedArray) -> list[object]:
    """The values of run_id that are not `is_plain`, which Arrow tells a hundred times as fast as Python."""
    ids = ids.cast(pa.string())  # a column of nulls has no type of its own
    plain = pc.and_(pc.match_substring_regex(ids, f"^{PLAIN}$"), pc.less_equal(pc.utf8_length(ids), LONGEST))
    return list(ids.filter(pc.invert(plain.fill_null(False))).to_pylist())


def not_text(table: pa.Table) -> str | None:
    """What keeps the columns run_id, status and error, which hold text, from being used; None if nothing does."""
    kinds = {field.name: field.type for field in table.schema if field.name in ("run_id", "status", "error")}
    wrong = [f"{name} holds {kind}" for name, kind in kinds.items() if not (_is_text(kind) or pa.types.is_null(kind))]
    return f"is no table of runs: the column {wrong[0]}" if wrong else None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def parts_of(table: Path) -> list[Path]:
    """The files of a table that is one file or a folder of parts; a folder may be empty yet, and a table may not be there."""
    if not table.exists() and (hidden := _hidden(table)).is_dir() and not hidden.is_symlink():
        table = hidden  # a process was killed as it joined the parts
    return sorted(table.glob("*.parquet")) if table.is_dir() else [table] if table.exists() else []


def read_table(file: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """One file of a table, or some of its columns. Raises DamagedFile if it cannot be read, is not what was written, lacks one
    of the columns, or is too large for the memory; FileNotFoundError if it is not there.
    """
    # Parts vanish when they are joined, and that is no damage.
    if not file.exists() and not file.is_symlink():
        raise FileNotFoundError(file)
    check_regular(file)
    try:
        found = pq.ParquetFile(file, page_checksum_verification=True)
        _check_size(file, found.metadata)
        lacking = [name for name in columns or () if name not in found.schema_arrow.names]
        if lacking:
            raise DamagedFile(file, f"is no such table: it lacks the column {', '.join(lacking)}")
        return _verified(file, found, columns)
    except (DamagedFile, FileNotFoundError):
        raise
    # Arrow raises errors of many kinds for bytes that are no parquet, OSError among them; only one of the system has a number.
    except Exception as error:
        away = isinstance(error, MemoryError) or getattr(error, "errno", None) is not None
        if away:
            raise UnreadableNow(file, f"cannot be read: {one_line(error)}") from None
        raise DamagedFile(file, f"is damaged: {one_line(error)[:200] or type(error).__name__}") from None


def _verified(file: Path, found: pq.ParquetFile, columns: Sequence[str] | None) -> pa.Table:
    """All groups of rows, once the checksum of each column fits; files of earlier versions have none."""
    described = found.metadata.metadata or {}
    # Arrow writes it always: without it, checksums may be lost with it.
    if b"ARROW:schema" not in described:
        raise DamagedFile(file, "is damaged, or not written by Arrow: its description of the columns is missing")
    written = described.get(CHECKSUMS.encode())
    if written is None:
        return _own(found.read(columns))
    checksums = json.loads(written)
    groups = [_own(found.read_row_group(number, columns)) for number in range(found.metadata.num_row_groups)]
    names = {"", *found.schema_arrow.names}
    fits = len(groups) == len(checksums) and all(
        names == set(noted) and checksums_of(group).items() <= noted.items()
        for group, noted in zip(groups, checksums, strict=True)
    )
    if not fits:
        raise DamagedFile(file, "is damaged: its checksums do not fit")
    return pa.concat_tables(groups)


def _own(table: pa.Table) -> pa.Table:
    """The table without the metadata of its file, which belong to these rows in this file."""
    kept = {key: value for key, value in (table.schema.metadata or {}).items() if key != CHECKSUMS.encode()}
    return table.replace_schema_metadata(kept)


def _check_size(file: Path, metadata: pq.FileMetaData) -> None:
    """Raise UnreadableNow if a table would not fit into memory; a short file may stand for very many equal rows."""
    stored = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    needed, free = max(stored, 8 * metadata.num_rows * metadata.num_columns), psutil.virtual_memory().available
    if needed > SHARE_OF_MEMORY * free:
        raise UnreadableNow(file, f"needs {needed >> 20} MiB of memory, of {free >> 20} MiB that are free")


def read_parts(table: Path, columns: Sequence[str] | None = None) -> tuple[list[pa.Table], list[DamagedFile]]:
    """The files of a table, also while a job joins them, and those that cannot be used. Only whole ones are checked in full."""
    files, parts, damaged = parts_of(table), [], []
    try:
        # One file at a time: what its folders are called is no column.
        for file in files:
            try:
                part = read_table(file, columns)
                problem = not_text(part) if columns else fault(part, table.stem) if table.stem in NEEDED else None
                if problem is not None:
                    raise DamagedFile(file, problem)
                parts.append(part)
            except DamagedFile as error:
                damaged.append(error)
        if parts_of(table) == files:
            return parts, damaged
    except FileNotFoundError:
        # A file that vanished because its parts were joined changes the listing; with the same listing it is a real error.
        if parts_of(table) == files:
            raise
    return read_parts(table, columns)


def join_parts(table: Path) -> None:
    """Replace the parts of a table by one, so that the number of files grows with jobs and not with their time.

    A kill at any moment loses no row and doubles none: the whole is made in a folder that no reader looks at, and takes the
    place of the parts by two renames. Between these the parts are hidden: `parts_of` finds them, and `mend` puts them back.
    """
    parts = parts_of(table) if table.is_dir() else []
    if len(parts) < 2:
        return
    whole = table.with_name(f".{table.name}.{secrets.token_hex(4)}.tmp")
    whole.mkdir()
    schema = pq.read_schema(parts[0])
    schema = schema.with_metadata({k: v for k, v in (schema.metadata or {}).items() if k != CHECKSUMS.encode()})
    # Part by part: the whole table need not fit in memory.
    write_atomically(whole / f"{JOINED}{secrets.token_hex(8)}.parquet", partial(_write, map(read_table, parts), schema))
    table.rename(_hidden(table))
    whole.rename(table)
    _remove(_hidden(table))


def mend(table: Path) -> list[DamagedFile]:
    """Finish what a kill interrupted in a table that this process owns. Returns the files that cannot be used."""
    hidden = _hidden(table)
    if hidden.is_dir() and not hidden.is_symlink():
        if table.exists():
            _remove(hidden)
        else:
            hidden.rename(table)
    for unfinished in (*table.parent.glob(f".{table.name}.*.tmp"), *table.glob(".*.tmp")):
        _remove(unfinished)
    return read_parts(table)[1]


def _hidden(table: Path) -> Path:
    """Where the parts of a table are between the two renames of `join_parts`."""
    return table.with_name(f".{table.name}.parts")


def _remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
