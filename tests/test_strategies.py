"""Strategies: both engines alike, limits in which they do nothing, and tables in which the answer is known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import measured

from lnt.column_names import METRICS
from lnt.noise.observed_labels import ObservedLabels
from lnt.progress import StepCount
from lnt.training.loop import Training, train
from lnt.training.strategies import (
    CoTeaching,
    EarlyStopping,
    NoStrategy,
    PriorKnowledge,
    SmallLoss,
    low_component,
    low_weight,
    normalised,
    smallest,
)
from lnt.two_layer.sampled_problem import sample_problem

SMALL = (
    *("data.n_train=24", "data.n_test=100", "data.dim=300", "noise.rate=0.3", "model.width=3", "optimizer.lr=0.1"),
    *("optimizer.steps=120", "recordings=12", "precision=float64"),
)
STRATEGIES = {
    "holdout": ("strategy=early_stopping",),
    "changes": ("strategy=early_stopping", "strategy.rule=prediction_changes"),
    "threshold": ("strategy=small_loss", "strategy.step=30"),
    "share": ("strategy=small_loss", "strategy.step=30", "strategy.keep=share"),
    "mixture": ("strategy=small_loss", "strategy.keep=mixture", "strategy.t1=0.5"),
    "restart": (
        "strategy=small_loss",
        "strategy.step=30",
        "strategy.restart=true",
        "optimizer.momentum=0.5",
        "model.bias=true",
    ),
    "estimated": ("strategy=small_loss", "strategy.step=30", "strategy.keep=share", "strategy.rate=estimated"),
    "co_teaching": ("strategy=co_teaching", "strategy.ramp=20", "strategy.every=7"),
    "co_teaching, estimated": ("strategy=co_teaching", "strategy.ramp=20", "strategy.every=40", "strategy.rate=estimated"),
}


def column(curves, name):
    return curves.values[:, METRICS.index(name)]


def explicit(*arguments):
    """Problems on vectors of length d for either engine: reduced coordinates are other vectors of the same law."""
    *rest, _, like = arguments
    return sample_problem(*rest, False, like)


def assert_same(ours, other):
    np.testing.assert_allclose(ours.values, other.values, rtol=1e-8, atol=1e-9)
    np.testing.assert_array_equal(ours.chosen, other.chosen)


@pytest.mark.parametrize("name", STRATEGIES)
def test_both_engines_agree(experiment, name, monkeypatch):
    monkeypatch.setattr("lnt.two_layer.two_layer_experiment.sample_problem", explicit)
    span, autograd = (train(experiment(*SMALL, *STRATEGIES[name], f"engine={engine}")) for engine in ("span", "autograd"))
    assert_same(span, autograd)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.slow
def test_a_batch_equals_each_run_alone(experiment, name):
    """Runs of unlike dimension select at unlike steps."""
    varied = {"data__dim": np.array([200, 300, 500]), "seed": np.array([3, 4, 5])}
    batch = train(experiment(*SMALL, *STRATEGIES[name], runs=3, **varied))
    for run, (dim, seed) in enumerate(zip(*varied.values(), strict=True)):
        alone = train(experiment(*SMALL, *STRATEGIES[name], f"data.dim={dim}", f"seed={seed}"))
        np.testing.assert_allclose(batch.values[..., run : run + 1], alone.values, rtol=1e-8, atol=1e-9)
        assert batch.chosen[run] == alone.chosen[0]


@pytest.mark.parametrize("engine", ["span", "autograd"])
def test_weight_zero_is_as_if_the_sample_were_not_there(experiment, engine):
    chunk = experiment(*SMALL, f"engine={engine}")
    problem, kept = chunk.sample(), torch.arange(24) % 3 > 0
    weighted = chunk.start(problem)
    weighted.weights.copy_(normalised(kept[None]))
    observed = problem.observed.at(0)[:, kept]
    patches = problem.patches[:, torch.cat([torch.tensor([True, True]), kept])]
    labels, signal_index = problem.labels[:, kept], problem.signal_index[:, kept]
    fewer = replace(problem, patches=patches, labels=labels, signal_index=signal_index)
    noise = ObservedLabels(chunk.noise, np.zeros((1, 0)), np.zeros(1, int), observed)
    noise.at = lambda step: observed
    subset = chunk.start(replace(fewer, observed=noise))
    for trained in (weighted, subset):
        trained.advance(100)
    losses = (trained.losses() for trained in (weighted, subset))
    np.testing.assert_allclose(*(loss[:, mask] for loss, mask in zip(losses, (kept, torch.ones(16, dtype=bool)), strict=True)))


@pytest.mark.parametrize(
    "settings",
    [
        ("strategy=co_teaching", "strategy.share=1"),
        ("strategy=small_loss", "strategy.keep=share", "strategy.share=1", "strategy.step=30"),
        ("strategy=early_stopping", "strategy.rule=prediction_changes"),
    ],
)
def test_what_keeps_everything_changes_nothing(experiment, settings):
    plain, strategy = train(experiment(*SMALL)), train(experiment(*SMALL, *settings))
    np.testing.assert_allclose(strategy.values[:, :-1], plain.values[:, :-1], rtol=1e-12)


def test_a_restart_with_all_samples_is_a_fresh_run(experiment):
    again = ("strategy=small_loss", "strategy.keep=share", "strategy.share=1", "strategy.step=50", "strategy.restart=true")
    settings = (*SMALL, "model.bias=true", "optimizer.momentum=0.7")
    restarted, fresh = train(experiment(*settings, *again)), train(experiment(*settings, "optimizer.steps=70"))
    np.testing.assert_allclose(column(restarted, "train_loss")[-1], column(fresh, "train_loss")[-1], rtol=1e-12)


def test_small_loss_finds_the_clean_samples_between_the_stages(experiment):
    """At a high SNR the mislabelled samples are predicted as their true label after Stage I: selection is perfect."""
    settings = (
        "data.n_train=60",
        "data.snr=0.6",
        "noise.rate=0.3",
        "noise.exact=true",
        "optimizer.steps=600",
        "data.n_test=500",
    )
    for keep in ("threshold", "share", "mixture"):
        curves = train(experiment(*settings, "strategy=small_loss", f"strategy.keep={keep}"))
        assert column(curves, "kept_share")[0] == 1
        assert column(curves, "kept_precision")[-1] == 1, keep
        assert column(curves, "kept_recall")[-1] >= 0.95, keep
        assert column(curves, "noisy_accuracy")[-1] <= 0.1, "what was sorted out is not memorised"


@pytest.mark.parametrize(
    ("criterion", "wanted"),
    [
        ([5, 3, 4, 4, 1], 1),  # 1 comes too late
        ([5, 3, 3, 2, 1], 4),
        ([5, 3, 4, 3, 3], 3),  # of equal ones the last before patience ends
        ([1, 1, 1, 1, 1], 3),
        ([0, 5, 4, 4, 6], 3),  # the untrained network is not returned
        ([0, 5, 6, 7, 4], 1),
        ([3, 2, 1, np.nan, np.nan], 2),
        ([0, np.nan, np.nan, np.nan, np.nan], 0),  # unless there is nothing else
    ],
)
def test_early_stopping_returns_the_first_minimum_that_stands(criterion, wanted):
    assert EarlyStopping("holdout", 0.2, patience=2).choose(np.array([criterion], float).T).tolist() == [wanted]


def test_the_untrained_network_is_never_returned():
    """A training that ends worse than it began, as predictions and as held-out labels see it."""
    worse = np.array([[0, 0.4, 0.5, 0.6, 0.6, 0.7]]).T
    for rule in ("holdout", "prediction_changes"):
        assert EarlyStopping(rule, 0.2, 3).choose(worse) == [1], rule


def test_prediction_changes_stop_at_the_first_of_equal_ones():
    flat = np.array([[1, 0.5, 0.1, 0, 0, 0, 0.3, 0.4, 0, 0.0]]).T
    chosen = EarlyStopping("prediction_changes", 0.2, patience=2).choose(flat)
    assert chosen == [5], "the middle of three steps without a change, as the moving average sees it"


def by_run(*runs):
    """A criterion [T, R] from the values of each run."""
    return np.array(runs, float).T


@pytest.mark.parametrize(
    ("patience", "chosen"),
    [
        # Run 0 falls to 3 at record 2, and to 2 at record 6, four later; run 1 falls by one at every second record; run 2 has
        # its lowest at the end; run 3 diverged after record 2.
        (1, [2, 2, 1, 2]),
        (2, [2, 8, 1, 2]),
        (3, [2, 8, 1, 2]),
        (4, [6, 8, 1, 2]),
        (5, [6, 8, 1, 2]),
        (6, [6, 8, 1, 2]),
        (7, [6, 8, 8, 2]),
    ],
)
def test_a_holdout_waits_for_a_lower_error_as_long_as_its_patience(patience, chosen):
    nan = np.nan
    criterion = by_run(
        [9, 4, 3, 5, 5, 5, 2, 5, 5],
        [9, 8, 7, 7.5, 6, 6.5, 5, 5.5, 4],
        [9, 4, 5, 5, 5, 5, 5, 5, 3],
        [9, 8, 7, nan, nan, nan, nan, nan, nan],
    )
    assert EarlyStopping("holdout", patience=patience).choose(criterion).tolist() == chosen


def test_prediction_changes_are_averaged_over_three_records_of_which_the_first_counts_before_it():
    """Averages of 9, 9, 9, 3, 0, 6, 9: 9, 9, 9, 7, 4, 3, 5. Without them record 4 would be the lowest, of any two record 5."""
    criterion = by_run([9, 9, 9, 3, 0, 6, 9], [9, 6, 0, 6, 9, 9, 9])  # of the second: 9, 8, 5, 4, 5, 8, 9
    assert EarlyStopping("prediction_changes", patience=3).choose(criterion).tolist() == [5, 3]
    assert EarlyStopping("holdout", patience=3).choose(criterion).tolist() == [4, 2]


@pytest.mark.parametrize("strategy", [NoStrategy(), SmallLoss(), CoTeaching()])
def test_other_strategies_return_the_last_network(strategy):
    assert strategy.choose(np.full((4, 2), np.nan)).tolist() == [3, 3]


def test_early_stopping_does_not_see_the_test_error(experiment):
    """A quarter of the 24 samples is held out and not trained on; other test samples change nothing but the test error."""
    stopped = ("strategy=early_stopping", "strategy.holdout=0.25")
    one, other = (train(experiment(*SMALL, *stopped, f"seeds.test={seed}")) for seed in (0, 1))
    assert column(one, "kept_share").ravel() == pytest.approx(0.75)
    assert (column(one, "test_error") != column(other, "test_error")).any()
    np.testing.assert_array_equal(column(one, "stopping_criterion"), column(other, "stopping_criterion"))
    np.testing.assert_array_equal(one.chosen, other.chosen)
    criterion = column(one, "stopping_criterion")
    assert criterion[one.chosen[0]] == criterion[1 : one.chosen[0] + 1].min()
    np.testing.assert_allclose(criterion * 6, np.rint(criterion * 6), err_msg="shares of six samples")


def known(clean_share, epoch):
    return PriorKnowledge(np.array([np.nan]), np.array([clean_share]), np.array([0]), epoch)


@pytest.mark.parametrize(("share", "held_out"), [(0.2, 5), (0.1, 2), (0.01, 1), (0.99, 23)])
def test_so_many_of_24_samples_are_held_out(share, held_out):
    """The nearest number to the share, and neither none nor all: 4.8, 2.4, 0.24 and 23.76 of them."""
    engine = SimpleNamespace(weights=torch.ones(1, 24))
    EarlyStopping("holdout", share).begin(engine, known(0.7, 1))
    assert int((engine.weights == 0).sum()) == held_out
    assert float(engine.weights.mean()) == pytest.approx(1)


def test_what_acts_once_acts_at_the_step_nearest_to_its_share_of_t1():
    """0.2 T1 of 13, 12 and 1 steps: 2.6, 2.4 and 0.2, and at step 1 at the earliest."""
    three = PriorKnowledge(np.array([13.0, 12, 1]), np.full(3, 0.7), np.arange(3))
    assert SmallLoss(t1=0.2).acts_at(100, three).tolist() == [1, 2, 3]


@pytest.mark.parametrize(("epoch", "step", "kept"), [(1, 50, 17), (5, 50, 17), (20, 40, 19), (20, 300, 14)])
def test_co_teaching_comes_to_its_share_in_a_hundred_steps_or_ten_epochs(epoch, step, kept):
    """Of 20 samples, 0.7 in the end: 0.85 at half of 100 steps, 0.94 at a fifth of ten epochs of 20 steps."""
    losses = torch.arange(20.0)[None]
    one, other = (SimpleNamespace(step=step, weights=torch.ones(1, 20), losses=lambda x=x: x) for x in (losses, losses.flip(1)))
    CoTeaching().act([one, other], known(0.7, epoch))
    # Each is trained on what is small in the other.
    assert (one.weights > 0).tolist() == [[False] * (20 - kept) + [True] * kept]
    assert (other.weights > 0).tolist() == [[True] * kept + [False] * (20 - kept)]


def test_selections():
    losses = torch.tensor([[3.0, 1, 2, 4], [1, 1, 1, 1]])
    assert smallest(losses, np.array([0.5, 0.25])).tolist()[0] == [False, True, True, False]
    assert smallest(losses, np.array([0.5, 0.0])).sum(1).tolist() == [2, 1]
    rng = np.random.default_rng(0)
    two = np.r_[rng.normal(0.1, 0.02, 70), rng.normal(1.5, 0.2, 30)]
    assert low_component(two).tolist() == [True] * 70 + [False] * 30
    assert low_component(np.ones(5)).all()
    assert normalised(torch.tensor([[True, False], [False, False]])).tolist() == [[2, 0], [1, 1]]


def test_an_estimated_rate_needs_no_true_rate(experiment):
    """Where the losses of both kinds lie apart the estimate is the share realised in the run, whatever the noise says."""
    settings = ("data.n_train=60", "data.snr=0.6", "noise.exact=true", "optimizer.steps=200", "data.n_test=100")
    rates = np.array([0.1, 0.2, 0.3])
    for strategy in (("small_loss", "strategy.keep=share"), ("co_teaching", "strategy.every=20", "strategy.ramp=20")):
        named = (*settings, f"strategy={strategy[0]}", *strategy[1:], "strategy.rate=estimated")
        chunk = experiment(*named, runs=3, noise__rate=rates)
        training = Training.of(chunk)
        nobody = replace(training.known, clean_share=np.full(3, np.nan))
        found = Training(training.engines, training.problem, training.steps, training.strategy, nobody)
        found.run(StepCount())
        kept, precision = (found.values[-1, METRICS.index(name)] for name in ("kept_share", "kept_precision"))
        np.testing.assert_allclose(kept, 1 - rates, atol=0.04)
        assert (precision >= 0.98).all()


def test_the_share_of_the_lower_of_two_gaussians():
    rng = np.random.default_rng(1)
    for share in (0.95, 0.7, 0.55):
        count = round(2000 * share)
        losses = np.r_[rng.normal(0.2, 0.05, count), rng.normal(0.8, 0.1, 2000 - count)]
        assert low_weight(losses) == pytest.approx(share, abs=0.01)
        assert low_weight(10 * losses + 3) == pytest.approx(share, abs=0.01), "whatever the unit of the losses"
    assert low_weight(np.ones(5)) == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: EarlyStopping("oracle", 0.2, 3), "must be holdout or prediction_changes"),
        (lambda: EarlyStopping("holdout", 1.0, 3), r"holdout=1.0: must lie in \(0, 1\)"),
        (lambda: SmallLoss(None, None, None, "share", None, False), "exactly one of the three"),
        (lambda: SmallLoss(5, None, None, "all", None, False), "must be threshold, share or mixture"),
        (lambda: CoTeaching(1.5, 1, 1), r"share=1.5: must lie in \(0, 1\]"),
        (lambda: CoTeaching(rate="true"), "rate=true: must be oracle or estimated"),
        (lambda: CoTeaching(0.7, rate="estimated"), "rate=estimated: is for share=null; share=0.7 says how many"),
        (lambda: SmallLoss(keep="mixture", rate="estimated"), "rate=estimated: is for keep=share; keep=mixture looks at"),
    ],
)
def test_bad_numbers_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_recording_without_a_strategy_needs_none(experiment):
    chunk = experiment(*SMALL)
    problem = chunk.sample()
    assert measured([chunk.start(problem)], problem, np.array([0, 5])).shape == (2, len(METRICS), 1)


@pytest.mark.parametrize("engine", ["span", "autograd"])
def test_the_threshold_of_forward_depends_on_the_label_where_the_rates_do(experiment, monkeypatch, engine):
    """T = [[0.6, 0.4], [0.1, 0.9]]: at margin 0 the label 1 costs -log 0.35 = 1.0498, -1 costs -log 0.65 = 0.4308."""
    settings = [key for key in SMALL if "noise.rate" not in key]
    settings += ["noise=asymmetric", "noise.rate_positive=0.4", "noise.rate_negative=0.1", "loss=forward", f"engine={engine}"]
    one = experiment(*settings, "strategy=small_loss", "strategy.step=30")
    trained = one.start(problem := one.sample())
    positive = problem.observed.at(0)[0] > 0
    losses = torch.where(positive, 1.05, 0.431).double()[None]
    first = [int(positive.nonzero()[0, 0]), int((~positive).nonzero()[0, 0])]
    losses[0, first] = torch.tensor([1.049, 0.43]).double()
    monkeypatch.setattr(trained, "losses", lambda: losses)
    trained.step = 30
    one.strategy.act([trained], one.prior_knowledge())
    assert trained.weights[0].nonzero()[:, 0].tolist() == sorted(first), "one sample of each label lies below its own value"
    assert trained.weights[0, first].tolist() == [12, 12]
