"""The kernels for CPUs beside the same formulas in NumPy."""

import numba
import numpy as np
import pytest

from lnt.two_layer import kernels, vector_code

slopes = vector_code.logistic()


@numba.njit(error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def logistic_slopes(values: np.ndarray) -> None:
    """As in `descend_small`."""
    for i in range(0, len(values), vector_code.LANES):
        slopes(values, i)


@pytest.mark.parametrize(("dtype", "largest"), [(np.float32, 80), (np.float64, 700)])
def test_the_slope_of_the_logistic_loss_has_few_units_of_rounding(dtype: type, largest: float) -> None:
    margins = np.linspace(-largest, largest, 8000).astype(dtype)
    found = margins.copy()
    logistic_slopes(found)
    exact = 1 / (1 + np.exp(margins.astype(np.longdouble)))
    # The number log 2 is rounded, and taken margin / log 2 times.
    assert (np.abs(found / exact - 1) < np.finfo(dtype).eps * (10 + np.abs(margins))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slopes_of_infinite_and_missing_margins(dtype: type) -> None:
    values = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30, 0, 0, 0], dtype)
    logistic_slopes(values)
    assert np.isnan(values[2])
    np.testing.assert_allclose(values[[0, 1, 3, 4, 5]], [0, 1, 0, 1, 0.5], atol=1e-37)


@pytest.mark.parametrize("samples", [1, 24, 61])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_outputs_on_short_test_patches(samples: int, width: int, biased: bool) -> None:
    rng, filters, inner = np.random.default_rng(0), 2 * width, 11
    w = rng.standard_normal((3, filters, inner))
    w[:, 0, 4:] = 0  # as in adapted coordinates, where a filter ends early
    w[1, 1, 2] = np.nan
    bias = rng.standard_normal((3, filters)) if biased else np.zeros((0, 0))
    patches, signal, index = rng.standard_normal((inner, samples)), rng.standard_normal((3, 2)), rng.integers(2, size=samples)
    outputs = np.full((5, samples), 7.0)
    padded = np.pad(patches, ((0, 0), (0, -samples % kernels.LANES)))
    kernels.write_short(w, bias, padded, signal, index, np.array([4, 0, 2]), outputs)
    z = np.maximum(w @ patches + (bias[..., None] if biased else 0), 0)
    expected = signal[:, index] + z[:, :width].mean(1) - z[:, width:].mean(1)
    np.testing.assert_allclose(outputs[[4, 0, 2]], expected, rtol=1e-12)
    assert np.isnan(outputs[0]).all()
    assert (outputs[[1, 3]] == 7).all()
