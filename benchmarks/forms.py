"""Steps on mini-batches, on more samples than dimensions, and on many samples, against plain autograd and a factorisation."""

from dataclasses import replace
from functools import partial

import torch

from benchmarks import interleaved, table
from benchmarks.engine import compose
from lnt.runs.experiments_from_settings import experiment_from
from lnt.sweeps.hydra_internals import to_plain
from lnt.two_layer.sampled_problem import SampledProblem
from lnt.two_layer.span_engine import SpanEngine
from lnt.two_layer.two_layer_experiment import TwoLayerExperiment

STEPS = 10
BATCHES = (200, 500, 1000, 2000, 5000, 20_000)  # n
SAMPLES = (500, 2000, 8000, 30_000, 100_000)  # n, at d = 100
DIMENSIONS = (250, 500, 1000, 2000, 4000)  # d, at n = 2000
LARGE = {8000: 3, 20_000: 1}  # n, at d = 10^6, and how often it is measured


def one(*overrides: str) -> TwoLayerExperiment:
    """The experiment of a single run."""
    config = compose(*overrides, "data.n_test=1")
    found = experiment_from(to_plain(config, config.hydra.runtime.choices))
    assert isinstance(found, TwoLayerExperiment)
    return found


def milliseconds(runs: dict[tuple[int, str], TwoLayerExperiment]) -> dict[tuple[int, str], float]:
    """Of a step of each run."""
    engines = {name: run.start(run.sample()) for name, run in runs.items()}
    took = interleaved({name: partial(engine.advance, STEPS) for name, engine in engines.items()})
    return {name: time / STEPS * 1e3 for name, time in took.items()}


def against_autograd(sizes: tuple[int, ...], *overrides: str) -> str:
    """A table of step times by n."""
    rows = []
    for n in sizes:  # one after another, since all of them together would not fit in memory
        runs = {(n, engine): one(f"data.n_train={n}", *overrides, f"engine={engine}") for engine in ("span", "autograd")}
        took = milliseconds(runs)
        ours, usual = took[n, "span"], took[n, "autograd"]
        rows.append((f"{n:,}", f"{ours:.3f}", f"{usual:.3f}", f"{usual / ours:.1f}"))
    return table(("n", "span (ms)", "autograd (ms)", "ratio"), rows)


def both_forms() -> str:
    """A table of step times by d, with the form that lnt takes."""
    rows = []
    for dim in DIMENSIONS:
        run = one("data.n_train=2000", f"data.dim={dim}")
        problem, rate = run.sample(), torch.tensor(run.step_size(), dtype=torch.float32)
        none = torch.zeros_like(rate)
        # On vectors of their own length, whatever the coordinates of the problem are.
        forms = {
            "by Gram matrix": SpanEngine(problem, run.model, rate, none, none),
            "on vectors": SpanEngine(explicit(problem, dim), run.model, rate, none, none, on_vectors=True),
        }
        took = interleaved({name: partial(engine.advance, STEPS) for name, engine in forms.items()})
        chosen = "on vectors" if run.on_vectors().all() else "by Gram matrix"
        rows.append((f"{dim:,}", *(f"{took[name] / STEPS * 1e3:.2f}" for name in forms), chosen))
    return table(("d", "by Gram matrix (ms)", "on vectors (ms)", "lnt takes"), rows)


def explicit(problem: SampledProblem, dim: int) -> SampledProblem:
    """A problem of vectors of length d with any values: they do not matter for time."""
    patches = torch.randn(*problem.patches.shape[:2], dim) / dim**0.5
    return replace(problem, patches=patches, filters=torch.randn(*problem.filters.shape[:2], dim) * 1e-3)


def large(n: int, repeats: int) -> str:
    """A whole run of many samples in many dimensions, beside a Cholesky factorisation of its Gram matrix."""
    run = one(f"data.n_train={n}", "data.dim=1000000", "optimizer.steps=10", "recordings=1")
    matrix = torch.eye(n) * n + torch.ones(n, n)

    def whole() -> None:
        engine = run.start(run.sample())
        engine.advance(10)
        engine.snapshot()

    took = interleaved({"run": whole, "product": lambda: torch.linalg.cholesky(matrix)}, repeats)
    return (
        f"n = {n:,}, d = 10^6, 10 steps, drawing and measuring included: {took['run']:.1f} s, "
        f"{took['run'] / took['product']:.1f} times a Cholesky factorisation of an n x n matrix; medians of {repeats}.\n"
    )


def report() -> str:
    """Markdown for docs/benchmarks.md."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    text = "\n".join(
        [
            "## Mini-batches and many samples\n",
            "One run (m = 20), float32, one core. Mini-batches of 32, d = 2000; a step:\n",
            against_autograd(BATCHES, "optimizer=sgd", "optimizer.batch_size=32"),
            "All samples, d = 100; a step:\n",
            against_autograd(SAMPLES, "data.dim=100"),
            "Both forms of the span engine, n = 2000; a step on all samples:\n",
            both_forms(),
            *(large(n, repeats) for n, repeats in LARGE.items()),
        ]
    )
    torch.set_num_threads(threads)
    return text


if __name__ == "__main__":
    print(report())
