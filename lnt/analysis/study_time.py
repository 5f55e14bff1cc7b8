"""Time in a study: a metric over a swept key and time, and phase diagrams that move."""

from functools import partial

import numpy as np
import pandas as pd

from lnt.analysis.figure_names import as_text, label
from lnt.analysis.figure_time import ENDS, animation, figure_time
from lnt.analysis.report import Report
from lnt.analysis.report_data import MOST_ROWS
from lnt.analysis.study_phase import MAX_FACETS, name_of
from lnt.analysis.time_diagram import FEWEST_TIMES, metric_columns, over_time, pictures, time_table

MAX_PICTURES = 60  # of a phase diagram that moves


def add_time(report: Report, x: str, clock: str, value: str, level: float | None, predicted: pd.DataFrame | None) -> None:
    """A metric over a swept key and time, with the ends of the stages as measured and predicted."""
    found = over_time(report.results, x, clock, value, predicted)
    panels = {title: panel for title, panel in found.items() if np.isfinite(panel.data.values).any()}
    for title in found.keys() - panels.keys():
        report.note(f"no {value} was measured at {title}")
    if len(panels) > MAX_FACETS:
        report.note(f"{len(panels)} facets of the diagram of {value} over time: the first {MAX_FACETS} are drawn")
        panels = dict(list(panels.items())[:MAX_FACETS])
    names = {name: ENDS[name][0].replace("\n", " ") for panel in panels.values() for name in panel.ends}
    caption = f"{label(value)} by {x} and time"
    if names:
        caption += f"; lines, medians over runs: {as_text(', '.join(names.values()))}"
    report.figure(f"time_{value}", figure_time(panels, x, clock, value, level), time_table(panels, x, clock, value), caption)


def add_animations(report: Report, x: str | None, y: str | None, values: list[str]) -> None:
    """Phase diagrams that move: of values that were recorded on the way, while these are few enough."""
    found = report.results
    if not (x and y and any(name_of(value) in report.figures for value in values)):
        report.note("formats=gif: no phase diagram was drawn that could move")
        return
    rows = found.runs["recordings"].sum() if "recordings" in found.runs else len(found.curves)
    if rows > MOST_ROWS:
        report.note(f"formats=gif: all curves together have more than {MOST_ROWS} rows")
        return
    for value in values:
        if value not in metric_columns(found) or found.curves["step"].nunique() < FEWEST_TIMES:
            report.note(f"formats=gif: {value} was not recorded on the way, so its phase diagram does not move")
            continue
        axes, times, means = pictures(found, x, y, value, MAX_PICTURES)
        means = dict(list(means.items())[:MAX_FACETS])
        report.moving(f"phase_{value}", partial(animation, means, axes, (x, y), times, value))
