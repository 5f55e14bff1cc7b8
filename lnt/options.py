"""The options of conf/: which class stands behind a name such as noise=symmetric."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lnt.errors import ConfigError

PACKAGE = Path(__file__).parent
# conf/, train.py and analyze.py lie at the top of the repository, and inside the package once it is installed.
TOP = PACKAGE if (PACKAGE / "conf").is_dir() else PACKAGE.parent
CONF = TOP / "conf"


def read_option(group: str, option: str, folders: Sequence[Path] = (CONF,)) -> dict[str, Any]:
    """`_target_` and the plain values of conf/`group`/`option`.yaml in the last of the folders that has it.

    Raises ConfigError if there is none: an option found in a table of results is a name, never a path.
    """
    if re.fullmatch(r"[\w-]+", option):
        for folder in reversed(folders):
            if (file := folder / group / f"{option}.yaml").is_file():
                return _read(file, folders)
    raise ConfigError(group, option, f"is no option of conf/{group}")


def _read(file: Path, folders: Sequence[Path]) -> dict[str, Any]:
    """The values of an option; it may rest on other options of its group, which stand first."""
    found = yaml.safe_load(file.read_text()) or {}
    values: dict[str, Any] = {}
    for entry in found.pop("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            values |= read_option(file.parent.name, entry, folders)
    # Only Hydra can resolve these; without them the component fills in its own default, which is the same.
    interpolated = {key for key, value in found.items() if isinstance(value, str) and value.startswith("${")}
    return values | {key: value for key, value in found.items() if key not in interpolated}
