"""Sweeps over options, as one types them: a setting goes to the options that have it, and glob(*) takes the options that fit.

`optimizer=gd,sam optimizer.rho=0.05,0.1` trains gd once and sam twice; `loss=glob(*)` leaves out, by name, the losses that
cannot be combined with the rest.
"""

import itertools
import logging
from collections.abc import Mapping, Sequence

from hydra.core.override_parser.types import Glob, Override

from lnt.column_names import COMPONENTS
from lnt.errors import ConfigError, one_line
from lnt.runs.experiments_from_settings import experiment_from
from lnt.sweeps.axes import encode, values_of
from lnt.sweeps.hydra_internals import Composer, as_typed

log = logging.getLogger(__name__)
Options = Mapping[str, str]  # group -> option


def fitting_grids(overrides: Sequence[str], composer: Composer) -> list[list[str]]:
    """The grids that override lines stand for: one, or one for each choice of options if these have different settings.

    A setting that no option has is left to Hydra, which names those that there are. Raises ConfigError if no option of glob(*)
    fits.
    """
    # A dictionary: where a study and the command line give the same key, the command line comes later and wins.
    parsed = {o.key_or_group: o for o in composer.parse([as_typed(line) for line in overrides])}
    groups = {key: o for key, o in parsed.items() if key in COMPONENTS and o.is_sweep_override() and not _is_tagged(o)}
    owned = [key for key in parsed if "." in key and key.partition(".")[0] in groups]
    globs = [key for key, o in groups.items() if isinstance(o.value(), Glob)]
    whole = [[str(o.input_line) for o in parsed.values()]]
    if not owned and not globs:
        return whole
    choices = itertools.product(*map(values_of, groups.values()))
    fitting: list[tuple[Options, list[str]]] = []
    lacking: dict[str, list[Options]] = {key: [] for key in owned}
    misfit: ConfigError | None = None
    for choice in choices:
        options = dict(zip(groups, map(str, choice), strict=True))
        known = composer.keys(_lines(parsed, options, without=owned))
        absent = [key for key in owned if key not in known]
        if globs and (misfit := _misfit(parsed, options, absent, composer)):
            named, reason = ", ".join(f"{group}={options[group]}" for group in globs), one_line(misfit)
            log.info("left out: %s", reason if reason.startswith(named) else f"{named}: {reason}")
            continue
        for key in absent:
            lacking[key].append(options)
        fitting.append((options, absent))
    if not fitting and misfit:
        raise misfit
    unknown = [key for key, without in lacking.items() if len(without) == len(fitting)]
    if unknown or (not globs and not any(lacking.values())):
        return whole
    for key, without in lacking.items():
        if without:
            group = key.partition(".")[0]
            others = ", ".join(dict.fromkeys(f"{group}={options[group]}" for options in without))
            log.info("%s is no setting of %s, and is left out there", key, others)
    return [_grid(parsed, options, absent) for options, absent in fitting]


def _is_tagged(override: Override) -> bool:
    """Whether an axis advances together with another one, which says point by point what each option gets."""
    return bool(getattr(override.value(), "tags", ()))


def _lines(parsed: Mapping[str, Override], options: Options, without: Sequence[str]) -> list[str]:
    """Override lines of one run: these options, and the first value of everything that is swept."""
    kept = {key: o for key, o in parsed.items() if key not in without and key not in options}
    values = {key: encode(values_of(o)[0]) for key, o in kept.items() if o.is_sweep_override()}
    lines = [f"{o.get_key_element()}={values[key]}" if key in values else str(o.input_line) for key, o in kept.items()]
    return [*(f"{group}={option}" for group, option in options.items()), *lines]


def _grid(parsed: Mapping[str, Override], options: Options, without: Sequence[str]) -> list[str]:
    """Override lines of all runs that have these options."""
    return [f"{key}={options[key]}" if key in options else str(o.input_line) for key, o in parsed.items() if key not in without]


def _misfit(parsed: Mapping[str, Override], options: Options, absent: Sequence[str], composer: Composer) -> ConfigError | None:
    """Why these options cannot be combined with the rest; None if they can."""
    try:
        experiment_from(composer.compose(_lines(parsed, options, absent)))
    except ConfigError as error:
        return error
    return None
