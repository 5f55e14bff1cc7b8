"""A study: which figures and tables analyze.py makes of which results."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lnt.analysis import (
    cells,
    latex_captions,
    latex_tables,
    report_data,
    study_comparisons,
    study_images,
    study_phase,
    study_theory,
    study_time,
)
from lnt.analysis.figure_comparison import figure_against
from lnt.analysis.figure_scorecard import figure_scorecard
from lnt.analysis.figure_selection import LOOKS, WHEN, figure_signals, figure_signals_by
from lnt.analysis.figure_stages import figure_stages
from lnt.analysis.figure_style import in_force
from lnt.analysis.load import RunTables
from lnt.analysis.reference import Against, compared_with
from lnt.analysis.report import Report
from lnt.analysis.report_files import own_folder
from lnt.analysis.scorecard import scorecard, to_table
from lnt.analysis.study_choice import MOVING, Asked, Choice, choose
from lnt.column_names import ERRORS
from lnt.intervals import FEWEST_SEEDS, TOO_FEW, with_interval

log = logging.getLogger(__name__)
STAGES = "Two stages of learning: means{}; where the axis of an error is logarithmic, medians{}"
MAX_CONDITIONS, MAX_SCORED = 4, 20_000  # above these a figure is crowded, or a scorecard slow


def write(results: RunTables, asked: Asked, attributions: study_images.Attributions, folders: Sequence[Path]) -> Report:
    """Write tables, figures, manifest and page of results to the folder analysis beside them. Raises ConfigError.

    `folders` are those of conf/ and the user's own: attributions find the class of an option there.
    """
    path = results.path
    assert path is not None
    asked.check(results)
    # Before the folder is touched: a file that cannot be compared leaves nothing behind.
    published = None if asked.against is None else compared_with(results, Path(asked.against), asked.value)
    choice = choose(asked, results, published.value if published else asked.value)
    report = Report(results, path, own_folder(path), asked.still_formats)
    report.note_versions()
    table = _add_tables(report)
    _note_absent(report, choice)
    _note_labels(report)
    if published:
        report.note(f"against {published.source}: {published.summary()}")
        report.figure("against", figure_against(published), published.table, f"Against {published.source}")
    _add_stages(report)
    _add_signals(report)
    study_images.add_images(report, attributions, folders)
    _add_scorecard(report)
    bounded = _add_figures(report, asked, choice, published)
    if asked.level is not None and not bounded:
        report.note(f"level={asked.level:g} is that of a boundary in a phase diagram, and none is drawn")
    if MOVING in asked.formats:
        study_time.add_animations(report, choice.x, choice.y, choice.values)
    _add_cells(report, table, choice)
    if in_force().paper:
        latex_tables.add_tables(report, table, report.keys, choice.values)
        latex_captions.add_captions(report, table)
    report.finish()
    return report


def _add_tables(report: Report) -> pd.DataFrame:
    """The tables of all runs and of all cells; the latter is returned."""
    results = report.results
    everything = pd.concat([part for part in (results.runs, results.diverged, results.failed) if len(part)])
    report.table("all_runs", everything.assign(directory=results.directories.array))
    del everything  # it may be as large as all else
    table = cells.cells(results, report.keys or ["data"], cells.outcome_columns(results.runs))
    report.missing = int(table["missing"].sum())
    report.table("cells", table)
    if report.missing and results.plans:
        short = int((table["missing"] > 0).sum())
        report.note(f"planned runs that are missing: {report.missing}, in {short} of {len(table)} cells, whose means lack them")
    if few := int((table["n"] < FEWEST_SEEDS).sum()):
        report.note(f"{few} of {len(table)} cells have {TOO_FEW}")
    return table


def _note_absent(report: Report, choice: Choice) -> None:
    """Say which runs lack what is drawn."""
    runs = report.results.runs
    keys = [key for key in (choice.x, choice.y) if key and not (choice.clock and key == choice.y)]
    if absent := int(runs[keys].isna().any(axis=1).sum()):
        report.note(f"{absent} runs that have no value of {' or '.join(keys)} are not in the figures over these")
    if earlier := int(runs["best_test_error_fresh"].isna().sum()):
        report.note(
            f"{earlier} runs of an earlier version, with one test sample or no true labels lack best_test_error_fresh and price"
        )


def _note_labels(report: Report) -> None:
    """Say which of one's own names are those of settings that the results do not have: a slip of the pen, most often."""
    settings = cells.config_columns(report.results.runs)
    groups = {key.partition(".")[0] for key in settings if "." in key}
    for key in in_force().labels:
        group, dot, _ = key.partition(".")
        if dot and group in groups and key not in settings:
            report.note(f"labels: there is no {key} in these results{cells.meant(key, settings)}")


def _add_figures(report: Report, asked: Asked, choice: Choice, published: Against | None) -> bool:
    """The figures of values over axes: strategies, time, phase diagrams, comparisons or lines, whichever the sweep was for.

    Returns whether one of them has a boundary at a level.
    """
    results, keys, x, y = report.results, report.keys, choice.x, choice.y
    clock, freely = choice.clock, not asked.keys and asked.value is None and not published
    predicted = study_theory.add_theory(report, x, None if clock else y, [key for key in keys if clock and key != x])
    # The figure of strategies replaces phase diagrams and lines, unless an axis or a value was asked for.
    if study_comparisons.add_strategies(report) and freely:
        return False
    if clock and x:
        for value in choice.values:
            study_time.add_time(report, x, clock, value, choice.level, predicted)
        return True
    if x and y and freely and not cells.is_product(results, keys):
        report.note("the sweep is no full grid: no phase diagram is drawn")
    elif x and y:
        for value in choice.values:
            study_phase.add_phase(report, x, y, value, choice.level, predicted, published)
        return True
    elif categories := study_comparisons.categories(report, x, asked.hue, asked.style):
        study_comparisons.add_comparison(report, *categories, choice.values)
    elif x:
        study_comparisons.add_lines(report, x, choice.values)
    return False


def _add_cells(report: Report, table: pd.DataFrame, choice: Choice) -> None:
    """What the page explores: the cells, their curves, and the axes of the phase diagram that it begins with."""
    found = report_data.cells_of(table, report.keys, choice.values, cells.planned_values(report.results.plans))
    if found is None:
        report.note(f"{len(table)} cells would make the page too large: they are in cells.parquet")
        return
    phase = None
    if choice.x and choice.y and study_phase.name_of(choice.values[0]) in report.figures:
        shared = study_phase.of_shared_draws(report.results.runs, choice.x, choice.y)
        refined = cells.refinement(report.results.plans) is not None
        phase = {"x": choice.x, "y": choice.y, "value": choice.values[0], "level": choice.level}
        phase |= {"shared": shared, "refined": refined}
    curves = report_data.curves_of(report.results, table, report.keys)
    report.explored = {"cells": found, "phase": phase, "curves": curves}


def _add_stages(report: Report) -> None:
    """The two-stage figure, if there are few conditions and several recorded steps."""
    runs, keys = report.results.runs, report.keys
    many = len(runs[keys].drop_duplicates()) > MAX_CONDITIONS  # runs may be a hundred thousand
    if many or report.results.curves["step"].nunique() < 3:
        return
    groups, curves = cells.conditions(runs, keys), report.results.curves
    tables = {title: (runs, curves[curves["run_id"].isin(runs["run_id"])]) for title, runs in groups.items()}
    for title in [title for title, (_, rows) in tables.items() if rows.empty]:
        del tables[title]
        report.note(f"there are no curves of {title}")
    data = pd.concat([_by_step(table).assign(condition=title) for title, (_, table) in tables.items()])
    spread = any(len(runs) >= FEWEST_SEEDS for runs, _ in tables.values())
    caption = STAGES.format(*(" and 95 % intervals", " and quartiles") if spread else ("", ""))
    report.figure("stages", figure_stages(tables), data.reset_index(), caption)
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


def _add_signals(report: Report) -> None:
    """How well each signal tells mislabelled samples, by the swept key with most values; a column for each value of another."""
    runs, values = report.results.runs, [f"{name}{suffix}" for name in LOOKS for suffix in WHEN]
    if not set(values) <= set(runs) or runs["auc_margin"].isna().all() or runs["last_step"].equals(runs["best_step"]):
        return
    axes = sorted(cells.numeric_axes(report.results), key=lambda key: -runs[key].nunique())
    others = [key for key in report.keys if not axes or key != axes[0]]
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
        measured = with_interval(row.value, row.low, row.high)
        log.info("%-13s %s: %s", row.verdict, row.statement, " ".join(filter(None, (measured, row.note))))
