"""Worker processes: on CPUs, the runs of a sweep's job are spread over the cores, one chunk of runs to each.

Each worker computes on one core, so that sampling, training, measuring and making tables all scale alike. Workers are
forked: they start at once, with everything imported. The number of cores is torch.get_num_threads(), which heeds
OMP_NUM_THREADS and the cores that a scheduler grants.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import SynchronizedArray
from typing import Any, TypeAlias, TypeVar

import torch

from lnt import hardware, signals
from lnt.progress import Progress, StepCount
from lnt.signals import Stopped

Item = TypeVar("Item")
Result = TypeVar("Result")
Counted: TypeAlias = "SynchronizedArray[float]"  # the work of all workers, and the part of it that is skipped
SECONDS_BETWEEN_LOOKS = 0.2
WAITING = 2  # chunks in hand for each worker: no worker idles, and results do not pile up

_count: StepCount  # of this worker; global, since a shared counter can be inherited but not sent with a call


def spread(
    work: Callable[[Item, StepCount], Result],
    items: Iterable[Item],
    workers: int,
    progress: Progress,
    divide: Callable[[Item], list[Item]],
    lost: Callable[[Item], Result],
) -> Iterator[Result]:
    """Yield work(item, count) for each of the items, in their order; `count.update(steps)` shows on `progress`.

    With one worker all happens in this process. An error in a worker is raised here. If a worker dies, the items in hand are
    tried again, each in a process of its own, and one that dies again in the parts that `divide` makes of it; what cannot be
    divided has the result `lost(item)`.
    """
    if workers == 1:
        for item in items:
            yield work(item, progress)
        return
    rest, in_hand = iter(items), deque[tuple[Item, Future[Result]]]()
    while True:
        try:
            yield from _in_pool(work, rest, workers, progress, in_hand)
            return
        except BrokenProcessPool:
            # The pool does not say which item killed its worker, so all that were in hand are suspects.
            suspects = list(in_hand)
            in_hand.clear()
        for item, future in suspects:
            # Its worker had finished it before the pool broke: it is not trained twice.
            if future.done() and not future.cancelled() and future.exception() is None:
                yield future.result()
            else:
                yield from _alone(work, item, progress, divide, lost)


def _alone(
    work: Callable[[Item, StepCount], Result],
    item: Item,
    progress: Progress,
    divide: Callable[[Item], list[Item]],
    lost: Callable[[Item], Result],
) -> Iterator[Result]:
    """The results of an item that a worker may have died of."""
    try:
        # A pool of one, not this process: the item may kill its process again.
        yield from _in_pool(work, iter([item]), 1, progress, deque())
    except BrokenProcessPool:
        for part in (parts := divide(item)):
            yield from _alone(work, part, progress, divide, lost)
        if not parts:
            yield lost(item)


def _in_pool(
    work: Callable[[Item, StepCount], Result],
    items: Iterator[Item],
    workers: int,
    progress: Progress,
    pending: deque[tuple[Item, Future[Result]]],
) -> Iterator[Result]:
    """Yield the results of new worker processes; `pending` are the items in hand."""
    context = multiprocessing.get_context("fork")
    # Starts at what is done already, since `progress` is moved by the difference. `others` are not this pool's to kill.
    counted, others = context.Array("d", [progress.done, progress.skipped]), set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _become_worker, (counted,))
    try:
        for item in items:
            try:
                with signals.interrupt_held():
                    pending.append((item, pool.submit(_call, work, item)))
            except BrokenProcessPool:
                # The item has left the iterator; with a future that never ends it stays in hand and is tried again.
                pending.append((item, Future()))
                raise
            if len(pending) > WAITING * workers:
                yield _next_result(pending, counted, progress)
        while pending:
            yield _next_result(pending, counted, progress)
    except Stopped:
        signals.pass_on()
        # Chunks that have begun are waited for: each writes its checkpoint, or its result is yielded and saved.
        for future in [future for _, future in pending if not future.cancel()]:
            with suppress(Stopped, BrokenProcessPool):  # the signal may have ended a worker at once
                yield future.result()
        raise
    except BaseException:  # Ctrl-C among them: do not wait for chunks that nobody will take
        for worker in set(multiprocessing.active_children()) - others:
            # SIGKILL, since workers ignore Ctrl-C and may only note SIGTERM.
            worker.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _next_result(pending: deque[tuple[Any, Future[Result]]], counted: Counted, progress: Progress) -> Result:
    """The result of the first of the pending calls; shows progress while it waits."""
    _, first = pending[0]
    # A wait without an end would neither show progress nor look at signals.
    while not wait([first], SECONDS_BETWEEN_LOOKS).done:
        _show(counted, progress)
        if signals.asked():
            raise Stopped
    _show(counted, progress)
    result = first.result()
    # Only now: if result() raises BrokenProcessPool, the item must still be in hand for `spread`.
    pending.popleft()
    return result


def _show(counted: Counted, progress: Progress) -> None:
    done, skipped = counted[:]
    progress.add(done - progress.done, skipped - progress.skipped)


class SharedStepCount(StepCount):
    """Counts the work of a worker, and adds it to that of all workers."""

    def __init__(self, counted: Counted) -> None:
        super().__init__()
        self.counted = counted

    def add(self, done: float, skipped: float = 0.0) -> None:
        super().add(done, skipped)
        # += reads and writes: two workers at once would lose steps.
        with self.counted.get_lock():
            self.counted[0] += done
            self.counted[1] += skipped


def _become_worker(counted: Counted) -> None:
    """Compute on one core, and end with the parent, however that ends."""
    global _count
    _count = SharedStepCount(counted)
    torch.set_num_threads(1)
    hardware.keep_freed_memory()
    signals.become_worker()
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A parent that is killed by signal 9 cannot end its workers; each one watches it instead.
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    # sys.exit would end this thread only, not the worker.
    os._exit(1)


def _call(work: Callable[[Item, StepCount], Result], item: Item) -> Result:
    return work(item, _count)
