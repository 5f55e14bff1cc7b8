"""Sweeps over options, as one types them: a setting goes to the options that have it, and glob(*) takes the options that fit.

`optimizer=gd,sam optimizer.rho=0.05,0.1` trains gd once and sam twice; `loss=glob(*)` leaves out, by name, the losses that
cannot be combined with the rest. Where training ends is no setting of one option: `optimizer=glob(*) optimizer.until=fitted`
leaves out those that train on.
"""

import itertools
import logging
from collections.abc import Collection, Mapping, Sequence

from hydra.core.override_parser.types import Glob, Override

from lnt.column_names import COMPONENTS
from lnt.errors import NOT_KEYS, ConfigError, one_line
from lnt.runs.experiments_from_settings import experiment_from
from lnt.sweeps.axes import encode, values_of
from lnt.sweeps.hydra_internals import Composer, as_typed

log = logging.getLogger(__name__)
Options = Mapping[str, str]  # group -> option
UNTIL = "optimizer.until"  # where training ends; options without it end as those that have it do at "end"


def fitting_grids(overrides: Sequence[str], composer: Composer) -> list[list[str]]:
    """The grids that override lines stand for: one, or one for each choice of options if these have different settings.

    Raises ConfigError for a setting that no option has, if no option of glob(*) fits, and if options that are named one by one
    would not all end as `optimizer.until` says.
    """
    # A dictionary: where a study and the command line give the same key, the command line comes later and wins.
    parsed = {o.key_or_group: o for o in composer.parse([as_typed(line) for line in overrides])}
    groups = {key: o for key, o in parsed.items() if key in COMPONENTS and o.is_sweep_override() and not _is_tagged(o)}
    owned = [key for key in parsed if "." in key and key.partition(".")[0] in groups]
    globs = [key for key, o in groups.items() if isinstance(o.value(), Glob)]
    whole = [[str(o.input_line) for o in parsed.values()]]
    if not owned and not globs:
        return whole
    choices = [
        dict(zip(groups, map(str, choice), strict=True)) for choice in itertools.product(*map(values_of, groups.values()))
    ]
    known = [composer.keys(_lines(parsed, options, without=owned)) for options in choices]
    if any(parsed[key].is_add() for key in owned):
        return whole
    if not globs:
        _check_known(owned, choices, known)
    fitting: list[tuple[Options, list[str]]] = []
    keys_of_fitting: list[Collection[str]] = []
    lacking: dict[str, list[Options]] = {key: [] for key in owned}
    misfit: ConfigError | None = None  # the last one
    for options, keys in zip(choices, known, strict=True):
        absent = [key for key in owned if key not in keys]
        unlike = _unlike_end(options, parsed) if UNTIL in absent else None
        if unlike and "optimizer" not in globs:
            raise unlike
        if globs and (misfit := unlike or _misfit(parsed, options, absent, composer)):
            named, reason = ", ".join(f"{group}={options[group]}" for group in globs), one_line(misfit)
            log.info("left out: %s", reason if reason.startswith(named) else f"{named}: {reason}")
            continue
        for key in absent:
            lacking[key].append(options)
        fitting.append((options, absent))
        keys_of_fitting.append(keys)
    if not fitting and misfit:
        raise misfit
    _check_known(owned, [options for options, _ in fitting], keys_of_fitting)
    if not globs and not any(lacking.values()):
        return whole
    for key, without in lacking.items():
        if without:
            group = key.partition(".")[0]
            others = ", ".join(dict.fromkeys(f"{group}={options[group]}" for options in without))
            log.info("%s is no setting of %s, and is left out there", key, others)
    return [_grid(parsed, options, absent) for options, absent in fitting]


def _check_known(owned: Sequence[str], choices: Sequence[Options], known: Sequence[Collection[str]]) -> None:
    """Raise ConfigError for a setting that none of the options has, with those that each has."""
    for key in owned:
        if any(key in keys for keys in known):
            continue
        group = key.partition(".")[0]
        own = [[k.removeprefix(f"{group}.") for k in sorted(keys) if k.startswith(f"{group}.")] for keys in known]
        there = dict(zip((options[group] for options in choices), own, strict=True))
        has = {option: ", ".join(name for name in names if name not in NOT_KEYS) for option, names in there.items()}
        words = "; ".join(f"{option} has {names or 'none'}" for option, names in has.items())
        raise ConfigError(key, "...", f"is no setting of the options of {group}: {words}")


def _unlike_end(options: Options, parsed: Mapping[str, Override]) -> ConfigError | None:
    """Why an optimizer that has no setting `until` is not compared with those that have it; None where all end at "end"."""
    given = parsed[UNTIL]
    if set(map(str, values_of(given) if given.is_sweep_override() else [given.value()])) == {"end"}:
        return None
    option = options["optimizer"]
    return ConfigError("optimizer", option, f"has no setting {UNTIL}: its runs would end elsewhere than those of the others")


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
