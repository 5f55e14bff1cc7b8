"""The contents of DIR/analysis/: tables, figures with their data, a manifest, one page to look at."""

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from lnt.analysis.background import Processes
from lnt.analysis.cells import config_columns, swept_keys, varies
from lnt.analysis.figure_style import Drawn, rendered
from lnt.analysis.load import MANIFEST, WRITER, RunTables
from lnt.analysis.report_data import errors_of
from lnt.analysis.report_files import files_before, set_aside, write_csv, write_table
from lnt.analysis.report_page import Page, Picture, script_json
from lnt.column_names import SEEDS
from lnt.errors import printable, require
from lnt.files import DamagedFile, is_plain, read_json, write_atomically, write_json

log = logging.getLogger(__name__)
MOST_COMMANDS = 5  # of commands and versions that the page names


@dataclass
class Report:
    """Writes into one folder and remembers what it wrote."""

    results: RunTables
    path: Path  # that the results were read from
    folder: Path
    formats: Sequence[str] = ("pdf", "png")  # of the figures
    missing: int = 0  # runs that a plan names and that have no row
    notes: list[str] = field(default_factory=list)  # what was not drawn, and why
    scorecard: pd.DataFrame | None = None
    figures: dict[str, str] = field(default_factory=dict)  # file name -> caption
    widths: dict[str, float] = field(default_factory=dict)  # file name of a figure -> inches
    beside: dict[str, pd.DataFrame] = field(default_factory=dict)  # file name of a figure -> the table that stands below it
    plots: dict[str, dict[str, Any]] = field(default_factory=dict)  # file name of a figure -> what the page draws in its place
    explored: dict[str, Any] = field(default_factory=dict)  # cells, curves and phase diagram of the page (report_data)
    folded: set[str] = field(default_factory=set)  # file names of figures that the page shows in another form
    written: list[str] = field(default_factory=list)  # names of files, in their order
    files: dict[str, Callable[[], dict[str, bytes]]] = field(default_factory=dict)  # of each figure, by format, once rendered
    animations: dict[str, Callable[[], bytes]] = field(default_factory=dict)  # of figures that move, once rendered
    processes: Processes = field(default_factory=Processes)  # that render figures
    writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))  # of tables
    tables: list[Future[None]] = field(default_factory=list)

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Write a table as parquet and CSV. It must not be changed later: it may be written later."""
        require(is_plain(name), "path", name, "is no name for a file of the analysis")
        # A thread is enough, since Arrow holds no lock of Python's while it writes.
        self.tables.append(self.writer.submit(write_table, self.folder / name, table))
        self.written += [f"{name}.csv", f"{name}.parquet"]

    def figure(self, name: str, figure: Drawn, data: pd.DataFrame, caption: str, plot: dict[str, Any] | None = None) -> None:
        """Write a figure in all formats, and its data as CSV. The page shows it as PNG, whatever the formats are.

        `plot` (report_data) is what the page draws in its place; the PNG is then folded away, and printed.
        """
        if plot is not None:
            self.plots[name] = plot
        self._draw(name, figure, {*self.formats, "png"})
        self.tables.append(self.writer.submit(write_csv, self.folder / f"{name}.csv", data))
        self.written.append(f"{name}.csv")
        self.figures[name] = caption
        self.widths[name] = figure.figure.get_figwidth()

    def variant(self, name: str, figure: Drawn) -> None:
        """Write a figure, of which the page shows another form, in all formats."""
        self._draw(name, figure, self.formats)

    def moving(self, name: str, work: Callable[[], bytes]) -> None:
        """Write a figure that moves, which `work` renders as GIF."""
        self.animations[name] = self.processes.start(work)
        self.written.append(f"{name}.gif")

    def _draw(self, name: str, figure: Drawn, formats: Collection[str]) -> None:
        """Begin to render a figure; `finish` writes those files of it that were asked for."""
        require(is_plain(name), "path", name, "is no name for a file of the analysis")
        self.files[name] = self.processes.start(partial(rendered, figure.figure, formats))
        self.written += [f"{name}.{kind}" for kind in self.formats]

    def note(self, text: str) -> None:
        """Say, and keep for the report, what could not be drawn."""
        log.warning(text)
        self.notes.append(text)

    def dropped(self) -> dict[str, int]:
        """Runs that no mean or figure contains, and why."""
        found = self.results
        return {
            "diverged": len(found.diverged),
            "failed": len(found.failed),
            "missing": self.missing,
            "duplicate rows": found.duplicates,
        }

    def finish(self) -> None:
        """Write the figures, the manifest and the page, and wait for the tables."""
        data = script_json({**self.explored, "plots": self.plots})  # while figures are rendered
        files = {name: found() for name, found in self.files.items()}
        for name, kind in itertools.product(files, self.formats):
            write_atomically(self.folder / f"{name}.{kind}", partial(Path.write_bytes, data=files[name][kind]))
        for name, moving in self.animations.items():
            write_atomically(self.folder / f"{name}.gif", partial(Path.write_bytes, data=moving()))
        self.writer.shutdown()
        for written in self.tables:
            written.result()  # raises what writing raised
        for error in self.results.left_out:
            self.note(f"left out: {error.path} {error.reason}")
        stale = [name for name in files_before(self.folder) if name not in self.written]
        if (place := set_aside(self.folder, stale)) is not None:
            self.note(f"files of an earlier analysis that this one did not write are in {place}")
        write_json(self.folder / MANIFEST, self.manifest())
        text = self.page({name: files[name]["png"] for name in self.figures}, data).text()
        write_atomically(self.folder / "report.html", lambda file: file.write_text(text, encoding="utf-8"))

    def page(self, images: Mapping[str, bytes], data: str) -> Page:
        """The page, with the PNG of each figure and the data that it draws."""
        pictures = [
            Picture(
                name,
                caption,
                images[name],
                [file for file in self.written if file.rpartition(".")[0] == name],
                self.beside.get(name),
                name in self.plots,
                name in self.folded,
            )
            for name, caption in self.figures.items()
        ]
        summary = f"{len(self.results.runs)} runs completed, " + ", ".join(f"{n} {what}" for what, n in self.dropped().items())
        files = [*self.written, MANIFEST]
        title = self.path.resolve().name
        return Page(title, summary, self.about(), self.shared(), self.notes, files, pictures, self.scorecard, data)

    def about(self) -> list[tuple[str, str]]:
        """What was run, of which version, when, and what finishes it: term and text."""
        found, origins = self.results, [origin for origin in self.sources.values() if origin]
        commands = [str(plan["command"]) for plan in found.plans if "command" in plan]
        if not found.plans:
            commands = [" ".join(map(str, o["command"])) for o in origins if isinstance(o.get("command"), list)]
        rows = [("command", command) for command in list(dict.fromkeys(commands))[:MOST_COMMANDS]]
        unfinished = self.missing + len(found.failed)
        if unfinished:
            rows += [("to finish", command) for term, command in rows if found.plans]
            rows += [("failed", f"{count} runs: {error}") for error, count in errors_of(found.failed)]
        rows.append(("seeds", ", ".join(f"{found.runs[key].nunique()} of {key}" for key in _own_seeds(found.runs))))
        versions = Counter(_version(origin) for origin in self.sources.values())
        rows += [("version", version) for version, _ in versions.most_common(MOST_COMMANDS)]
        times = sorted(str(origin["time"])[:19].replace("T", " ") for origin in origins if "time" in origin)
        if times:
            rows.append(("trained", times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"))
        rows.append(("analysed", datetime.now(UTC).isoformat(" ", "minutes")))
        return [(term, printable(text)) for term, text in rows]

    def shared(self) -> dict[str, str]:
        """The settings that all completed runs share."""
        runs = self.results.runs
        first = runs.iloc[0]
        same = [key for key in config_columns(runs) if key not in SEEDS and pd.notna(first[key]) and not varies(runs[key])]
        return {printable(key): printable(str(first[key])) for key in same}

    def manifest(self) -> dict[str, Any]:
        """Sources with their provenance, and what was dropped and why."""
        written = datetime.now(UTC).isoformat(timespec="seconds")
        left_out = {str(error.path): error.reason for error in self.results.left_out}
        what = {
            "dropped": self.dropped(),
            "left_out": left_out,
            "notes": self.notes,
            "figures": self.figures,
            "files": self.written,
        }
        return {**WRITER, "time": written, "sources": self.sources, **what}

    @cached_property
    def keys(self) -> list[str]:
        """The swept keys, found once: of a large table this takes a while."""
        return swept_keys(self.results)

    @cached_property
    def sources(self) -> dict[str, dict[str, Any] | None]:
        """File -> where its rows come from; None where that is not known, as where only tables were copied."""
        found: dict[str, dict[str, Any] | None] = {}
        for source in self.results.sources:
            try:
                found[str(source.relative_to(self.path))] = read_json(source.with_name("provenance.json"))
            except DamagedFile:
                found[str(source.relative_to(self.path))] = None
        return found

    def note_versions(self) -> None:
        """Note if rows were made by different versions of the code, or of PyTorch."""
        rows = self.results.directories.value_counts()
        versions: Counter[str] = Counter()
        for source, origin in self.sources.items():
            versions[_version(origin)] += int(rows.get(str(Path(source).parent), 0))
        if len(versions) > 1:
            shown = "; ".join(f"{count} rows of {version}" for version, count in versions.most_common())
            self.note(f"rows of different versions: {shown} (the column directory of all_runs tells them apart)")


def _own_seeds(runs: pd.DataFrame) -> list[str]:
    """The seeds that were given: `seed`, and those of single streams that do not follow it."""
    keys = [key for key in SEEDS if key in runs and runs[key].notna().any()]
    return [key for key in keys if key == keys[0] or not runs[key].equals(runs[keys[0]])]


def _version(origin: dict[str, Any] | None) -> str:
    """The version of the code and of PyTorch, in words."""
    if origin is None:
        return "an unknown version"
    versions, dirty = origin.get("versions"), " with changes" if origin.get("git_dirty") else ""
    torch = versions.get("torch") if isinstance(versions, dict) else None
    return printable(f"commit {str(origin.get('git'))[:10]}{dirty}, torch {torch}")
