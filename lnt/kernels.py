"""What eager PyTorch needs many passes over memory for, fused into one for CPUs: what a span engine does beside its matrix
products (for q = 1; a third of a step's time), and batches of images.

Numba compiles these once and keeps the result. They run on one core: runs are spread over cores by worker processes
(lnt/workers.py).
"""

import numba
import numpy as np

fused = numba.njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


@fused
def descend(
    signals: int,
    products: np.ndarray,
    span: np.ndarray,
    bias: np.ndarray,
    bias_step: np.ndarray,
    signal_index: np.ndarray,
    observed: np.ndarray,
    rate: np.ndarray,
) -> None:
    """Add -eta times the gradient of the loss to `span` [R, P, K], and to `bias_step` [R, P] unless there are no biases.

    products [R, P, K] are W X^T, of which the first `signals` patches are signal patches; bias [R, P] is added to them
    (empty: nothing); signal_index [R, n] is the signal patch of each sample; observed [R, n] are labels; rate [R, n] is
    eta / n times the weight of each sample. sigma(z) = max(0, z).

    Loops are split so that the compiler turns each into vector instructions.
    """
    runs, filters, patches = products.shape
    n, half = observed.shape[1], filters // 2
    zero, one, share = products.dtype.type(0), products.dtype.type(1), products.dtype.type(1 / half)
    biased = bias.size > 0
    outputs, push = np.empty(patches, products.dtype), np.zeros(patches, products.dtype)
    for run in range(runs):
        outputs[:] = zero
        for p in range(filters):
            j = share if p < half else -share
            b = bias[run, p] if biased else zero
            for k in range(patches):
                outputs[k] += j * max(products[run, p, k] + b, zero)
        for i in range(n):
            push[signals + i] = observed[run, i] * (outputs[signal_index[run, i]] + outputs[signals + i])  # the margin y~ f
        for i in range(n):
            push[signals + i] = np.exp(push[signals + i])
        for i in range(n):
            push[signals + i] = observed[run, i] * rate[run, i] / (one + push[signals + i])
        push[:signals] = zero
        for i in range(n):
            push[signal_index[run, i]] += push[signals + i]
        for p in range(filters):
            j = share if p < half else -share
            b = bias[run, p] if biased else zero
            total = zero
            for k in range(patches):
                step = j * push[k] if products[run, p, k] + b > 0 else zero
                span[run, p, k] += step
                total += step
            if biased:
                bias_step[run, p] += total


@fused
def add_outputs(products: np.ndarray, bias: np.ndarray, outputs: np.ndarray) -> None:
    """Add F_{+1} - F_{-1} of patches with `products` [R, P, N] and `bias` [R, P] (empty: none) to `outputs` [R, N]."""
    runs, filters, samples = products.shape
    half = filters // 2
    zero, share = products.dtype.type(0), products.dtype.type(1 / half)
    for run in range(runs):
        for p in range(filters):
            j = share if p < half else -share
            b = bias[run, p] if bias.size > 0 else zero
            for i in range(samples):
                outputs[run, i] += j * max(products[run, p, i] + b, zero)


@fused
def gather(images: np.ndarray, positions: np.ndarray, scale: np.ndarray, offset: np.ndarray, out: np.ndarray) -> None:
    """Standardised images: out[b, c] = (images[positions[b], c] - offset[c]) scale[c], for images [N, C, H W] of uint8."""
    _, channels, pixels = images.shape
    for b in range(len(positions)):
        i = positions[b]
        for c in range(channels):
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
    framed = np.empty((height + 2 * frame) * stride, out.dtype)
    for b in range(len(positions)):
        i = positions[b]
        for c in range(channels):
            factor, shift = scale[c], -offset[c] * scale[c]
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
