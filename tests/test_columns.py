"""docs/results.md explains every column that is written, and none that is not."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

import lnt
from lnt.column_names import COMPONENTS, METRICS, OUTCOME_TYPES, SEEDS
from lnt.options import CONF, read_option
from lnt.runs.tables import SAMPLES
from lnt.settings import class_of
from lnt.training.experiment import EXECUTION_SETTINGS, Settings
from lnt.two_layer.activations import NAMES as ACTIVATIONS

ROOT = Path(__file__).parents[1]
PAGE, README = (ROOT / "docs" / "results.md").read_text(), (ROOT / "README.md").read_text()
EXPLAINED = {
    name for line in PAGE.splitlines() if line.startswith("|") for name in re.findall(r"`([\w.]+)`", line.split("|")[1])
}
OPTIONS = [(group, file.stem) for group in COMPONENTS for file in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_setting_of_an_option_is_explained(group, option):
    names = {f"{group}.{field.name}" for field in fields(class_of(read_option(group, option)))}
    assert names <= EXPLAINED


def names_in(section):
    """The columns in the tables of a section of the page."""
    (text,) = re.findall(rf"^#+ {re.escape(section)}\n((?:(?!#).*\n)*)", PAGE, re.MULTILINE)
    return [name for line in text.splitlines() for name in re.findall(r"^\| `([\w.]+)`", line)]


def test_nothing_is_explained_that_is_not_written():
    """And each column once."""
    own = set(OUTCOME_TYPES) - set(METRICS)
    assert sorted(names_in("Outcomes")) == sorted({*own, "price_of_memorising"})
    assert sorted(names_in("Metrics")) == sorted(METRICS)
    assert sorted(names_in("curves.parquet")) == ["run_id", "step"]
    assert sorted(names_in("samples.parquet")) == sorted(SAMPLES.names)
    settings = {field.name for field in fields(Settings)} - set(EXECUTION_SETTINGS)
    assert sorted(names_in("Seeds and settings")) == sorted({*SEEDS, *settings})
    for group in COMPONENTS:
        options = [class_of(read_option(group, option)) for kind, option in OPTIONS if kind == group]
        known = {group, *(f"{group}.{field.name}" for option in options for field in fields(option))}
        assert sorted(names_in(f"Group {group}")) == sorted(known)


def test_every_other_column_is_explained():
    settings = {field.name for field in fields(Settings)} - set(EXECUTION_SETTINGS)
    assert {"run_id", "step", *COMPONENTS, *SEEDS, *settings, *METRICS, *OUTCOME_TYPES, *SAMPLES.names} <= EXPLAINED


def lines_of(kind):
    """The first cells of the table of the page whose first heading is `kind`: one name or several."""
    (table,) = re.findall(rf"^\| {kind} \|.*\n\| ---.*\n((?:\|.*\n)*)", PAGE, re.MULTILINE)
    return [name for line in table.splitlines() for name in line.split("|")[1].strip().split(", ")]


@pytest.mark.parametrize("kind", ["data", "loss", "optimizer"])
def test_every_option_has_its_line(kind):
    assert sorted(lines_of(kind)) == sorted(option for group, option in OPTIONS if group == kind)


def test_every_activation_has_its_line():
    assert sorted(lines_of("activation")) == sorted(ACTIVATIONS)


@pytest.mark.parametrize("group", COMPONENTS)
def test_the_readme_names_every_option(group):
    (line,) = re.findall(rf"^\| `{group}` \|.*", README, re.MULTILINE)
    assert {option for kind, option in OPTIONS if kind == group} <= set(re.findall(r"`(\w+)`", line))


READERS = sorted(file for room in ("analysis", "theory") for file in (Path(lnt.__file__).parent / room).glob("*.py"))
SUFFIXES = (
    "_mean",
    "_sd",
    "_sem",
    "_low",
    "_high",
    "_early",
    "_best",
    "_last",
    "_predicted",
)  # that the analysis adds to a column's name
MADE_HERE = {  # by the analysis: columns that it adds to its own tables, and names of its files
    *("dim_over_n", "n_snr2", "memorising_step", "gamma_lowest", "plain_network", "stage1_conditions", "loss_from", "loss_to"),
    *("scorecard_figure", "attributions_by_sample", "attributions_summary", "attributions_numbers", "gray_r"),
    *("signals_by", "learning_time", "wrong_events", "ours_se", "theirs_se"),
    *("attributions_background", "attributions_background_size"),  # settings of analyze.py
    *("all_runs", "git_dirty", "left_out", "written_by", "bbox_to_anchor", "title_fontsize"),
    *("centre_share", "cross_covariance", "log_x", "memorised", "price", "rho_max", "signal_variance", "staged"),
}


def literals(file):
    """The string literals of a module that are one word, docstrings left out."""
    found = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
    return {text for text in found if isinstance(text, str) and re.fullmatch(r"[a-z0-9_.]+", text)}


@pytest.mark.parametrize("file", READERS, ids=lambda file: file.name)
def test_the_analysis_reads_columns_that_exist(file):
    """A column that is renamed or misspelt would be missing, or empty, in the figures and verdicts that need it."""
    words = literals(file)
    settings = {word for word in words if word.partition(".")[0] in (*COMPONENTS, "seeds") and word.count(".") == 1}
    # A prefix such as "strategy." names no column.
    assert {word for word in settings if not word.endswith(".")} <= EXPLAINED
    options = {option for _, option in OPTIONS}
    columns = {
        re.sub(f"({'|'.join(SUFFIXES)})$", "", word) for word in words if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", word)
    }
    columns -= EXPLAINED | options | MADE_HERE
    assert columns == set()
