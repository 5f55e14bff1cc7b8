"""Signals of mislabelled samples: margins and AUCs against other ways to them, selection by them, resumed runs."""

import io
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from lnt.column_names import METRICS
from lnt.errors import ConfigError
from lnt.progress import StepCount
from lnt.training.loop import Training
from lnt.training.metrics import separation, separation_by_counts
from lnt.training.selection_signals import class_margins, ranks
from lnt.training.strategies import SmallLoss

VECTORS = (
    *("data.n_train=24", "data.n_test=100", "data.dim=300", "noise.rate=0.3", "model.width=3", "optimizer.lr=0.1"),
    *("optimizer.steps=120", "recordings=12", "precision=float64"),
)
CLASSES = ("data=signal_noise_classes", *VECTORS)
DIGITS = ("data=digits", "data.n_train=40", "data.n_test=20", "model.width=2", "optimizer.epochs=6", "precision=float64")


def test_margins_of_classes_by_hand():
    outputs = torch.tensor([[3.0, 1.0, 2.5], [-1.0, -1.0, -4.0], [0.0, 7.0, 2.0]])
    assert class_margins(outputs, torch.tensor([0, 1, 2])).tolist() == [0.5, 0, -5]
    assert class_margins(outputs, torch.tensor([2, 2, 1])).tolist() == [-0.5, -3, 5]


@pytest.mark.parametrize("setting", [VECTORS, (*VECTORS, "engine=autograd"), (*DIGITS, "data.classes=[3,8]")])
def test_with_two_classes_the_loss_is_the_logistic_loss_of_the_margin(experiment, setting):
    """log(1 + exp(-margin)), solved for the margin."""
    training = Training.of(experiment(*setting))
    (engine,) = training.engines
    engine.advance(1)
    shown = engine.snapshot()
    np.testing.assert_allclose(shown.margins, -shown.losses.expm1().log(), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(engine.margins(), shown.margins, rtol=1e-12)
    assert (shown.margins < 0).any()
    assert (shown.margins > 0).any()


@pytest.mark.parametrize("setting", [CLASSES, (*CLASSES, "engine=autograd"), (*DIGITS, "data.classes=null")])
def test_with_more_classes_the_margin_bounds_the_cross_entropy(experiment, setting):
    """Of K classes the others count at least as the largest one alone, and at most as K - 1 of its size."""
    chunk = experiment(*setting)
    (engine,) = Training.of(chunk).engines
    engine.advance(7)
    shown, others = engine.snapshot(), chunk.classes().count - 1
    assert others > 1
    least, most = ((count * (-shown.margins).exp()).log1p() for count in (1, others))
    assert ((shown.losses >= least - 1e-12) & (shown.losses <= most + 1e-12)).all()
    np.testing.assert_array_equal(shown.margins > 0, shown.predicted == shown.observed)


def test_aucs_are_those_of_scikit_learn_with_ties_and_without():
    rng = np.random.default_rng(0)
    for high in (2, 5, 10**9):
        counts, clean = rng.integers(0, high, (20, 30)), rng.random((20, 30)) < 0.7
        wanted = [roc_auc_score(~mask, row) for mask, row in zip(clean, counts, strict=True)]
        found = separation(torch.as_tensor(counts).double(), torch.as_tensor(clean))
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
        if high < 10:
            np.testing.assert_allclose(separation_by_counts(*map(torch.as_tensor, (counts, clean)), high), wanted, rtol=1e-12)


def test_aucs_of_one_kind_of_samples_do_not_exist():
    clean = torch.tensor([[True] * 3, [False] * 3])
    counts = torch.tensor([[0, 1, 1]] * 2)
    assert separation(counts.float(), clean).isnan().all()
    assert separation_by_counts(counts, clean, 1).isnan().all()


def test_ranks_by_hand():
    """Equal signals go by the loss, equal losses by position."""
    signal, losses = torch.tensor([[1, 0, 1, 0, 2]]), torch.tensor([[0.5, 0.5, 0.25, 0.5, 0.0]])
    assert ranks(signal, losses).tolist() == [[3, 0, 2, 1, 4]]


SELECTS = ("strategy=small_loss", "strategy.keep=share", "strategy.share=0.6", "strategy.step=40")


@pytest.mark.parametrize("signal", ["margin", "learning_time", "wrong_events"])
@pytest.mark.parametrize("setting", [VECTORS, CLASSES, (*VECTORS, "engine=autograd")], ids=["two", "classes", "autograd"])
def test_the_samples_that_are_kept_are_the_least_suspect_ones(experiment, setting, signal):
    """Worked out sample by sample from the predictions of an engine that is trained beside."""
    chunk = experiment(*setting, *SELECTS, f"strategy.signal={signal}")
    training = Training.of(chunk)
    training.run(StepCount())
    beside, right, steps = chunk.start(chunk.sample()), [], [step for step in chunk.recorded_steps() if step <= 40]
    for step in steps:
        beside.advance(int(step) - beside.step)
        shown = beside.snapshot()
        right.append((shown.predicted == shown.observed)[0].tolist())
    beside.advance(40 - beside.step)
    losses, margins = beside.losses()[0].tolist(), beside.margins()[0].tolist()
    suspicion = []
    for i in range(24):
        of_sample = [row[i] for row in right]
        late = next((t for t in range(len(steps)) if all(of_sample[t:])), math.inf)
        suspicion.append({"margin": -margins[i], "learning_time": late, "wrong_events": of_sample.count(False)}[signal])
    order = sorted(range(24), key=lambda i: (suspicion[i], losses[i]))
    kept = (training.engines[0].weights[0] > 0).nonzero()[:, 0].tolist()
    assert kept == sorted(order[: round(0.6 * 24)])
    by_loss = sorted(range(24), key=lambda i: losses[i])
    assert signal == "margin" or kept != sorted(by_loss[: round(0.6 * 24)]), "or another signal would do as well here"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"signal": "confidence"}, "signal=confidence: must be one of loss, margin, learning_time, wrong_events"),
        ({"signal": "margin"}, "signal=margin: is for keep=share; keep=threshold looks at losses"),
    ],
)
def test_what_no_signal_ranks_is_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        SmallLoss(**wrong)


def test_a_signal_that_accumulates_needs_recorded_steps(experiment):
    few = (*VECTORS, *SELECTS, "recordings=2")
    with pytest.raises(ConfigError, match=r"strategy.signal=wrong_events: looks at recorded steps; recordings=2 must be at"):
        experiment(*few, "strategy.signal=wrong_events").check()
    experiment(*few, "strategy.signal=margin").check()


def test_runs_keep_their_ids_at_the_default(experiment):
    ids = [experiment(*VECTORS, *SELECTS, f"strategy.signal={signal}").run_ids() for signal in ("loss", "margin")]
    assert ids[0] == experiment(*VECTORS, *SELECTS).run_ids() != ids[1]


@pytest.mark.parametrize("signal", ["learning_time", "wrong_events"])
def test_a_batch_equals_each_run_alone(experiment, signal):
    """Runs of unlike dimension select at unlike steps."""
    varied = {"data__dim": np.array([200, 500]), "seed": np.array([3, 4])}
    setting = (*VECTORS, "strategy=small_loss", "strategy.keep=share", f"strategy.signal={signal}")
    batch = Training.of(experiment(*setting, runs=2, **varied))
    batch.run(StepCount())
    for run in range(2):
        alone = Training.of(experiment(*setting, f"data.dim={varied['data__dim'][run]}", f"seed={varied['seed'][run]}"))
        alone.run(StepCount())
        np.testing.assert_allclose(batch.values[..., run : run + 1], alone.values, rtol=1e-8, atol=1e-9)
        for name in ("learned", "wrong"):
            assert getattr(batch.history, name)[run].tolist() == getattr(alone.history, name)[0].tolist()


def run_and_keep_states(chunk):
    """A training that has ended, and all states that were offered on the way, read back as a checkpoint is."""
    training, states = Training.of(chunk), []

    def keep(state):
        file = io.BytesIO()
        torch.save(state(), file)
        file.seek(0)
        states.append(torch.load(file, weights_only=True))

    training.run(StepCount(), keep)
    return training, states


@pytest.mark.parametrize("setting", [(*VECTORS, *SELECTS, "strategy.signal=wrong_events"), DIGITS])
def test_a_resumed_run_has_the_signals_of_an_undisturbed_one(experiment, setting):
    """From every state that was offered on the way, read back as a checkpoint is."""
    whole, states = run_and_keep_states(chunk := experiment(*setting))
    for state in states[1::4]:
        resumed = Training.of(chunk)
        resumed.load(state)
        resumed.run(StepCount())
        np.testing.assert_array_equal(resumed.values, whole.values)
        kept, wanted = (training.curves(1.0).kept for training in (resumed, whole))
        if wanted is not None:
            for one, other in ((kept.best, wanted.best), (kept.last, wanted.last)):
                assert {name: values.tolist() for name, values in one.signals.items()} == {
                    name: values.tolist() for name, values in other.signals.items()
                }
    assert len(states) > 8


@pytest.mark.parametrize("setting", [VECTORS, DIGITS])
def test_after_a_state_of_an_earlier_version_what_accumulates_is_not_known(experiment, setting):
    whole, states = run_and_keep_states(chunk := experiment(*setting))
    state = {key: value for key, value in states[len(states) // 2].items() if key != "history"}
    state["best"] = state["best"] and {key: value for key, value in state["best"].items() if key != "signals"}
    resumed = Training.of(chunk)
    resumed.load(state)
    before = resumed.rows
    assert 0 < before < len(whole.values)
    resumed.run(StepCount())
    unknown = [METRICS.index(name) for name in ("auc_learning_time", "auc_wrong_events")]
    assert np.isnan(resumed.values[before:, unknown]).all()
    others = [index for index in range(len(METRICS)) if index not in unknown]
    np.testing.assert_allclose(resumed.values[:, others], whole.values[:, others], rtol=1e-6, atol=1e-9)
    if (kept := resumed.curves(1.0).kept) is not None:
        assert (dict(kept.best.signals), list(kept.last.signals)) == ({}, ["margin"])
