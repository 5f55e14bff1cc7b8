"""Whether the scorecard's verdicts depend on the seeds: `python -m benchmarks.scorecard [ranges]` on disjoint ranges of seeds.

Takes a minute and a half of CPU time a range. Writes docs/benchmarks_scorecard.md: for each statement how often each verdict
came out, and the least share of ranges that agree on one.
"""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import lnt
from benchmarks import table
from lnt.analysis.scorecard import scorecard

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "conf" / "experiment" / "han2025_scorecard.yaml"
TARGET = ROOT / "docs" / "benchmarks_scorecard.md"
SEEDS = 100  # more than any grid of the study has


def shifted(text: str, first: int) -> str:
    """The study with seeds from `first` on."""
    return re.sub(r"seed: range\((\d+)\)", lambda found: f'seed: "range({first},{first + int(found[1])})"', text)


def verdicts(number: int, folder: Path) -> dict[str, str]:
    """Statement -> verdict on the seeds of one range."""
    (folder / "experiment").mkdir(exist_ok=True)
    (folder / "experiment" / "shifted.yaml").write_text(shifted(STUDY.read_text(), SEEDS * number))
    train = [sys.executable, ROOT / "train.py", "--config-dir", folder, "experiment=shifted"]
    subprocess.run([*train, f"hydra.sweep.dir={folder / str(number)}"], check=True, stdout=subprocess.DEVNULL)
    results = lnt.load(folder / str(number))
    return {row.statement: row.verdict for row in scorecard(results.runs, results.curves)[1]}


def main(ranges: int = 20) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for number in range(ranges):
            found.append(verdicts(number, Path(folder)))
            print(f"range {number + 1} of {ranges}", file=sys.stderr)
    counts = {statement: Counter(of[statement] for of in found).most_common() for statement in found[0]}
    rows = [(row.replace("|", r"\|"), ", ".join(f"{name} {count}" for name, count in most)) for row, most in counts.items()]
    lowest = min(most[0][1] for most in counts.values()) / ranges
    how = "disjoint ranges of seeds (`python -m benchmarks.scorecard`)"
    said = f"Verdicts on {ranges} {how}; of the least stable statement {lowest:.0%} agree:"
    TARGET.write_text(f"{said}\n\n{table(('statement', 'verdicts'), rows)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
