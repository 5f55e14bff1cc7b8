"""Errors that a user can mend. Each is one line: which key, its value, and what would be right."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

NOT_KEYS = ("_target_", "hydra")  # nodes of a configuration that are no settings

NO_OPTION = "must name one of its options; python train.py --help lists them"


class ConfigError(ValueError):
    """A setting that cannot be used: which key, its value, and what would be right, in one line."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key}={value}: {allowed}")
        self.key, self.value, self.allowed = key, value, allowed

    def under(self, prefix: str) -> "ConfigError":
        """The same error with the keys of component `prefix` written out in full."""
        return ConfigError(", ".join(f"{prefix}.{key}" for key in self.key.split(", ")), self.value, self.allowed)


# These end in one line. Anything else is a fault of the program, or of a user's own component, and keeps its traceback.
MENDABLE = (ConfigError, HydraException, OmegaConfBaseException)


def require(holds: object, key: str, value: object, allowed: str) -> None:
    """Raise ConfigError unless `holds` (a bool, or an array [R]) is true of every run; name the first bad value."""
    bad = ~np.atleast_1d(np.asarray(holds, dtype=bool))
    if bad.any():
        # A list is one value of the setting, not a value for each run.
        if isinstance(value, list | tuple):
            raise ConfigError(key, list(value), allowed)
        values = np.broadcast_to(np.asarray(value, dtype=object), bad.shape)
        raise ConfigError(key, values[bad][0], allowed)


@contextmanager
def keys_under(prefix: str) -> Iterator[None]:
    """Write out the keys of a ConfigError raised inside in full: those of component `prefix`."""
    try:
        yield
    except ConfigError as error:
        raise error.under(prefix) from None


def unknown_key(known: Iterable[str]) -> str:
    """The sentence for a key that does not exist."""
    return f"unknown key; known are {', '.join(known) or 'none'}"


def printable(text: str) -> str:
    """Text of unknown origin for a terminal, which obeys control characters: each becomes a question mark."""
    return "".join(c if c.isprintable() else "?" for c in text)


def one_line(error: BaseException) -> str:
    """One line for an error of composition; for an unknown key, the keys that there are."""
    if isinstance(error, MissingMandatoryValue):
        return printable(f"{error.full_key}: must be given, as {error.full_key}=...")
    # Hydra wraps the error of OmegaConf, and only the inner one knows the node that lacks the key.
    cause = error.__cause__
    node = getattr(cause, "parent_node", None)
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and isinstance(node, DictConfig):
        prefix = str(cause.full_key).rpartition(".")[0]
        known = [f"{prefix}.{name}".lstrip(".") for name in map(str, node) if name not in NOT_KEYS]
        return printable(f"{str(error).splitlines()[0].rstrip('.')}: {unknown_key(known)}")
    return printable("; ".join(line.strip() for line in str(error).splitlines() if line.strip()))
