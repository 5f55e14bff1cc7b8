"""LaTeX of an analysis: digits and bold marks by hand, how often a mark is wrong, escapes, and documents that compile."""

import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from lnt.analysis import cells
from lnt.analysis.figure_style import look
from lnt.analysis.latex import tex, tex_of_name
from lnt.analysis.latex_tables import Cell, add_tables, best_of, number
from lnt.analysis.load import RunTables


def options(*values, seeds=None, whole=True):
    return [Cell(pd.Series(row, index=seeds or range(len(row))), whole) for row in values]


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (0.12345, 0.0123, ("0.123", "0.012")),  # two digits after a leading 1
        (0.12345, 0.0523, ("0.12", "0.05")),
        (0.12345, 0.000523, ("0.1235", "0.0005")),
        (0.12345, 0.0996, ("0.12", "0.10")),  # rounded, it begins with 1
        (1234.5, 56.0, ("1230", "60")),
        (1234.5, 1.5, ("1234.5", "1.5")),
        (0.5, 0.0, ("0.5", "0")),  # all seeds agree
        (0.12345, np.nan, ("0.123", "")),  # too few seeds
        (1880.0, np.nan, (r"1.88\times 10^{3}", "")),
        (np.nan, np.nan, ("--", "")),
    ],
)
def test_as_many_digits_as_the_interval_has(mean, half, text):
    assert number(mean, half) == text


def test_the_best_is_marked_if_it_is_better_seed_by_seed():
    """Seeds differ by far more than options do: unpaired, nothing could be told apart."""
    luck = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    wiggle = np.array([1, -1, 1, -1, 0]) / 1000
    assert best_of(options(luck, luck - 0.01 + wiggle, luck + 0.02), lower=True) == 1
    assert best_of(options(luck, luck - 0.01 + wiggle, luck + 0.02), lower=False) == 2
    # The same numbers from seeds of their own are independent samples.
    apart = [options(luck)[0], options(luck - 0.01 + wiggle, seeds=range(5, 10))[0]]
    assert best_of(apart, lower=True) is None


@pytest.mark.parametrize(("gains", "best"), [((1.9,), None), ((2.1,), 0), ((2.1, 9), None), ((2.4, 9), None), ((2.6, 9), 0)])
def test_the_more_rivals_the_more_it_takes_to_be_the_best(gains, best):
    """Differences of gain + (-2 .. 2) have t = 1.414 gain. Of 4 degrees of freedom it takes 2.776, of two rivals 3.495 each."""
    luck = np.array([10, 50, 20, 40, 30])
    assert best_of(options(luck, *(luck + gain + np.arange(-2, 3) for gain in gains)), lower=True) == best


def test_the_interval_of_a_cell_by_hand():
    """0.1 to 0.5: standard deviation 0.1581, times 2.776, over the root of 5: 0.1963."""
    (cell,) = options([0.1, 0.2, 0.3, 0.4, 0.5])
    assert cell.text(best=False, most=5) == r"$0.3 \pm 0.2$"
    assert cell.text(best=True, most=6) == r"$\mathbf{0.3} \pm 0.2$ (5)"


def test_what_cannot_be_told_apart_or_is_not_whole_is_not_marked():
    luck = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert best_of(options(luck, luck + np.array([0.02, -0.01, 0.02, -0.01, 0.01])), lower=True) is None
    assert best_of(options(luck, luck), lower=True) is None
    assert best_of(options(luck), lower=True) is None
    assert best_of(options(luck[:4], luck[:4] + 1), lower=True) is None, "four seeds have no interval"
    # Half of the runs of the first diverged: those left may be the easy ones.
    survivors, other = options(luck[:5] / 10, whole=False)[0], options(luck)[0]
    assert best_of([survivors, other], lower=True) is None
    assert best_of([*options(luck, luck + 0.1), Cell(pd.Series(dtype=float), False)], lower=True) == 0, "-- is no rival"


@pytest.mark.slow
def test_a_mark_is_wrong_in_at_most_five_of_a_hundred_columns():
    """Options of equal means, with and without common luck of seeds: whatever is marked is marked wrongly."""
    rng = np.random.default_rng(0)
    for count in (2, 3, 6):
        wrong = 0
        for _ in range(400):
            luck = rng.normal(size=10)
            wrong += best_of(options(*(luck + rng.normal(size=10) for _ in range(count))), lower=True) is not None
        assert wrong / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400), count


def test_text_is_never_a_command():
    assert tex(r"a_b 50% \input{x} $y$ #1 & ~^") == (r"a\_b 50\% \textbackslash{}input\{x\} \$y\$ \#1 \& \~{}\^{}")
    assert tex_of_name(r"flip_rate $\tau_+$") == r"flip\_rate $\tau_+$"
    assert tex_of_name("5 $ or $ less & more $") == r"5 $ or $ less \& more \$"


class Folder:
    """What add_tables needs of a report."""

    def __init__(self, results, folder):
        self.results, self.folder, self.written, self.notes = results, folder, [], []

    def note(self, text):
        self.notes.append(text)


def results_of(rows, plans=()):
    runs = pd.DataFrame(rows)
    runs.insert(0, "run_id", [str(i) for i in range(len(runs))])
    none = runs.head(0)
    return RunTables(runs, none, none, plans, lambda: none, lambda: none)


LOSSES = [  # gce is better at the higher rate by 0.1, and lies within the error of logistic at the lower one
    {"noise.rate": rate, "loss": loss, "loss.q": q, "seed": seed, "status": "completed", "test_error": error}
    for rate, gain in ((0.2, 0.0), (0.4, 0.1))
    for loss, q in (("logistic", np.nan), ("gce", 0.7))
    for seed in range(6)
    for error in [rate + 0.032 * seed - gain * (loss == "gce") + 0.001 * (-1) ** seed * (loss == "gce")]
]


def table_of(tmp_path, rows, keys, values=("test_error",), plans=()):
    results = results_of(rows, plans)
    report = Folder(results, tmp_path)
    add_tables(report, cells.cells(results, list(keys), list(values)), keys, values)
    return (tmp_path / "tables.tex").read_text() if report.written else "", report.notes


def test_a_table_of_options_by_what_is_given(tmp_path):
    with look(labels={"gce": "GCE", "test_error": "error $E$"}):
        text, _ = table_of(tmp_path, LOSSES, ["noise.rate", "loss", "loss.q"])
    body = text.split(r"\midrule")[1]
    rows = [[part.strip(" \\\n") for part in line.split("&")] for line in body.splitlines() if "&" in line]
    # Seeds 0 to 5 in steps of 0.032: mean 0.08, sd 0.0599, and Student's t of 5 degrees of freedom is 2.571: half is 0.063.
    assert rows == [
        ["GCE", r"$0.28 \pm 0.06$", r"$\mathbf{0.38} \pm 0.06$"],
        ["logistic", r"$0.28 \pm 0.06$", r"$0.48 \pm 0.06$"],
    ]
    assert r"\multicolumn{2}{c}{label noise rate $\tau$}" in text
    assert "Error $E$. Mean" in text


def test_the_best_of_each_block_of_rows_is_marked_in_its_own_row(tmp_path):
    rows = [{**row, "data.dim": dim} for row in LOSSES for dim in (100, 200)]
    text, _ = table_of(tmp_path, rows, ["noise.rate", "data.dim", "loss"])
    body = text.split(r"\midrule")[1]
    rows = [[part.strip(" $\\\n") for part in line.split("&")] for line in body.splitlines() if "&" in line]
    assert [(rate, dim, loss, "mathbf" in error) for rate, dim, loss, error in rows] == [
        (rate, dim, loss, (rate, loss) == ("0.4", "gce"))
        for rate in ("0.2", "0.4")
        for dim in ("100", "200")
        for loss in ("gce", "logistic")
    ]


def test_rows_come_as_the_options_were_typed(tmp_path):
    axes = [("loss", ["logistic", "gce"]), ("noise.rate", [0.2, 0.4]), ("seed", range(6))]
    axes = [{"keys": [key], "points": [[value] for value in values]} for key, values in axes]
    plan = {"groups": [{"config": {"choices": {}}, "axes": axes}]}
    text, _ = table_of(tmp_path, LOSSES, ["noise.rate", "loss"], plans=[plan])
    assert text.index("logistic &") < text.index("gce &")
    other_way = {"groups": [{"config": {"choices": {}}, "axes": [{**axes[0], "points": [["gce"], ["logistic"]]}, *axes[1:]]}]}
    text, _ = table_of(tmp_path, LOSSES, ["noise.rate", "loss"], plans=[other_way])
    assert text.index("gce &") < text.index("logistic &")


def test_runs_that_are_missing_are_counted_and_never_the_best(tmp_path):
    text, _ = table_of(
        tmp_path, [row for row in LOSSES if not (row["loss"] == "gce" and row["seed"] == 0)], ["noise.rate", "loss"]
    )
    assert r"\mathbf" not in text
    assert text.count("(5)") == 2


def test_keys_that_are_given_have_no_best(tmp_path):
    rows = [{**row, "loss": "logistic"} for row in LOSSES if row["loss"] == "logistic"]
    text, _ = table_of(tmp_path, rows, ["noise.rate"])
    assert r"\mathbf" not in text
    assert "Bold" not in text
    assert text.count(r"\pm") == 3  # two cells, and the caption


def test_more_cells_than_a_page_holds_are_noted(tmp_path):
    rows = [{**LOSSES[0], "noise.rate": rate} for rate in np.linspace(0, 0.4, 41)]
    text, notes = table_of(tmp_path, rows, ["noise.rate"])
    assert not text
    assert "41 cells make no table of at most 40 rows" in notes[0]


def environments(text):
    """Checks that environments are nested; the rows of each tabular, as numbers of columns."""
    open_ones, found = [], []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            open_ones.append(name)
        else:
            assert open_ones.pop() == name
    assert not open_ones
    for columns, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        found.append({len(columns), *(len(re.split(r"(?<!\\)&", row)) for row in rows)})
    return found


def test_every_row_has_all_columns(tmp_path):
    rows = [{**row, "loss": {"gce": "50%_&{x}"}.get(row["loss"], row["loss"])} for row in LOSSES]
    for keys in (["noise.rate", "loss", "loss.q"], ["noise.rate"], ["loss"], ["noise.rate", "data.dim", "loss"]):
        more = [{**row, "data.dim": dim} for row in rows for dim in ((100, 200) if "data.dim" in keys else (100,))]
        text, _ = table_of(tmp_path, more, keys)
        assert all(len(counts) == 1 for counts in environments(text)), keys


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
def test_tables_compile(tmp_path):
    rows = [{**row, "loss": {"gce": "50%_&{x}^~|<>"}.get(row["loss"], row["loss"])} for row in LOSSES]
    table_of(tmp_path, rows, ["noise.rate", "loss", "loss.q"])
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{tables.tex}\end{document}"
    (tmp_path / "paper.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
