"""Cells of somebody else beside one's own: `analyze.py against=FILE`.

The file is a CSV table in the columns of the results: swept keys, one outcome, and if known its standard error as OUTCOME_se.
A value with a comma stands in double quotes.
Lines that begin with # say where it comes from.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lnt.analysis import cells
from lnt.analysis.load import RunTables
from lnt.column_names import SEEDS
from lnt.errors import require
from lnt.files import read_text
from lnt.intervals import FEWEST_SEEDS, TOO_FEW, jackknife_interval

NUMBERS = ("ours", "ours_se", "theirs", "theirs_se", "difference")


@dataclass(frozen=True)
class Against:
    """Cells that both have: `table` has the keys, `ours`, `theirs`, their standard errors (`_se`), `difference`."""

    keys: list[str]
    value: str
    table: pd.DataFrame
    published: int  # cells in the file
    source: str  # what its first line says
    left_out: np.ndarray  # [seeds]: the mean difference without one of our seeds each

    @property
    def rms(self) -> float:
        """Root mean square difference."""
        return float(np.sqrt((self.table["difference"] ** 2).mean()))

    @property
    def offset(self) -> tuple[float, float, float]:
        """Mean difference over cells, ours - theirs, and its 95 % interval over our seeds, which cells share.

        The error of the published cells is not in it.
        """
        mean = float(self.table["difference"].mean())
        low, high = jackknife_interval(mean, self.left_out)
        return mean, float(low), float(high)

    def summary(self) -> str:
        """All of it in a line."""
        far, (offset, low, high) = self.table.to_dict("records")[int(self.table["difference"].abs().argmax())], self.offset
        few = TOO_FEW if len(self.left_out) < FEWEST_SEEDS else "no interval: some of these cells have one seed"
        interval = f" [{low:+.4f}, {high:+.4f}]" if np.isfinite(low) else f" ({few})"
        place = cells.title_of(self.keys, tuple(far[key] for key in self.keys))
        spread = np.hypot(*np.nan_to_num([far["ours_se"], far["theirs_se"]]))
        whose = "s.e." if np.isfinite(far["theirs_se"]) else "s.e. of ours"
        return (
            f"{self.value}, {len(self.table)} of {self.published} published cells: rms difference {self.rms:.4f}, "
            f"mean {offset:+.4f}{interval}, largest {far['difference']:+.4f} ({whose} {spread:.4f}) at {place}"
        )


def read_reference(path: Path) -> tuple[pd.DataFrame, str]:
    """The table, and what the first line says of its source. Raises ConfigError if it is none."""
    lines = read_text(path).splitlines()
    comments = [line.lstrip("# ").strip() for line in lines if line.startswith("#")]
    rows = list(csv.reader(line for line in lines if line.strip() and not line.startswith("#")))
    require(
        len(rows) > 1 and len({len(row) for row in rows}) == 1, "against", path, "must be a CSV table with a line of columns"
    )
    names = [name.strip() for name in rows[0]]
    require(len(set(names)) == len(names), "against", path, "names a column twice")
    table = pd.DataFrame([[cell.strip() for cell in row] for row in rows[1:]], columns=names)
    return table, comments[0] if comments else path.name


def compared_with(results: RunTables, path: Path, value: str | None) -> Against:
    """The cells of a file beside the means of the same cells here. Raises ConfigError if they have nothing to compare."""
    table, source = read_reference(path)
    runs = results.runs
    outcomes = [name for name in table if name in cells.outcome_columns(runs) and value in (None, name)]
    require(
        len(outcomes) == 1, "against", path, f"must have one outcome that the results have, such as {value or 'test_error'}"
    )
    value = str(outcomes[0])
    keys = [str(name) for name in table if name not in (value, f"{value}_se")]
    known = cells.config_columns(runs)
    for key in keys:
        cells.check_column(runs, "against", key, known)
    require(len(keys) > 0, "against", path, "names no key of the results beside the outcome")
    columns = {"theirs": value, "theirs_se": f"{value}_se"}
    theirs = table[keys].assign(**{name: _numbers(table, column, path) for name, column in columns.items()})
    own = cells.seed_means(runs, keys, [value]).groupby(keys)[value].agg(ours="mean", ours_se="sem").reset_index()
    # Numbers are the same if nine digits are: 0.1 may have been written as 0.1000.
    places = [f"place {number}" for number in range(len(keys))]
    for part in (own, theirs):
        part[places] = np.stack([_places(part[key]) for key in keys], 1)
    both = own.merge(theirs.drop(columns=keys), on=places).drop(columns=places)
    require(len(both) > 0, "against", path, f"has no cell that the results have, by {', '.join(keys)}")
    return Against(
        keys,
        value,
        both.assign(difference=both["ours"] - both["theirs"]).astype(dict.fromkeys(NUMBERS, float)),
        len(table),
        source,
        _without_each_seed(runs, keys, value, both),
    )


def _without_each_seed(runs: pd.DataFrame, keys: list[str], value: str, both: pd.DataFrame) -> np.ndarray:
    """The mean difference over the cells of `both` without one seed each, [seeds]: a seed is left out of all cells."""
    seeds = [key for key in SEEDS if key in runs]
    number = runs.groupby(seeds, dropna=False).ngroup() if seeds else 0
    of_seeds = runs[keys].assign(number=number, value=runs[value]).groupby([*keys, "number"])["value"].mean().unstack()
    values = of_seeds.reindex(pd.MultiIndex.from_frame(both[keys]) if len(keys) > 1 else both[keys[0]]).to_numpy(float)
    # Seeds of other cells tell nothing of these.
    values = values[:, np.isfinite(values).any(0)]
    there = np.isfinite(values)
    count, total = there.sum(1, keepdims=True), np.where(there, values, 0).sum(1, keepdims=True)
    # A cell of one seed has no mean without it: NaN, as for a statistic that does not exist without a seed.
    rest = np.where(there, total - values, total) / np.where(count - there > 0, count - there, np.nan)
    return np.asarray(rest.mean(0) - both["theirs"].astype(float).mean())


def _numbers(table: pd.DataFrame, column: str, path: Path) -> pd.Series:
    """A column of numbers; NaN where the file has none."""
    numbers = pd.to_numeric(table[column], errors="coerce") if column in table else pd.Series(np.nan, table.index)
    require(column not in table or bool(np.isfinite(numbers).all()), "against", path, f"has no number somewhere in {column}")
    return numbers


def _places(values: pd.Series) -> np.ndarray:
    """Values of a key as text that is equal where they are."""
    numbers = pd.to_numeric(values, errors="coerce")
    texts = zip(numbers, values, strict=True)
    return np.array([str(value) if np.isnan(number) else f"{number:.9g}" for number, value in texts], object)
