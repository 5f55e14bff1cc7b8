"""A study: which figures and tables analyze.py makes of which results."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from lnt.analysis import cells, comparison, latex, report_data, study_images, study_theory
from lnt.analysis.figure_comparison import figure_against, figure_comparison
from lnt.analysis.figure_lines import STRATEGY_PANELS, figure_lines, figure_strategies
from lnt.analysis.figure_names import as_text, label, quantity
from lnt.analysis.figure_phase_diagram import figure_collapse, figure_phase_diagram
from lnt.analysis.figure_scorecard import figure_scorecard
from lnt.analysis.figure_selection import LOOKS, WHEN, figure_signals, figure_signals_by
from lnt.analysis.figure_stages import figure_stages
from lnt.analysis.figure_style import FORMATS, SINGLE, in_force
from lnt.analysis.figure_time import ENDS, animation, figure_time
from lnt.analysis.goodness_of_fit import compared, fits_table
from lnt.analysis.load import read
from lnt.analysis.phase_diagram import Grid, facets, shared_draws
from lnt.analysis.reference import Against, compared_with
from lnt.analysis.report import Report, own_folder
from lnt.analysis.scorecard import scorecard, to_table
from lnt.analysis.time_diagram import CLOCKS, FEWEST_TIMES, check_time, metric_columns, over_time, pictures, time_table
from lnt.column_names import ERRORS
from lnt.errors import require
from lnt.intervals import FEWEST_SEEDS, TOO_FEW
from lnt.theory.conditions import law_of
from lnt.theory.laws import Law, flip_rate

log = logging.getLogger(__name__)
STAGES = "Two stages of learning: means and 95 % intervals; where the axis of an error is logarithmic, medians and quartiles"
MAX_CONDITIONS, MAX_FACETS, MAX_SCORED = 4, 6, 20_000  # above these a figure is crowded, or a scorecard slow
MAX_PICTURES = 60  # of a phase diagram that moves
MOVING = "gif"  # among the formats: of phase diagrams only
TEST_ERRORS = ("test_error", "test_error_observed")  # the second where true labels are not known
USUAL = ("best_test_error_fresh", "test_error", "price_of_memorising", "stage1_step", "stage2_step")


def write(
    path: Path,
    x: str | None,
    y: str | None,
    hue: str | None,
    style: str | None,
    value: str | None,
    level: float | None,
    against: str | None,
    formats: Sequence[str],
    attributions: study_images.Attributions,
    folders: Sequence[Path],
) -> Report:
    """Read the results at `path`; write tables, figures, manifest and page to `path`/analysis. Raises ConfigError.

    `y` may also be one of time_diagram.CLOCKS: time. `formats` of the figures are some of FORMATS, and `gif` for phase diagrams
    over time. `folders` are those of conf/ and the user's own: attributions find the class of an option there.
    """
    every = (*FORMATS, MOVING)
    known = isinstance(formats, Sequence) and not isinstance(formats, str) and all(kind in every for kind in formats)
    require(known, "formats", str(formats), f"must be a list of some of {', '.join(every)}, as in formats=[pdf,png]")
    results = read(path)
    runs, keys = results.runs, cells.swept_keys(results)
    numeric = [key for key in cells.config_columns(runs) if cells.is_axis(runs[key])]
    outcomes = cells.outcome_columns(runs)
    settings = cells.config_columns(runs)
    clock, beside = y if y in CLOCKS else None, [*numeric, *CLOCKS]
    for name, column, allowed in (("x", x, settings), ("y", y, beside), ("hue", hue, settings), ("style", style, settings)):
        if column is not None:
            cells.check_column(runs, name, column, allowed)
    if value is not None and not clock:
        cells.check_column(runs, "value", value, outcomes)
    panels = in_force().panels
    for column in panels:
        cells.check_column(runs, "panels", column, outcomes)
    given = [key for key in (x, y, hue, style) if key is not None]
    require(len(set(given)) == len(given), "x, y, hue, style", given, "must be different keys")
    require(y is None or (hue is None and style is None), "y", y, "makes a phase diagram, which has neither hue nor style")
    require(y is None or x is None or x in numeric, "x", x, "must hold numbers, as y makes a phase diagram")
    require(level is None or (isinstance(level, int | float) and np.isfinite(level)), "level", level, "must be a number")
    # Before the folder is touched: a file that cannot be compared leaves nothing behind.
    published = None if against is None else compared_with(results, Path(against), value)
    value = published.value if published else value
    if clock:
        check_time(results, clock, x, value)
    report = Report(results, path, own_folder(path), [kind for kind in formats if kind != MOVING])
    asked = bool(given) or value is not None
    report.note_versions()
    everything = pd.concat([part for part in (runs, results.diverged, results.failed) if len(part)])
    report.table("all_runs", everything.assign(directory=results.directories.array))
    del everything  # it may be as large as all else
    table = cells.cells(results, keys or ["data"], outcomes)
    report.missing = int(table["missing"].sum())
    report.table("cells", table)
    if (table["n"] < FEWEST_SEEDS).any():
        report.note(f"{int((table['n'] < FEWEST_SEEDS).sum())} of {len(table)} cells have {TOO_FEW}")
    refine = None if clock else cells.refinement(results.plans)
    if refine and value in (None, refine["value"]) and refine["value"] in outcomes:
        value, level = refine["value"], refine["level"] if level is None else level
    values = [value] if value else [name for name in USUAL if runs[name].notna().any()]
    if not value and runs["last_step"].equals(runs["best_step"]):
        values = ["test_error"]  # one recorded step: early stopping has nothing to choose from
    values = [name for name in panels if runs[name].notna().any() and not value] or values
    if clock and not value:
        measured = metric_columns(results)
        values = [next(name for name in TEST_ERRORS if name in measured), *({"noisy_accuracy"} & {*measured})]
    axes, lines = cells.numeric_axes(results), hue is not None or style is not None or (x is not None and x not in numeric)
    x = x or next((key for key in axes if key not in (y, hue, style)), None)
    y = None if lines else y or next((key for key in axes if key != x), None)
    absent = int(runs[[key for key in (x, y) if key in settings]].isna().any(axis=1).sum())
    if absent:
        report.note(f"{absent} runs that have no value of {x} or {y} are not in the figures over these")
    earlier = int(runs["best_test_error_fresh"].isna().sum())
    if earlier:
        report.note(
            f"{earlier} runs of an earlier version, with one test sample or no true labels lack best_test_error_fresh and price"
        )
    if published:
        report.note(f"against {published.source}: {published.summary()}")
        report.figure("against", figure_against(published), published.table, f"Against {published.source}")
    _add_stages(report)
    _add_signals(report, keys)
    study_images.add_images(report, attributions, folders)
    _add_scorecard(report)
    predicted = study_theory.add_theory(report, x, None if clock else y, [key for key in keys if clock and key != x])
    # The figure of strategies replaces phase diagrams and lines, unless an axis or a value was asked for.
    if _add_strategies(report) and not asked:
        pass
    elif clock and x:
        for name in values:
            _add_time(report, x, clock, name, level, predicted)
    elif x and y and not asked and not cells.is_product(results, keys):
        report.note("the sweep is no full grid: no phase diagram is drawn")
    elif x and y:
        for name in values:
            _add_phase(report, x, y, [key for key in keys if key not in (x, y)], name, level, predicted, published)
    elif categories := _categories(report, x, hue, style):
        _add_comparison(report, *categories, values)
    elif x:
        for key in [key for key in keys if key != x]:
            report.note(f"{key} takes several values and is averaged over in the plots against {x}")
        if runs[x].nunique() == 1:
            report.note(f"the axis {x} has one point only")
        _add_lines(report, x, values)
    if MOVING in formats:
        _add_animations(report, x, y, values)
    _add_cells(report, table, keys, values, (x, y) if report.folded else None, level)
    if in_force().paper:
        latex.add_tables(report, table, keys, values)
        latex.add_captions(report, table)
    report.finish()
    return report


def _add_cells(
    report: Report, table: pd.DataFrame, keys: list[str], values: list[str], axes: tuple | None, level: float | None
) -> None:
    """What the page explores: the cells, their curves, and the axes of the phase diagram that it begins with."""
    found = report_data.cells_of(table, keys, values)
    if found is None:
        report.note(f"{len(table)} cells would make the page too large: they are in cells.parquet")
        return
    phase = None
    if axes:
        shared, refined = _of_shared_draws(report.results.runs, *axes), cells.refinement(report.results.plans) is not None
        phase = {"x": axes[0], "y": axes[1], "value": values[0], "level": level, "shared": shared, "refined": refined}
    curves = report_data.curves_of(report.results, table, keys)
    report.explored = {"cells": found, "phase": phase, "curves": curves}


def _add_stages(report: Report) -> None:
    """The two-stage figure, if there are few conditions and several recorded steps."""
    runs, keys = report.results.runs, cells.swept_keys(report.results)
    many = len(runs[keys].drop_duplicates()) > MAX_CONDITIONS  # runs may be a hundred thousand
    if many or report.results.curves["step"].nunique() < 3:
        return
    groups, curves = cells.conditions(runs, keys), report.results.curves
    tables = {title: (runs, curves[curves["run_id"].isin(runs["run_id"])]) for title, runs in groups.items()}
    for title in [title for title, (_, rows) in tables.items() if rows.empty]:
        del tables[title]
        report.note(f"there are no curves of {title}")
    data = pd.concat([_by_step(table).assign(condition=title) for title, (_, table) in tables.items()])
    report.figure("stages", figure_stages(tables), data.reset_index(), STAGES)
    # Tables of earlier versions lack the AUCs, and so do runs without label noise.
    measured = {title: table for title, table in tables.items() if table[1].get("auc_margin", pd.Series(np.nan)).notna().any()}
    if measured:
        report.figure(
            "signals", figure_signals(measured), data.reset_index(), "How well signals tell mislabelled samples, by step"
        )


def _by_step(curves: pd.DataFrame) -> pd.DataFrame:
    """Means over runs by step, and of errors also medians and quartiles."""
    steps = curves.groupby("step")
    errors = steps[[name for name in ERRORS if name in curves]]
    quartiles = {"quartile1": errors.quantile(0.25), "median": errors.median(), "quartile3": errors.quantile(0.75)}
    return steps.mean(numeric_only=True).join([part.add_suffix(f"_{name}") for name, part in quartiles.items()])


def _add_signals(report: Report, keys: list[str]) -> None:
    """How well each signal tells mislabelled samples, by the swept key with most values; a column for each value of another."""
    runs, values = report.results.runs, [f"{name}{suffix}" for name in LOOKS for suffix in WHEN]
    if not set(values) <= set(runs) or runs["auc_margin"].isna().all() or runs["last_step"].equals(runs["best_step"]):
        return
    axes = sorted(cells.numeric_axes(report.results), key=lambda key: -runs[key].nunique())
    others = [key for key in keys if not axes or key != axes[0]]
    few = all(runs[key].nunique(dropna=False) <= MAX_CONDITIONS for key in others)
    if not axes or runs[axes[0]].nunique() < 3 or len(others) > 1 or not few:
        return
    table = cells.cells(report.results, [axes[0], *others], values)
    figure = figure_signals_by(table, axes[0], others[0] if others else None)
    report.figure("signals_by", figure, table, f"How well signals tell mislabelled samples, by {axes[0]}")


def _add_scorecard(report: Report) -> None:
    """The theory's statements, where enough was varied for most of them to be judged."""
    found = report.results
    if not 2 <= len(found.runs) <= MAX_SCORED or not {"strategy", "overtaken_share", "data.dim"} <= set(found.runs):
        return
    if found.curves.groupby("run_id").size().max() < 3:
        return
    evidence, rows = scorecard(found.runs, found.curves)
    table = to_table(rows)
    # A study that was made for other questions would fill a page with rows without a verdict.
    if (table["verdict"] == "not tested").mean() > 0.5:
        return
    report.scorecard = table
    report.table("scorecard", table)
    figure = figure_scorecard(evidence, rows)
    report.figure("scorecard_figure", figure, evidence.runs.reset_index(), "Scorecard: panels as named in its rows")
    for row in rows:
        log.info("%-13s %s: %.3g [%.3g, %.3g] %s", row.verdict, row.statement, row.value, row.low, row.high, row.note)


def _add_strategies(report: Report) -> bool:
    """The figure of what several strategies recover, by noise rate. Returns whether there were several."""
    runs = report.results.runs
    if "strategy" not in runs or runs["strategy"].nunique() < 2 or (rates := flip_rate(runs)).nunique() < 3:
        return False
    names = comparison.names_of(runs, "strategy")
    for key in cells.swept(runs):
        if key.partition(".")[0] not in ("strategy", "noise"):
            report.note(f"{key} takes several values and is averaged over in the figure of strategies")
    # Rates that are equal but for rounding (means of two rates) must fall into one group.
    table = runs.assign(name=names, rate=rates.round(6))
    data = cells.over_seeds(table, ["noise", "name", "rate"], list(STRATEGY_PANELS)).sort_index().reset_index()
    report.figure("strategies", figure_strategies(data), data, "What strategies recover, by label noise rate")
    return True


def _categories(report: Report, x: str | None, hue: str | None, style: str | None) -> tuple[str, str | None, str | None] | None:
    """The keys of axis, colour and style of a comparison; None if nothing but one numeric key was swept.

    By default the colour is the categorical key with the fewest levels; without a numeric key the one with most is the axis.
    """
    free = [key for key in comparison.categorical_keys(report.results) if key not in (x, hue, style)]
    x = x or (free.pop() if free else None)
    if x is None or not (free or hue or style or not cells.is_axis(report.results.runs[x])):
        return None
    hue = hue or (free.pop(0) if free else None)
    return x, hue, style or (free.pop(0) if free and hue else None)


def _add_comparison(report: Report, x: str, hue: str | None, style: str | None, values: list[str]) -> None:
    """Values over the axis x, a colour for each level of hue."""
    shown = [value for value in values if value != "price_of_memorising"] or values  # the gap between two others
    compared = comparison.compare(report.results, x, hue, style, shown)
    for key in compared.averaged:
        report.note(
            f"{key} takes several values and is averaged over in the comparison by {x}; hue= or style= tells them apart"
        )
    for which in ("hue", "style"):
        if len(compared.levels(which)) > comparison.MOST_LEVELS:
            report.note(f"{which} has {len(compared.levels(which))} levels: more than {comparison.MOST_LEVELS} share colours")
    by = ", ".join(key for key in (x, hue, style) if key)
    name = f"comparison_by_{'_'.join(key for key in (x, hue, style) if key)}"
    plot = report_data.comparison_of(compared, shown)
    report.figure(name, figure_comparison(compared, shown), compared.table, f"{', '.join(shown)} by {by}", plot)


def _add_lines(report: Report, x: str, values: list[str]) -> None:
    """Values against the one swept key, those of one unit in one figure; the price of memorising shows as a gap there."""
    table = cells.cells(report.results, [x], values)
    units: dict[str, list[str]] = {}
    for value in values:
        unit = "error" if value in ERRORS else "gradient step" if value.endswith("_step") else value
        # It is the gap between two lines that are drawn anyway.
        if unit != "price_of_memorising":
            units.setdefault(unit, []).append(value)
    for unit, members in units.items():
        if len(table) > 2:
            name = f"{unit.replace(' ', '_')}_by_{x}"
            figure, plot = figure_lines(table, x, members, label(unit)), report_data.lines_of(table, x, members, unit)
            report.figure(name, figure, table, f"{', '.join(members)} by {x}", plot)


def _add_phase(
    report: Report,
    x: str,
    y: str,
    others: list[str],
    value: str,
    level: float | None,
    predicted: pd.DataFrame | None,
    published: Against | None,
) -> None:
    """A phase diagram at single and double width, and the collapse where theory names a combination."""
    # Of all runs together, so that all panels are compared with one law.
    law = law_of(value, report.results.runs)
    shown = facets(report.results, x, y, value, level, law, most=MAX_FACETS)
    if predicted is not None and not others:
        shown = {title: study_theory.with_prediction(panel, predicted, x, y, value) for title, panel in shown.items()}
    caption = f"{label(value).replace(chr(10), ' ')} by {x} and {y}"
    shared = _of_shared_draws(report.results.runs, x, y)
    for title, panel in shown.items():
        if min(panel.data.mean.shape) < 2:
            report.note(f"an axis of the phase diagram of {value} has one point only")
        if panel.law is not None:
            slope, exponent = panel.law.exponent, panel.law.predicted
            slopes = "boundary slope {:.3f} [{:.3f}, {:.3f}], predicted {:.3g}".format(*slope, exponent)
            log.info("%s %s: %s", value, title, slopes)
            caption += f"; {title + ': ' if title else ''}{slopes}"
    caption += f"; {shared}" if shared else ""
    name = f"phase_{value}"
    table = cells.cells(report.results, [x, y, *others], [value])
    if others and (count := len(table[others].drop_duplicates())) > MAX_FACETS:
        report.note(f"{count} facets over {', '.join(others)}: the first {MAX_FACETS} are drawn")
    marked = published.table if published and set(published.keys) == {x, y} and value == published.value else None
    report.figure(name, figure_phase_diagram(shown, x, y, value, published=marked), table, caption)
    report.folded.add(name)
    if len(shown) == 1:
        report.variant(f"{name}_single", figure_phase_diagram(shown, x, y, value, SINGLE, marked))
    # Cells that were chosen by their values are no fair test of a collapse.
    if law and not others and not cells.refinement(report.results.plans) and any(panel.law for panel in shown.values()):
        _add_collapse(report, (x, y), value, law, next(iter(shown.values())).data)


def _of_shared_draws(runs: pd.DataFrame, x: str, y: str) -> str:
    """Which cells of a phase diagram share the draws of their seeds, in words; "" if none do."""
    along = shared_draws(runs, (x, y))
    if not along:
        return ""
    if len(along) == 2:
        where = "all cells have the same draws, so that chance moves the diagram as a whole"
    else:
        where = f"cells of one {'column' if along == [y] else 'row'} have the same draws, so that chance shows as stripes"
    return f"seeds are shared: {where} (docs/results.md, Seeds, has a command without)"


def _add_time(report: Report, x: str, clock: str, value: str, level: float | None, predicted: pd.DataFrame | None) -> None:
    """A metric over a swept key and time, with the ends of the stages as measured and predicted."""
    found = over_time(report.results, x, clock, value, predicted)
    panels = {title: panel for title, panel in found.items() if np.isfinite(panel.data.values).any()}
    for title in found.keys() - panels.keys():
        report.note(f"no {value} was measured at {title}")
    if len(panels) > MAX_FACETS:
        report.note(f"{len(panels)} facets of the diagram of {value} over time: the first {MAX_FACETS} are drawn")
        panels = dict(list(panels.items())[:MAX_FACETS])
    names = {name: ENDS[name][0].replace("\n", " ") for panel in panels.values() for name in panel.ends}
    caption = f"{label(value)} by {x} and time; lines, medians over runs: {as_text(', '.join(names.values()))}"
    report.figure(f"time_{value}", figure_time(panels, x, clock, value, level), time_table(panels, x, clock, value), caption)


def _add_animations(report: Report, x: str | None, y: str | None, values: list[str]) -> None:
    """Phase diagrams that move: of values that were recorded on the way, while these are few enough."""
    found = report.results
    if not (x and y and report.folded):
        report.note("formats=gif: no phase diagram was drawn that could move")
        return
    rows = found.runs["recordings"].sum() if "recordings" in found.runs else len(found.curves)
    if rows > report_data.MOST_ROWS:
        report.note(f"formats=gif: all curves together have more than {report_data.MOST_ROWS} rows")
        return
    for value in values:
        if value not in metric_columns(found) or found.curves["step"].nunique() < FEWEST_TIMES:
            report.note(f"formats=gif: {value} was not recorded on the way, so its phase diagram does not move")
            continue
        axes, times, means = pictures(found, x, y, value, MAX_PICTURES)
        means = dict(list(means.items())[:MAX_FACETS])
        report.moving(f"phase_{value}", partial(animation, means, axes, (x, y), times, value))


def _add_collapse(report: Report, keys: tuple[str, str], value: str, law: Law, data: Grid) -> None:
    """Cell means against the combination of parameters that the law names, and how well they follow it beside its rivals."""
    runs = report.results.runs
    table = runs.assign(combination=law.of(runs)).groupby(list(keys), as_index=False)[["combination", value]].mean()
    # The axis is logarithmic. At a noise rate of 1/2 the combination is 0.
    table = table[table["combination"] > 0]
    combination, mean = table["combination"].to_numpy(float), table[value].to_numpy(float)
    fits = compared(data, runs, keys, law)
    name, rivals = f"collapse_{value}", fits_table(fits)
    figure = figure_collapse(combination, mean, table[keys[0]].to_numpy(float), (f"${law.formula}$", value, keys[0]), fits)
    best = rivals[rivals["kind"] == "rival"].sort_values("r2", ascending=False).iloc[0]
    caption = f"{quantity(value)} on {as_text(law.formula)}: R^2 in held-out cells {fits[0].r2:.3f}, "
    caption += f"best rival {best['combination']} {best['r2']:.3f}"
    report.figure(name, figure, table, caption)
    report.table(f"{name}_rivals", rivals)
    report.beside[name] = rivals
