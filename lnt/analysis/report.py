"""The contents of DIR/analysis/: tables, figures with their data, a manifest, one page to look at."""

import base64
import html
import json
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
from matplotlib.figure import Figure

from lnt.analysis.figure_style import save_figure
from lnt.analysis.load import RunTables
from lnt.files import write_atomically

log = logging.getLogger(__name__)
PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}img{{max-width:100%}}
table{{border-collapse:collapse;font-size:13px}}
td,th{{padding:.15rem .5rem;border-bottom:1px solid #ddd;text-align:right}}</style>
<h1>{title}</h1><p>{summary}</p>{sections}"""


@dataclass
class Report:
    """Writes into one folder and remembers what it wrote."""

    results: RunTables
    path: Path  # that the results were read from
    folder: Path
    missing: int = 0  # runs that a plan names and that have no row
    notes: list[str] = field(default_factory=list)  # what was not drawn, and why
    scorecard: pd.DataFrame | None = None
    figures: dict[str, str] = field(default_factory=dict)  # file name -> caption
    beside: dict[str, pd.DataFrame] = field(default_factory=dict)  # file name of a figure -> the table that stands below it

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Write a table as parquet and CSV."""
        # Arrow writes CSV many times faster than pandas, and a table may have a hundred thousand rows.
        arrow = pa.Table.from_pandas(table, preserve_index=False)
        write_atomically(self.folder / f"{name}.parquet", lambda file: table.to_parquet(file, index=False))
        write_atomically(self.folder / f"{name}.csv", lambda file: pa.csv.write_csv(arrow, file))

    def figure(self, name: str, figure: Figure, data: pd.DataFrame, caption: str) -> None:
        """Write a figure as PDF and PNG, and its data as CSV."""
        save_figure(figure, self.folder / name)
        write_atomically(self.folder / f"{name}.csv", lambda file: data.to_csv(file, index=False))
        self.figures[name] = caption

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

    def finish(self, summary_table: pd.DataFrame) -> None:
        """Write the manifest and the page."""
        write_atomically(self.folder / "manifest.json", lambda file: file.write_text(json.dumps(self.manifest(), indent=2)))
        summary = f"{len(self.results.runs)} runs completed, " + ", ".join(f"{n} {what}" for what, n in self.dropped().items())
        parts = [f"<p>{html.escape(note)}</p>" for note in self.notes]
        if self.scorecard is not None:
            parts.append(f"<h2>Scorecard</h2>{self.scorecard.to_html(index=False, float_format='{:.3g}'.format)}")
        for name, caption in self.figures.items():
            # Embedded, so that the page can be sent as one file.
            image = base64.b64encode((self.folder / f"{name}.png").read_bytes()).decode()
            parts.append(
                f'<h2>{html.escape(caption)}</h2><img alt="{html.escape(caption)}" src="data:image/png;base64,{image}">'
            )
            if name in self.beside:
                parts.append(self.beside[name].to_html(index=False, float_format="{:.3f}".format, na_rep=""))
        parts.append(f"<h2>Cells</h2>{summary_table.head(100).to_html(index=False, float_format='{:.4g}'.format)}")
        page = PAGE.format(title=html.escape(self.path.resolve().name), summary=summary, sections="\n".join(parts))
        write_atomically(self.folder / "report.html", lambda file: file.write_text(page))

    def manifest(self) -> dict[str, Any]:
        """Sources with their provenance, and what was dropped and why."""
        described = {}
        for source in self.results.sources:
            provenance = source.with_name("provenance.json")
            # Provenance may be missing, for example where only tables were copied.
            described[str(source.relative_to(self.path))] = json.loads(provenance.read_text()) if provenance.exists() else None
        written = datetime.now(UTC).isoformat(timespec="seconds")
        return {"time": written, "sources": described, "dropped": self.dropped(), "notes": self.notes, "figures": self.figures}
