"""Speed, as ratios measured in one run: `make bench` writes docs/benchmarks.md."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any


def interleaved(work: Mapping[Any, Callable[[], object]], repeats: int = 5) -> dict[Any, float]:
    """Median wall time of each piece of work, after one round that is not counted.

    Rounds go over all pieces, so that a slow moment of the machine hits all of them alike.
    """
    times: dict[Any, list[float]] = {name: [] for name in work}
    for _ in range(repeats + 1):
        for name, call in work.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: median(values[1:]) for name, values in times.items()}


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median wall time of one piece of work, after one call that is not counted."""
    return interleaved({"": work}, repeats)[""]


def table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"
