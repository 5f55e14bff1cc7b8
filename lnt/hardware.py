"""Cores and memory of this machine, and the part of them that a scheduler has granted."""

import ctypes
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

# By the controllers that /proc/self/cgroup names, none in version 2: the folder, the limit, what is used, the files in that.
CGROUP_FILES = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


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


def keep_freed_memory() -> None:
    """Keep memory that is freed for what comes next, where the C library is glibc; elsewhere do nothing.

    By default it returns large arrays to the system at once. Runs that train chunk by chunk, in arrays of the same sizes, would
    get them back page by page, which took a tenth of the time of short runs. For worker processes, which end with the work.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, 2**29)
        mallopt(mmap_threshold, 2**25)  # the most that it takes


def heed_scheduler() -> None:
    """Compute on no more cores than SLURM has granted, also where it does not confine its jobs to them."""
    import torch

    granted = int(os.environ.get("SLURM_CPUS_PER_TASK", 0)) or sys.maxsize
    torch.set_num_threads(min(granted, allowed_cores(), torch.get_num_threads()))


def allowed_cores() -> int:
    """The cores on which this process may run."""
    # Not on all systems; OMP_NUM_THREADS, which PyTorch heeds, may be larger.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else sys.maxsize


def free_bytes(device: "torch.device") -> int:
    """Memory that is free on the device, and on the host, where everything is drawn before it moves to the device.

    In a SLURM job no more than it was granted, and in a control group (a container) no more than that has left: neither is seen
    as the size of the host.
    """
    import torch

    host = min(psutil.virtual_memory().available, granted_bytes(), cgroup_bytes())
    return min(host, torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else host


def granted_bytes() -> int:
    """Memory that SLURM has granted to this job: for the node (--mem), or for each of its cores or GPUs."""
    cpus = os.environ.get("SLURM_CPUS_ON_NODE") or os.environ.get("SLURM_CPUS_PER_TASK") or 1
    of_each = {"NODE": 1, "CPU": int(cpus), "GPU": int(os.environ.get("SLURM_GPUS_ON_NODE", 1))}
    # SLURM gives MiB; 0 is all that the node has.
    grants = [(int(os.environ.get(f"SLURM_MEM_PER_{part}", 0)) << 20) * count for part, count in of_each.items()]
    return min(filter(None, grants), default=sys.maxsize)


def cgroup_bytes(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that the limits of this process's control groups leave (cgroups of version 1 and 2)."""
    left = sys.maxsize
    for line in membership.read_text().splitlines() if membership.exists() else []:
        _, controllers, place = line.split(":", 2)
        if controllers in CGROUP_FILES:
            folder, *files = CGROUP_FILES[controllers]
            top = root / folder
            own = top / place.lstrip("/")
            # A limit holds for all groups below it. In a container `place` may be that of the host, and does not exist.
            for group in (own, *own.parents):
                if group.is_relative_to(top):
                    left = min(left, _left(group, *files))
    return left


def _left(group: Path, limit: str, used: str, cached: str) -> int:
    """What one group has left. Files that it has read count as used, and are given up when memory is needed."""
    try:
        most = int((group / limit).read_text())  # the word "max" where there is no limit
        kinds = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, most - int((group / used).read_text()) + int(kinds[cached]))
    except (OSError, ValueError, KeyError):
        return sys.maxsize
