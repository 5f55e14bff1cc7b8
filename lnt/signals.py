"""End early when a scheduler asks for it: nothing is lost, and the next start goes on.

SLURM sends a signal some time before a job's time is over (submitit: SIGUSR2), and SIGTERM when it is preempted or cancelled.
Training then writes a checkpoint at the next block of steps and raises Stopped; lnt/runs/train_runs.py handles it.
"""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGUSR2, signal.SIGTERM)
# Handlers only set these: training looks at them between blocks of steps, where its state can be saved.
_received: int | None = None
_interrupted = False
_held = False


class Stopped(BaseException):
    """Training was asked to end, and has ended. No Exception, so that `except Exception` does not take it for a failed run."""


def quit_on_interrupt() -> None:
    """Let Ctrl-C end this process with one word: until training begins there is nothing to save."""
    signal.signal(signal.SIGINT, _quit)


def _quit(number: int, frame: FrameType | None) -> None:
    # No exception and no print: the code being imported could catch the one, and the other may not run inside itself.
    os.write(2, b"interrupted\n")
    os._exit(128 + number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt. In a main thread only; elsewhere nothing changes."""
    global _interrupted
    # Elsewhere signal.signal raises ValueError.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        _interrupted = False
        signal.signal(signal.SIGINT, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _interrupted
    _interrupted = True
    if not _held:
        raise KeyboardInterrupt


@contextmanager
def interrupt_held() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block: Python drops, with a traceback, what is raised while it forks a process."""
    global _held
    _held = True
    try:
        yield
    finally:
        _held = False
    asked()


@contextmanager
def listening() -> Iterator[dict[int, Any]]:
    """Note the signals instead of ending at once; yields the handlers that were there before. In a main thread only."""
    global _received
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, _note) for number in SIGNALS}
        # Signals of the first seconds have waited until now (lnt/sweeps/submission.py).
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        yield before
    finally:
        # A process may train several jobs one after another: the signal was for the one that has ended.
        _received = None
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(number: int, frame: FrameType | None) -> None:
    global _received
    _received = number


def asked() -> int | None:
    """The signal that has come, if one has. Raises KeyboardInterrupt after Ctrl-C."""
    if _interrupted:
        raise KeyboardInterrupt
    return _received


def heeded() -> None:
    """Forget the Ctrl-C that has come: what follows it, such as saving, must go on to its end."""
    global _interrupted
    _interrupted = False


def pass_on() -> None:
    """Pass the request to end on to the worker processes of this process."""
    for worker in multiprocessing.active_children():
        # A signal may have reached this process alone, or its whole group: a worker that gets it twice is none the worse.
        if worker.pid is not None:
            os.kill(worker.pid, signal.SIGUSR2)


def become_worker() -> None:
    """In a worker: signals are noted if its parent listens; no other handler (submitit's would requeue the job) stays."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent ends its workers
    for number in SIGNALS:
        # A fork inherits the handlers of its parent.
        if signal.getsignal(number) is not _note:
            signal.signal(number, signal.SIG_DFL)


def finish(before: dict[int, Any], being_preempted: Callable[[], bool]) -> NoReturn:
    """End the process: by the handler that submitit had for its signal (it requeues the job), else with the usual status.

    A preempted job is sent SIGTERM, as a cancelled one is; `being_preempted` tells the two apart. Without it SLURM would take a
    preempted job for one that failed by itself.
    """
    number = _received or signal.SIGTERM
    # submitit's handler for SIGTERM only logs; the one for SIGUSR2 requeues, so it serves for preemption too.
    handler = before.get(signal.SIGUSR2)
    if callable(handler) and (number == signal.SIGUSR2 or being_preempted()):
        try:
            handler(number, None)
        except subprocess.SubprocessError as error:
            log.warning("SLURM does not requeue this job (%s); a rerun goes on", error)
    # As a shell reports a process that a signal has ended.
    sys.exit(128 + number)
