"""Turn swept overrides into axes, and add the spacings that Hydra's grammar lacks."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString, RangeSweep, Sweep, Transformer

from lnt.errors import require
from lnt.settings import Axis

MAX_POINTS = 10**6  # of an axis


def values_of(override: Override) -> list[Any]:
    """The points of a swept override; ranges of floats are rounded to 12 digits (0.3, not 0.30000000000000004)."""
    key, _, text = str(override.input_line).partition("=")
    require(override.is_discrete_sweep(), key, text, "is continuous; use linspace(start,stop,num) or logspace, geomspace")
    if isinstance(sweep := override.value(), RangeSweep):
        _check_range(key, text, sweep)
    values = [v.text if isinstance(v, QuotedString) else v for v in override.sweep_iterator(transformer=Transformer.identity)]
    if isinstance(sweep, RangeSweep):
        values = [float(f"{value:.12g}") if isinstance(value, float) else value for value in values]
    require(len(values) > 0, key, text, "the axis is empty")
    return values


def _check_range(key: str, text: str, sweep: RangeSweep) -> None:
    """Raise ConfigError, before any point is made, for a range without an end, or with more points than a sweep may have."""
    start, stop, step = (float("nan") if end is None else float(end) for end in (sweep.start, sweep.stop, sweep.step))
    require(step != 0 and np.isfinite([start, stop, step]).all(), key, text, "must have finite ends and a step other than 0")
    require((stop - start) / step <= MAX_POINTS, key, text, f"has more than {MAX_POINTS:.0e} points")


def axes_of(overrides: Sequence[Override]) -> list[Axis]:
    """One axis for each swept override; sweeps that share a tag, tag(pair, choice(..)), advance together."""
    pairs: dict[object, list[Override]] = {}
    for override in overrides:
        sweep = override.value()
        tags = sweep.tags if isinstance(sweep, Sweep) else ()  # glob(..) has none
        # A key without a tag is a group of its own; the first word keeps a tag apart from a key of the same name.
        tag = ("tag", *sorted(tags)) if tags else ("key", override.get_key_element())
        pairs.setdefault(tag, []).append(override)
    axes = []
    for group in pairs.values():
        columns = [values_of(override) for override in group]
        keys = tuple(override.get_key_element() for override in group)
        lengths = ", ".join(str(len(column)) for column in columns)
        require(len(set(map(len, columns))) == 1, ", ".join(keys), lengths, "axes that advance together need the same length")
        axes.append(Axis(keys, tuple(zip(*columns, strict=True))))
    return axes


def encode(value: Any) -> str:
    """A value as Hydra's grammar reads it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


# Additions to Hydra's override grammar: data.dim=logspace(2,5,10), data.snr=linspace(0,1,11).


def linspace(start: int | float, stop: int | float, num: int) -> ChoiceSweep:
    """`num` values from `start` to `stop`, evenly spaced."""
    return _points(np.linspace, start, stop, num)


def logspace(start: int | float, stop: int | float, num: int) -> ChoiceSweep:
    """`num` values from 10^start to 10^stop, evenly spaced in the exponent."""
    return _points(np.logspace, start, stop, num)


def geomspace(start: int | float, stop: int | float, num: int) -> ChoiceSweep:
    """`num` values from `start` to `stop`, each a constant multiple of the one before."""
    return _points(np.geomspace, start, stop, num)


def _points(make: Callable[..., np.ndarray], start: int | float, stop: int | float, num: int) -> ChoiceSweep:
    said = f"{make.__name__}({start},{stop},{num})"
    require(isinstance(num, int) and 1 <= num <= MAX_POINTS, "sweep", said, f"must have 1 to {MAX_POINTS:.0e} points")
    with np.errstate(all="ignore"):
        values = np.asarray(make(start, stop, num)) if make is not np.geomspace or start * stop > 0 else np.full(1, np.nan)
    require(np.isfinite(values).all(), "sweep", said, "has points that are no finite numbers")
    # Rounded like a range, so that 0.3 has one run_id however it is written.
    return ChoiceSweep(list=[float(f"{value:.12g}") for value in values])
