"""Two runs are the same run if everything that can change a result has the same value.

A run_id is a hash of these values, so a run has the same id alone, in any batch, in a sweep and from Python. Settings that
say how to run are left out (they are not columns at all), and so are those that cannot change a result (NOT_IN_RUN_ID).
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from lnt.column_names import NOT_IN_RUN_ID, added_later


def identity(columns: Mapping[str, Any], label_file: str, data_files: str = "") -> tuple[str, dict[str, np.ndarray]]:
    """A template with the values that the runs of a batch share, and the values [R] that fill it.

    `label_file` is a hash of the content of the file that labels come from (empty without one): the content can change a
    result, the place of the file cannot. `data_files` is a hash of the files of a data set (empty for the published ones).
    """
    # Sorted, so that the order in which components declare their fields does not matter.
    kept = {key: value for key, value in sorted(columns.items()) if key not in NOT_IN_RUN_ID}
    # A key that came later is left out at its old value: runs of earlier versions keep their ids.
    later = added_later(columns)
    kept = {key: value for key, value in kept.items() if key not in later or value != later[key]}
    if label_file:
        kept["noise.file"] = label_file
    if data_files:
        kept["data.files"] = data_files
    varying = {key: value for key, value in kept.items() if isinstance(value, np.ndarray)}
    # What the runs share is written once for all of them: R runs cost R fills of a template, not R dumps of everything.
    # The % signs of shared values are doubled, as the template is filled with the % operator.
    lines = (f"{key}=%s" if key in varying else f"{key}={json.dumps(value)}".replace("%", "%%") for key, value in kept.items())
    return "\n".join(lines), varying


def run_ids(template: str, varying: Mapping[str, np.ndarray], runs: int, redrawn: np.ndarray | bool = False) -> list[str]:
    """The first 16 hexadecimal digits of SHA-256 of each run's filled template, [R].

    `redrawn` [R]: whether an earlier version drew other random numbers for the same settings.
    """
    # repr, not str: ids rest on the exact value of a float.
    values = zip(*(map(repr, array.tolist()) for array in varying.values()), strict=True) if varying else [()] * runs
    ends = np.where(np.broadcast_to(redrawn, (runs,)), "\ndraws=2", "").tolist()
    texts = (template % run + end for run, end in zip(values, ends, strict=True))
    return [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]
