"""The heartbeat of whoever trains in a directory: status.json is touched now and then, so that anyone sees that it lives."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BEAT_SECONDS = 15.0


@contextmanager
def heartbeat(status: Path) -> Iterator[None]:
    """Touch `status` every BEAT_SECONDS."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with suppress(OSError):  # a file system that is away for a moment
                status.touch()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
