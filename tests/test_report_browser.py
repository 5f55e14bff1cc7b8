"""The page of an analysis in a headless Chromium: what a reader sees, presses, and prints."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]
SMALL = ("data.n_train=20", "data.n_test=50", "model.width=4", "optimizer.steps=100", "recordings=10", "seed=range(5)")
GRID = ("data.dim=200,400,800", "data.snr=0.05,0.1,0.2", "noise.rate=0.1,0.2", "optimizer.lr=0.01,0.02")
EVIL = "</script><script>window.evil=1</script><img src=x onerror='window.evil=2'><a href='javascript:window.evil=3'>x</a>"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
MOST_MS = 200  # from a click to the curves of a cell; five times that is allowed, since other tests may run beside this one

pytestmark = pytest.mark.browser


def call(*command):
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def chromium():
    """A browser, if there is one."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-browser installs it")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium is found: apt-get install chromium")
    with api.sync_playwright() as play:
        # Containers, in which tests run as root, have no sandbox.
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep over four numbers, analysed; two runs of a cell and all of another are missing."""
    path = tmp_path_factory.mktemp("sweep") / "grid"
    call("train.py", "-m", *SMALL, *GRID, f"hydra.sweep.dir={path}")
    (file,) = Path(path, "0", "runs.parquet").glob("*.parquet") if Path(path, "0", "runs.parquet").is_dir() else [
        Path(path, "0", "runs.parquet")
    ]  # fmt: skip
    table = pq.read_table(file).to_pandas()
    first = (table["noise.rate"] == 0.1) & (table["optimizer.lr"] == 0.01) & (table["data.dim"] == 200)
    gone = first & ((table["data.snr"] == 0.05) | ((table["data.snr"] == 0.1) & (table["seed"] < 2)))
    assert gone.sum() == 7
    pq.write_table(pa.Table.from_pandas(table[~gone], preserve_index=False), file)
    call("analyze.py", f"path={path}", "formats=[]", "value=test_error")
    return path


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    path = tmp_path_factory.mktemp("comparison") / "losses"
    call("train.py", "-m", *SMALL, "noise.rate=0.1,0.2,0.3", "loss=logistic,hinge", f"hydra.sweep.dir={path}")
    call("analyze.py", f"path={path}", "formats=[pdf]")
    return path


@pytest.fixture
def opened(chromium):
    """Opens a page. At the end nothing may have gone wrong in it, and it may have asked for no other file."""
    pages, wrong = [], []

    def show(path, **how):
        page = chromium.new_page(**{"viewport": WIDE, **how})
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        address = (path / "analysis" / "report.html").as_uri()
        page.on("request", lambda asked: None if asked.url.startswith((address, "data:", "blob:")) else wrong.append(asked.url))
        page.goto(address)
        page.wait_for_selector("#cells tbody tr")
        pages.append(page)
        return page

    yield show
    for page in pages:
        page.close()
    assert wrong == []


def place(page, column, row, columns=3, rows=3):
    """The middle of a cell of the diagram on the screen; rows count from below."""
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map .nsewdrag").first.bounding_box()
    return box["x"] + (column + 0.5) / columns * box["width"], box["y"] + (rows - row - 0.5) / rows * box["height"]


def until(page, holds):
    """Wait for an expression. The page forbids what playwright would wait with: it runs no script but its own."""
    for _ in range(100):
        if page.evaluate(holds):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"never {holds}")


def choose(page, name, text):
    page.locator(f"select[name='{name}']").select_option(label=text)


def means(path, **where):
    """Test errors of the runs of a cell, from the tables themselves."""
    runs = pd.read_parquet(path / "0" / "runs.parquet")
    for key, value in where.items():
        runs = runs[runs[key.replace("__", ".")] == value]
    return runs["test_error"]


def test_hovering_shows_the_numbers_of_a_cell(opened, sweep):
    page = opened(sweep)
    choose(page, "facet-noise.rate", "0.2")
    page.mouse.move(*place(page, 1, 0))
    until(page, "document.querySelector('#map .hoverlayer').textContent.includes('seeds')")
    words = page.locator("#map .hoverlayer").text_content()
    found = means(sweep, noise__rate=0.2, optimizer__lr=0.01, data__dim=400, data__snr=0.05)
    assert "dimension d = 400" in words
    assert "5 seeds, 0 missing" in words
    half = 2.776445 * found.std() / 5**0.5  # of Student's t with 4 degrees of freedom
    assert f"test error (true labels): {found.mean():.4g} ± {half:.2g} (95 %)" in words
    choose(page, "facet-noise.rate", "0.1")
    page.mouse.move(*place(page, 0, 1))
    until(page, "document.querySelector('#map .hoverlayer').textContent.includes('3 seeds, 2 missing')")
    assert "grey: 1 planned cells" in page.locator("#legend").inner_text()
    assert "dots: 1 cells" in page.locator("#legend").inner_text()


def test_a_click_shows_the_curves_of_a_cell_at_once(opened, sweep):
    page = opened(sweep)
    page.mouse.click(*place(page, 2, 2))
    page.wait_for_selector("#curves .scatterlayer .trace", state="attached")
    assert page.locator("#cell h3").inner_text().startswith("dimension d = 800, SNR |μ|/(s√d) = 0.2")
    curves = pd.read_parquet(sweep / "0" / "curves.parquet")
    runs = pd.read_parquet(sweep / "0" / "runs.parquet")
    cell = runs[
        (runs["data.dim"] == 800) & (runs["data.snr"] == 0.2) & (runs["noise.rate"] == 0.1) & (runs["optimizer.lr"] == 0.01)
    ]
    wanted = curves[curves["run_id"].isin(cell["run_id"])].groupby("step")["noisy_accuracy"].mean()
    drawn = page.evaluate("document.getElementById('curves').data.find((line) => line.name === 'mislabelled').y")
    steps = page.evaluate("document.getElementById('curves').data.find((line) => line.name === 'mislabelled').x")
    assert dict(zip(steps, drawn, strict=True)) == pytest.approx(wanted.to_dict(), abs=1e-3)
    dotted = page.evaluate("document.getElementById('curves').data.filter((line) => line.line.dash === 'dot').length")
    assert dotted == len(page.evaluate("document.getElementById('curves').data")) / 2, "theory has a line for each measured one"
    milliseconds = page.evaluate(
        """() => { const row = document.querySelector("#cells tbody tr"); const began = performance.now();
        row.click(); document.body.offsetHeight; return performance.now() - began; }"""
    )
    assert milliseconds < 5 * MOST_MS
    assert len(page.evaluate("document.getElementById('map').layout.shapes")) == 1, "the cell that is shown has a frame"


def test_menus_choose_value_facet_and_axes_and_a_level_moves_the_line(opened, sweep):
    page = opened(sweep)
    line = "document.getElementById('map').data[1].contours.start"
    page.locator("input[name='level']").fill("0.2")
    assert page.evaluate(line) == 0.2
    page.locator("input[name='slider']").evaluate(
        "(slider) => { slider.value = slider.max; slider.dispatchEvent(new Event('input')); }"
    )
    highest = page.evaluate("Math.max(...document.getElementById('map').data[0].z.flat().filter((z) => z !== null))")
    assert page.evaluate(line) == pytest.approx(highest, rel=0.02)
    choose(page, "value", "step: mislabelled fitted")
    assert "step: mislabelled fitted" in page.locator("#map .infolayer").text_content()
    before = page.evaluate("document.getElementById('map').data[0].z")
    choose(page, "facet-noise.rate", "0.2")
    assert page.evaluate("document.getElementById('map').data[0].z") != before
    choose(page, "y", "label noise rate τ")
    assert page.locator("select[name='facet-data.snr']").count() == 1
    assert page.evaluate("document.getElementById('map').data[0].z.length") == 2
    choose(page, "x", "label noise rate τ")
    assert page.locator("select[name='y']").evaluate("(menu) => menu.selectedOptions[0].text") == "dimension d"


def test_a_slider_moves_the_diagram_through_time(opened, sweep):
    """In steps and in T1 = n m / (lr s^2 d), which is 80 / (lr d) here: another one in each column."""
    page = opened(sweep)
    curves, runs = (pd.read_parquet(sweep / "0" / f"{name}.parquet") for name in ("curves", "runs"))
    runs = runs[(runs["noise.rate"] == 0.2) & (runs["optimizer.lr"] == 0.01)]
    rows = curves.merge(runs[["run_id", "data.dim", "data.snr"]])
    choose(page, "facet-noise.rate", "0.2")
    assert page.locator("input[name='time']").count() == 0, "at first the end of training is shown"
    shown = "document.getElementById('map').data[0].z"
    ends = page.evaluate(shown)
    choose(page, "clock", "in steps")
    assert page.evaluate(shown) == ends, "the last step is the end of training"
    slider = page.locator("input[name='time']")
    move = "(slider, at) => { slider.value = at; slider.dispatchEvent(new Event('input')); }"
    now = page.locator("output[name='now']")
    seen = set()
    for at in range(int(slider.get_attribute("max")) + 1):
        slider.evaluate(move, at)
        step = int(now.inner_text().removeprefix("step "))
        seen.add(step)
        wanted = rows[rows["step"] == step].pivot_table(index="data.snr", columns="data.dim", values="test_error")
        for drawn, row in zip(page.evaluate(shown), wanted.to_numpy(), strict=True):
            assert drawn == pytest.approx(row, abs=1e-3)
    assert seen == set(curves["step"]) - {0}
    assert page.evaluate("document.getElementById('map').data[0].zmin") == 0
    slider.evaluate(move, 0)
    page.mouse.move(*place(page, 1, 0))
    until(page, "document.querySelector('#map .hoverlayer').textContent.includes('at step 1:')")
    choose(page, "clock", "in T₁")
    slider.evaluate(move, 0)
    time = float(now.inner_text().removesuffix(" T₁"))
    # T1 is 20 * 4 / (0.01 d) = 8000 / d steps: the longest, at d = 200, is 40 steps.
    assert time == pytest.approx(1 / 40, rel=1e-2)
    z = page.evaluate(shown)
    begun = rows[rows["step"] == 0].groupby(["data.dim", "data.snr"])["test_error"].mean()
    assert z[0][2] == pytest.approx(begun[800, 0.05], abs=1e-3), "its first step comes later: at 1 / 10"
    stepped = rows[rows["step"] == 1].groupby(["data.dim", "data.snr"])["test_error"].mean()
    assert z[0][0] == pytest.approx(stepped[200, 0.05], abs=1e-3)
    slider.evaluate(move, int(slider.get_attribute("max")))
    assert now.inner_text() == "10 T₁", "at d = 800; with twice the learning rate there are 20"
    assert [value is None for value in page.evaluate(shown)[0]] == [True, True, False], "the others end after fewer T1"
    choose(page, "value", "step: mislabelled fitted")
    assert page.locator("select[name='clock']").is_disabled(), "it was not recorded on the way"
    assert page.locator("input[name='time']").count() == 0


def test_a_diagram_plays_to_its_end(opened, sweep):
    page = opened(sweep)
    choose(page, "clock", "in steps")
    last = page.locator("input[name='time']").get_attribute("max")
    page.locator("button[name='play']").click()
    assert page.locator("button[name='play']").inner_text() == "pause"
    at = "document.querySelector('input[name=time]').value"
    assert int(page.evaluate(at)) < int(last), "from the beginning"
    until(page, f"{at} === '{last}'")
    until(page, "document.querySelector('button[name=play]').textContent === 'play'")
    milliseconds = page.evaluate(
        """() => { const slider = document.querySelector("input[name=time]"); const began = performance.now(); slider.value = 0;
        slider.dispatchEvent(new Event("input")); document.body.offsetHeight; return performance.now() - began; }"""
    )
    assert milliseconds < 5 * MOST_MS


def test_cells_are_sorted_and_filtered(opened, sweep):
    page = opened(sweep)
    body = page.locator("#cells tbody tr")
    assert body.count() == 36
    page.locator("#filter").fill("noise.rate = 0.1 test_error < 0.3 data.dim >= 400")
    tables = pd.read_csv(sweep / "analysis" / "cells.csv")
    wanted = tables[(tables["noise.rate"] == 0.1) & (tables["test_error_mean"] < 0.3) & (tables["data.dim"] >= 400)]
    assert 0 < body.count() == len(wanted) < 36
    page.locator("#cells th button", has_text="test error (true labels)").click()
    column = [th.strip() for th in page.locator("#cells th").all_inner_texts()].index("test error (true labels) ↑")
    errors = [float(text.split(" ")[0]) for text in page.locator(f"#cells td:nth-child({column + 1})").all_inner_texts()]
    assert errors == pytest.approx(sorted(wanted["test_error_mean"]), rel=1e-3)
    page.locator("#cells th button", has_text="test error (true labels)").click()
    assert page.locator(f"#cells th:nth-child({column + 1})").get_attribute("aria-sort") == "descending"
    page.locator("#filter").fill("no such thing")
    assert page.locator("#found").inner_text() == "0 of 36 cells"


def test_the_legend_switches_lines(opened, comparison):
    page = opened(comparison)
    hinge = page.locator(".legend .chip", has_text="hinge")
    seen = "[...document.querySelectorAll('.panel')].map((p) => p.data.filter((line) => line.visible !== false).length)"
    assert set(page.evaluate(seen)) == {2}
    hinge.click()
    assert set(page.evaluate(seen)) == {1}
    assert hinge.get_attribute("aria-pressed") == "false"
    hinge.click()
    assert set(page.evaluate(seen)) == {2}


@pytest.mark.parametrize("made", ["sweep", "comparison"])
def test_it_fits_a_phone(opened, made, request):
    page = opened(request.getfixturevalue(made), viewport=PHONE, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.locator("#cells tbody tr").last.tap()
    page.wait_for_selector("#curves .scatterlayer .trace", state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate("[...document.querySelectorAll('.js-plotly-plot')].every((p) => p.offsetWidth <= innerWidth)")


def test_it_follows_the_dark_and_can_be_told_apart_there(opened, sweep):
    page = opened(sweep, color_scheme="dark")
    read = "(name) => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number)"
    assert max(page.evaluate(read, "backgroundColor")) < 60
    assert min(page.evaluate(read, "color")) > 180
    written = "getComputedStyle(document.querySelector('#map .xtick text')).fill.match(/\\d+/g).map(Number)"
    assert min(page.evaluate(written)) > 180
    page.emulate_media(color_scheme="light")
    until(page, f"Math.max(...{written}) < 80")


def test_it_prints_the_static_figures_without_menus(opened, sweep, tmp_path):
    page = opened(sweep)
    page.emulate_media(media="print")
    assert not page.locator("#choices").is_visible()
    assert not page.locator("#filter").is_visible()
    page.emulate_media(media="screen")
    page.pdf(path=tmp_path / "page.pdf")
    pictures = page.locator(".figure details")
    assert all(pictures.nth(i).get_attribute("open") is not None for i in range(pictures.count()))
    # The table of cells is wider than a screen, and all of it is on a landscape page of A4 with margins of 1 cm.
    page.set_viewport_size({"width": round(27.7 / 2.54 * 96), "height": 700})
    page.emulate_media(media="print")
    assert page.evaluate("document.querySelectorAll('#cells thead th').length") > 15
    assert page.evaluate("document.querySelector('#cells table').getBoundingClientRect().right <= innerWidth")


def test_a_boundary_by_few_trainings_is_shown_with_its_band(opened, tmp_path):
    axes = ("data.dim=100,200,400", f"data.signal_norm={','.join(f'{0.5 * i:g}' for i in range(12))}", "seed=range(10)")
    refine = (
        "hydra.sweeper.refine=boundary",
        "hydra.sweeper.value=test_error",
        "hydra.sweeper.level=0.25",
        "hydra.sweeper.budget=150",
    )
    path = tmp_path / "sweep"
    small = [setting for setting in SMALL if not setting.startswith(("seed", "recordings"))]
    call("train.py", "-m", *small, "recordings=1", *axes, *refine, f"hydra.sweep.dir={path}")
    call("analyze.py", f"path={path}", "formats=[png]")
    page = opened(path)
    assert "the figure below has the boundary with its band" in page.locator("#legend").text_content()
    assert page.locator("input[name=level]").count() == 0
    assert page.locator(".figure details").first.get_attribute("open") is not None
    # All planned levels, though few of the 36 cells are trained.
    shape = page.evaluate(
        "[document.getElementById('map').data[0].z.length, document.getElementById('map').data[0].z[0].length]"
    )
    assert shape == [12, 3]
    trained = page.evaluate("document.getElementById('map').data[0].z.flat().filter((mean) => mean !== null).length")
    assert trained == len(pd.read_csv(path / "analysis" / "phase_test_error.csv")) < 36


def test_links_lead_to_the_files(opened, comparison):
    page = opened(comparison)
    links = page.evaluate("[...document.querySelectorAll('.files a')].map((a) => a.getAttribute('href'))")
    assert {"all_runs.csv", "all_runs.parquet", "cells.csv", "manifest.json"} < set(links)
    assert any(link.endswith(".pdf") for link in links)
    assert all((comparison / "analysis" / link).is_file() for link in links)


def test_what_results_hold_stays_text(opened, comparison, tmp_path):
    """Options, errors and commands that would be HTML."""
    path = tmp_path / "evil"
    shutil.copytree(comparison, path)
    shutil.rmtree(path / "analysis")
    file = path / "0" / "runs.parquet"
    (file,) = file.glob("*.parquet") if file.is_dir() else [file]
    table = pq.read_table(file).to_pandas()
    table["loss"] = table["loss"].replace("hinge", EVIL)
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), file)
    origin = path / "0" / "provenance.json"
    origin.write_text(json.dumps({"command": ["train.py", EVIL], "git": EVIL, "time": EVIL, "versions": {"torch": EVIL}}))
    (path / "sweep.yaml").unlink()
    call("analyze.py", f"path={path}", "formats=[]")
    page = opened(path)
    assert EVIL in page.locator("#cells tbody").inner_text()
    assert EVIL in page.locator(".legend").inner_text()
    assert EVIL in page.locator("dl").inner_text()
    page.locator("#cells tbody tr", has_text=EVIL).first.click()
    page.wait_for_selector("#curves .scatterlayer .trace", state="attached")
    box = page.locator(".panel .nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.wait_for_timeout(300)
    assert page.evaluate("window.evil") is None
    assert page.locator("img[src='x']").count() == 0
    assert page.locator("a[href^=javascript]").count() == 0
