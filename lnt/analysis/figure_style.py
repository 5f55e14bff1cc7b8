"""The look of all figures: colours, fonts, widths; and how a figure becomes a file."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, NamedTuple

import matplotlib as mpl
from fontTools import subset
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser

from lnt.errors import require
from lnt.settings import flatten

FORMATS = ("pdf", "png", "svg")  # of figures
# Tables of a font that say how to set text. A PDF needs none, since its text is set, and reading them takes longer than to
# draw the figure. There is no public way to leave them out; where this one fails, PDFs are larger and as good.
getattr(subset.Options, "_drop_tables_default", []).extend(("GDEF", "GPOS", "GSUB", "MATH"))
# Okabe & Ito's colour-blind-safe palette; a purple takes the place of their yellow, which is too light for lines on white.
SIGNAL, CLEAN, NOISY, PLAIN = "#0072B2", "#009E73", "#D55E00", "#444444"
CATEGORIES = (PLAIN, SIGNAL, NOISY, CLEAN, "#CC79A7", "#E69F00", "#56B4E9", "#7A0177")  # in this order
SCREEN: Mapping[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "figure.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.0,  # a frame would hide the line that it touches
    "legend.fontsize": 7,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,  # embed fonts as TrueType, so that text stays text
    "savefig.dpi": 200,
}
# Captions have 9 points at ICML, text has 10 everywhere. STIX is the Times that comes with matplotlib, with its mathematics.
PRINTED: Mapping[str, Any] = {
    **SCREEN,
    "font.family": ["STIXGeneral"],
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "figure.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.2,
}

SINGLE, DOUBLE = 3.35, 6.9  # column widths of a two-column paper in inches
VENUES = {  # width of a column and of the text in inches
    "icml": (3.25, 6.75),  # icml2024.sty: \textwidth 6.75in, \columnsep 0.25in, \twocolumn
    "neurips": (5.5, 5.5),  # neurips_2024.sty: textwidth=5.5in, one column
    "tmlr": (6.5, 6.5),  # tmlr.sty of JmlrOrg/tmlr-style-file: \textwidth 6.5 true in, one column
}
WIDEST = 20.0  # inches


@dataclass(frozen=True)
class Look:
    """For what figures are drawn, and under which names. Raises ConfigError."""

    paper: str | None = None  # one of VENUES; None: a screen
    width: str | float | None = None  # column, full, or inches; None: what a figure needs, on paper one of the first two
    labels: Mapping[str, str] = field(default_factory=dict)  # names of keys, columns and options, instead of LABELS
    panels: Sequence[str] = ()  # columns: panels without any of them are left out of figures that have others

    def __post_init__(self) -> None:
        known = self.paper is None or self.paper in VENUES
        require(known, "paper", self.paper, f"must be one of {', '.join(VENUES)}, or null")
        number = isinstance(self.width, int | float) and not isinstance(self.width, bool) and 1 <= self.width <= WIDEST
        fits = self.width in (None, "column", "full") or number
        require(fits, "width", self.width, f"must be column, full, a number of inches from 1 to {WIDEST:g}, or null")
        pairs = isinstance(self.labels, Mapping) and all(isinstance(name, str) for name in self.labels.values())
        require(pairs, "labels", self.labels, 'must be names by key, as {noise.rate: "flip rate $\\tau$", gce: GCE}')
        for key, name in self.labels.items():
            require(_can_be_drawn(name), f"labels.{key}", name, "is no text with formulas of matplotlib's TeX between two $")
        listed = isinstance(self.panels, Sequence) and not isinstance(self.panels, str)
        require(listed, "panels", self.panels, "must be a list of columns, as [test_error,clean_accuracy]")

    @property
    def widths(self) -> tuple[float, float]:
        """Of a column and of the text, in inches."""
        return VENUES[self.paper] if self.paper else (SINGLE, DOUBLE)


_LOOK: ContextVar[Look] = ContextVar("look", default=Look())  # noqa: B039  (it is frozen)


@contextmanager
def look(
    paper: str | None = None,
    width: str | float | None = None,
    labels: Mapping[str, str] | None = None,
    panels: Sequence[str] | None = None,
) -> Iterator[None]:
    """Figures that are made in this context are for a paper (icml, neurips, tmlr), of some width, with names of one's own.

    The settings are those of analyze.py (docs/results.md). Raises ConfigError.
    """
    names = dict(flatten(labels)) if isinstance(labels, Mapping) else labels or {}
    token = _LOOK.set(Look(paper, width, names, panels or ()))
    try:
        yield
    finally:
        _LOOK.reset(token)


def in_force() -> Look:
    """The look of figures that are made now."""
    return _LOOK.get()


def _can_be_drawn(text: str) -> bool:
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return False
    return text.replace(r"\$", "").count("$") % 2 == 0


def on_paper() -> bool:
    """Whether figures are for a paper: there legends stand outside of axes, as nobody can move them."""
    return _LOOK.get().paper is not None


def fitted(inches: float, least: float = 0.0) -> float:
    """The width of a figure that would have so many inches: on a screen just these, elsewhere a column or the whole text.

    A figure that needs at least `least` inches gets the width of the text instead of a column.
    """
    wanted, (column, full) = _LOOK.get(), _LOOK.get().widths
    if wanted.paper is None and wanted.width is None:
        return inches
    if isinstance(wanted.width, int | float):
        return float(wanted.width)
    narrow = wanted.width == "column" or (wanted.width is None and inches <= 1.4 * SINGLE)
    return column if narrow and least <= column else full


def side_by_side(count: int, width: float, least: float, most: int = 3) -> int:
    """How many of some panels fit beside each other into a figure of this width, each with at least so many inches."""
    return max(1, min(count, most, int(width / least)))


def shown(panels: Mapping[str, Collection[str]]) -> list[str]:
    """The names of panels that show one of the chosen columns; all of them if none does, or if nothing was chosen."""
    chosen = set(_LOOK.get().panels)
    return [name for name, columns in panels.items() if chosen & set(columns)] or list(panels)


class _Style(Mapping[str, Any]):
    """The settings of matplotlib for the look in force."""

    def __getitem__(self, key: str) -> Any:
        return (PRINTED if on_paper() else SCREEN)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(PRINTED if on_paper() else SCREEN)

    def __len__(self) -> int:
        return len(PRINTED if on_paper() else SCREEN)


STYLE: Any = _Style()  # matplotlib types rc keys as one long Literal


def rendered(figure: Figure, formats: Collection[str]) -> dict[str, bytes]:
    """The files of a figure by their format. The figure is laid out once and then stays as it is."""
    with mpl.rc_context(STYLE):
        # On the canvas and at the resolution of the PNG: what is measured of its texts is not measured again.
        figure.set_dpi(STYLE["savefig.dpi"])
        FigureCanvasAgg(figure)
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)
            # With a layout, matplotlib draws a figure twice for each file.
            figure.set_layout_engine(None)
        return {kind: _file(figure, kind) for kind in formats}


def _file(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself: pyplot, which would, keeps every figure alive and needs a backend.

    It keeps the look in which it was made, also for its files.
    """

    def __init__(self, *, figsize: tuple[float, float], least: float = 0.0, **options: Any) -> None:
        super().__init__(figsize=(fitted(figsize[0], least), figsize[1]), **options)
        self._style = dict(STYLE)

    def savefig(self, fname: Any, **options: Any) -> None:
        """As that of matplotlib, with fonts embedded as TrueType, which journals ask for."""
        with mpl.rc_context(self._style):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        return _file(self, "png", dpi=120)


class Drawn(NamedTuple):
    """What every figure_... returns: figure, axes = figure_...(...)."""

    figure: NotebookFigure
    axes: list[Axes]  # the panels row by row, without colour bars

    def savefig(self, fname: Any, **options: Any) -> None:
        """Write the figure into a file."""
        self.figure.savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        return self.figure._repr_png_()
