"""refine=boundary: the search on surfaces whose boundary is known, and sweeps that are trained round by round."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hydra.errors import HydraException

import analyze
import train
from lnt.analysis.phase_diagram import facets
from lnt.analysis.results import load
from lnt.errors import ConfigError
from lnt.files import DamagedFile
from lnt.level_set import band
from lnt.plan_file import planned_runs, read_plan, write_plan
from lnt.runs import train_runs
from lnt.sweeps.next_round import Search
from lnt.sweeps.standing import describe

NAN = np.nan
X, Y = np.arange(100.0, 1100, 50), np.linspace(0, 10, 101)
TRUTH = 0.9 * X**0.25


def surface(seeds, rng, falls=True):
    """An error that falls through 0.3 on TRUTH; seeds differ along whole columns, as runs on the same data do."""
    noise = 0.06 * rng.standard_normal((1, len(X), seeds)) + 0.02 * rng.standard_normal((len(Y), len(X), seeds))
    mean = 0.1 + 0.4 / (1 + (Y[:, None] / TRUTH) ** 4)
    return (mean if falls else 0.6 - mean)[..., None] + noise


def searched(search, values):
    """(seeds asked for, values seen, rounds) of a search in which every run that is asked for brings its value."""
    asked, rounds = np.zeros(values.shape[:2], int), 0
    while True:
        seen = np.where(np.arange(values.shape[2]) < asked[..., None], values, NAN)
        wanted = search.next(seen, asked)
        assert (wanted >= asked).all()
        if (wanted == asked).all():
            return asked, seen, rounds
        asked, rounds = wanted, rounds + 1


# The search


def test_the_first_round_is_coarse():
    asked = Search(X, Y, 20, 0.3, 0.1).next(np.full((101, 20, 0), NAN), np.zeros((101, 20), int))
    assert np.flatnonzero(asked.any(1)).tolist() == [0, 20, 40, 60, 80, 100]
    assert np.flatnonzero(asked.any(0)).tolist() == [0, 4, 8, 11, 15, 19]
    assert asked.max() == 5
    assert asked.sum() == 180


def test_without_noise_the_crossing_is_found_between_neighbours():
    values = np.repeat(surface(1, np.random.default_rng(0)) * 0 + 0.1 + 0.4 / (1 + (Y[:, None] / TRUTH) ** 4)[..., None], 5, 2)
    asked, seen, _ = searched(Search(X, Y, 5, 0.3, 0.01), values)
    for found, whole in zip(band(Y, seen, 0.3, asked), band(Y, values, 0.3), strict=True):
        np.testing.assert_allclose(found, whole)
    assert asked.sum() < 1100, "of 10 100: eight cells in each column at most, and the first ones"


@pytest.mark.parametrize("falls", [True, False])
def test_the_band_is_as_narrow_as_asked_and_holds_the_boundary(falls):
    rng, width, inside = np.random.default_rng(0), 0.08, []
    for _ in range(25):
        values = surface(60, rng, falls)
        asked, seen, rounds = searched(Search(X, Y, 60, 0.3, width), values)
        edge, low, high = band(Y, seen, 0.3, asked)
        assert ((high - low) / 10 <= width).all()
        assert ((low <= edge) & (edge <= high)).all()
        assert asked.sum() < 20 * 101 * 20 / 10
        assert rounds < 25
        inside.append((low <= TRUTH) & (high >= TRUTH))
    # 500 columns: the standard error of a share of 0.95 is 0.01.
    assert np.mean(inside) > 0.91


def test_the_boundary_of_skewed_errors_is_held():
    """With a skewness of 2, as the most skewed study has, and ten or more seeds; bands of 95 % intervals hold 88 % of these."""
    rng, inside = np.random.default_rng(5), []
    mean = 0.1 + 0.4 / (1 + (Y[:, None] / TRUTH) ** 4)[..., None]
    for _ in range(25):
        values = mean + 0.06 * (rng.exponential(size=(1, len(X), 60)) - 1)
        asked, seen, _ = searched(Search(X, Y, 60, 0.3, 0.12), values)
        _, low, high = band(Y, seen, 0.3, asked)
        inside.append((low <= TRUTH) & (high >= TRUTH))
    assert np.mean(inside) > 0.91


def test_a_budget_is_kept_and_goes_to_whole_columns():
    asked, _, _ = searched(Search(X, Y, 60, 0.3, 0.02, 700), surface(60, np.random.default_rng(1)))
    assert 600 < asked.sum() <= 700


def test_seeds_may_be_spent():
    asked, _, _ = searched(Search(X, Y, 8, 0.3, 0.001), surface(8, np.random.default_rng(1)))
    assert (asked.max(0) == 8).all()


@pytest.mark.parametrize("level", [0.02, 0.9])
def test_a_level_that_is_nowhere_crossed_ends_after_the_first_round(level):
    asked, _, rounds = searched(Search(X, Y, 8, level, 0.1), surface(8, np.random.default_rng(1)))
    assert rounds == 1
    assert asked.sum() == 180


def test_a_boundary_that_leaves_the_diagram():
    """Columns without a crossing end at its edge; the others have theirs."""
    slope = np.linspace(2, 14, 20)
    values = 0.5 - 0.1 * (Y[:, None] - slope)[..., None] + 0.01 * np.random.default_rng(0).standard_normal((1, 20, 9))
    asked, seen, _ = searched(Search(X, Y, 9, 0.5, 0.05), values)
    edge, low, high = band(Y, seen, 0.5, asked)
    assert np.isnan(edge).tolist() == (slope > 10).tolist()
    there = slope < 9.8
    np.testing.assert_allclose(edge[there], slope[there], atol=0.25)
    assert ((low <= edge) & (edge <= high))[there].all()


def test_axes_in_factors():
    """A boundary y = x / 100 over two decades, in steps of a constant factor; the width is a share of the logarithm."""
    x, y = np.geomspace(100, 10_000, 12), np.geomspace(0.1, 1000, 81)
    rng = np.random.default_rng(3)
    values = (1 / (1 + y[:, None] * 100 / x))[..., None] + 0.03 * rng.standard_normal((1, 12, 40))
    asked, seen, _ = searched(Search(x, y, 40, 0.5, 0.03), values)
    _, low, high = band(y, seen, 0.5, asked)
    assert (np.log(high / low) <= 0.03 * np.log(10_000)).all()
    assert ((low <= x / 100) & (x / 100 <= high)).mean() > 0.7
    assert asked.sum() < 12 * 81 * 10 / 5


def test_runs_that_diverge_do_not_keep_the_search_from_ending():
    values = surface(20, np.random.default_rng(2))
    values[np.random.default_rng(4).random(values.shape) < 0.1] = NAN
    values[:30, 3] = NAN
    _, _, rounds = searched(Search(X, Y, 20, 0.3, 0.05), values)
    assert rounds < 40


# Sweeps

SMALL = (  # a small kou2023
    *("data.n_train=20", "data.n_test=200", "noise.rate=0.1", "model.width=4", "model.init_norm=1.15", "recordings=1"),
    *("optimizer.lr=0.4", "optimizer.steps=40"),
)
GRID = ("data.dim=50,100,150", "data.signal_norm=range(0,12,0.5)", "seed=range(12)")
REFINE = ("hydra.sweeper.refine=boundary", "hydra.sweeper.value=test_error", "hydra.sweeper.level=0.25")
WIDE = (*REFINE, "hydra.sweeper.width=0.15")


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """call(*overrides) runs train.py -m with results in DIR/sweep; what it printed, or (status=None) what it exits with."""
    monkeypatch.chdir(tmp_path)
    # Many short rounds, each of which would start processes.
    monkeypatch.setattr("lnt.two_layer.two_layer_experiment.workers_for", lambda device: 1)

    def run(*overrides, directory="sweep", status=0, settings=(*SMALL, *GRID)):
        monkeypatch.setattr(sys, "argv", ["train.py", "-m", *settings, f"hydra.sweep.dir={directory}", *overrides])
        ended = 0
        try:
            train.main()
        except SystemExit as stop:
            ended = stop.code
        if status is None:
            return str(ended)
        assert ended == status
        return capsys.readouterr().out

    return run


def plan_of(directory="sweep"):
    return read_plan(Path(directory) / "sweep.yaml")


def test_a_sweep_trains_what_its_rounds_ask_for(call):
    said = call(*WIDE)
    plan, runs = plan_of(), load("sweep").runs
    assert len(runs) == planned_runs(plan) < 3 * 24 * 12 / 2
    assert f"{len(runs)} runs: {len(runs)} completed, 0 diverged, 0 failed, 0 missing" in said
    assert plan["refine"]["ended"] in said
    assert plan["refine"]["ended"].startswith("boundary in 3 of 3 columns: test_error crosses 0.25, band 0.")
    assert f"; {len(runs)} of 864 runs in {len(plan['refine']['rounds'])} rounds" in said
    first = {tuple(cell) for cell in plan["refine"]["rounds"][0]}
    assert first == {(x, y, 5) for x in range(3) for y in (0, 5, 9, 14, 18, 23)}
    cells = runs.groupby(["data.dim", "data.signal_norm"])["seed"].agg(["size", "max"])
    assert (cells["max"] == cells["size"] - 1).all(), "seeds are used from the front"
    call("seed=range(12)", directory="whole")
    whole = load("whole").runs.set_index("run_id")
    np.testing.assert_allclose(whole.loc[runs["run_id"], "test_error"], runs["test_error"])


@pytest.mark.slow
def test_a_rerun_trains_nothing_twice_and_a_smaller_width_goes_on(call):
    call(*WIDE)
    before, rows = plan_of()["refine"], len(load("sweep").runs)
    call(*WIDE)
    assert plan_of()["refine"] == before
    assert len(list(Path("sweep").glob("*/runs.parquet"))) == len(before["rounds"])
    call(*REFINE, "hydra.sweeper.width=0.015")
    after = plan_of()["refine"]
    assert after["rounds"][: len(before["rounds"])] == before["rounds"]
    assert after["width"] == 0.015
    assert len(load("sweep").runs) > rows
    assert load("sweep").duplicates == 0


@pytest.mark.slow
def test_the_order_of_points_and_axes_changes_nothing(call):
    call(*WIDE)
    mixed = ("data.signal_norm=range(11.5,-0.5,-0.5)", "data.dim=150,50,100")
    call(*WIDE, directory="mixed", settings=(*SMALL, "data.dim=150,50,100", "seed=range(12)", mixed[0]))
    found, expected = (set(load(name).runs["run_id"]) for name in ("mixed", "sweep"))
    assert found == expected


@pytest.mark.slow
def test_jobs_side_by_side_train_the_same(call):
    call(*WIDE)
    call(*WIDE, "hydra/launcher=local_pool", "hydra.sweeper.runs_per_job=400", directory="pool")
    assert set(load("pool").runs["run_id"]) == set(load("sweep").runs["run_id"])
    assert plan_of("pool")["refine"] == plan_of()["refine"]


@pytest.mark.slow
def test_a_search_that_is_broken_off_goes_on_where_it_was(call, monkeypatch):
    """In the third round: with the round on the disk, some of its runs, and a row that has gone from an earlier one."""
    call(*WIDE)
    original, starts = train_runs.train_runs, []

    def broken(*arguments, **more):
        starts.append(1)
        if len(starts) == 3:
            raise KeyboardInterrupt
        return original(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr("lnt.sweeps.job.train_runs", broken)
        assert call(*WIDE, directory="broken", status=None).startswith("interrupted; runs that ended are kept; to finish")
    assert len(plan_of("broken")["refine"]["rounds"]) == 3
    shutil.rmtree("broken/0")
    standing = describe(Path("broken"))
    assert not standing.complete
    assert "to finish the rest: " in standing.text
    call(*WIDE, directory="broken")
    assert plan_of("broken")["refine"] == plan_of()["refine"]
    assert set(load("broken").runs["run_id"]) == set(load("sweep").runs["run_id"])
    assert load("broken").duplicates == 0


def test_a_plan_that_was_lost_is_found_again(call):
    call(*WIDE)
    before, file = plan_of(), Path("sweep/sweep.yaml")
    file.write_text(file.read_text().replace("level", "lewel"))
    call(*WIDE)
    assert plan_of()["refine"] == before["refine"]
    assert len(load("sweep").runs) == planned_runs(before)


@pytest.mark.slow
def test_failed_runs_end_the_rounds_until_a_rerun(call, monkeypatch):
    def broken(chunk, *arguments):
        if 3 in np.atleast_1d(chunk.seeds.data):
            raise RuntimeError("seed 3 is cursed")
        return original(chunk, *arguments)

    original = train_runs.train_chunk
    with monkeypatch.context() as patch:
        patch.setattr(train_runs, "train_chunk", broken)
        said = call(*WIDE, status=1)
    assert "90 runs: 72 completed, 0 diverged, 18 failed, 0 missing" in said
    assert len(plan_of()["refine"]["rounds"]) == 1
    call(*WIDE)
    call(*WIDE, directory="other")
    assert plan_of()["refine"] == plan_of("other")["refine"]


def test_status_counts_what_was_asked_for(call):
    call(*WIDE)
    plan = plan_of()
    assert describe(Path("sweep")).complete
    assert plan["refine"]["ended"] in describe(Path("sweep")).text
    plan["refine"]["ended"] = ""
    write_plan(Path("sweep"), plan)
    standing, count = describe(Path("sweep")), len(plan["refine"]["rounds"])
    assert not standing.complete
    assert f"{planned_runs(plan)} runs: " in standing.text
    assert f"refine=boundary has asked for these in {count} rounds, and goes on" in standing.text
    assert "to finish the rest: " in standing.text


def test_images_are_searched_too(call):
    image = ("data=digits", "data.classes=[3,8]", "data.n_train=40", "data.n_test=20", "model.width=2", "optimizer.epochs=1")
    grid = ("optimizer.lr=0.001,0.1", "noise.rate=0,0.2,0.4", "seed=range(5)", "keep_networks=false")
    said = call(*REFINE, "hydra.sweeper.width=0.9", settings=(*image, *grid))
    assert "30 runs: 30 completed" in said


def test_dry_run_says_what_it_will_do(call, tmp_path):
    said = call(*WIDE, "hydra.sweeper.budget=500", "dry_run=true")
    assert "864 runs in 1 jobs of at most 864" in said
    assert (
        "of these only what tells where test_error crosses 0.25 along data.signal_norm, for each data.dim: 90 runs first, then "
        "round by round more, until the band is at most 0.15 of the axis, or 500 runs are trained"
    ) in said
    assert not list(tmp_path.iterdir())


BAD = {
    "hydra.sweeper.refine=border": "hydra.sweeper.refine=border: must be boundary or null",
    "hydra.sweeper.level=0.2": "hydra.sweeper.level=0.2: has a meaning with hydra.sweeper.refine=boundary only",
    "hydra.sweeper.refine=boundary hydra.sweeper.value=test_error": "hydra.sweeper.level=None: must be given",
    "hydra.sweeper.refine=boundary hydra.sweeper.level=0.2": "hydra.sweeper.value=None: must be a column of runs.parquet",
    "{} hydra.sweeper.value=test_eror": "hydra.sweeper.value=test_eror: no such column; there are last_step, train_loss",
    "{} hydra.sweeper.value=noise.rate": "hydra.sweeper.value=noise.rate: no such column",
    "{} hydra.sweeper.value=error": "hydra.sweeper.value=error: no such column",
    "{} hydra.sweeper.level=high": "hydra.sweeper.level=high: must be given: the number that the value crosses",
    "{} hydra.sweeper.width=1": "hydra.sweeper.width=1: must lie in (0, 1)",
    "{} hydra.sweeper.width=0": "hydra.sweeper.width=0: must lie in (0, 1)",
    "{} hydra.sweeper.budget=0": "hydra.sweeper.budget=0: must be at least 90 runs, those of the first round, or null",
    "{} hydra.sweeper.budget=89": "hydra.sweeper.budget=89: must be at least 90 runs",
    "{} data=signal_noise,xor": "refine=boundary with 2 grids over data.dim; data.signal_norm; seed: needs one grid",
    "{} model.width=1,2": "needs one grid of exactly two axes of numbers",
    "{} data.dim=50": "boundary with 1 grids over data.signal_norm; seed: needs one grid of exactly two axes",
    "{} data.dim=50 model.bias=true,false": "needs one grid of exactly two axes of numbers",
    "{} seed=range(4)": "seed=4: refine=boundary needs a range of at least 5 seeds",
    "{} seed=1": "seed=0: refine=boundary needs a range of at least 5 seeds",
}


@pytest.mark.parametrize("overrides", BAD)
@pytest.mark.slow
def test_bad_settings_are_refused_before_anything_is_written(call, tmp_path, overrides):
    with pytest.raises((ConfigError, HydraException)) as error:
        call(*overrides.format(" ".join(REFINE)).split())
    assert BAD[overrides] in str(error.value)
    assert not list(tmp_path.iterdir())


def test_another_boundary_in_the_same_directory_is_refused(call):
    call(*WIDE)
    with pytest.raises(ConfigError, match=r"holds another sweep \(hydra.sweeper.level: 0.25 there, 0.3 now\)"):
        call(*WIDE, "hydra.sweeper.level=0.3")
    with pytest.raises(ConfigError, match=r"hydra.sweeper.value: test_error there, None now"):
        call()


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": [[[0, 0, 13]]]},
        {"rounds": [[[3, 0, 5]]]},
        {"rounds": [[[0, 0]]]},
        {"rounds": [[[0, 0, 5.0]]]},
        {"rounds": [5]},
        {"level": "high"},
        {"level": None},
        {"value": "../up"},
        {"ended": None},
        {"more": 1},
    ],
    ids=str,
)
@pytest.mark.slow
def test_a_plan_with_other_rounds_than_it_can_have_is_damaged(call, change):
    call(*WIDE, "hydra.sweeper.budget=90")
    plan = plan_of()
    plan["refine"] |= change
    write_plan(Path("sweep"), plan)
    with pytest.raises(DamagedFile, match="is no plan of a sweep"):
        plan_of()


# The analysis


def test_the_analysis_draws_what_was_trained_and_the_boundary(call, monkeypatch):
    call(*WIDE)
    found = load("sweep")
    (panel,) = facets(found, "data.dim", "data.signal_norm", "test_error", 0.25, None).values()
    plan = plan_of()
    assert panel.data.mean.shape == (24, 3), "the whole diagram"
    assert panel.data.asked.sum() == planned_runs(plan) == len(found.runs)
    trained = np.isfinite(panel.data.mean)
    assert (trained == (panel.data.asked > 0)).all()
    assert (panel.data.missing[trained] == 0).all()
    assert np.isnan(panel.data.missing[~trained]).all(), "nothing was planned there, and nothing is missing"
    assert ((panel.edge.high - panel.edge.low) / 11.5 <= 0.15).all()
    monkeypatch.setattr(sys, "argv", ["analyze.py", "path=sweep"])
    analyze.main()
    assert Path("sweep/analysis/phase_test_error.png").exists()
    assert not list(Path("sweep/analysis").glob("phase_best*")), "the value that was looked for"
    assert not list(Path("sweep/analysis").glob("collapse*"))
    table = pd.read_csv("sweep/analysis/phase_test_error.csv")
    assert table["missing"].sum() == 0
    assert table["n"].sum() == len(found.runs)


def test_what_is_missing_of_the_rounds_is_shown_as_missing(call):
    call(*WIDE)
    for part in Path("sweep/0/runs.parquet").iterdir():
        part.unlink()
    (panel,) = facets(load("sweep"), "data.dim", "data.signal_norm", "test_error", 0.25, None).values()
    assert (panel.data.missing > 0).any()
    assert np.isnan(panel.data.missing).any()


def test_the_rounds_are_one_word_each(call):
    call(*WIDE, "hydra.sweeper.budget=90")
    (words,) = yaml.safe_load(Path("sweep/sweep.yaml").read_text())["refine"]["rounds"]
    assert words.startswith("[[0,0,5],")
