"""The two stages of learning with label noise, in plain PyTorch and nothing else.

A two-layer ReLU CNN learns signal-noise data, some labels of which are wrong. In Stage I the network learns the signal, fits
the correctly labelled samples, and predicts the true labels of the mislabelled ones. In Stage II it memorises the noise
patches of the mislabelled samples, and the test error rises.

This file repeats the model of the package from its equations, so it can serve as an independent check.
Model: Han et al., "On the Role of Label Noise in the Feature Learning Process", ICML 2025. The settings in `main` are ours.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import softplus


def sample(
    n: int, dim: int, signal_norm: float, noise_std: float, flip_rate: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw n samples with patches y mu and xi, where mu = |mu| e_1 and xi ~ N(0, s^2 I_d).

    Half of the true labels y are -1, the others +1. The observed label y~ is -y for a share `flip_rate` of each class, and y
    otherwise. The patches xi are drawn alike for all samples, so it does not matter which ones are flipped: we flip the first.
    Returns mu [d], xi [n, d], labels y [n] and observed labels y~ [n].
    """
    mu = torch.zeros(dim, dtype=torch.float64)
    mu[0] = signal_norm
    xi = noise_std * torch.randn(n, dim, generator=generator, dtype=torch.float64)
    labels = torch.ones(n, dtype=torch.float64)
    labels[: n // 2] = -1
    observed = labels.clone()
    for label in (-1, 1):
        members = (labels == label).nonzero()
        observed[members[: round(flip_rate * len(members))]] *= -1
    return mu, xi, labels, observed


def filter_signs(filters: Tensor) -> Tensor:
    """j [2m] of the filters [2m, d]: the first m count +1, the last m count -1."""
    m = len(filters) // 2
    return torch.cat([filters.new_ones(m), -filters.new_ones(m)])


def network(filters: Tensor, mu: Tensor, xi: Tensor, labels: Tensor) -> Tensor:
    """f(x) = (1/m) sum_{j,r} j [relu(<w_{j,r}, y mu>) + relu(<w_{j,r}, xi>)], one output per sample, [n].

    Takes filters [2m, d], mu [d], xi [n, d] and true labels y [n]. The second layer j/m is fixed.
    """
    signal = torch.outer(labels, filters @ mu)  # <w, y mu> = y <w, mu>, [n, 2m]
    noise = xi @ filters.T  # [n, 2m]
    return (signal.relu() + noise.relu()) @ filter_signs(filters) / (len(filters) // 2)


def train(
    mu: Tensor, xi: Tensor, labels: Tensor, observed: Tensor, filters: Tensor, lr: float, steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Full-batch gradient descent on L(W) = (1/n) sum_i log(1 + exp(-y~_i f(x_i))):  W <- W - lr grad L(W).

    Takes mu [d], xi [n, d], labels y [n], observed labels y~ [n] and w(0) = filters [2m, d].
    Yields the training outputs f [n] and the filters [2m, d] at each of the steps 0, 1, .., `steps`.
    """
    for _ in range(steps + 1):
        filters = filters.detach().requires_grad_()
        outputs = network(filters, mu, xi, labels)
        yield outputs.detach(), filters.detach()
        loss = softplus(-observed * outputs).mean()  # only the loss sees the observed labels
        filters = filters - lr * torch.autograd.grad(loss, filters)[0]


def signal_and_noise(filters: Tensor, initial: Tensor, mu: Tensor, xi: Tensor) -> tuple[Tensor, Tensor]:
    """Signal learning gamma [2m] and noise memorisation rho [2m, n] of the filters [2m, d].

    w_{j,r}(t) = w_{j,r}(0) + j gamma_{j,r} mu / |mu|^2 + sum_i rho_{j,r,i} xi_i / |xi_i|^2
    Every gradient lies in the span of mu [d] and the rows of xi [n, d], so least squares leaves no residual. The
    coefficients are unique while these n + 1 vectors are linearly independent.
    """
    patches = torch.cat([mu[None], xi])  # [1 + n, d]
    span = torch.linalg.lstsq(patches.T, (filters - initial).T).solution.T  # [2m, 1 + n]
    scaled = span * patches.square().sum(1)
    return filter_signs(filters) * scaled[:, 0], scaled[:, 1:]


def first_step(reached: Tensor, steps: Tensor) -> float:
    """First of the `steps` [T] at which `reached` [T] holds; NaN if it never does."""
    return min(steps[reached].tolist(), default=math.nan)


def draw(table: Tensor, path: str) -> None:
    """Plot the `table` that `main` fills, [measurements, 7], with dotted lines where the stages end."""
    import matplotlib.pyplot as plt  # here, because the model does not need it

    at, fit, wrong_fit, noise, wrong_noise, signal, error = table.T
    green, orange, blue = "#009E73", "#D55E00", "#0072B2"  # safe for colour-blind readers
    figure, axes = plt.subplots(3, sharex=True, figsize=(5, 6.5), layout="constrained")
    axes[0].plot(at, fit, color=green, label="clean samples")
    axes[0].plot(at, wrong_fit, color=orange, label="mislabelled samples")
    axes[1].plot(at, noise, color=green)  # rho of the clean samples
    axes[1].plot(at, wrong_noise, color=orange)
    axes[1].plot(at, signal, color=blue, label=r"signal, $\gamma$")
    axes[2].plot(at, error, color="black")
    names = ("accuracy\n(observed labels)", r"largest $\gamma$ or $\rho$", "test error\n(true labels)")
    for ax, name in zip(axes, names, strict=True):
        ax.axvline(first_step(fit == 1, at), color=green, linestyle=":", linewidth=1)
        ax.axvline(first_step(wrong_fit == 1, at), color=orange, linestyle=":", linewidth=1)
        ax.set_ylabel(name)
    axes[0].set_title("dotted: all clean samples fitted, all mislabelled samples memorised", fontsize="small")
    axes[1].set_yscale("log")
    axes[2].set(xscale="log", xlim=(1, at[-1]), xlabel="gradient step")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train one network, print when each stage ends, and draw `two_stages.png` in the current directory."""
    torch.set_num_threads(1)  # the matrices are small: more threads gain little, and slow down a busy machine
    generator = torch.Generator().manual_seed(0)
    dim, m, norm, steps = 1500, 10, 18.0, 1500  # n SNR^2 (1 - 2 flip_rate) = 4.3 allows for a complete Stage I
    mu, xi, labels, observed = sample(100, dim, norm, 1.0, 0.4, generator)
    _, test_xi, test_labels, _ = sample(2000, dim, norm, 1.0, 0.0, generator)  # the same mu, fresh noise
    initial = 0.001 * torch.randn(2 * m, dim, generator=generator, dtype=torch.float64)
    clean = observed == labels

    measured = set(torch.logspace(0, math.log10(steps), 120).round().int().tolist())  # evenly spaced on the log axis
    rows = []
    for step, (outputs, filters) in enumerate(train(mu, xi, labels, observed, initial, lr=0.005, steps=steps)):
        if step in measured:
            fitted = (outputs.sign() == observed).double()
            gamma, rho = signal_and_noise(filters, initial, mu, xi)
            # The largest rho of a sample belongs to a filter with j = y~: where j = -y~, gradients only lower it.
            largest = [rho[:, clean].max(), rho[:, ~clean].max(), gamma.max()]
            wrong = network(filters, mu, test_xi, test_labels).sign() != test_labels
            rows.append([step, fitted[clean].mean(), fitted[~clean].mean(), *largest, wrong.double().mean()])
    table = torch.tensor(rows, dtype=torch.float64)
    at, fit, wrong_fit, noise, wrong_noise, signal, error = table.T

    print(f"step {first_step(fit == 1, at):.0f}: all {clean.sum()} clean samples are fitted")
    print(f"step {at[wrong_fit.argmin()]:.0f}: {1 - wrong_fit.min():.0%} of the mislabelled are predicted as their true label")
    print(f"step {first_step(torch.maximum(noise, wrong_noise) > signal, at):.0f}: the largest rho overtakes the largest gamma")
    print(f"step {first_step(wrong_fit == 1, at):.0f}: all {(~clean).sum()} mislabelled samples are memorised")
    print(f"test error: {error.min():.2%} at best, {error[-1]:.2%} at step {steps}")
    draw(table, "two_stages.png")


if __name__ == "__main__":
    main()
