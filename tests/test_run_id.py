"""What makes two runs the same run: by hand on made-up columns, and setting by setting on real experiments."""

import hashlib

import numpy as np
import pytest

from lnt.training.run_id import identity, run_ids


def ids(columns, label_file="", runs=1):
    return run_ids(*identity(columns, label_file), runs)


def test_an_id_is_the_start_of_a_sha256_of_sorted_lines():
    """`printf 'a=1\\nb="two"\\nc=null' | sha256sum`, and the same with 0.1 and 0.2 in place of 1."""
    shared = {"c": None, "a": 1, "b": "two"}
    assert ids(shared) == [hashlib.sha256(b'a=1\nb="two"\nc=null').hexdigest()[:16]] == ["1bbde61d8dcb60b5"]
    found = ids({"c": None, "a": np.array([0.1, 0.2]), "b": "two"}, runs=2)
    assert found == ["a040da273b851b98", "a32bc9c19e9efe59"]
    assert ids(shared, runs=3) == ids(shared) * 3
    several = {"x": np.array([1, 2]), "a": np.array([0.5, 0.25])}
    assert ids(several, runs=2) == [hashlib.sha256(text).hexdigest()[:16] for text in (b"a=0.5\nx=1", b"a=0.25\nx=2")]


@pytest.mark.parametrize("key", ["seed", "device", "data.root", "data.download", "noise.file"])
def test_what_cannot_change_a_result_is_left_out(key):
    assert ids({"a": 1, key: "this"}) == ids({"a": 1, key: "that"}) == ids({"a": 1})


def test_a_key_that_came_later_is_left_out_at_its_old_value_only():
    assert ids({"a": 1, "loss": "logistic"}) == ids({"a": 1})
    assert ids({"a": 1, "loss": "hinge"}) != ids({"a": 1})


@pytest.mark.parametrize("other", [{"a": 2}, {"a": 1.0}, {"a": "1"}, {"a": None}, {"b": 1}, {"a": 1, "b": None}, {}])
def test_any_other_value_or_key_is_another_run(other):
    assert ids(other) != ids({"a": 1})


def test_the_content_of_a_label_file_takes_the_place_of_its_path():
    human = {"noise": "human", "noise.file": "/here/labels.npy"}
    assert ids(human, "abc") == ids({**human, "noise.file": "/there/labels.npy"}, "abc")
    assert ids(human, "abc") != ids(human, "abd") != ids(human)


def test_the_exact_value_of_a_number_counts():
    numbers = np.array([0.1, np.nextafter(0.1, 1), 1e-300, 0.30000000000000004, 0.3])
    assert len(set(ids({"a": numbers}, runs=5))) == 5
    assert ids({"a": numbers}, runs=5)[0] == ids({"a": 0.1})[0], "alone and in a batch"


def test_percent_signs_are_text():
    assert ids({"a": "100 %s", "b": np.array([1, 2])}, runs=2) == [
        hashlib.sha256(text).hexdigest()[:16] for text in (b'a="100 %s"\nb=1', b'a="100 %s"\nb=2')
    ]


OTHER_RUN = [
    *("data.n_train=30", "data.n_test=30", "data.dim=300", "data.snr=0.3", "data.noise_std=2", "data.orthogonal_noise=true"),
    *("data=xor", "noise=none", "noise.rate=0.1", "noise.exact=true", "noise.resample=true", "model.width=3"),
    *("model.init_std=0.1", "model.power=2", "model.bias=true", "optimizer=sgd", "optimizer.lr=0.5", "optimizer.t1_steps=3"),
    *("optimizer.steps=30", "optimizer.momentum=0.1", "optimizer.weight_decay=0.1", "strategy=early_stopping"),
    *("seed=1", "seeds.data=1", "seeds.noise=1", "seeds.init=1", "seeds.order=1", "seeds.test=1"),
    *("engine=autograd", "precision=float64", "recordings=7"),
]
SAME_RUN = [
    *("device=cpu", "keep_networks=false", "checkpoint_seconds=1", "metrics=[math.sqrt]", "seed=0", "engine=span"),
    *("recordings=60", "seeds.data=0", "loss=logistic", "data.dim=2e3"),
]
SAME_NUMBERS = ("seed=5", *(f"seeds.{stream}=0" for stream in ("data", "noise", "init", "order", "test")))


@pytest.mark.slow
def test_each_setting_that_can_change_a_result_is_another_run(experiment):
    found = {setting: experiment(setting).run_ids()[0] for setting in OTHER_RUN}
    default = experiment().run_ids()[0]
    assert [setting for setting, run in found.items() if run == default] == []
    assert len(set(found.values())) == len(OTHER_RUN)


def test_a_setting_that_only_says_how_to_run_is_the_same_run(experiment):
    default = experiment().run_ids()
    assert [setting for setting in SAME_RUN if experiment(setting).run_ids() != default] == []
    assert experiment(*SAME_NUMBERS).run_ids() == default, "the streams' seeds count, not the one that they come from"
