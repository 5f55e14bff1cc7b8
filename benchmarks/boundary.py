"""refine=boundary against whole grids: the same boundary, the coverage of its band, and trainings saved at equal width.

Three studies, scaled down so that their grids can be trained with many seeds. All of these seeds together say where the
boundary is. A repetition sees the first ten of its own of them, as a whole grid would; the search sees the same ones, and goes
on to the next where it asks for more. Last, train.py itself trains each boundary, with seeds that no grid has.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import table
from lnt.level_set import CONFIDENCE, axis_place, band
from lnt.plan_file import read_plan
from lnt.sweeps.next_round import Search
from lnt.sweeps.plan import Plan
from lnt.sweeps.rounds import measured

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "benchmarks_boundary.md"
REPETITIONS, SEEDS = 40, 10  # of a whole grid
MOST = 40  # seeds that a search may use
OTHERS = "seed=range(100000,100040)"  # of train.py


@dataclass(frozen=True)
class Study:
    """A grid, and the boundary on it."""

    overrides: Sequence[str]
    axes: Sequence[str]  # x, y
    value: str
    level: float
    scale: str  # how it differs from the study of its name


STUDIES = {
    "kou2023": Study(
        (),
        ("data.dim=range(100,1100,50)", "data.signal_norm=range(0,10,0.1)"),
        "test_error_observed",
        0.2,
        "20 of its 100 dimensions",
    ),
    "meng2024_xor": Study(
        ("data.n_train=30", "data.n_test=500", "model.width=10", "optimizer.steps=100"),
        ("data.dim=range(100,1100,100)", "data.signal_norm=linspace(0.1,10,100)"),
        "test_error",
        0.25,
        "n = 30, m = 10, 100 steps; 100 norms instead of 23",
    ),
    "phase_rate_snr": Study(
        ("data.n_train=40", "data.n_test=500", "data.dim=800", "model.width=4", "optimizer.t1_steps=10", "optimizer.steps=150"),
        ("data.snr=geomspace(0.1,0.5,10)", "noise.rate=linspace(0,0.45,91)"),
        "test_error",
        0.1,
        "n = 40, d = 800, m = 4, 150 steps; 10 x 91 cells instead of 16 x 16",
    ),
}
TRAIN = (sys.executable, str(ROOT / "train.py"), "recordings=1")


def train(name: str, folder: Path, *more: str) -> Plan:
    """Train a study into a folder; its plan as it ended."""
    study = STUDIES[name]
    command = [*TRAIN, f"experiment={name}", *study.overrides, *study.axes, *more, f"hydra.sweep.dir={folder}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return Plan.from_plain(read_plan(folder / "sweep.yaml"), {})


def whole_grid(name: str, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The axes [X], [Y] and the values [Y, X, seeds] of a study trained with the seeds of all repetitions."""
    count = REPETITIONS * SEEDS
    axes = train(name, folder, f"seed=range({count})").groups[0][1]
    x, y = (np.array(axis.columns[0], float) for axis in axes[:2])
    return x, y, measured(folder, STUDIES[name].value, axes, count)


def searched(search: Search, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Seeds [Y, X] that a search asks for, the values that it sees, and its rounds, where each run brings its value."""
    asked, rounds = np.zeros(values.shape[:2], int), 0
    while True:
        seen = np.where(np.arange(values.shape[2]) < asked[..., None], values, np.nan)
        wanted = search.next(seen, asked)
        if (wanted == asked).all():
            return asked, seen, rounds
        asked, rounds = wanted, rounds + 1


@dataclass(frozen=True)
class Repeated:
    """What came of one repetition: crossing, low and high [3, X] of the grid and of the search, in the place on the axis."""

    grid: np.ndarray
    found: np.ndarray
    runs: int
    rounds: int


def repeat(study: Study, x: np.ndarray, y: np.ndarray, values: np.ndarray, width: float, number: int) -> Repeated:
    """One repetition."""
    own = np.roll(values, -SEEDS * number, axis=2)[..., :MOST]
    asked, seen, rounds = searched(Search(x, y, MOST, study.level, width), own)
    grid, found = band(y, own[..., :SEEDS], study.level), band(y, seen, study.level, asked)
    return Repeated(places(y, grid), places(y, found), int(asked.sum()), rounds)


def places(y: np.ndarray, ends: Sequence[np.ndarray]) -> np.ndarray:
    """Points of the axis y as shares of it, as it is drawn."""
    place = axis_place(y)
    return (np.array([np.log(end) if place is not y else end for end in ends]) - place[0]) / (place[-1] - place[0])


def shares(repeated: Sequence[np.ndarray], truth: np.ndarray) -> tuple[str, float, float, float]:
    """Coverage of the bands [repetitions][3, X], their mean width, the mean error of the crossing and its root mean square."""
    edge, low, high = np.stack(repeated, 1)
    there = np.isfinite(edge) & np.isfinite(truth)
    inside, error = (low <= truth) & (truth <= high) & there, (edge - truth)[there]
    # Columns share seeds: only repetitions are independent.
    spread = np.std(inside.sum(1) / there.sum(1), ddof=1) / len(inside) ** 0.5
    covered = f"{inside.sum() / there.sum():.1%} (s.e. {spread:.1%})"
    return covered, float((high - low)[there].mean()), float(error.mean()), float((error**2).mean() ** 0.5)


def mean_width(study: Study, y: np.ndarray, values: np.ndarray, confidence: float) -> float:
    """Of the bands of whole grids that are made of intervals of such a confidence."""
    parts = np.split(values, REPETITIONS, axis=2)
    bands = [places(y, band(y, part, study.level, confidence=confidence)) for part in parts]
    return float(np.nanmean([part[2] - part[1] for part in bands]))


def report(names: Sequence[str]) -> str:
    """The tables, with a heading."""
    coverage, stricter, agreement, studies = [], [], [], {name: STUDIES[name] for name in names}
    for name, study in studies.items():
        with tempfile.TemporaryDirectory() as folder:
            x, y, values = whole_grid(name, Path(folder) / "grid")
            truth = places(y, band(y, values, study.level))[0]
            first = places(y, band(y, values[..., :SEEDS], study.level))
            # The mean width of the bands of whole grids is what each column of the search has to come to.
            width, of_95 = (mean_width(study, y, values, confidence) for confidence in (CONFIDENCE, 0.95))
            repeated, narrow = (
                [repeat(study, x, y, values, asked, number) for number in range(REPETITIONS)] for asked in (width, of_95)
            )
            of_grid, of_search = (shares([getattr(r, which) for r in repeated], truth) for which in ("grid", "found"))
            of_narrow = shares([r.found for r in narrow], truth)
            runs, narrow_runs = (float(np.mean([r.runs for r in part])) for part in (repeated, narrow))
            all_runs = len(x) * len(y) * SEEDS
            rounds = f"{min(r.rounds for r in repeated)} to {max(r.rounds for r in repeated)}"
            row = (f"{all_runs:,}", f"{runs:,.0f}", f"**{all_runs / runs:.1f}**", rounds)
            row += tuple(f"{a:.4f} / {b:.4f}" for a, b in zip(of_grid[1:], of_search[1:], strict=True))
            coverage.append((name, *row, f"{of_grid[0]} / **{of_search[0]}**"))
            stricter.append((name, f"{of_95:.4f}", f"{narrow_runs:,.0f}", f"{all_runs / narrow_runs:.1f}", of_narrow[0]))
            agreement.append((name, *trained(name, Path(folder) / "search", width, first, truth)))
            print(coverage[-1], stricter[-1], agreement[-1], file=sys.stderr, flush=True)
    scales = "; ".join(f"{name}: {study.scale}" for name, study in studies.items())
    header = ("study", "grid", "search", "saved", "rounds", "mean width", "mean error", "rms error", "band holds the boundary")
    columns = (
        "study",
        "trainings",
        "columns",
        "bands overlap",
        "its band holds the grid's crossing",
        "and that of all seeds",
    )
    return f"""## Boundaries by few trainings

`python -m benchmarks.boundary`: refine=boundary against whole grids of {SEEDS} seeds, {REPETITIONS} repetitions with disjoint
seeds (a search that needs more than {SEEDS} goes on with those of the next). In *each* column the search has to come to the
mean width of the whole grids. Errors are against the boundary of all {REPETITIONS * SEEDS} seeds; lengths are shares of the
axis y, first of whole grids, then of searches, whose bands are both made of {CONFIDENCE:.0%} intervals of means. These hold
the boundary that often where errors are normal, and less often where they are skewed. Standard errors are over repetitions,
since columns share seeds.

Scaled: {scales}.

{table(header, coverage)}
If each column has to come to the narrower bands that 95% intervals of means make of whole grids (its own are still of
{CONFIDENCE:.0%} intervals):

{table(("study", "width", "search", "saved", "band holds the boundary"), stricter)}
By `train.py` to the width of the first table, with seeds that no grid has, against one whole grid:

{table(columns, agreement)}"""


def trained(name: str, folder: Path, width: float, grid: np.ndarray, truth: np.ndarray) -> tuple[object, ...]:
    """One search by train.py: runs, columns, and in how many of them it agrees with a whole grid and with all seeds."""
    study = STUDIES[name]
    asks = ("refine=boundary", f"value={study.value}", f"level={study.level}", f"width={width:.6f}")
    plan = train(name, folder, OTHERS, *(f"hydra.sweeper.{ask}" for ask in asks))
    axes = plan.groups[0][1]
    y = np.array(axes[1].columns[0], float)
    assert plan.refine
    asked = np.zeros((len(y), len(axes[0].points)), int)
    for cells in plan.refine.rounds:
        for i, j, seeds in cells:
            asked[j, i] = seeds
    values = measured(folder, study.value, axes, int(asked.max()))
    _, low, high = places(y, band(y, values, study.level, asked))
    there = np.isfinite(grid[0]) & np.isfinite(low)
    held, overlap, true = (
        (low <= grid[0]) & (grid[0] <= high),
        (low <= grid[2]) & (grid[1] <= high),
        (low <= truth) & (truth <= high),
    )
    return (f"{asked.sum():,}", int(there.sum()), *(f"{int(part[there].sum())}" for part in (overlap, held, true)))


if __name__ == "__main__":
    text = report(sys.argv[1:] or list(STUDIES))
    if not sys.argv[1:]:
        TARGET.write_text(text)
    print(text)
