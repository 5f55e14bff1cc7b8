"""Draw observed labels without training: python -m lnt.noise [overrides of train.py] out=labels.npz.

The file is read back by noise=file noise.file=labels.npz, here or by another program. A mistyped key is answered before
anything heavy is imported.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnt import cli
from lnt.errors import MENDABLE, ConfigError, one_line, require
from lnt.files import write_new
from lnt.settings import check_writable

if TYPE_CHECKING:
    import numpy as np

    from lnt.training.experiment import Experiment

USAGE = """Draw the observed labels of a run without training it, and write them to a new .npz file.

  python -m lnt.noise data=digits noise=pair noise.rate=0.2 seed=1 out=labels.npz    settings of train.py; its --help lists them
  python train.py data=digits noise=file noise.file=labels.npz seed=1                trains on these labels

The file holds observed, true and positions [n], classes [K], transition and realised_transition [K, K], flip_rate,
realised_rate, seed, settings and hash; docs/images.md says what they are.
"""
ALLOWED = "must name a new .npz file: python -m lnt.noise data=digits noise=pair out=labels.npz"


def main() -> None:
    """Write the labels; what a user can mend ends in one line on stderr."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(USAGE)
        return
    try:
        overrides, target = parted([word for argument in sys.argv[1:] for word in cli.written_out(argument)])
        # The same labels on every machine: they are drawn on the CPU in any case.
        config = cli.configuration([*overrides, "device=cpu"])
        print(written(config, target))
    except (*MENDABLE, OSError) as error:
        sys.exit(f"error: {one_line(error)}")


def parted(words: Sequence[str]) -> tuple[list[str], Path]:
    """The overrides, and the file that out= names. Raises ConfigError before any work if it cannot be written."""
    named = [word.removeprefix("out=") for word in words if word.startswith("out=")]
    require(len(named) == 1 and named[0].endswith(".npz"), "out", named[0] if named else None, ALLOWED)
    target = Path(named[0])
    require(not target.exists(), "out", target, "is there already, and is not overwritten")
    require(target.parent.is_dir(), "out", target, f"there is no folder {target.parent}")
    check_writable(target.parent)
    return [word for word in words if not word.startswith("out=")], target


def written(config: Mapping[str, Any], target: Path) -> str:
    """Draw the labels, write them to a new file, and say what they are. Raises ConfigError."""
    from lnt.noise.label_files import HASH, save_labels
    from lnt.runs.experiments_from_settings import experiment_from

    arrays = drawn(experiment_from(config))
    try:
        write_new(target, lambda file: save_labels(file, arrays))
    except FileExistsError:
        raise ConfigError("out", target, "is there already, and is not overwritten") from None
    wrong = int((arrays["observed"] != arrays["true"]).sum())
    return (
        f"{len(arrays['true'])} labels, {wrong} of them wrong ({float(arrays['realised_rate']):.4g}), hash {arrays[HASH]}; "
        f"train on them: noise=file noise.file={target}"
    )


def drawn(experiment: "Experiment") -> "dict[str, np.ndarray]":
    """What is written of one run's labels. Raises ConfigError if they have no positions, or are not drawn once."""
    import numpy as np

    from lnt.noise.label_files import HASH, POSITIONS, by_position, content_hash

    data, noise = experiment.choices["data"], experiment.noise
    require(experiment.data.kind == "images", "data", data, "has no samples at positions of a file; use images or data=arrays")
    require(experiment.knows_truth, "data", data, "has no true labels that noise could change")
    require(not noise.resample, "noise.resample", True, "draws other labels at every step; use false")
    problem, numbers = experiment.sample(), np.array(experiment.classes().numbers)
    true, observed = problem.labels[0].numpy(), problem.observed.at(0)[0].numpy()  # type: ignore[attr-defined]
    samples, rows = problem.observed.samples, experiment.positions()[0]  # type: ignore[attr-defined]
    counts = np.zeros((len(numbers), len(numbers)))
    np.add.at(counts, (true, observed), 1)
    sizes = counts.sum(1, keepdims=True)
    return {
        "observed": numbers[observed],
        "true": numbers[true],
        POSITIONS: rows,
        "classes": numbers,
        "transition": noise.mean_transition(samples)[0],
        # As in mean_transition: a class without samples keeps its labels.
        "realised_transition": np.where(sizes > 0, counts / np.maximum(sizes, 1), np.eye(len(numbers))),
        "flip_rate": np.array(experiment.flip_rate()[0]),
        "realised_rate": np.array((true != observed).mean()),
        "seed": experiment.per_run(experiment.seeds.noise)[0],
        "settings": np.array(json.dumps({key: plain(value) for key, value in experiment.columns().items()})),
        HASH: np.array(content_hash(by_position(numbers[observed], rows))),
    }


def plain(value: Any) -> Any:
    """A value of a column as JSON has it."""
    return value.item() if hasattr(value, "item") else value


if __name__ == "__main__":
    main()
