"""examples/two_stages.py, the model in plain PyTorch, and the package agree on the same vectors."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "examples"))

import two_stages  # noqa: E402

SETTINGS = ("data.n_train=40", "data.n_test=10", "data.dim=300", "model.width=6", "optimizer.lr=0.02", "noise.rate=0.3")


@pytest.mark.parametrize("engine", ["span", "autograd"])
def test_the_example_and_the_engines_train_alike(experiment, engine):
    """Outputs, gamma and rho over 300 steps, in float64."""
    explicit = experiment(*SETTINGS, "precision=float64", "model.init_std=0.01", "engine=autograd").sample()
    one = experiment(*SETTINGS, "precision=float64", f"engine={engine}")
    trained = one.start(explicit)  # the span engine takes any vectors: reduced coordinates are one choice of them
    mu, xi = explicit.patches[0, 0], explicit.patches[0, 2:]
    labels, observed = explicit.labels[0], explicit.observed.at(0)[0]
    steps = list(two_stages.train(mu, xi, labels, observed, explicit.filters[0], 0.02, 300))
    assert len(steps) > 300
    for step, (outputs, filters) in enumerate(steps):
        if step % 50 == 0:
            now = trained.snapshot()
            ours = torch.nn.functional.softplus(-observed * outputs)
            torch.testing.assert_close(now.losses[0], ours.to(now.losses), rtol=1e-9, atol=1e-9)
            gamma, rho = two_stages.signal_and_noise(filters, explicit.filters[0], mu, xi)
            torch.testing.assert_close(now.coefficients.gamma[0], gamma, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(now.coefficients.rho[0], rho, rtol=1e-9, atol=1e-9)
        trained.advance(1)


@pytest.mark.slow
def test_the_example_runs_and_shows_both_stages(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "two_stages.py")], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "memorised" in done.stdout
    assert (tmp_path / "two_stages.png").stat().st_size > 10_000
