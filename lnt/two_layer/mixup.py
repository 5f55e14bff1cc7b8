"""Mixup: a step on mixed samples x = share x_i + (1 - share) x_j, with the loss share l(y~_i) + (1 - share) l(y~_j).

Patches are mixed one by one, so pre-activations of a mixed sample are the same mixture of those of its two samples: all stays
in the span of the data. Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; Zou et al., "The Benefits
of Mixup for Feature Learning", ICML 2023.
"""

import numpy as np
import torch
from torch import Tensor

from lnt.seeding import generator, sample_per_run
from lnt.two_layer.batched_matrices import index_for


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
            # Four numbers in the key: mini-batches have one, held-out samples two, augmentation three.
            rng = generator("order", seed, step, 0, 0, 0)
            return rng.permutation(count), np.array([rng.beta(alpha, alpha) if alpha > 0 else 1.0])

        (partners, shares), index = sample_per_run(self.keys, draw)
        return torch.as_tensor(partners[index], device=like.device), torch.as_tensor(shares[index]).to(like)


def mixed(values: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """share v_i + (1 - share) v_j over the last axis of values [R, .., B], given j [R, B] and share [R, 1]."""
    return share_of(values, share) + share_of(values.gather(-1, index_for(partners, values)), 1 - share)


def unmixed(moves: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """The transpose of `mixed`: what moves of mixed samples [R, .., B] are for the samples themselves."""
    return share_of(moves, share).scatter_add(-1, index_for(partners, moves), share_of(moves, 1 - share))


def share_of(values: Tensor, share: Tensor) -> Tensor:
    """values [R, .., B] times share [R, 1]."""
    return values * share.view(-1, *[1] * (values.ndim - 1))


def by_sample(patches: Tensor, index: Tensor, signals: int, noise_patches: int) -> Tensor:
    """Values of patches [R, P, k] as those of samples [R, P, 1 + L, B], signal patch first; without one [R, P, 1, B]."""
    noise = patches[..., signals : signals + noise_patches * index.shape[1]].unflatten(-1, (noise_patches, -1))
    if not signals:
        return noise
    signal = patches.gather(-1, index_for(index, patches))
    return torch.cat([signal[:, :, None], noise], 2)


def add_by_patch(step: Tensor, moves: Tensor, index: Tensor, signals: int) -> None:
    """The transpose of `by_sample`: add moves [R, P, 1 + L, B] of samples to those of patches, `step` [R, P, k]."""
    noise = moves[:, :, 1:] if signals else moves
    if signals:
        step.scatter_add_(-1, index_for(index, moves[:, :, 0]), moves[:, :, 0])
    step[..., signals : signals + noise.shape[2] * noise.shape[3]] += noise.flatten(2)
