"""Every outcome of a run, and all that its tables hold, against numbers made by hand: a column without one fails here.

To add an outcome, add a row to EXPECTED with its value in each of the five runs, and to CURVES what it is worked out from.
"""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import lnt
from lnt.column_names import METRICS, OUTCOME_TYPES, SELECTION_AUCS
from lnt.runs.experiments_from_settings import experiment_from
from lnt.runs.simulate import configuration
from lnt.runs.tables import (
    SAMPLES,
    Schemas,
    failed_tables,
    joined,
    label_noise,
    outcomes,
    realised_transition,
    samples,
    save_networks,
    schema_of,
    schemas,
    tables,
)
from lnt.training.loop import Curves, KeptNetworks, NetworkState, class_counts

NAN = math.nan
STEPS = np.array([0, 1, 3, 10, 30])
STATUS, FAILED = ["completed", "diverged", "diverged", "completed"], "ValueError: out of order"

# Four runs, and a fifth that raised an error. Run 1 diverged between steps 3 and 10, run 2 at step 0; in run 3 nothing is
# mislabelled. The strategy returns the network of record 1 in run 0, of the first record in run 3, and in the runs that
# diverged one that they have not reached.
TEST_ERROR = [[0.5, 0.25, 0.125, 0.125, 0.375], [0.5, 0.25, 0.375, NAN, NAN], [NAN] * 5, [0.5, 0.5, 0.5, 0.25, 0.125]]
CLEAN_ACCURACY = [[0.5, 0.98, 0.99, 1.0, 1.0], [0.99, 0.5, 1.0, NAN, NAN], [NAN] * 5, [0.5, 0.5, 0.5, 0.5, 0.98]]
NOISY_ACCURACY = [[0.0, 0.0, 0.0, 0.5, 0.98], [0.0, 1.0, 0.5, NAN, NAN], [NAN] * 5, [NAN] * 5]
CHOSEN = [1, 4, 4, 0]
SECONDS = [1.5, 2.5, 3.5, 4.5]
FRESH = [0.25, 0.3125, NAN, 0.1875]
# Of each run the samples by true class (rows: +1, -1) and observed class.
COUNTS = np.array([[[3, 1], [0, 2]], [[1, 2], [3, 0]], [[0, 0], [1, 5]], [[2, 2], [1, 1]]])
# Of two runs that completed, and of two that diverged.
ESTIMATES = np.array([[[0.75, 0.25], [0.5, 0.5]], [[NAN, NAN]] * 2, [[NAN, NAN]] * 2, [[0.65, 0.35], [0.6, 0.4]]])
RATES = np.array([0.1, 0.2, 0.3, 0.4])
LAST = [4, 2, None, 4]  # index of the last record of each run


def made_up(run: int, record: int, metric: str) -> float:
    """The value of the metrics that no outcome is worked out from: three digits that say where it stands."""
    return 100.0 * run + 10.0 * record + METRICS.index(metric) / 100


def curve(run: int, metric: str) -> list[float]:
    """A metric of a run at the five records."""
    given = {"test_error": TEST_ERROR, "clean_accuracy": CLEAN_ACCURACY, "noisy_accuracy": NOISY_ACCURACY}
    if metric in given:
        return given[metric][run]
    last = -1 if LAST[run] is None else LAST[run]
    return [made_up(run, record, metric) if record <= last else NAN for record in range(5)]


CURVES = Curves(
    METRICS,
    STEPS,
    np.array([[[curve(run, metric)[record] for run in range(4)] for metric in METRICS] for record in range(5)]),
    np.array(CHOSEN),
    fresh_error=np.array(FRESH),
    seconds=np.array(SECONDS),
    counts=np.moveaxis(COUNTS, 0, -1),
    transition=np.moveaxis(ESTIMATES, 0, -1),
    stage_times=np.array([[0.25, 0.0, NAN, NAN], [NAN, 0.125, NAN, NAN]]),
)

EXPECTED = {
    "status": ["completed", "diverged", "diverged", "completed", "failed"],
    "error": [None, None, None, None, FAILED],
    "last_step": [30, 3, None, 30, None],
    # Each metric has its value at last_step.
    **{name: [made_up(0, 4, name), made_up(1, 2, name), None, made_up(3, 4, name), None] for name in METRICS},
    "test_error": [0.375, 0.375, None, 0.125, None],
    "clean_accuracy": [1.0, 1.0, None, 0.98, None],
    "noisy_accuracy": [0.98, 0.5, None, None, None],
    "best_test_error": [0.125, 0.25, None, 0.125, None],
    "best_step": [3, 1, None, 30, None],  # the first of the lowest, at steps 3 and 10 of run 0
    **{f"{name}_best": [made_up(0, 2, name), made_up(1, 1, name), None, made_up(3, 4, name), None] for name in SELECTION_AUCS},
    "strategy_test_error": [0.25, 0.375, None, 0.5, None],
    "strategy_step": [1, 3, None, 0, None],
    "stage1_step": [3, 0, None, None, None],  # 0.99 is reached, 0.98 is not; the first time counts
    "stage2_step": [None, 1, None, None, None],
    "stage1_time": [0.25, 0.0, None, None, None],
    "stage2_time": [None, 0.125, None, None, None],
    "step_size": [0.1, 0.2, 0.3, 0.4, None],
    "realised_transition": [None] * 5,  # of images only: see below
    "estimated_transition": ["[[0.75, 0.25], [0.5, 0.5]]", None, None, "[[0.65, 0.35], [0.6, 0.4]]", None],
    # The true rates are 0.35: off by 0.1 and 0.15 in two entries each, and by 0 and 0.25.
    "transition_error": [0.125, None, None, 0.125, None],
    "estimated_flip_rate_positive": [0.25, None, None, 0.35, None],
    "estimated_flip_rate_negative": [0.5, None, None, 0.6, None],
    "wall_seconds": [1.5, 2.5, 3.5, 4.5, None],
    "best_test_error_fresh": [0.25, 0.3125, None, 0.1875, None],
    **{f"flip_rate{kind}": [0.35] * 4 + [None] for kind in ("", "_positive", "_negative")},  # noise=symmetric by default
    "clean_positive": [3, 1, 0, 2, None],
    "flipped_positive": [1, 2, 0, 2, None],
    "flipped_negative": [0, 3, 1, 1, None],
    "clean_negative": [2, 0, 5, 1, None],
}


def made(runs=1, seed=0, metrics=(), **components):
    """An experiment of six training samples from components; without Hydra, which would take most of the time."""
    parts = {"data": lnt.SignalNoise(n_train=6, n_test=4), **components}
    return experiment_from(configuration(parts, {"seed": seed, "metrics": metrics}, {}), runs)


@pytest.fixture(scope="module")
def batch():
    """Four runs whose curves are prepared."""
    return made(runs=4, seed=np.arange(4), optimizer=lnt.GradientDescent(lr=RATES))


@pytest.fixture  # for each test anew, so that `make mutation` sees which tests run the functions that are called here
def written(batch):
    """The tables of the four runs and of one that failed."""
    schema = schemas([batch])
    failed = failed_tables(batch.take(np.array([0])), ValueError("out of order"), schema)
    return joined([tables(batch, CURVES, schema), failed])


def test_every_outcome_has_the_value_worked_out_by_hand(written):
    """Also: no expectation is left of an outcome that is gone."""
    found = {name: written.runs.column(name).to_pylist() for name in OUTCOME_TYPES}
    assert {name: [None if v is None or v != v else v for v in values] for name, values in found.items()} == EXPECTED


def test_what_is_worked_out_is_what_is_written(batch):
    """The schema drops what it does not name: an outcome that OUTCOME_TYPES lacks would vanish without a word."""
    assert {"error", *outcomes(batch, CURVES)} == set(OUTCOME_TYPES)


def test_the_row_of_a_run_has_its_id_its_configuration_and_the_types_that_are_promised(batch, written):
    runs = written.runs.to_pandas()
    assert runs.columns[0] == "run_id"
    assert runs["run_id"].tolist() == [*batch.run_ids(), batch.run_ids()[0]]
    assert list(runs.columns[-len(OUTCOME_TYPES) :]) == list(OUTCOME_TYPES)
    assert runs["optimizer.lr"].tolist() == [0.1, 0.2, 0.3, 0.4, 0.1]
    assert runs["seed"].tolist() == [0, 1, 2, 3, 0]
    assert runs["noise"].tolist() == ["symmetric"] * 5
    assert runs["data.n_train"].tolist() == [6] * 5
    assert runs["data.signal_norm"].isna().all()
    kinds = {name: str(runs[name].dtype) for name in ("last_step", "data.n_train", "data.dim", "noise.exact", "test_error")}
    assert kinds == {
        **dict.fromkeys(("last_step", "data.n_train", "data.dim"), "Int64"),
        "noise.exact": "boolean",
        "test_error": "float64",
    }
    assert str(runs["data.signal_norm"].dtype) == "float64", "a number that no run gives"


def test_curves_are_long_run_by_run_and_end_where_a_run_diverged(batch, written):
    curves = written.curves.to_pandas()
    ids = batch.run_ids()
    assert list(curves.columns) == ["run_id", "step", *METRICS]
    assert curves["run_id"].tolist() == [ids[0]] * 5 + [ids[1]] * 3 + [ids[3]] * 5
    assert curves["step"].tolist() == [0, 1, 3, 10, 30, 0, 1, 3, 0, 1, 3, 10, 30]
    for name in METRICS:
        wanted = [curve(run, name)[record] for run, records in ((0, 5), (1, 3), (3, 5)) for record in range(records)]
        np.testing.assert_array_equal(curves[name], wanted, err_msg=name)
    assert len(written.samples) == 0


def test_metrics_of_ones_own_are_columns_of_both_tables(batch):
    own = made(metrics=("math.sqrt",))
    curves = Curves(
        (*METRICS, "sqrt"),
        np.array([0, 2]),
        np.full((2, len(METRICS) + 1, 1), 0.5),
        np.array([1]),
        np.array([0.5]),
        np.array([1.0]),
        COUNTS[:1].T,
    )
    curves.values[:, -1, 0] = [7, 8]
    found = tables(own, curves, schemas([own, batch]))
    assert found.runs.column("sqrt").to_pylist() == [8]
    assert found.curves.column("sqrt").to_pylist() == [7, 8]
    without = tables(batch, CURVES, schemas([own, batch]))
    assert without.runs.column("sqrt").to_pylist() == [None] * 4
    assert without.curves.column("sqrt").to_pylist() == [None] * 13


def test_one_schema_holds_the_runs_of_all_experiments(batch):
    """A value that one of them lacks has the type that it has in the other; a key that only one has is null in the other."""
    other = made(data=lnt.SignalNoise(signal_norm=3), noise=lnt.Asymmetric(exact=True))
    both = schemas([batch, other])
    assert both.runs.names == [*schemas([batch]).runs.names[: -len(OUTCOME_TYPES)], *new(batch, other), *OUTCOME_TYPES]
    assert both == Schemas(both.runs, schemas([other]).curves)
    assert both.runs.field("data.signal_norm").type == both.runs.field("data.snr").type == pa.float64()
    one, two = (tables(e, empty(e.runs), both).runs.to_pylist() for e in (batch, other))
    assert [row["noise.rate"] for row in (*one, *two)] == [0.35] * 4 + [None]
    assert [row["noise.rate_positive"] for row in (*one, *two)] == [None] * 4 + [0.4]
    assert [row["data.signal_norm"] for row in (*one, *two)] == [None] * 4 + [3.0]
    assert [row["noise.exact"] for row in (*one, *two)] == [False] * 4 + [True]
    assert schemas([other, batch]).runs.field("data.signal_norm").type == pa.float64()


def test_the_type_of_a_column_is_that_of_the_experiment_that_has_a_value():
    """milestones are text where they are given."""
    none, some = (
        made(optimizer=lnt.StochasticGradientDescent(schedule="step", milestones=given)) for given in (None, (0.5, 0.7))
    )
    types = [schemas(parts).runs.field("optimizer.milestones").type for parts in ([none], [some], [none, some], [some, none])]
    assert types == [pa.float64(), *[schemas([none]).runs.field("data").type] * 3]


def new(one, other):
    return [key for key in other.columns() if key not in one.columns()]


def empty(runs):
    values, zeros = np.full((1, len(METRICS), runs), 0.5), np.zeros(runs)
    return Curves(METRICS, np.array([0]), values, np.zeros(runs, int), zeros, zeros, np.zeros((2, 2, runs), int))


def test_types_are_those_with_which_pandas_reads():
    schema = schema_of({"text": "str", "whole": "Int64", "number": "float64", "truth": "boolean"})
    read = schema.empty_table().to_pandas()
    assert [str(kind) for kind in read.dtypes] == ["str", "Int64", "float64", "boolean"]
    assert schema.names == ["text", "whole", "number", "truth"], "and no index"


@pytest.mark.parametrize(
    ("optimizer", "wanted"),
    # T1 = n m / (eta s^2 d) is 10 steps: eta = 20 5 / (10 2^2 50) = 1 / 20.
    [(lnt.GradientDescent(lr=0.03), 0.03), (lnt.GradientDescent(t1_steps=10), 0.05)],
)
def test_the_step_size_is_eta_also_where_t1_was_given(optimizer, wanted):
    one = made(data=lnt.SignalNoise(n_train=20, dim=50, noise_std=2), model=lnt.TwoLayerCNN(width=5), optimizer=optimizer)
    assert outcomes(one, empty(1))["step_size"].tolist() == pytest.approx([wanted])


def test_rates_of_the_classes_are_not_mixed_up_and_there_are_two_classes_only():
    """P(observed = -1 | true = +1) = 0.4 and P(observed = +1 | true = -1) = 0.1."""
    found = label_noise(made(noise=lnt.Asymmetric(rate_positive=0.4, rate_negative=0.1)), COUNTS[:1].T)
    rates = {name: value.tolist() for name, value in found.items() if name.startswith("flip_rate")}
    assert rates == {"flip_rate": [0.25], "flip_rate_positive": [0.4], "flip_rate_negative": [0.1]}
    three = made(data=lnt.Digits(classes=(1, 2, 3), n_train=6, n_test=4))
    assert list(label_noise(three, np.ones((3, 3, 1), int))) == ["flip_rate"]


# Runs on images keep networks and samples.


@pytest.fixture(scope="module")
def images():
    """Two runs with four training samples each."""
    return made(runs=2, seed=np.arange(2), data=lnt.Digits(classes=(3, 8), n_train=4, n_test=4))


KEPT = KeptNetworks(
    labels=torch.tensor([[0, 0, 0, 1], [1, 1, 1, 1]]),
    observed=torch.tensor([[0, 1, 0, 1], [0, 1, 0, 0]]),
    best=NetworkState(
        torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]),
        {"w": torch.tensor([[1.0, 2], [3, 4]])},
        {
            "margin": torch.tensor([[-1.0, 2, -3, 4], [-5, 6, -7, 8]]),
            "learning_time": torch.tensor([[0, 10, math.inf, 10], [20, 0, 0, math.inf]]),
            "wrong_events": torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]]),
        },
    ),
    # Of a run that went on from a checkpoint of an earlier version nobody knows how samples were predicted before.
    last=NetworkState(
        torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]]),
        {"w": torch.tensor([[5.0, 6], [7, 8]])},
        {"margin": torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])},
    ),
)


def test_realised_transition_is_the_share_of_each_observed_class_among_those_of_a_true_one(images):
    """Run 0: of three samples of class 0 one is observed as 1. Run 1 has no sample of class 0; one of four keeps its class."""
    wanted = [[[0.666667, 0.333333], [0.0, 1.0]], [[0.0, 0.0], [0.75, 0.25]]]
    counts = np.array([[[2, 1], [0, 1]], [[0, 0], [3, 1]]])
    np.testing.assert_array_equal(class_counts(KEPT.labels, KEPT.observed, 2), np.moveaxis(counts, 0, -1))
    assert [json.loads(text) for text in realised_transition(np.moveaxis(counts, 0, -1))] == wanted
    curves = replace(empty(2), kept=KEPT, counts=np.moveaxis(counts, 0, -1))
    row = tables(images, curves, schemas([images])).runs.column("realised_transition").to_pylist()
    assert [json.loads(text) for text in row] == wanted


def test_samples_have_classes_as_the_data_set_numbers_them_and_signals_of_both_networks(images):
    found = samples(images, KEPT).to_pandas()
    ids = images.run_ids()
    signals = [
        f"{signal}_{state}" for signal in ("loss", "margin", "learning_time", "wrong_events") for state in ("best", "last")
    ]
    assert list(found.columns) == ["run_id", "index", "true", "observed", *signals]
    assert found["run_id"].tolist() == [ids[0]] * 4 + [ids[1]] * 4
    assert found["index"].tolist() == images.positions().ravel().tolist()
    assert found["true"].tolist() == [3, 3, 3, 8, 8, 8, 8, 8]
    assert found["observed"].tolist() == [3, 8, 3, 8, 3, 8, 3, 3]
    assert found["loss_best"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_allclose(found["loss_last"], np.arange(1, 9) / 10, rtol=1e-6)
    assert found["margin_best"].tolist() == [-1, 2, -3, 4, -5, 6, -7, 8]
    assert found["margin_last"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found["learning_time_best"].tolist() == [0, 10, math.inf, 10, 20, 0, 0, math.inf]
    assert found["wrong_events_best"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert found[["learning_time_last", "wrong_events_last"]].isna().all(axis=None)
    kinds = {name: str(field.type) for name, field in zip(SAMPLES.names, SAMPLES, strict=True)}
    assert kinds == {
        "run_id": "string",
        "index": "int32",
        "true": "int16",
        "observed": "int16",
        **{name: "int32" if name.startswith("wrong") else "float" for name in signals},
    }
    whole = tables(images, replace(empty(2), kept=KEPT), schemas([images])).samples.to_pandas()
    pd.testing.assert_frame_equal(whole, found)


def test_networks_are_kept_in_a_file_for_each_run(images, tmp_path):
    folder = tmp_path / "a" / "networks"
    save_networks(folder, images, KEPT)
    save_networks(folder, images, KEPT)  # a job that goes on writes into the folder that is there
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{run}.pt" for run in images.run_ids())
    for run, best, last in zip(images.run_ids(), ([1, 2], [3, 4]), ([5, 6], [7, 8]), strict=True):
        found = torch.load(folder / f"{run}.pt", weights_only=True)
        assert {name: state["w"].tolist() for name, state in found.items()} == {"best": best, "last": last}
        assert found["best"]["w"].untyped_storage().nbytes() == 8, "the weights of this run only"
