"""docs/results.md explains every column that is written, and none that is not."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from lnt.column_names import COMPONENTS, METRICS, OUTCOME_TYPES, SEEDS
from lnt.options import CONF, read_option
from lnt.runs.tables import SAMPLES
from lnt.settings import class_of
from lnt.training.experiment import EXECUTION_SETTINGS, Settings

PAGE = (Path(__file__).parents[1] / "docs" / "results.md").read_text()
EXPLAINED = {
    name for line in PAGE.splitlines() if line.startswith("|") for name in re.findall(r"`([\w.]+)`", line.split("|")[1])
}
OPTIONS = [(group, file.stem) for group in COMPONENTS for file in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_setting_of_an_option_is_explained(group, option):
    names = {f"{group}.{field.name}" for field in fields(class_of(read_option(group, option)))}
    assert names <= EXPLAINED


def test_every_other_column_is_explained():
    settings = {field.name for field in fields(Settings)} - set(EXECUTION_SETTINGS)
    assert {"run_id", "step", *COMPONENTS, *SEEDS, *settings, *METRICS, *OUTCOME_TYPES, *SAMPLES.names} <= EXPLAINED
