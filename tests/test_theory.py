"""Laws and conditions, against numbers by hand and explicit vectors."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from lnt.theory.conditions import (
    final_error_floor,
    law_of,
    outside_laws,
    plain_network,
    predicted_t1,
    stage1_conditions,
    stage1_factors,
)
from lnt.theory.laws import (
    BENIGN_LAW,
    EARLY_LAW,
    Law,
    bound_constant,
    coordinate,
    deep_law,
    error_bound,
    flip_rate,
    kappa,
    least_coordinate,
    stage1_scale,
    value_at,
)


def test_theory_is_its_own_inverse():
    lr = stage1_scale(100, 10, 40, 2, 1000)
    assert stage1_scale(100, 10, lr, 2, 1000) == pytest.approx(40)
    np.testing.assert_allclose(value_at("noise.rate", coordinate("noise.rate", [0.1, 0.4])), [0.1, 0.4])
    np.testing.assert_allclose(value_at("data.dim", coordinate("data.dim", [3, 4])), [3, 4])


def test_laws_count_the_signal_in_units_of_the_noise():
    """|mu| or SNR, it is the same law; it does not change with the unit of length."""
    columns = {"data.n_train": 20, "data.dim": 100, "data.noise_std": 2.0, "data.orthogonal_noise": False}
    by_norm = pd.DataFrame({**columns, "data.signal_norm": [6.0], "data.snr": [np.nan], "flip_rate": [0.25]})
    by_snr = by_norm.assign(**{"data.signal_norm": np.nan, "data.snr": 6 / (2 * 10)})
    scaled = by_norm.assign(**{"data.signal_norm": 3.0, "data.noise_std": 1.0})
    for runs in (by_norm, by_snr, scaled):
        np.testing.assert_allclose(kappa(runs), 20 * 9 / 100)
        np.testing.assert_allclose(BENIGN_LAW.of(runs), 20 * 3**4 / 100)
        np.testing.assert_allclose(EARLY_LAW.of(runs), 0.25 * 20 * 3**4 / 100)
        # kappa (1 - 2 tau)^2 = 1.8 / 4
        np.testing.assert_allclose(replace(BENIGN_LAW, finite_size=True).of(runs), 16.2 / 1.45)
        orthogonal = runs.assign(**{"data.orthogonal_noise": True})
        np.testing.assert_allclose(replace(BENIGN_LAW, finite_size=True).of(orthogonal), 16.2)


def test_an_unknown_rate_is_no_rate_of_zero():
    runs = pd.DataFrame(
        {"data.n_train": [20], "data.dim": 100, "data.noise_std": 1.0, "data.signal_norm": 3.0, "data.snr": np.nan}
    )
    assert flip_rate(runs).isna().all()
    assert np.isnan(EARLY_LAW.of(runs)).all()
    assert final_error_floor(runs.assign(flip_rate=0.2)).isna().all()
    by_class = runs.assign(flip_rate_positive=[0.4], flip_rate_negative=[np.nan])
    assert final_error_floor(by_class).isna().all()
    assert final_error_floor(by_class.assign(flip_rate_negative=0.1)).tolist() == [0.05]


@pytest.mark.parametrize("orthogonal", [False, True])
def test_the_early_law_is_the_error_of_the_mean_direction(orthogonal):
    """With w the mean of y~ x, on explicit vectors, fresh samples err with probability Phi(-sqrt(law))."""
    rng, n, dim, size, tau, trials = np.random.default_rng(0), 40, 300, 2.6, 0.2, 400
    wrong = []
    for _ in range(trials):
        noise, fresh = rng.standard_normal((n, dim)), rng.standard_normal((200, dim))
        if orthogonal:
            noise[:, 0], fresh[:, 0] = 0, 0
        flipped = np.where(rng.permutation(n) < round(tau * n), -1, 1)
        # y~ (y mu + xi): in the direction of mu the flip counts, and xi is symmetric
        mean = (noise + 0.0).sum(0) / n
        mean[0] += size * flipped.mean()
        wrong.append(np.mean(size * mean[0] + fresh @ mean < 0))
    columns = {"data.n_train": [n], "data.dim": dim, "data.noise_std": 1.0, "data.signal_norm": size, "data.snr": np.nan}
    runs = pd.DataFrame({**columns, "flip_rate": tau, "data.orthogonal_noise": orthogonal})
    predicted = norm.cdf(-np.sqrt(replace(EARLY_LAW, finite_size=True).of(runs)[0]))
    assert np.mean(wrong) == pytest.approx(predicted, abs=4 * np.std(wrong) / np.sqrt(trials) + 0.01 * predicted)
    other = norm.cdf(
        -np.sqrt(replace(EARLY_LAW, finite_size=True).of(runs.assign(**{"data.orthogonal_noise": not orthogonal}))[0])
    )
    assert abs(np.mean(wrong) - other) > 4 * np.std(wrong) / np.sqrt(trials), "the two laws can be told apart here"


def test_boundary_exponents():
    expected = {
        ("data.dim", "data.signal_norm"): 1 / 4,
        ("data.n_train", "data.signal_norm"): -1 / 4,
        ("data.noise_std", "data.signal_norm"): 1,
        ("data.dim", "data.snr"): -1 / 4,
        ("data.n_train", "data.snr"): -1 / 4,
        ("data.noise_std", "data.snr"): None,
        ("data.dim", "noise.rate"): None,
        ("data.dim", "model.width"): None,
    }
    assert {keys: BENIGN_LAW.boundary_exponent(*keys) for keys in expected} == expected
    assert EARLY_LAW.boundary_exponent("data.dim", "noise.rate") == 1 / 2
    assert EARLY_LAW.boundary_exponent("data.snr", "noise.rate") == -2


def test_the_exponents_of_the_snr_bring_those_of_s_and_d():
    """n |mu|^2 is n SNR^2 s^2 d."""
    law = Law("", {"data.n_train": 1, "data.signal_norm": 2})
    assert law.exponents_of(("data.snr",)) == {"data.n_train": 1, "data.snr": 2, "data.noise_std": 2, "data.dim": 1}
    assert law.exponents_of(("data.dim",)) == law.exponents
    # SNR^4 s^4 d^2 for |mu|^4, over s^4 d.
    assert BENIGN_LAW.exponents_of(("data.snr",)) == {"data.n_train": 1, "data.snr": 4, "data.noise_std": 0, "data.dim": 1}


def test_a_mean_of_labels_counts_from_three_standard_deviations_on():
    assert least_coordinate("noise.rate", 36) == 0.5
    assert least_coordinate("data.dim", 36) == 0


def test_formulas():
    assert deep_law(3).formula == r"n\,\mathrm{SNR}^{3}"
    runs = pd.DataFrame([PLAIN | {"data": "signal_noise", "data.orthogonal_noise": False}])
    assert law_of("test_error", runs).formula == r"n|\mu|^4/(s^4 d)\,/\,(1+n\mathrm{SNR}^2(1-2\tau)^2)"


OTHER_SAMPLES = ({"noise_patches": 2}, {"balanced": True}, {"positive_share": 0.3}, {"noise_ratio": 2.0})


def test_the_predicted_scale_of_stage_1():
    """n m / (eta s^2 d L) = 100 * 10 / (0.1 * 4 * 50 * L) = 50 / L, whatever the shares of the classes are."""
    columns = {"data.n_train": 100, "model.width": 10, "step_size": 0.1, "data.noise_std": 2.0, "data.dim": 50}
    runs = pd.DataFrame(
        [columns | {"data": "signal_noise"} | {f"data.{key}": v for key, v in more.items()} for more in OTHER_SAMPLES]
    )
    np.testing.assert_allclose(predicted_t1(runs), [25, 50, 50, np.nan])
    for data in ("mixture", "xor_mixture", "signal_noise_classes"):
        assert predicted_t1(pd.DataFrame([columns | {"data": data}])).isna().all()
    assert predicted_t1(pd.DataFrame({"data": ["digits"]})).isna().all()


def test_laws_are_claimed_only_where_they_were_proved():
    def runs(power, **more):
        columns = {"data": "signal_noise", "data.dim": 100, "data.angle": 90.0, "data.orthogonal_noise": False}
        columns |= {"flip_rate": 0.0, "optimizer": "gd", "loss": "logistic"}
        columns |= {key.replace("__", "."): v for key, v in more.items()}
        rates = {f"flip_rate_{name}": columns["flip_rate"] for name in ("positive", "negative")}
        return pd.DataFrame({"model.power": power}).assign(**rates | columns)

    final = law_of("test_error", runs([1.0]))
    assert (final.exponents, final.finite_size) == (BENIGN_LAW.exponents, True)
    assert law_of("test_error", runs([1.0], data__orthogonal_noise=True)) is BENIGN_LAW
    for early in ("best_test_error", "best_test_error_fresh"):
        assert law_of(early, runs([1.0, 1.0])).exponents == EARLY_LAW.exponents
    assert law_of("test_error", runs([3.0])).boundary_exponent("data.n_train", "data.snr") == pytest.approx(-1 / 3)
    assert law_of("test_error", runs([2.0])) is None, "q = 2 is neither"
    assert law_of("test_error", runs([1.0, 3.0])) is None
    assert law_of("best_test_error", runs([3.0])) is None
    assert law_of("signal_coef", runs([1.0])) is None
    assert law_of("test_error", runs([3.0], flip_rate=0.1)) is None, "proved without label noise"
    assert law_of("test_error", runs([3.0]).drop(columns="flip_rate")) is None, "unknown is not zero"
    assert law_of("test_error", runs([1.0], flip_rate=np.nan)) is None
    assert law_of("test_error", runs([1.0], data="xor")) is BENIGN_LAW
    assert law_of("test_error", runs([1.0], data="xor", data__angle=20.0)) is None
    assert law_of("best_test_error", runs([1.0], data="xor")) is None, "the mean of y x is 0"
    assert law_of("test_error", runs([1.0], optimizer="sgd")).exponents == BENIGN_LAW.exponents
    for optimizer in ("adam", "adamw", "my_own"):
        assert law_of("test_error", runs([1.0], optimizer=optimizer)) is None, optimizer
    assert law_of("test_error", runs([1.0], loss="hinge")) is None
    for change in OTHER_SAMPLES:
        assert law_of("test_error", runs([1.0], **{f"data__{key}": value for key, value in change.items()})) is None, change
    for data in ("features", "signal_noise_classes"):
        assert law_of("test_error", runs([1.0], data=data)) is None, data
    assert law_of("test_error", runs([1.0], noise__rate=0.4, flip_rate=0.2)) is None, "an axis noise.rate would be misread"
    assert law_of("test_error", runs([1.0], noise__rate=0.2, flip_rate=0.2)) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"noise.resample": True},
        {"optimizer.momentum": 0.9},
        {"optimizer.weight_decay": 0.1},
        {"strategy": "small_loss"},
        {"optimizer": "adam"},
        {"loss": "hinge"},
        {"noise": "label_multipliers"},
        {"flip_rate_positive": 0.4, "flip_rate_negative": 0.0},  # the classes learn at rates of their own
        {"flip_rate": 0.5, "flip_rate_positive": 0.5, "flip_rate_negative": 0.5},  # no majority of right labels
        {"flip_rate": 0.7, "flip_rate_positive": 0.7, "flip_rate_negative": 0.7},
        {"flip_rate_positive": np.nan},
    ],
)
def test_no_law_is_claimed_of_other_training_or_other_noise(change):
    """Each of these drew the law's line, its exponent and a collapse over results that it says nothing about."""
    plain = PLAIN | {"data": "signal_noise", "data.orthogonal_noise": False, "flip_rate": 0.2}
    plain |= {"flip_rate_positive": 0.2, "flip_rate_negative": 0.2, "noise": "symmetric", "strategy": "none"}
    plain |= {"optimizer.momentum": None, "noise.resample": None}  # as of options that have no such setting
    for value in ("test_error", "test_error_observed", "best_test_error", "best_test_error_fresh"):
        assert law_of(value, pd.DataFrame([plain])) is not None
        assert law_of(value, pd.DataFrame([plain, plain | change])) is None
    assert outside_laws(pd.DataFrame([plain])) == []
    (reason,) = outside_laws(pd.DataFrame([plain, plain | change]))
    named = next(iter(change)) if "noise" not in change else "noise=label_multipliers"
    assert reason == (
        "flip rates that differ between the classes, or are not below 1/2" if named.startswith("flip_rate") else named
    )


# By hand: n = 100, |mu| = 20, s = 2, d = 4000: kappa = 100 * 400 / (4 * 4000) = 2.5; |w(0)| = 0.02: <w, mu> = 0.4 / sqrt(4000),
# <w, xi> = 0.04; T1 = 100 * 10 / (0.01 * 4 * 4000) = 6.25.
PLAIN = {"data.n_train": 100, "data.dim": 4000, "data.noise_std": 2.0, "data.signal_norm": 20.0, "data.snr": np.nan}
PLAIN |= {"model.width": 10, "model.init_norm": 0.02, "model.init_std": np.nan, "model.power": 1.0, "model.bias": False}
PLAIN |= {"step_size": 0.01, "optimizer": "gd", "loss": "logistic", "flip_rate": 0.3}
PLAIN |= {"flip_rate_positive": 0.3, "flip_rate_negative": 0.3}


def test_conditions_by_hand():
    runs = pd.DataFrame([PLAIN])
    (factors,) = stage1_factors(runs).to_dict("records")
    assert factors == pytest.approx(
        {
            "n SNR^2 is at least 0.3": 2.5 / 0.3,
            "n SNR^2 is at most 30": 12,
            "d is at least n^2 / 10": 4,
            "<w(0), mu> is at most 0.1": 0.1 / (0.4 / np.sqrt(4000)),
            "<w(0), xi> is at most 0.1": 2.5,
            "T1 is at least 5 steps": 1.25,
        }
    )
    assert stage1_conditions(runs).tolist() == [True]
    assert stage1_conditions(runs.assign(step_size=0.0125)).tolist() == [True], "T1 = 5 is enough"
    for change in ({"optimizer": "flow"}, {"model.bias": None}, {"noise": "symmetric", "strategy": "none"}):
        assert stage1_conditions(runs.assign(**change)).tolist() == [True]


@pytest.mark.parametrize(
    "change",
    [
        {"data.signal_norm": 6.0},  # kappa = 0.225
        {"data.signal_norm": 70.0},  # kappa = 30.6
        {"data.dim": 900, "data.signal_norm": 10.0, "step_size": 0.1},  # below n^2 / 10
        {"model.init_norm": 0.06},  # <w, xi> = 0.12
        {"step_size": 0.0126},  # T1 = 4.96
        {"model.power": 3.0},
        {"model.bias": True},
        {"optimizer": "adam"},
        {"optimizer.momentum": 0.9},
        {"optimizer.weight_decay": 0.1},
        {"noise.resample": True},
        {"strategy": "co_teaching"},
        {"strategy": "co_teaching", "noise": "symmetric"},
        {"noise": "label_multipliers"},
        {"model.activation": "leaky_relu", "data.noise_ratio": 1},
        {"loss": "hinge"},
        {"flip_rate_positive": 0.5},
        {"flip_rate_negative": 0.7},
        {"flip_rate_negative": np.nan},
    ],
)
def test_each_condition_can_fail(change):
    runs = pd.DataFrame([PLAIN | change])
    assert stage1_conditions(runs).tolist() == [False]
    assert stage1_conditions(pd.DataFrame([PLAIN | {key: 0 for key in change if key.endswith(("momentum", "decay"))}])).all()


def test_a_plain_network():
    assert plain_network(pd.DataFrame([PLAIN])).all()
    assert plain_network(pd.DataFrame([PLAIN, PLAIN | {"optimizer.momentum": 0.9}])).tolist() == [True, False]


def test_the_bound_constant_is_the_smallest_that_bounds_all():
    combination, error = np.array([1.0, 2.0, 5.0]), np.array([0.3, 0.2, 0.001])
    constant = bound_constant(combination, error)
    assert (error_bound(combination, constant) >= error * (1 - 1e-12)).all()
    assert (error_bound(combination, 0.99 * constant) < error).any()
