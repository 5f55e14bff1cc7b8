"""Lines and points of a study: values over one swept key, options beside each other, strategies by noise rate."""

from lnt.analysis import cells, comparison, report_data
from lnt.analysis.figure_comparison import figure_comparison
from lnt.analysis.figure_lines import STRATEGY_PANELS, figure_lines, figure_strategies
from lnt.analysis.figure_names import label
from lnt.analysis.report import Report
from lnt.column_names import ERRORS
from lnt.theory.laws import flip_rate


def add_strategies(report: Report) -> bool:
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


def categories(report: Report, x: str | None, hue: str | None, style: str | None) -> tuple[str, str | None, str | None] | None:
    """The keys of axis, colour and style of a comparison; None if nothing but one numeric key was swept.

    By default the colour is the categorical key with the fewest levels; without a numeric key the one with most is the axis.
    """
    free = [key for key in comparison.categorical_keys(report.results) if key not in (x, hue, style)]
    x = x or (free.pop() if free else None)
    if x is None or not (free or hue or style or not cells.is_axis(report.results.runs[x])):
        return None
    hue = hue or (free.pop(0) if free else None)
    return x, hue, style or (free.pop(0) if free and hue else None)


def add_comparison(report: Report, x: str, hue: str | None, style: str | None, values: list[str]) -> None:
    """Values over the axis x, a colour for each level of hue."""
    shown = [value for value in values if value != "price_of_memorising"] or values  # the gap between two others
    compared = comparison.compare(report.results, x, hue, style, shown)
    for key in compared.averaged:
        report.note(
            f"{key} takes several values and is averaged over in the comparison by {x}; hue= or style= tells them apart"
        )
    for which, chosen in (("hue", hue), ("style", style)):
        if chosen and len(compared.levels(which)) == 1:
            report.note(f"{which}={chosen} tells nothing apart: it has one value")
        if len(compared.levels(which)) > comparison.MOST_LEVELS:
            report.note(f"{which} has {len(compared.levels(which))} levels: more than {comparison.MOST_LEVELS} share colours")
    by = ", ".join(key for key in (x, hue, style) if key)
    name = f"comparison_by_{'_'.join(key for key in (x, hue, style) if key)}"
    plot = report_data.comparison_of(compared, shown)
    report.figure(name, figure_comparison(compared, shown), compared.table, f"{', '.join(shown)} by {by}", plot)


def add_lines(report: Report, x: str, values: list[str]) -> None:
    """Values against the one swept key, those of one unit in one figure; the price of memorising shows as a gap there."""
    for key in [key for key in report.keys if key != x]:
        report.note(f"{key} takes several values and is averaged over in the plots against {x}")
    if report.results.runs[x].nunique() == 1:
        report.note(f"the axis {x} has one point only")
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
