"""Patches of signal-noise data as those of mixed samples (lnt/training/mixup.py), and back.

Patches are mixed one by one, so pre-activations of a mixed sample are the same mixture of those of its two samples: all stays
in the span of the data. Source: Zou et al., "The Benefits of Mixup for Feature Learning", ICML 2023.
"""

import torch
from torch import Tensor

from lnt.training.mixup import share_of
from lnt.two_layer.batched_matrices import index_for


def mixed_values(values: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """share v_i + (1 - share) v_j over the last axis of values [R, .., B], given j [R, B] and share [R, 1]."""
    return share_of(values, share) + share_of(values.gather(-1, index_for(partners, values)), 1 - share)


def unmixed_values(moves: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """The transpose of `mixed_values`: what moves of mixed samples [R, .., B] are for the samples themselves."""
    return share_of(moves, share).scatter_add(-1, index_for(partners, moves), share_of(moves, 1 - share))


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
