"""Mixup: a step on mixed samples x = share x_i + (1 - share) x_j, with the loss share l(f, y~_i) + (1 - share) l(f, y~_j).

Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; as in their code one share for a step, and the
partners j a permutation of its samples.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lnt.seeding import generator, sample_per_run


class Mixup:
    """What each step of R runs mixes, from the stream `order`: share ~ Beta(alpha, alpha), the partners a permutation.

    Both depend on seed, step and the number of samples only. Where alpha is 0 nothing is mixed.
    """

    def __init__(self, alpha: np.ndarray, seeds: np.ndarray) -> None:
        # Floats by their bits, since seeds go up to 2^62 and would lose their last digits beside floats.
        self.keys = np.stack([seeds, np.asarray(alpha, float).view(np.int64)], 1)  # [R, 2]

    def at(self, step: int, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The partner of each of `count` samples [R, B], and the share of the sample itself [R, 1]."""

        def draw(seed: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
            alpha = np.int64(bits).view(np.float64)
            # Four numbers in the key: mini-batches have one, held-out samples two, augmentation and dropout three.
            rng = generator("order", seed, step, 0, 0, 0)
            return rng.permutation(count), np.array([rng.beta(alpha, alpha) if alpha > 0 else 1.0])

        (partners, shares), index = sample_per_run(self.keys, draw)
        return torch.as_tensor(partners[index], device=like.device), torch.as_tensor(shares[index]).to(like)


def mixed(samples: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """share x_i + (1 - share) x_j of samples [R, B, ..], given j [R, B] and share [R, 1]."""
    runs = torch.arange(len(samples), device=samples.device)[:, None]
    return share_of(samples, share) + share_of(samples[runs, partners], 1 - share)


def share_of(values: Tensor, share: Tensor) -> Tensor:
    """values [R, .., B] or [R, B, ..] times share [R, 1]."""
    return values * share.view(-1, *[1] * (values.ndim - 1))


def mixed_losses(
    losses: Callable[[Tensor], Tensor], labels: Tensor, weights: Tensor, partners: Tensor, share: Tensor
) -> Tensor:
    """share w_i l(f, y~_i) + (1 - share) w_j l(f, y~_j), [R, B].

    `losses` gives l(f, y) of the mixed samples for labels y [R, B]; `labels` and `weights` [R, B] are those of the samples.
    """
    other = weights.gather(1, partners) * losses(labels.gather(1, partners))
    return share * weights * losses(labels) + (1 - share) * other
