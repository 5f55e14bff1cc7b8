"""The part of a gradient step beside the matrix product, fused into one pass over memory for CPUs and q = 1.

Eager PyTorch needs a dozen passes for it, a quarter of a step's time. Numba compiles this once and keeps the result.
"""

import numba
import numpy as np


@numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def descend(
    z: np.ndarray,
    span: np.ndarray,
    bias: np.ndarray,
    negative: np.ndarray,
    observed: np.ndarray,
    rate: np.ndarray,
) -> None:
    """Add -eta times the gradient of the loss to `span` [R, P, K], and to `bias` [R, P] unless it is empty.

    z [R, P, K] are all pre-activations; negative [R, n] is 0 where the true label is +1, 1 where it is -1; observed
    [R, n] are labels; rate [R, n] is eta / n times the weight of each sample. sigma(z) = max(0, z).
    """
    runs, filters, patches = z.shape
    zero = z.dtype.type(0)
    for run in numba.prange(runs):
        outputs, push = np.zeros(patches, z.dtype), np.zeros(patches, z.dtype)
        for p in range(filters):
            j = z.dtype.type((2 if p < filters // 2 else -2) / filters)
            for k in range(patches):
                outputs[k] += j * max(z[run, p, k], zero)
        for i in range(patches - 2):
            signal = negative[run, i]
            margin = observed[run, i] * (outputs[signal] + outputs[2 + i])
            push[2 + i] = observed[run, i] * rate[run, i] / (1 + np.exp(margin))
            push[signal] += push[2 + i]
        for p in range(filters):
            j = z.dtype.type((2 if p < filters // 2 else -2) / filters)
            for k in range(patches):
                span[run, p, k] += j * push[k] if z[run, p, k] > 0 else zero
            if bias.size > 0:
                for k in range(patches):
                    bias[run, p] += j * push[k] if z[run, p, k] > 0 else zero
