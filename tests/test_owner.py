"""Two processes where one should be: each run is trained once."""

import contextlib
import os
import time
from types import SimpleNamespace

import psutil
import pytest
from train_process import SWEEP, train_py

import lnt
from lnt.errors import ConfigError
from lnt.runs import owner
from lnt.runs.directory import RunDirectory
from lnt.runs.owner import Lost, Owner


def test_an_owner_that_lives_keeps_its_claim_and_one_that_is_gone_does_not(tmp_path, monkeypatch):
    file = tmp_path / "owner"
    first, second = Owner(file), Owner(file)
    first.claim()
    with pytest.raises(ConfigError, match=rf"is in use: .*:{os.getpid()} trains there"):
        second.claim()
    with monkeypatch.context() as patch:  # as if this process had ended, and its number been given again
        patch.setattr(owner, "_started", lambda pid: "earlier")
        second.claim()
    second.check()
    with pytest.raises(Lost, match="is another process's now"):
        first.check()
    first.release()
    second.check()
    second.release()
    assert not list(tmp_path.iterdir())


def test_a_step_of_the_clock_does_no_harm_to_an_owner(tmp_path, monkeypatch):
    Owner(tmp_path / "owner").claim()
    monkeypatch.setattr(psutil, "boot_time", lambda: 0.0)
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 12345.0)
    with pytest.raises(ConfigError, match="is in use"):
        Owner(tmp_path / "owner").claim()


def test_an_owner_whose_file_cannot_be_read_for_a_moment_does_not_give_up(tmp_path, monkeypatch):
    mine = Owner(tmp_path / "owner")
    mine.claim()

    def stale(file):
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(owner, "_read", stale)
        with pytest.raises(OSError, match="Stale file handle"):
            mine.check()
        with pytest.raises(ConfigError, match="Stale file handle"):
            Owner(tmp_path / "owner").claim()
    mine.check()


@pytest.mark.parametrize(("age", "taken"), [(0, False), (50, False), (70, True)])
def test_an_owner_elsewhere_is_gone_once_it_is_silent(tmp_path, monkeypatch, age, taken):
    """Of a process on another machine only the age of its file tells, by the clock of the file system."""
    file = tmp_path / "owner"
    with monkeypatch.context() as patch:
        patch.setattr(owner, "_machine", lambda: "another one")
        Owner(file)._create()
    os.utime(file, (time.time() - age,) * 2)
    with contextlib.nullcontext() if taken else pytest.raises(ConfigError, match="is in use"):
        Owner(file).claim()


def test_an_owner_that_has_just_been_replaced_by_another_is_left_alone(tmp_path):
    """Two processes find the same dead owner; the slower one must not remove the claim of the faster one."""
    file = tmp_path / "owner"
    file.write_text("")
    dead = file.stat().st_ino
    faster, slower = Owner(file), Owner(file)
    keep = file.rename(tmp_path / "kept")  # its inode must not be given again here
    assert faster._create()
    slower._replace(dead)
    faster.check()
    keep.unlink()


@pytest.mark.slow
def test_the_same_command_twice_trains_each_run_once(tmp_path):
    both = [train_py(*SWEEP, cwd=tmp_path) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert sorted(process.returncode != 0 for process in both) == [False, True], said
    assert any("is in use" in text or "trains there" in text for text in said)
    found = lnt.load(tmp_path / "out")
    assert (len(found.runs), found.duplicates) == (60, 0)


def test_two_processes_of_one_job_train_it_once(tmp_path, monkeypatch):
    """As with several tasks on a node, or a job that is requeued while the first one lives on."""
    first = RunDirectory.claim_for_job(tmp_path / "0", tmp_path, 0)
    with pytest.raises(ConfigError, match="is in use"):
        RunDirectory.claim_for_job(tmp_path / "7", tmp_path, 0, patience=0)
    first.release()
    RunDirectory.claim_for_job(tmp_path / "7", tmp_path, 0, patience=0).release()


def test_an_owner_that_was_replaced_does_not_keep_its_successors_claim_fresh(tmp_path, monkeypatch):
    monkeypatch.setattr(owner, "BEAT_SECONDS", 0.05)
    file = tmp_path / "owner"
    first = Owner(file)
    first.claim()
    file.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(owner.threading, "Thread", lambda **more: SimpleNamespace(start=lambda: None))
        Owner(file).claim()
    os.utime(file, (1, 1))
    time.sleep(0.5)
    assert file.stat().st_mtime == 1
