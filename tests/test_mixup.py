"""Mixup: numbers by hand, and what a step mixes. Both engines are compared in test_span.py."""

import numpy as np
import torch

from lnt.training.loop import train
from lnt.two_layer.mixup import Mixup, mixed, unmixed

PARTNERS, SHARE = torch.tensor([[2, 0, 1]]), torch.tensor([[0.75]], dtype=torch.float64)


def test_a_mixture_by_hand():
    values = torch.tensor([[[4.0, 8.0, 12.0]]], dtype=torch.float64)
    assert mixed(values, PARTNERS, SHARE).tolist() == [[[3 + 3, 6 + 1, 9 + 2]]]


def test_what_moves_of_mixed_samples_are_for_the_samples_themselves():
    """The transpose: sample 0 has 3/4 of its own move and 1/4 of that of sample 1, whose partner it is."""
    moves = torch.tensor([[[4.0, 8.0, 12.0]]], dtype=torch.float64)
    assert unmixed(moves, PARTNERS, SHARE).tolist() == [[[3 + 2, 6 + 3, 9 + 1]]]


def test_shares_follow_the_beta_distribution_and_partners_are_a_permutation():
    like = torch.zeros(1, dtype=torch.float64)
    draws = [Mixup(np.array([0.5, 0.0]), np.array([3, 3])).at(step, 5, like) for step in range(2000)]
    partners, shares = (torch.stack(parts) for parts in zip(*draws, strict=True))
    assert (partners.sort(2).values == torch.arange(5)).all()
    assert (shares[:, 1] == 1).all(), "alpha = 0 mixes nothing"
    # Beta(1/2, 1/2): mean 1/2, variance 1/8; four standard errors.
    assert abs(float(shares[:, 0].mean()) - 0.5) < 4 * np.sqrt(1 / 8 / 2000)
    assert abs(float(shares[:, 0].var()) - 0.125) < 0.01


def test_a_run_without_mixup_beside_one_with_it_trains_as_alone(experiment):
    settings = ("data.n_train=12", "data.dim=60", "data.n_test=20", "optimizer.steps=40", "precision=float64", "model.width=2")
    both = train(experiment(*settings, runs=2, data__mixup=np.array([0.0, 1.0]))).values
    np.testing.assert_allclose(both[..., 0], train(experiment(*settings)).values[..., 0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(both[..., 1], train(experiment(*settings, "data.mixup=1")).values[..., 0], rtol=1e-9, atol=1e-12)
    assert both[-1, 0, 0] != both[-1, 0, 1]
