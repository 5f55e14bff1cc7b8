"""Text as LaTeX, and the files that hold it."""

import re
from pathlib import Path

from lnt.analysis.figure_names import SYMBOLS
from lnt.analysis.report import Report
from lnt.files import write_atomically

GREEK = {sign: f"${formula}$" for formula, sign in SYMBOLS.items() if len(sign) == 1 and not sign.isascii()}
ESCAPED = {sign: f"\\{sign}" for sign in "&%$#_{}"} | GREEK
ESCAPED |= {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}", "|": r"\textbar{}", "\n": " "}
ESCAPED |= {"<": r"\textless{}", ">": r"\textgreater{}"}


def tex(text: str) -> str:
    """Text as LaTeX; nothing in it is a command."""
    escaped = "".join(ESCAPED.get(sign, sign) for sign in text)
    return re.sub(r"\\\^\{\}(-?[\d.]*\d)", r"$^{\1}$", escaped)


def tex_of_name(text: str) -> str:
    """A name as figures have it: formulas between two $ stay, all else is text."""
    parts = re.split(r"(\$[^$]*\$)", text)
    return "".join(part if part.startswith("$") and part.endswith("$") and len(part) > 1 else tex(part) for part in parts)


def write(report: Report, name: str, text: str) -> None:
    write_atomically(report.folder / name, lambda file: Path.write_text(file, text + "\n", encoding="utf-8"))
    report.written.append(name)
