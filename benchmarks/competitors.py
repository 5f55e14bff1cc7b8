"""Small runs against other ways to train many of them at once: kou2023's network, 100 steps, one core.

Every competitor starts from the same drawn problems, and its filters are compared with ours before it is timed.
"""

import os

# XLA reads it when it starts: one core, as for the others.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks import interleaved, table
from benchmarks.engine import compose
from lnt.runs.experiments_from_settings import experiment_from
from lnt.sweeps.hydra_internals import to_plain
from lnt.two_layer.network import second_layer
from lnt.two_layer.span_engine import SpanEngine
from lnt.two_layer.two_layer_experiment import TwoLayerExperiment

RUNS, STEPS, DIM = 400, 100, 600  # DIM: the mean over the study's dimensions
AGREEMENT = 1e-3  # largest difference of training outputs, in float32 after 100 steps


class Problems:
    """The same runs for everybody: labels [R, n], signal patches, products of vectors."""

    def __init__(self, experiment: TwoLayerExperiment) -> None:
        self.experiment = experiment
        self.sampled = experiment.sample()
        self.step_size = float(experiment.step_size()[0])
        self.observed, self.index = self.sampled.observed.at(0), self.sampled.signal_index
        self.second_layer = second_layer(self.sampled.filters.shape[1], self.observed)

    def outputs(self, filters: Tensor, bias: Tensor) -> Tensor:
        """f [R, n] of given filters [R, P, D]."""
        z = torch.relu(filters @ self.sampled.patches.mT + bias[..., None])
        by_patch = self.second_layer @ z
        return by_patch[:, 2:] + by_patch.gather(1, self.index)


def ours(problems: Problems, experiment: TwoLayerExperiment) -> Callable[[], Tensor]:
    """The span engine of an experiment, on these problems."""

    def train() -> Tensor:
        engine = experiment.start(problems.sampled)
        assert isinstance(engine, SpanEngine)
        engine.advance(STEPS)
        assert engine.bias is not None
        return problems.outputs(engine.filters(), engine.bias)

    return train


def explicit(problems: Problems) -> Callable[[], Tensor]:
    """All runs as one batch of explicit vectors of length d, with autograd: how one writes it first."""
    assert problems.sampled.bias is not None
    patches = problems.sampled.patches
    signals = patches.gather(1, problems.index[..., None].expand(-1, -1, patches.shape[2]))
    samples = torch.stack([signals, patches[:, 2:]], 2).flatten(1, 2)  # [R, 2 n, D]
    bias = problems.sampled.bias

    def train() -> Tensor:
        w, b = problems.sampled.filters.clone().requires_grad_(), bias.clone().requires_grad_()
        optimizer = torch.optim.SGD([w, b], problems.step_size)
        for _ in range(STEPS):
            optimizer.zero_grad()
            z = torch.relu(torch.baddbmm(b[..., None], w, samples.mT))
            outputs = (problems.second_layer @ z).view(len(w), -1, 2).sum(2)
            torch.nn.functional.softplus(-problems.observed * outputs).mean(1).sum().backward()
            optimizer.step()
        return problems.outputs(w.detach(), b.detach())

    return train


def by_gram(problems: Problems) -> Callable[[], Tensor]:
    """The same reduction to the Gram matrix, with batched PyTorch operations and the gradient by hand."""
    sampled, j = problems.sampled, problems.second_layer
    assert sampled.bias is not None
    start_bias = sampled.bias
    positive = (problems.index == 0).to(problems.observed)
    rate = problems.step_size / problems.observed.shape[1]

    def train() -> Tensor:
        gram, initial = sampled.patches @ sampled.patches.mT, sampled.filters @ sampled.patches.mT
        span, bias = torch.zeros_like(initial), start_bias.clone()
        for _ in range(STEPS):
            z = torch.baddbmm(initial, span, gram) + bias[..., None]
            by_patch = j @ torch.relu(z)
            outputs = by_patch[:, 2:] + by_patch.gather(1, problems.index)
            push = torch.sigmoid(-problems.observed * outputs) * problems.observed * rate
            plus = (push * positive).sum(1, keepdim=True)
            pushes = torch.cat([plus, push.sum(1, keepdim=True) - plus, push], 1)[:, None]
            step = (z > 0) * pushes * j[:, None]
            span += step
            bias += step.sum(2)
        return problems.outputs(sampled.filters + span @ sampled.patches, bias)

    return train


def by_jax(problems: Problems) -> Callable[[], Tensor]:
    """The same again for one run in JAX: jit, scan over steps, vmap over runs. Raises ImportError without JAX."""
    import jax
    from jax import numpy as jnp

    sampled, j = problems.sampled, jnp.asarray(problems.second_layer.numpy())
    assert sampled.bias is not None
    rate = problems.step_size / problems.observed.shape[1]
    arrays = [jnp.asarray(t.numpy()) for t in (sampled.patches, sampled.filters, sampled.bias, problems.observed)]
    index = jnp.asarray(problems.index.numpy())

    def one(patches, filters, bias, observed, index):  # type: ignore[no-untyped-def]
        gram, initial = patches @ patches.T, filters @ patches.T

        def step(state, _):  # type: ignore[no-untyped-def]
            span, bias = state
            z = initial + span @ gram + bias[:, None]
            by_patch = j @ jax.nn.relu(z)
            push = jax.nn.sigmoid(-observed * (by_patch[2:] + by_patch[index])) * observed * rate
            pushes = jnp.concatenate([jnp.zeros(2).at[index].add(push), push])
            moved = jnp.where(z > 0, pushes * j[:, None], 0)
            return (span + moved, bias + moved.sum(1)), None

        (span, bias), _ = jax.lax.scan(step, (jnp.zeros_like(initial), bias), None, STEPS)
        return filters + span @ patches, bias

    compiled = jax.jit(jax.vmap(one))

    def train() -> Tensor:
        filters, bias = (torch.tensor(np.asarray(found)) for found in compiled(*arrays, index))
        return problems.outputs(filters, bias)

    return train


def without_kernel(problems: Problems) -> Callable[[], Tensor]:
    """The span engine by its batched operations alone, which CUDA and losses without a `slope` use."""

    def train() -> Tensor:
        engine = problems.experiment.start(problems.sampled)
        assert isinstance(engine, SpanEngine)
        engine._slope = None
        engine.advance(STEPS)
        assert engine.bias is not None
        return problems.outputs(engine.filters(), engine.bias)

    return train


def problems(engine: str, loss: str = "logistic") -> Problems:
    """Runs of kou2023; engine=autograd draws vectors of length d."""
    fixed = (f"data.dim={DIM}", "data.signal_norm=5", "data.n_test=1")
    config = compose("experiment=kou2023", f"engine={engine}", f"loss={loss}", *fixed)
    plain = to_plain(config, config.hydra.runtime.choices)
    found = experiment_from(plain | {"seed": np.arange(RUNS)}, RUNS)
    assert isinstance(found, TwoLayerExperiment)
    return Problems(found)


def another_loss(loss: str = "forward") -> str:
    """A line on a loss whose slope depends on the label."""
    found = problems("span", loss)
    train = {"kernel": ours(found, found.experiment), "batched": without_kernel(found)}
    assert float((train["kernel"]() - train["batched"]()).abs().max()) < AGREEMENT, "the kernel trains something else"
    took = interleaved(train)
    kernel, batched = (took[name] / RUNS * 1e6 for name in train)
    return f"With `loss={loss}` lnt takes {kernel:.0f} us; without its kernel {batched / kernel:.1f} times that.\n"


def report() -> str:
    """Markdown for docs/benchmarks.md."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    reduced, full = problems("span"), problems("autograd")
    train, reference = (
        {"lnt": ours(reduced, reduced.experiment), "batched Gram matrices, PyTorch": by_gram(reduced)},
        ours(reduced, reduced.experiment)(),
    )
    unavailable = ""
    try:
        train["batched Gram matrices, JAX (jit, vmap, scan)"] = by_jax(reduced)
    except ImportError:
        unavailable = "JAX is not installed here (`pip install jax`).\n"
    train["batched vectors of length d, PyTorch autograd"] = explicit(full)
    for name, call in train.items():
        wanted = ours(full, reduced.experiment)() if "autograd" in name else reference
        assert float((call() - wanted).abs().max()) < AGREEMENT, f"{name} trains something else"
    took = interleaved(train)
    rows = [(name, f"{time / RUNS * 1e6:.0f}", f"{time / took['lnt']:.1f}") for name, time in took.items()]
    another = another_loss()
    torch.set_num_threads(threads)
    return "\n".join(
        [
            "## Small runs against other programs\n",
            f"{RUNS} runs of kou2023 (n = 20, m = 10, biases, {STEPS} steps; d = {DIM} where it counts), from drawn vectors to",
            "outputs on the training set, float32, one core; microseconds for one run. All train the same networks: outputs",
            f"agree within {AGREEMENT}.\n",
            table(("program", "us", "ratio to lnt"), rows),
            another,
            unavailable,
        ]
    )


if __name__ == "__main__":
    print(report())
