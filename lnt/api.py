"""`lnt.simulate` and `lnt.load`: runs and results from Python."""

from collections.abc import Iterable, Mapping
from typing import Any

from lnt.analysis.load import from_memory
from lnt.analysis.results import Results, load
from lnt.errors import ConfigError
from lnt.runs.simulate import Given, simulated

__all__ = ["Results", "load", "simulate"]


def simulate(
    data: Given = None,
    noise: Given = None,
    model: Given = None,
    loss: Given = None,
    optimizer: Given = None,
    strategy: Given = None,
    *,
    seed: int = 0,
    seeds: Mapping[str, int] | None = None,
    over: Mapping[str | tuple[str, ...], Iterable[Any]] | None = None,
    workers: int = 1,
    progress: bool = True,
    **settings: Any,
) -> Results:
    """Train runs and return their results; the same numbers and run_ids as from the command line, nothing is written.

    A component is an object such as lnt.Symmetric(0.2), the name of an option such as "symmetric", or None for the default (on
    images another model and optimizer than on signal-noise data). `over` names what is swept: a key of the command line and its
    values, {"noise.rate": [0, 0.1], "seed": range(10)}; a group and its options, {"noise": ["none", lnt.Pair(0.2)]}; or keys
    that advance together, {("data.dim", "data.snr"): [(100, 0.3), (1000, 0.1)]}. Runs are packed as in a sweep, and `workers`
    processes share them. Further settings are the top-level keys of conf/config.yaml: engine="autograd", precision="float64",
    recordings=20. `seeds` gives single random streams (data, noise, init, order, test) a seed of their own.

    Raises ConfigError before any work starts if a setting cannot be used, and afterwards if no run completed: its message has
    the error of the first one, and the log has the traceback.
    """
    components = {"data": data, "noise": noise, "model": model, "loss": loss, "optimizer": optimizer, "strategy": strategy}
    found = simulated(components, {"seed": seed, **settings}, seeds or {}, over or {}, workers, progress)
    results = Results(**vars(from_memory(*found.tables, found.plan)))
    if results.runs.empty and results.diverged.empty:
        raise ConfigError("runs", len(results.failed), f"all failed; the first one: {results.failed['error'].iloc[0]}")
    return results
