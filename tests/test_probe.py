"""lnt.Probe in a plain PyTorch loop: against the same training by the image engine, and against numbers worked out by hand."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import lnt
from lnt.analysis.load import from_memory
from lnt.column_names import METRICS, OUTCOME_TYPES
from lnt.errors import ConfigError
from lnt.runs.tables import schemas, tables
from lnt.training.batch_order import MiniBatches
from lnt.training.loop import train

PAGE = (Path(__file__).parents[1] / "docs" / "tools.md").read_text()
DIGITS = ("data=digits", "data.n_train=60", "data.n_test=31", "model.width=4", "optimizer.epochs=8", "noise.rate=0.3")
TRUTH = [[0, 0, 1, 1], [0, 1, 1, 1]]  # true, observed
LOGITS = [[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 0.0]]
UNKNOWN = {"test_error_observed", "stopping_criterion", "step_size", "flip_rate", "flip_rate_positive", "flip_rate_negative"}


@pytest.mark.parametrize("classes", ["[3,8]", "[0,1,2]"])
def test_a_plain_loop_has_the_metrics_of_the_image_engine(experiment, classes):
    run = experiment(*DIGITS, f"data.classes={classes}", "precision=float64")
    curves = train(run)
    expected = from_memory(*tables(run, curves, schemas([run])), {"groups": []})

    problem = run.sample()
    images, test_images = problem.train.at(problem.index)[0], problem.test.at(problem.test_index)[0]
    observed = problem.observed.at(0)[0]
    network = problem.networks()[0].to(images.dtype)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    batches = MiniBatches(run.n, run.optimizer.batch_size, np.array([run.seeds.order]))
    probe = lnt.Probe(problem.labels[0], observed, problem.test_labels[0])
    for step in range(run.total_steps() + 1):
        if step in curves.steps:
            probe.record(step, network(images), network(test_images).detach().numpy())
        optimizer.zero_grad()
        batch = batches.at(step)[0]
        nn.functional.cross_entropy(network(images[batch]), observed[batch]).backward()
        optimizer.step()
    results = probe.results()

    known = [name for name in METRICS if name not in UNKNOWN]
    np.testing.assert_array_equal(results.curves["step"], expected.curves["step"])
    np.testing.assert_allclose(results.curves[known], expected.curves[known], rtol=1e-9, atol=1e-12)
    columns = [name for name in OUTCOME_TYPES if name not in (*UNKNOWN, "wall_seconds")]
    row, other = (found.runs.iloc[0][columns].dropna() for found in (results, expected))
    assert {"best_test_error_fresh", "best_step", "realised_transition", "noisy_loss"} <= set(row.index)
    pd.testing.assert_series_equal(row, other, rtol=1e-9, check_names=False)


def test_numbers_by_hand_of_one_output():
    """f = 2, -1, 1/2, -3 for labels +1, +1, -1, -1, of which the third is observed as +1."""
    probe = lnt.Probe([1, 1, -1, -1], [1, 1, 1, -1], test_true=[1, -1])
    probe.record(0, np.array([2.0, -1.0, 0.5, -3.0]), np.array([1.0, 2.0]))
    row = probe.results().runs.iloc[0]
    losses = np.log1p(np.exp([-2.0, 1.0, -0.5, -3.0]))
    expected = {
        "train_loss": losses.mean(),
        "clean_loss": losses[[0, 1, 3]].mean(),
        "noisy_loss": losses[2],
        "clean_accuracy": 2 / 3,
        "noisy_accuracy": 1.0,
        "test_error": 0.5,
        "realised_noise_rate": 0.25,
        "selection_precision": 2 / 3,  # below log 2: the first, the third and the fourth
        "selection_recall": 2 / 3,
        "selection_auc": 2 / 3,  # two of the three clean losses are smaller than the mislabelled one
        "clean_positive": 2,
        "flipped_negative": 1,
        "clean_negative": 1,
        "flipped_positive": 0,
        "last_step": 0,
        "stage2_step": 0,
    }
    assert {name: float(row[name]) for name in expected} == pytest.approx(expected)
    assert row["realised_transition"] == "[[1.0, 0.0], [0.5, 0.5]]"


def test_numbers_by_hand_of_logits():
    probe = lnt.Probe(*TRUTH)
    probe.record(0, torch.tensor(LOGITS, dtype=torch.float16, requires_grad=True))
    row = probe.results().runs.iloc[0]
    losses = np.log1p(np.exp([-2.0, 1.0, -1.0, 3.0]))  # minus the margin of the observed class
    assert row["clean_loss"] == pytest.approx(losses[[0, 2, 3]].mean())
    assert row["noisy_loss"] == pytest.approx(losses[1])
    assert (row["clean_accuracy"], row["noisy_accuracy"]) == (pytest.approx(2 / 3), 0)
    assert (row["realised_noise_rate"], row["kept_share"]) == (0.25, 1)


def test_without_true_labels_what_needs_them_is_null():
    known, unknown = lnt.Probe(*TRUTH), lnt.Probe(None, TRUTH[1])
    for probe in (known, unknown):
        probe.record(3, LOGITS)
    curve = unknown.results().curves.iloc[0]
    assert curve["train_loss"] == known.results().curves.iloc[0]["train_loss"] > 0
    assert set(curve.dropna().index) == {"run_id", "step", "train_loss", "train_loss_used", "kept_share"}
    row = unknown.results().runs.iloc[0].dropna()
    assert not {"stage1_step", "best_test_error", "best_step", "clean_positive", "realised_transition"} & set(row.index)
    assert row["status"] == "completed"


def test_the_best_step_is_one_at_which_test_samples_were_seen():
    probe = lnt.Probe(*TRUTH, test_true=[0, 1])
    right, wrong = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]
    for step, test in ((0, None), (1, wrong), (5, right), (9, None)):
        probe.record(step, LOGITS, test)
    row = probe.results().runs.iloc[0]
    assert (row["best_step"], row["best_test_error"], row["last_step"]) == (5, 0, 9)
    assert np.isnan(row["strategy_test_error"])


def test_a_loss_that_is_not_finite_is_the_end_of_the_curve():
    probe = lnt.Probe(*TRUTH, test_true=[0, 1])
    for step, worst in enumerate((1.0, np.nan, 1.0)):
        probe.record(step, [[worst, 0.0], *LOGITS[1:]], [[0.0, 1.0], [0.0, 1.0]])
    results = probe.results()
    assert (len(results.runs), results.diverged["status"].tolist()) == (0, ["diverged"])
    assert results.curves["step"].tolist() == [0]


@pytest.mark.parametrize("truth", [TRUTH[0], None])
def test_figures_of_what_was_recorded(truth, tmp_path):
    probe = lnt.Probe(truth, TRUTH[1])
    for step in range(4):
        probe.record(step, step * np.array(LOGITS))
    probe.results().stages().savefig(tmp_path / "stages.png")
    assert (tmp_path / "stages.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda: lnt.Probe([0, 1], [0, 1, 1]), "true=2 labels: must be as many as observed: 3"),
        (lambda: lnt.Probe([0, 0.5], [0, 1]), r"true=0.5: must be -1 or \+1, or classes 0, 1, 2"),
        (lambda: lnt.Probe(None, [[0, 1]]), r"observed=shape \(1, 2\): must be labels \[n\]"),
        (lambda: lnt.Probe(None, ["a", "b"]), "observed=list: must be an array or a tensor of numbers"),
        (
            lambda: lnt.Probe(*TRUTH).record(0, [1.0, 2.0]),
            r"logits=shape \(2,\): must be \[4\] for labels -1 and \+1, or \[4, K\]",
        ),
        (lambda: lnt.Probe(*TRUTH).record(0, np.ones((4, 1))), r"logits=shape \(4, 1\): must be \[4\]"),
        (lambda: lnt.Probe(*TRUTH).record(0, np.ones(4)), r"true=0: must be -1 or \+1 for outputs \[n\]"),
        (lambda: lnt.Probe([0, 1], [0, 2]).record(0, np.eye(2)), r"observed=2: must be classes 0 to 1 for logits \[n, 2\]"),
        (lambda: lnt.Probe([-1, 1], [1, 1]).record(0, np.eye(2)), "true=-1: must be classes 0 to 1"),
        (lambda: lnt.Probe(*TRUTH).record(0, LOGITS, LOGITS), r"test_logits=...: need the labels .* test_true=labels"),
        (lambda: lnt.Probe(*TRUTH).record(1.5, LOGITS), "step=1.5: must be an integer above -1"),
        (lambda: lnt.Probe(*TRUTH).results(), "nothing was recorded"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(use, said):
    with pytest.raises(ConfigError, match=said) as error:
        use()
    assert "\n" not in str(error.value)


def test_steps_go_up_and_the_number_of_outputs_stays():
    probe = lnt.Probe(*TRUTH)
    probe.record(2, LOGITS)
    with pytest.raises(ConfigError, match="step=2: must be an integer above 2"):
        probe.record(2, LOGITS)
    with pytest.raises(ConfigError, match="logits=3 outputs: must be 2, as before"):
        probe.record(3, np.ones((4, 3)))
    assert probe.results().curves["step"].tolist() == [2]


def test_the_example_of_the_page_runs(tmp_path, monkeypatch):
    """And learns: clean samples are fitted, most mislabelled ones are not."""
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(example.splitlines()) <= 20
    found: dict = {}
    exec(example, found)
    assert Path("stages.png").is_file()
    row = found["results"].runs.iloc[0]
    assert row["clean_accuracy"] > 0.95
    assert row["noisy_accuracy"] < row["clean_accuracy"]
