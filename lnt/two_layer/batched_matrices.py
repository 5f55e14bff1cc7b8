"""Matrices of R runs, [R, K, D] each: the Gram matrix of patches, and parts of them."""

import torch
from torch import Tensor
from torch.nn.functional import pad

ALIGNED = 8  # K is filled up with zero patches to a multiple of this: short ragged rows defeat vector instructions
LONG = 1000  # patches; rows as long as that need no filling, which copies them
BLOCK = 1024  # rows of a block of a large Gram matrix


def aligned(patches: Tensor) -> Tensor:
    """Patches [R, K, D] and zero patches, which change nothing: no sample reads their outputs, and they push no filter."""
    count = patches.shape[1]
    return patches if count > LONG else pad(patches, (0, 0, 0, -count % ALIGNED))


def gram(patches: Tensor) -> Tensor:
    """X X^T [R, K, K] of X [R, K, D]. In reduced coordinates X is nearly triangular: half the blocks of half rows will do."""
    count = patches.shape[1]
    if count <= 2 * BLOCK:
        return patches @ patches.mT
    product = patches.new_empty(len(patches), count, count)
    for first in range(0, count, BLOCK):
        block = slice(first, min(first + BLOCK, count))
        # The rows of this block end here in all runs, or earlier.
        width = int((patches[:, block] != 0).flatten(0, 1).any(0).nonzero().max()) + 1
        product[:, first:, block] = patches[:, first:, :width] @ patches[:, block, :width].mT
        product[:, block, first:] = product[:, first:, block].mT
    return product


def rows_of(matrices: Tensor, rows: Tensor) -> Tensor:
    """For each of R matrices [R, K, D] the rows [R, k], as [R, k, D]."""
    runs, count, width = matrices.shape
    places = rows + torch.arange(0, runs * count, count, device=rows.device)[:, None]
    # One selection of whole rows: torch.gather would need an index for each number.
    return matrices.reshape(-1, width).index_select(0, places.flatten()).view(runs, -1, width)


def only(active: Tensor, samples: Tensor) -> Tensor:
    """Those of the samples [R, B] that are `active` [R, n], and so many others that all runs have the same number of them."""
    counts = active.gather(1, samples)
    first = counts.int().argsort(dim=1, descending=True, stable=True)
    return samples.gather(1, first[:, : max(1, int(counts.sum(1).max()))])


def index_for(index: Tensor, values: Tensor) -> Tensor:
    """An index [R, B] into the last axis of values [R, .., k], the same for all that lies between: [R, .., B]."""
    return index.view(len(index), *[1] * (values.ndim - 2), -1).expand(*values.shape[:-1], -1)


def sums_with(values: Tensor, by_patch: Tensor) -> Tensor:
    """Sums over patches [R, P] of values [R, P, k] times by_patch [R, O, k], of which each serves P / O neighbours."""
    return (values.unflatten(1, (by_patch.shape[1], -1)) @ by_patch[..., None]).flatten(1)
