"""Tables of results: runs.parquet, curves.parquet and samples.parquet, from what training has measured.

docs/results.md has the meaning and the unit of every column; lnt/column_names.py lists those of outcomes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from lnt.column_names import METRICS, OUTCOME_TYPES, SELECTION_AUCS, STATES
from lnt.files import write_atomically
from lnt.training.experiment import Experiment
from lnt.training.loop import LOSS, Curves, KeptNetworks
from lnt.training.metrics import STAGE_REACHED

SAMPLES = pa.schema(  # of runs on images: a row for each training sample
    {"run_id": pa.string(), "index": pa.int32(), "true": pa.int16(), "observed": pa.int16()}
    | {"loss_best": pa.float32(), "loss_last": pa.float32(), "margin_best": pa.float32(), "margin_last": pa.float32()}
    | {"learning_time_best": pa.float32(), "learning_time_last": pa.float32()}
    | {"wrong_events_best": pa.int32(), "wrong_events_last": pa.int32()}
)


class Tables(NamedTuple):
    """Results of some runs."""

    runs: pa.Table
    curves: pa.Table
    samples: pa.Table


CLASSES = ("positive", "negative")  # of two: +1 is the first
TYPES = {"b": "boolean", "i": "Int64", "f": "float64", "O": "float64", "U": "str"}  # O: None, a number that is not given


def schema_of(types: Mapping[str, str]) -> pa.Schema:
    """The schema with which pandas reads back the given types, nullable integers included."""
    return pa.Schema.from_pandas(
        pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()}), preserve_index=False
    )


class Schemas(NamedTuple):
    """The columns of the tables of some experiments."""

    runs: pa.Schema
    curves: pa.Schema


def schemas(experiments: Sequence[Experiment]) -> Schemas:
    """The schemas of tables that hold the runs of all these experiments, whatever their components are."""
    types = {"run_id": "str"}
    for experiment in experiments:
        for key, value in experiment.columns().items():
            # One experiment may lack a value that another one has; the type comes from the one that has it.
            if value is not None or key not in types:
                types[key] = TYPES[np.asarray(value).dtype.kind]
    own = dict.fromkeys((name for experiment in experiments for name in experiment.own_metrics()), "float64")
    curves = {"run_id": "str", "step": "int64", **dict.fromkeys(METRICS, "float64"), **own}
    return Schemas(schema_of({**types, **OUTCOME_TYPES, **own}), schema_of(curves))


def _table(columns: Mapping[str, Any], rows: int, schema: pa.Schema) -> pa.Table:
    """Columns are arrays of `rows` values, or one value that all rows share; one that is not given is null."""

    def fill(value: Any, kind: pa.DataType) -> pa.Array:
        # Shared values are repeated by Arrow, without a Python object for each row.
        shared = value is None or isinstance(value, str | int | float)
        return pa.repeat(pa.scalar(value, kind), rows) if shared else pa.array(value, kind)

    return pa.Table.from_arrays([fill(columns.get(field.name), field.type) for field in schema], schema=schema)


def tables(experiment: Experiment, curves: Curves, schema: Schemas) -> Tables:
    """One row per run: run_id, every config value under its dotted key, then outcomes. And the curves, in long form:
    run_id, step, one column per metric, without the records of a run after it diverged.
    """
    found = measured_tables(experiment.run_ids(), {**experiment.columns(), **outcomes(experiment, curves)}, curves, schema)
    return found if curves.kept is None else found._replace(samples=samples(experiment, curves.kept))


def measured_tables(run_ids: Sequence[str], of_runs: Mapping[str, Any], curves: Curves, schema: Schemas) -> Tables:
    """The tables of runs, from the columns of runs.parquet [R] and the curves."""
    ids = pa.array(run_ids)
    runs = _table({"run_id": ids, **of_runs}, len(ids), schema.runs)
    times, metrics, count = curves.values.shape
    columns = {
        "run_id": ids.take(np.repeat(np.arange(count), times)),
        # Long form: values [T, M, R] become M columns of R * T rows, run by run.
        "step": np.tile(curves.steps, count),
        **dict(zip(curves.metrics, curves.values.transpose(1, 2, 0).reshape(metrics, count * times), strict=True)),
    }
    # A diverged run is NaN from that step on, so a finite loss marks the steps to keep.
    recorded = _table(columns, count * times, schema.curves).filter(np.isfinite(columns["train_loss"]))
    return Tables(runs, recorded, SAMPLES.empty_table())


def samples(experiment: Experiment, kept: KeptNetworks) -> pa.Table:
    """Training samples, run by run: position in the files, true and observed class number, signals at both networks kept."""
    count, n = kept.labels.shape
    numbers = np.array(experiment.classes().numbers)
    columns = {
        "run_id": np.repeat(experiment.run_ids(), n),
        "index": experiment.positions().ravel(),
        "true": numbers[kept.labels.cpu().numpy().ravel()] if experiment.knows_truth else None,
        "observed": numbers[kept.observed.cpu().numpy().ravel()],
    }
    for name, state in zip(STATES, (kept.best, kept.last), strict=True):
        signals = {"loss": state.losses, **state.signals}
        columns |= {f"{signal}_{name}": values.cpu().numpy().ravel() for signal, values in signals.items()}
    return _table(columns, count * n, SAMPLES)


def realised_transition(counts: np.ndarray) -> list[str | None]:
    """Shares of the observed classes (columns) among the training samples of each true one (rows), for each run."""
    rows = counts.sum(1, keepdims=True)
    return as_json(counts / np.maximum(rows, 1))  # zeros in the row of a class without samples


def as_json(matrices: np.ndarray) -> list[str | None]:
    """Matrices [K, K, R] as text, for each run; null where there is NaN."""
    rounded = np.round(np.moveaxis(matrices, -1, 0), 6)
    return [None if np.isnan(matrix).any() else json.dumps(matrix.tolist()) for matrix in rounded]


def label_noise(experiment: Experiment, counts: np.ndarray) -> dict[str, Any]:
    """What the label noise does on average, and what it did to the training samples counted in [K, K, R]: columns [R].

    Those of single classes exist for two classes only: +1 is the first, -1 the second.
    """
    if not experiment.knows_truth:
        return {}
    noise, samples = experiment.noise, experiment.representatives()
    # Rounded, so that a rate of 0.3 is 0.3 however its probabilities were added up.
    columns = {"flip_rate": experiment.flip_rate().round(12)}
    if len(counts) > 2:
        return columns
    for label, name in enumerate(CLASSES):
        columns[f"flip_rate_{name}"] = experiment.per_run(noise.flip_rate_of(label, samples).round(12))
    return columns | label_counts(counts)


def label_counts(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Training samples of two classes that are observed as what they are and as the other, [R] each, from [K, K, R]."""
    if len(counts) > 2:
        return {}
    correct = {f"clean_{name}": counts[label, label] for label, name in enumerate(CLASSES)}
    return correct | {f"flipped_{name}": counts[label, 1 - label] for label, name in enumerate(CLASSES)}


def estimated_noise(experiment: Experiment, estimate: np.ndarray | None) -> dict[str, Any]:
    """What a strategy estimates of the label noise, [K, K, R], beside what is true: columns [R]; none without an estimate."""
    if estimate is None:
        return {}
    columns: dict[str, Any] = {"estimated_transition": as_json(estimate)}
    samples = experiment.representatives()
    # If only pixels tell it, or true labels are not known, nobody knows the true matrix.
    if experiment.knows_truth and (samples.index is not None or not experiment.noise.needs_images):
        true = np.moveaxis(experiment.transition(), 0, -1)
        columns["transition_error"] = np.abs(estimate - true).mean((0, 1))
    if len(estimate) == 2:
        columns |= {"estimated_flip_rate_positive": estimate[0, 1], "estimated_flip_rate_negative": estimate[1, 0]}
    return columns


def save_networks(folder: Path, experiment: Experiment, kept: KeptNetworks) -> None:
    """Write a file for each run with the weights of the two networks kept: at the lowest test error, and the last."""
    folder.mkdir(parents=True, exist_ok=True)
    for r, run_id in enumerate(experiment.run_ids()):
        networks = {
            # clone: value[r] is a view of all runs, and torch.save would write the whole storage into each file.
            name: {key: value[r].cpu().clone() for key, value in state.parameters.items()}
            for name, state in (("best", kept.best), ("last", kept.last))
        }
        write_atomically(folder / f"{run_id}.pt", partial(torch.save, networks))


def failed_tables(experiment: Experiment, error: BaseException, schema: Schemas) -> Tables:
    """The row of a run that raised; it has no curve."""
    failure = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    runs = _table({"run_id": experiment.run_ids(), **experiment.columns(), **failure}, experiment.runs, schema.runs)
    return Tables(runs, schema.curves.empty_table(), SAMPLES.empty_table())


def outcomes(experiment: Experiment, curves: Curves) -> dict[str, Any]:
    """Work out how each run ended, and what is known of it beforehand. Columns [R]."""
    return {
        **measured_outcomes(curves),
        "step_size": experiment.step_size(),
        **label_noise(experiment, curves.counts),
        "realised_transition": realised_transition(curves.counts) if curves.kept and experiment.knows_truth else None,
        **estimated_noise(experiment, curves.transition),
        "wall_seconds": curves.seconds,
    }


def measured_outcomes(curves: Curves) -> dict[str, Any]:
    """The last measured value of every metric, early-stopping oracle, stage steps. Columns [R]."""
    alive = np.isfinite(curves.values[:, LOSS])  # [T, R]
    # [R] last recorded step before the run diverged; 0 where nothing was measured, and `measured` then makes it null.
    last = np.maximum(alive.sum(0) - 1, 0)
    final = np.take_along_axis(curves.values, last[None, None, :], 0)[0]  # [M, R]
    # A probe may have seen no test samples at a step, or at none.
    error = curves.values[:, METRICS.index("test_error")]
    tested = ~np.isnan(error)
    error = np.where(alive & tested, error, np.inf)
    # The strategy may have chosen a step that the run has not reached.
    chosen = np.minimum(curves.chosen, last)
    best, measured = error.argmin(0), np.asarray(alive.any(0))
    at_chosen, judged = np.take_along_axis(error, chosen[None], 0)[0], np.asarray((alive & tested).any(0))
    at_best = np.take_along_axis(curves.values, best[None, None, :], 0)[0]
    return {
        "status": np.where(alive.all(0), "completed", "diverged"),
        "last_step": _steps(curves.steps[last], measured),
        **dict(zip(curves.metrics, final, strict=True)),
        "best_test_error": np.where(judged, error.min(0), np.nan),
        "best_test_error_fresh": np.where(judged, curves.fresh_error, np.nan),
        "best_step": _steps(curves.steps[best], judged),
        **{f"{name}_best": np.where(judged, at_best[METRICS.index(name)], np.nan) for name in SELECTION_AUCS},
        "strategy_test_error": np.where(np.isfinite(at_chosen), at_chosen, np.nan),
        "strategy_step": _steps(curves.steps[chosen], measured),
        "stage1_step": _first_step(curves, "clean_accuracy"),
        "stage2_step": _first_step(curves, "noisy_accuracy"),
        **({} if curves.stage_times is None else dict(zip(("stage1_time", "stage2_time"), curves.stage_times, strict=True))),
    }


def _first_step(curves: Curves, metric: str) -> pa.Array:
    """First recorded step at which an accuracy reaches STAGE_REACHED, null if it never does."""
    reached = curves.values[:, METRICS.index(metric)] >= STAGE_REACHED
    # argmax of booleans is the first True, and 0 where there is none: the mask sorts that out.
    return _steps(curves.steps[reached.argmax(0)], np.asarray(reached.any(0)))


def _steps(steps: np.ndarray, exists: np.ndarray) -> pa.Array:
    """Steps, null where there is none."""
    return pa.array(steps, pa.int64(), mask=~exists)


def joined(parts: Iterable[Tables]) -> Tables:
    """Join several tables into one."""
    return Tables(*map(pa.concat_tables, zip(*parts, strict=True)))
