"""Legends outside the axes, where they cover nothing. They name what has been drawn, and nothing else."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.legend_handler import HandlerLine2D
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

HANDLE, GAP = 2.9, 2.0  # in sizes of the text: the sample of a line with its distance to the text, and between two columns
LINE, BETWEEN = 1.2, 0.5  # the same of a line of text, and of what is between two entries
Entries = Mapping[str, Any]  # text -> what it names: an artist, or a container of artists


def drawn(axes: Iterable[Axes]) -> dict[str, Any]:
    """What some axes show under its label; lines and points without a finite value are left out, as there is nothing to see."""
    found: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            if label not in found and _has_points(handle):
                found[label] = handle
    return found


def _has_points(handle: Any) -> bool:
    if isinstance(handle, ErrorbarContainer):
        handle = handle.lines[0]
    if isinstance(handle, Line2D):
        points = handle.get_xydata()
    elif isinstance(handle, PathCollection):
        points = np.ma.filled(handle.get_offsets(), np.nan)
    else:
        return True
    return bool(np.isfinite(np.asarray(points, float)).all(axis=-1).any())


def legend_below(figure: Figure, entries: Entries, title: str | None = None, **options: Any) -> Legend | None:
    """Below all axes, in as many columns as fit. The figure grows by its height. None without entries."""
    if not entries:
        return None
    room = 72 * figure.get_figwidth() - GAP * text_size()
    texts, columns = _laid_out(entries, room)
    figure.set_figheight(figure.get_figheight() + _height(texts, columns, title))
    place = {"loc": "outside lower center", "ncols": columns, "title": title, "title_fontsize": text_size()}
    return figure.legend(list(entries.values()), texts, handler_map=UPRIGHT, **{**place, **options})


def legend_above(ax: Axes, entries: Entries, room: float, title: str = "", **options: Any) -> float:
    """Above an axes, in as many columns as fit `room` (points), below the title of the axes; without entries the title alone.

    Returns its height in inches, by which the figure may grow.
    """
    if not entries:
        ax.set_title(title)
        return 0.0
    texts, columns = _laid_out(entries, room)
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "borderaxespad": 0.2, "ncols": columns}
    ax.legend(list(entries.values()), texts, handler_map=UPRIGHT, **{**place, "title": title or None, **options})
    return _height(texts, columns, title)


def _height(texts: Sequence[str], columns: int, title: str | None) -> float:
    """How high a legend is, in inches."""
    rows = -(-len(texts) // columns)
    lines = max(sum(text.count("\n") + 1 for text in texts[i * rows : (i + 1) * rows]) for i in range(columns))
    heading = title.count("\n") + 1 if title else 0
    return text_size() * (LINE * (lines + heading) + BETWEEN * (rows + 2)) / 72


def legend_beside(ax: Axes, entries: Entries | None = None, **options: Any) -> Legend | None:
    """To the right of an axes; what it shows by default. None without entries."""
    entries = drawn([ax]) if entries is None else entries
    if not entries:
        return None
    place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    return ax.legend(list(entries.values()), list(entries), handler_map=UPRIGHT, **{**place, **options})


class UprightLine(HandlerLine2D):
    """The sample of a line: upright if the line is."""

    def create_artists(self, legend: Legend, orig_handle: Any, *size: Any) -> Sequence[Artist]:
        """`size`: x and y of the corner, width, height, font size, transformation."""
        found = super().create_artists(legend, orig_handle, *size)
        x = np.asarray(orig_handle.get_xdata(), float)
        if len(x) == 2 and x[0] == x[1]:
            left, bottom, width, height, *_ = size
            found[0].set(data=([(width - left) / 2] * 2, [-bottom - 0.3 * height, -bottom + 1.3 * height]))
        return found


UPRIGHT = {Line2D: UprightLine()}


def by_label(artists: Iterable[Artist]) -> dict[str, Artist]:
    """Artists under their labels."""
    return {str(artist.get_label()): artist for artist in artists}


def text_size() -> float:
    """Of a legend, in points."""
    return float(mpl.rcParams["legend.fontsize"])


def _laid_out(entries: Iterable[str], room: float) -> tuple[list[str], int]:
    """The texts of entries, wrapped where one is wider than `room` (points), and how many columns of them fit."""
    size = text_size()
    texts = [wrapped(text, room - (HANDLE + GAP) * size, size) for text in entries]
    widest = max(width(text, size) for text in texts) + (HANDLE + GAP) * size
    return texts, min(len(texts), max(1, int(room // widest)))


def width(text: str, size: float | None = None) -> float:
    """How wide a text is, in points; of several lines the widest one. It may hold formulas."""
    font = FontProperties(size=text_size() if size is None else size)
    return max(text_to_path.get_text_width_height_descent(line, font, "$" in line)[0] for line in text.split("\n"))


def wrapped(text: str, room: float, size: float | None = None) -> str:
    """A text in lines of at most `room` points: broken between words, within a long one after = and _, or where it must be.

    A formula is one word, and is not broken. The size is that of legends by default.
    """
    size = text_size() if size is None else size
    lines = []
    for part in text.split("\n"):
        lines.append("")
        for piece in (piece for word in re.findall(r"(?:\$[^$]*\$|\S)+\s?", part) for piece in _pieces(word, room, size)):
            if lines[-1] and width((lines[-1] + piece).rstrip(), size) > room:
                lines.append("")
            lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def titled(ax: Axes, title: str, inches: float) -> None:
    """A title, wrapped to so many inches."""
    ax.set_title(wrapped(title, 72 * inches, float(mpl.rcParams["axes.titlesize"])))


def _pieces(word: str, room: float, size: float) -> list[str]:
    """A word as it is, or if it is wider than `room` in pieces that are not."""
    if "$" in word or width(word.rstrip(), size) <= room:
        return [word]
    parts = re.findall(r"[^=_]+[=_]*|[=_]+", word)
    return [piece for part in parts for piece in ([part] if width(part, size) <= room else part)]
