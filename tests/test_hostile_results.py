"""Result directories that are damaged, or made to do harm: nothing in them is executed, trusted, or written to elsewhere."""

import base64
import hashlib
import itertools
import json
import os
import pickle
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import analyze
import lnt
import train
from lnt import cli, status
from lnt.files import DamagedFile, check_zip, read_json, read_yaml, write_json, write_yaml
from lnt.plan_file import read_plan

TINY = ("data.n_train=8", "data.n_test=10", "data.dim=50", "optimizer.steps=10", "model.width=2")
SWEEP = ("-m", *TINY, "noise.rate=0.1,0.2", "seed=0,1", "hydra.sweeper.runs_per_job=2", "hydra.sweep.dir=sweep")
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


class Mark:
    """Unpickled, it would make a file."""

    def __reduce__(self):
        return Path.touch, (Path("mark"),)


def ends(main, config, *arguments):
    """How a command ends: its error, or None. Anything but an exit is a traceback, and fails the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py" if config == "config" else "analyze.py", *arguments])
        patch.setattr(cli, "TYPED", [])
        try:
            cli.run(main, config)
        except SystemExit as end:
            return end.code or None
    return None


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A sweep of four runs in two jobs."""
    path = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert ends(train.main, "config", *SWEEP) is None
    return path / "sweep"


@pytest.fixture
def here(tmp_path, monkeypatch, trained):
    """A copy of it in the working directory, beside a file that nobody may touch."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "sweep")
    Path("victim").mkdir()
    Path("victim/table.csv").write_text("mine")
    return tmp_path


def part(name="runs", job=0):
    """The file of a table of a job."""
    (file,) = Path(f"sweep/{job}/{name}.parquet").glob("*.parquet")
    return file


def rewritten(change, name="runs"):
    """A damage: the table of job 0, changed, without the checksums that would give it away."""

    def damage():
        table = pq.read_table(part(name)).to_pandas()
        pq.write_table(pa.Table.from_pandas(change(table), preserve_index=False), part(name))

    return damage


def bytes_of(file, change):
    """A damage: other bytes in the first file that the pattern fits."""

    def damage():
        path = next(Path("sweep").glob(file))
        path.write_bytes(change(path.read_bytes()))

    return damage


def replaced(file, make):
    """A damage: something else in the place of the first file that the pattern fits."""

    def damage():
        path = next(Path("sweep").glob(file))
        path.unlink()
        make(path)

    return damage


def plan(change):
    """A damage: another plan in sweep.yaml, with the checksum that belongs to it."""

    def damage():
        found = read_yaml(Path("sweep/sweep.yaml"))
        write_yaml(Path("sweep/sweep.yaml"), change(found) or found)

    return damage


def text(file, content):
    return bytes_of(file, lambda before: content.encode() if isinstance(content, str) else content)


def link(path):
    Path("elsewhere").mkdir()
    path.symlink_to(Path("elsewhere").resolve())


NINE = "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise("abcdefghi"))
BOMB = f"a: &a [1,1,1,1,1,1,1,1,1]\n{NINE}"
PATH = "../../evil/evil"
LOUD = {"state": "failed", "time": "2026-01-01T00:00:00+00:00", "host": ESCAPE, "pid": 1, "slurm": None, "error": ESCAPE}
ODD = {"state": 1, "time": 2, "host": 3, "pid": "x", "slurm": [], "done": "y"}
DAMAGES = {
    "an empty part": bytes_of("0/runs.parquet/*", lambda content: b""),
    "a part that was cut": bytes_of("0/runs.parquet/*", lambda content: content[: len(content) // 2]),
    "a part of zeros": bytes_of("0/runs.parquet/*", lambda content: bytes(len(content))),
    "a text for a part": text("0/runs.parquet/*", "no table"),
    "a folder for a part": replaced("0/runs.parquet/*", Path.mkdir),
    "a pipe for a part": replaced("0/runs.parquet/*", os.mkfifo),
    "a link to nothing for a part": replaced("0/runs.parquet/*", lambda path: path.symlink_to("nowhere")),
    "no run_id": rewritten(lambda table: table.drop(columns="run_id")),
    "no status": rewritten(lambda table: table.drop(columns="status")),
    "no test error": rewritten(lambda table: table.drop(columns="test_error")),
    "a run_id that is a path": rewritten(lambda table: table.assign(run_id="../../victim/table")),
    "a run_id that is null": rewritten(lambda table: table.assign(run_id=None)),
    "a run_id that is a number": rewritten(lambda table: table.assign(run_id=7)),
    "a column that is a path": rewritten(lambda table: table.assign(**{"/../../../../victim/table": 1.0})),
    "a column of two lines": rewritten(lambda table: table.assign(**{"a\nb": 1.0})),
    "an option that is a script": rewritten(lambda table: table.assign(loss="</script><script>alert(1)</script>")),
    "a status of its own": rewritten(lambda table: table.assign(status="done")),
    "lists for numbers": rewritten(lambda table: table.assign(test_error=[[1.0]] * len(table))),
    "words for numbers": rewritten(lambda table: table.assign(test_error="low")),
    "an option that is a path": rewritten(lambda table: table.assign(data="../../evil/evil")),
    "empty curves": bytes_of("0/curves.parquet/*", lambda content: b""),
    "cut curves": bytes_of("0/curves.parquet/*", lambda content: content[:-9]),
    "a pipe for curves": replaced("0/curves.parquet/*", os.mkfifo),
    "curves without steps": rewritten(lambda table: table.drop(columns="step"), "curves"),
    "an empty plan": text("sweep.yaml", ""),
    "a plan that was cut": bytes_of("sweep.yaml", lambda content: content[: len(content) // 2]),
    "a plan of bytes": text("sweep.yaml", bytes(range(256))),
    "a plan that is a list": text("sweep.yaml", "[1, 2]"),
    "a plan that would run code": text("sweep.yaml", "!!python/object/apply:pathlib.Path.touch [mark]"),
    "a plan of aliases": text("sweep.yaml", BOMB),
    "a plan that is too deep": text("sweep.yaml", "a: " + "[" * 5000 + "]" * 5000),
    "a plan without groups": plan(lambda found: {"runs_per_job": 2}),
    "a plan of options that are paths": plan(lambda found: found["groups"][0]["config"]["choices"].update(data=PATH)),
    "a plan of words for numbers": plan(lambda found: found["groups"][0]["axes"][0].update(points=[["low"], ["high"]])),
    "a plan without points": plan(lambda found: found["groups"][0]["axes"][0].update(points=[])),
    "a plan without data": plan(lambda found: found["groups"][0]["config"].update(data=3)),
    "a folder for a table of the analysis": lambda: Path("sweep/analysis/cells.csv").mkdir(parents=True),
    "a plan of words for points": plan(lambda found: found["groups"][0]["axes"][0].update(points="many")),
    "a plan with a class of its own": plan(lambda found: found["groups"][0]["config"]["data"].update(_target_="os.system")),
    "a plan whose command clears the screen": plan(lambda found: found.update(command=ESCAPE)),
    "an empty status": text("0/status.json", ""),
    "a status that was cut": bytes_of("0/status.json", lambda content: content[:20]),
    "a status that is a list": text("0/status.json", "[]"),
    "a status of other types": text("0/status.json", json.dumps(ODD)),
    "a status that clears the screen": text("0/status.json", json.dumps(LOUD)),
    "a pipe for a status": replaced("0/status.json", os.mkfifo),
    "a pipe for the owner of the sweep": lambda: os.mkfifo("sweep/.owner"),
    "a pipe for the owner of a job": lambda: os.mkfifo("sweep/.owners/0"),
    "an empty config": text("0/config.yaml", ""),
    "a config of bytes": text("0/config.yaml", bytes(range(256))),
    "a config of another job": bytes_of("0/config.yaml", lambda content: content.replace(b"job: 0", b"job: 1")),
    "a provenance that was cut": bytes_of("0/provenance.json", lambda content: content[:30]),
    "a link for the analysis": lambda: link(Path("sweep/analysis")),
    "a file for the analysis": lambda: Path("sweep/analysis").write_text("mine"),
    "a run in a folder called analysis": lambda: shutil.copytree("sweep/0", "sweep/analysis"),
    "a job whose number is none": lambda: shutil.copytree("sweep/0", "sweep/²"),
}  # fmt: skip


# A few seconds each: `make test` tries every twentieth, `make test-slow` the others.
CASES = [
    pytest.param(make, id=name, marks=[] if i % 20 == 0 else pytest.mark.slow) for i, (name, make) in enumerate(DAMAGES.items())
]


@pytest.mark.parametrize("damage", CASES)
def test_a_directory_is_read_finished_and_shown_without_a_traceback(here, damage, capsys):
    """And nothing is executed, nothing foreign is written, no run is lost, and none is counted twice."""
    Path("evil").mkdir()
    Path("evil/evil.yaml").write_text("_target_: evil.Evil\n")
    damage()
    before = {
        path: path.read_bytes() for path in here.rglob("*") if path.is_file() and "sweep" not in path.relative_to(here).parts
    }
    said = ends(analyze.main, "analyze", "path=sweep"), ends_of_status("sweep"), ends(train.main, "config", *SWEEP)
    shown = capsys.readouterr()
    for line in filter(None, said):
        assert isinstance(line, int) or (line.startswith("error: ") and line.isprintable())
    assert "\x1b" not in shown.out + shown.err.replace("\x1b[A", "")
    after = {
        path: path.read_bytes() for path in here.rglob("*") if path.is_file() and "sweep" not in path.relative_to(here).parts
    }
    assert after == before
    assert not Path("mark").exists()
    if said[2] is None:
        found = lnt.load("sweep")
        assert len(found.runs) == 4
        tables = [pd.read_parquet(f"sweep/{job}/runs.parquet") for job in os.listdir("sweep") if job.isdecimal()]
        assert not pd.concat(tables)["run_id"].duplicated().any()


def test_no_text_of_the_results_becomes_part_of_the_page(here):
    """Tags stay text in HTML, and in JSON no text ends the element that it stands in. A script would not run anyway."""
    evil = "</script><script>alert(1)</script><!--"
    rewritten(lambda table: table.assign(loss=evil, error=evil))()
    write_json(Path("sweep/0/provenance.json"), {"git": evil, "time": evil, "versions": {"torch": evil}, "command": [evil]})
    plan(lambda found: found.update(command=evil))()
    assert ends(analyze.main, "analyze", "path=sweep", "formats=[]") is None
    page = Path("sweep/analysis/report.html").read_text()
    assert "<script>alert" not in page
    assert evil.replace("<", "&lt;").replace(">", "&gt;") in page
    assert re.findall("</?script", page) == ["<script", "</script"] * 3
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL).group(1)
    assert evil in json.dumps(json.loads(data)).replace('\\"', '"')
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    assert f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}\">" in page


def outside(here):
    """The files beside the sweep, with their content."""
    files = (path for path in here.rglob("*") if path.is_file() and "sweep" not in path.relative_to(here).parts)
    return {path: path.read_bytes() for path in files}


def ends_of_status(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lnt.status", *arguments])
        try:
            status.main()
        except SystemExit as end:
            return end.code or None
    return None


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"choices": {"data": "../../evil/evil"}}, "data"),
        ({"choices": {"hydra/launcher": "slurm"}}, "hydra/launcher"),
        ({"hydra": {"run": {"dir": "victim"}}}, "hydra.run.dir"),
        ({"noise": {"rate": "${oc.env:HOME}"}}, "noise.rate"),
        ({"data": {"dim": [{"_target_": "os.system"}]}}, "data.dim"),
        ({"seed": {"a b": 1}}, "seed.a b"),
    ],
)
def test_a_saved_run_hands_only_settings_to_hydra(here, change, shown):
    assert ends(train.main, "config", *TINY, "hydra.run.dir=run") is None
    config = read_yaml(Path("run/config.yaml"))
    for key, value in change.items():
        config[key] = {**config[key], **value} if isinstance(config.get(key), dict) else value
    write_yaml(Path("run/config.yaml"), config)
    said = ends(train.main, "config", "from=run", "hydra.run.dir=again")
    assert said == f"error: from=run: is no run of train.py: its config.yaml holds ['{shown}']"
    assert not Path("again").exists()


def test_functions_that_a_saved_run_names_are_not_called(here, capsys):
    assert ends(train.main, "config", *TINY, "hydra.run.dir=run") is None
    write_yaml(Path("run/config.yaml"), {**read_yaml(Path("run/config.yaml")), "metrics": ["os.abort"]})
    assert ends(train.main, "config", "from=run", "hydra.run.dir=again") is None
    assert "left out: metrics=['os.abort']; give it again if you want them" in capsys.readouterr().err
    ids = [pd.read_parquet(f"{name}/runs.parquet")["run_id"].item() for name in ("run", "again")]
    assert ids[0] == ids[1]


def test_weights_that_would_run_code_are_not_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Path("weights.pt").open("wb") as file:
        pickle.dump(Mark(), file)
    with pytest.raises(DamagedFile, match="is damaged"):
        check_zip(Path("weights.pt"))
    assert not Path("mark").exists()


def test_rows_of_another_version_are_told_apart_and_a_rerun_warns(here, capsys):
    origin = Path("sweep/1/provenance.json")
    found = read_json(origin)
    write_json(origin, {**found, "git": "0123456789abcdef", "git_dirty": False, "versions": {"torch": "1.0"}})
    assert ends(analyze.main, "analyze", "path=sweep") is None
    said = capsys.readouterr().out
    assert "rows of different versions: 2 rows of commit" in said
    assert "2 rows of commit 0123456789, torch 1.0" in said
    table = pd.read_parquet("sweep/analysis/all_runs.parquet")
    assert table.groupby("directory").size().to_dict() == {"0": 2, "1": 2}
    assert "2 rows of commit 0123456789, torch 1.0" in Path("sweep/analysis/report.html").read_text()
    shutil.rmtree("sweep/0")
    assert ends(train.main, "config", *SWEEP) is None
    assert "sweep holds runs of commit 0123456789, torch 1.0; the rest are trained by commit" in capsys.readouterr().out


@pytest.mark.slow
def test_an_analysis_is_written_again_over_its_own(here):
    for _ in range(2):
        assert ends(analyze.main, "analyze", "path=sweep") is None
    assert len(lnt.load("sweep").runs) == 4, "its table of all runs is none of a run"
    shutil.copytree("sweep/0", "sweep/below/analysis")
    assert len(lnt.load("sweep/below").runs) == 2, "a run may lie in a folder of that name"
    said = ends(analyze.main, "analyze", "path=sweep/below")
    assert said == "error: path=sweep/below/analysis: holds files that analyze.py did not write; rename it"


def test_a_plan_that_is_damaged_is_not_replaced_by_another(here):
    """Another size of jobs, or other values, would train runs twice or leave them without a plan."""
    file = Path("sweep/sweep.yaml")
    file.write_bytes(file.read_bytes().replace(b"runs_per_job: 2", b"runs_per_job: 3"))
    damaged = file.read_bytes()
    for others in (("hydra.sweeper.runs_per_job=4",), ("seed=5,6",)):
        said = ends(train.main, "config", *SWEEP, *others)
        assert "holds results of other runs than this command plans" in said
        assert file.read_bytes() == damaged
    assert ends(train.main, "config", *SWEEP) is None
    assert len(lnt.load("sweep").runs) == 4


def test_parts_that_a_kill_has_hidden_keep_the_size_of_jobs(here):
    shutil.rmtree("sweep/1")
    Path("sweep/0/runs.parquet").rename("sweep/0/.runs.parquet.parts")
    assert ends(train.main, "config", *SWEEP, "hydra.sweeper.runs_per_job=1") is None
    assert read_plan(Path("sweep/sweep.yaml"))["runs_per_job"] == 2
    assert len(lnt.load("sweep").runs) == 4


def test_an_analysis_is_known_from_any_working_directory(here, monkeypatch):
    assert ends(analyze.main, "analyze", "path=sweep") is None
    monkeypatch.chdir("sweep/analysis")
    assert len(lnt.load(here / "sweep").runs) == 4
    shutil.copy("all_runs.parquet", "runs.parquet")  # as earlier versions called it
    monkeypatch.chdir("/")
    assert lnt.load(here / "sweep").duplicates == 0


def test_a_run_with_nested_lists_is_repeated(here):
    assert ends(train.main, "config", *TINY, "noise=matrix", "noise.matrix=[[0.9,0.1],[0.2,0.8]]", "hydra.run.dir=run") is None
    assert ends(train.main, "config", "from=run", "hydra.run.dir=again") is None
    ids = [pd.read_parquet(f"{name}/runs.parquet")["run_id"].item() for name in ("run", "again")]
    assert ids[0] == ids[1]


@pytest.mark.parametrize("table", ["runs", "curves"])
def test_a_single_run_whose_table_is_damaged_says_what_to_remove(here, table):
    assert ends(train.main, "config", *TINY, "hydra.run.dir=run") is None
    file = Path(f"run/{table}.parquet")
    file.write_bytes(file.read_bytes()[:-20])
    said = ends(train.main, "config", *TINY, "hydra.run.dir=run")
    assert said.startswith(f"error: file=run/{table}.parquet: is damaged")
    assert said.endswith("remove it and runs.parquet, and the same command trains the run again")
    for name in {file.name, "runs.parquet"}:
        Path("run", name).unlink()
    assert ends(train.main, "config", *TINY, "hydra.run.dir=run") is None


def test_a_folder_that_may_not_be_read_is_named(here, monkeypatch):
    """Of another user, say; root, who runs tests in containers, may read all."""
    scandir = os.scandir

    def denied(folder):
        if Path(folder).name == "1":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", denied)
    (left_out,) = lnt.load("sweep").left_out
    assert str(left_out) == "file=sweep/1: cannot be read: Permission denied"
