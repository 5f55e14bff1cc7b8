"""Figures are rendered in processes beside the analysis: results come back, and so do errors and deaths."""

import os
import signal

import pytest

from lnt.analysis import background
from lnt.analysis.background import Processes


@pytest.fixture(params=[1, 2])
def processes(request, monkeypatch):
    """On one core, where all happens in this process, and on two."""
    monkeypatch.setattr(background, "allowed_cores", lambda: request.param)
    return Processes()


def test_results_belong_to_their_calls(processes):
    large = 2**20  # more than a pipe holds: its process waits until it is asked
    results = [processes.start(lambda i=i: bytes([i]) * large) for i in range(6)]
    assert [result() for result in reversed(results)] == [bytes([i]) * large for i in reversed(range(6))]


def test_a_result_can_be_asked_for_twice(processes):
    result = processes.start(lambda: 3)
    assert (result(), result()) == (3, 3)


def test_an_error_is_raised_here():
    with pytest.raises(ZeroDivisionError):  # on one core at once
        Processes().start(lambda: 1 // 0)()


def test_a_process_that_dies_is_an_error(monkeypatch):
    monkeypatch.setattr(background, "allowed_cores", lambda: 2)
    result = Processes().start(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(RuntimeError, match="died"):
        result()


def test_no_more_processes_than_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(background, "allowed_cores", lambda: 2)

    def count(i):
        (tmp_path / str(i)).touch()
        try:
            return len(list(tmp_path.iterdir()))
        finally:
            (tmp_path / str(i)).unlink()

    processes = Processes()
    assert max(result() for result in [processes.start(lambda i=i: count(i)) for i in range(8)]) <= 2
