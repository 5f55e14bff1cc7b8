"""Whether the scorecard's verdicts depend on the seeds: `python -m benchmarks.scorecard [ranges]` on disjoint ranges of seeds.

Prints for each statement how often each verdict came out, and the share that agree with the most frequent one.
"""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import lnt
from lnt.analysis.scorecard import scorecard

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "conf" / "experiment" / "han2025_scorecard.yaml"
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
    lowest = 1.0
    for statement in found[0]:
        counts = Counter(of[statement] for of in found)
        agree = counts.most_common(1)[0][1] / ranges
        lowest = min(lowest, agree)
        print(f"{agree:4.0%}  {', '.join(f'{verdict} {count}' for verdict, count in counts.most_common())}: {statement}")
    print(f"lowest agreement {lowest:.0%} over {ranges} ranges of seeds")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
