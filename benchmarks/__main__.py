"""Run all benchmarks and write docs/benchmarks.md."""

import platform
from datetime import date
from pathlib import Path

import torch

from benchmarks import engine, images, sweep

SLURM = Path(__file__).parents[1] / "docs" / "benchmarks_slurm.md"  # by python -m benchmarks.cluster, where there is a SLURM
BOUNDARY = Path(__file__).parents[1] / "docs" / "benchmarks_boundary.md"  # by python -m benchmarks.boundary, which takes longer
TARGET = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def processor() -> str:
    """The name of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    )
    return names[0] if names else platform.processor() or platform.machine()


text = f"""# Benchmarks

`make bench`, {date.today()}, {processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}.
Ratios are measured in one run on a shared machine, medians of five.

{engine.report()}
{sweep.report()}
{images.report()}
{SLURM.read_text()}
{BOUNDARY.read_text()}"""
TARGET.write_text(text)
print(text)
