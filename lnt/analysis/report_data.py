"""What the page of an analysis draws by itself: cells, their curves, and lines, as plain lists and words for JSON."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lnt.analysis import cells
from lnt.analysis.comparison import Comparison
from lnt.analysis.figure_names import as_text, label
from lnt.analysis.figure_phase_diagram import cell_edges, colour_range
from lnt.analysis.figure_stages import PANELS
from lnt.analysis.load import RunTables
from lnt.analysis.time_diagram import common_times, rounded_t1
from lnt.intervals import FEWEST_SEEDS
from lnt.level_set import is_log
from lnt.theory.run_cells import predictable, predicted_curves_of_each

# A page has 4.8 MB of plotly, and is to stay below 15 MB; a number takes about seven bytes.
MOST_CELLS = 150_000
MOST_NUMBERS = 500_000  # of the values of all cells
MOST_POINTS = 500_000  # of all curves
MOST_PREDICTED = 60  # cells whose curves theory predicts: these take about two seconds
MOST_ROWS = 2_000_000  # of curves.parquet that are read for the page
FEWEST_STEPS, MOST_STEPS = 10, 60  # of a curve that is thinned
CURVES = tuple(metric for lines in PANELS.values() for metric in lines)
FURTHER = (  # values that a menu offers beside those of the figures, while there is room
    *("test_error", "best_test_error_fresh", "price_of_memorising", "stage1_step", "stage2_step", "strategy_test_error"),
    *("clean_accuracy", "noisy_accuracy", "overtaken_share", "signal_coef", "noise_coef_clean", "noise_coef_noisy"),
    *("train_loss", "best_step", "kept_precision", "transition_error"),
)


def in_words(key: str) -> str:
    """The label of a column on one line, without TeX."""
    return as_text(label(key).replace("\n", " "))


def numbers(values: Any, digits: int = 4) -> list[float | None]:
    """Numbers to so many significant digits; None where there is none, since JSON has neither NaN nor infinity."""
    array = np.asarray(values, float)
    texts = (f"%.{digits}g " * array.size % tuple(array.ravel())).split()
    return [float(text) if finite else None for text, finite in zip(texts, np.isfinite(array.ravel()), strict=True)]


def cells_of(
    table: pd.DataFrame, keys: Sequence[str], values: Sequence[str], planned: Mapping[str, Sequence[Any]]
) -> dict[str, Any] | None:
    """The cells of `cells.cells`: codes of the levels of each key, counts, and means of values with half their 95 % intervals.

    `values` come first; further ones follow while there is room. Levels are those of the table and those that were `planned`
    for a key: a cell is no larger because its neighbours have no runs. None if there are more than MOST_CELLS.
    """
    if len(table) > MOST_CELLS:
        return None
    known = [name for name in dict.fromkeys([*values, *FURTHER]) if f"{name}_mean" in table]
    shown = [name for name in known if table[f"{name}_mean"].notna().any()][: max(1, MOST_NUMBERS // (2 * len(table)))]
    return {
        "count": len(table),
        "keys": [_key(table[key], planned.get(key, ())) for key in keys],
        "fewest": FEWEST_SEEDS,
        "counts": {name: table[name].tolist() for name in ("n", "diverged", "failed", "missing")},
        "values": [_value(table, name) for name in shown],
    }


def _key(column: pd.Series, planned: Sequence[Any]) -> dict[str, Any]:
    """A swept key: its levels in order, and the number of each cell's level; -1 where it has none."""
    key: dict[str, Any] = {"name": str(column.name), "label": in_words(str(column.name))}
    if not cells.is_axis(column):
        codes, levels = pd.factorize(column.astype(object))
        return key | {"codes": codes.tolist(), "numeric": False, "levels": [str(level) for level in levels]}
    places = column.to_numpy(float, na_value=np.nan)
    points = np.unique([*places[np.isfinite(places)], *(float(point) for point in planned if point is not None)])
    key["codes"] = np.where(np.isfinite(places), np.searchsorted(points, places), -1).tolist()
    # Of more digits than values: two points of an axis must not become one.
    edges = numbers(cell_edges(points), 9)
    return key | {"numeric": True, "levels": numbers(points, 9), "log": is_log(points), "edges": edges}


def _value(table: pd.DataFrame, name: str) -> dict[str, Any]:
    mean, half = table[f"{name}_mean"].to_numpy(float), (table[f"{name}_high"] - table[f"{name}_mean"]).to_numpy(float)
    sure = np.isfinite(half).any()
    return {
        "name": name,
        "label": in_words(name),
        "range": numbers(colour_range(name, [mean])),
        "mean": numbers(mean),
        "half": numbers(half, 3) if sure else None,
    }


def curves_of(results: RunTables, table: pd.DataFrame, keys: Sequence[str]) -> dict[str, Any] | str:
    """Means over seeds of metrics by step in each cell, thinned to what is drawn; or why there are none.

    `grids` are the different lists of steps, `grid` is the number of each cell's list (-1: no curve), and `lines` has of each
    metric the values of each cell. `theory`: see `theory_of`; `clocks`: see `clocks_of`.
    """
    if len(table) * FEWEST_STEPS > MOST_POINTS or len(table) > MOST_CELLS:
        return f"curves of {len(table)} cells would make this page too large"
    if "recordings" in results.runs and results.runs["recordings"].sum() > MOST_ROWS:
        return f"all curves together have more than {MOST_ROWS} rows"
    if "recordings" in results.runs and results.runs["recordings"].max() < 2:
        return "one step was recorded of each run"
    rows = results.curves
    metrics = [name for name in CURVES if name in rows and rows[name].notna().any()]
    if not metrics or "step" not in rows:
        return "there are no curves"
    cell_of_run = cell_of_runs(results.runs, table, keys)
    cell = rows["run_id"].map(cell_of_run.set_axis(results.runs["run_id"]))
    means = rows[metrics].astype(float).groupby([cell, rows["step"]]).mean()
    numbers_of_cells, steps = (means.index.get_level_values(level).to_numpy(int) for level in (0, 1))
    most = min(MOST_STEPS, MOST_POINTS // (len(metrics) * len(table)))
    if most < FEWEST_STEPS:
        return f"curves of {len(table)} cells would make this page too large"
    grids: dict[tuple[int, ...], int] = {}
    grid = [-1] * len(table)
    lines: dict[str, list[list[float | None] | None]] = {name: [None] * len(table) for name in metrics}
    found = means.to_numpy()
    bounds = np.flatnonzero(np.diff(numbers_of_cells, prepend=-1, append=-1))
    for first, last in itertools.pairwise(bounds):
        use, at = first + thinned(steps[first:last], most), numbers_of_cells[first]
        grid[at] = grids.setdefault(tuple(steps[use].tolist()), len(grids))
        for name, column in zip(metrics, found[use].T, strict=True):
            lines[name][at] = numbers(column)
    theory = theory_of(results.runs, cell_of_run, len(table))
    clocks = clocks_of(results.runs, cell_of_run, list(grids), grid)
    return {"grids": [list(steps) for steps in grids], "grid": grid, "lines": lines, "theory": theory, "clocks": clocks}


def clocks_of(runs: pd.DataFrame, cell: pd.Series, grids: Sequence[tuple[int, ...]], grid: Sequence[int]) -> dict[str, Any]:
    """Times at which the page shows phase diagrams: `step`, and `t1` where theory knows the T1 of each cell with a curve.

    `times` are at most MOST_STEPS of the recorded ones, and `unit` is how many steps a unit of time is in each cell.
    """
    unit = rounded_t1(runs).groupby(cell)
    scale = unit.first().where(unit.nunique(dropna=False) == 1).reindex(range(len(grid))).to_numpy(float)
    used = [number for number in range(len(grid)) if grid[number] >= 0]
    units = {"step": np.ones(len(grid)), "t1": scale}
    return {
        clock: {
            "times": numbers(common_times(np.concatenate([np.array(grids[grid[i]]) / unit[i] for i in used]), MOST_STEPS), 9),
            "unit": numbers(unit, 9),
        }
        for clock, unit in units.items()
        if used and np.isfinite(unit[used]).all()
    }


def cell_of_runs(runs: pd.DataFrame, table: pd.DataFrame, keys: Sequence[str]) -> pd.Series:
    """For each run the number of its cell, a row of the table; without swept keys there is one cell."""
    if not keys:
        return pd.Series(0, runs.index)
    places = table[[*keys]].assign(cell=np.arange(len(table)))
    return runs[[*keys]].merge(places, "left", [*keys])["cell"].set_axis(runs.index)


def theory_of(runs: pd.DataFrame, cell: pd.Series, count: int) -> list[dict[str, Any] | None] | None:
    """Of each cell the curves that the mean-field theory has for its first run, if it is about it; None if of no cell."""
    first = ~cell.duplicated() & (about := predictable(runs))
    if count > MOST_PREDICTED or not about.any():
        return None
    places, found = cell.to_dict(), list[dict[str, Any] | None]([None] * count)
    for index, curves in predicted_curves_of_each(runs[first]):
        lines = {str(name): numbers(curves[name], 3) for name in curves}
        found[places[index]] = {"steps": numbers(curves.index), "lines": lines}
    return found


def thinned(steps: np.ndarray, most: int) -> np.ndarray:
    """The numbers of at most so many of the ascending steps, evenly on a log scale, the first and the last among them."""
    if len(steps) <= most:
        return np.arange(len(steps))
    place = np.log1p(steps)
    wanted = np.linspace(place[0], place[-1], most)
    return np.unique(np.abs(place[:, None] - wanted).argmin(0))


def lines_of(table: pd.DataFrame, x: str, values: Sequence[str], unit: str) -> dict[str, Any]:
    """Values over one key in one panel: a line for each."""
    lines = [_line(in_words(value), table, x, value, (number, 0)) for number, value in enumerate(values)]
    points = np.unique(table[x].astype(float))
    return {"x": in_words(x), "log": is_log(points), "options": None, "panels": [{"label": unit, "lines": lines}]}


def comparison_of(compared: Comparison, values: Sequence[str]) -> dict[str, Any]:
    """A panel for each value, in it a line (over numbers) or points (over options) for each level of hue and style."""
    table, hues, styles = compared.table, compared.levels("hue"), compared.levels("style")
    parts = [table[(table["hue"] == hue) & (table["style"] == style)] for hue, style in itertools.product(hues, styles)]
    named = [
        (" ".join(filter(None, levels)), part, looks)
        for levels, part, looks in zip(
            itertools.product(hues, styles), parts, itertools.product(range(len(hues)), range(len(styles))), strict=True
        )
        if len(part)
    ]
    panels = [
        {"label": in_words(value), "lines": [_line(name, part, "x", value, looks) for name, part, looks in named]}
        for value in values
    ]
    options = None if compared.numeric else [str(level) for level in dict.fromkeys(table["x"])]
    log = compared.numeric and is_log(np.unique(table["x"].astype(float)))
    return {"x": in_words(compared.x), "log": log, "options": options, "panels": panels}


def _line(name: str, table: pd.DataFrame, x: str, value: str, looks: tuple[int, int]) -> dict[str, Any]:
    """`looks`: the numbers of its colour and of its dashes."""
    half = table[f"{value}_high"] - table[f"{value}_mean"]
    places = numbers(table[x], 9) if cells.is_axis(table[x]) else [str(level) for level in table[x]]
    return {"name": name, "x": places, "mean": numbers(table[f"{value}_mean"]), "half": numbers(half, 3), "looks": looks}


def errors_of(failed: pd.DataFrame, most: int = 3) -> list[tuple[str, int]]:
    """The most frequent errors of runs that failed, and how many runs raised each."""
    return Counter(failed["error"].astype(str)).most_common(most)
