"""The decomposition holds where theory says so, and is refused where it does not."""

import numpy as np
import pytest
import torch

from lnt.column_names import METRICS
from lnt.training.loop import train
from lnt.two_layer.coefficients import decompose

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
    assert decompose(inside, initial, torch.ones(1), rows, 1).residual < 1e-12
    assert decompose(inside + torch.randn(inside.shape, generator=rng), initial, torch.ones(1), rows, 1) is None


def test_dependent_rows_are_refused():
    rows, initial = torch.randn(1, 6, 5, dtype=torch.float64), torch.randn(1, 4, 5, dtype=torch.float64)
    assert decompose(initial, initial, torch.ones(1), rows, 1) is None, "more vectors than dimensions"


def test_adam_has_no_coefficients_but_everything_else(experiment):
    settings = ("data.n_train=20", "data.dim=100", "data.n_test=50", "optimizer=adam", "optimizer.epochs=5")
    values = train(experiment(*settings)).values
    names = [name for name, column in zip(METRICS, values.swapaxes(0, 1), strict=True) if np.isnan(column).all()]
    assert names == [
        m for m in METRICS if "coef" in m or m in ("overtaken_share", "decomposition_residual", "stopping_criterion")
    ]


@pytest.mark.parametrize("engine", ["span", "autograd"])
def test_residual_stays_at_rounding(experiment, engine):
    values = train(experiment("data.n_train=30", "data.dim=200", "optimizer.steps=300", f"engine={engine}")).values
    assert np.nanmax(values[:, METRICS.index("decomposition_residual")]) < 1e-5
    assert np.isfinite(values[:, SIGNAL]).all()
