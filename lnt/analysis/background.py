"""Work that an analysis does beside its main line, so that several cores share it: figures are rendered, tables written."""

import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from lnt.hardware import allowed_cores

Result = TypeVar("Result")


class Processes:
    """Runs functions in forked processes, which have all of this one's memory, as many at once as there are cores."""

    def __init__(self) -> None:
        forks = "fork" in multiprocessing.get_all_start_methods()
        self._at_once = allowed_cores() if forks else 1
        self._running: list[_Forked] = []

    def start(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Begin with work(); the function returned waits for its result, or raises its error."""
        if self._at_once == 1:
            done = work()
            return lambda: done
        self._running = [forked for forked in self._running if not forked.ended]
        if len(self._running) >= self._at_once:
            self._running.pop(0).wait()
        self._running.append(forked := _Forked(work))
        return forked.result


class _Forked:
    """A function in a process of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        context = multiprocessing.get_context("fork")
        self._results, sender = context.Pipe(duplex=False)
        # A daemon: it ends with this process, however that ends.
        self._process = context.Process(target=_send, args=(work, sender), daemon=True)
        self._process.start()
        sender.close()  # or a process that dies would be waited for for ever
        self.ended, self._outcome = False, (None, RuntimeError("a process that renders a figure died"))

    def wait(self) -> None:
        """Until it has ended."""
        if not self.ended:
            with suppress(EOFError):  # it died, perhaps for want of memory
                self._outcome = self._results.recv()
            self._process.join()
            self.ended = True

    def result(self) -> Any:
        """What the function has returned."""
        self.wait()
        found, error = self._outcome
        if error is not None:
            raise error
        return found


def _send(work: Callable[[], Any], sender: Connection) -> None:
    # The parent says that it was interrupted; its processes need not.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        outcome: tuple[Any, Exception | None] = (work(), None)
    except Exception as error:
        outcome = None, error
    sender.send(outcome)
