"""Batches of images on the device: index operations on uint8 tensors, nothing is done sample by sample."""

import numpy as np
import torch
from torch import Tensor

from lnt.seeding import generator

AUGMENT = (1, 0)  # end of the key, in the stream order, of what augments the batch of a step


class Batches:
    """Takes images by their positions in a tensor [N, C, H, W] of uint8, standardised channel by channel."""

    def __init__(self, images: Tensor, mean: np.ndarray, std: np.ndarray, dtype: torch.dtype) -> None:
        self.images = images
        scale, offset = (torch.as_tensor(a, dtype=dtype, device=images.device) for a in (1 / (255 * std), 255 * mean))
        self.scale, self.offset = scale[:, None, None], offset[:, None, None]

    def at(self, positions: Tensor) -> Tensor:
        """Images [.., C, H, W] at `positions` [..]."""
        return self._standardised(self.images[positions])

    def augmented(self, positions: Tensor, augment: str, seeds: np.ndarray, step: int) -> Tensor:
        """Images [R, B, C, H, W], shifted (and mirrored) at random, anew at each step; `seeds` [R] of the stream order."""
        if augment == "none":
            return self.at(positions)
        runs, count = positions.shape
        most = self.images.shape[-1] // 8
        draws = np.concatenate([draw_shifts(int(seed), step, count, most) for seed in seeds], 1)
        right, down, mirror = torch.as_tensor(draws, device=positions.device)
        flip = (mirror == 1) & (augment == "shift_flip")
        shifted = shift(self.images[positions.flatten()], right, down, flip, most)
        return self._standardised(shifted.unflatten(0, (runs, count)))

    def _standardised(self, pixels: Tensor) -> Tensor:
        return (pixels.to(self.scale.dtype) - self.offset) * self.scale


def shift(images: Tensor, right: Tensor, down: Tensor, flip: Tensor, most: int) -> Tensor:
    """Windows of the images [B, C, H, W] in a black frame of width `most`, each from its own corner [B], mirrored or not."""
    size = images.shape[-1]
    framed = torch.nn.functional.pad(images, (most, most, most, most))
    pixels = torch.arange(size, device=images.device)
    columns = torch.where(flip[:, None], size - 1 - pixels, pixels) + right[:, None]  # [B, W]
    rows = pixels + down[:, None]  # [B, H]
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    return framed[batch, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def draw_shifts(seed: int, step: int, count: int, most: int) -> np.ndarray:
    """Steps to the right and down in 0 .. 2 most, and 1 for a mirrored image, [3, count]."""
    rng = generator("order", seed, step, *AUGMENT)
    return np.concatenate([rng.integers(0, 2 * most + 1, (2, count)), rng.integers(0, 2, (1, count))])
