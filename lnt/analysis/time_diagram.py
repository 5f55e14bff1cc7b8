"""Time as an axis: a metric over one swept key and the time of training, and when the stages end there."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lnt.analysis.cells import check_column, conditions, numeric_axes, planned_values, swept_keys, typed_plan
from lnt.analysis.load import RunTables
from lnt.analysis.phase_diagram import Grid, grid
from lnt.column_names import SEEDS
from lnt.errors import require
from lnt.intervals import mean_interval
from lnt.level_set import is_log
from lnt.theory.conditions import predicted_t1
from lnt.theory.mean_field import last_crossing

CLOCKS = ("step", "t1")  # what an axis of time counts: steps of the optimizer, or T1
MOST_TIMES = 120  # on an axis
FEWEST_TIMES = 3


@dataclass(frozen=True)
class TimePanel:
    """One panel: a metric over a key and time, seed by seed, and the times of the stages on the way.

    `ends` [X] are medians over the runs of a column, NaN where most of them never get there or where nothing is known: `t1`
    (the predicted scale), `fitted` (stage1_step), `memorised` (half of the mislabelled samples, for good), `predicted` (the
    same of the mean-field theory), `stopped` (where early stopping returns the network).
    """

    data: Grid  # its axis y is time
    ends: Mapping[str, np.ndarray]


def steps_in_unit(runs: pd.DataFrame, clock: str) -> pd.Series:
    """How many steps a unit of time is, of each run: 1, or its T1. Raises ConfigError if theory has no T1 for a run."""
    if clock == "step":
        return pd.Series(1.0, runs.index)
    scale = rounded_t1(runs)
    known = "needs runs whose T1 theory knows: signal-noise data of two classes; y=step serves all runs"
    require(bool(scale.notna().all()), "y", clock, known)
    return scale


def rounded_t1(runs: pd.DataFrame) -> pd.Series:
    """T1 of each run in steps: it may come from a step size that was itself worked out from T1, and equal times are to be equal
    numbers. NaN where theory has none.
    """
    return predicted_t1(runs).map("{:.9g}".format).astype(float)


def metric_columns(results: RunTables) -> list[str]:
    """The metrics that were recorded on the way and have a value somewhere."""
    curves = results.curves
    names = [str(name) for name in curves if name not in ("run_id", "step")]
    return [name for name in names if pd.api.types.is_numeric_dtype(curves[name]) and curves[name].notna().any()]


def check_time(results: RunTables, clock: str, x: str | None, value: str | None) -> None:
    """Raise ConfigError if there is no diagram of `value` over time."""
    steps = results.curves["step"].nunique() if "step" in results.curves else 0
    require(steps >= FEWEST_TIMES, "y", clock, f"needs curves of {FEWEST_TIMES} recorded steps or more")
    require(bool(x or numeric_axes(results)), "x", x, f"no key of numbers was swept, which y={clock} needs")
    if value is not None:
        check_column(results.runs, "value", value, metric_columns(results))
    steps_in_unit(results.runs, clock)


def common_times(times: np.ndarray, most: int = MOST_TIMES) -> np.ndarray:
    """At most so many of all recorded times, the first and the last among them: evenly in log(time) where recordings lie so,
    then without time 0, or else evenly in time.
    """
    times = np.unique(times)
    positive = times[times > 0]
    in_factors = _evenly(positive, np.log(positive), most)
    if is_log(in_factors):
        # Even steps are thinned to even factors, too: what counts is whether recordings come to lie farther apart.
        early, late = np.array_split(np.diff(positive), 2)
        if late.mean() > 2 * early.mean():
            return in_factors
    return _evenly(times, times, most)


def _evenly(times: np.ndarray, place: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the ascending times, evenly in their places on an axis."""
    if len(times) <= most:
        return times
    return times[np.unique(np.searchsorted(place, np.linspace(place[0], place[-1], most)))]


def by_time(results: RunTables, value: str, clock: str, most: int = MOST_TIMES) -> tuple[np.ndarray, pd.DataFrame]:
    """Times [T], and a row for each of these and each run: `run` (its place in results.runs), `time` and the value.

    The value is that of the last recorded step up to then, and NaN beyond the last step of a run: nothing is extrapolated.
    """
    runs, curves = results.runs, results.curves
    place = curves["run_id"].map(pd.Series(np.arange(len(runs)), runs["run_id"]))
    rows = pd.DataFrame({"run": place, "time": curves["step"].astype(float), value: curves[value].astype(float)})
    rows = rows.dropna(subset="run").astype({"run": int})
    rows["time"] /= steps_in_unit(runs, clock).to_numpy()[rows["run"]]
    times = common_times(rows["time"].to_numpy(), most)
    wanted = pd.DataFrame({"run": np.tile(np.arange(len(runs)), len(times)), "time": np.repeat(times, len(runs))})
    found = pd.merge_asof(wanted, rows.sort_values("time"), on="time", by="run")
    last = found["run"].map(rows.groupby("run")["time"].max())
    return times, found.assign(**{value: found[value].where(found["time"] <= last)})


def over_time(
    results: RunTables, x: str, clock: str, value: str, predicted: pd.DataFrame | None = None
) -> dict[str, TimePanel]:
    """The panels of a diagram over x and time under their titles: one for each combination of the other swept keys.

    `predicted`: the table of study_theory.add_theory. Columns, panels and what is missing come from the plan if there is one.
    """
    others, runs = [key for key in swept_keys(results) if key != x], results.runs
    times, rows = by_time(results, value, clock)
    keys = [x, *others, *(key for key in SEEDS if key in runs)]
    rows = rows.join(runs[keys].reset_index(drop=True), on="run")
    ends = runs[[x, *others]].join(times_of_stages(results, predicted).div(steps_in_unit(runs, clock), axis=0))
    ran, ended, planned = conditions(rows, others), conditions(ends, others), None
    if results.plans:
        plan = typed_plan(results, [x, *others]).dropna(subset=[x])
        planned = conditions(plan.merge(pd.DataFrame({"time": times}), how="cross"), others)
    axes = _points(results, x), times
    found = {}
    for title in (planned or {}) | ran:
        wanted = None if planned is None else planned.get(title, rows.head(0).assign(planned=0))
        data = grid(ran.get(title, rows.head(0)), x, "time", value, axes, wanted)
        found[title] = TimePanel(data, _medians(ended.get(title, ends.head(0)), x, data))
    return found


def pictures(
    results: RunTables, x: str, y: str, value: str, most: int
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """A phase diagram at several times: the points of both axes, the steps [T], and of each panel the means [T, Y, X]."""
    others = [key for key in swept_keys(results) if key not in (x, y)]
    times, rows = by_time(results, value, "step", most)
    rows = rows.join(results.runs[[x, y, *others]].astype({x: float, y: float}).reset_index(drop=True), on="run")
    axes = _points(results, x), _points(results, y)
    places = pd.MultiIndex.from_product([times, axes[1], axes[0]])
    found = {
        title: part.groupby(["time", y, x])[value].mean().reindex(places).to_numpy().reshape(places.levshape)
        for title, part in conditions(rows, others).items()
    }
    return axes, times, found


def _points(results: RunTables, key: str) -> np.ndarray:
    """The values of a swept key in order, planned ones that nothing has run at included."""
    planned = planned_values(results.plans).get(key, [])
    return np.unique(pd.concat([results.runs[key].astype(float), pd.Series(planned, dtype=float)]).dropna())


def time_table(panels: Mapping[str, TimePanel], x: str, clock: str, value: str) -> pd.DataFrame:
    """The data of a figure: a row for each panel, time and x: the mean over seeds, its 95 % interval, and TimePanel.ends."""
    parts = []
    for title, panel in panels.items():
        data, (low, high) = panel.data, mean_interval(panel.data.values)
        time, at = (axis.ravel() for axis in np.meshgrid(data.y, data.x, indexing="ij"))
        columns = {"panel": title, x: at, clock: time, f"{value}_mean": data.mean.ravel()}
        columns |= {f"{value}_low": low.ravel(), f"{value}_high": high.ravel()}
        parts.append(pd.DataFrame(columns | {name: np.tile(line, len(data.y)) for name, line in panel.ends.items()}))
    return pd.concat(parts, ignore_index=True)


def times_of_stages(results: RunTables, predicted: pd.DataFrame | None) -> pd.DataFrame:
    """The columns of TimePanel.ends for each run, in steps; infinite: never, NaN: not known."""
    runs, curves = results.runs, results.curves
    found = {"t1": predicted_t1(runs), "fitted": runs["stage1_step"].astype(float).fillna(np.inf)}
    if "noisy_accuracy" in curves:
        found["memorised"] = memorised_step(runs, curves).fillna(np.inf)
    if predicted is not None:
        known = predicted["test_error_predicted"].notna()
        found["predicted"] = predicted["memorised_predicted"].fillna(np.inf).where(known) * predicted_t1(predicted)
    if "strategy" in runs and (stops := runs["strategy"] == "early_stopping").any():
        found["stopped"] = runs["strategy_step"].astype(float).where(stops)
    return pd.DataFrame(found, index=runs.index)


def memorised_step(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.Series:
    """The step after which half of the mislabelled samples are fitted as labelled, for good; NaN if they never are."""
    wide = curves.pivot(index="step", columns="run_id", values="noisy_accuracy").reindex(columns=runs["run_id"])
    # Runs of other lengths leave rows empty: between recorded steps nothing changes sign twice, as far as this table tells.
    wide = wide.interpolate("index", limit_area="inside").ffill()
    return pd.Series(last_crossing(wide.index.to_numpy(float), wide.to_numpy(float), 0.5), runs.index)


def _medians(ends: pd.DataFrame, x: str, data: Grid) -> dict[str, np.ndarray]:
    """Medians over the runs of each column; NaN outside the times of the diagram, which are where infinity is, too."""
    table = ends.assign(**{x: ends[x].astype(float)}).groupby(x).median(numeric_only=True).reindex(data.x)
    names = [name for name in ("t1", "fitted", "memorised", "predicted", "stopped") if name in table]
    seen = {name: table[name].where((table[name] > 0) & (table[name] <= data.y[-1])).to_numpy(float) for name in names}
    return {name: line for name, line in seen.items() if np.isfinite(line).any()}
