"""Every metric against numbers worked out by hand: a column of METRICS without one fails here.

To add a metric, add a row to EXPECTED with its value in each of the three runs, and to `snapshot` what it is computed from.
"""

import math
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lnt.column_names import METRICS
from lnt.progress import StepCount
from lnt.training.engine import Coefficients, Snapshot
from lnt.training.loop import Training
from lnt.training.metrics import (
    mean_over,
    measure,
    measure_coefficients,
    own_metrics,
    separation,
    separation_by_counts,
    stage_level,
)
from lnt.training.selection_signals import History
from lnt.training.strategies import EarlyStopping, NoStrategy, PriorKnowledge

NAN = math.nan

# Six training samples and four test samples of three runs:
#   run 0: samples 1 and 3 are mislabelled          run 1: none is          run 2: all are, and no loss is small
TRUE = [[1, 1, -1, -1, 1, -1], [1, -1, 1, -1, 1, -1], [1, 1, 1, 1, 1, 1]]
OBSERVED = [[1, -1, -1, 1, 1, -1], [1, -1, 1, -1, 1, -1], [-1, -1, -1, -1, -1, -1]]
PREDICTED = [[1, -1, 1, 0, -1, 1], [1, -1, -1, 1, 1, -1], [-1, 1, 1, 1, 1, 1]]  # 0 is never right
LOSSES = [[0.25, 1.5, 0.5, 0.5, 1.0, 1.25], [0.5, 0.5, 1.5, 3.0, 0.25, 0.25], [1.0, 2.0, 1.0, 2.0, 3.0, 3.0]]
LOSSES_USED = [[1, 2, 3, 4, 5, 6], [0.5] * 6, [0, 0, 0, 0, 0, 1.5]]  # against earlier labels
MARGINS = [[2.0, -1.0, 0.5, 0.5, -0.5, 3.0], [1.0] * 6, [-1.0] * 6]
LEARNED = [[0, 4, 1, 1, 2, 4], [0] * 6, [4] * 6]  # after four recorded steps; 4 stands for never
WRONG_EVENTS = [[1, 3, 0, 2, 2, 3], [0] * 6, [4] * 6]
HISTORY = History(torch.tensor(LEARNED), torch.tensor(WRONG_EVENTS), records=4)
LOSS_AT_ZERO = 1.0  # a loss of exactly this is not small
WEIGHTS = [[0.5, 3.0, 0.0, 2.5, 0.0, 0.0], [1.0] * 6, [6.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
TEST_TRUE = [[1, 1, -1, -1]] * 3
TEST_OBSERVED = [[1, -1, -1, 1], [-1, 1, 1, 1], [-1, -1, 1, -1]]
TEST_RARE = [[False, True, False, True], [False, False, False, True], [False] * 4]
TEST_PREDICTED = [[1, -1, -1, 0], [1, 1, -1, 1], [-1, -1, 1, 1]]

# Two filters of either sign. 9 stands where a filter's sign is not the observed label, which no metric may look at.
GAMMA = [[0.5, 2.0, 1.0, -0.5], [1.0, 1.0, 1.0, 1.0], [-1.0, -2.0, -3.0, -4.0]]
RHO = [
    [[1, 9, 9, 1.5, 0, 9], [2, 9, 9, 0.5, 0.25, 9], [9, 4, 0.5, 9, 9, 2.5], [9, 1, 3, 9, 9, 2.5]],
    [[0.5, 9, 0.5, 9, 0.5, 9], [0.5, 9, 0.5, 9, 0.5, 9], [9, 0.25, 9, 0.25, 9, 0.25], [9, 0.25, 9, 0.25, 9, 0.25]],
    [[9] * 6, [9] * 6, [-1, 0, -1, -2, -1, -3], [-1, -2, -1, -2, -1, -3]],
]
RESIDUAL = [0.125, 0.0, 0.5]

EXPECTED = {
    # Means of LOSSES: 5 / 6, 6 / 6, 12 / 6; clean of run 0: 0.25, 0.5, 1, 1.25; mislabelled: 1.5, 0.5.
    "train_loss": (5 / 6, 1.0, 2.0),
    "clean_loss": (0.75, 1.0, NAN),
    "noisy_loss": (1.0, NAN, 2.0),
    "train_loss_used": (3.5, 0.5, 0.25),
    # PREDICTED = OBSERVED at samples 0, 1 of run 0 (0 is clean, 1 mislabelled); 0, 1, 4, 5 of run 1; 0 of run 2.
    "clean_accuracy": (1 / 4, 4 / 6, NAN),
    "noisy_accuracy": (1 / 2, NAN, 1 / 6),
    # TEST_PREDICTED is wrong at 1 and 3; at 3; everywhere. Against TEST_OBSERVED: at 3; at 0 and 2; at 3.
    "test_error": (2 / 4, 1 / 4, 4 / 4),
    # Samples 1 and 3 of run 0; 3 of run 1; none of run 2 show the rare feature.
    "test_error_rare": (1.0, 1.0, NAN),
    "test_error_observed": (1 / 4, 2 / 4, 1 / 4),
    "signal_coef": (2.0, 1.0, -1.0),
    "signal_coef_mean": (0.75, 1.0, -2.5),
    "signal_coef_min": (-0.5, 1.0, -4.0),
    # rho-bar of run 0, sample by sample: (1, 2), (4, 1), (0.5, 3), (1.5, 0.5), (0, 0.25), (2.5, 2.5); clean: 0, 2, 4, 5.
    "noise_coef_clean": (3.0, 0.5, NAN),
    "noise_coef_clean_mean": (11.75 / 8, (6 * 0.5 + 6 * 0.25) / 12, NAN),
    "noise_coef_noisy": (4.0, NAN, 0.0),
    "noise_coef_noisy_mean": (7 / 4, NAN, -18 / 12),
    # Largest rho-bar against signal_coef: 4 > 2, 1.5 < 2; in run 2 against -1: -1 three times, 0, -2, -3.
    "overtaken_share": (1 / 2, NAN, 1 / 6),
    "decomposition_residual": (0.125, 0.0, 0.5),
    # Small losses: samples 0, 2, 3 of run 0 (3 is mislabelled); 0, 1, 4, 5 of run 1; none of run 2.
    "selection_precision": (2 / 3, 1.0, NAN),
    "selection_recall": (2 / 4, 4 / 6, NAN),
    # Of run 0's 4 x 2 pairs the clean one has the smaller loss in 5 (four below 1.5, one below 0.5), and one is a tie.
    "selection_auc": (5.5 / 8, NAN, NAN),
    # Of the same pairs the clean one has the larger margin in 6 (four above -1, two above 0.5), and one is a tie.
    "auc_margin": (6.5 / 8, NAN, NAN),
    # It is learned before 4 in three and before 1 in one, with a tie each.
    "auc_learning_time": (5 / 8, NAN, NAN),
    # It has fewer wrong events than 3 in three and than 2 in two, with a tie each.
    "auc_wrong_events": (6 / 8, NAN, NAN),
    "realised_noise_rate": (2 / 6, 0.0, 1.0),
    # Weights above 0: samples 0, 1, 3 of run 0 (0 is clean); all of run 1; 0 of run 2.
    "kept_share": (3 / 6, 1.0, 1 / 6),
    "kept_precision": (1 / 3, 1.0, 0.0),
    "kept_recall": (1 / 4, 1.0, NAN),
    # Set by a strategy: see the tests of the loop below.
    "stopping_criterion": (NAN, NAN, NAN),
}


def tensor(rows, dtype=torch.float64):
    return torch.tensor(rows, dtype=dtype)


def snapshot(**changes):
    coefficients = Coefficients(tensor(GAMMA), tensor(RHO), tensor(RESIDUAL))
    shown = [tensor(rows) for rows in (LOSSES, OBSERVED, WEIGHTS, PREDICTED, TEST_PREDICTED)]
    fields = ("losses", "observed", "weights", "predicted", "test_predicted")
    rest = {"loss_at_zero": LOSS_AT_ZERO, "losses_used": tensor(LOSSES_USED), "margins": tensor(MARGINS)}
    return Snapshot(**dict(zip(fields, shown, strict=True)), **({"coefficients": coefficients} | rest | changes))


KNOWN = {"labels_known": True, "test_labels_known": True}


def truth(**changes):
    labels = {
        "labels": tensor(TRUE),
        "test_labels": tensor(TEST_TRUE),
        "as_classes": lambda found: (found < 0).long(),
        "test_rare": torch.tensor(TEST_RARE),
        **KNOWN,
        "test_error_observed": lambda predicted: (predicted != tensor(TEST_OBSERVED)).double().mean(1),
    }
    return SimpleNamespace(**(labels | changes))


def test_every_metric_has_the_value_worked_out_by_hand():
    """Also: no expectation is left of a metric that is gone."""
    measured = measure(snapshot(), truth(), history=HISTORY)
    assert measured.shape == (len(METRICS), 3)
    found = dict(zip(METRICS, measured.tolist(), strict=True))
    assert found == {name: pytest.approx(values, rel=1e-15, abs=0, nan_ok=True) for name, values in EXPECTED.items()}


@pytest.mark.parametrize(
    ("unknown", "lost"),
    [
        (
            "labels_known",
            {
                *("clean_loss", "noisy_loss", "clean_accuracy", "noisy_accuracy", "realised_noise_rate"),
                *("selection_precision", "selection_recall", "kept_precision", "kept_recall"),
                *("selection_auc", "auc_margin", "auc_learning_time", "auc_wrong_events"),
            },
        ),
        ("test_labels_known", {"test_error", "test_error_rare"}),
    ],
)
def test_without_true_labels_what_rests_on_them_is_missing(unknown, lost):
    values = measure(snapshot(coefficients=None), truth(**{unknown: False}), history=HISTORY)
    expected = {name: EXPECTED[name] for name in METRICS if name not in lost and "coef" not in name}
    found = dict(zip(METRICS, values.tolist(), strict=True))
    assert all(np.isnan(found[name]).all() for name in lost)
    for name in set(expected) - {"overtaken_share", "decomposition_residual"}:
        assert found[name] == pytest.approx(expected[name], rel=1e-15, abs=0, nan_ok=True)


def test_without_test_labels_or_coefficients_only_these_metrics_are_missing():
    """Human labels have no observed test labels; images and Adam have no decomposition; most data have no rare feature; a
    checkpoint of an earlier version has no history.
    """
    values = measure(snapshot(coefficients=None), truth(test_error_observed=lambda predicted: None, test_rare=None))
    lost = {"test_error_observed", "test_error_rare", "overtaken_share", "decomposition_residual"} | {
        n for n in METRICS if "coef" in n
    }
    lost |= {"auc_learning_time", "auc_wrong_events"}
    assert len(lost) == 13
    for name, row in zip(METRICS, values, strict=True):
        np.testing.assert_allclose(row, (NAN, NAN, NAN) if name in lost else EXPECTED[name], rtol=1e-15, err_msg=name)


def test_noise_coefficients_of_classes_and_of_several_noise_patches():
    """Three classes with a filter each, two samples with two noise patches: xi_11, xi_21, xi_12, xi_22.

    Sample 0 has class 2 and is clean: 3 and 5. Sample 1 has class 0 and is mislabelled: 2 and -4.
    """
    rho = tensor([[[9, 2, 9, -4], [9, 9, 9, 9], [3, 9, 5, 9]]])
    found = measure_coefficients(
        Coefficients(tensor([[1.0, 2.0, 4.5]]), rho, tensor([0]), classes=3),
        torch.tensor([[2, 0]]),
        torch.tensor([[True, False]]),
    )
    names = ("noise_coef_clean", "noise_coef_clean_mean", "noise_coef_noisy", "noise_coef_noisy_mean", "overtaken_share")
    assert [found[name].item() for name in names] == [5, 4, 2, -1, 0]


def test_metrics_have_the_precision_of_the_losses():
    shown = snapshot(coefficients=None)
    single = Snapshot(shown.losses.float(), shown.observed, shown.weights, shown.predicted, shown.test_predicted, LOSS_AT_ZERO)
    assert measure(single, truth()).dtype == torch.float32


def test_metrics_of_ones_own_follow_in_order():
    """Whatever dtype they have."""
    own = (lambda shown, true: shown.observed.sum(1).int(), lambda shown, true: true.labels[:, 0] > 2)
    found = measure(snapshot(), truth(), own)[len(METRICS) :]
    assert found.tolist() == [[0, 0, -6], [0, 0, 0]]
    assert found.dtype == torch.float64


def test_names_of_ones_own_metrics():
    found = own_metrics(["math.sqrt", "os.path.basename"])
    assert found == {"sqrt": math.sqrt, "basename": os.path.basename}
    for dotted, said in (
        ("math.nothing", "metrics=math.nothing: must be the dotted name of a function of a snapshot and the truth"),
        ("math.pi", "metrics=math.pi: must be the dotted name of a function of a snapshot and the truth"),
        (f"{__name__}.test_error", f"metrics={__name__}.test_error: there is a column test_error already"),
    ):
        with pytest.raises(ValueError, match=f"^{said}"):
            own_metrics([dotted])
    with pytest.raises(ValueError, match=r"^metrics=cmath.sqrt: there is a column sqrt already$"):
        own_metrics(["math.sqrt", "cmath.sqrt"])


def test_error():
    """A function with the name of a column, which no metric of one's own may have."""


def test_a_mean_over_a_mask_leaves_out_what_is_infinite():
    values = tensor([[1.0, math.inf, 3.0], [1.0, 2.0, 6.0], [5.0, 5.0, 5.0]])
    mask = torch.tensor([[True, False, True], [True, True, True], [False, False, False]])
    np.testing.assert_array_equal(mean_over(values, mask), [2.0, 3.0, NAN])


def test_separation_by_hand():
    """Clean losses 1, 1, 2 and mislabelled 1, 3: pairs 1<->1 tie twice, 1 < 3 twice, 2 > 1, 2 < 3: (2 / 2 + 3) / 6."""
    losses = tensor([[1, 1, 2, 1, 3], [1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])
    clean = torch.tensor([[True, True, True, False, False]]).expand(3, 5)
    np.testing.assert_allclose(separation(losses, clean), [4 / 6, 1, 0], rtol=1e-15)
    np.testing.assert_allclose(separation_by_counts(losses.long(), clean, 5), [4 / 6, 1, 0], rtol=1e-15)


class Shown:
    """An engine that shows prepared snapshots, by step."""

    def __init__(self, snapshots):
        self.snapshots, self.step, self.weights = snapshots, 0, snapshots[0].weights

    def advance(self, steps):
        self.step += steps

    def snapshot(self):
        return self.snapshots[self.step]


def trained(shown, strategy, steps, labels, test_labels):
    """A training in which the prepared snapshots are recorded."""
    none = {"test_error_observed": lambda predicted: None, "as_classes": lambda found: found < 0, "test_rare": None, **KNOWN}
    problem = SimpleNamespace(labels=labels, test_labels=test_labels, **none)
    known = PriorKnowledge(*[np.zeros(len(labels))] * 3)
    training = Training([Shown(shown)], problem, np.array(steps), strategy, known)
    training.run(StepCount())
    return training


def column(training, name):
    return training.values[:, METRICS.index(name)].T.tolist()


def prepared(losses=((0.5, 0.5), (0.5, 0.5)), predicted=((1, 1), (1, 1)), test=((1, 1), (1, 1)), weights=((1, 1), (1, 1))):
    """A snapshot of two runs with two training samples, all observed +1, and two test samples; the weights are its losses."""
    ones, parameters = tensor([[1, 1]] * 2), {"w": tensor(losses).clone()}
    return Snapshot(tensor(losses), ones, tensor(weights), tensor(predicted), tensor(test), 0.7, parameters=parameters)


def test_what_recorded_steps_have_shown_of_samples_whose_predictions_are_given():
    """All are observed +1; samples 0 and 1 are clean. Sample 0 is always right, 1 from step 1 on, 2 takes turns, 3 is late.

    The test error is lowest at step 5, the third record.
    """
    predicted = [(1, -1, 1, -1), (1, 1, -1, -1), (1, 1, 1, -1), (1, 1, -1, 1)]
    tests, ones = [(-1, -1), (1, -1), (1, 1), (1, -1)], tensor([[1] * 4])
    shown = {
        step: Snapshot(ones / 2, ones, ones, tensor([now]), tensor([test]), 0.7, margins=ones * step, parameters={"w": ones})
        for step, now, test in zip((0, 1, 5, 20), predicted, tests, strict=True)
    }
    training = trained(shown, NoStrategy(), [0, 1, 5, 20], tensor([[1, 1, -1, -1]]), tensor([[1, 1]]))
    kept = training.curves(seconds=1.0).kept
    assert kept.best.signals["learning_time"].tolist() == [[0, 1, 5, math.inf]]
    assert kept.last.signals["learning_time"].tolist() == [[0, 1, math.inf, 20]]
    assert kept.best.signals["wrong_events"].tolist() == [[0, 1, 1, 3]]
    assert kept.last.signals["wrong_events"].tolist() == [[0, 1, 2, 3]]
    assert (kept.best.signals["margin"].tolist(), kept.last.signals["margin"].tolist()) == ([[5] * 4], [[20] * 4])
    # Step 0: right, wrong against right, wrong. Step 1: learned at 0 and 1 against never. Step 5: 0, 1 against 2, 3 (never).
    np.testing.assert_allclose(column(training, "auc_learning_time"), [[0.5, 1, 1, 1]])
    # Step 1: 0, 1 against 1, 2. Step 5: 0, 1 against 1, 3. Step 20: 0, 1 against 2, 3.
    np.testing.assert_allclose(column(training, "auc_wrong_events"), [[0.5, 3.5 / 4, 3.5 / 4, 1]])


def test_the_criterion_of_a_holdout_is_the_error_on_what_has_no_weight():
    """Held out: samples 1, 2, 3 of run 0 and sample 3 of run 1."""
    weights = tensor([[4, 0, 0, 0], [4 / 3, 4 / 3, 4 / 3, 0]])
    observed, test = tensor([[1, -1, 1, -1]] * 2), tensor([[1]] * 2)
    by_step = [
        [[-1, 1, -1, 1], [-1, 1, -1, -1]],  # of the held out wrong: 3 of 3, 0 of 1
        [[-1, -1, 1, 1], [1, -1, 1, 1]],  # 1 of 3, 1 of 1
        [[1, -1, 1, -1], [1, -1, 1, 0]],  # 0 of 3, 1 of 1
    ]
    shown = [Snapshot(tensor([[0.5] * 4] * 2), observed, weights, tensor(rows), test, 0.7) for rows in by_step]
    training = trained(shown, EarlyStopping("holdout"), [0, 1, 2], observed, test)
    np.testing.assert_allclose(column(training, "stopping_criterion"), [[1, 1 / 3, 0], [0, 1, 1]])


def test_the_criterion_of_prediction_changes_is_the_share_that_changed_since_the_record_before():
    """Also where steps lie between two records: it counts at steps 0, 1 and 3."""
    by_step = [((1, 1), (1, -1)), ((1, -1), (1, -1)), ((7, 7), (7, 7)), ((-1, 1), (1, 1))]
    shown = [prepared(predicted=predicted) for predicted in by_step]
    training = trained(shown, EarlyStopping("prediction_changes"), [0, 1, 3], tensor([[1, 1]] * 2), tensor([[1, 1]] * 2))
    assert column(training, "stopping_criterion") == [[1, 0.5, 1], [1, 0, 0.5]]


def test_a_run_that_diverged_stays_diverged_and_the_lowest_test_error_is_kept_with_its_network():
    """Run 0 has its lowest error first at step 1, and again at 2. Run 1's loss is infinite at step 2, and finite again at 3."""
    inf = math.inf
    shown = [
        prepared(losses=((4, 4), (14, 14)), test=((-1, -1), (-1, -1))),  # errors 1, 1
        prepared(losses=((3, 3), (13, 13)), test=((1, -1), (1, -1))),  # 1/2, 1/2
        prepared(losses=((2, 2), (inf, 12)), test=((-1, 1), (1, 1))),  # 1/2, (0)
        prepared(losses=((1, 1), (11, 11)), test=((-1, -1), (1, 1))),  # 1, (0)
    ]
    training = trained(shown, NoStrategy(), [0, 1, 2, 3], tensor([[1, 1]] * 2), tensor([[1, 1]] * 2))
    np.testing.assert_array_equal(column(training, "train_loss"), [[4, 3, 2, 1], [14, 13, NAN, NAN]])
    np.testing.assert_array_equal(column(training, "test_error"), [[1, 0.5, 0.5, 1], [1, 0.5, NAN, NAN]])
    np.testing.assert_array_equal(training.values[2:, :, 1], NAN)
    curves = training.curves(seconds=3.0)
    assert curves.metrics == METRICS
    assert curves.seconds.tolist() == [1.5, 1.5]
    assert curves.chosen.tolist() == [3, 3], "the last record"
    assert curves.kept.best.losses.tolist() == curves.kept.best.parameters["w"].tolist() == [[3, 3], [13, 13]]
    assert curves.kept.last.losses.tolist() == curves.kept.last.parameters["w"].tolist() == [[1, 1], [11, 11]]
    assert curves.kept.observed.tolist() == [[1, 1], [1, 1]]


def test_the_level_of_a_stage_is_the_margin_of_the_last_sample_that_counts():
    """0.99 of 300 samples are 297, of 100 are 99, of 50 all; samples outside the mask do not count."""
    margins = torch.arange(400.0)[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    mask = margins >= 100
    assert stage_level(margins, mask) == 103
    assert stage_level(margins, margins < 100) == 1
    assert stage_level(margins, margins < 50) == 0
    assert math.isnan(stage_level(margins, margins < 0))
