"""The kou2023 study whole, from the command line to its figures, against one PyTorch training after another."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from matplotlib.figure import Figure
from torch import nn

from benchmarks import table
from lnt.analysis.figure_names import label
from lnt.analysis.figure_style import DOUBLE, NOISY, SIGNAL, STYLE
from lnt.analysis.results import load
from lnt.runs.experiments_from_settings import expand
from lnt.sweeps.axes import axes_of
from lnt.sweeps.hydra_internals import to_plain

ROOT = Path(__file__).parents[1]
RUNS = 100_000
KEYS = ["data.dim", "data.signal_norm"]
PUBLISHED = (
    pd.read_csv(ROOT / "docs" / "published" / "kou2023.csv", comment="#").set_index(KEYS)["test_error_observed"].unstack()
)


def usual_training(dim: int, norm: float, seed: int) -> float:
    """One training the usual way: explicit vectors, a module, autograd, a loop. Returns the test error."""
    torch.manual_seed(seed)
    signal = torch.zeros(dim)
    signal[0] = norm

    def draw(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(0, 2, (size,)) * 2.0 - 1
        patches = torch.stack([labels[:, None] * signal, torch.randn(size, dim)], 2)  # [size, d, 2]
        return patches, torch.where(torch.rand(size) < 0.1, -labels, labels)

    layers = nn.ModuleList([nn.Conv1d(dim, 10, 1), nn.Conv1d(dim, 10, 1)])

    def network(patches: torch.Tensor) -> torch.Tensor:
        return sum(sign * torch.relu(layer(patches)).mean(2).sum(1) for sign, layer in zip((1, -1), layers, strict=True))

    optimizer = torch.optim.SGD(layers.parameters(), lr=0.1)
    (patches, labels), (test_patches, test_labels) = draw(20), draw(1000)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.softplus(-labels * network(patches)).mean().backward()
        optimizer.step()
    with torch.no_grad():
        return float((network(test_patches).sign() != test_labels).float().mean())


def packing_seconds() -> float:
    """From override lines and a composed configuration to validated batches of 100 000 runs."""
    from benchmarks.engine import compose

    config = compose("data.signal_norm=0")
    lines = ["data.dim=range(100,1100,10)", "data.signal_norm=range(0,10,0.1)", "seed=range(10)"]
    start = time.perf_counter()
    axes = axes_of(OverridesParser.create().parse_overrides(lines))
    batches = list(expand(to_plain(config, config.hydra.runtime.choices), axes))
    assert sum(batch.runs for batch in batches) == RUNS
    return time.perf_counter() - start


def timed(*command: str, cores: int | None = None) -> float:
    """Wall time of a command of this project, on all cores or on so many."""
    limit = {} if cores is None else {"OMP_NUM_THREADS": str(cores)}
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True, env={**os.environ, **limit})
    return time.perf_counter() - start


def compare(directory: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Our mean and standard error in the published cells, both [d, |mu|]."""
    runs = load(directory).runs
    cells = runs.groupby(["data.dim", "data.signal_norm"])["test_error_observed"]
    norms = [float(norm) for norm in PUBLISHED.columns]
    return tuple(part.unstack().loc[PUBLISHED.index, norms] for part in (cells.mean(), cells.sem()))


def side_by_side(mean: pd.DataFrame, error: pd.DataFrame) -> Figure:
    """Published cells (dots) over ours (lines, two standard errors)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(DOUBLE, 3.6), layout="constrained")
        axes = figure.subplots(2, 3, sharex=True, sharey=True)
        for ax, dim in zip(axes.flat, mean.index, strict=True):
            ax.errorbar(mean.columns, mean.loc[dim], 2 * error.loc[dim], color=SIGNAL, label="lnt, mean of 10 runs")
            ax.plot(mean.columns, PUBLISHED.loc[dim], "o", color=NOISY, markersize=4, label="published, mean of 10 runs")
            ax.set_title(f"$d$ = {dim}")
        axes[0, 0].legend(loc="upper right")
        figure.supxlabel(label("data.signal_norm"), fontsize=8)
        figure.supylabel(label("test_error_observed"), fontsize=8)
    return figure


def report() -> str:
    """Markdown for docs/benchmarks.md; also draws docs/kou2023_published.png."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "kou2023"
        study = ("train.py", "experiment=kou2023")
        took = [
            (timed(*study, f"hydra.sweep.dir={place}"), timed(*study, f"hydra.sweep.dir={place}-1", cores=1))
            for place in (directory, f"{directory}-b", f"{directory}-c")
        ]
        whole, one_core = np.median(took, axis=0)
        start_up = timed("train.py", "dry_run=true")
        rng, times = np.random.default_rng(0), []
        for seed in range(20):
            start = time.perf_counter()
            usual_training(int(rng.integers(10, 110)) * 10, rng.uniform(0, 10), seed)
            times.append(time.perf_counter() - start)
        usual = float(np.median(times))
        analysis = timed("analyze.py", f"path={directory}", "value=test_error_observed", "level=0.2")
        mean, error = compare(directory)
    side_by_side(mean, error).savefig(ROOT / "docs" / "kou2023_published.png", dpi=200)
    difference = mean.to_numpy() - PUBLISHED.to_numpy()
    packing = packing_seconds()
    spread = f"median of {', '.join(f'{all_cores:.1f}' for all_cores, _ in took)}"
    rows = [
        ("100 000 trainings, `python train.py experiment=kou2023`, start-up and writing included", f"{whole:.1f} s ({spread})"),
        ("the same on one core", f"{one_core:.1f} s"),
        ("of which start-up (`python train.py dry_run=true`)", f"{start_up:.1f} s"),
        ("one training the usual way (median of 20, d from 100 to 1090)", f"{usual:.3f} s"),
        ("ratio: 100 000 trainings the usual way / the study", f"{usual * RUNS / whole:.0f}"),
        ("from override lines to validated batches, per run", f"{packing / RUNS * 1e6:.2f} us"),
        ("`python analyze.py` on the result", f"{analysis:.1f} s"),
    ]
    return "\n".join(
        [
            "## A whole phase diagram: kou2023\n",
            table(("what", "measured"), rows),
            f"Against the {difference.size} published cells: root mean square difference "
            f"{np.sqrt((difference**2).mean()):.4f}, mean difference {difference.mean():+.4f}.\n",
        ]
    )
