"""Suspects: the table against numbers made by hand, what is missing, and the files that an analysis writes."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analyze
import train as train_entry
from lnt.analysis import study_suspects
from lnt.analysis.figure_images import figure_suspects
from lnt.analysis.figure_style import CLEAN, NOISY, PLAIN
from lnt.analysis.study_suspects import suspects

# Two runs of one condition. Sample 7 is mislabelled in run a only; the others have one observed label.
SAMPLES = pd.DataFrame(
    [
        ("a", 7, 3, 8, 4.0, -2.0, math.inf, 9),
        ("a", 5, 3, 3, 1.0, 0.5, 10, 2),
        ("a", 2, 8, 8, 2.0, -1.0, 20, 2),
        ("b", 7, 3, 3, 0.5, 3.0, 0, 0),
        ("b", 5, 3, 3, 2.0, 1.5, 30, 3),
        ("b", 2, 8, 8, 4.0, -3.0, math.inf, 1),
    ],
    columns=["run_id", "index", "true", "observed", "loss_best", "margin_best", "learning_time_best", "wrong_events_best"],
).assign(loss_last=0.25, margin_last=0.5, learning_time_last=50.0, wrong_events_last=4)


def test_suspects_by_hand():
    """Means over the runs in which a sample has a label; of learning times the median, as never is infinite."""
    found = suspects(SAMPLES)
    assert found["rank"].tolist() == [1, 2, 3, 4]
    assert found["index"].tolist() == [7, 2, 5, 7]
    assert found["observed"].tolist() == [8, 8, 3, 3]
    assert found["true"].tolist() == [3, 8, 3, 3]
    assert found["runs"].tolist() == [1, 2, 2, 1]
    assert found["loss_best"].tolist() == [4, 3, 1.5, 0.5]
    assert found["margin_best"].tolist() == [-2, -2, 1, 3]
    assert found["learning_time_best"].tolist() == [math.inf, math.inf, 20, 0]
    assert found["wrong_events_best"].tolist() == [9, 1.5, 2.5, 0]
    assert found["rank_margin"].tolist() == [1, 1, 3, 4]
    assert found["rank_learning_time"].tolist() == [1, 1, 3, 4]
    assert found["rank_wrong_events"].tolist() == [1, 3, 2, 4]
    assert found["wrong_events_last"].tolist() == [4] * 4


def test_a_learning_time_is_the_median_over_runs_and_other_signals_are_means():
    third = SAMPLES[SAMPLES["run_id"] == "b"].assign(
        run_id="c", learning_time_best=[0, math.inf, 50], wrong_events_best=[0, 7, 6]
    )
    found = suspects(pd.concat([SAMPLES, third])).set_index(["index", "observed"])
    assert found.loc[(5, 3), ["learning_time_best", "wrong_events_best"]].tolist() == [30, 4], "of 10, 30, inf and of 2, 3, 7"
    assert found.loc[(2, 8), ["learning_time_best", "wrong_events_best"]].tolist() == [50, 3], "of 20, inf, 50 and of 2, 1, 6"


def test_without_true_labels_suspects_are_the_same():
    found = suspects(SAMPLES.assign(true=pd.array([None] * 6, "Int16")))
    assert found["true"].isna().all()
    pd.testing.assert_frame_equal(found.drop(columns="true"), suspects(SAMPLES).drop(columns="true"))


def test_tables_of_earlier_versions_have_losses_only():
    found = suspects(SAMPLES[["run_id", "index", "true", "observed", "loss_best", "loss_last"]])
    assert list(found) == ["rank", "index", "observed", "true", "runs", "loss_best", "loss_last"]
    assert found["index"].tolist() == [7, 2, 5, 7]


def test_the_table_is_bounded_and_ranks_count_all(monkeypatch):
    monkeypatch.setattr(study_suspects, "MAX_SUSPECTS", 2)
    assert suspects(SAMPLES)["rank_wrong_events"].tolist() == [1, 3]


def test_pictures_are_in_order_and_say_their_labels():
    shown = suspects(SAMPLES).assign(true=[3, 8, None, 3])
    images = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 5, 5), np.uint8)
    axes = [ax for ax in figure_suspects(shown, images).axes if ax.images]
    assert [ax.images[0].get_array()[0, 0, 0] for ax in axes] == [0, 1, 2, 3]
    titles = ["observed 8\ntrue 3", "observed 8\ntrue 8", "observed 3", "observed 3\ntrue 3"]
    assert [ax.get_title() for ax in axes] == titles
    assert [ax.title.get_color() for ax in axes] == [NOISY, CLEAN, PLAIN, CLEAN]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """An analysed sweep on digits: two rates, two seeds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("suspects"))
        digits = ("data=digits", "data.classes=[3,8]", "data.n_train=60", "data.n_test=20", "model.width=2")
        sweep = ("optimizer.epochs=3", "noise.rate=0,0.2", "seed=0,1", "keep_networks=false", "hydra.sweep.dir=sweep")
        patch.setattr(sys, "argv", ["train.py", "-m", *digits, *sweep])
        train_entry.main()
        patch.setattr(sys, "argv", ["analyze.py", "path=sweep", "attributions=0", "formats=[png]"])
        analyze.main()
        yield Path("sweep").resolve()


@pytest.mark.slow
def test_an_analysis_writes_suspects_of_each_condition_and_their_pictures(study):
    """Also without kept networks, and where no label is wrong."""
    folder = study / "analysis"
    table = pd.read_csv(folder / "suspects.csv")
    assert list(table["condition"].unique()) == ["noise.rate=0", "noise.rate=0.2"]
    samples = pd.concat([pd.read_parquet(file) for file in study.glob("*/samples.parquet/*")])
    runs = pd.concat([pd.read_parquet(file) for file in study.glob("*/runs.parquet/*")])
    own = samples[samples["run_id"].isin(runs.loc[runs["noise.rate"] == 0.2, "run_id"])]
    first = table[table["condition"] == "noise.rate=0.2"].iloc[0]
    means = own.groupby(["index", "observed"])["loss_best"].mean()
    assert first["loss_best"] == pytest.approx(means.max())
    assert (first["index"], first["observed"]) == means.idxmax()
    figures = json.loads((folder / "manifest.json").read_text())["figures"]
    assert {"suspects_1", "suspects_2", "signals"} <= set(figures)
    assert "0 of these 24 are mislabelled" in figures["suspects_1"]
    assert (folder / "suspects_2.png").stat().st_size > 1000
    assert "Suspects noise.rate=0.2" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_where_the_files_of_the_data_are_away_the_table_is_written_all_the_same(study, monkeypatch):
    from lnt.images import attribution

    def away(*arguments):
        raise FileNotFoundError("no such file")

    monkeypatch.setattr(attribution, "training_images", away)
    monkeypatch.setattr(sys, "argv", ["analyze.py", f"path={study}", "attributions=0", "formats=[png]"])
    analyze.main()
    manifest = json.loads((study / "analysis" / "manifest.json").read_text())
    assert "no pictures of suspects noise.rate=0: FileNotFoundError: no such file" in manifest["notes"]
    assert not any(name.startswith("suspects") for name in manifest["figures"])
    assert (study / "analysis" / "suspects.csv").exists()
