"""The part of a gradient step beside the matrix product, fused into one pass over memory for CPUs and q = 1.

Eager PyTorch needs a dozen passes for it, a quarter of a step's time. Numba compiles this once and keeps the result.
"""

import numba
import numpy as np


@numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def descend(
    products: np.ndarray,
    span: np.ndarray,
    bias: np.ndarray,
    bias_step: np.ndarray,
    negative: np.ndarray,
    observed: np.ndarray,
    rate: np.ndarray,
) -> None:
    """Add -eta times the gradient of the loss to `span` [R, P, K], and to `bias_step` [R, P] unless there are no biases.

    products [R, P, K] are W X^T, bias [R, P] what is added to them (empty: nothing); negative [R, n] is 0 where the true
    label is +1, 1 where it is -1; observed [R, n] are labels; rate [R, n] is eta / n times the weight of each sample.
    sigma(z) = max(0, z).
    """
    runs, filters, patches = products.shape
    zero, one = products.dtype.type(0), products.dtype.type(1)
    biased = bias.size > 0
    for run in numba.prange(runs):
        outputs, push = np.zeros(patches, products.dtype), np.zeros(patches, products.dtype)
        for p in range(filters):
            j = products.dtype.type((2 if p < filters // 2 else -2) / filters)
            b = bias[run, p] if biased else zero
            for k in range(patches):
                outputs[k] += j * max(products[run, p, k] + b, zero)
        for i in range(observed.shape[1]):
            signal = negative[run, i]
            margin = observed[run, i] * (outputs[signal] + outputs[2 + i])
            push[2 + i] = observed[run, i] * rate[run, i] / (one + np.exp(margin))
            push[signal] += push[2 + i]
        for p in range(filters):
            j = products.dtype.type((2 if p < filters // 2 else -2) / filters)
            b = bias[run, p] if biased else zero
            total = zero
            for k in range(patches):
                step = j * push[k] if products[run, p, k] + b > 0 else zero
                span[run, p, k] += step
                total += step
            if biased:
                bias_step[run, p] += total
