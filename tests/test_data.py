"""Reduced sampling has the law of explicit sampling, at every dimension."""

import numpy as np
import pytest
import torch
from conftest import measured
from scipy import stats

from lnt.column_names import METRICS
from lnt.errors import ConfigError
from lnt.training.loop import train
from lnt.two_layer.data import adapted_rows
from lnt.two_layer.sampled_problem import sample_problem

N, P, DRAWS = 3, 4, 3000  # noise patches, filters, repetitions
WIDTH = 1 + N + P
ALARM = 1e-6  # p-value below which a law is refused; the true law passes at these seeds with room to spare


def reduced(dim, error=0):
    """`DRAWS` samples [draw, N + P, WIDTH] of xi and w; `error` shifts every chi degree of freedom."""
    rng = np.random.default_rng(0)
    return np.stack(
        [
            np.concatenate([adapted_rows(rng, dim + error, 1, N, WIDTH), adapted_rows(rng, dim + error, 1 + N, P, WIDTH)])
            for _ in range(DRAWS)
        ]
    )


def gram_p_values(vectors, dim):
    """p-values of exact laws: |v|^2 ~ chi2(d), <v, mu/|mu|> ~ N(0, 1), <v_i, v_j> / |v_j| ~ N(0, 1)."""
    gram = vectors @ vectors.swapaxes(1, 2)
    norms = [stats.kstest(gram[:, i, i], stats.chi2(dim).cdf).pvalue for i in range(N + P)]
    signal = [stats.kstest(vectors[:, i, 0], "norm").pvalue for i in range(N + P)]
    pairs = [(i, j) for i in range(N + P) for j in range(i)]
    products = [stats.kstest(gram[:, i, j] / np.sqrt(gram[:, j, j]), "norm").pvalue for i, j in pairs]
    return np.array(norms + signal + products)


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 7, 8, 9, 60])
def test_gram_matrix_has_the_law_of_explicit_vectors(dim):
    assert gram_p_values(reduced(dim), dim).min() > ALARM


@pytest.mark.parametrize("dim", [3, 8, 12])
@pytest.mark.parametrize("error", [-1, 1])
def test_a_degree_of_freedom_off_by_one_would_be_caught(dim, error):
    assert gram_p_values(reduced(dim, error), dim)[: N + P].max() < ALARM, "every single norm gives it away"


@pytest.mark.parametrize("dim", [5, 8, 9, 60])
def test_volumes_have_the_law_of_explicit_vectors(dim):
    """The joint law: the determinant of the Gram matrix of the first k vectors, against explicit Gaussian vectors."""
    explicit = np.random.default_rng(1).standard_normal((DRAWS, N + P, dim))
    ours = reduced(dim)
    for k in range(2, min(dim, N + P) + 1):
        volumes = [np.linalg.slogdet(v[:, :k] @ v[:, :k].swapaxes(1, 2))[1] for v in (ours, explicit)]
        assert stats.ks_2samp(*volumes).pvalue > ALARM


def slowly(data):
    return pytest.param(data, marks=pytest.mark.slow)


MODELS = ["signal_noise", "xor", "mixture", slowly("xor_mixture"), slowly("features")]
MODELS += ["signal_noise_classes data.class_count=3", "signal_noise data.noise_patches=2 data.noise_ratio=2"]
MODELS += [slowly("mixture data.positive_share=0.7 data.balanced=true")]


@pytest.mark.parametrize("data", MODELS)
@pytest.mark.parametrize("orthogonal", ["true", slowly("false")])
@pytest.mark.parametrize("dim", [6, slowly(14), 200])
def test_training_has_the_same_law_reduced_and_explicit(experiment, dim, orthogonal, data):
    """Initial pre-activations, trained loss, gamma and test error of 400 runs each; D = 13, so d lies on both sides."""
    settings = ("data.n_train=8", "data.n_test=100", "model.width=2", "model.init_std=0.1", "optimizer.lr=0.2")
    settings += (
        f"data={data.split()[0]}",
        *data.split()[1:],
        f"data.dim={dim}",
        f"data.orthogonal_noise={orthogonal}",
        "data.snr=0.5",
        "optimizer.steps=60",
    )
    found = {}
    for kind, first_seed in (("reduced", 0), ("explicit", 10**6)):
        batch = experiment(*settings, runs=400, seed=first_seed + np.arange(400))
        parts = (batch.data, batch.noise, batch.model, batch.seeds, batch.runs)
        engine = batch.start(problem := sample_problem(*parts, reduced=kind == "reduced", like=batch.empty_tensor()))
        products = engine.initial[:, :, (0, 2, 7)].reshape(400, -1).T
        values = measured([engine], problem, np.array([0, 60]))
        trained = [values[1, METRICS.index(name)] for name in ("train_loss", "signal_coef", "noise_coef_clean", "test_error")]
        found[kind] = [*products.numpy(), *trained]
    p_values = [stats.ks_2samp(*pair).pvalue for pair in zip(found["reduced"], found["explicit"], strict=True)]
    assert min(p_values) > 1e-4


def test_cost_and_memory_do_not_depend_on_the_dimension(experiment):
    small, large = experiment("data.dim=1e3").sample(), experiment("data.dim=1e6").sample()
    assert small.patches.shape == large.patches.shape == (1, 202, 241)
    size = torch.linalg.vector_norm(large.patches[0, 2:], dim=1)
    np.testing.assert_allclose(size, 1000, rtol=0.01)


def test_orthogonal_noise_is_orthogonal_for_training_and_test(experiment):
    problem = experiment("data.orthogonal_noise=true").sample()
    assert (problem.patches[:, :2] @ problem.patches[:, 2:].mT == 0).all()
    assert (problem.test_filters(problem.filters)[..., 0] == 0).all()


def test_snr_and_signal_norm_say_the_same(experiment):
    by_snr = experiment("data.dim=400", "data.snr=0.1", "data.noise_std=2")
    by_norm = experiment("data.dim=400", "data.signal_norm=4", "data.noise_std=2")
    assert torch.equal(by_snr.sample().patches, by_norm.sample().patches)


def test_xor_signals(experiment):
    """Norms and angle as asked; opposite signals share a label; all four are equally frequent; two axes hold them."""
    problem = experiment("data=xor", "data.angle=60", "data.signal_norm=3", "data.n_train=4000", "data.dim=50").sample()
    signals = problem.patches[0, :4]
    np.testing.assert_allclose(signals.norm(dim=1), 3, rtol=1e-6)
    assert float(signals[0] @ signals[2]) == pytest.approx(9 * np.cos(np.pi / 3), rel=1e-5)
    np.testing.assert_allclose(signals[[0, 2]], -signals[[1, 3]])
    assert (signals[:, 2:] == 0).all()
    np.testing.assert_array_equal(problem.labels[0], np.array([1, 1, -1, -1])[problem.signal_index[0]])
    assert stats.chisquare(np.bincount(problem.signal_index[0])).pvalue > 1e-4


def test_xor_is_learnt_by_the_network(experiment):
    """Which no linear classifier could: the mean of y x is 0. At a high SNR the test error vanishes, and gamma grows."""
    settings = ("data=xor", "data.n_train=100", "data.dim=200", "data.signal_norm=8", "noise=none", "optimizer.lr=0.1")
    values = train(experiment(*settings, "optimizer.steps=300", "model.init_std=0.01")).values
    assert values[-1, METRICS.index("test_error")] == 0
    assert values[-1, METRICS.index("signal_coef_mean")] > 10 * values[-1, METRICS.index("noise_coef_clean_mean")]


def test_shares_of_classes(experiment):
    """As asked, exactly so if balanced (n share rounded); noise patches stay, and so does the sign in front of u and v."""
    plain, skewed, exact = (
        experiment("data=xor", "data.n_train=101", "data.dim=300", *more).sample()
        for more in ((), ("data.positive_share=0.3",), ("data.positive_share=0.3", "data.balanced=true"))
    )
    assert (exact.labels > 0).sum() == 30
    assert 15 < (skewed.labels > 0).sum() < 45
    for problem in (skewed, exact):
        assert torch.equal(problem.patches, plain.patches)
        assert torch.equal(problem.signal_index % 2, plain.signal_index % 2)
        np.testing.assert_array_equal(problem.labels[0], np.array([1, 1, -1, -1])[problem.signal_index[0]])
    orders = [experiment("data.balanced=true", f"seed={seed}").sample().labels[0] for seed in (0, 1)]
    assert [int(labels.sum()) for labels in orders] == [0, 0]
    assert not torch.equal(*orders), "shuffled"


def test_classes_have_orthogonal_signals_of_one_norm(experiment):
    settings = ("data=signal_noise_classes", "data.class_count=4", "data.signal_norm=3", "data.n_train=4000", "data.dim=50")
    problem = experiment(*settings).sample()
    np.testing.assert_allclose(problem.patches[0, :4] @ problem.patches[0, :4].T, 9 * np.eye(4))
    assert torch.equal(problem.labels, problem.signal_index)
    assert stats.chisquare(np.bincount(problem.labels[0])).pvalue > 1e-4
    balanced = experiment(*settings, "data.n_train=42", "data.balanced=true").sample()
    assert sorted(np.bincount(balanced.labels[0])) == [10, 10, 11, 11]


def test_shares_of_many_classes(experiment):
    """Drawn in training and test set alike; exactly n share if balanced, where no sample changes its noise patches."""
    settings = ("data=signal_noise_classes", "data.class_count=3", "data.dim=50", "data.n_test=3000", "data.n_train=3000")
    skewed = experiment(*settings, "data.shares=[0.5,0.3,0.2]").sample()
    for labels in (skewed.labels[0], skewed.test_labels[0]):
        assert stats.chisquare(np.bincount(labels), [1500, 900, 600]).pvalue > 1e-4
    assert torch.equal(skewed.labels, skewed.signal_index)
    assert torch.equal(skewed.test_labels[0], skewed.test_signal_index[0])
    plain, exact, other = (
        experiment(*settings, "data.n_train=50", *more).sample()
        for more in (
            (),
            ("data.shares=[0.5,0.3,0.2]", "data.balanced=true"),
            ("data.shares=[0.1,0.1,0.8]", "data.balanced=true"),
        )
    )
    assert np.bincount(exact.labels[0]).tolist() == [25, 15, 10]
    assert np.bincount(other.labels[0]).tolist() == [5, 5, 40]
    assert torch.equal(exact.patches, plain.patches)
    assert (exact.labels[0].diff() != 0).sum() > 10, "shuffled"


def test_the_noise_rate_weighs_classes_by_their_shares(experiment):
    """0.4 in class 0 of share 0.5, nothing else: 0.2; and a prediction of class 0 is right with 0.6 where class 0 is true."""
    settings = (
        "data=signal_noise_classes",
        "data.class_count=3",
        "data.shares=[0.5,0.3,0.2]",
        "data.dim=50",
        "noise=asymmetric",
    )
    flips = ("noise.rate_positive=null", "noise.rate_negative=null", "noise.source_rate=0.4", "noise.map=[[0,1]]")
    one = experiment(*settings, *flips, "data.n_train=20000", "precision=float64", "model.width=1", "engine=autograd")
    assert one.flip_rate() == pytest.approx([0.2])
    problem = one.sample()
    assert float((problem.observed.at(0) != problem.labels).double().mean()) == pytest.approx(0.2, abs=0.015)
    share = float((problem.test_labels == 0).double().mean())
    assert problem.test_error_observed(problem.test_labels) == pytest.approx(0.4 * share)


def test_features_have_their_strengths_and_frequencies(experiment):
    settings = ("data=features", "data.strengths=[1,0.5]", "data.frequencies=[0.8,0.2]", "data.signal_norm=2", "data.dim=50")
    problem = experiment(*settings, "data.n_train=4000").sample()
    np.testing.assert_allclose(problem.patches[0, :4, :2], [[2, 0], [-2, 0], [0, 1], [0, -1]])
    np.testing.assert_array_equal(problem.labels[0], np.array([1, -1, 1, -1])[problem.signal_index[0]])
    assert stats.chisquare(np.bincount(problem.signal_index[0]), [1600, 1600, 400, 400]).pvalue > 1e-4
    assert torch.equal(problem.test_rare, problem.test_signal_index >= 2)


def test_noise_patches_are_independent_and_as_large_as_their_class_says(experiment):
    """|xi|^2 / s^2 ~ chi2(d) of each patch, with s twice as large in class -1; no two are correlated."""
    settings = ("data.n_train=600", "data.dim=40", "data.noise_patches=3", "data.noise_ratio=2", "data.noise_std=0.5")
    problem = experiment(*settings, "engine=autograd", "precision=float64").sample()
    assert torch.equal(problem.test_scale, torch.where(problem.test_labels > 0, 1, 2).double())
    size = torch.where(problem.labels[0] > 0, 0.5, 1.0)
    noise = problem.samples(0)[:, 1:] / size[:, None, None]
    for patch in range(3):
        assert stats.kstest((noise[:, patch] ** 2).sum(1), stats.chi2(40).cdf).pvalue > 1e-4
        other = (noise[:, patch] * noise[:, (patch + 1) % 3]).sum(1) / noise[:, patch].norm(dim=1)
        assert stats.kstest(other, "norm").pvalue > 1e-4


def test_errors_against_observed_classes_by_hand(experiment):
    """Pair noise of 0.25: 0.25 for the true class, 0.75 for the next one, 1 for the one after that."""
    settings = ("data=signal_noise_classes", "data.class_count=4", "noise=pair", "noise.rate=0.25", "precision=float64")
    problem = experiment(*settings, "data.dim=50", runs=2, seed=np.arange(2)).sample()
    errors = [problem.test_error_observed((problem.test_labels + shift) % 4).tolist() for shift in range(3)]
    np.testing.assert_allclose(errors, [[0.25] * 2, [0.75] * 2, [1] * 2], rtol=1e-12)


def test_uniform_initial_weights_are_those_of_pytorch(experiment):
    """At init_norm = 1 / sqrt(3): weights and biases of torch.nn.Linear; without rotational symmetry, so at full dimension."""
    batch = experiment(
        "model.init_law=uniform", "model.init_norm=0.57735026919", "model.bias=true", "data.dim=30", "model.width=400"
    )
    assert batch.settings.engine == "autograd"
    problem, linear = batch.sample(), torch.nn.Linear(30, 800)
    for ours, theirs in ((problem.filters[0], linear.weight), (problem.bias[0], linear.bias)):
        assert stats.ks_2samp(ours.flatten().numpy(), theirs.detach().flatten().numpy()).pvalue > 1e-4
        assert ours.abs().max() == pytest.approx(1 / np.sqrt(30), rel=0.01)


def test_more_noise_patches_shorten_stage_1_as_predicted(experiment):
    """T1 / L: a quarter of the steps with four patches, at one step size. Without a signal, so that there is nothing else."""
    steps = []
    for count in (1, 4):
        settings = ("data.n_train=50", "data.dim=5000", "data.snr=0", "model.init_norm=0.001", f"data.noise_patches={count}")
        settings += ("optimizer.t1_steps=100", "optimizer.steps=300", "data.n_test=10", "recordings=300")
        batch = experiment(*settings, runs=4, seed=np.arange(4))
        low = train(batch).values[:, METRICS.index("train_loss")] < 0.5
        steps.append(np.argmax(low, 0).mean())
        assert batch.step_size()[0] == pytest.approx(50 * 20 / (100 * 5000 * count))
    assert steps[0] > 50
    assert steps[1] / steps[0] == pytest.approx(1, rel=0.1), "in units of T1"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("data=signal_noise_classes loss=hinge", "loss=hinge: is for two classes: it has no form for K classes"),
        (
            "data=signal_noise_classes optimizer.t1_steps=40",
            "optimizer.t1_steps=40.0: Stage I has a predicted length for two classes",
        ),
        ("data.noise_ratio=2 optimizer.t1_steps=40", "optimizer.t1_steps=40.0: Stage I has a predicted length for two classes"),
        ("data=signal_noise_classes data.class_count=1", "data.class_count=1: must be at least 2"),
        ("data=signal_noise_classes data.dim=9", "data.dim=9: must be at least 10"),
        (
            "data=signal_noise_classes data.shares=[0.5,0.5]",
            r"data.shares=\[0.5, 0.5\]: must be 10 numbers, one for each class",
        ),
        (
            "data=signal_noise_classes data.class_count=3 data.shares=[0.5,0.3,0.1]",
            r"data.shares=\[0.5, 0.3, 0.1\]: sum to 0.9, must sum to 1",
        ),
        ("data=signal_noise_classes data.class_count=2 data.shares=[1,0]", r"data.shares=\[1.0, 0.0\]: must be positive"),
        (
            "data=signal_noise_classes noise=asymmetric",
            "noise.rate_positive, noise.rate_negative=0.4, 0.1: are for two classes, of 10",
        ),
        ("data=signal_noise_classes strategy=small_loss", "strategy.t1=0.2: Stage I has a predicted length"),
        ("data=mixture data.noise_patches=2", "data.noise_patches=2: must be 1: these samples are one patch"),
        ("data.noise_patches=0", "data.noise_patches=0: must be at least 1"),
        ("data.positive_share=1", "data.positive_share=1.0: must lie between 0 and 1"),
        ("data.noise_ratio=0", "data.noise_ratio=0.0: must be positive"),
        ("model.init_law=uniform engine=span", "model.init_law=uniform: needs vectors of length d"),
        ("data=features data.strengths=[1]", "data.strengths=.*: must be 2 numbers, as frequencies are"),
        ("data=features data.frequencies=[0.5,0.6]", "data.frequencies=.*: sum to 1.1, must sum to 1"),
        ("data=features data.strengths=[1,0]", "data.strengths=.*: must be positive"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(experiment, overrides, said):
    with pytest.raises(ConfigError, match=f"^{said}"):
        experiment(*overrides.split())
