"""Files of observed labels: CIFAR-N's, one's own, and those that `python -m lnt.noise` writes. No code in a file is run."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lnt.errors import ConfigError, require
from lnt.files import stamp

# Names in a file of labels beside these: where the samples lie in the data's files, and a hash of labels by position.
POSITIONS, HASH = "positions", "hash"
MOST_POSITIONS = 10**9  # of a file's samples
# Only these may be unpickled from a .pt file: what an array of integers consists of. numpy 2 renamed numpy.core to
# numpy._core, and files of either version must load.
RECONSTRUCT = np.empty(0).__reduce__()[0]
NUMPY_ARRAYS: list[Any] = [
    *((RECONSTRUCT, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.int64, np.int32, np.uint8, np.int16)),
]


class LabelFile(NamedTuple):
    """Observed labels of a file."""

    labels: np.ndarray  # classes by position in the data's files; -1 where there is none
    true: np.ndarray | None  # true classes by position, where the file has them
    true_name: str  # of these in the file
    sparse: bool  # whether the file says which samples its labels are for


def content_hash(labels: np.ndarray) -> str:
    """A hash of labels by position: what stands for a file of labels in the run_id."""
    return hashlib.sha256(labels.tobytes()).hexdigest()[:16]


def read_labels(file: str, column: str | None) -> LabelFile:
    """Labels from a .pt or .npz file of arrays by name, a .csv file, or an .npy file; no code in a file is run.

    Raises ConfigError.
    """
    return _read_labels(file, stamp(Path(file)), column)


# Read several times for each experiment: by the checks, for the run_id and for the labels.
@lru_cache
def _read_labels(file: str, stamped: tuple[int, ...], column: str | None) -> LabelFile:
    path = Path(file)
    require(
        path.is_file(),
        "file",
        file,
        "is not a file; put the label file of CIFAR-N (CIFAR-10_human.pt), or one of your own, there",
    )
    try:
        arrays = label_arrays(path)
    except Exception as error:
        raise ConfigError("file", file, f"cannot be read as labels: {str(error).splitlines()[0]}") from error
    if isinstance(arrays, np.ndarray):
        require(column is None, "column", column, "must be null for a .npy file")
        arrays, column = {"labels": arrays}, "labels"
    usual = "observed" if "observed" in arrays else next(iter(arrays)) if len(arrays) == 1 else None
    column = usual if column is None else column
    require(column in arrays, "column", column, f"must be one of {', '.join(arrays)}")
    assert column is not None
    found = whole_numbers(arrays[column], file)
    true_name = next((name for name in ("true", "clean_label") if name in arrays and name != column), "")
    true = whole_numbers(arrays[true_name], file) if true_name else None
    if sparse := POSITIONS in arrays and column != POSITIONS:
        places = whole_numbers(arrays[POSITIONS], file)
        distinct = len(np.unique(places)) == len(places) == len(found) and places.min() >= 0 and places.max() < MOST_POSITIONS
        require(distinct, "file", file, f"its {POSITIONS} must be one for each label, different ones from 0")
        found = by_position(found, places)
        true = None if true is None else by_position(true, places)
    require(true is None or len(true) == len(found), "file", file, f"must hold as many of {true_name} as of {column}")
    if HASH in arrays and arrays[HASH].ndim == 0:
        whole = str(arrays[HASH]) == content_hash(found)
        require(whole or column != "observed", "file", file, "is damaged: its hash does not fit its labels")
    return LabelFile(found, true, true_name, sparse)


def save_labels(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as an .npz file."""
    # np.savez appends .npz to a name without it, and a temporary name must stay as it is.
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def label_arrays(path: Path) -> "np.ndarray | Mapping[str, np.ndarray]":
    """What a file of labels holds: one array, or several by name."""
    if path.suffix == ".csv":
        import pandas as pd  # takes long to import

        table = pd.read_csv(path)
        # A column of labels without a name: its first label is taken for the name.
        if len(table.columns) == 1 and str(table.columns[0]).lstrip("-").isdigit():
            table = pd.read_csv(path, header=None, names=["observed"])
        return {str(name): table[name].to_numpy() for name in table}
    if path.suffix in (".npy", ".npz"):
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:  # a file of data may hold labels, too: its images are no labels
            return {name: array for name in found.files if (array := found[name]).ndim < 2}
    with torch.serialization.safe_globals(NUMPY_ARRAYS):
        return {name: np.asarray(array) for name, array in torch.load(path, weights_only=True).items()}


def whole_numbers(array: np.ndarray, file: str) -> np.ndarray:
    """An array of integers [N] as int64. Raises ConfigError."""
    fits = array.ndim == 1 and array.dtype.kind in "iu" and len(array) > 0
    require(fits, "file", file, "must hold one integer for each training sample")
    return array.astype(np.int64)


def by_position(labels: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Labels at their positions, -1 between them."""
    found = np.full(positions.max() + 1, -1)
    found[positions] = labels
    return found
