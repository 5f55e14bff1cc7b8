"""Cells of a sweep, what is planned in them and what they are called, on tables small enough to count by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lnt.analysis.cells import (
    cells,
    check_column,
    conditions,
    follows,
    is_product,
    meant,
    numeric_axes,
    outcome_columns,
    over_seeds,
    planned_cells,
    refinement,
    seed_means,
    swept_keys,
    title_of,
    typed_plan,
    varies,
)
from lnt.analysis.load import RunTables
from lnt.errors import ConfigError

NAN = np.nan


def plan(axes, choices=(), **config):
    """A plan with one group; the keys of an axis, a tuple, advance together."""
    parts = [{"keys": list(keys), "points": [list(point) for point in points]} for keys, points in axes.items()]
    return {"groups": [{"config": {**config, "choices": dict(choices)}, "axes": parts}]}


def results(runs, diverged=None, failed=None, plans=()):
    none = runs.head(0)
    return RunTables(runs, none if diverged is None else diverged, none if failed is None else failed, plans, dict, dict)


def frame(rows=1, error=0.0, **columns):
    """A table of runs; a name a__b stands for the key a.b."""
    keys = {name.replace("__", "."): values for name, values in columns.items()}
    table = pd.DataFrame({"run_id": "a", **keys, "status": "completed", "error": None}, index=range(rows))
    return table.assign(test_error=error, last_step=3)


def test_planned_runs_are_counted_over_plans_and_axes_that_no_key_belongs_to():
    """3 seeds x 2 orders = 6 runs of each cell, and a second plan with 2 of one of them; lists are text."""
    keys = ["data.dim", "data.n_train", "noise.matrix", "model"]
    both = {("data.dim", "data.n_train"): [(10, 2), (20, 4)]}
    first = plan(
        {("seed",): [[0], [1], [2]], ("seeds.order",): [[0], [1]], **both}, {"model": "cnn"}, noise={"matrix": [[0.9, 0.1]]}
    )
    second = plan({("seed",): [[7], [8]]}, {"model": "cnn"}, noise={"matrix": [[0.9, 0.1]]}, data={"dim": 10, "n_train": 2})
    alone = plan({}, {"model": "mlp"}, data={"dim": 10})
    found = planned_cells([first, second, alone], keys)
    assert found.astype(object).where(found.notna(), None).values.tolist() == [
        [10, 2, "[[0.9, 0.1]]", "cnn", 8],
        [20, 4, "[[0.9, 0.1]]", "cnn", 6],
        [10, None, None, "mlp", 1],
    ]


# Of refine=boundary: numbers of x (dimensions) and y (norms), and how many of the seeds.
ROUNDS = [[[0, 1, 5], [1, 2, 5]], [[0, 1, 7]]]


def searching(rounds=(), value="test_error", level=0.25):
    axes = {
        ("seed",): [[seed] for seed in range(9)],
        ("data.dim",): [[10], [20]],
        ("data.signal_norm",): [[1.0], [2.0], [4.0]],
    }
    return plan(axes, {"noise": "none"}, noise={"matrix": [1, 2]}) | {
        "refine": {"value": value, "level": level, "rounds": rounds}
    }


def test_a_search_plans_the_runs_it_has_asked_for():
    """The second round asks for seven seeds of a cell that had five; another plan has two runs of it, and one elsewhere."""
    seeds = plan({("seed",): [[7], [8]]}, {"noise": "none"}, noise={"matrix": [1, 2]}, data={"dim": 10, "signal_norm": 2.0})
    other = plan({}, {"noise": "none"}, noise={"matrix": [1, 2]}, data={"dim": 10, "signal_norm": 8.0})
    keys = ["data.signal_norm", "noise", "data.dim", "noise.matrix"]
    found = planned_cells([searching(ROUNDS), seeds, other], keys)
    assert found.columns.tolist() == [*keys, "planned"]
    assert found.values.tolist() == [
        [2.0, "none", 10, "[1, 2]", 9],
        [4.0, "none", 20, "[1, 2]", 5],
        [8.0, "none", 10, "[1, 2]", 1],
    ]
    elsewhere = [searching([[[0, 0, 5], [0, 1, 5], [1, 0, 5]]])]
    assert planned_cells(elsewhere, ["data.dim"]).values.tolist() == [[10, 10], [20, 5]]


@pytest.mark.parametrize(
    ("plans", "known"),
    [
        ([searching()], True),
        ([searching(), searching(ROUNDS)], True),
        ([searching(), searching(level=0.3)], False),
        ([searching(), searching(value="train_error")], False),
        ([searching(), plan({})], False),
        ([plan({})], False),
        ([], False),
    ],
)
def test_sweeps_that_search_the_same_boundary_have_one(plans, known):
    assert refinement(plans) is (plans[0]["refine"] if known else None)


def test_a_plan_has_the_types_of_the_runs():
    """10 was typed where the runs have 10.0; a dimension that is a word is in no run."""
    runs = results(frame(seed=0, data__dim=10.0), plans=[plan({("data.dim",): [[10], [20]]})])
    found = typed_plan(runs, ["data.dim"])
    assert found.values.tolist() == [[10.0, 1], [20.0, 1]]
    assert found["data.dim"].dtype == float
    words = replace(runs, plans=[plan({("data.dim",): [["ten"]]})], path=Path("there"))
    with pytest.raises(ConfigError, match=r"^path=there: the plan in sweep.yaml has other kinds of values than the runs have$"):
        typed_plan(words, ["data.dim"])


@pytest.mark.parametrize(
    ("values", "title"),
    [
        ((0.1 + 0.2, 5), "a=0.3, b=5"),
        ((1234567.0, "x"), "a=1.23457e+06, b=x"),
        ((NAN, 5), "b=5"),
        ((NAN, None), "a=null, b=null"),
    ],
)
def test_titles(values, title):
    assert title_of(["a", "b"], values) == title


def test_conditions_are_in_ascending_order_and_null_is_one_of_them():
    runs = frame(4, data__snr=[2.0, NAN, 1.0, 2.0], seed=range(4))
    assert {title: part["seed"].tolist() for title, part in conditions(runs).items()} == {
        "data.snr=1": [2],
        "data.snr=2": [0, 3],
        "data.snr=null": [1],
    }
    assert list(conditions(runs)) == ["data.snr=1", "data.snr=2", "data.snr=null"]
    assert list(conditions(runs, [])) == [""]
    assert len(conditions(runs, [])[""]) == 4


@pytest.mark.parametrize(
    ("files", "titles"),
    [
        (["/home/me/a.npz", "/home/me/b.npz", None], ["a.npz", "b.npz", "null"]),
        (["/one/l.npz", "/two/l.npz", "/two/m.npz"], ["one/l.npz", "two/l.npz", "two/m.npz"]),
        (["here/l.npz", "here//l.npz"], ["here//l.npz", "here/l.npz"]),  # no parts tell them apart
    ],
)
def test_titles_name_files_not_their_paths(files, titles):
    runs = pd.DataFrame({"run_id": range(len(files)), "noise.file": files, "status": "completed"})
    found = conditions(runs)
    assert sorted(found) == sorted(f"noise.file={title}" for title in titles)
    kept = {part["noise.file"].item() for part in found.values()}
    assert set(filter(None, files)) <= kept, "runs keep their paths"


def test_a_file_that_no_run_has_is_null():
    runs = pd.DataFrame({"run_id": [0, 1], "noise.file": None, "status": "completed"})
    assert list(conditions(runs, ["noise.file"])) == ["noise.file=null"]


def test_cells_whose_key_is_null_have_counts_and_means_too():
    """Two of three planned runs with a null SNR: one is there, one failed, one diverged; of the other cell one too many."""
    runs = frame(3, [0.5, 0.1, 0.3], data__snr=[NAN, 1.0, 1.0], seed=[0, 0, 1])
    other = runs.head(1)
    plans = [plan({("seed",): [[0], [1], [2], [3]]}, data={"snr": None}), plan({("seed",): [[0]]}, data={"snr": 1.0})]
    found = cells(results(runs, other, other, plans), ["data.snr"], ["test_error"])
    assert found.columns.tolist() == [
        *("data.snr", "n", "diverged", "failed", "missing"),
        *(f"test_error_{kind}" for kind in ("mean", "sd", "low", "high")),
    ]
    assert found["data.snr"].tolist() == pytest.approx([1.0, NAN], nan_ok=True)
    assert found[["n", "diverged", "failed", "missing"]].values.tolist() == [[2, 0, 0, 0], [1, 1, 1, 1]]
    assert found["n"].dtype.kind == "i"
    assert found["test_error_mean"].tolist() == pytest.approx([0.2, 0.5])


def test_runs_of_one_seed_are_one_value_of_an_interval():
    """Five seeds x two dimensions: seed k has the errors k/5 -+ 0.1, so the five means are 0, 0.2, ..., 0.8."""
    errors = [k / 5 + sign for k in range(5) for sign in (-0.1, 0.1)]
    runs = frame(10, errors, seed=np.repeat(range(5), 2), data__dim=[1, 2] * 5, noise="symmetric")
    (found,) = cells(results(runs), ["noise"], ["test_error"]).to_dict("records")
    assert found["n"] == 10
    assert found["test_error_mean"] == pytest.approx(0.4)
    assert found["test_error_sd"] == pytest.approx(np.sqrt(0.1))
    # 2.776 is the 97.5 % quantile of Student's t with four degrees of freedom.
    assert found["test_error_high"] == pytest.approx(0.4 + 2.776 * np.sqrt(0.1 / 5), abs=1e-4)


def test_three_seeds_have_no_interval_however_many_runs_they_make():
    runs = frame(12, np.arange(12) / 12, seed=np.repeat(range(3), 4), data__dim=[1, 2, 3, 4] * 3, noise="symmetric")
    (found,) = cells(results(runs), ["noise"], ["test_error"]).to_dict("records")
    assert found["test_error_mean"] == pytest.approx(np.mean(np.arange(12) / 12))
    assert np.isnan(found["test_error_low"])


def test_many_columns_have_their_means():
    columns = {f"v{place}": float(place) for place in range(40)}
    runs = frame(seed=0, noise="symmetric").assign(**columns)
    found = cells(results(runs), ["noise"], list(columns))
    assert [found[f"{column}_mean"].item() for column in columns] == list(columns.values())
    assert len(found.columns) == len(["noise", "n", "diverged", "failed", "missing"]) + 4 * 40


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_an_infinite_value_counts_as_missing(infinite):
    runs = frame(6, [infinite, 0.1, 0.2, 0.3, 0.4, 0.5], seed=range(6), noise="symmetric")
    (found,) = cells(results(runs), ["noise"], ["test_error"]).to_dict("records")
    assert (found["n"], found["test_error_mean"]) == (6, pytest.approx(0.3))
    assert found["test_error_high"] == pytest.approx(0.3 + 2.776 * np.sqrt(0.025 / 5), abs=1e-4)


def test_means_of_seeds_come_in_the_order_of_the_runs():
    """Seed 1 has two runs where the SNR is null and two where it is 2, of which one has no error."""
    snrs, seeds = [2.0, 2.0, NAN, NAN, 2.0, 1.0], [1, 1, 1, 1, 0, 0]
    runs = frame(6, [0.1, np.inf, 0.2, 0.4, 0.5, 0.6], data__snr=snrs, seed=seeds, seeds__data=3)
    found = seed_means(runs, ["data.snr"], ["test_error", "last_step"])
    assert found.columns.tolist() == ["data.snr", "test_error", "last_step"]
    np.testing.assert_allclose(found, [[2, 0.1, 3], [NAN, 0.3, 3], [2, 0.5, 3], [1, 0.6, 3]])
    # Each run counts by itself where the key is the seed, and where all have the same.
    assert len(seed_means(runs, ["seed"], ["test_error"])) == 6
    assert len(seed_means(runs.assign(seed=0), ["data.snr"], ["test_error"])) == 6


def test_null_is_a_seed_of_the_noise_too():
    """Runs whose noise follows from `seed` have null there; the others have 7."""
    runs = frame(4, [0.1, 0.3, 0.4, 0.8], noise="symmetric", seeds__noise=[NAN, NAN, 7, 7])
    assert seed_means(runs, ["noise"], ["test_error"])["test_error"].tolist() == pytest.approx([0.2, 0.6])


def test_means_and_intervals_over_seeds_come_in_the_order_of_the_runs():
    """Seed k has the errors k/5 -+ 0.1 where the SNR is null: five means from 0 to 0.8; two seeds have no interval."""
    errors = [0.3, 0.5, *(k / 5 + sign for k in range(5) for sign in (-0.1, 0.1)), 0.7]
    snrs, seeds = [2.0, 2.0, *[NAN] * 10, 1.0], [0, 1, *np.repeat(range(5), 2), 0]
    runs = frame(13, errors, noise="symmetric", data__snr=snrs, seed=seeds)
    found = over_seeds(runs, ["noise", "data.snr"], ["test_error", "last_step"])
    assert found.columns.tolist() == [
        f"{value}_{end}" for end in ("mean", "low", "high") for value in ("test_error", "last_step")
    ]
    assert found.index.names == ["noise", "data.snr"]
    np.testing.assert_array_equal(found.index.get_level_values("data.snr"), [2, NAN, 1])
    half = 2.776 * np.sqrt(0.1 / 5)
    wanted = [[0.4, NAN, NAN], [0.4, 0.4 - half, 0.4 + half], [0.7, NAN, NAN]]
    np.testing.assert_allclose(found.filter(like="test_error"), wanted, atol=1e-4)
    np.testing.assert_array_equal(found.filter(like="last_step"), [[3, NAN, NAN], [3, 3, 3], [3, NAN, NAN]])


def test_axes_are_numbers_that_all_planned_runs_have():
    """Runs with a null SNR are planned, but none of them has run yet."""
    runs = frame(
        2,
        data__dim=[1, 2],
        data__q=5,
        data__snr=[0.1, 0.2],
        model__bias=[True, False],
        data__x=[1.0, NAN],
        noise=["a", "b"],
        seed=[1, 2],
    )
    both = {("data.dim",): [[1], [2]], ("model.bias",): [[True], [False]], ("noise",): [["a"], ["b"]]}
    plans = [plan(both, data={"snr": value, "x": 1.0, "q": 5}) for value in (0.1, 0.2, None)]
    assert numeric_axes(results(runs, plans=plans)) == ["data.dim"]
    assert numeric_axes(results(runs)) == ["data.dim", "data.snr"]
    assert swept_keys(results(runs, plans=plans)) == ["data.dim", "model.bias", "noise", "data.snr", "data.x"]


def test_an_axis_of_two_values_comes_last():
    runs = frame(6, data__dim=[1, 1, 1, 2, 2, 2], data__n_train=[1, 2, 3] * 2, seed=0)
    plans = [plan({("data.dim",): [[1], [2]], ("data.n_train",): [[1], [2], [3]]})]
    assert numeric_axes(results(runs, plans=plans)) == ["data.n_train", "data.dim"]


@pytest.mark.parametrize(("points", "product"), [(5, True), (4, False)])
def test_more_than_a_quarter_of_the_combinations_makes_a_product(points, product):
    """Of 4 x 4 combinations."""
    first, second = [0, 1, 2, 3, 0][:points], [0, 1, 2, 3, 1][:points]
    runs = frame(points, data__dim=first, data__n_train=second, seed=0, data__snr=[NAN] + [1.0] * (points - 1))
    keys = ["data.dim", "data.n_train", "data.snr"]
    assert is_product(results(runs), keys) is product
    plans = [plan({("data.dim", "data.n_train"): zip(first, second, strict=True), ("seed",): [[0], [1]]})]
    assert is_product(results(runs.head(1), plans=plans), keys[:2]) is product
    assert is_product(results(runs, plans=[searching()]), keys) is True


def test_columns_of_outcomes_are_numbers_and_others_are_refused():
    runs = frame(seed=0)
    assert outcome_columns(runs) == ["test_error", "last_step"]
    check_column(runs, "value", "test_error", ["test_error", "last_step"])
    with pytest.raises(ConfigError, match=r"^value=loss: no such column; there are test_error, last_step$"):
        check_column(runs, "value", "loss", ["test_error", "last_step"])


@pytest.mark.parametrize(("word", "said"), [("test_eror", "; did you mean test_error?"), ("loss", "")])
def test_a_name_that_is_close_is_offered(word, said):
    assert meant(word, ["best_test_error", "last_step", "test_error"]) == said


@pytest.mark.parametrize(
    ("keys", "key", "wanted"),
    [
        (["a"], "twice", True),
        (["a"], "b", False),
        (["a", "b"], "c", True),
        (["a"], "null", False),
        (["null"], "a", False),  # of the two runs with null one has 1 and one 2
        ([], "same", False),
    ],
)
def test_a_key_follows_from_others_where_it_has_one_value(keys, key, wanted):
    a = [1, 1, 2, 2]
    runs = pd.DataFrame(
        {"a": a, "twice": [2, 2, 4, 4], "b": [1, 2, 1, 2], "c": [1, 2, 3, 4], "null": [NAN, 3, NAN, 4], "same": 0}
    )
    assert follows(runs, key, keys) is wanted


@pytest.mark.parametrize(
    ("values", "kind", "wanted"),
    [
        ([], float, False),
        ([1, 1], int, False),
        ([1, 1, 2], int, True),
        ([NAN, NAN], float, False),
        ([NAN, 1], float, True),
        ([1, NAN], float, True),
        ([1, None], "Int64", True),
        ([None, None], "Int64", False),
        (["a", None], object, True),
    ],
)
def test_null_is_a_value_too(values, kind, wanted):
    assert varies(pd.Series(values, dtype=kind)) is wanted


def test_a_key_that_one_of_two_plans_gives_is_a_key():
    """The SNR is 1 in runs of one dimension and null in those of the other: no option sets it."""
    runs = frame(2, data__dim=[10, 20], data__snr=[1.0, NAN], seed=0)
    plans = [plan({("data.dim",): [[10]]}, data={"snr": 1.0}), plan({("data.dim",): [[20]]}, data={"snr": None})]
    assert swept_keys(results(runs, plans=plans)) == ["data.dim", "data.snr"]


def test_a_key_that_another_one_sets_is_no_key_of_its_own():
    """d follows from n and d / n, and the settings of a loss from which loss it is; s varies by itself."""
    runs = frame(
        4,
        data__n_train=[10, 10, 20, 20],
        data__dim_over_n=[1.0, 2.0, 1.0, 2.0],
        data__dim=[10, 20, 20, 40],
        data__noise_std=[1.0, 2.0, 3.0, 4.0],
        loss=["gce", "gce", "sce", "sce"],
        loss__q=[0.7, 0.7, NAN, NAN],
        seed=[1, 1, 1, 1],
    )
    axes = {("data.n_train",): [[10], [20]], ("data.dim_over_n",): [[1.0], [2.0]]}
    plans = [plan(axes, data={"dim": None}, loss={"q": 0.7}), plan(axes, data={"dim": None}, loss={})]
    found = swept_keys(results(runs, plans=plans))
    assert "data.dim" not in found
    assert "loss.q" not in found
    assert {"data.n_train", "data.dim_over_n", "loss"} <= set(found)


def test_settings_of_an_option_that_take_several_values_are_keys():
    """Two thresholds of a strategy, and none: three cells, not two."""
    runs = frame(3, strategy=["none", "small_loss", "small_loss"], strategy__step=[NAN, 10.0, 50.0], seed=[1, 1, 1])
    plans = [
        plan({}, {"strategy": "none"}),
        *(plan({}, {"strategy": "small_loss"}, strategy={"step": s}) for s in (10.0, 50.0)),
    ]
    assert swept_keys(results(runs, plans=plans)) == ["strategy", "strategy.step"]
