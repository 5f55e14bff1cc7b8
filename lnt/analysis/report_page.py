"""The page of an analysis as text: one file that needs no other, no network, and no trust in what the results hold."""

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any
from urllib.parse import quote

import pandas as pd

from lnt.errors import printable
from lnt.intervals import with_interval

LONG = 24  # letters of a text that gets a wide column
TITLES = {
    "csv": "CSV",
    "parquet": "parquet",
    "pdf": "PDF",
    "png": "PNG",
    "svg": "SVG",
    "gif": "GIF",
    "npz": "npz",
    "json": "JSON",
}


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its PNG, the files that hold it, a table below it, and whether the page draws it itself."""

    name: str
    caption: str
    png: bytes
    files: Sequence[str]
    beside: pd.DataFrame | None = None
    drawn: bool = False  # the page draws it itself
    folded: bool = False  # another part of the page shows what it shows


@dataclass(frozen=True)
class Page:
    """What the page says. All text is plain; it is escaped here."""

    title: str
    summary: str
    about: Sequence[tuple[str, str]]  # what was run: term and text
    settings: Mapping[str, str]
    notes: Sequence[str]
    files: Sequence[str]  # in the folder of the page
    pictures: Sequence[Picture]
    scorecard: pd.DataFrame | None = None
    data: str = "{}"  # of lnt.analysis.report_data, by script_json

    def text(self) -> str:
        """The page as HTML, with plotly and all data inside."""
        from plotly.offline import get_plotlyjs  # only here: nothing else needs it

        scripts = [get_plotlyjs(), _package_file("report_page.js")]
        return Template(_package_file("report_page.html")).substitute(
            policy=f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {_hashes(scripts)}",
            title=html.escape(self.title),
            summary=html.escape(self.summary),
            about="".join(f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>" for term, text in self.about),
            settings="".join(f"<tr><td>{html.escape(k)}<td>{html.escape(v)}" for k, v in self.settings.items()),
            notes="".join(f"<li>{html.escape(printable(note))}</li>" for note in self.notes),
            files=_links(self.files),
            scorecard="" if self.scorecard is None else _scorecard(self.scorecard),
            pictures="\n".join(map(_section, self.pictures)),
            data=self.data,
            plotly=scripts[0],
            script=scripts[1],
        )


def script_json(data: Any) -> str:
    """JSON that may stand in a script element: no text in it can end that element. Raises ValueError of NaN."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _hashes(scripts: Iterable[str]) -> str:
    """The two scripts of the page by their hashes, so that a browser runs no other one, whatever the results hold."""
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts)


def _package_file(name: str) -> str:
    return resources.files("lnt.analysis").joinpath(name).read_text(encoding="utf-8")


def _links(files: Iterable[str]) -> str:
    return " ".join(f'<a href="{quote(name)}">{html.escape(name)}</a>' for name in files)


def _scorecard(table: pd.DataFrame) -> str:
    """The verdicts, and what they rest on; scorecard.csv has the rest."""
    measured = [with_interval(*row) for row in table[["value", "low", "high"]].itertuples(index=False)]
    counts = table["seeds"].astype(str) + ", " + table["cells"].astype(str) + ", " + table["runs"].astype(str)
    shown = pd.DataFrame(
        {
            **table[["statement", "predicted"]],
            "measured": measured,
            **table[["verdict", *(["note"] if table["note"].any() else []), "statistic", "condition"]],
            "contradicted with 80 % if": table["noticed"],
            "seeds, cells, runs": counts,
            "source": table["source"],
            "panel": table["figure"],
        }
    )
    return f'<section id="scorecard"><h2>Scorecard</h2>{_table(shown, 3)}</section>'


def _table(table: pd.DataFrame, digits: int) -> str:
    """A table as HTML: numbers to the right, words to the left."""
    words = [not pd.api.types.is_numeric_dtype(table[name]) for name in table]
    head = "".join(f"<th{_class(word, '')}>{html.escape(str(name))}</th>" for name, word in zip(table, words, strict=True))
    texts = ([_text(value, digits) for value in row] for row in table.itertuples(index=False))
    rows = (
        "".join(f"<td{_class(word, text)}>{html.escape(text)}</td>" for text, word in zip(row, words, strict=True))
        for row in texts
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _class(word: bool, text: str) -> str:
    """Of a cell: words of any length, and those that need room."""
    return "" if not word else ' class="word long"' if len(text) > LONG else ' class="word"'


def _text(value: Any, digits: int) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _section(picture: Picture) -> str:
    """A figure: the place where the page draws it, if it does, and its PNG."""
    caption, name = html.escape(picture.caption), html.escape(picture.name)
    links = " ".join(f'<a href="{quote(f)}">{TITLES.get(f.rpartition(".")[2], html.escape(f))}</a>' for f in picture.files)
    shown = not (picture.drawn or picture.folded)
    image = base64.b64encode(picture.png).decode()
    return (
        f'<section class="figure"><h2>{caption}</h2>'
        + (f'<div class="lines screen" data-plot="{name}"></div>' if picture.drawn else "")
        + f"<details{' open' if shown else ''}><summary>{'files' if shown else 'figure'}: {links}</summary>"
        + f'<img alt="{caption}" src="data:image/png;base64,{image}"></details>'
        + ("" if picture.beside is None else _table(picture.beside, 3))
        + "</section>"
    )
