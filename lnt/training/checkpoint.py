"""Checkpoints: the saved state from which the training of a chunk of runs resumes when its process has died."""

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lnt import signals
from lnt.errors import one_line, require
from lnt.files import check_zip, put_aside, write_atomically
from lnt.training.experiment import Experiment

log = logging.getLogger(__name__)


class Checkpoint:
    """Keeps the state of one chunk at a time in `folder`, under a name that belongs to its runs; written now and then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written = time.monotonic()

    def path(self, chunk: Experiment) -> Path:
        """The file that holds the state of these runs."""
        ids = chunk.run_ids()
        # All ids of a large chunk do not fit in a file name.
        name = ids[0] if len(ids) == 1 else hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]
        return self.folder / f"{name}.pt"

    def load(self, chunk: Experiment) -> Mapping[str, Any] | None:
        """The last state of these runs that can be read, None if there is none; a damaged file is put aside, with a warning.

        Raises ConfigError if the state belongs to other runs.
        """
        # A chunk begins here, and its first checkpoint is due only after the full interval.
        self._written = time.monotonic()
        for path in generations(self.path(chunk)):
            if path.exists() and (state := _read(path)) is not None:
                fits = state["run_ids"] == chunk.run_ids()
                require(fits, "checkpoint", path, "is of another configuration; remove it or choose another directory")
                return state
        return None

    def chunks(self, experiment: Experiment, workers: int) -> Iterator[Experiment]:
        """The experiment in pieces: first those that a state belongs to, whatever would fit into memory now; then the rest."""
        # A rerun may have other cores or less memory and would cut its runs into other chunks, which no state would fit.
        states, free = list(self._interrupted()), np.ones(experiment.runs, bool)
        place = {run: number for number, run in enumerate(experiment.run_ids())} if states else {}
        for ids in states:
            numbers = np.array([place.get(run, -1) for run in ids])
            # Runs of a state that are not in this experiment, or that an earlier state covers, make the state useless here.
            if (numbers >= 0).all() and free[numbers].all():
                free[numbers] = False
                yield experiment.take(numbers)
        if free.all():
            yield from experiment.chunks(workers)
        elif free.any():
            yield from experiment.take(np.flatnonzero(free)).chunks(workers)

    def _interrupted(self) -> Iterator[list[str]]:
        """The runs of each readable state; the tensors stay on the disk."""
        # Names with a leading dot are files that are still being written (lnt/files.py).
        for path in sorted((*self.folder.glob("[!.]*.pt"), *self.folder.glob("[!.]*.pt.before"))):
            with suppress(Exception):  # `load` says what is wrong with it
                yield torch.load(path, map_location="cpu", weights_only=True, mmap=True)["run_ids"]

    def save(self, chunk: Experiment, state: Callable[[], Mapping[str, Any]]) -> None:
        """Write the state if `checkpoint_seconds` have passed since the last write or the start, or if a stop was asked for."""
        due = time.monotonic() - self._written >= chunk.settings.checkpoint_seconds
        # `state` is a function: the tensors are collected only when something is written.
        if not due and not signals.asked():
            return
        # Also after a failure: the next try is due after the full interval.
        self._written, content = time.monotonic(), {"run_ids": chunk.run_ids(), **state()}
        latest, before = generations(self.path(chunk))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if latest.exists():
                latest.replace(before)
            write_atomically(latest, partial(torch.save, content))
        # PyTorch makes a RuntimeError of a full disk. Training goes on: a checkpoint only saves time.
        except (OSError, RuntimeError) as error:
            log.warning("the checkpoint %s cannot be written (%s); training goes on without it", latest, one_line(error))

    @staticmethod
    def forget(path: Path) -> None:
        """Remove the states of a chunk, whose results are written."""
        for file in generations(path):
            file.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove all states: the results are written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def generations(path: Path) -> tuple[Path, Path]:
    """The latest state, and the one before it, which serves if the latest is damaged."""
    return path, path.with_name(f"{path.name}.before")


def _read(path: Path) -> Mapping[str, Any] | None:
    """A state, None if it is damaged."""
    try:
        check_zip(path)
        # weights_only: a file in a results directory must not be able to run code.
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or "run_ids" not in state:
            raise ValueError("it holds no state")
        return state
    except Exception as error:  # PyTorch raises errors of many kinds for bytes that are no state
        log.warning("the checkpoint %s was put aside: %s", path, one_line(error))
        put_aside(path)
        return None
