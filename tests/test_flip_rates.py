"""The outcome columns on label noise: what training knows of it, whatever the kind of noise and its settings are called."""

import numpy as np
import pytest
import torch

from lnt.runs.tables import label_noise, schemas, tables
from lnt.training.loop import class_counts, train

CUSTOMARY = ("noise.rate_positive=null", "noise.rate_negative=null", "noise.source_rate=0.3", "noise.map=[[1,-1]]")
SMALL = ("data.n_train=40", "data.n_test=5", "data.dim=50", "optimizer.steps=2", "recordings=1", "model.width=2")


def row(experiment, *overrides):
    one = experiment(*overrides)
    (found,) = tables(one, train(one), schemas([one])).runs.to_pylist()
    return found


# each by hand: P(observed != true), given +1, given -1
@pytest.mark.parametrize(
    ("overrides", "rates"),
    [
        (("noise=none",), (0, 0, 0)),
        (("noise.rate=0.2",), (0.2, 0.2, 0.2)),
        (("noise=pair", "noise.rate=0.2"), (0.2, 0.2, 0.2)),
        (("noise=asymmetric", "noise.rate_positive=0.4", "noise.rate_negative=0.1"), (0.25, 0.4, 0.1)),
        (("noise=matrix", "noise.matrix=[[0.7,0.3],[0.1,0.9]]"), (0.2, 0.3, 0.1)),
        (
            ("noise=asymmetric", *CUSTOMARY),
            (0.15, 0.3, 0),
        ),
    ],
)
def test_rates_are_known_for_every_kind_of_noise(experiment, overrides, rates):
    found = row(experiment, *SMALL, *overrides)
    assert tuple(found[f"flip_rate{kind}"] for kind in ("", "_positive", "_negative")) == rates


def test_counts_are_those_of_the_labels_trained_on(experiment):
    """n_train = 40 and exactly one fifth flipped: 8 samples; the realised rate counts both classes."""
    found = row(experiment, *SMALL, "noise.rate=0.2", "noise.exact=true")
    assert found["flipped_positive"] + found["flipped_negative"] == 8
    assert found["clean_positive"] + found["clean_negative"] == 32
    assert found["realised_noise_rate"] == pytest.approx(0.2)
    # all of one class flipped, none of the other
    found = row(experiment, *SMALL, "noise=matrix", "noise.matrix=[[0,1],[0,1]]")
    assert (found["clean_positive"], found["flipped_negative"]) == (0, 0)
    assert found["flipped_positive"] + found["clean_negative"] == 40


def test_counts_by_hand():
    true, observed = torch.tensor([[0, 0, 0, 1, 1], [1, 1, 1, 1, 1]]), torch.tensor([[0, 1, 1, 1, 0], [1, 1, 0, 1, 1]])
    counts = class_counts(true, observed, 2)
    np.testing.assert_array_equal(counts[..., 0], [[1, 2], [1, 1]])
    np.testing.assert_array_equal(counts[..., 1], [[0, 0], [1, 4]])


def test_names_of_the_classes(experiment):
    """+1 is the first class, and the true class gives the name."""
    one = experiment(*SMALL)
    columns = label_noise(one, np.array([[[11], [2]], [[3], [24]]]))
    counts = {name: int(columns[name][0]) for name in columns if not name.startswith("flip_rate")}
    assert counts == {"clean_positive": 11, "flipped_positive": 2, "flipped_negative": 3, "clean_negative": 24}
    problem = one.sample()
    assert torch.equal(problem.as_classes(problem.labels) == 0, problem.labels == 1)


def test_more_classes_have_one_rate(experiment):
    digits = (
        "data=digits",
        "data.classes=[1,3,8]",
        "data.n_train=30",
        "data.n_test=10",
        "model.width=1",
        "optimizer.epochs=1",
        "noise.rate=0.3",
    )
    found = row(experiment, *digits)
    assert found["flip_rate"] == pytest.approx(0.3)
    assert [found[name] for name in ("flip_rate_positive", "clean_negative", "flipped_positive")] == [None] * 3


def test_rates_that_only_pixels_tell_are_unknown_and_not_zero(experiment):
    digits = ("data=digits", "data.classes=[3,8]", "data.n_train=30", "data.n_test=10", "model.width=1", "optimizer.epochs=1")
    found = row(experiment, *digits, "noise=instance", "noise.rate=0.3")
    assert found["flip_rate"] == pytest.approx(0.3)
    assert np.isnan(found["flip_rate_positive"])
    assert found["flipped_positive"] + found["flipped_negative"] == round(30 * found["realised_noise_rate"])
