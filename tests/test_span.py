"""The exact reduction against its oracle, and the limits that any correct simulation has."""

import numpy as np
import pytest
import torch
from conftest import measured

from lnt.column_names import METRICS
from lnt.training.experiment import recorded_steps
from lnt.training.loop import train
from lnt.training.run_id import run_ids
from lnt.two_layer.batched_matrices import gram
from lnt.two_layer.data import adapted_rows

SMALL = ("data.n_train=24", "data.n_test=200", "data.dim=80", "data.snr=0.3", "model.width=4", "model.init_std=0.1")
DEEP = (*SMALL, "precision=float64", "optimizer.lr=0.3", "optimizer.steps=500", "noise.rate=0.25")
CLASSES = ("data=signal_noise_classes", "data.class_count=4", "data.snr=0.5", "optimizer.lr=1")
SETTINGS = {
    "plain": (),
    "three filters, and patches that fill no tile": ("model.width=3", "data.n_train=19", "data.dim=81"),
    "patches of two wide tiles, bias": ("data.n_train=44", "model.bias=true"),
    "more patches than a small run has": ("data.n_train=50",),
    "q = 2": ("model.power=2",),
    "q = 3": ("model.power=3",),
    "q = 2.5": ("model.power=2.5",),
    "bias": ("model.bias=true",),
    "momentum": ("optimizer.momentum=0.9",),
    "weight decay": ("optimizer.weight_decay=0.01",),
    "bias, momentum and weight decay": ("model.bias=true", "optimizer.momentum=0.8", "optimizer.weight_decay=0.02"),
    "leaky": ("model.activation=leaky_relu", "model.leak=0.2", "model.bias=true"),
    "gelu": ("model.activation=gelu",),
    "softplus, momentum": ("model.activation=softplus", "optimizer.momentum=0.5"),
    "tanh, sum": ("model.activation=tanh", "model.output=sum", "optimizer.lr=0.03"),
    "linear": ("model.activation=linear", "model.bias=true"),
    "quadratic": ("model.activation=quadratic",),
    "sum": ("model.output=sum", "optimizer.lr=0.05"),
    "trained second layer": ("model.second_layer=trained", "model.bias=true"),
    "trained second layer with memory": (
        *("model.second_layer=trained", "model.second_layer_rate=0.3", "optimizer.momentum=0.7", "optimizer.weight_decay=0.01"),
        *("model.power=2", "model.bias=true", "optimizer.lr=0.1"),
    ),
    "mixture": ("data=mixture",),
    "mixture, orthogonal, leaky, sum": (
        *("data=mixture", "data.orthogonal_noise=true", "model.activation=leaky_relu", "model.output=sum", "optimizer.lr=0.02"),
        *("loss=hinge", "optimizer.until=fitted"),
    ),
    "mixture, bias and memory": ("data=mixture", "model.bias=true", "optimizer.momentum=0.5", "optimizer.weight_decay=0.01"),
    "xor mixture": ("data=xor_mixture", "data.snr=0.5", "model.power=2"),
    "until fitted": ("optimizer.until=fitted", "optimizer.lr=1"),
    "until fitted, momentum, bias": ("optimizer.until=fitted", "optimizer.momentum=0.6", "model.bias=true"),
    "resampled labels": ("noise.resample=true",),
    "exact flips": ("noise.exact=true",),
    "orthogonal noise": ("data.orthogonal_noise=true",),
    "xor": ("data=xor", "data.angle=60", "data.snr=0.5"),
    "xor, q = 2, bias, momentum": ("data=xor", "data.angle=90", "model.power=2", "model.bias=true", "optimizer.momentum=0.5"),
    "xor, orthogonal": ("data=xor", "data.orthogonal_noise=true"),
    "orthogonal noise, q = 2, bias": ("data.orthogonal_noise=true", "model.power=2", "model.bias=true"),
    "three noise patches": ("data.noise_patches=3", "data.dim=200"),
    "two noise patches, trained second layer, memory": (
        *("data.noise_patches=2", "data.noise_ratio=2", "model.second_layer=trained", "model.bias=true", "model.power=2"),
        *("optimizer.momentum=0.7", "optimizer.weight_decay=0.01", "data.orthogonal_noise=true", "optimizer.lr=0.1"),
    ),
    "features": ("data=features", "data.strengths=[1,2,0.5]", "data.frequencies=[0.6,0.1,0.3]", "data.noise_patches=2"),
    "unequal classes and noise": ("data.positive_share=0.7", "data.noise_ratio=0.5", "data.balanced=true"),
    "mixture of unequal classes and noise": ("data=mixture", "data.positive_share=0.3", "data.noise_ratio=2"),
    "xor of unequal classes": ("data=xor", "data.positive_share=0.8", "data.snr=0.5", "data.noise_patches=2"),
    "classes": (*CLASSES, "data.balanced=true"),
    "two classes, sum, gce": (*CLASSES, "data.class_count=2", "model.output=sum", "loss=gce", "optimizer.lr=0.1"),
    "classes, noise patches, trained second layer, memory": (
        *(*CLASSES, "data.noise_patches=2", "model.second_layer=trained", "model.bias=true", "data.orthogonal_noise=true"),
        *(
            "optimizer.momentum=0.7",
            "optimizer.weight_decay=0.01",
            "model.power=2",
            "optimizer.lr=0.05",
            "loss=label_smoothing",
        ),
    ),
    "classes, pairs, forward, until fitted": (
        *(*CLASSES, "noise=pair", "noise.rate=0.25", "loss=forward", "optimizer.until=fitted", "optimizer.lr=3"),
    ),
    "classes, backward, leaky": (*CLASSES, "loss=backward", "model.activation=leaky_relu", "noise.rate=0.1", "model.bias=true"),
    "classes, sce, resampled": (*CLASSES, "loss=sce", "noise.resample=true"),
    "classes of unequal shares": (*CLASSES, "data.shares=[0.4,0.3,0.2,0.1]", "model.bias=true"),
    "classes, mae": (*CLASSES, "loss=mae"),
    "mixup, bias, memory, second layer": (
        *("data.mixup=0.7", "model.bias=true", "optimizer.momentum=0.8", "model.second_layer=trained"),
        *("optimizer.weight_decay=0.01", "model.second_layer_rate=0.5"),
    ),
    "mixup, one patch": ("data=mixture", "data.mixup=1", "model.activation=tanh"),
    "mixup, classes, noise patches": (*CLASSES, "data.mixup=2", "data.noise_patches=2", "loss=gce"),
}


# These add no path of the code to the others, only other values.
SLOW = {
    *("q = 3", "q = 2.5", "three filters, and patches that fill no tile"),
    "mixup, classes, noise patches",
    "xor of unequal classes",
    "classes, mae",
    "two classes, sum, gce",
    "classes, backward, leaky",
    "features",
}
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in SETTINGS]
ON_VECTORS = ("data.dim=8",)
# That both forms train alike is tested below for every setting, and faster.
FORMS = [pytest.param((), id="by Gram matrix"), pytest.param(ON_VECTORS, id="on vectors", marks=pytest.mark.slow)]
FROM_COEFFICIENTS = [
    i for i, name in enumerate(METRICS) if "coef" in name or name in ("overtaken_share", "decomposition_residual")
]


def assert_close(found: np.ndarray | torch.Tensor, expected: np.ndarray | torch.Tensor, tolerance: float) -> None:
    """Relative difference, where a value may be as wrong as the rounding of the largest one."""
    found, expected = np.asarray(found), np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.nanmax(np.abs(expected), initial=0))


def assert_engines_agree(span, autograd, tolerance=1e-9, weights=None):
    """Both engines on the same vectors: pre-activations and every metric, at 30 steps up to the last."""
    problem = span.sample()
    ours, oracle = span.start(problem), autograd.start(problem)
    for engine in (ours, oracle) if weights is not None else ():
        engine.weights.copy_(weights)
    for step in recorded_steps(span.total_steps(), 30):
        curves = [measured([engine], problem, np.array([step]))[0, :, 0] for engine in (ours, oracle)]
        products = oracle.network.filters.detach() @ problem.patches[0].T
        assert_close(ours.filters()[0] @ problem.patches[0].T, products, tolerance)
        residual = METRICS.index("decomposition_residual")
        assert curves[0][residual] < 1e-12
        if np.isnan(curves[1][residual]):
            # n + V > d: of dependent vectors the oracle's least squares give no coefficients.
            curves = [np.delete(values, FROM_COEFFICIENTS) for values in curves]
            np.testing.assert_allclose(*curves, rtol=tolerance)
            continue
        assert curves[1][residual] < 1e-12
        coefficients = [index for index, name in enumerate(METRICS) if "coef" in name]  # on one scale: rho adds up and cancels
        assert_close(curves[0][coefficients], curves[1][coefficients], tolerance)
        losses = [index for index, name in enumerate(METRICS) if "loss" in name]  # likewise: those of backward have both signs
        assert_close(curves[0][losses], curves[1][losses], tolerance)
        others = [index for index in range(len(METRICS)) if index not in (*coefficients, *losses, residual)]
        np.testing.assert_allclose(curves[0][others], curves[1][others], rtol=tolerance)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("setting", NAMES)
def test_span_equals_autograd(experiment, setting, form):
    overrides = (*DEEP, *SETTINGS[setting], *form)
    ours = experiment(*overrides)
    assert ours.on_vectors().all() == bool(form)
    assert_engines_agree(ours, experiment(*overrides, "engine=autograd"))


def test_span_equals_autograd_with_asymmetric_noise(experiment):
    overrides = [key for key in DEEP if "noise.rate" not in key] + ["noise=asymmetric"]
    assert_engines_agree(experiment(*overrides), experiment(*overrides, "engine=autograd"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "setting",
    [
        *("plain", "leaky", "trained second layer with memory", "xor, q = 2, bias, momentum"),
        *("classes, noise patches, trained second layer, memory", "mixup, bias, memory, second layer"),
    ],
)
@pytest.mark.parametrize("batch_size", [5, 8, 24])
def test_span_equals_autograd_on_mini_batches(experiment, batch_size, setting, form):
    overrides = [*(key for key in DEEP if "optimizer" not in key), "optimizer=sgd", f"optimizer.batch_size={batch_size}"]
    overrides += ["optimizer.lr=0.3", "optimizer.epochs=40", "optimizer.momentum=0.5", *SETTINGS[setting], *form]
    assert_engines_agree(experiment(*overrides), experiment(*overrides, "engine=autograd"))


@pytest.mark.parametrize("setting", NAMES)
@pytest.mark.slow
def test_both_forms_have_the_same_coefficients(experiment, setting):
    """The ones of the vectors are dependent here, so no decomposition afterwards would find them."""
    one = experiment(*DEEP, *SETTINGS[setting], *ON_VECTORS)
    problem = one.sample()
    on_vectors, by_gram = one.start(problem), experiment(*DEEP, *SETTINGS[setting]).start(problem)
    assert by_gram.gram is not None
    assert on_vectors.gram is None
    on_vectors.advance(300), by_gram.advance(300)
    assert_close(on_vectors.span, by_gram.span, 1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [(), ("optimizer=sgd", "optimizer.batch_size=7", "optimizer.epochs=50")])
@pytest.mark.parametrize("setting", ["plain", "q = 2", "bias, momentum and weight decay", "three noise patches", "classes"])
def test_span_equals_autograd_where_samples_have_weight_0(experiment, setting, batch, form):
    """They are left out of the products."""
    overrides = [*(key for key in DEEP if "optimizer" not in key), *SETTINGS[setting], *batch, *form, "optimizer.lr=0.3"]
    span, autograd = experiment(*overrides), experiment(*overrides, "engine=autograd")
    problem = span.sample()
    ours, oracle = span.start(problem), autograd.start(problem)
    for kept in (0.6, 0.3):
        weights = torch.rand(24, generator=torch.Generator().manual_seed(1)) < kept
        for engine in (ours, oracle):
            engine.weights[:] = weights / weights.double().mean()
            engine.advance(60)
        assert_close(ours.filters()[0], oracle.network.filters.detach(), 1e-9)


def test_runs_keep_different_numbers_of_samples(experiment):
    batch = experiment(*DEEP, "model.power=2", runs=3, seed=np.arange(3))
    engine = batch.start(batch.sample())
    weights = torch.ones(3, 24, dtype=torch.float64)
    weights[0, 5:], weights[1, ::2], weights[2, 0] = 0, 0, 0
    engine.weights.copy_(weights)
    engine.advance(100)
    for run in range(3):
        alone = batch.take(np.array([run]))
        one = alone.start(alone.sample())
        one.weights.copy_(weights[run : run + 1])
        one.advance(100)
        assert_close(engine.filters()[run], one.filters()[0], 1e-9)


@pytest.mark.slow
def test_a_large_gram_matrix_in_blocks_is_the_plain_product():
    """Reduced coordinates of two runs, two signal directions first: rows end one after another."""
    rng = np.random.default_rng(0)
    patches = np.zeros((2, 2504, 2540))
    patches[:, :4, :2] = rng.standard_normal((2, 4, 2))
    for run in range(2):
        patches[run, 4:] = adapted_rows(rng, 10**6, 2, 2500, 2540)
    found = gram(torch.as_tensor(patches))
    np.testing.assert_allclose(found, patches @ patches.swapaxes(1, 2), rtol=1e-12, atol=1e-9)


def test_sparse_dimensions_have_draws_of_their_own_and_new_run_ids(experiment):
    """2 d < S + n: vectors of length d, whose samples are others than in the versions that knew the Gram matrix only."""
    batch = experiment("data.n_train=24", runs=3, data__dim=np.array([12, 13, 14]))
    assert batch.on_vectors().tolist() == [True, False, False]
    earlier = run_ids(*batch.identity(), 3)
    assert [new == old for new, old in zip(batch.run_ids(), earlier, strict=True)] == [False, True, True]
    assert [len(chunk.run_ids()) for chunk in batch.chunks()] == [1, 2]
    assert batch.take(np.array([0])).sample().patches.shape == (1, 26, 12)


def test_span_follows_explicit_vectors_at_full_dimension(experiment):
    """The engine takes any coordinates: here plain vectors of length d, as the autograd engine samples them."""
    explicit = experiment(*DEEP, "data.dim=500", "engine=autograd")
    problem = explicit.sample()
    assert problem.patches.shape[-1] == 500
    ours, oracle = experiment(*DEEP, "data.dim=500").start(problem), explicit.start(problem)
    ours.advance(300), oracle.advance(300)
    assert_close(ours.filters()[0], oracle.network.filters.detach(), 1e-9)


@pytest.mark.parametrize("setting", ["plain", "bias", "momentum"])
def test_the_fused_kernel_equals_the_plain_operations(experiment, setting):
    """The plain operations are what other powers and CUDA use."""
    batch = experiment(*DEEP, *SETTINGS[setting], runs=3, seed=np.arange(3))
    fused, plain = batch.start(batch.sample()), batch.start(batch.sample())
    assert fused._slope is not None
    plain._slope = None
    fused.advance(500), plain.advance(500)
    assert_close(fused.filters(), plain.filters(), 1e-11)


def unlike(experiment, *overrides):
    """Eight runs that differ in everything that may differ within a batch."""
    return experiment(
        *SMALL,
        "precision=float64",
        "optimizer.steps=200",
        *overrides,
        runs=8,
        seed=np.arange(8),
        data__dim=np.array([5, 20, 12, 28, 33, 80, 1000, 10**6]),
        data__snr=np.array([1, 0.5, 0.4, 0.3, 0.3, 0.2, 0.1, 0.02]),
        data__noise_std=np.linspace(0.5, 2, 8),
        noise__rate=np.linspace(0, 0.45, 8),
        model__init_std=np.geomspace(1e-4, 1, 8),
        optimizer__lr=np.geomspace(1e-3, 0.1, 8),
        optimizer__momentum=np.linspace(0, 0.9, 8),
        optimizer__weight_decay=np.linspace(0, 0.1, 8),
    )


@pytest.mark.parametrize(
    "setting",
    [
        *("plain", "q = 2", "bias", "resampled labels", "exact flips", "orthogonal noise"),
        "classes, pairs, forward, until fitted",
    ],
)
@pytest.mark.slow
def test_batch_of_unlike_runs_equals_each_alone(experiment, setting):
    batch = unlike(experiment, *SETTINGS[setting])
    together = train(batch)
    for run in range(batch.runs):
        alone = train(batch.take(np.array([run])))
        assert_close(together.values[..., run], alone.values[..., 0], 1e-9)
    assert batch.run_ids() == [batch.take(np.array([run])).run_ids()[0] for run in range(batch.runs)]


@pytest.mark.parametrize("data", ["signal_noise", "xor", "mixture"])
def test_runs_with_other_shares_and_noise_of_classes_equal_each_alone(experiment, data):
    shares, ratios = np.array([0.5, 0.2, 0.5, 0.8]), np.array([1, 1, 0.5, 2])
    numbers = {"data__positive_share": shares, "data__noise_ratio": ratios, "noise__rate": np.array([0.1, 0, 0.3, 0.3])}
    settings = ("precision=float64", "optimizer.steps=60", "data.n_test=600")
    batch = experiment(*SMALL, f"data={data}", *settings, runs=4, **numbers)
    together = train(batch)
    for run in range(batch.runs):
        assert_close(together.values[..., run], train(batch.take(np.array([run]))).values[..., 0], 1e-9)
    labels = (batch.sample().test_labels > 0).double().mean(1)
    np.testing.assert_allclose(labels, shares, atol=0.07)  # 3.4 standard deviations


def test_runs_that_end_apart_keep_their_own_loss(experiment):
    """A forward correction knows the rate of each run, also once some runs have ended."""
    settings = ("data.n_train=20", "data.dim=400", "data.n_test=20", "loss=forward", "optimizer.until=fitted", "optimizer.lr=1")
    batch = experiment(*settings, "precision=float64", runs=3, seed=np.arange(3), noise__rate=np.array([0.05, 0.1, 0.3]))
    values = train(batch).values
    assert len({int((values[:, METRICS.index("train_loss"), run] == values[-1, 0, run]).argmax()) for run in range(3)}) > 1
    for run in range(3):
        assert_close(values[..., run], train(batch.take(np.array([run]))).values[..., 0], 1e-9)


def test_chunks_do_not_change_results(experiment, monkeypatch):
    batch = unlike(experiment)
    whole = train(batch)
    monkeypatch.setattr(type(batch), "runs_at_once", lambda self, workers: 3)
    assert_close(train(batch).values, whole.values, 1e-9)


def test_float32_follows_float64(experiment):
    double = train(experiment(*SMALL, "optimizer.steps=200", "precision=float64")).values
    single = train(experiment(*SMALL, "optimizer.steps=200", "precision=float32")).values
    loss = METRICS.index("train_loss")
    np.testing.assert_allclose(single[:, loss], double[:, loss], rtol=1e-4)


def test_rate_zero_is_no_noise_bit_for_bit(experiment):
    zero, none = train(experiment(*SMALL, "noise.rate=0")), train(experiment(*SMALL, "noise=none"))
    np.testing.assert_array_equal(zero.values, none.values)


def test_noise_rate_changes_neither_data_nor_weights(experiment):
    low, high = experiment(*SMALL, "noise.rate=0.1").sample(), experiment(*SMALL, "noise.rate=0.4").sample()
    for name in ("patches", "labels", "filters", "test_patches", "test_labels"):
        assert torch.equal(getattr(low, name), getattr(high, name)), name
    flipped_low, flipped_high = (problem.observed.at(0) != problem.labels for problem in (low, high))
    assert flipped_low.sum() < flipped_high.sum()
    assert (flipped_high | ~flipped_low).all(), "more noise keeps the flips of less noise"


@pytest.mark.parametrize("stream", ["data", "noise", "init", "test"])
def test_each_stream_moves_only_its_own_draws(experiment, stream):
    before, after = experiment(*SMALL).sample(), experiment(*SMALL, f"seeds.{stream}=7").sample()
    draws = {"data": "patches", "init": "filters", "test": "test_patches"}
    for name, tensor in draws.items():
        assert torch.equal(getattr(before, tensor), getattr(after, tensor)) == (name != stream)
    flips = [problem.observed.at(0) != problem.labels for problem in (before, after)]
    assert torch.equal(*flips) == (stream != "noise")


@pytest.mark.parametrize("engine", ["span", "autograd"])
def test_same_seed_repeats_bit_for_bit(experiment, engine):
    first, second = (train(experiment(*SMALL, f"engine={engine}", "optimizer.steps=100")) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)


def test_very_high_snr_never_memorises_before_fitting(experiment):
    seeds = np.arange(10)
    curves = train(experiment("data.n_train=100", "data.dim=1000", "data.snr=3", "noise.rate=0.2", runs=10, seed=seeds))
    clean, noisy = (curves.values[1:, METRICS.index(name)] for name in ("clean_accuracy", "noisy_accuracy"))
    assert (clean[:10] > 0.99).all()
    assert (noisy[:10] < 0.01).all()


def test_very_low_snr_memorises_from_the_start(experiment):
    seeds = np.arange(10)
    settings = ("data.n_train=100", "data.dim=100000", "data.snr=0.001", "noise.rate=0.2", "optimizer.t1_steps=10")
    curves = train(experiment(*settings, "optimizer.steps=200", runs=10, seed=seeds))
    noisy, error = (curves.values[:, METRICS.index(name)] for name in ("noisy_accuracy", "test_error"))
    fitted_at = curves.steps[(noisy > 0.99).argmax(0)]
    assert (fitted_at > 0).all()
    assert (fitted_at <= 10).all()
    assert (np.diff(noisy.mean(1)) >= 0).all(), "the share of memorised labels never falls"
    assert abs(error[-1].mean() - 0.5) < 0.02, "nothing was learnt about the signal"


def test_diverged_runs_leave_their_neighbours_alone(experiment):
    rates = np.array([0.1, 1e30, 0.1])
    batch = experiment(*SMALL, "model.power=3", "optimizer.steps=50", runs=3, seed=np.arange(3), optimizer__lr=rates)
    curves = train(batch)
    finite = np.isfinite(curves.values[:, METRICS.index("train_loss")])
    assert finite[:, [0, 2]].all()
    assert finite[0, 1]
    assert not finite[-1, 1]
    alone = train(batch.take(np.array([2])))
    assert_close(curves.values[..., 2], alone.values[..., 0], 1e-5)


@pytest.mark.gpu
def test_cuda_repeats_the_cpu(experiment):
    settings = (*SMALL, "precision=float64", "optimizer.steps=200", "model.bias=true", "noise.resample=true")
    cpu, cuda = (train(experiment(*settings, f"device={device}")) for device in ("cpu", "cuda"))
    assert_close(cuda.values, cpu.values, 1e-9)
