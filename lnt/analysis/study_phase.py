"""Phase diagrams of a study, and the collapse on the combination of parameters that theory names."""

import logging
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd

from lnt.analysis import cells, study_theory
from lnt.analysis.figure_names import as_text, label, quantity
from lnt.analysis.figure_phase_diagram import figure_collapse, figure_phase_diagram
from lnt.analysis.figure_style import SINGLE
from lnt.analysis.goodness_of_fit import Fit, compared, fits_table
from lnt.analysis.phase_diagram import Facet, facets, shared_draws
from lnt.analysis.reference import Against
from lnt.analysis.report import Report
from lnt.theory.conditions import EARLY_ERRORS, FINAL_ERRORS, law_of, outside_laws
from lnt.theory.laws import Law

log = logging.getLogger(__name__)
TEST_ERRORS = (*FINAL_ERRORS, *EARLY_ERRORS)
MAX_FACETS = 6  # above these a figure is crowded


def add_phase(
    report: Report,
    x: str,
    y: str,
    value: str,
    level: float | None,
    predicted: pd.DataFrame | None,
    published: Against | None,
) -> None:
    """A phase diagram at single and double width, and the collapse where theory names a combination."""
    # Of all runs together, so that all panels are compared with one law.
    law = law_of(value, report.results.runs)
    if law is None:
        _note_no_law(report, value)
    others = [key for key in report.keys if key not in (x, y)]
    shown = facets(report.results, x, y, value, level, law, most=MAX_FACETS)
    if predicted is not None and not others:
        shown = {title: study_theory.with_prediction(panel, predicted, x, y, value) for title, panel in shown.items()}
    fits = None
    # Cells that were chosen by their values are no fair test of a collapse.
    if law and not others and not cells.refinement(report.results.plans) and any(panel.law for panel in shown.values()):
        data = next(iter(shown.values())).data
        # Beside the figures, since it takes as long as all of them.
        fits = report.processes.start(partial(compared, data, report.results.runs, (x, y), law))
    name = name_of(value)
    table = cells.cells(report.results, [x, y, *others], [value])
    if others and (count := len(table[others].drop_duplicates())) > MAX_FACETS:
        report.note(f"{count} facets over {', '.join(others)}: the first {MAX_FACETS} are drawn")
    marked = published.table if published and set(published.keys) == {x, y} and value == published.value else None
    caption = f"{label(value).replace(chr(10), ' ')} by {x} and {y}{_lines(shown)}{_slopes(report, value, shown)}"
    if draws := of_shared_draws(report.results.runs, x, y):
        caption += f"; {draws}"
    report.figure(name, figure_phase_diagram(shown, x, y, value, published=marked), table, caption)
    if cells.refinement(report.results.plans) is None:  # else it has the boundary, which the page does not draw
        report.folded.add(name)
    if len(shown) == 1:
        report.variant(f"{name}_single", figure_phase_diagram(shown, x, y, value, SINGLE, marked))
    if law and fits:
        _add_collapse(report, (x, y), value, law, fits)


def _note_no_law(report: Report, value: str) -> None:
    """Say why no law is drawn, where one is drawn of the default settings."""
    runs = report.results.runs
    expected = value in TEST_ERRORS and "model.power" in runs and bool(runs["data"].isin(["signal_noise", "xor"]).all())
    if expected and (reasons := outside_laws(runs)):
        report.note(f"no law is drawn over {value}: none is known for {', '.join(reasons)}")


def name_of(value: str) -> str:
    """What the phase diagram of a value is called among the figures."""
    return f"phase_{value}"


def _lines(panels: Mapping[str, Facet]) -> str:
    """What the boundaries are, as the rest of a caption, if any is drawn."""
    edges = [panel.edge for panel in panels.values() if panel.edge is not None and panel.crosses]
    if not edges:
        return ""
    band = ", band: where their 98 % intervals do" if any(np.isfinite(edge.low).any() for edge in edges) else ""
    return f"; line: where means of cells cross the level in the legend{band}"


def _slopes(report: Report, value: str, panels: Mapping[str, Facet]) -> str:
    """The slopes of the boundaries beside the predicted ones, as the rest of a caption."""
    words = ""
    for title, panel in panels.items():
        if min(panel.data.mean.shape) < 2:
            report.note(f"an axis of the phase diagram of {value} has one point only")
        if panel.law is not None:
            slope, exponent = panel.law.exponent, panel.law.predicted
            interval = "[{:.3f}, {:.3f}]".format(*slope[1:]) if np.isfinite(slope[1:]).all() else "without an interval"
            slopes = f"boundary slope {slope[0]:.3f} {interval}, predicted {exponent:.3g}"
            log.info("%s %s: %s", value, title, slopes)
            words += f"; {title + ': ' if title else ''}{slopes}"
    return words


def of_shared_draws(runs: pd.DataFrame, x: str, y: str) -> str:
    """Which cells of a phase diagram share the draws of their seeds, in words; "" if none do."""
    along = shared_draws(runs, (x, y))
    if not along:
        return ""
    if len(along) == 2:
        where = "all cells have the same draws, so that chance moves the diagram as a whole"
    else:
        where = f"cells of one {'column' if along == [y] else 'row'} have the same draws, so that chance shows as stripes"
    return f"seeds are shared: {where} (docs/results.md, Seeds, has a command without)"


def _add_collapse(report: Report, keys: tuple[str, str], value: str, law: Law, compared: Callable[[], list[Fit]]) -> None:
    """Cell means against the combination of parameters that the law names, and how well they follow it beside its rivals."""
    runs = report.results.runs
    table = runs.assign(combination=law.of(runs)).groupby(list(keys), as_index=False)[["combination", value]].mean()
    # The axis is logarithmic. At a noise rate of 1/2 the combination is 0.
    table = table[table["combination"] > 0]
    combination, mean = table["combination"].to_numpy(float), table[value].to_numpy(float)
    fits = compared()
    name, rivals = f"collapse_{value}", fits_table(fits)
    figure = figure_collapse(combination, mean, table[keys[0]].to_numpy(float), (f"${law.formula}$", value, keys[0]), fits)
    best = rivals[rivals["kind"] == "rival"].sort_values("r2", ascending=False).iloc[0]
    caption = f"{quantity(value)} on {as_text(law.formula)}: R^2 in held-out cells {fits[0].r2:.3f}, "
    caption += f"best rival {best['combination']} {best['r2']:.3f}"
    report.figure(name, figure, table, caption)
    report.table(f"{name}_rivals", rivals)
    report.beside[name] = rivals
