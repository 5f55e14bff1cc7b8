"""Run all benchmarks, and write docs/benchmarks.md and the machine and versions that it holds for (environment.json)."""

import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import date
from pathlib import Path

import torch

from benchmarks import competitors, engine, forms, images, sweep

SLURM = Path(__file__).parents[1] / "docs" / "benchmarks_slurm.md"  # by python -m benchmarks.cluster, where there is a SLURM
BOUNDARY = Path(__file__).parents[1] / "docs" / "benchmarks_boundary.md"  # by python -m benchmarks.boundary, which takes longer
TARGET = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PACKAGES = ("torch", "numpy", "numba", "hydra-core", "pandas", "pyarrow", "matplotlib", "jax")


def processor() -> str:
    """The name of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """What is measured."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False, cwd=SLURM.parent
    )
    return told.stdout.strip() or "unknown"


environment = {
    "date": str(date.today()),
    "commit": commit(),
    "processor": processor(),
    "threads": torch.get_num_threads(),
    "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    "system": platform.platform(),
    "python": platform.python_version(),
    **versions(),
}
text = f"""# Benchmarks

`make bench`, {environment["date"]}, commit {environment["commit"]}.
{environment["processor"]}, {torch.get_num_threads()} threads, torch {torch.__version__}; the rest is in environment.json.
Ratios are measured in one run on a shared machine, medians of five.

{engine.report()}
{competitors.report()}
{forms.report()}
{sweep.report()}
{images.report()}
{SLURM.read_text()}
{BOUNDARY.read_text()}"""
TARGET.write_text(text)
TARGET.with_name("environment.json").write_text(json.dumps(environment, indent=2) + "\n")
print(text)
