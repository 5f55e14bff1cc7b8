"""Comparisons: a value over one key (numbers or options), a line or a row of points for each option of others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lnt.analysis import cells
from lnt.analysis.load import RunTables
from lnt.column_names import COMPONENTS, SEEDS

MOST_LEVELS = 8  # colours that can be told apart, with any colour vision


@dataclass(frozen=True)
class Comparison:
    """What is compared: the keys of axis, colour and style, and means with intervals over all other runs.

    `table` has the columns x, hue and style (names of levels, or the numbers of a numeric axis), the number n of runs, and of
    each value its mean and 95 % interval over seeds, and how many runs (`_n`) have one: not all reach the end of a stage.
    """

    x: str
    hue: str | None
    style: str | None
    table: pd.DataFrame
    averaged: Sequence[str] = ()  # swept keys that the means run over, beside the seeds

    @property
    def numeric(self) -> bool:
        """Whether the axis holds numbers."""
        return bool(pd.api.types.is_numeric_dtype(self.table["x"]))

    def levels(self, which: str) -> list[str]:
        """The levels of hue or style in their order; one without a name where there is no such key."""
        return list(dict.fromkeys(self.table[which]))


def categorical_keys(results: RunTables) -> list[str]:
    """The swept keys that are options or words, the one with the fewest levels first, without settings of a swept option."""
    keys = cells.swept_keys(results)
    own = [key for key in keys if cells.is_axis(results.runs[key]) or _owner(key) in keys]
    return sorted((key for key in keys if key not in own), key=lambda key: results.runs[key].nunique())


def _owner(key: str) -> str | None:
    """The group that a setting belongs to; None for a group, and for what belongs to none."""
    group = key.partition(".")[0]
    return group if "." in key and group in COMPONENTS else None


def names_of(runs: pd.DataFrame, key: str, taken: Sequence[str] = ()) -> pd.Series:
    """The level of each run: the value of a key; of a group the option with those of its settings that vary within it.

    Settings that are `taken`, by an axis say, are no part of the name.
    """
    own = [column for column in cells.swept(runs) if _owner(column) == key and column not in taken]
    varied = [column for column in own if runs.groupby(key)[column].nunique(dropna=False).max() > 1]
    table = runs[[key, *varied]].drop_duplicates()
    names = [_name(row, key) for row in table.astype(object).to_dict("records")]
    return runs[[key, *varied]].merge(table.assign(name=names), how="left", on=[key, *varied])["name"].set_axis(runs.index)


def _name(setting: Mapping[Any, Any], key: str) -> str:
    """An option with its settings: words, what is switched on, and numbers under their names."""
    words = []
    for column, value in setting.items():
        name = str(column).rpartition(".")[2]
        if column == key and pd.isna(value):
            words.append("null")
        elif column == key or isinstance(value, str):
            words.append(f"{value:g}" if isinstance(value, float) else str(value))
        # A setting that is switched off, or that belongs to other options, is left out of the name.
        elif value is not False and pd.notna(value):
            words.append(name if value is True else f"{name}={value:g}")
    return " ".join(words)


def compare(results: RunTables, x: str, hue: str | None, style: str | None, values: Sequence[str]) -> Comparison:
    """Means of values over the axis x for each level of hue and style."""
    taken = [key for key in (hue, style, x) if key]
    settings = [key for key in cells.swept(results.runs) if _owner(key) in taken]
    runs = as_planned(results.runs, results.plans, list(dict.fromkeys([*taken, *settings])))
    numeric = cells.is_axis(runs[x])
    named = {"hue": hue, "style": style}
    table = (
        runs[[*values]]
        .astype(float)
        .assign(
            x=runs[x].astype(float) if numeric else names_of(runs, x, taken),
            **{which: names_of(runs, key, taken) if key else "" for which, key in named.items()},
        )
    )
    # In the order of the plan, which the runs have.
    place = ["hue", "style", "x"]
    found = cells.over_seeds(table.join(runs[[key for key in SEEDS if key in runs]]), place, values)
    grouped = table.groupby(place, sort=False, dropna=False)
    found = found.assign(n=grouped.size()).join(grouped[[*values]].count().add_suffix("_n"))
    averaged = [key for key in cells.swept_keys(results) if key not in taken and _owner(key) not in taken]
    found = found.reset_index()
    return Comparison(x, hue, style, found.sort_values("x", kind="stable") if numeric else found, averaged)


def as_planned(table: pd.DataFrame, plans: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> pd.DataFrame:
    """Rows of runs or cells in the order in which values of `keys` were typed; what no plan names comes last."""
    if not keys:
        return table
    # Runs come in the order in which they ended, which is another one each time, and cells in that of the alphabet.
    planned = cells.planned_values(plans)
    places = {
        key: table[key].map({cells.as_in_table(value): place for place, value in enumerate(planned.get(key, []))})
        for key in keys
    }
    return table.loc[pd.DataFrame(places).astype(float).sort_values([*keys], kind="stable").index]
