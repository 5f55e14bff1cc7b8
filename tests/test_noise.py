"""Label noise: rates, exact counts, limits."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from lnt.column_names import METRICS
from lnt.errors import ConfigError
from lnt.noise.by_class import Asymmetric, Matrix, NoNoise, Pair, Symmetric
from lnt.noise.by_sample import Human, Instance
from lnt.noise.observed_labels import Classes, LabelNoise, Samples, low_bits
from lnt.training.loop import train
from lnt.training.metrics import measure

labels = arrays(int, (3, 17), elements=st.sampled_from([0, 1]))
uniforms = st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).random((3, 17)))
MANY = 200_000
TEN = Classes(tuple(range(10)), {9: 1, 2: 0, 4: 7, 3: 5, 5: 3})


def flips(noise, true, u):
    return noise.observe(Samples(true), u) != true


@pytest.mark.parametrize(
    ("rate", "n", "nearest", "down"),
    [
        (0.2, 10, 2, 2),
        (0.29, 10, 3, 2),
        (0.29, 100, 29, 29),
        (0.2, 10_003, 2001, 2000),
        (0.2, 10_004, 2001, 2000),
        (0, 7, 0, 0),
    ],
)
def test_the_exact_number_is_rounded_as_asked_over_both_classes(rate, n, nearest, down):
    """The number is that of all samples together: how many of each class are among them is drawn."""
    rng = np.random.default_rng(0)
    true, u = rng.integers(0, 2, (50, n)), rng.random((50, n))
    for rounding, wanted in (("nearest", nearest), ("down", down)):
        changed = flips(Symmetric(rate, exact=True, rounding=rounding), true, u)
        np.testing.assert_array_equal(changed.sum(1), wanted)
        assert len(set((changed & (true == 0)).sum(1))) > 1 or wanted == 0
    assert (flips(Symmetric(rate, exact=True, rounding="down"), true, u) <= flips(Symmetric(rate, exact=True), true, u)).all()


def test_a_rounding_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"rounding=up: must be one of nearest, down"):
        Symmetric(0.2, exact=True, rounding="up")
    with pytest.raises(ConfigError, match=r"rounding=down: is that of exact=true"):
        Symmetric(0.2, rounding="down")


def binary(plus, minus, exact=False):
    return Asymmetric(plus, minus, None, None, exact, resample=False)


def realised(noise, classes, seed=0):
    """Measured transition matrix, and its standard error at 1/2."""
    rng = np.random.default_rng(seed)
    true = rng.integers(classes.count, size=(1, MANY))
    observed = noise.observe(Samples(true, classes), rng.random(true.shape))
    counts = np.zeros((classes.count, classes.count))
    np.add.at(counts, (true, observed), 1)
    return counts / counts.sum(1, keepdims=True), 0.5 / np.sqrt(MANY / classes.count)


@given(labels, uniforms, st.floats(0, 0.49))
def test_exact_symmetric_flips_exactly_that_many(true, u, rate):
    count = flips(Symmetric(rate, exact=True, resample=False), true, u).sum(1)
    assert (np.abs(count - rate * 17) <= 0.5 + 1e-9).all()


@given(labels, uniforms, st.floats(0, 0.99), st.floats(0, 0.99))
def test_exact_asymmetric_flips_exactly_that_many_of_each_class(true, u, plus, minus):
    flipped = flips(binary(plus, minus, exact=True), true, u)
    for k, rate in ((0, plus), (1, minus)):
        wanted = rate * (true == k).sum(1)
        assert (np.abs((flipped & (true == k)).sum(1) - wanted) <= 0.5 + 1e-9).all()


@given(labels, uniforms, st.floats(0, 0.49))
def test_asymmetric_with_equal_rates_is_symmetric_is_a_pair_is_a_matrix(true, u, rate):
    symmetric = flips(Symmetric(rate, exact=False, resample=False), true, u)
    for other in (
        binary(rate, rate),
        Pair(rate, exact=False, resample=False),
        Matrix(((1 - rate, rate), (rate, 1 - rate)), exact=False, resample=False),
        Asymmetric(None, None, rate, ((1, -1), (-1, 1)), exact=False, resample=False),
    ):
        np.testing.assert_array_equal(symmetric, flips(other, true, u))


@given(labels, uniforms, st.floats(0, 0.49), st.floats(0, 0.49))
def test_a_higher_rate_flips_the_same_samples_and_more(true, u, one, other):
    less, more = (flips(Symmetric(rate, False, False), true, u) for rate in sorted((one, other)))
    assert (more >= less).all()


def of_rate(kind, rate):
    """Ten classes: as likely, unlike, or by pixels."""
    if kind == "matrix":
        others = np.random.default_rng(5).dirichlet(np.ones(10), 10) * (1 - np.eye(10))
        return Matrix(tuple(map(tuple, (1 - rate) * np.eye(10) + rate * others / others.sum(1, keepdims=True))), exact=True)
    return Symmetric(rate, exact=kind == "exact") if kind != "instance" else Instance(rate)


@pytest.mark.parametrize("kind", ["symmetric", "exact", "matrix", "instance"])
def test_a_higher_rate_keeps_the_wrong_classes_of_a_lower_one(kind):
    rng = np.random.default_rng(0)
    true, u, x = rng.integers(10, size=(2, 3000)), rng.random((2, 3000)), features_of(3000)
    samples = Samples(true, TEN, np.array([3, 4]), lambda run: x)
    low, mid, high = (of_rate(kind, rate).observe(samples, u) for rate in (0.1, 0.35, 0.7))
    for less, more in ((low, mid), (mid, high), (low, high)):
        changed = less != true
        assert changed.any()
        np.testing.assert_array_equal(less[changed], more[changed])


def test_the_wrong_class_does_not_depend_on_what_made_it_wrong():
    """The uniform that decides on a change and the digits that decide on the class are independent, below any rate."""
    rng = np.random.default_rng(0)
    true, u = np.zeros((1, MANY), int), rng.random((1, MANY))
    observed = Symmetric(0.6).observe(Samples(true, TEN), u)
    changed = observed != 0
    table = np.histogram2d(u[changed], observed[changed], bins=(np.linspace(0, 0.6, 13), np.arange(0.5, 10)))[0]
    assert stats.chi2_contingency(table).pvalue > 0.01
    for rate in (1.0, 0.5, 0.01):
        assert stats.kstest(low_bits(u[u < rate]), "uniform").pvalue > 0.01


@given(labels, uniforms, st.floats(0, 0.49), st.booleans())
def test_with_two_classes_the_general_rule_is_the_short_one(true, u, rate, exact):
    noise = Symmetric(rate, exact)
    general = type("General", (Symmetric,), {"_sample": LabelNoise._sample})(rate, exact)
    np.testing.assert_array_equal(general.observe(Samples(true), u), noise.observe(Samples(true), u))
    if not exact:
        np.testing.assert_array_equal(noise.observe(Samples(true), u), np.where(u < rate, 1 - true, true))


@given(labels, uniforms)
def test_rate_zero_is_no_noise(true, u):
    for noise in (Symmetric(0.0, False, False), Symmetric(0.0, True, False), binary(0.0, 0.0, True), NoNoise()):
        assert not flips(noise, true, u).any()
        assert (noise.flip_rate(Samples(true)) == 0).all()


def test_rates_are_met_on_average_run_by_run():
    rng = np.random.default_rng(0)
    true = rng.choice([0, 1], (3, 100_000))
    plus, minus = np.array([0.1, 0.3, 0.6]), np.array([0.4, 0.0, 0.2])
    flipped = flips(binary(plus, minus), true, rng.random(true.shape))
    for run in range(3):
        for k, rate in ((0, plus[run]), (1, minus[run])):
            count = (true[run] == k).sum()
            assert abs(flipped[run][true[run] == k].mean() - rate) <= 4 * np.sqrt(rate * (1 - rate) / count)


@pytest.mark.parametrize(
    "noise",
    [
        Symmetric(0.4, False, False),
        Symmetric(0.4, True, False),
        Pair(0.3, False, False),
        Asymmetric(None, None, 0.4, None, False, False),
        Asymmetric(None, None, 0.4, None, True, False),
    ],
)
def test_with_ten_classes_the_transition_matrix_is_met(noise):
    measured, error = realised(noise, TEN)
    wanted = noise.transition(TEN)[0]
    np.testing.assert_allclose(wanted.sum(1), 1)
    np.testing.assert_allclose(measured, wanted, atol=4 * error)
    rate = noise.flip_rate(Samples(np.arange(10)[None], TEN))[0]
    assert rate == pytest.approx({Symmetric: 0.4, Pair: 0.3, Asymmetric: 0.2}[type(noise)])


def test_the_customary_map_goes_where_it_should_and_leaves_the_rest():
    matrix = Asymmetric(None, None, 0.4, None, False, False).transition(TEN)[0]
    for source, target in {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}.items():
        assert matrix[source, target] == 0.4
    for untouched in (0, 1, 6, 7, 8):
        assert matrix[untouched, untouched] == 1


@pytest.mark.parametrize("seed", range(3))
def test_any_stochastic_matrix_is_met(seed):
    rows = np.random.default_rng(seed).dirichlet(np.ones(4), 4)
    noise = Matrix(tuple(map(tuple, rows)), exact=False, resample=False)
    noise.check(Classes((3, 1, 4, 9)))
    measured, error = realised(noise, Classes((3, 1, 4, 9)), seed)
    np.testing.assert_allclose(measured, rows, atol=4 * error)


@pytest.mark.parametrize(
    ("noise", "classes", "said"),
    [
        (Matrix(((0.5, 0.5), (0.2, 0.8))), TEN, r"must be 10 rows of 10 probabilities"),
        (Symmetric(0.5, False, False), Classes(), r"rate=0.5: must lie in \[0, 0.5\)"),
        (Symmetric(0.9, False, False), TEN, r"must lie in \[0, 0.9\)"),
        (Instance(0.9, 0.1, "published"), TEN, r"must lie in \[0, 0.9\)"),
        (binary(0.1, 0.2), TEN, r"are for two classes, of 10 here; give source_rate"),
        (Asymmetric(None, None, 0.1, ((3, 8), ()), False, False), TEN, r"map=\[\]: must be a pair \[from, to\]"),
        (Asymmetric(None, None, 0.1, ((3, 77),), False, False), TEN, r"map=\[3, 77\]: must be a pair"),
        (Asymmetric(None, None, 0.1, ((3, 8), (3, 5)), False, False), TEN, r"must name each class once"),
        (Asymmetric(None, None, 0.1, None, False, False), Classes((0, 1)), r"of which there is no customary map"),
    ],
)
def test_noise_that_does_not_fit_the_classes_is_refused(noise, classes, said):
    with pytest.raises(ConfigError, match=said):
        noise.check(classes)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (((0.5, 0.5), (0.2, 0.7)), r"row 1 sums to 0.9, must sum to 1"),
        (((0.5, 0.5), (-0.1, 1.1)), r"row 1 has a negative probability"),
        (((1.0,),), r"must be 2 rows of 2 probabilities"),
        (((1.0, 0.0), (1.0,)), r"must be 2 rows of 2 probabilities"),
    ],
)
def test_rows_that_are_no_probabilities_are_refused(rows, said):
    with pytest.raises(ConfigError, match=said):
        Matrix(rows)


def features_of(n, size=30, seed=0):
    return np.random.default_rng(seed).standard_normal((n, size)).astype(np.float32)


@pytest.mark.parametrize("classes", [Classes((0, 1)), TEN])
def test_instance_noise_keeps_its_rate_and_depends_on_pixels(classes):
    n, rng = 20_000, np.random.default_rng(1)
    true, x = rng.integers(classes.count, size=(2, n)), features_of(n)
    samples = Samples(true, classes, np.array([3, 4]), lambda run: x)
    noise = Instance(np.array([0.2, 0.4]), spread=0.1)
    chances = noise.probabilities(samples)
    np.testing.assert_allclose(chances.sum(2), 1)
    wrong = 1 - np.take_along_axis(chances, true[..., None], 2)[..., 0]
    np.testing.assert_allclose(wrong.mean(1), [0.2, 0.4], atol=1e-3)
    np.testing.assert_allclose(wrong.std(1), [0.088, 0.1], atol=5e-3, err_msg="a normal truncated at 0 and twice its mean")
    direction = np.linalg.lstsq(x, wrong[0] - wrong[0].mean(), rcond=None)[0]
    assert np.corrcoef(x @ direction, wrong[0])[0, 1] > 0.95, "a function of one direction in pixel space"
    observed = noise.observe(samples, rng.random(true.shape))
    assert abs((observed != true).mean(1) - [0.2, 0.4]).max() < 4 * 0.5 / np.sqrt(n)


@pytest.mark.parametrize(
    ("law", "rate", "mean", "std"),
    [  # of a truncated standard normal from tables: z, phi, Phi; see docs/images.md
        ("ranked", 0.05, 0.05, 0.0284),
        ("ranked", 0.35, 0.35, 0.0995),
        ("published", 0.05, 0.1009, 0.0697),
        ("published", 0.2, 0.2055, 0.0943),
        ("published", 0.0, 0.0798, 0.0603),
    ],
)
def test_what_comes_of_rate_and_spread_under_both_laws(law, rate, mean, std):
    """By hand: half a normal has the mean sqrt(2 / pi) and the variance 1 - 2 / pi (the last row)."""
    n, rng = 20_000, np.random.default_rng(1)
    true, x = rng.integers(10, size=(1, n)), features_of(n)
    noise, samples = Instance(rate, 0.1, law), Samples(true, TEN, np.array([3]), lambda run: x)
    chances = noise.probabilities(samples)
    wrong = 1 - np.take_along_axis(chances, true[..., None], 2)[0, :, 0]
    assert wrong.mean() == pytest.approx(mean, abs=4 * std / np.sqrt(n) + 1e-4)
    assert wrong.std() == pytest.approx(std, abs=1e-3)
    assert noise.flip_rate(samples)[0] == pytest.approx(mean, abs=1e-4)
    assert 0 <= wrong.min() <= wrong.max() <= 1
    # of all directions in pixel space, the best one explains q: all of it, or what 30 of 20 000 do by chance
    design = np.c_[np.ones(n), x]
    explained = 1 - np.var(wrong - design @ np.linalg.lstsq(design, wrong, rcond=None)[0]) / np.var(wrong)
    assert explained > 0.9 if law == "ranked" else explained < 0.004
    # which wrong class is left to the pixels under both
    share = chances[0] / np.where(wrong, wrong, 1)[:, None]
    share[np.arange(n), true[0]] = 0
    assert share.max(1).mean() > 0.7, "the logits of 30 pixels are far apart"


def test_the_published_law_is_that_of_the_paper():
    """Their code draws normal numbers, and draws again until they lie in (0, 1)."""
    n, x = 20_000, features_of(20_000)
    chances = Instance(0.1, 0.2, "published").probabilities(Samples(np.zeros((1, n), int), TEN, np.array([3]), lambda run: x))
    normal = np.random.default_rng(0).normal(0.1, 0.2, 100_000)
    assert stats.ks_2samp(1 - chances[0, :, 0], normal[(normal > 0) & (normal < 1)]).pvalue > 0.01


@pytest.mark.parametrize("rate", [0.3, 0.8, 0.95])
@pytest.mark.parametrize("classes", [Classes(), TEN])
def test_symmetric_noise_may_draw_the_true_class_too(rate, classes):
    """With probability `rate` a label is replaced by one drawn from all classes: P(wrong) = rate (K - 1) / K."""
    noise, k, rng = Symmetric(rate, includes_true=True), classes.count, np.random.default_rng(1)
    noise.check(classes)
    true = rng.integers(k, size=(1, MANY))
    replaced = np.where(rng.random(true.shape) < rate, rng.integers(k, size=true.shape), true)
    wanted = np.histogram2d(true[0], replaced[0], bins=k)[0] / np.bincount(true[0])[:, None]
    measured, error = realised(noise, classes)
    np.testing.assert_allclose(measured, wanted, atol=6 * error)
    assert noise.flip_rate(Samples(np.arange(k)[None], classes))[0] == pytest.approx(rate * (k - 1) / k)
    exact = Symmetric(rate, exact=True, includes_true=True).observe(Samples(true, classes), rng.random(true.shape))
    assert (exact != true).sum() == round(rate * (k - 1) / k * MANY)


def test_instance_noise_of_a_run_does_not_depend_on_its_company():
    x, true = features_of(50), np.zeros((2, 50), int)
    both = Instance(np.array([0.2, 0.3]), 0.1).probabilities(Samples(true, TEN, np.array([5, 6]), lambda run: x))
    alone = Instance(0.3, 0.1).probabilities(Samples(true[:1], TEN, np.array([6]), lambda run: x))
    np.testing.assert_array_equal(both[1], alone[0])


def test_settings_of_noise_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"rate=1.0: must lie in \[0, 1\)"):
        Symmetric(1, includes_true=True)
    with pytest.raises(ConfigError, match=r"law=xia: must be one of ranked, published"):
        Instance(law="xia")


def test_human_labels_are_taken_by_position(tmp_path):
    given = np.array([1, 1, 0, 2, 2, 0])
    truth = np.array([0, 1, 0, 1, 2, 2])
    torch.save({"worse_label": given, "clean_label": truth}, tmp_path / "CIFAR-N.pt")
    np.save(tmp_path / "own.npy", given)
    index = np.array([[5, 3, 0]])
    for noise in (Human(str(tmp_path / "CIFAR-N.pt"), "worse_label"), Human(str(tmp_path / "own.npy"), None)):
        noise.check(Classes((0, 1, 2)))
        samples = Samples(np.array([[2, 1, 0]]), Classes((0, 1, 2)), index=index)
        np.testing.assert_array_equal(noise.observe(samples, np.random.default_rng(0).random((1, 3))), given[index])
        with pytest.raises(ConfigError, match="has 6 labels, not 7"):
            noise.check_truth(np.zeros(7))
        for classes in ((0, 1), (2, 1, 0)):
            with pytest.raises(ConfigError, match=r"holds classes from 0 to 2; data.classes must be null"):
                noise.check(Classes(classes))
    noise = Human(str(tmp_path / "CIFAR-N.pt"), "worse_label")
    with pytest.raises(ConfigError, match=r"50.0% of its labels are the true ones, as by chance"):
        noise.check_truth(truth)
    with pytest.raises(ConfigError, match="its clean_label is not the data set's label in 6 of 6 places"):
        noise.check_truth(truth[::-1])
    with pytest.raises(ConfigError, match=r"column=worse_label: must be null for a .npy file"):
        Human(str(tmp_path / "own.npy"), "worse_label").labels()


def test_unreadable_label_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match="is not a file; put the label file of CIFAR-N"):
        Human(str(tmp_path / "no.pt"), "worse_label").labels()
    torch.save({"worse_label": np.zeros(3, int)}, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="must be one of worse_label"):
        Human(str(tmp_path / "a.pt"), "noisy").labels()
    (tmp_path / "b.pt").write_bytes(b"no archive")
    np.save(tmp_path / "c.npy", np.array([{"code": "runs"}], dtype=object), allow_pickle=True)
    for name in ("b.pt", "c.npy"):
        with pytest.raises(ConfigError, match="cannot be read as labels"):
            Human(str(tmp_path / name), "x" if name.endswith("pt") else None).labels()


def test_resampled_labels_are_fresh_at_each_step_and_repeatable(experiment):
    make = lambda: experiment("noise.resample=true", "noise.rate=0.3", "data.n_train=1000").sample()  # noqa: E731
    first, again = make(), make()
    steps = [0, 1, 63, 64, 200]
    found = [first.observed.at(step) != first.labels for step in steps]
    for step, flip in reversed(list(zip(steps, found, strict=True))):
        assert (flip == (again.observed.at(step) != again.labels)).all(), "whatever the order of asking"
        assert abs(flip.float().mean() - 0.3) < 0.06
    joint = (found[0] & found[1]).float().mean()
    assert abs(joint - 0.09) < 0.04, "steps are independent"


@pytest.mark.parametrize("engine", ["span", "autograd"])
def test_both_losses_of_resampled_labels_by_hand(experiment, engine):
    """-log P(label) of outputs that are found from the snapshot's own losses, at and beside the ends of a block of labels."""
    one = experiment("noise.resample=true", f"engine={engine}", "data.n_train=20", "data.dim=40", "precision=float64")
    problem = one.sample()
    trained = one.start(problem)
    for step in (0, 1, 5, 63, 64, 65):
        trained.advance(step - trained.step)
        snapshot, fresh = trained.snapshot(), one.sample()
        # log(1 + exp(-z)) = loss has the margin z = -log(exp(loss) - 1) of label times output
        outputs = -torch.log(torch.expm1(snapshot.losses)) * fresh.observed.at(step)
        values = dict(zip(METRICS, measure(snapshot, problem)[:, 0].tolist(), strict=True))
        for name, labels in (("train_loss", step), ("train_loss_used", step - 1)):
            if labels < 0:
                assert np.isnan(values[name]), "no update has used any"
                continue
            wanted = torch.log1p(torch.exp(-fresh.observed.at(labels) * outputs)).mean()
            assert values[name] == pytest.approx(float(wanted), rel=1e-9)


def test_a_network_fits_the_labels_that_it_was_trained_on_better_than_fresh_ones(experiment):
    batch = experiment(
        *("noise.resample=true", "noise.rate=0.3", "data.n_train=50", "data.dim=500", "data.n_test=10"),
        *("optimizer.lr=3", "optimizer.steps=200", "recordings=201"),
        runs=5,
        seed=np.arange(5),
    )
    values = train(batch).values[100:].mean(0)
    fresh, used = (values[METRICS.index(name)] for name in ("train_loss", "train_loss_used"))
    assert (used < fresh).all()
    fixed = train(experiment("noise.rate=0.3", "optimizer.steps=30")).values
    same, used = (fixed[:, METRICS.index(name), 0] for name in ("train_loss", "train_loss_used"))
    np.testing.assert_array_equal(same[1:], used[1:])
    assert np.isnan(used[0])


@pytest.mark.parametrize(
    "noise", [("noise.rate=0.3",), ("noise=asymmetric", "noise.rate_positive=0.4", "noise.rate_negative=0.1")]
)
def test_the_error_on_observed_test_labels_is_the_mean_over_their_draws(experiment, noise):
    """Also where the network is undecided (0), which no label makes right."""
    one = experiment("data.n_train=8", "data.n_test=12", "data.dim=20", *noise)
    problem, rng = one.sample(), np.random.default_rng(0)
    predicted = torch.as_tensor(rng.integers(-1, 2, (1, 12))).to(problem.labels)
    labels = problem.test_labels.numpy()
    rates = np.where(labels > 0, *one.noise.transition(Classes())[0, [0, 1], [1, 0]])
    flipped = rng.random((20_000, *labels.shape)) < rates
    drawn = (predicted.numpy() != np.where(flipped, -labels, labels)).mean((0, 2))
    np.testing.assert_allclose(problem.test_error_observed(predicted), drawn, atol=0.005)


MATRIX = [[0.7, 0.2, 0.1], [0.05, 0.9, 0.05], [0.3, 0.1, 0.6]]
WITH_MATRIX = ("data=signal_noise_classes", "data.class_count=3", "noise=matrix", f"noise.matrix={MATRIX}".replace(" ", ""))


def test_a_matrix_is_realised_among_k_classes_of_patches(experiment):
    """Counts of true and observed classes as the tables have them: each cell within five standard errors of the matrix."""
    settings = ("data.n_train=12000", "data.n_test=600", "data.dim=4", "model.width=1", "optimizer.steps=1", "recordings=1")
    one = experiment(*WITH_MATRIX, *settings)
    counts, problem = train(one).counts[..., 0], one.sample()
    observed = problem.observed.at(0)[0].numpy()
    np.testing.assert_array_equal(counts, [np.bincount(observed[problem.labels[0] == k], minlength=3) for k in range(3)])
    sizes, matrix = counts.sum(1, keepdims=True), np.array(MATRIX)
    assert (np.abs(counts / sizes - matrix) < 5 * np.sqrt(matrix * (1 - matrix) / sizes)).all()
    assert one.flip_rate() == pytest.approx([(0.3 + 0.1 + 0.4) / 3])
    # One that always says class 1 is right as often as the matrix puts a sample there.
    shares = np.bincount(problem.test_labels[0]) / 600
    found = problem.test_error_observed(torch.ones_like(problem.test_labels))
    assert float(found[0]) == pytest.approx(1 - shares @ matrix[:, 1], rel=1e-5)
    exact = experiment(*WITH_MATRIX, "noise.exact=true", "data.n_train=300", "data.balanced=true").sample()
    changed = (exact.observed.at(0) != exact.labels)[0]
    assert [int(changed[exact.labels[0] == k].sum()) for k in range(3)] == [30, 10, 40]


@pytest.mark.parametrize("engine", ["span", "autograd"])
def test_the_forward_correction_by_a_matrix_is_plain_pytorch(experiment, engine):
    """-log sum_c T[c, y~] softmax(f)_c, written out, and 150 steps of descent on it."""
    settings = ("data.n_train=30", "data.n_test=10", "data.dim=60", "data.snr=0.5", "model.width=4", "model.init_std=0.1")
    one = experiment(*WITH_MATRIX, *settings, "loss=forward", "optimizer.lr=2", "precision=float64", f"engine={engine}")
    problem = one.sample()
    trained = one.start(problem)
    trained.advance(150)
    samples, observed = problem.samples(0), problem.observed.at(0)[0]
    filters = problem.filters[0].clone().requires_grad_()
    transition = torch.tensor(MATRIX, dtype=torch.float64)

    def losses():
        outputs = (samples @ filters.T).relu().sum(1).unflatten(1, (3, 4)).mean(2)
        return -(outputs.softmax(1) @ transition)[torch.arange(30), observed].log()

    for _ in range(150):
        (slope,) = torch.autograd.grad(losses().mean(), filters)
        with torch.no_grad():
            filters -= 2 * slope
    now = trained.snapshot()
    np.testing.assert_allclose(now.losses[0], losses().detach(), rtol=1e-9)
    assert torch.equal(now.observed[0], observed)
    assert not torch.equal(observed, problem.labels[0])
    assert now.losses.mean() < 0.8 * np.log(3), "it has learned"
