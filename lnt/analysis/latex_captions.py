"""captions.tex, for a paper: each figure with a caption that says what it shows, of how many runs and seeds."""

import re
from collections.abc import Collection

import pandas as pd

from lnt.analysis import cells
from lnt.analysis.figure_names import IN_TITLES, heading, level, quantity
from lnt.analysis.figure_style import in_force
from lnt.analysis.latex import tex_of_name, write
from lnt.analysis.report import Report
from lnt.column_names import COMPONENTS
from lnt.intervals import FEWEST_SEEDS

UNSAID = ("data.mixup", "data.noise_patches", "model.power")  # settings that captions leave out: seldom other than 0 or 1
SHOWN = {  # what a figure of such a name (a regular expression) shows of the seeds
    r"phase_.*": "Cells are means over runs.",
    r"stages": "Vertical lines are medians over runs.",
    r"signals": "Lines are means over runs, bands their 95 % intervals; vertical lines are medians.",
    r"strategies|signals_by|comparison_.*|.*_by_.*": "Means over seeds with their 95 % intervals.",
    r"collapse_.*": "Points are means of cells.",
    r"theory": "A point is a run.",
    r"phases": "The phase of a cell is that of half of its runs.",
    r"scorecard_figure": "Intervals hold together with 95 %.",
    r"losses": "Shares of the samples of all runs.",
    r"against": "Bars are standard errors over seeds.",
}


def add_captions(report: Report, table: pd.DataFrame) -> None:
    """Write captions.tex: each figure with a caption that states runs, seeds, intervals and the settings all runs share."""
    settings = {key: _short(value) for key, value in report.shared().items()}
    said = [
        key for key in settings if key in COMPONENTS or (key in IN_TITLES and key not in UNSAID) or key == "optimizer.steps"
    ]
    fixed = ", ".join(
        f"{key} {level(settings[key])}" if key in COMPONENTS else heading(f"{key}={settings[key]}") for key in said
    )
    rest = ", ".join(f"{key}={value}" for key, value in settings.items() if key not in said)
    facts = f"{_runs(report, table)} {f'Fixed: {fixed}.' if fixed else ''}".strip()
    known = {*cells.config_columns(report.results.runs), *cells.outcome_columns(report.results.runs)}
    lines = ["% \\usepackage{graphicx}", f"% Fixed, too: {rest}".replace("\n", " "), ""]
    for name, caption in report.figures.items():
        seeds = next((text for pattern, text in SHOWN.items() if re.fullmatch(pattern, name)), "")
        if ("interval" in seeds or name.startswith("phase_")) and (table["n"] < FEWEST_SEEDS).all():
            seeds = f"Means; no intervals: fewer than {FEWEST_SEEDS} seeds."
        text = " ".join(filter(None, [f"{_in_words(caption, known)}.", seeds, facts]))
        kind = "figure*" if report.widths[name] > in_force().widths[0] else "figure"
        lines += [
            rf"\begin{{{kind}}}[t]",
            # In braces, since names have dots.
            rf"\centering\includegraphics{{{{{name}}}.{'pdf' if 'pdf' in report.formats else 'png'}}}",
            rf"\caption{{{tex_of_name(text)}}}",
            rf"\label{{fig:{name}}}",
            rf"\end{{{kind}}}",
            "",
        ]
    write(report, "captions.tex", "\n".join(lines))


def _in_words(caption: str, known: Collection[str]) -> str:
    """A caption of the page for a paper: names instead of columns, symbols where these have powers."""

    def named(found: re.Match[str]) -> str:
        key = found[0]
        if key not in known:
            return key
        return f"${IN_TITLES[key]}$" if found.string[found.end() :].startswith("^") and key in IN_TITLES else quantity(key)

    words = re.sub(r"[\w.]*\w", named, re.sub(r" \(docs/[^)]*\)", "", caption))
    return words[:1].upper() + words[1:]


def _short(value: str) -> str:
    """A setting, numbers without needless digits."""
    try:
        return f"{float(value):.6g}"
    except ValueError:
        return value


def _runs(report: Report, table: pd.DataFrame) -> str:
    """How many runs there are, in how many cells, of which seeds, and how many are not among them."""
    runs, counts = report.results.runs, table["n"]
    each = f"{counts.min()}" if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    seeds = runs["seed"].dropna() if "seed" in runs else pd.Series(dtype=float)
    which = f"; seeds {int(seeds.min())} to {int(seeds.max())}" if seeds.nunique() > 1 else ""
    where = f", {each} in each of {len(table)} cells" if len(table) > 1 else ""
    gone = [f"{count} {what}" for what, count in report.dropped().items() if count and what != "duplicate rows"]
    return f"{len(runs)} runs{where}{which}" + (f" ({', '.join(gone)})" if gone else "") + "."
