"""What analyze.py takes, in CPU seconds and memory, and train.py in memory: python -m benchmarks.analysis [kou2023 [million]].

Prints what docs/results.md says. The arguments are directories of results to analyse: the study kou2023, and the same with
`seed=range(100)`, which are a million runs; those that are not there are trained first (half a minute, and five).
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks import table

ROOT = Path(__file__).parents[1]
YARDSTICK = ("-c", "import pandas, matplotlib.figure, scipy.optimize")  # what no analysis can do without
ASKED = ("value=test_error_observed", "level=0.2")


class Cost(NamedTuple):
    """What a command took."""

    seconds: float  # of CPU time, user and system, child processes included
    mebibytes: float  # largest resident memory of one of its processes


def cost(*command: str) -> Cost:
    """The cost of a command of this project."""
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"failed: {command}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def median(costs: list[Cost]) -> Cost:
    """The median of each number."""
    return Cost(*map(statistics.median, zip(*costs, strict=True)))


def results(given: list[str], place: Path, *settings: str) -> tuple[Path, Cost | None]:
    """The directory that was named, or one with fresh results and what training them took."""
    path = Path(given[0]).resolve() if given else place
    if path.is_dir():
        return path, None
    return path, cost("train.py", "experiment=kou2023", *settings, f"hydra.sweep.dir={path}")


def report(given: list[str], repeats: int = 3) -> str:
    """Tables in Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        study, _ = results(given[:1], Path(folder) / "kou2023")
        commands = {
            "imports alone (pandas, matplotlib, scipy.optimize)": YARDSTICK,
            **{
                f"kou2023, 100 000 runs, `formats={formats}`": ("analyze.py", f"path={study}", *ASKED, f"formats={formats}")
                for formats in ("[]", "[png]", "[pdf,png]", "[pdf,png,svg]")
            },
        }
        # In turn: what else the machine does hits all of them alike.
        rounds = [{name: cost(*command) for name, command in commands.items()} for _ in range(repeats)]
        measured = {name: median([one[name] for one in rounds]) for name in commands}
        million, training = results(given[1:], Path(folder) / "million", "seed=range(100)")
        measured["the same with 100 seeds a cell, 1 000 000 runs"] = cost("analyze.py", f"path={million}", *ASKED)
        if training is not None:
            measured["`train.py`, these 1 000 000 runs, the largest process"] = training
        measured["`train.py` by default"] = cost("train.py", f"hydra.run.dir={folder}/run")
    unit = next(iter(measured.values())).seconds
    rows = [(name, f"{c.seconds:.1f}", f"{c.seconds / unit:.1f}", f"{c.mebibytes:.0f}") for name, c in measured.items()]
    return table(("command", "CPU seconds", "of imports alone", "memory, MiB"), rows)


if __name__ == "__main__":
    print(report(sys.argv[1:]))
