"""Chunks spread over worker processes: order, errors, and no process that outlives its parent."""

import os
import platform
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from types import SimpleNamespace

import psutil
import pytest
import torch

from lnt.hardware import cgroup_bytes, free_bytes, granted_bytes, heed_scheduler, threads, workers_for
from lnt.progress import Progress
from lnt.runs.workers import spread


def slowly(item, count):
    """Later items take less time."""
    time.sleep(0.02 * (3 - item % 4))
    count.update(item)
    return item, os.getpid()


def fail_at_three(item, count):
    if item == 3:
        raise ValueError("three")
    return item


def die_at_three(item, count):
    if 3 in item:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def halved(item):
    return [item[: len(item) // 2], item[len(item) // 2 :]] if len(item) > 1 else []


def in_workers(work, items, workers, progress):
    """Items that cannot be divided."""
    return spread(work, items, workers, progress, lambda item: [], lambda item: pytest.fail("a worker died"))


def sleep(item, count):
    time.sleep(60)


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_and_all_steps_are_counted(workers):
    with Progress(total=sum(range(40))) as progress:
        results = list(in_workers(slowly, range(40), workers, progress))
    assert [item for item, _ in results] == list(range(40))
    assert progress.done == progress.total
    assert len({process for _, process in results}) == workers
    assert (os.getpid() in {process for _, process in results}) == (workers == 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_reaches_the_caller(workers):
    with pytest.raises(ValueError, match="three"), Progress(1) as progress:
        list(in_workers(fail_at_three, range(20), workers, progress))


def test_what_ends_its_process_is_found_and_the_rest_is_done():
    """Items are lists here; one that holds a 3 dies, and is divided until the 3 is alone."""
    items = [[0, 1], [2, 3, 4, 5], [6], [3], *([number] for number in range(7, 20))]
    with Progress(1) as progress:
        results = [*spread(die_at_three, items, 2, progress, halved, lambda item: ["lost", *item])]
    assert sorted(number for item in results if item[0] != "lost" for number in item) == [0, 1, 2, *range(4, 20)]
    assert [item for item in results if item[0] == "lost"] == [["lost", 3]] * 2


def test_workers_end_with_their_parent():
    parent = get_context("fork").Process(target=lambda: list(in_workers(sleep, range(4), 2, Progress(1))))
    parent.start()
    deadline = time.monotonic() + 20
    while len(children := psutil.Process(parent.pid).children()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) == 2
    parent.kill()
    parent.join()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_what_slurm_grants_is_heeded(monkeypatch):
    """Also on a node where other cores and memory lie idle."""
    memory = free_bytes(torch.device("cpu"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    with threads(4):
        heed_scheduler()
        assert torch.get_num_threads() == 4
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
        heed_scheduler()
        assert workers_for(torch.device("cpu")) == 3
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
        heed_scheduler()
        assert torch.get_num_threads() == 3, "no more than there were"
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "64")
    assert free_bytes(torch.device("cpu")) == 64 * 2**20 < memory


def test_cores_that_a_process_is_confined_to_are_heeded(monkeypatch):
    """taskset, a container with --cpuset-cpus, or SLURM where it confines without saying how many."""
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    with threads(4):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5})
        heed_scheduler()
        assert torch.get_num_threads() == 2
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
        heed_scheduler()
        assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("environment", "granted"),
    [
        ({"MEM_PER_NODE": "100"}, 100),
        ({"MEM_PER_CPU": "50", "CPUS_ON_NODE": "4"}, 200),
        ({"MEM_PER_CPU": "50", "CPUS_PER_TASK": "3"}, 150),
        ({"MEM_PER_CPU": "50"}, 50),
        ({"MEM_PER_GPU": "70", "GPUS_ON_NODE": "2"}, 140),
        ({"MEM_PER_NODE": "0"}, None),
        ({}, None),
    ],
)
def test_memory_that_slurm_grants(monkeypatch, environment, granted):
    for name in ("MEM_PER_NODE", "MEM_PER_CPU", "MEM_PER_GPU", "CPUS_ON_NODE", "CPUS_PER_TASK", "GPUS_ON_NODE"):
        monkeypatch.delenv(f"SLURM_{name}", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert granted_bytes() == (sys.maxsize if granted is None else granted * 2**20)


def group(folder, names, limit, used, cached):
    """Write the files of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cached}\n")


@pytest.mark.parametrize(
    ("place", "folder", "names"),
    [
        ("0::/job_17/step_0", "", ("memory.max", "memory.current", "inactive_file")),
        ("4:memory:/job_17/step_0", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
)
def test_memory_limits_of_control_groups_are_heeded(tmp_path, place, folder, names):
    """The narrowest of the groups around this process counts, and files that it has read are no hindrance."""
    root, membership = tmp_path / "groups", tmp_path / "membership"
    membership.write_text(f"9:pids:/\n{place}\n")
    assert cgroup_bytes(membership, root) == sys.maxsize, "no limits"
    group(root / folder / "job_17" / "step_0", names, "max", 600, 0)
    assert cgroup_bytes(membership, root) == sys.maxsize, "a group without a limit"
    group(root / folder / "job_17", names, 1000, 700, 200)
    group(root / folder, names, 5000, 1000, 0)
    assert cgroup_bytes(membership, root) == 500
    group(root / folder / "job_17", names, 1000, 1300, 200)
    assert cgroup_bytes(membership, root) == 0
    assert cgroup_bytes(tmp_path / "no system with groups", root) == sys.maxsize


def test_free_memory_is_no_more_than_any_limit(monkeypatch):
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    monkeypatch.setattr("lnt.hardware.cgroup_bytes", lambda: 12345)
    assert free_bytes(torch.device("cpu")) == 12345


def test_without_a_limit_it_is_what_others_leave_of_the_host(monkeypatch):
    for limit in ("granted_bytes", "cgroup_bytes"):
        monkeypatch.setattr(f"lnt.hardware.{limit}", lambda: sys.maxsize)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=9000, available=500, free=40))
    assert free_bytes(torch.device("cpu")) == 500


def test_free_memory_of_a_gpu_is_what_others_have_left_of_it_and_of_the_host(monkeypatch):
    monkeypatch.setattr("lnt.hardware.cgroup_bytes", lambda: 700)
    for free, wanted in ((300, 300), (800, 700)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 1000))
        assert free_bytes(torch.device("cuda")) == wanted


def test_only_cpus_have_workers():
    assert workers_for(torch.device("cpu")) == torch.get_num_threads()
    assert workers_for(torch.device("cuda")) == 1


def quick_then_slow(item, count):
    time.sleep(0 if item == 0 else 60)
    return item


def test_nobody_waits_for_results_that_nobody_takes():
    """An interrupt while results are awaited ends the workers at once."""
    before = set(psutil.Process().children(recursive=True))  # other tests' launchers
    results = in_workers(quick_then_slow, range(8), 2, Progress(1))
    assert next(results) == 0
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 20
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_a_worker_takes_its_memory_once():
    program = """
import resource, sys
import numpy as np
from lnt.hardware import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(1_000_000) for _ in range(12)]  # 23 437 pages
    del arrays
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "return")
    )
    assert kept < returned / 4
