"""Batches of images in one pass over memory, for CPUs. Numba compiles these once and keeps the result."""

import numba
import numpy as np

# The same flags as in lnt/two_layer/kernels.py.
fused = numba.njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


@fused
def gather(images: np.ndarray, positions: np.ndarray, scale: np.ndarray, offset: np.ndarray, out: np.ndarray) -> None:
    """Standardised images: out[b, c] = (images[positions[b], c] - offset[c]) scale[c], for images [N, C, H W] of uint8."""
    _, channels, pixels = images.shape
    for b in range(len(positions)):
        i = positions[b]
        for c in range(channels):
            # One multiply-add for each pixel: x factor + shift = (x - offset) scale.
            factor, shift = scale[c], -offset[c] * scale[c]
            for x in range(pixels):
                out[b, c, x] = images[i, c, x] * factor + shift


@fused
def gather_windows(
    images: np.ndarray,
    positions: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    flip: np.ndarray,
    frame: int,
    scale: np.ndarray,
    offset: np.ndarray,
    out: np.ndarray,
) -> None:
    """The same for windows of images [N, C, H, W] that stand in a black frame of width `frame`; out is [B, C, H, W].

    The window of a sample has its upper left corner down[b] and right[b] pixels from the frame's, and is mirrored where
    flip[b].
    """
    _, channels, height, width = images.shape
    stride = width + 2 * frame
    # Flat and used again for every image: a row of a window is then one run of memory.
    framed = np.empty((height + 2 * frame) * stride, out.dtype)
    for b in range(len(positions)):
        i = positions[b]
        for c in range(channels):
            factor, shift = scale[c], -offset[c] * scale[c]
            # A black pixel (0) once it is standardised.
            framed[:] = shift
            for y in range(height):
                start = (y + frame) * stride + frame
                for x in range(width):
                    framed[start + x] = images[i, c, y, x] * factor + shift
            for y in range(height):
                left = (y + down[b]) * stride + right[b]
                if flip[b]:
                    for x in range(width):
                        out[b, c, y, x] = framed[left + width - 1 - x]
                else:
                    for x in range(width):
                        out[b, c, y, x] = framed[left + x]
