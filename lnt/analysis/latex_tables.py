"""tables.tex, for a paper: means with intervals, the best options bold (booktabs)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lnt.analysis import cells, comparison
from lnt.analysis.figure_names import heading, label, level, power_of_ten, quantity
from lnt.analysis.figure_style import in_force
from lnt.analysis.latex import tex, tex_of_name, write
from lnt.analysis.load import RunTables
from lnt.analysis.report import Report
from lnt.analysis.report_data import cell_of_runs
from lnt.column_names import COMPONENTS, ERRORS, SEEDS, SELECTION_AUCS
from lnt.intervals import CONFIDENCE, FEWEST_SEEDS, difference_interval, half_width

GIVEN = ("data", "noise")  # groups that are given; what belongs to no such group is chosen, and may be the best choice
LOWER = (*ERRORS, "transition_error")  # the lower the better
HIGHER = (  # the higher the better
    *(f"{name}{suffix}" for name in SELECTION_AUCS for suffix in ("", "_best")),
    *("kept_precision", "kept_recall", "selection_precision", "selection_recall"),
)
NOTHING = pd.Series(dtype=float)
MOST_COLUMNS, MOST_ROWS = 8, 40  # of a table that fits a page


def number(mean: float, half: float) -> tuple[str, str]:
    """A mean and half of its interval, to one digit of this half, or two where it begins with 1; without one three digits."""
    if not np.isfinite(mean):
        return "--", ""
    if not np.isfinite(half) or half == 0:
        return power_of_ten(f"{mean:.3g}"), "0" if half == 0 else ""
    place = int(np.floor(np.log10(half)))
    # Rounded first: 0.0996 is 0.10, of which the second digit counts.
    digits = place - (round(half / 10.0 ** (place - 1)) < 20)
    decimals = max(0, -digits)
    return tuple(f"{round(value, -digits):.{decimals}f}" for value in (mean, half))  # type: ignore[return-value]


@dataclass(frozen=True)
class Cell:
    """One cell of a table: the values of its runs, by seed, and whether some of its runs have none."""

    values: pd.Series
    whole: bool

    def text(self, best: bool, most: int) -> str:
        """Mean and half of the 95 % interval; the number of values where it is less than the most in the table."""
        count = len(self.values)
        mean, half = number(self.values.mean(), float(half_width(self.values.std(), count)))
        if mean == "--":
            return mean
        mean = rf"\mathbf{{{mean}}}" if best else mean
        interval, fewer = rf" \pm {half}" if half else "", f" ({count})" if count < most else ""
        return f"${mean}{interval}${fewer}"


def best_of(options: Sequence[Cell], lower: bool) -> int | None:
    """The number of the option that is better than each other one beyond the error of their difference; None without one.

    The differences are those of runs of one seed where the options have seeds in common (`difference_interval`). Their
    intervals have confidence 1 - 0.05 / (K - 1) of K options, so that of columns in which nothing is better than all else at
    most 5 % have a best one. An option of which a run is missing, or has no value, is never the best, as what is left may be
    the runs that went well. Options without any value are not compared.
    """
    there = [place for place, cell in enumerate(options) if len(cell.values)]
    whole = [place for place in there if options[place].whole]
    if len(there) < 2 or not whole:
        return None
    first = (min if lower else max)(whole, key=lambda place: options[place].values.mean())
    confidence = 1 - (1 - CONFIDENCE) / (len(there) - 1)
    for other in (options[place] for place in there if place != first):
        pair = pd.concat([options[first].values, other.values], axis=1, keys=["first", "other"])
        low, high = difference_interval(pair["first"], pair["other"], confidence)
        if not (high < 0 if lower else low > 0):
            return None
    return first


def add_tables(report: Report, table: pd.DataFrame, keys: Sequence[str], values: Sequence[str]) -> None:
    """Write tables.tex: the values of all cells (a table of analysis.cells over `keys`), if a page holds them."""
    given = [key for key in keys if key.partition(".")[0] in GIVEN]
    chosen = [key for key in keys if key not in given]
    across = len(given) == 1 and chosen and table[given[0]].nunique() <= MOST_COLUMNS
    rows = len(table[chosen].drop_duplicates()) if across else len(table)
    if not keys or rows > MOST_ROWS:
        report.note(f"tables.tex: {len(table)} cells make no table of at most {MOST_ROWS} rows; they are in cells.csv")
        return
    table = comparison.as_planned(table, report.results.plans, chosen).reset_index(drop=True)
    grid = CellTable(report.results, table, given, chosen, _names(report.results.runs, table, chosen))
    texts = [grid.across(value) for value in values] if across else [grid.down(values)]
    head = "% \\usepackage{booktabs}; all numbers are in cells.csv\n"
    write(report, "tables.tex", head + "\n".join(texts))


def _names(runs: pd.DataFrame, table: pd.DataFrame, chosen: Sequence[str]) -> list[str]:
    """What is chosen in each cell, as LaTeX: options with those of their settings that vary, and settings of what is fixed."""
    groups = [key for key in chosen if key in COMPONENTS]
    alone = [key for key in chosen if key not in groups and key.partition(".")[0] not in groups]
    parts = [comparison.names_of(runs, key).map(lambda name: _named(str(name))) for key in groups]
    parts += [runs[key].map(lambda value, key=key: tex_of_name(heading(cells.title_of([key], (value,))))) for key in alone]
    if not parts:
        return [""] * len(table)
    named = runs[[*chosen]].assign(name=pd.concat(parts, axis=1).agg(", ".join, axis=1)).drop_duplicates([*chosen])
    found = table[[*chosen]].merge(named, "left", [*chosen])["name"].fillna("--")
    return found.tolist()


@dataclass(frozen=True)
class CellTable:
    """The cells of a sweep as the rows of tables: `names` of what was chosen, LaTeX, for each row of `table`."""

    results: RunTables
    table: pd.DataFrame
    given: list[str]
    chosen: list[str]
    names: list[str]

    def across(self, value: str) -> str:
        """A row for each choice, a column for each value of the one given key."""
        (key,) = self.given
        columns, rows = sorted(self.table[key].unique()), list(dict.fromkeys(self.names))
        found = dict(zip(zip(self.names, self.table[key], strict=True), self.cells(value), strict=True))
        grid = [[found.get((row, column), Cell(NOTHING, False)) for column in columns] for row in rows]
        most = max(len(cell.values) for row in grid for cell in row)
        best = [_best([row[place] for row in grid], value) for place in range(len(columns))]
        lines = [
            rf" & \multicolumn{{{len(columns)}}}{{c}}{{{tex_of_name(label(key))}}} \\",
            rf"\cmidrule(lr){{2-{len(columns) + 1}}}",
            " & ".join([tex_of_name(", ".join(map(label, self.heads()))), *(_level(column) for column in columns)]) + r" \\",
            r"\midrule",
        ]
        for place, (name, row) in enumerate(zip(rows, grid, strict=True)):
            lines.append(" & ".join([name, *(c.text(best[i] == place, most) for i, c in enumerate(row))]) + r" \\")
        caption = f"{_sentence(label(value))}. {_method(most, self.marked([value]))}"
        return _table(caption, value, "l" + "c" * len(columns), lines)

    def down(self, values: Sequence[str]) -> str:
        """A row for each cell, its given and its chosen settings first, a column for each value."""
        columns = {value: self.cells(value) for value in values}
        most = max(len(cell.values) for column in columns.values() for cell in column)
        block_of = self.table.groupby(self.given, dropna=False).ngroup() if self.given else pd.Series(0, self.table.index)
        heads = [*map(label, self.given), *([", ".join(map(label, self.heads()))] if self.chosen else [])]
        lines = [
            " & ".join([*heads, *(tex_of_name(quantity(value)) for value in values)]) + r" \\",
            r"\midrule",
        ]
        for block in (np.flatnonzero(block_of == place) for place in range(block_of.max() + 1)):
            if block_of[block[0]] and len(block) > 1:
                lines.append(r"\addlinespace")
            best = {
                value: _best([column[i] for i in block], value) if self.chosen else None for value, column in columns.items()
            }
            for place, i in enumerate(block):
                settings = [_level(self.table[key].iloc[i]) for key in self.given] + ([self.names[i]] if self.chosen else [])
                texts = [column[i].text(best[value] == place, most) for value, column in columns.items()]
                lines.append(" & ".join([*settings, *texts]) + r" \\")
        return _table(_method(most, self.marked(values)), "cells", "l" * len(heads) + "c" * len(values), lines)

    def heads(self) -> list[str]:
        """The groups, or settings, that are chosen."""
        return list(dict.fromkeys(key if key in COMPONENTS else key.partition(".")[0] for key in self.chosen))

    def marked(self, values: Sequence[str]) -> bool:
        """Whether a best option is looked for."""
        return bool(self.chosen) and any(value in (*LOWER, *HIGHER) for value in values)

    def cells(self, value: str) -> list[Cell]:
        """One cell for each row of the table."""
        runs, seeds = self.results.runs, [key for key in SEEDS if key in self.results.runs]
        cell = cell_of_runs(runs, self.table, [*self.given, *self.chosen])
        by_seed = (
            runs[value]
            .astype(float)
            .where(lambda x: np.isfinite(x))
            .groupby([cell, *(runs[key] for key in seeds)])
            .mean()
            .dropna()
        )
        found = {place: part.droplevel(0) for place, part in by_seed.groupby(level=0)}
        parts = [found.get(place, NOTHING) for place in range(len(self.table))]
        lost = self.table[["diverged", "failed", "missing"]].sum(axis=1)
        return [Cell(part, gone == 0 and len(part) == n) for part, gone, n in zip(parts, lost, self.table["n"], strict=True)]


def _best(options: Sequence[Cell], value: str) -> int | None:
    return best_of(options, value in LOWER) if value in (*LOWER, *HIGHER) else None


def _level(value: Any) -> str:
    if pd.isna(value):
        return "--"
    return f"${power_of_ten(f'{value:.6g}')}$" if isinstance(value, int | float | np.number) else _named(str(value))


def _named(option: str) -> str:
    """The name of an option, LaTeX: one's own may have formulas."""
    return tex(option) if (own := level(option)) == option else tex_of_name(own)


def _sentence(text: str) -> str:
    """A label as the beginning of a sentence, LaTeX."""
    found = tex_of_name(text.replace("\n", " "))
    return found[:1].upper() + found[1:]


def _method(most: int, marked: bool) -> str:
    """What the numbers are, and what is bold."""
    if most < FEWEST_SEEDS:
        return f"Means over {most} seeds, without intervals: fewer than {FEWEST_SEEDS} seeds."
    text = rf"Mean $\pm$ half of its 95\,\% interval (Student's $t$) over {most} seeds; in brackets how many, where fewer."
    if marked:
        text += (
            r" Bold: better than each other choice beyond the error of the difference, seed by seed (paired $t$ intervals,"
            r" together 95\,\%; Bonferroni)."
        )
    return text


def _table(caption: str, name: str, columns: str, lines: Sequence[str]) -> str:
    rows = [[_length(part) for part in re.split(r"(?<!\\)&", line)] for line in lines if line.count("&") == len(columns) - 1]
    # A digit has 5 points, and between columns there are 12.
    points = sum(5 * max(lengths) + 12 for lengths in zip(*rows, strict=True))
    kind = "table*" if points > 72 * in_force().widths[0] else "table"
    body = "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}"])
    return f"\\begin{{{kind}}}[t]\n\\caption{{{caption}}}\n\\label{{tab:{name}}}\n\\centering\n{body}\n\\end{{{kind}}}\n"


def _length(text: str) -> int:
    """How many letters LaTeX sets, about."""
    return len(re.sub(r"\\(?:mathbf|mathrm)|[\\${}]", "", re.sub(r"\\(?!math)[a-z]+", "x", text)).strip())
