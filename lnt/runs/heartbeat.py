"""The heartbeat of a process that trains: it touches status.json now and then, so that others see that it is alive."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BEAT_SECONDS = 15.0  # lnt.status takes a job for dead after four beats


@contextmanager
def heartbeat(status: Path) -> Iterator[None]:
    """Touch `status` every BEAT_SECONDS."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with suppress(OSError):  # a file system that is away for a moment
                status.touch()

    # A thread, since a block of steps may take longer than a beat; daemon, so that it cannot keep a failing process alive.
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
