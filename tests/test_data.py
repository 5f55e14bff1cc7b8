"""Reduced sampling has the law of explicit sampling, at every dimension."""

import numpy as np
import pytest
import torch
from conftest import measured
from scipy import stats

from lnt.column_names import METRICS
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


@pytest.mark.parametrize("data", ["signal_noise", "xor", "mixture", pytest.param("xor_mixture", marks=pytest.mark.slow)])
@pytest.mark.parametrize("orthogonal", ["true", "false"])
@pytest.mark.parametrize("dim", [6, 14, 200])
def test_training_has_the_same_law_reduced_and_explicit(experiment, dim, orthogonal, data):
    """Initial pre-activations, trained loss, gamma and test error of 400 runs each; D = 13, so d lies on both sides."""
    settings = ("data.n_train=8", "data.n_test=100", "model.width=2", "model.init_std=0.1", "optimizer.lr=0.2")
    settings += (f"data={data}", f"data.dim={dim}", f"data.orthogonal_noise={orthogonal}", "data.snr=0.5", "optimizer.steps=60")
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
