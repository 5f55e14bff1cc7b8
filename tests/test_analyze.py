"""analyze.py: files in, figures out."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import yaml
from fontTools import subset
from matplotlib.image import imread
from matplotlib.legend import Legend
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue
from pyarrow import parquet as pq

import analyze
import lnt
import train as train_entry
from lnt.analysis import report_files
from lnt.analysis.cells import conditions
from lnt.analysis.figure_stages import figure_stages
from lnt.analysis.figure_style import rendered
from lnt.analysis.report_files import files_before, own_folder, set_aside
from lnt.analysis.results import load
from lnt.errors import ConfigError, one_line
from lnt.runs.directory import RunDirectory
from lnt.runs.tables import Tables, schemas, tables
from lnt.training.loop import train


@pytest.fixture(scope="module")
def trained_runs(tmp_path_factory, experiment):
    """Two conditions, three seeds each, in six directories."""
    path = tmp_path_factory.mktemp("runs")
    for rate in (0, 0.3):
        for seed in range(3):
            settings = ("data.n_train=20", "data.n_test=50", "data.dim=200", "optimizer.steps=200")
            one = experiment(*settings, f"seed={seed}", f"noise.rate={rate}")
            RunDirectory.claim(path / f"{rate}-{seed}", {}).save(tables(one, train(one), schemas([one])))
    return path


@pytest.fixture
def results(tmp_path, trained_runs):
    """The six directories, to be changed at will."""
    return shutil.copytree(trained_runs, tmp_path, dirs_exist_ok=True)


def call(monkeypatch, *overrides):
    monkeypatch.setattr(sys, "argv", ["analyze.py", *overrides])
    analyze.main()


def test_conditions_are_what_differs_besides_seeds(results):
    found = load(results)
    assert len(found.runs) == 6
    assert {title: len(runs) for title, runs in conditions(found.runs).items()} == {"noise.rate=0": 3, "noise.rate=0.3": 3}


def test_a_run_that_appears_twice_counts_once(results):
    before = load(results)
    found = (pq.read_table(results / "0-0" / f"{name}.parquet") for name in ("runs", "curves"))
    RunDirectory.claim(results / "copy", {}).save(Tables(*found, pa.table({})))
    after = load(results)
    assert len(after.runs) == len(before.runs)
    assert len(after.curves) == len(before.curves)


@pytest.mark.slow
def test_the_directory_of_a_run_is_that_of_the_row_that_counts(results, monkeypatch):
    """It failed in one directory, and was trained again in another."""
    run = pd.read_parquet(results / "0-0" / "runs.parquet")
    (results / "0").mkdir()
    run.assign(status="failed").to_parquet(results / "0" / "runs.parquet")
    call(monkeypatch, f"path={results}")
    runs = pd.read_parquet(results / "analysis" / "all_runs.parquet").set_index("run_id")
    assert runs["directory"].value_counts().to_dict() == {f"{rate}-{seed}": 1 for rate in (0, 0.3) for seed in range(3)}
    assert runs.loc[run["run_id"].item(), "directory"] == "0-0"


def test_the_stages_figure_is_drawn(results, monkeypatch):
    call(monkeypatch, f"path={results}")
    assert (results / "analysis" / "stages.pdf").read_bytes().startswith(b"%PDF")
    image = imread(results / "analysis" / "stages.png")
    assert image.shape[0] > 1000
    assert image[..., :3].std() > 0.05, "not an empty page"


def test_the_stages_figure_says_what_was_measured(results):
    found = load(results)
    groups = conditions(found.runs)
    tables = {title: (runs, found.curves[found.curves["run_id"].isin(runs["run_id"])]) for title, runs in groups.items()}
    figure = figure_stages(tables)
    assert len(figure.axes) == 8
    noiseless, noisy = figure.axes[2], figure.axes[3]
    assert "mislabelled samples" not in noiseless.get_legend_handles_labels()[1], "nothing is mislabelled at rate 0"
    line = dict(zip(noisy.get_legend_handles_labels()[1], noisy.lines, strict=False))["mislabelled samples"]
    curves = tables["noise.rate=0.3"][1].groupby("step")["noisy_accuracy"].mean()
    assert line.get_ydata().tolist() == pytest.approx(curves.tolist(), nan_ok=True)
    fitted = tables["noise.rate=0.3"][0]["stage1_step"].median()
    upright = [line for line in noisy.lines if [*line.get_ydata()] == [0, 1]]
    assert upright[0].get_xdata()[0] == fitted
    named = {text.get_text() for legend in figure.figure.findobj(Legend) for text in legend.get_texts()}
    assert {"clean fitted", "mislabelled fitted"} <= named


@pytest.mark.parametrize(("path", "words"), [("nowhere", "is not a directory"), (".", "holds no results")])
def test_a_path_without_results(tmp_path, monkeypatch, path, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        call(monkeypatch, f"path={path}")


@pytest.fixture(scope="module")
def trained_sweep(tmp_path_factory):
    """A small sweep over two keys."""
    path = tmp_path_factory.mktemp("sweep")
    small = ("data.n_train=8", "data.n_test=20", "optimizer.steps=20", "model.width=2", "seed=range(3)")
    axes = ("data.dim=20,40,80", "data.signal_norm=0,2,4,8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setattr(sys, "argv", ["train.py", "-m", *small, *axes, "hydra.sweep.dir=sweep"])
        train_entry.main()
    return path / "sweep"


@pytest.mark.slow
def test_time_as_an_axis(sweep, monkeypatch):
    call(monkeypatch, f"path={sweep}", "x=data.signal_norm", "y=t1", "formats=[gif]")
    folder = sweep / "analysis"
    assert {"time_test_error.csv", "time_noisy_accuracy.csv"} <= {file.name for file in folder.iterdir()}
    captions = json.loads((folder / "manifest.json").read_text())["figures"]
    assert "clean samples fitted" in captions["time_test_error"]
    assert "T₁" in captions["time_test_error"]
    assert list(folder.glob("*.gif")) == []
    assert any("no phase diagram was drawn" in note for note in json.loads((folder / "manifest.json").read_text())["notes"])
    table = pd.read_csv(folder / "time_test_error.csv")
    assert set(table["panel"]) == {"data.dim=20", "data.dim=40", "data.dim=80"}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("y=t1", "hue=data.dim"), "has neither hue nor style"),
        (("y=step", "value=best_test_error"), "no such column; there are train_loss"),
        (("y=steps",), "step, t1"),
        (("y=step", "x=noise"), "must hold numbers"),
    ],
)
def test_what_a_diagram_over_time_is_not(results, monkeypatch, wrong, words):
    with pytest.raises(ConfigError, match=words):
        call(monkeypatch, f"path={results}", *wrong)
    assert not (results / "analysis").exists()


@pytest.mark.slow
def test_a_phase_diagram_that_moves(sweep, monkeypatch):
    call(monkeypatch, f"path={sweep}", "value=test_error", "formats=[gif]")
    assert (sweep / "analysis" / "phase_test_error.gif").read_bytes().startswith(b"GIF89a")
    assert "phase_test_error.gif" in (sweep / "analysis" / "report.html").read_text()
    assert list((sweep / "analysis").glob("*.png")) == []


@pytest.fixture
def sweep(tmp_path, monkeypatch, trained_sweep):
    """The sweep, to be changed at will."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained_sweep, tmp_path / "sweep")


def test_a_sweep_becomes_tables_figures_and_a_page(sweep, monkeypatch):
    call(monkeypatch, f"path={sweep}")
    folder = sweep / "analysis"
    names = ("phase_test_error.pdf", "phase_test_error.png", "phase_test_error.csv", "all_runs.csv", "cells.parquet")
    assert all((folder / name).stat().st_size > 100 for name in names)
    cells = pd.read_csv(folder / "cells.csv")
    assert len(cells) == 12
    assert (cells["n"] == 3).all()
    assert (cells["missing"] == 0).all()
    runs = pd.read_parquet(folder / "all_runs.parquet")
    first = runs[(runs["data.dim"] == 20) & (runs["data.signal_norm"] == 2)]["test_error"]
    row = cells[(cells["data.dim"] == 20) & (cells["data.signal_norm"] == 2)].iloc[0]
    assert row["test_error_mean"] == pytest.approx(first.mean())
    assert row["test_error_sd"] == pytest.approx(first.std())
    page = (folder / "report.html").read_text()
    assert page.partition("<script")[0].count("data:image/png;base64,") == len(
        json.loads((folder / "manifest.json").read_text())["figures"]
    )
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.partition("<script")[0]), "self-contained"
    assert page.count("plotly.js v") == 1


@pytest.mark.slow
def test_files_of_an_earlier_analysis_stand_aside_and_others_stay(sweep, monkeypatch):
    folder = sweep / "analysis"
    call(monkeypatch, f"path={sweep}", "value=stage1_step", "formats=[png]")
    earlier = {"phase_stage1_step.png", "phase_stage1_step.csv", "phase_stage1_step_single.png"}
    assert earlier <= {*json.loads((folder / "manifest.json").read_text())["files"]} & {file.name for file in folder.iterdir()}
    (folder / "phase_stage1_step.png").write_bytes(b"worked on")
    (folder / "notes.txt").write_text("my own")
    (folder / "phase_stage1_step.docx").write_text("my own, of that name")
    # An analysis that is broken off must not forget what the one before it wrote.
    own_folder(sweep)
    call(monkeypatch, f"path={sweep}", "value=test_error", "formats=[png]")
    beside = {file.name for file in folder.iterdir()}
    assert {"phase_test_error.png", "notes.txt", "phase_stage1_step.docx", "cells.csv"} <= beside
    assert not earlier & beside
    (place,) = (folder / "earlier").iterdir()
    assert earlier <= {file.name for file in place.iterdir()}
    assert (place / "phase_stage1_step.png").read_bytes() == b"worked on"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert not earlier & {*manifest["files"]}
    assert f"files of an earlier analysis that this one did not write are in earlier/{place.name}" in manifest["notes"]
    # The same once more: nothing is left to set aside.
    call(monkeypatch, f"path={sweep}", "value=test_error", "formats=[png]")
    assert [*(folder / "earlier").iterdir()] == [place]


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("every", [1, 3])
def test_values_that_are_no_numbers_end_no_analysis(sweep, monkeypatch, value, every):
    for file in [file for name in ("runs", "curves") for file in (sweep / "0").rglob(f"{name}.parquet/*") if file.is_file()]:
        table = pq.read_table(file)
        columns = [i for i, field in enumerate(table.schema) if field.name.endswith(("test_error", "_loss"))]
        for i in columns:
            values = table.column(i).to_numpy().astype(float)
            values[::every] = value
            table = table.set_column(i, table.schema.field(i), pa.array(values, table.schema.field(i).type, from_pandas=False))
        pq.write_table(table, file)
    call(monkeypatch, f"path={sweep}", "formats=[png]")
    assert (sweep / "analysis" / "report.html").is_file()
    call(monkeypatch, f"path={sweep}", "formats=[png]", "x=data.dim", "hue=data.signal_norm")


def test_only_files_of_the_folder_itself_are_set_aside(tmp_path):
    """A manifest is a file like any other: names with a path, links and folders in it are left alone."""
    folder, outside = tmp_path / "analysis", tmp_path / "outside.csv"
    folder.mkdir()
    outside.write_text("1")
    (folder / "link.csv").symlink_to(outside)
    (folder / "inner").mkdir()
    (folder / "old.csv").write_text("2")
    files = ["../outside.csv", str(outside), "link.csv", "inner", 3, None, "gone.csv", "old.csv"]
    (folder / "manifest.json").write_text(json.dumps({"written_by": "analyze.py", "files": files}))
    assert files_before(folder) == ["link.csv", "inner", "gone.csv", "old.csv"]
    place = set_aside(folder, files_before(folder))
    assert [file.name for file in (folder / place).iterdir()] == ["old.csv"]
    assert outside.read_text() == "1"
    assert {file.name for file in folder.iterdir()} == {"link.csv", "inner", "manifest.json", "earlier"}
    assert set_aside(folder, ["old.csv"]) is None


def test_figures_of_an_earlier_version_are_known_by_their_captions(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"written_by": "analyze.py", "figures": {"stages": "", "../x": ""}}))
    assert files_before(tmp_path) == ["stages.pdf", "stages.png", "stages.svg", "stages.csv"]
    (tmp_path / "manifest.json").write_text("[]")
    assert files_before(tmp_path) == []


@pytest.mark.slow
def test_a_sweep_becomes_figures_tables_and_captions_for_a_paper(sweep, monkeypatch):
    labels = 'labels={data.dim: "length $\\delta$", signal_noise: "signal and noise"}'  # as the shell hands it over
    call(monkeypatch, f"path={sweep}", "paper=icml", "width=column", "panels=[test_error]", labels, "formats=[pdf]")
    folder = sweep / "analysis"
    assert b"/MediaBox [ 0 0 234 " in (folder / "phase_test_error.pdf").read_bytes(), "3.25 inches of 72 points"
    assert not list(folder.glob("phase_best*")), "panels are the values that are drawn"
    captions, tables = ((folder / name).read_text() for name in ("captions.tex", "tables.tex"))
    (caption,) = re.findall(r"\\includegraphics\{\{phase_test_error\}.pdf\}\n\\caption\{(.*)\}", captions)
    assert caption.startswith(r"Test error (true labels) by length $\delta$ and signal norm $|\mu|$")
    assert (
        "no intervals: fewer than 5 seeds. 36 runs, 3 in each of 12 cells; seeds 0 to 2. Fixed: data signal and noise"
        in caption
    )
    assert "$n=8$" in caption
    assert r"length $\delta$ & signal norm $|\mu|$ & test error \\" in tables
    assert {"captions.tex", "tables.tex"} <= set(json.loads((folder / "manifest.json").read_text())["files"])


@pytest.mark.parametrize("formats", [["pdf"], ["svg", "pdf"], []], ids=str)
@pytest.mark.slow
def test_figures_come_in_the_formats_asked_for(sweep, monkeypatch, formats):
    call(monkeypatch, f"path={sweep}", "value=test_error", f"formats=[{','.join(formats)}]")
    folder, begins = sweep / "analysis", {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}
    for name in ("phase_test_error", "phase_test_error_single"):
        assert {file.suffix[1:] for file in folder.glob(f"{name}.*")} - {"csv"} == set(formats)
        assert all((folder / f"{name}.{kind}").read_bytes().startswith(begins[kind]) for kind in formats)
    page = (folder / "report.html").read_text()
    assert (
        page.partition("<script")[0].count("data:image/png;base64,")
        == len(json.loads((folder / "manifest.json").read_text())["figures"])
        > 0
    )


@pytest.mark.parametrize("formats", ["bmp", "[pdf,bmp]", "pdf", "null", "[[pdf]]"])
def test_formats_that_there_are_not_are_refused_before_anything_is_written(sweep, monkeypatch, formats):
    with pytest.raises(
        ConfigError, match=r"^formats=.*: must be a list of some of pdf, png, svg, gif, as in formats=\[pdf,png\]$"
    ):
        call(monkeypatch, f"path={sweep}", f"formats={formats}")
    assert not (sweep / "analysis").exists()


@pytest.mark.slow
def test_a_figure_is_laid_out_once_for_all_its_files(results):
    """And the PNG is the same whether other files are made of the figure or not."""
    found, layouts = load(results), []
    groups = conditions(found.runs)
    tables = {title: (runs, found.curves[found.curves["run_id"].isin(runs["run_id"])]) for title, runs in groups.items()}
    figures = [figure_stages(tables).figure for _ in range(2)]
    execute = figures[0].get_layout_engine().execute
    figures[0].get_layout_engine().execute = lambda figure: layouts.append(execute(figure))
    assert rendered(figures[0], ["pdf", "png", "svg"])["png"] == rendered(figures[1], ["png"])["png"]
    assert len(layouts) == 1


def test_fonts_of_a_pdf_are_embedded_without_tables_for_setting_text(results):
    """Reading these takes longer than the drawing; matplotlib has no public way to leave them out."""
    assert {"GDEF", "GPOS", "GSUB"} <= set(subset.Options().drop_tables)
    file = rendered(load(results).stages().figure, ["pdf"])["pdf"]
    assert b"/FontFile2" in file
    assert b"/Type0" in file


@pytest.mark.slow
def test_a_partial_sweep_is_analysed_and_says_what_is_missing(sweep, monkeypatch):
    (part,) = (sweep / "0" / "runs.parquet").iterdir()
    pd.read_parquet(part).iloc[5:].to_parquet(part)
    call(monkeypatch, f"path={sweep}", "value=test_error")
    manifest = json.loads((sweep / "analysis" / "manifest.json").read_text())
    assert manifest["dropped"]["missing"] == 5
    short = int((pd.read_csv(sweep / "analysis" / "cells.csv")["missing"] > 0).sum())
    cells = len(pd.read_csv(sweep / "analysis" / "cells.csv"))
    assert f"planned runs that are missing: 5, in {short} of {cells} cells, whose means lack them" in manifest["notes"]
    # Without a plan nothing was asked for.
    (sweep / "sweep.yaml").unlink()
    call(monkeypatch, f"path={sweep}", "value=test_error")
    assert "planned" not in (sweep / "analysis" / "manifest.json").read_text()
    assert pd.read_csv(sweep / "analysis" / "cells.csv")["missing"].sum() == 5


@pytest.mark.slow
def test_a_half_finished_sweep_does_not_look_complete(sweep, monkeypatch):
    """Only the lowest of three dimensions is done; the diagram still has all of them."""
    (part,) = (sweep / "0" / "runs.parquet").iterdir()
    runs = pd.read_parquet(part)
    runs[runs["data.dim"] == 20].to_parquet(part)
    assert lnt.load(sweep).phase(value="test_error").axes[0].get_legend().get_texts()[0].get_text() == "no run: 8 of 12 cells"
    call(monkeypatch, f"path={sweep}", "value=test_error")
    assert (sweep / "analysis" / "phase_test_error.png").exists()
    cells = pd.read_csv(sweep / "analysis" / "phase_test_error.csv")
    assert sorted(cells["data.dim"].unique()) == [20, 40, 80]


@pytest.mark.slow
def test_a_law_is_shown_beside_its_rivals(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ("data.n_train=8", "data.n_test=200", "optimizer.steps=20", "optimizer.lr=1", "model.width=2", "seed=range(5)")
    axes = ("data.dim=20,40,80,160", "data.signal_norm=0,1,2,3,4,6,8")
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *small, *axes, "recordings=1", "hydra.sweep.dir=sweep"])
    train_entry.main()
    call(monkeypatch, "path=sweep")
    fits = pd.read_csv("sweep/analysis/collapse_test_error_rivals.csv")
    assert fits["kind"].tolist() == ["law"] + ["rival"] * 6 + ["shuffled"]
    assert fits["combination"][6] == "data.dim^-1 data.signal_norm^4 without finite sizes"
    assert fits["r2"][0] > 0.6 > fits["r2"].iloc[-1]
    captions = json.loads(Path("sweep/analysis/manifest.json").read_text())["figures"]
    assert f"R^2 in held-out cells {fits['r2'][0]:.3f}, best rival " in captions["collapse_test_error"]
    assert "boundary slope" in captions["phase_test_error"]
    assert "data.dim^-1 data.signal_norm^5" in Path("sweep/analysis/report.html").read_text()


@pytest.mark.slow
def test_strategies_have_intervals_of_students_t(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ("data.n_train=20", "data.n_test=100", "optimizer.steps=40", "model.width=2", "data.dim=100", "seed=range(5)")
    axes = ("noise.rate=0,0.2,0.4", "strategy=none,small_loss")
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *small, *axes, "hydra.sweep.dir=sweep"])
    train_entry.main()
    call(monkeypatch, "path=sweep")
    table = pd.read_csv("sweep/analysis/strategies.csv").set_index(["name", "rate"])
    runs = pd.read_parquet("sweep/analysis/all_runs.parquet")
    errors = runs[(runs["strategy"] == "small_loss") & (runs["noise.rate"] == 0.4)]["strategy_test_error"]
    # Five seeds: 4 degrees of freedom.
    half = 2.776 * errors.std() / 5**0.5
    found = table.loc[("small_loss", 0.4), ["strategy_test_error_low", "strategy_test_error_high"]]
    assert found.tolist() == pytest.approx([errors.mean() - half, errors.mean() + half], abs=1e-4)


@pytest.mark.slow
def test_one_axis_gives_lines_and_more_give_facets(sweep, monkeypatch):
    call(monkeypatch, f"path={sweep}", "x=noise.rate", "y=data.dim", "value=train_loss")
    notes = json.loads((sweep / "analysis" / "manifest.json").read_text())["notes"]
    assert notes[0] == "12 of 12 cells have no intervals: fewer than 5 seeds"
    assert "one point only" in notes[1]
    assert (sweep / "analysis" / "phase_train_loss.png").exists()


@pytest.mark.slow
def test_a_sweep_over_one_key_gives_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ("data.n_train=8", "data.n_test=20", "optimizer.steps=20", "model.width=2", "seed=range(3)", "data.dim=20,40,80")
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *small, "hydra.sweep.dir=sweep"])
    train_entry.main()
    call(monkeypatch, "path=sweep")
    assert {"error_by_data.dim", "gradient_step_by_data.dim"} <= set(
        json.loads(Path("sweep/analysis/manifest.json").read_text())["figures"]
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("y=data.signal_norm x=data.signal_norm", "must be different keys"),
        ("x=noise.rate hue=noise.rate", "must be different keys"),
        ("y=noise", "y=noise: no such column"),
        ("x=noise y=data.dim", "x=noise: must hold numbers, as y makes a phase diagram"),
        ("y=data.dim hue=noise", "makes a phase diagram, which has neither hue nor style"),
        ("hue=colour", "hue=colour: no such column"),
        ("level=abc", "level=abc: must be a number"),
        ("value=colour", "value=colour: no such column; there are .*test_error"),
        ("x=colour", "x=colour: no such column"),
    ],
)
def test_a_column_that_does_not_exist(sweep, monkeypatch, override, words):
    with pytest.raises(ValueError, match=words):
        call(monkeypatch, f"path={sweep}", *override.split())


def test_labels_and_a_level_that_do_nothing_are_noted(sweep, monkeypatch):
    asked = ("x=data.dim", "hue=data.signal_norm", "level=0.2", "labels={data.dmi: D, data.dim: D, clean.npz: clean}")
    call(monkeypatch, f"path={sweep}", "formats=[]", *asked)
    notes = json.loads((sweep / "analysis" / "manifest.json").read_text())["notes"]
    said = [note for note in notes if note.startswith(("labels", "level"))]
    assert said == [
        "labels: there is no data.dmi in these results; did you mean data.dim?",
        "level=0.2 is that of a boundary in a phase diagram, and none is drawn",
    ]
    call(monkeypatch, f"path={sweep}", "formats=[]", "level=0.2", "value=test_error")
    notes = json.loads((sweep / "analysis" / "manifest.json").read_text())["notes"]
    assert not [note for note in notes if note.startswith(("labels", "level"))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compared", "lines"),
    [  # two strategies, three losses, two optimizers of which one has a setting of its own: as a newcomer would type it
        ("strategy=none,weight_average noise.rate=0.2,0.4", {"none", "weight_average"}),
        ("data=signal_noise,xor noise.rate=0.1,0.2,0.3", {"signal_noise", "xor"}),
        ("loss=logistic,mae,gce data.snr=0.2,0.3,0.4", {"logistic", "mae", "gce"}),
        ("optimizer=gd,sam optimizer.rho=0.05,0.1 noise.rate=0,0.2", {"gd", "sam rho=0.05", "sam rho=0.1"}),
    ],
)
def test_options_are_compared_by_one_command(tmp_path, monkeypatch, compared, lines):
    """A line for each option with its settings: no averages over options, no diagram over a setting of one of them."""
    monkeypatch.chdir(tmp_path)
    small = ("data.n_train=8", "data.n_test=20", "optimizer.steps=20", "model.width=2", "data.dim=40", "seed=range(2)")
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *small, *compared.split(), "hydra.sweep.dir=0"])
    train_entry.main()
    call(monkeypatch, "path=0")
    (name,) = [name for name in json.loads(Path("0/analysis/manifest.json").read_text())["figures"] if "comparison" in name]
    table = pd.read_csv(f"0/analysis/{name}.csv")
    assert set(table["hue"]) == lines
    assert (table["n"] == 2).all()
    assert ("strategy_test_error_mean" in table) == ("strategy" in compared), "strategies are judged by what they return"
    assert not list(Path("0/analysis").glob("phase*"))


def test_two_studies_in_one_directory_are_refused(sweep, monkeypatch):
    (other := sweep.parent / "other").mkdir()
    plan = yaml.safe_load((sweep / "sweep.yaml").read_text())
    plan["groups"][0]["config"]["model"]["depth"] = 3
    (other / "sweep.yaml").write_text(yaml.safe_dump(plan))
    with pytest.raises(ValueError, match="different studies"):
        call(monkeypatch, f"path={sweep.parent}")


def test_analysis_needs_no_training_code():
    code = "import sys; import lnt.analysis.report, lnt.analysis.study, lnt.analysis.results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_mixed_components_are_drawn_over_the_keys_that_all_have(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ("data.n_train=8", "data.n_test=20", "optimizer.steps=20", "model.width=2", "seed=range(2)", "data.dim=20,40,80")
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *small, "noise=none,symmetric", "hydra.sweep.dir=0"])
    train_entry.main()
    call(monkeypatch, "path=0")
    cells = pd.read_csv("0/analysis/cells.csv")
    assert len(cells) == 6
    assert (cells["missing"] == 0).all()


def test_a_setting_that_must_be_given_is_named():
    config = OmegaConf.create({"data": {"file": "???"}})
    with pytest.raises(MissingMandatoryValue) as raised:
        config.data.file  # noqa: B018
    assert one_line(raised.value) == "data.file: must be given, as data.file=..."


@pytest.mark.slow
def test_what_is_wrong_is_one_line_on_the_real_command_line(results):
    """Hydra writes a line of its own before an error that comes up once it has composed."""
    command = [sys.executable, str(Path(analyze.__file__)), f"path={results}", "value=tset_error"]
    done = subprocess.run(command, cwd=results, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: value=tset_error: no such column; there are ")


@pytest.mark.parametrize("rows", [0, 1, 5, 8])
def test_a_table_that_is_written_in_parts_is_the_table(tmp_path, monkeypatch, rows):
    table = pd.DataFrame(
        {
            "name": pd.Series([None, "a,b", "c", *"defgh"][:rows], dtype="str"),
            "count": pd.Series([1, None, 3, 4, 5, 6, 7, 8][:rows], dtype="Int64"),
            # The first part of it has no type of its own.
            "late": pd.Series([None, None, None, None, 0.5, 1.0, 2.0, 3.0][:rows], dtype=object),
        }
    )
    monkeypatch.setattr(report_files, "ROWS", 3)
    report_files.write_table(tmp_path / "cells", table)
    read = pd.read_parquet(tmp_path / "cells.parquet")
    pd.testing.assert_frame_equal(read.astype({"late": float}), table.astype({"late": float}))
    lines = (tmp_path / "cells.csv").read_text().splitlines()
    assert lines[0] == '"name","count","late"'
    assert lines[1:] == [",1,", '"a,b",,', '"c",3,', '"d",4,', '"e",5,0.5', '"f",6,1', '"g",7,2', '"h",8,3'][:rows]


def test_rows_keep_together_in_a_file_that_pandas_has_sorted(tmp_path, sweep):
    before = load(sweep).runs.set_index("run_id").sort_index()
    (file,) = (file for file in (sweep / "0").rglob("runs.parquet/*") if file.is_file())
    rows = pd.read_parquet(file).sample(frac=1, random_state=0)
    pd.concat([rows, rows.head(3)]).to_parquet(file)
    assert len(before.columns) > 8
    found = load(sweep)
    assert found.duplicates == 3
    pd.testing.assert_frame_equal(found.runs.set_index("run_id").sort_index(), before)
