"""Cores and memory of this machine, and the part of them that a scheduler has granted."""

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch


def cores() -> int:
    """How many cores this process computes on; heeds OMP_NUM_THREADS and the cores that a scheduler confines it to."""
    import torch

    return torch.get_num_threads()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute on `count` cores."""
    # Imported in each function: the ground floor imports no PyTorch, so that help and lnt.status answer at once.
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def workers_for(device: "torch.device") -> int:
    """How many workers serve a job on `device`: one, the job's own process, unless it is a CPU that can fork."""
    # Not on a GPU: CUDA cannot be used in a process that was forked after its parent has used it.
    forks = "fork" in multiprocessing.get_all_start_methods()
    return cores() if device.type == "cpu" and forks else 1


def heed_scheduler() -> None:
    """Compute on no more cores than SLURM has granted, also where it does not confine its jobs to them."""
    import torch

    granted = int(os.environ.get("SLURM_CPUS_PER_TASK", 0)) or torch.get_num_threads()
    torch.set_num_threads(min(granted, torch.get_num_threads()))


def free_bytes(device: "torch.device") -> int:
    """Memory that is free on the device, and on the host, where everything is drawn before it moves to the device.

    In a SLURM job no more than it was granted, which it does not see as the size of its host.
    """
    import torch

    # SLURM gives MiB.
    granted = int(os.environ.get("SLURM_MEM_PER_NODE", 0)) << 20
    host = min(psutil.virtual_memory().available, granted or sys.maxsize)
    return min(host, torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else host
