"""The one loop around all engines: advance to the next recorded step, measure, record."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lnt import signals
from lnt.column_names import ADDED_METRICS, METRICS
from lnt.hardware import threads
from lnt.progress import Progress, StepCount
from lnt.signals import Stopped
from lnt.training.checkpoint import Checkpoint
from lnt.training.engine import Engine, Snapshot, Truth
from lnt.training.experiment import Experiment
from lnt.training.metrics import OwnMetric, cross_fitted_error, errors_on_halves, measure
from lnt.training.selection_signals import History
from lnt.training.strategies import PriorKnowledge, Strategy

log = logging.getLogger(__name__)
LOSS, ERROR, OBSERVED_ERROR, CRITERION = (
    METRICS.index(name) for name in ("train_loss", "test_error", "test_error_observed", "stopping_criterion")
)
# Steps between two updates of the progress, offers of a checkpoint and looks at signals: a job that is told to stop must
# react in time also where recorded steps lie far apart.
BLOCK = 50
NO_METRICS: Mapping[str, OwnMetric] = {}


@dataclass(frozen=True)
class NetworkState:
    """The part of R networks that is kept of one step: selection signals of the training samples, and weights."""

    losses: Tensor  # [R, n] against observed labels
    parameters: Mapping[str, Tensor]  # [R, ..] each
    signals: Mapping[str, Tensor] = field(default_factory=dict)  # the other selection signals, [R, n] each


@dataclass(frozen=True)
class KeptNetworks:
    """Kept of runs on images beside their metrics: the samples, and the networks at two steps."""

    labels: Tensor  # [R, n] true classes
    observed: Tensor  # [R, n] at the end
    best: NetworkState  # at the first recorded step with the lowest test error (observed labels, where true ones are not known)
    last: NetworkState


@dataclass(frozen=True)
class Curves:
    """The metrics of R runs at T recorded steps. A run that diverged has NaN from that step on."""

    metrics: tuple[str, ...]  # M names: METRICS, then the user's own
    steps: np.ndarray  # [T]
    values: np.ndarray  # [T, M, R]
    chosen: np.ndarray  # [R] index of the recorded step whose network the strategy returns
    fresh_error: np.ndarray  # [R] test error of the best step, chosen by other test samples than those that judge it
    seconds: np.ndarray  # [R] wall time, shared evenly by the runs of a chunk
    counts: np.ndarray  # [K, K, R] training samples by true and by observed class, at the last recorded step
    kept: KeptNetworks | None = None
    transition: np.ndarray | None = None  # [K, K, R] P(observed | true) as the strategy estimates it, NaN in runs that diverged
    stage_times: np.ndarray | None = None  # [2, R] at which both stages were reached, NaN if never; None: known in steps only


def train(experiment: Experiment, checkpoint: Checkpoint | None = None) -> Curves:
    """Train all runs of the experiment, chunk by chunk."""
    with Progress(experiment.work(), experiment.runs) as progress:
        parts = [train_chunk(chunk, progress, checkpoint) for chunk in experiment.chunks()]
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts], -1)
        for name in ("values", "chosen", "fresh_error", "seconds", "counts", "transition", "stage_times")
        if getattr(parts[0], name) is not None
    }
    return Curves(parts[0].metrics, parts[0].steps, **joined, kept=parts[0].kept if len(parts) == 1 else None)


def train_chunk(chunk: Experiment, progress: StepCount, checkpoint: Checkpoint | None = None) -> Curves:
    """Train runs that fit into memory together, under their strategy; resume from their checkpoint if there is one."""
    start = time.perf_counter()
    progress.begin(chunk.step_cost(), chunk.runs, chunk.total_steps(), chunk.steps_per_epoch())
    with threads(chunk.cores()):
        # A resumed run is sampled again from its seeds: a checkpoint holds only what training has changed.
        training = Training.of(chunk)
        if checkpoint is not None and (state := checkpoint.load(chunk)) is not None:
            training.load(state)
            log.info("%d runs go on from step %d", chunk.runs, training.step)
            # Steps of the earlier attempt count: the total covers all steps of all runs.
            progress.skip(training.step * chunk.runs)
        training.run(progress, None if checkpoint is None else partial(checkpoint.save, chunk))
        return training.curves(time.perf_counter() - start)


class Training:
    """R runs in training, from step 0 or from a saved state to the end, with all that has been measured so far.

    The first engine is measured at each recorded step; a strategy may train further ones and acts on all.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        problem: Truth,
        steps: np.ndarray,
        strategy: Strategy,
        known: PriorKnowledge,
        own_metrics: Mapping[str, OwnMetric] = NO_METRICS,
        classes: int = 2,
    ) -> None:
        self.engines, self.problem, self.steps, self.strategy, self.known = engines, problem, steps, strategy, known
        self.own_metrics, self.classes = own_metrics, classes
        self.runs = len(problem.labels)
        self.values = np.full((len(steps), len(METRICS) + len(own_metrics), self.runs), np.nan)
        self.halves = np.full((len(steps), 2, self.runs), np.nan)  # test errors on the two halves of the test set
        self.alive = np.ones(self.runs, bool)
        self.before: Tensor | None = None  # predictions at the recorded step before
        self.best: NetworkState | None = None
        # None if it is not known: a state of an earlier version has none.
        self.history: History | None = History.like(problem.labels)
        self.last: Snapshot | None = None
        self.rows = 0  # recorded steps so far
        self.acted = 0  # the last step at which the strategy has acted
        self.memory: dict[str, Tensor] = {}  # what the strategy remembers between steps

    @classmethod
    def of(cls, chunk: Experiment) -> "Training":
        """The runs of an experiment at step 0."""
        strategy, known, problem = chunk.strategy, chunk.prior_knowledge(), chunk.sample()
        peers = [chunk.sample(peer) for peer in range(1, strategy.networks)]
        # Each network of a strategy has its own problem: the same data, other initial weights.
        engines = [strategy.wrap(chunk.start(sampled)) for sampled in (problem, *peers)]
        for engine in engines:
            strategy.begin(engine, known)
        return cls(engines, problem, chunk.recorded_steps(), strategy, known, chunk.own_metrics(), chunk.classes().count)

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.engines[0].step

    def run(self, progress: StepCount, save: Callable[[Callable[[], Mapping]], None] | None = None) -> None:
        """Train to the last recorded step; `save` is offered the state now and then."""
        acts = self.strategy.acts_at(int(self.steps[-1]), self.known)
        stops = np.union1d(acts, self.steps).astype(int)
        # ">=": a checkpoint may have been written on reaching a stop, before it was recorded or acted on.
        for stop in stops[(stops >= self.step) & (stops <= self.steps[-1])]:
            while self.step < stop:
                block = min(BLOCK, int(stop) - self.step)
                self.strategy.advance(self.engines, block, self.known, self.memory)
                progress.update(block * self.runs)
                if save is not None:
                    save(self.state)
                # After the offer to save: a signal makes the offer due, so nothing of the last block is lost.
                if signals.asked():
                    raise Stopped
            # Only rows still to come: a resumed run can stand at a step that it has recorded already.
            if stop in self.steps[self.rows :]:
                self._record()
            # All runs have diverged: their remaining rows stay NaN, and the steps left out are shown as done.
            if not self.alive.any():
                progress.skip(int(self.steps[-1] - stop) * self.runs)
                break
            # After recording, so that a recorded step shows the network before the strategy changes anything.
            if stop in acts and stop > self.acted:
                self.strategy.act(self.engines, replace(self.known, history=self.history))
                self.acted = int(stop)
            # Offered again, with the row and the action in it. At the end the results are written instead.
            if save is not None and stop < self.steps[-1]:
                save(self.state)

    def _record(self) -> None:
        """Take a snapshot and measure it."""
        # A strategy may train further networks; only the first one is measured.
        now = self.last = self.engines[0].snapshot()
        if self.history is not None:
            self.history.add(now.predicted == now.observed)
        measured = measure(now, self.problem, tuple(self.own_metrics.values()), self.history).cpu().numpy()
        if (watched := self.strategy.criterion(now, self.before)) is not None:
            measured[CRITERION] = watched.cpu().numpy()
        # For good: a run whose loss is finite again after it diverged stays diverged.
        self.alive &= np.isfinite(measured[LOSS])
        # `initial` covers the first row, where there is nothing to compare with, and columns that are all NaN.
        error = ERROR if self.problem.test_labels_known else OBSERVED_ERROR
        lowest = np.nanmin(self.values[: self.rows, error], 0, initial=np.inf)
        # "<", not "<=": the first of equal steps counts, as in best_step of the tables.
        better = self.alive & (measured[error] < lowest)
        # Runs that diverged still train with their batch, since a batch has one shape; their numbers are dropped.
        self.values[self.rows], self.before = np.where(self.alive, measured, np.nan), now.predicted
        # Infinite, not NaN, after a run has diverged: these steps are never the best, NaN would say that one was not measured.
        self.halves[self.rows] = np.where(self.alive, errors_on_halves(now, self.problem).cpu().numpy(), np.inf)
        if now.parameters is not None:
            self.best = updated(self.best, self._kept(now), torch.as_tensor(better))
        self.rows += 1

    def _kept(self, now: Snapshot) -> NetworkState:
        """What is kept of the networks at the last recorded step."""
        assert now.parameters is not None
        signals = {} if now.margins is None else {"margin": now.margins}
        if self.history is not None:
            steps = torch.as_tensor(self.steps, dtype=now.losses.dtype, device=now.losses.device)
            signals |= {"learning_time": self.history.learning_times(steps), "wrong_events": self.history.wrong}
        return NetworkState(now.losses, now.parameters, signals)

    def state(self) -> dict[str, Any]:
        """Everything needed to resume training: tensors and numbers."""
        best = self.best
        return {
            "engines": [engine.state() for engine in self.engines],
            "metrics": [*METRICS, *self.own_metrics],
            "values": torch.as_tensor(self.values),
            "halves": torch.as_tensor(self.halves),
            "alive": torch.as_tensor(self.alive),
            "before": self.before,
            "best": best and {"losses": best.losses, "parameters": dict(best.parameters), "signals": dict(best.signals)},
            "history": self.history and dict(vars(self.history)),
            "rows": self.rows,
            "acted": self.acted,
            "memory": self.memory,
            "transition": self._estimate(),
        }

    def _estimate(self) -> Tensor | None:
        """P(observed | true) as the strategy estimates it, [R or 1, K, K]."""
        return torch.as_tensor(self.engines[0].loss.transition) if self.strategy.estimates_transition else None

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from a state."""
        for engine, saved in zip(self.engines, state["engines"], strict=True):
            engine.load(saved)
            if (estimate := state.get("transition")) is not None:
                engine.loss = engine.loss.bound(estimate.numpy)
        # A state is loaded to the CPU, whatever device it was saved from.
        device = self.problem.labels.device
        self.alive = state["alive"].numpy()
        # By name: a state of an earlier version lacks metrics that came later, and they stay NaN in its rows.
        measured = state.get("metrics", [*(name for name in METRICS if name not in ADDED_METRICS), *self.own_metrics])
        for index, name in enumerate((*METRICS, *self.own_metrics)):
            if name in measured:
                self.values[:, index] = state["values"].numpy()[:, measured.index(name)]
        # A state of an earlier version has none: they stay NaN, and so does the error that rests on all of them.
        self.halves = state["halves"].numpy() if "halves" in state else self.halves
        self.before = None if state["before"] is None else state["before"].to(device)
        self.rows, self.acted, self.memory = state["rows"], state["acted"], dict(state.get("memory", {}))
        history = state.get("history")
        self.history = history and History(history["learned"].to(device), history["wrong"].to(device), history["records"])
        if (best := state["best"]) is not None:
            parts = (best["parameters"], best.get("signals", {}))
            on_device = ({name: value.to(device) for name, value in part.items()} for part in parts)
            self.best = NetworkState(best["losses"].to(device), *on_device)

    def curves(self, seconds: float) -> Curves:
        """The measurements, once training has ended."""
        chosen, last = self.strategy.choose(self.values[:, CRITERION]), self.last
        fresh = cross_fitted_error(self.halves[: self.rows], self.problem.test_labels.shape[1])
        each = np.full(self.runs, seconds / self.runs)
        kept = None
        assert last is not None, "the last step is always recorded"
        if last.parameters is not None and self.best is not None:
            kept = KeptNetworks(self.problem.labels, last.observed, self.best, self._kept(last))
        true, observed = self.problem.as_classes(self.problem.labels), self.problem.as_classes(last.observed)
        counts = class_counts(true, observed, self.classes)
        estimate = self._estimate()
        # A run that diverged may have done so before there was an estimate.
        found = None if estimate is None else np.where(self.alive, np.moveaxis(estimate.numpy(), 0, -1), np.nan)
        times = None if last.stage_times is None else last.stage_times.T.cpu().numpy()
        return Curves((*METRICS, *self.own_metrics), self.steps, self.values, chosen, fresh, each, counts, kept, found, times)


def class_counts(true: Tensor, observed: Tensor, classes: int) -> np.ndarray:
    """Samples [K, K, R] of each true (first axis) and observed class, from classes [R, n]."""
    runs = torch.arange(len(true), device=true.device)[:, None]
    # One number for each triple (true, observed, run), so that a single bincount counts them all.
    triples = (true.long() * classes + observed.long()) * len(true) + runs
    counts = torch.bincount(triples.flatten(), minlength=classes * classes * len(true))
    return counts.view(classes, classes, len(true)).cpu().numpy()


def updated(best: NetworkState | None, now: NetworkState, better: Tensor) -> NetworkState:
    """`now` in the runs [R] where it is better, `best` in the others; a copy, since `now` is a view of live networks."""
    if best is None:
        copies = ({name: value.clone() for name, value in part.items()} for part in (now.parameters, now.signals))
        return NetworkState(now.losses.clone(), *copies)
    if bool(better.any()):
        better = better.to(now.losses.device)
        best.losses[better] = now.losses[better]
        for kept, new in ((best.parameters, now.parameters), (best.signals, now.signals)):
            for name, value in kept.items():
                value[better] = new[name][better]
    return best
