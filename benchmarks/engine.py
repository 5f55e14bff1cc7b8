"""The span engine against an explicit simulation in d dimensions, and against the machine's own matrix product."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import hydra
import numpy as np
import torch
from hydra import initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor

import lnt.cli  # noqa: F401  the resolvers of conf/
from benchmarks import interleaved, seconds, table
from lnt.runs.experiments_from_settings import experiment_from
from lnt.sweeps.hydra_internals import to_plain
from lnt.training.experiment import Experiment
from lnt.two_layer.activations import Activation
from lnt.two_layer.network import second_layer
from lnt.two_layer.sampled_problem import SampledProblem
from lnt.two_layer.span_engine import SpanEngine

CONF = str(Path(__file__).parents[1] / "conf")
RUNS, STEPS = 64, 30


def compose(*overrides: str) -> DictConfig:
    """The configuration that train.py would see, with Hydra's own node."""
    with initialize_config_dir(CONF, version_base="1.3"):
        return hydra.compose("config", list(overrides), return_hydra_config=True)


def experiment(*overrides: str, runs: int = RUNS) -> Experiment:
    """The default experiment (n = 200, m = 20) for seeds 0 .. runs - 1."""
    config = compose(*overrides, "data.n_test=1")
    return experiment_from(to_plain(config, config.hydra.runtime.choices) | {"seed": np.arange(runs)}, runs)


class Explicit:
    """The same training on vectors of length d, batched over runs and written with equal care: 2 P K d multiply-adds a step."""

    def __init__(self, problem: SampledProblem, dim: int, step_size: float) -> None:
        runs, patches, _ = problem.patches.shape
        self.patches = torch.randn(runs, patches, dim)  # values do not matter for time
        self.filters = torch.randn(runs, problem.filters.shape[1], dim) * 1e-3
        self.observed, self.signal_index = problem.observed.at(0), problem.signal_index
        self.positive = (problem.labels > 0).to(self.patches)
        self.second_layer, self.step_size = second_layer(self.filters.shape[1], self.filters), step_size
        self.products, self.scratch = (torch.empty(runs, self.filters.shape[1], patches) for _ in range(2))

    def step(self) -> None:
        torch.bmm(self.filters, self.patches.mT, out=self.products)
        by_patch = self.second_layer @ Activation().value(self.products, out=self.scratch)
        outputs = by_patch[:, 2:] + by_patch.gather(1, self.signal_index)
        push = torch.sigmoid(-self.observed * outputs) * self.observed * (self.step_size / outputs.shape[1])
        positive = torch.linalg.vecdot(push, self.positive)[:, None]
        push_by_patch = torch.cat([positive, push.sum(1, keepdim=True) - positive, push], 1)[:, None]
        slopes = Activation().slope(self.products, out=self.scratch).mul_(push_by_patch).mul_(self.second_layer[:, None])
        self.filters.baddbmm_(slopes, self.patches)


def advance(engines: list[SpanEngine], steps: int) -> None:
    """Take `steps` steps of all runs, chunk after chunk as train.py does."""
    for engine in engines:
        engine.advance(steps)


def engines(*overrides: str) -> list[SpanEngine]:
    """The engines of all chunks."""
    return [chunk.start(chunk.sample()) for chunk in experiment(*overrides).chunks()]


def compiled_share(chunks: list[SpanEngine], product: float) -> str:
    """Time of a step under torch.compile, where a C++ compiler is at hand."""

    def step(
        span: Tensor, initial: Tensor, gram: Tensor, observed: Tensor, positive: Tensor, index: Tensor, j: Tensor
    ) -> Tensor:
        z = torch.baddbmm(initial, span, gram)
        by_patch = j @ torch.relu(z)
        n = observed.shape[1]
        push = torch.sigmoid(-observed * (by_patch[:, 2 : 2 + n] + by_patch.gather(1, index))) * observed * 5e-5
        plus = (push * positive).sum(1, keepdim=True)
        by_patch = torch.cat([plus, push.sum(1, keepdim=True) - plus, push], 1)
        by_patch = torch.nn.functional.pad(by_patch, (0, z.shape[2] - by_patch.shape[1]))[:, None]
        return span + (z > 0) * by_patch * j[:, None]

    try:
        compiled = torch.compile(step)
        signals = [(e.problem.signal_index == 0).float() for e in chunks]
        arguments = [
            (e.span, e.initial, e.gram, e.problem.observed.at(0), positive, e.problem.signal_index, e._first_weights)
            for e, positive in zip(chunks, signals, strict=True)
        ]
        time = seconds(lambda: [compiled(*chunk) for chunk in arguments for _ in range(STEPS)])
    except Exception as error:
        return f"not available here ({type(error).__name__})"
    return f"{product / (time / STEPS / RUNS):.0%}"


def report() -> str:
    """Markdown for docs/benchmarks.md. Everything computes on one core, as the workers of a sweep do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ours = {dim: engines(f"data.dim={dim}") for dim in (1_000, 2_000, 20_000, 1_000_000)}
    explicit = {dim: Explicit(experiment().sample(), dim, 0.01) for dim in (2_000, 20_000)}
    work: dict[object, Callable[[], object]] = {dim: partial(advance, chunks, STEPS) for dim, chunks in ours.items()}
    work |= {("explicit", dim): simulation.step for dim, simulation in explicit.items()}
    work["product"] = lambda: [torch.bmm(chunk.span, chunk.gram) for chunk in ours[2_000] for _ in range(STEPS)]
    took = interleaved(work)
    cost = {name: time / RUNS / (1 if isinstance(name, tuple) else STEPS) for name, time in took.items()}
    rows = []
    for dim in ours:
        slow = cost.get(("explicit", dim))
        versus = (f"{slow * 1e6:.0f}", f"{slow / cost[dim]:.0f}") if slow else ("-", "-")
        rows.append((f"{dim:,}", f"{cost[dim] * 1e6:.1f}", *versus))
    product = cost["product"]
    text = "\n".join(
        [
            "## Cost of a gradient step\n",
            f"Default experiment (n = 200, m = 20), {RUNS} runs in chunks as train.py makes them, float32, on one core, as",
            "every worker process of a sweep computes; microseconds for one step of one run.",
            "`explicit` is a batched simulation on vectors of length d, written with the same operations.\n",
            table(("d", "span", "explicit", "explicit / span"), rows),
            f"d = 10^6 against d = 10^3: {cost[1_000_000] / cost[1_000] - 1:+.1%}.\n",
            f"Share of the machine's own batched matrix product ({product * 1e6:.1f} us for C G): {product / cost[2_000]:.0%}; "
            f"the same step under torch.compile: {compiled_share(ours[2_000], product)}.\n",
        ]
    )
    torch.set_num_threads(threads)
    return text
