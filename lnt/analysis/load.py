"""From results on disk to tables. Nothing here trains, needs a GPU, or runs anything that a directory holds."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lnt.column_names import ADDED_LATER, ADDED_TO_OPTIONS
from lnt.errors import require
from lnt.files import DamagedFile, UnreadableNow, read_json
from lnt.plan_file import read_plan
from lnt.table_files import ENDS, read_parts

log = logging.getLogger(__name__)
AT_ONCE = 8  # columns that are converted together
MANIFEST = "manifest.json"  # of a folder that analyze.py has written
WRITER = {"written_by": "analyze.py"}
EARLIER = {"time", "sources", "dropped", "notes", "figures"}  # the keys of a manifest before it named its writer


@dataclass(frozen=True)
class RunTables:
    """All runs of a study, by how they ended."""

    runs: pd.DataFrame  # completed: what means and figures are made of
    diverged: pd.DataFrame  # the last finite measurement of runs that diverged
    failed: pd.DataFrame  # runs that raised
    plans: Sequence[Mapping[str, Any]]  # the planned runs: sweep.yaml of each sweep
    read_curves: Callable[[], pd.DataFrame]
    read_samples: Callable[[], pd.DataFrame]
    path: Path | None = None  # None: results in memory
    sources: Sequence[Path] = ()  # the files runs.parquet
    duplicates: int = 0  # rows that name a run which another row names too
    left_out: list[DamagedFile] = field(default_factory=list)  # files that cannot be used; of curves once these were read
    directories: pd.Series = field(
        default_factory=lambda: pd.Series(dtype="str")
    )  # of runs, diverged and failed, one after the other

    @cached_property
    def curves(self) -> pd.DataFrame:
        """run_id, step, metrics; read when first asked for."""
        return self.read_curves()

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Training samples of runs on images (docs/results.md); empty without such runs."""
        return self.read_samples()

    def networks(self, run_id: str) -> Path | None:
        """The file of a run's weights, if they were kept."""
        files = (source.with_name("networks") / f"{run_id}.pt" for source in self.sources)
        return next((file for file in files if file.is_file()), None)


def read(path: Path) -> RunTables:
    """Read every runs.parquet below `path`, of running and partial sweeps too. Raises ConfigError if no run completed.

    A run that appears twice counts once; one that failed and was trained later is not failed.
    """
    require(path.is_dir(), "path", path, "is not a directory")
    left_out: list[DamagedFile] = []
    sources = sources_below(path, left_out)
    parts = [_with_source(part, source, path) for source in sources for part in _tables(source, "runs", left_out)]
    seen = "; ".join(f"{error.path} {error.reason}" for error in left_out[:3])
    allowed = f"holds no results that can be read: {seen}" if seen else "holds no results: no runs.parquet in it or below it"
    require(bool(parts), "path", path, allowed)
    plans = _plans(path, left_out)
    for error in left_out:
        log.warning("left out: %s %s", error.path, error.reason)
    # Read when asked for: the curves of a large sweep take far longer than its runs.
    curves = lambda: _together(sources, "curves", "step", left_out)  # noqa: E731
    samples = lambda: _together(sources, "samples", "index", left_out)  # noqa: E731
    rows = _frame(parts)
    completed, diverged, failed, duplicates = by_outcome(rows)
    ends = f"no run completed: {len(diverged)} diverged, {len(failed)} failed"
    require(len(completed) > 0, "path", path, ends)
    directories = pd.concat([table.pop("directory") for table in (completed, diverged, failed)])
    return RunTables(completed, diverged, failed, plans, curves, samples, path, sources, duplicates, left_out, directories)


def sources_below(path: Path, left_out: list[DamagedFile]) -> list[Path]:
    """Every runs.parquet in `path` and below it, but those that analyze.py has written; links are not followed."""
    found = []

    def unreadable(error: OSError) -> None:
        left_out.append(UnreadableNow(Path(error.filename), f"cannot be read: {error.strerror}"))

    for folder, below, files in os.walk(path, onerror=unreadable):
        if is_analysis(Path(folder)):
            below.clear()
        # The second while a job joins its parts, or where it was killed as it did.
        elif {"runs.parquet", ".runs.parquet.parts"} & {*below, *files}:
            found.append(Path(folder) / "runs.parquet")
    return sorted(found)


def is_analysis(folder: Path) -> bool:
    """Whether analyze.py has written a folder."""
    try:
        manifest = read_json(folder / MANIFEST)
    except DamagedFile:
        return False
    return manifest.items() >= WRITER.items() or set(manifest) == EARLIER


def _plans(path: Path, left_out: list[DamagedFile]) -> list[dict[str, Any]]:
    """The plans of all sweeps. Raises ConfigError if they are of different studies."""
    found: dict[Path, dict[str, Any]] = {}
    for file in sorted(path.rglob("sweep.yaml")):
        try:
            found[file] = read_plan(file)
        except DamagedFile as error:
            left_out.append(error)
    # Two copies of a sweep below `path` hold one plan, which counts once.
    plans: list[dict[str, Any]] = []
    for plan in found.values():
        plans += [plan] if plan not in plans else []
    studies = {study_of(plan) for plan in plans}
    require(len(studies) <= 1, "path", path, f"holds sweeps of different studies: {', '.join(map(str, found))}; name one")
    return plans


def _tables(source: Path, name: str, left_out: list[DamagedFile]) -> list[pa.Table]:
    """The files of a table beside runs.parquet `source` that can be used."""
    parts, damaged = read_parts(source.with_name(f"{name}.parquet"))
    left_out += damaged
    return parts


def _with_source(part: pa.Table, source: Path, path: Path) -> pa.Table:
    """Rows of runs, with the directory that they come from."""
    return part.append_column("directory", pa.repeat(str(source.parent.relative_to(path)), len(part)))


def _frame(parts: list[pa.Table]) -> pd.DataFrame:
    """The rows of all parts, which are taken out of the list: a table of a million runs has room once, not twice.

    So a few columns are converted at a time: Arrow's own `self_destruct` frees them only after the last one.
    """
    frames = []
    while parts:
        alike = list(takewhile(lambda part: part.schema.equals(parts[0].schema, check_metadata=True), parts))
        del parts[: len(alike)]
        together = pa.concat_tables(alike)
        del alike
        columns = []
        while together.num_columns:
            few = together.column_names[:AT_ONCE]
            # Without the index of a file that pandas wrote: it belongs to one of its columns, and rows go by place.
            columns.append(together.select(few).to_pandas(split_blocks=True).reset_index(drop=True))
            together = together.drop_columns(few)
            pa.default_memory_pool().release_unused()
        frames.append(pd.concat(columns, axis=1))
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def from_memory(runs: pa.Table, curves: pa.Table, samples: pa.Table, plan: Mapping[str, Any]) -> RunTables:
    """Results that were never written."""
    completed, diverged, failed, duplicates = by_outcome(runs.to_pandas())
    frames = curves.to_pandas(), samples.to_pandas()
    return RunTables(completed, diverged, failed, [plan], lambda: frames[0], lambda: frames[1], duplicates=duplicates)


def by_outcome(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, int]:
    """Rows of runs.parquet as runs that completed, diverged and failed, and how many rows were left out as duplicates.

    The column price_of_memorising = test_error - best_test_error_fresh is added, and what runs of earlier versions had in
    effect.
    """
    # Earlier versions measured no fresh error. The other one would make the price too high: it is a minimum of noisy numbers.
    fresh = rows.get("best_test_error_fresh", pd.Series(np.nan, rows.index))
    rows = rows.assign(best_test_error_fresh=fresh, price_of_memorising=rows["test_error"] - fresh)
    # Tables of earlier versions lack the column, or hold null where old and new runs are joined.
    for column, value in ADDED_LATER.items():
        if column not in rows:
            rows.insert(1, column, value)
        rows[column] = rows[column].fillna(value)
    for (group, option), later in ADDED_TO_OPTIONS.items():
        for key, value in later.items():
            if group in rows and (chosen := rows[group] == option).any():
                column = f"{group}.{key}"
                if column not in rows:
                    rows.insert(1, column, None)
                rows[column] = rows[column].where(rows[column].notna() | ~chosen, value)
    # First those with an outcome: a run that failed and was trained again later is not failed.
    ends = {end: (rows["status"] == end).to_numpy(bool) for end in ENDS}
    order = np.argsort(ends["failed"], kind="stable")
    repeated = np.empty(len(rows), bool)
    repeated[order] = is_repeated(rows["run_id"].take(order))
    completed, diverged, failed = (_rows(rows, ends[end] & ~repeated) for end in ENDS)
    return completed.reset_index(drop=True), diverged, failed, int(repeated.sum())


def is_repeated(*keys: pd.Series) -> np.ndarray:
    """[rows], whether a row has the keys of an earlier one."""
    # Numbers of the texts: pandas would compare these as objects of Python.
    numbers = {i: pd.factorize(key)[0] for i, key in enumerate(keys)}
    return pd.DataFrame(numbers).duplicated().to_numpy()


def _rows(table: pd.DataFrame, chosen: np.ndarray) -> pd.DataFrame:
    """Some rows of a table; the table itself, without a copy, if they are all."""
    return table.copy(deep=False) if chosen.all() else table[chosen]


def _together(sources: Iterable[Path], name: str, key: str, left_out: list[DamagedFile]) -> pd.DataFrame:
    """The rows of those tables that exist; a row that two of them hold counts once."""
    before = len(left_out)
    parts = [part for source in sources for part in _tables(source, name, left_out)]
    for error in left_out[before:]:
        log.warning("left out: %s %s", error.path, error.reason)
    if not parts:
        return pd.DataFrame({"run_id": []})
    # While a job joins its parts, a row can be in the whole and in a part.
    rows = _frame(parts)
    return _rows(rows, ~is_repeated(rows["run_id"], rows[key]))


def study_of(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """A key that sweeps of one study share: their configuration keys (values may differ) and their swept axes."""
    groups = plan["groups"]
    added = {f"{group}.{key}" for (group, _), later in ADDED_TO_OPTIONS.items() for key in later}
    keys = {
        f"{name}.{key}"
        for group in groups
        for name, part in group["config"].items()
        if isinstance(part, dict)
        for key in part
        if key not in ("_target_", *ADDED_LATER) and f"{name}.{key}" not in added
    }
    return (*sorted(keys), *sorted({key for group in groups for axis in group["axes"] for key in axis["keys"]}))
