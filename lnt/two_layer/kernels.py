"""The work of the span engine beside its matrix products, fused into one pass over memory for CPUs, for q = 1 and the
logistic loss (a third of a step's time). Eager PyTorch needs many passes for it.

Numba compiles these once and keeps the result. They run on one core: runs are spread over cores by worker processes
(lnt/runs/workers.py).
"""

import numba
import numpy as np

# Not fastmath=True: its flags nnan and ninf let the compiler assume that no NaN or infinity occurs, and diverged runs have
# both. With error_model="numpy" an overflow of exp ends as 1 / inf = 0, and nothing raises.
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
    # In the dtype of the arrays: Python floats would turn all arithmetic on float32 into float64.
    zero, one, share = products.dtype.type(0), products.dtype.type(1), products.dtype.type(1 / half)
    biased = bias.size > 0
    # One buffer [K] for three things in turn, so that it stays in cache: margin, its exponential, slope of the loss.
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
        # A signal patch is pushed by all the samples that share it. Patches beyond S + n are zero padding: nobody reads
        # their outputs, and their push stays 0.
        push[:signals] = zero
        for i in range(n):
            push[signal_index[run, i]] += push[signals + i]
        for p in range(filters):
            j = share if p < half else -share
            b = bias[run, p] if biased else zero
            total = zero
            for k in range(patches):
                # The slope of sigma at 0 is 0, as in network.slope.
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
