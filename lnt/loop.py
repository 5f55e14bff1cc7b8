"""The one loop around both engines: advance to the next recorded step, look, measure, record."""

import time
from dataclasses import dataclass

import numpy as np

from lnt.autograd import AutogradEngine
from lnt.experiment import Experiment
from lnt.metrics import METRICS, measure
from lnt.problem import Problem
from lnt.progress import Progress
from lnt.span import SpanEngine

LOSS = METRICS.index("train_loss")
BLOCK = 50  # steps between two signs of life


@dataclass(frozen=True)
class Curves:
    """The METRICS of R runs at T recorded steps. From the step on at which a run diverged, its values are NaN."""

    steps: np.ndarray  # [T]
    values: np.ndarray  # [T, M, R]
    seconds: np.ndarray  # [R] wall time, shared evenly by the runs of a chunk


def recorded_steps(total: int, recordings: int) -> np.ndarray:
    """About `recordings` steps from 0 to `total`: all of the first ones, then evenly in log(step), always the last."""
    if recordings == 1:
        return np.array([total])
    return np.unique(np.r_[0, np.rint(np.geomspace(total, 1, recordings - 1))]).astype(int)


def train(experiment: Experiment) -> Curves:
    """Train all runs of the experiment, chunk by chunk."""
    steps = recorded_steps(experiment.total_steps(), experiment.settings.recordings)
    values, seconds = [], []
    with Progress(total=experiment.runs * experiment.total_steps()) as progress:
        for chunk in experiment.chunks():
            start = time.perf_counter()
            problem = chunk.sample()
            values.append(record(chunk.start(problem), problem, steps, progress))
            seconds.append(np.full(chunk.runs, (time.perf_counter() - start) / chunk.runs))
    return Curves(steps, np.concatenate(values, -1), np.concatenate(seconds))


def record(engine: SpanEngine | AutogradEngine, problem: Problem, steps: np.ndarray, progress: Progress) -> np.ndarray:
    """Train from step 0 to the last of `steps`, [T], and measure at each of them: [T, M, R]."""
    runs = len(problem.labels)
    values = np.full((len(steps), len(METRICS), runs), np.nan)
    alive = np.ones(runs, bool)
    for row, step in enumerate(steps):
        while engine.step < step:
            block = min(BLOCK, int(step) - engine.step)
            engine.advance(block)
            progress.update(block * runs)
        measured = measure(engine.snapshot(), problem).cpu().numpy()
        alive &= np.isfinite(measured[LOSS])
        values[row] = np.where(alive, measured, np.nan)
        if not alive.any():
            progress.update(int(steps[-1] - step) * runs)
            break
    return values
