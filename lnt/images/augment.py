"""Batches of images on the device: index operations on uint8 tensors (on a CPU one fused pass); no Python per sample."""

import numpy as np
import torch
from torch import Tensor

from lnt.images import pixel_kernels
from lnt.seeding import generator

# End of the key (step, 1, 0), in the stream order, of what augments the batch of a step. Epochs have a key of one number,
# the held-out samples one of two, dropout (step, 2, peer), so that no two of these share a draw.
AUGMENT = (1, 0)


class Batches:
    """Takes images by their positions in a tensor [N, C, H, W] of uint8, or of floats, standardised channel by channel."""

    def __init__(self, images: Tensor, mean: np.ndarray, std: np.ndarray, dtype: torch.dtype) -> None:
        self.images = images
        # Standardised as (pixel - 255 mean) / (255 std), straight from uint8 values.
        one = unit(images.dtype == torch.uint8)
        self.scale, self.offset = (torch.as_tensor(a, dtype=dtype, device=images.device) for a in (1 / (one * std), one * mean))

    def at(self, positions: Tensor) -> Tensor:
        """Images [R, B, C, H, W] at `positions` [R, B]."""
        if self.images.device.type == "cuda":
            return self._standardised(self.images[positions])
        out = self._empty(positions)
        flat = (self.images.flatten(2).numpy(), positions.flatten().numpy())
        pixel_kernels.gather(*flat, self.scale.numpy(), self.offset.numpy(), out.reshape(-1, *flat[0].shape[1:]))
        return torch.from_numpy(out)

    def augmented(self, positions: Tensor, augment: str, seeds: np.ndarray, step: int) -> Tensor:
        """The same images, shifted (and mirrored) at random at each step; `seeds` [R] of the stream order."""
        if augment == "none":
            return self.at(positions)
        frame = self.images.shape[-1] // 8
        right, down, mirror = np.concatenate([sample_shifts(int(s), step, positions.shape[1], frame) for s in seeds], 1)
        # Mirrors are drawn in any case, so that shift and shift_flip have the same shifts.
        flip = (mirror == 1) & (augment == "shift_flip")
        if self.images.device.type == "cuda":
            moves = [torch.as_tensor(move, device=positions.device) for move in (right, down, flip)]
            moved = shift(self.images[positions.flatten()], frame, *moves)
            return self._standardised(moved.unflatten(0, positions.shape))
        out, scale, offset = self._empty(positions), self.scale.numpy(), self.offset.numpy()
        windows = out.reshape(-1, *self.images.shape[1:])
        pixel_kernels.gather_windows(
            self.images.numpy(), positions.flatten().numpy(), right, down, flip, frame, scale, offset, windows
        )
        return torch.from_numpy(out)

    def _empty(self, positions: Tensor) -> np.ndarray:
        """Memory for a batch, from numpy: it reuses memory, while PyTorch asks the system for new pages each time."""
        return np.empty((*positions.shape, *self.images.shape[1:]), self.scale.numpy().dtype)

    def _standardised(self, pixels: Tensor) -> Tensor:
        return (pixels.to(self.scale.dtype) - self.offset[:, None, None]) * self.scale[:, None, None]


def unit(of_bytes: bool) -> int:
    """The value that statistics take as 1: that of a white pixel in bytes, else 1 itself."""
    return 255 if of_bytes else 1


def shift(images: Tensor, frame: int, right: Tensor, down: Tensor, flip: Tensor) -> Tensor:
    """Windows of the images [B, C, H, W] in a black frame of width `frame`, each from its own corner [B], mirrored or not."""
    size = images.shape[-1]
    # On uint8: the frame is black, which is not 0 once pixels are standardised.
    framed = torch.nn.functional.pad(images, (frame, frame, frame, frame))  # [B, C, H + 2 frame, W + 2 frame]
    pixels = torch.arange(size, device=images.device)
    columns = torch.where(flip[:, None], size - 1 - pixels, pixels) + right[:, None]  # [B, W]
    rows = pixels + down[:, None]  # [B, H]
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    # Index arrays on both sides of a slice put the channels last: [B, H, W, C].
    return framed[batch, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def sample_shifts(seed: int, step: int, count: int, most: int) -> np.ndarray:
    """Steps to the right and down in 0 .. 2 most, and 1 for a mirrored image, [3, count]."""
    rng = generator("order", seed, step, *AUGMENT)
    return np.concatenate([rng.integers(0, 2 * most + 1, (2, count)), rng.integers(0, 2, (1, count))])
