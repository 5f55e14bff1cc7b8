"""The decomposition holds where theory says so, and is refused where it does not."""

import numpy as np
import pytest
import torch

from lnt.column_names import METRICS
from lnt.training.loop import train
from lnt.two_layer.coefficients import decompose, from_span

SIGNAL = METRICS.index("signal_coef")


def test_coefficients_rebuild_the_filters(experiment):
    batch = experiment("data.n_train=20", "data.dim=100", "precision=float64", "optimizer.weight_decay=0.1", "model.bias=true")
    engine = batch.start(problem := batch.sample())
    engine.advance(100)
    found = engine.snapshot().coefficients
    signs = torch.tensor([1.0] * 20 + [-1.0] * 20, dtype=torch.float64)
    mu, xi = problem.patches[:, :1], problem.patches[:, 2:]
    rebuilt = engine.decay[:, None, None] * problem.filters
    rebuilt = rebuilt + (signs * found.gamma)[..., None] * mu / mu.square().sum(-1, keepdim=True)
    rebuilt = rebuilt + found.rho @ (xi / xi.square().sum(-1, keepdim=True))
    np.testing.assert_allclose(rebuilt, engine.filters(), atol=1e-12)
    assert float(engine.decay) == pytest.approx((1 - 0.01 * 0.1) ** 100)


def test_filters_outside_the_span_are_refused():
    rng = torch.Generator().manual_seed(0)
    rows, initial = (torch.randn(1, k, 50, generator=rng, dtype=torch.float64) for k in (5, 4))
    inside = initial + torch.randn(1, 4, 5, generator=rng, dtype=torch.float64) @ rows
    assert decompose(inside, initial, torch.ones(1), rows, 1, (0, 1)).residual < 1e-12
    assert decompose(inside + torch.randn(inside.shape, generator=rng), initial, torch.ones(1), rows, 1, (0, 1)) is None


def test_dependent_rows_are_refused():
    rows, initial = torch.randn(1, 6, 5, dtype=torch.float64), torch.randn(1, 4, 5, dtype=torch.float64)
    assert decompose(initial, initial, torch.ones(1), rows, 1, (0, 1)) is None, "more vectors than dimensions"


def test_adam_has_no_coefficients_but_everything_else(experiment):
    settings = ("data.n_train=20", "data.dim=100", "data.n_test=50", "optimizer=adam", "optimizer.epochs=5")
    values = train(experiment(*settings)).values
    names = [name for name, column in zip(METRICS, values.swapaxes(0, 1), strict=True) if np.isnan(column).all()]
    assert names == [
        m
        for m in METRICS
        if "coef" in m or m in ("overtaken_share", "decomposition_residual", "stopping_criterion", "test_error_rare")
    ]


@pytest.mark.parametrize("engine", ["span", "autograd"])
def test_residual_stays_at_rounding(experiment, engine):
    values = train(experiment("data.n_train=30", "data.dim=200", "optimizer.steps=300", f"engine={engine}")).values
    assert np.nanmax(values[:, METRICS.index("decomposition_residual")]) < 1e-5
    assert np.isfinite(values[:, SIGNAL]).all()


# By hand. Two filters of each sign where there is one signal direction, two of each sign on xor.


def double(rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_coefficients_of_a_span_by_hand():
    """C = j gamma / |mu|^2 and rho / |xi|^2, with |mu|^2 = 4, |xi_1|^2 = 9, |xi_2|^2 = 2; run 1 with 1, 1, 10."""
    span = double(
        [
            [[0.5, 1, 0], [-0.25, 0, 3], [0.75, 2, -1], [-1, 0, 0.5]],
            [[1, 0.1, 0.2], [2, 0.3, 0.4], [3, 0.5, 0.6], [4, 0.7, 0.8]],
        ]
    )
    residual = double([0.5, 0.25])
    found = from_span(span, double([[4, 9, 2], [1, 1, 10]]), residual, 1, (0, 1))
    # Filters 0 and 1 have j = +1, filters 2 and 3 have j = -1.
    assert found.gamma.tolist() == [[2, -1, -3, 4], [1, 2, -3, -4]]
    wanted = [[[9, 0], [0, 6], [18, -2], [0, 1]], [[0.1, 2], [0.3, 4], [0.5, 6], [0.7, 8]]]
    np.testing.assert_allclose(found.rho, wanted, rtol=1e-15)
    assert found.residual.tolist() == [0.5, 0.25]


def test_coefficients_on_two_signal_directions_by_hand():
    """gamma is |coefficient of u| for j = +1, |coefficient of v| for j = -1; |u|^2 = 4, |v|^2 = 16, |xi|^2 = 3."""
    span = double([[[0.5, 9, 1], [-0.25, 9, 2], [9, 0.5, -1], [9, -1, 0.5]]])
    found = from_span(span, double([[4, 16, 3]]), double([0]), 2, (0, 0, 1, 1))
    assert found.gamma.tolist() == [[2, 1, 8, 16]]
    assert found.rho.tolist() == [[[3], [6], [-3], [1.5]]]


def test_coefficients_of_classes_and_of_features_by_hand():
    """|mu_1|^2 = 4, |mu_2|^2 = 16, |xi|^2 = 3. Of classes each has its own signal; of features the largest of both counts."""
    span, norms = double([[[0.5, 9, 1], [-0.25, 9, 2], [9, 0.5, -1], [9, -1, 0.5]]]), double([[4, 16, 3]])
    assert from_span(span, norms, double([0]), 2, (0, 1)).gamma.tolist() == [[2, -1, 8, -16]]
    assert from_span(span, norms, double([0]), 2, (0, 1, 0, 1)).gamma.tolist() == [[144, 144, -8, 16]]


# mu and xi are not orthogonal: <mu, xi> = 2, |mu|^2 = 4, |xi|^2 = 10.
ROWS = [[2, 0, 0], [1, 3, 0]]
INITIAL = [[0.5, -1, 2], [1, 1, -4]]  # of the filters with j = +1 and j = -1
# With gamma = 6, rho = 5 for j = +1, gamma = -2, rho = -10 for j = -1, and a = 1/2:
#   w_+ = (0.25, -0.5, 1) + 6/4 (2, 0, 0) + 5/10 (1, 3, 0) = (3.75, 1, 1)
#   w_- = (0.5, 0.5, -2) + 2/4 (2, 0, 0) - 10/10 (1, 3, 0) = (0.5, -2.5, -2)
FILTERS = [[3.75, 1, 1], [0.5, -2.5, -2]]


def test_filters_are_decomposed_by_hand():
    found = decompose(*map(double, ([FILTERS], [INITIAL], [0.5], [ROWS])), 1, (0, 1))
    np.testing.assert_allclose(found.gamma, [[6, -2]], rtol=1e-14)
    np.testing.assert_allclose(found.rho, [[[5], [-10]]], rtol=1e-14)
    assert found.residual.tolist() == pytest.approx([0], abs=1e-15)


def test_before_the_first_step_nothing_has_moved():
    found = decompose(*map(double, ([INITIAL], [INITIAL], [1], [ROWS])), 1, (0, 1))
    assert found.gamma.tolist() == [[0, 0]]
    assert found.rho.tolist() == [[[0], [0]]]
    assert found.residual.tolist() == [0]


@pytest.mark.parametrize(("outside", "allowed"), [(1.4e-8, True), (1.5e-8, False)])
def test_the_residual_is_the_share_outside_the_span_and_may_be_as_large_as_rounding(outside, allowed):
    """sqrt of the spacing of doubles at 1 is 1.49e-8. Run 0 has moved by (0.3, 0, 0) and (0, 0, 0.3 outside)."""
    filters = double([[[0.3, 0, 0], [0, 0, 0.3 * outside]], [[1, 0, 0], [1, 0, 0]]])
    found = decompose(filters, 0 * filters, torch.ones(2, dtype=torch.float64), double([ROWS, ROWS]), 1, (0, 1))
    assert (found is not None) == allowed, "one run is enough to refuse"
    if allowed:
        np.testing.assert_allclose(found.residual, [outside, 0], rtol=1e-7)


def test_the_residual_is_a_share_of_what_has_moved_and_not_of_the_filters():
    """Filters of length 5, of which half is left; one has moved by (0.3, 0, 0), the other by 3e-9 outside the span."""
    initial, moved = double([[[0, 3, 4], [0, 3, 4]]]), double([[[0.3, 0, 0], [0, 0, 3e-9]]])
    found = decompose(initial / 2 + moved, initial, double([0.5]), double([ROWS]), 1, (0, 1))
    np.testing.assert_allclose(found.residual, [3e-9 / 0.3], rtol=1e-5)


def test_what_is_parallel_is_refused_and_what_is_only_short_is_not():
    """In one run of two; with as many rows as dimensions a decomposition exists."""
    short = [[1e-9, 1e-9], [1e6, -1e6]]
    one = torch.ones(2, dtype=torch.float64)
    nothing = torch.zeros(2, 2, 2, dtype=torch.float64)
    assert decompose(nothing, nothing, one, double([short, short]), 1, (0, 1)) is not None
    for parallel in ([[1, 2], [2, 4]], [[0, 0], [1, 2]]):
        assert decompose(nothing, nothing, one, double([short, parallel]), 1, (0, 1)) is None
