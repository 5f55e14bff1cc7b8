"""Independent random streams, drawn once for all the runs that share a seed.

Every number drawn depends on its stream, its seed, its key (say, the dimension) and the sizes that are drawn: not on the batch
that a run trains in, not on the device, not on rates. So changing `noise.rate` changes neither data nor weights, and a run
trained alone repeats the run of a sweep; changing `model.width` or `data.n_train` changes both.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np

from lnt import hardware
from lnt.errors import require
from lnt.settings import Component, PerRunInt


@dataclass(frozen=True)
class Seeds(Component):
    """One seed for each random stream; integers >= 0, shared or one for each run."""

    data: PerRunInt
    noise: PerRunInt
    init: PerRunInt
    order: PerRunInt
    test: PerRunInt

    def validate(self) -> None:
        for name in STREAMS:
            value = getattr(self, name)
            require(is_seed(value), name, value, "must be an integer from 0 to 2^62")


def is_seed(value: object) -> np.ndarray:
    """Whether each of the values can seed a stream."""
    return (np.asarray(value) >= 0) & (np.asarray(value) <= 2**62)


THREADS_FROM_BYTES = 2**18
# The order of the fields is part of every seed (see `generator`): a new stream goes to the end.
STREAMS = tuple(field.name for field in fields(Seeds))


def generator(stream: str, seed: int, *key: int) -> np.random.Generator:
    """The generator of `stream` under `seed`; different keys give independent generators."""
    sequence = np.random.SeedSequence(seed, spawn_key=(STREAMS.index(stream), *key))
    return np.random.Generator(np.random.SFC64(sequence))


def sample_per_run(keys: np.ndarray, draw: Callable[..., tuple]) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Call `draw(*key)` once for each distinct row of `keys` [R, ...].

    Returns the draws, each stacked to [U, ...], and for each run the row of its draw, [R]. Large draws share the cores
    (numpy lets go of the interpreter lock); for small ones threads cost more than they give.
    """
    unique, index = np.unique(keys, axis=0, return_inverse=True)
    first, *rest = unique.tolist()
    # The first draw shows how large the others are, and so whether threads are worth it.
    draws = [draw(*first)]
    if sum(part.nbytes for part in draws[0]) > THREADS_FROM_BYTES:
        with ThreadPoolExecutor(hardware.cores()) as pool:
            draws += pool.map(lambda key: draw(*key), rest)
    else:
        draws += [draw(*key) for key in rest]
    # reshape: NumPy 2.0 returns the inverse with a further axis where `axis` is given.
    # One draw is not copied: it may take most of the memory.
    stacked = (parts[0][None] if len(parts) == 1 else np.stack(parts) for parts in zip(*draws, strict=True))
    return tuple(stacked), index.reshape(-1)
