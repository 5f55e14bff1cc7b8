"""The files of one's own data: what an .npz, .csv or .parquet file or a folder of images by class holds, by part.

Nothing in a file is trusted, and no code in it is run: what does not fit is refused in one line.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lnt.errors import ConfigError, require
from lnt.files import check_regular

# The parts of a file, and the names under which each is found unless `keys` names another.
NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "x_train", "X_train", "train_images", "train_features"),
    "train_labels": ("train_labels", "y_train"),
    "train_observed": ("train_observed", "y_train_observed"),
    "test": ("test", "x_test", "X_test", "test_images", "test_features"),
    "test_labels": ("test_labels", "y_test"),
    "test_observed": ("test_observed", "y_test_observed"),
    "x": ("x", "X", "images", "features", "embeddings"),
    "y": ("y", "label", "labels", "target", "class"),
    "observed": ("observed", "y_observed"),
    "split": ("split",),
}
IGNORE = "ignore"  # a part that is none: a column that is no feature
INPUTS, SPLITS = ("train", "test", "x"), ("train", "test")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
TABLES = (".csv", ".parquet")

Parts = dict[str, np.ndarray]
Keys = tuple[tuple[str, ...], ...]


def contents(path: Path, keys: Keys) -> Parts:
    """The parts of a file by name. Raises ValueError."""
    if path.is_dir():
        if keys:
            raise ValueError("is a folder of images, whose parts have no names; data.keys must be []")
        return folder_parts(path)
    check_regular(path)
    suffix = path.suffix.lower()
    if suffix not in (".npz", *TABLES):
        raise ValueError("must be an .npz, .csv or .parquet file, or a folder of images by class")
    try:
        return table_parts(path, keys) if suffix in TABLES else npz_parts(path, keys)
    except (ConfigError, WrongFile):
        raise
    except Exception as error:  # libraries raise errors of many kinds for bytes that are not their format
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"cannot be read: {first}") from error


class WrongFile(ValueError):
    """A file that can be read, and holds other things than it should."""


def chosen(there: Sequence[str], keys: Keys, parts: Sequence[str]) -> dict[str, str]:
    """The name in the file of each of the parts that is there: the one that `keys` gives, or else a usual one."""
    given, found = {pair[0]: pair[1] for pair in keys}, {}
    taken = {name for _, name in keys}
    for part, name in keys:
        if part not in (*parts, IGNORE):
            raise WrongFile(f"is a table, whose parts are {', '.join(parts)}; data.keys names {part}")
        if name not in there:
            raise WrongFile(f"holds no {name}, which data.keys names as {part}; it holds {', '.join(there)}")
    for part in parts:
        usual = [name for name in NAMES[part] if name in there and name not in taken]
        if part in given:
            found[part] = given[part]
        elif len(usual) > 1:
            raise WrongFile(f"holds {' and '.join(usual)}; say which one is {part}: data.keys=[[{part},{usual[0]}]]")
        elif usual:
            found[part] = usual[0]
    return found


def npz_parts(path: Path, keys: Keys) -> Parts:
    """The arrays of an .npz file that are parts of a data set; others in it are not read."""
    # A pickle could run code.
    with np.load(path, allow_pickle=False) as archive:
        if not hasattr(archive, "files"):
            raise WrongFile("holds one array without a name; np.savez gives arrays names")
        return {part: archive[name] for part, name in chosen(archive.files, keys, list(NAMES)).items()}


def table_parts(path: Path, keys: Keys) -> Parts:
    """A row for each sample: y and observed are columns of labels, split says train or test, all others are features."""
    table = pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    names = [str(name) for name in table.columns]
    table.columns = pd.Index(names)
    if unnamed := [name for name in names if name.startswith("Unnamed: ") or name == "__index_level_0__"]:
        raise WrongFile(f"has a column without a name ({unnamed[0]}): write the table without its index")
    columns = chosen(names, keys, ("y", "observed", "split"))
    apart = {*columns.values(), *(name for _, name in keys)}
    features = [name for name in names if name not in apart]
    if not features:
        raise WrongFile(f"has no column of features beside {', '.join(names)}")
    found = {"x": feature_matrix(table[features])}
    for part, name in columns.items():
        if table[name].isna().any():
            raise WrongFile(f"has no {part} in row {int(table[name].isna().argmax())} (column {name})")
        values = table[name].to_numpy()
        found[part] = values.astype(str) if values.dtype == object else values
    return found


def feature_matrix(table: pd.DataFrame) -> np.ndarray:
    """Numbers [N, D]; one column of lists of equal length will do as well."""
    if table.shape[1] == 1 and len(table) and isinstance(table.iloc[0, 0], np.ndarray | list):
        rows = [np.asarray(row, float) for row in table.iloc[:, 0]]
        if len({row.shape for row in rows}) > 1:
            raise WrongFile(f"has lists of different lengths in column {table.columns[0]}")
        return np.stack(rows)
    for name in table:
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise WrongFile(f"has no numbers in column {name}; leave it out with data.keys=[[{IGNORE},{name}]]")
    return table.to_numpy(float, na_value=np.nan)


def folder_parts(folder: Path) -> Parts:
    """Images in one sub-folder for each class, below train/ and test/ where there are such; classes by name."""
    splits = [name for name in SPLITS if (folder / name).is_dir()]
    if len(splits) == 1:
        raise WrongFile(f"has a folder {splits[0]} and none of the other split; it takes both train and test, or neither")
    files = {name: list(pictures(folder / name)) for name in splits} or {"x": list(pictures(folder))}
    images = decoded([file for group in files.values() for file, _ in group])
    found, start = {}, 0
    for name, group in files.items():
        found[name] = images[start : start + len(group)]
        found["y" if name == "x" else f"{name}_labels"] = np.array([label for _, label in group])
        start += len(group)
    return found


def pictures(folder: Path) -> Iterator[tuple[Path, str]]:
    """The images below `folder` with their classes, in the order of these and of the names of files."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise WrongFile(f"needs a sub-folder for each class in {folder}, two at least; there are {len(classes)}")
    for place in classes:
        files = sorted(file for file in place.iterdir() if file.suffix.lower() in PICTURES and not file.name.startswith("."))
        if not files:
            raise WrongFile(f"has no images ({', '.join(PICTURES)}) in {place}")
        yield from ((file, place.name) for file in files)


def decoded(files: Sequence[Path]) -> np.ndarray:
    """Images [N, C, H, W]: grey ones if all are, else RGB. Raises ValueError."""
    from PIL import Image  # takes long to import, and only folders need it

    found: list[np.ndarray] = []
    for file in files:
        check_regular(file)
        try:
            with Image.open(file) as image:
                if image.mode in ("I", "F") or image.mode.startswith("I;"):
                    raise WrongFile(f"has more than 8 bits for each pixel in {file}")
                found.append(np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB")))
        except WrongFile:
            raise
        except Exception as error:  # PIL raises errors of many kinds
            raise WrongFile(f"has an image that cannot be read, {file}: {str(error).partition(chr(10))[0]}") from error
        if found[-1].shape[:2] != found[0].shape[:2]:
            sizes = [" x ".join(map(str, image.shape[:2])) for image in (found[0], found[-1])]
            raise WrongFile(f"has images of {sizes[0]} and, {file}, of {sizes[1]}; bring them to one size first")
    if all(image.ndim == 2 for image in found):
        return np.stack(found)[:, None]
    return np.stack([image if image.ndim == 3 else np.repeat(image[..., None], 3, 2) for image in found]).transpose(0, 3, 1, 2)


def check_keys(keys: Keys) -> None:
    """Raise ConfigError unless they are pairs of a part and a name, each part once."""
    known = (*NAMES, IGNORE)
    for pair in keys:
        require(
            len(pair) == 2 and pair[0] in known,
            "keys",
            list(pair),
            f"must be a pair [part, name], part one of {', '.join(known)}",
        )
    named = [pair[0] for pair in keys if pair[0] != IGNORE]
    require(len(set(named)) == len(named), "keys", [list(pair) for pair in keys], "must name each part once")
