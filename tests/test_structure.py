"""The house: no import circle, quick commands, pages whose links lead somewhere."""

import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
HEAVY = ("torch", "pandas", "numba", "matplotlib", "scipy", "sklearn")


def test_no_import_circle():
    """Imports inside functions, and those for type checkers only, count too."""
    graph = grimp.build_graph("lnt")
    order = TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})
    try:
        order.prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {error.args[1]}")


def test_no_two_files_share_a_name():
    names = [file.name for file in (ROOT / "lnt").rglob("*.py") if not file.name.startswith("__")]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "command",
    [
        ["train.py", "--help"],
        ["train.py", "noise=instance", "--help"],
        ["train.py", "--cfg", "job"],
        ["train.py", "-sc", "query=bash"],
        ["train.py", "data.n_trian=3"],
        ["train.py", "noise=loud"],
        ["analyze.py", "--help"],
        ["-m", "lnt.status", "nowhere"],
        ["-m", "lnt.theory", "--help"],
        ["-m", "lnt.theory", "data.n_trian=3"],
        ["-m", "lnt.noise", "--help"],
        ["-m", "lnt.noise", "data=digits"],
        ["-m", "lnt.noise", "data.n_trian=3", "out=labels.npz"],
    ],
    ids=" ".join,
)
def test_what_only_prints_imports_nothing_heavy(command, tmp_path):
    """Measured by what Python says it has imported, not by time."""
    program = command if command[0] == "-m" else [str(ROOT / command[0]), *command[1:]]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "lnt" in imported, done.stderr[-500:]
    assert not imported & set(HEAVY)


LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]+)\)")
NAME = re.compile(r"`((?:lnt|conf|tests|examples|benchmarks|docs)/[\w/.]+\.(?:py|yaml|md|csv|json|png|ipynb))`")


def found_in_pages(pattern):
    """(page, what the pattern finds in it)."""
    return [(page, found) for page in PAGES for found in pattern.findall(page.read_text())]


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    heads = [line.lstrip("# ") for line in page.read_text().splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in heads}


def broken(page, target):
    path, _, anchor = target.partition("#")
    there = (page.parent / path) if path else page
    return not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there))


def test_links_lead_somewhere():
    links = found_in_pages(LINK)
    assert len(links) > 20
    assert [f"{page.name}: {target}" for page, target in links if broken(page, target)] == []


def test_files_that_pages_name_exist():
    """lnt/..., conf/..., tests/... in running text; the changelog tells of files that are gone."""
    names = [(page, name) for page, name in found_in_pages(NAME) if page.name != "CHANGELOG.md"]
    assert len(names) > 20
    placeholder = "conf/GROUP/NAME.yaml"
    assert [f"{page.name}: {name}" for page, name in names if name != placeholder and not (ROOT / name).exists()] == []
