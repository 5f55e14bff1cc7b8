"""Chunks spread over worker processes: order, errors, and no process that outlives its parent."""

import os
import signal
import time
from multiprocessing import get_context

import psutil
import pytest
import torch

from lnt.hardware import free_bytes, heed_scheduler, threads, workers_for
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
