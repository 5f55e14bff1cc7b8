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
    names = [file.name for file in (ROOT / "lnt").rglob("*.py") if file.name != "__init__.py"]
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"https?://|mailto:", target):
            path, _, anchor = target.partition("#")
            there = (page.parent / path) if path else page
            assert there.exists(), f"{page.name} links to {target}"
            if anchor and there.suffix == ".md":
                heads = [
                    re.sub(r"[^\w\- ]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
                    for line in there.read_text().splitlines()
                    if line.startswith("#")
                ]
                assert anchor in heads, f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_pages_name_exist(page):
    """lnt/..., conf/..., tests/... in running text."""
    if page.name == "CHANGELOG.md":
        return
    for name in re.findall(
        r"`((?:lnt|conf|tests|examples|benchmarks|docs)/[\w/.]+\.(?:py|yaml|md|csv|json|png|ipynb))`", page.read_text()
    ):
        assert (ROOT / name).exists() or name != name.lower(), f"{page.name} names {name}"
