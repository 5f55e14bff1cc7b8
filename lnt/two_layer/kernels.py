"""The work of the span engine for CPUs, for q = 1 and losses with a `slope`: many steps of small runs, each within the first
cache of a core, and of larger ones what a step does beside its matrix product, in one pass over memory.

Numba compiles these once and keeps the result. They run on one core: runs are spread over cores by worker processes
(lnt/runs/workers.py).
"""

import numba
import numpy as np

from lnt.slopes import COEFFICIENTS, LINE, QUOTIENT, SUM
from lnt.two_layer.vector_code import LANES, ROWS, backward, forward, of_chances, test

# Up to this many patches a product of matrices is so small that a library's overhead counts, and the state of a run, which
# all its steps share, stays in the first cache.
SMALL = 48
# Up to this many coordinates so many vectors of test patches stay there, too.
SHORT = 256
WIDE = 3  # vectors of a tile: with ROWS rows their sums fill the registers that all processors have
# Not fastmath=True: its flags nnan and ninf let the compiler assume that no NaN or infinity occurs, and diverged runs have
# both. With error_model="numpy" an overflow of exp ends as 1 / inf = 0, and nothing raises.
fused = numba.njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})

_forward_wide, _forward = forward(WIDE), forward(1)
_backward_wide, _backward = backward(WIDE), backward(1)
_test_wide, _test = test(WIDE), test(1)
_sum, _quotient = of_chances(False), of_chances(True)


@fused
def turn_into_pulls(form: int, coefficients: np.ndarray, values: np.ndarray) -> None:
    """values <- -l'(values): margins [N], with N a multiple of LANES, become slopes of the `form` (lnt/slopes.py).

    coefficients [COEFFICIENTS, N] are those of each sample.
    """
    one, zero = values.dtype.type(1), values.dtype.type(0)
    if form == SUM:
        for i in range(0, len(values), LANES):
            _sum(values, coefficients, i)
    elif form == QUOTIENT:
        for i in range(0, len(values), LANES):
            _quotient(values, coefficients, i)
    elif form == LINE:
        level, rise, below = coefficients[0], coefficients[1], coefficients[2]
        for i in range(len(values)):
            values[i] = zero if values[i] >= below[i] else level[i] + rise[i] * values[i]
    else:
        for i in range(len(values)):
            z = values[i]
            values[i] = (one / (one + np.exp(-z))) ** coefficients[0, i] / (one + np.exp(z))


@fused
def by_sample(of_classes: np.ndarray, labels: np.ndarray, coefficients: np.ndarray) -> None:
    """Write the coefficients of samples, [COEFFICIENTS, N], given those of a run's classes, [2, COEFFICIENTS], +1 first."""
    for number in range(COEFFICIENTS):
        plus, minus = of_classes[0, number], of_classes[1, number]
        for i in range(len(labels)):
            coefficients[number, i] = plus if labels[i] > 0 else minus


@fused
def descend_small(
    signals: int,
    form: int,
    slopes: np.ndarray,
    factors: np.ndarray,
    initial: np.ndarray,
    gram: np.ndarray,
    span: np.ndarray,
    bias: np.ndarray,
    signal_index: np.ndarray,
    observed: np.ndarray,
    rate: np.ndarray,
) -> None:
    """Take as many steps of plain descent as there are `factors` of the rate, and change span [R, P, K] and bias [R, P].

    `form` and slopes [R, 2, COEFFICIENTS], for each observed class, are those of the loss (lnt/slopes.py).
    initial [R, P, K] is H(0), gram [R, K, K] is G, with K a multiple of LANES; the others are those of `descend`. A bias moves
    by the sum of its filter's row of C. So b - sum C, which stays as it is, is added to all of H(0), and 1 to all of G.
    """
    runs, filters, patches = span.shape
    n, half, rows = observed.shape[1], filters // 2, -(-filters // ROWS) * ROWS
    one, zero = span.dtype.type(1), span.dtype.type(0)
    # Of one run, with rows of zeros to fill the last tile: everything that its steps touch.
    h0, c, products = (
        np.zeros((rows, patches), span.dtype),
        np.zeros((rows, patches), span.dtype),
        np.zeros((rows, patches), span.dtype),
    )
    share, outputs, push = np.zeros(rows, span.dtype), np.zeros(patches, span.dtype), np.zeros(patches, span.dtype)
    pulls, strength = np.zeros(-(-n // LANES) * LANES, span.dtype), np.zeros(n, span.dtype)
    coefficients = np.zeros((COEFFICIENTS, len(pulls)), span.dtype)
    share[:half], share[half:filters] = one / half, -one / half
    depth, wide, g = signals + n, patches - patches % (WIDE * LANES), np.zeros((patches, patches), span.dtype)
    for run in range(runs):
        signal, labels = signal_index[run], observed[run]
        by_sample(slopes[run], labels, coefficients)
        h0[:filters], c[:filters], strength[:] = initial[run], span[run], labels * rate[run]
        g[:] = gram[run]
        if bias.size > 0:
            g += one
            for p in range(filters):
                bias[run, p] -= c[p].sum()
                h0[p] += bias[run, p]
        for factor in factors:
            outputs[:] = zero
            for p in range(0, rows, ROWS):
                for k in range(0, wide, WIDE * LANES):
                    _forward_wide(h0, c, g, share, products, outputs, depth, p, k)
                for k in range(wide, patches, LANES):
                    _forward(h0, c, g, share, products, outputs, depth, p, k)
            for i in range(n):
                pulls[i] = labels[i] * (outputs[signal[i]] + outputs[signals + i])
            turn_into_pulls(form, coefficients, pulls)
            push[:] = zero
            for i in range(n):
                pushed = strength[i] * factor * pulls[i]
                push[signals + i] = pushed
                push[signal[i]] += pushed
            for p in range(0, rows, ROWS):
                for k in range(0, wide, WIDE * LANES):
                    _backward_wide(products, push, share, c, p, k)
                for k in range(wide, patches, LANES):
                    _backward(products, push, share, c, p, k)
        span[run] = c[:filters]
        if bias.size > 0:
            for p in range(filters):
                bias[run, p] += c[p].sum()


@fused
def descend(
    signals: int,
    form: int,
    slopes: np.ndarray,
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
    eta / n times the weight of each sample; `form` and slopes are those of the loss. sigma(z) = max(0, z).

    Loops are split so that the compiler turns each into vector instructions.
    """
    runs, filters, patches = products.shape
    n, half = observed.shape[1], filters // 2
    # In the dtype of the arrays: Python floats would turn all arithmetic on float32 into float64.
    zero, share = products.dtype.type(0), products.dtype.type(1 / half)
    biased = bias.size > 0
    outputs, push = np.empty(patches, products.dtype), np.zeros(patches, products.dtype)
    pulls = np.zeros(-(-n // LANES) * LANES, products.dtype)
    coefficients = np.zeros((COEFFICIENTS, len(pulls)), products.dtype)
    for run in range(runs):
        outputs[:] = zero
        for p in range(filters):
            j = share if p < half else -share
            b = bias[run, p] if biased else zero
            for k in range(patches):
                outputs[k] += j * max(products[run, p, k] + b, zero)
        for i in range(n):
            pulls[i] = observed[run, i] * (outputs[signal_index[run, i]] + outputs[signals + i])  # the margin y~ f
        by_sample(slopes[run], observed[run], coefficients)
        turn_into_pulls(form, coefficients, pulls)
        for i in range(n):
            push[signals + i] = observed[run, i] * rate[run, i] * pulls[i]
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
def write_outputs(
    products: np.ndarray, bias: np.ndarray, signal: np.ndarray, index: np.ndarray, runs: np.ndarray, outputs: np.ndarray
) -> None:
    """Write f of N test samples to the rows `runs` [r] of `outputs` [R, N].

    products [r, P, N] are W X^T of their noise patches, bias [r, P] is added (empty: nothing), signal [r, S] are the outputs
    of the signal patches, and index [N] says which of them each sample has.
    """
    count, filters, samples = products.shape
    half = filters // 2
    zero, share = products.dtype.type(0), products.dtype.type(1 / half)
    for run in range(count):
        row = outputs[runs[run]]
        for i in range(samples):
            row[i] = signal[run, index[i]]
        for p in range(filters):
            j = share if p < half else -share
            b = bias[run, p] if bias.size > 0 else zero
            for i in range(samples):
                row[i] += j * max(products[run, p, i] + b, zero)


@fused
def write_short(
    filters: np.ndarray,
    bias: np.ndarray,
    patches: np.ndarray,
    signal: np.ndarray,
    index: np.ndarray,
    runs: np.ndarray,
    outputs: np.ndarray,
) -> None:
    """The same for filters [r, P, D] of at most SHORT coordinates and the noise patches themselves, [D, N'].

    N' is the next multiple of LANES from N on. No product is ever written to memory.
    """
    count, width, inner = filters.shape
    half, rows, samples, padded = width // 2, -(-width // ROWS) * ROWS, len(index), patches.shape[1]
    w, b, share = np.zeros((rows, inner), filters.dtype), np.zeros(rows, filters.dtype), np.zeros(rows, filters.dtype)
    share[:half], share[half:width] = filters.dtype.type(1 / half), -filters.dtype.type(1 / half)
    row, depth, wide = np.zeros(padded, filters.dtype), np.zeros(rows, np.int64), padded - padded % (WIDE * LANES)
    for run in range(count):
        w[:width] = filters[run]
        if bias.size > 0:
            b[:width] = bias[run]
        for i in range(samples):
            row[i] = signal[run, index[i]]
        for p in range(0, rows, ROWS):
            # In adapted coordinates each filter ends one coordinate after the filter before it.
            depth[p] = inner
            while depth[p] > 0 and not w[p : p + ROWS, depth[p] - 1].any():
                depth[p] -= 1
        for k in range(0, wide, WIDE * LANES):
            for p in range(0, rows, ROWS):
                _test_wide(w, patches, b, share, row, depth[p], p, k)
        for k in range(wide, padded, LANES):
            for p in range(0, rows, ROWS):
                _test(w, patches, b, share, row, depth[p], p, k)
        outputs[runs[run]] = row[:samples]


def load(dtype: np.dtype) -> None:
    """Load the kernels for a dtype, so that processes forked from this one have them."""
    state, gram, bias = np.zeros((0, 2, LANES), dtype), np.zeros((0, LANES, LANES), dtype), np.zeros((0, 0), dtype)
    signal, labels = np.zeros((0, 1), np.int64), np.zeros((0, 1), dtype)
    slopes = np.zeros((0, 2, COEFFICIENTS), dtype)
    descend_small(2, SUM, slopes, np.ones(1, dtype), state, gram, state, bias, signal, labels, labels)
    descend(2, SUM, slopes, state, state, bias, bias, signal, labels, labels)
    none = np.zeros(0, np.int64)
    write_outputs(state, bias, labels, none, none, labels)
    write_short(state, bias, np.zeros((1, LANES), dtype), labels, none, none, labels)
