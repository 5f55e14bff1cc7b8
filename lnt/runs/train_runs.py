"""From experiments to tables, in the same way for a single run, for a job of a sweep, and from Python.

Claim a directory, describe what is trained, train, make tables, save them, say how it ended. Runs train in chunks, as many
side by side as fit; a chunk that raises is tried in halves, so that one bad run costs one row.
"""

import itertools
import logging
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lnt import hardware, signals
from lnt.progress import Progress, StepCount
from lnt.runs.directory import RunDirectory
from lnt.runs.owner import Lost
from lnt.runs.tables import Schemas, Tables, failed_tables, joined, save_networks, schemas, tables
from lnt.runs.trackers import NoTracker, Tracker, Tracking
from lnt.runs.workers import spread
from lnt.signals import Stopped
from lnt.training.checkpoint import Checkpoint
from lnt.training.experiment import Experiment
from lnt.training.loop import train_chunk

log = logging.getLogger(__name__)
Done = tuple[Tables, Path | None]  # results of a chunk, and its checkpoint, which they make superfluous
SHARE_AT_RISK, SECONDS_AT_RISK = 0.05, 5.0  # a job that dies loses about this share of its time, or at most these seconds
NO_TRACKER = NoTracker()
ENDED = RuntimeError("its process died: a crash below Python, or out of memory")


def train_runs(
    batches: Sequence[Experiment],
    directory: RunDirectory,
    description: Mapping[str, Any],
    checkpoint: Checkpoint,
    being_preempted: Callable[[], bool],
    workers: int | None = None,
    planned: Sequence[Experiment] = (),
    tracker: Tracker = NO_TRACKER,
) -> Counter[str]:
    """Train all runs into a directory that this process has claimed; return how many ended in which status.

    Runs that are saved are handed to the `tracker`. `planned` are all runs of a job of which `batches` are those that are
    missing: its parts have the columns of all of them. `workers` processes share the chunks, or as many as the experiments ask
    for. A scheduler's signal ends this process once everything is written down; `being_preempted` tells whether the scheduler
    wants the job to go on later.
    """
    total, schema = sum(batch.runs for batch in batches), schemas(planned or batches)
    # It writes status.json, which its owner touches and lnt.status looks for, before anything that takes long.
    saved = SavedResults(directory, total, tracker)
    directory.describe(description, device_name(batches), hardware.cores())
    for warning in dict.fromkeys(line for batch in batches for line in batch.warnings()):
        log.warning(warning)
    with signals.interruptible(), signals.listening() as handlers:
        try:
            with Progress(sum(batch.work() for batch in batches), total, told=saved.tell) as progress:
                for done in trained(batches, schema, progress, checkpoint, directory.networks, workers):
                    saved.add(done)
            saved.flush()
            # Before "completed" is said: what is killed while it joins is a job that died, and a rerun finds every row.
            directory.join_parts()
            # A failed run among others is a row of its own; only if all runs failed has the job failed. An empty job has not.
            all_failed = saved.statuses["failed"] == total > 0
            directory.say("failed" if all_failed else "completed", runs=total, **({"error": saved.error} if all_failed else {}))
        except Stopped:
            # Everything is on the disk before `finish` lets submitit requeue the job: it may start again at once.
            try:
                saved.flush()
                directory.say("preempted", done=saved.statuses.total(), of=total)
                log.info("stopped; what is done is saved, and the same command goes on: results in %s", directory.path)
            except OSError as error:  # a full disk is no reason to stay out of the queue
                log.warning("stopped; the last results cannot be written, and their runs are trained again: %s", error)
            signals.finish(handlers, being_preempted)
        except KeyboardInterrupt:
            signals.heeded()
            saved.flush()
            directory.say("interrupted")
            raise
        except Lost as error:
            # The other one writes here now, status.json too.
            log.error("Training ended: %s", error)
            raise
        # BaseException: whatever ends training must not leave the status "running".
        except BaseException as error:
            # Logged as well: under a launcher, Hydra keeps the traceback out of the job's own log.
            log.exception("Training failed")
            with suppress(OSError):  # the disk may be what has failed
                saved.flush()
            with suppress(OSError):
                directory.say("failed", error=f"{type(error).__name__}: {error}")
            raise
        finally:
            directory.release()
    return saved.statuses


def trained(
    batches: Sequence[Experiment],
    schema: Schemas,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
    networks: Path | None = None,
    workers: int | None = None,
) -> Iterator[list[Done]]:
    """Yield the tables of all runs, chunk by chunk; weights of networks on images go to the folder `networks`."""
    work = partial(train_or_fail, schema=schema, checkpoint=checkpoint, networks=networks)
    lost = partial(died, schema=schema)
    with signals.interrupt_held():  # Ctrl-C inside a library's destructor would be printed, and lost
        for batch in batches:
            batch.load_code()
    # Batches that want the same number of workers share a pool, so that no core idles at the end of each batch.
    for count, group in itertools.groupby(batches, lambda batch: workers or batch.workers()):
        chunks = itertools.chain.from_iterable(_chunks(batch.by_test_set(), checkpoint, count) for batch in group)
        for done in spread(work, chunks, count, progress, halves, lost):
            progress.ran(sum(len(found.runs) for found, _ in done))
            yield done


def _chunks(batch: Experiment, checkpoint: Checkpoint | None, workers: int) -> Iterator[Experiment]:
    return batch.chunks(workers) if checkpoint is None else checkpoint.chunks(batch, workers)


def train_or_fail(
    chunk: Experiment, progress: StepCount, schema: Schemas, checkpoint: Checkpoint | None, networks: Path | None
) -> list[Done]:
    """Train a chunk. If it raises, its halves are tried; a single run that raises is a row `failed`.

    An OSError is raised on: the machine's fault (a full disk, a file that is gone) is no run's.
    """
    before, skipped = progress.done, progress.skipped
    # Stopped and KeyboardInterrupt pass: they are no Exception, and no fault of the run.
    try:
        curves = train_chunk(chunk, progress, checkpoint)
        # Weights first: a run with a row is not trained again, so its weights must be there.
        if networks is not None and curves.kept is not None and chunk.settings.keep_networks:
            save_networks(networks, chunk, curves.kept)
        return [(tables(chunk, curves, schema), None if checkpoint is None else checkpoint.path(chunk))]
    except OSError:
        raise
    except Exception as error:
        # The steps of this try count for nothing: the halves take them again.
        progress.add(before - progress.done, skipped - progress.skipped)
        if chunk.runs == 1:
            log.exception("Run %s failed", chunk.run_ids()[0])
            # The run is over, so its steps count as done; else the bar would never reach its end.
            progress.skip(chunk.total_steps())
            return [(failed_tables(chunk, error, schema), None)]
    return [part for half in halves(chunk) for part in train_or_fail(half, progress, schema, checkpoint, networks)]


def halves(chunk: Experiment) -> list[Experiment]:
    """A chunk in two, none of a single run."""
    return [chunk.take(half) for half in np.array_split(np.arange(chunk.runs), 2)] if chunk.runs > 1 else []


def died(run: Experiment, schema: Schemas) -> list[Done]:
    """The row of a run that has ended its process: a crash below Python, or more memory than there is."""
    log.error("Run %s has ended its process", run.run_ids()[0])
    return [(failed_tables(run, ENDED, schema), None)]


def device_name(batches: Sequence[Experiment]) -> str:
    """Name the device that the runs train on, for provenance.json."""
    if not batches:  # a job that was requeued between its last part and its last word
        return "none: nothing was left to train"
    device = batches[0].empty_tensor().device
    cuda = device.type == "cuda"
    return f"{device.type}: {torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine()}"


class SavedResults:
    """Collects tables, and saves them when the time since the last save exceeds what may be at risk."""

    def __init__(self, directory: RunDirectory, total: int, tracker: Tracker = NO_TRACKER) -> None:
        self.directory, self.total, self.tracking = directory, total, Tracking(tracker, directory.path)
        self.statuses: Counter[str] = Counter()
        self.error = ""  # of the first run that failed
        self.waiting: list[Done] = []
        self.known: Mapping[str, Any] = {}  # of the progress
        self.start = self.flushed = time.monotonic()
        self._say()

    def add(self, done: list[Done]) -> None:
        """Take in the tables of some runs."""
        self.waiting += done
        now = time.monotonic()
        # A growing interval: a long job writes few parts, a short one is saved every few seconds.
        if now - self.flushed > max(SECONDS_AT_RISK, SHARE_AT_RISK * (now - self.start)):
            try:
                self.flush()
            except OSError as error:
                # A full disk may be emptied before the end; until then all is kept in memory.
                log.warning("Results cannot be written yet: %s", error)
            self.flushed = time.monotonic()

    def flush(self) -> None:
        """Save what has been collected."""
        if not self.waiting:
            return
        found, checkpoints = zip(*self.waiting, strict=True)
        written = joined(found)
        # Whatever comes after, even Ctrl-C at once: what is saved must not be saved again.
        with signals.interrupt_held():
            self.directory.save(written)
            self.waiting = []
        self.statuses.update(written.runs["status"].to_pylist())
        self.error = self.error or next(filter(None, written.runs["error"].to_pylist()), "")
        for checkpoint in filter(None, checkpoints):  # only now: a run's row is on the disk
            with suppress(OSError):
                Checkpoint.forget(checkpoint)
        self._say()
        self.tracking.add(written)

    def tell(self, known: Mapping[str, Any]) -> None:
        """Let status.json say what is known of the progress."""
        self.known = known
        # A full disk hinders no training; and what belongs to another process now, the next save says.
        with suppress(OSError, Lost):
            self.directory.owner.check()
            self._say()

    def _say(self) -> None:
        self.directory.say("running", done=self.statuses.total(), of=self.total, **self.known)
