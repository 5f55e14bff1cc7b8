"""Figures of made-up tables, one for each figure function, and a measure in pixels of what in them lies on what."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from lnt.analysis import figure_images, phase_diagram
from lnt.analysis.cells import cells
from lnt.analysis.comparison import compare
from lnt.analysis.figure_comparison import figure_against, figure_comparison
from lnt.analysis.figure_lines import STRATEGY_PANELS, figure_lines, figure_strategies
from lnt.analysis.figure_phase_diagram import figure_collapse, figure_phase_diagram
from lnt.analysis.figure_selection import LOOKS, WHEN, figure_signals, figure_signals_by
from lnt.analysis.figure_stages import figure_stages
from lnt.analysis.figure_style import STYLE
from lnt.analysis.figure_theory import figure_phases, figure_predicted
from lnt.analysis.figure_time import ENDS, figure_time
from lnt.analysis.goodness_of_fit import Fit
from lnt.analysis.load import RunTables
from lnt.analysis.phase_diagram import Grid
from lnt.analysis.reference import Against
from lnt.analysis.time_diagram import TimePanel
from lnt.column_names import KINDS, METRICS

Spoil = Callable[[pd.DataFrame], pd.DataFrame]  # what is done to a table before it is drawn
NONE = pd.DataFrame()
LONG = "generalised_cross_entropy warmup=adaptive threshold=0.123456 ema momentum=0.999"


def results_of(table: pd.DataFrame, outcomes: list[str]) -> RunTables:
    """Completed runs, with the columns of runs.parquet in their order."""
    settings = [key for key in table if key not in outcomes]
    runs = table.assign(run_id=[str(i) for i in range(len(table))], status="completed")
    runs = runs[["run_id", *settings, "status", *outcomes]]
    return RunTables(runs, runs.head(0), runs.head(0), (), lambda: NONE, lambda: NONE)


def grid_of(spoil: Spoil, keys: dict[str, list], seeds: int = 6) -> pd.DataFrame:
    """Runs on all combinations of values, an error for each that falls with the first numeric key."""
    index = pd.MultiIndex.from_product([*keys.values(), range(seeds)], names=[*keys, "seed"])
    table = index.to_frame(index=False)
    number = np.arange(len(table))
    step = table.groupby(list(keys), sort=False).ngroup()
    table["test_error"] = 0.05 + 0.4 * (1 - step / max(step.max(), 1)) + 0.01 * np.sin(7 * number)
    table["stage1_step"] = 10.0 + number % 50
    table["stage2_step"] = np.where(number % 3, 100.0 + number, np.nan)
    return spoil(table)


VALUES = ["test_error", "stage1_step", "stage2_step"]


def comparison(spoil: Spoil, names: list[str], styles: list[str], numeric: bool) -> Figure:
    x = [0.1, 0.2, 0.3] if numeric else ["one", LONG, "three"]
    table = grid_of(spoil, {"noise.rate": x, "loss": names, "optimizer": styles})
    results = results_of(table, VALUES)
    return figure_comparison(compare(results, "noise.rate", "loss", "optimizer", VALUES), VALUES).figure


def lines(spoil: Spoil, values: list[str]) -> Figure:
    table = cells(results_of(grid_of(spoil, {"data.dim": [100, 200, 400, 800]}), VALUES), ["data.dim"], values)
    return figure_lines(table, "data.dim", values, "error").figure


def strategies(spoil: Spoil, names: list[str]) -> Figure:
    rows = pd.DataFrame([(kind, name, rate) for kind in ("symmetric", "pair") for name in names for rate in (0.1, 0.2, 0.3)])
    rows.columns = ["noise", "name", "rate"]
    for number, value in enumerate(STRATEGY_PANELS):
        middle = 0.2 + 0.1 * number + 0.02 * np.sin(np.arange(len(rows)))
        rows = rows.assign(**{f"{value}_mean": middle, f"{value}_low": middle - 0.02, f"{value}_high": middle + 0.02})
    return figure_strategies(spoil(rows)).figure


def phase(spoil: Spoil, panels: int, width: float, marked: bool = False) -> Figure:
    facets = {}
    for number in range(panels):
        keys = {"data.dim": list(np.geomspace(100, 5000, 6)), "data.signal_norm": list(np.linspace(1, 8, 9))}
        index = pd.MultiIndex.from_product([*keys.values(), range(6)], names=[*keys, "seed"])
        runs = index.to_frame(index=False)
        ratio = runs["data.signal_norm"] / (0.7 * runs["data.dim"] ** 0.25)
        runs["test_error"] = 0.5 / (1 + ratio**4) + 0.01 * np.sin(np.arange(len(runs)))
        runs = spoil(runs)
        if marked and len(runs) > 1:
            runs = runs.drop(index=[*range(18), 60, 61], errors="ignore")
            runs.loc[runs["data.dim"] == keys["data.dim"][3], "test_error"] = np.nan
        data = phase_diagram.grid(runs, *keys, "test_error")
        found = phase_diagram.facet(data, runs.assign(**{"data.n_train": 20}), tuple(keys), "test_error", 0.25, None)
        with np.errstate(all="ignore"):
            law = found.edge and phase_diagram.power_law(data.x, found.edge, tuple(keys), 0.25, 20)
        line = None if law is None else law.constant[0] * data.x**0.25
        predicted = np.where(np.isfinite(data.mean), 0.9 * data.mean, np.nan)
        title = "" if panels == 1 else f"optimizer=normalized_gd, strategy=small_loss, noise={number}"
        facets[title] = phase_diagram.Facet(data, found.edge, law, line, predicted)
    return figure_phase_diagram(facets, "data.dim", "data.signal_norm", "test_error", width).figure


def collapse(spoil: Spoil) -> Figure:
    table = pd.DataFrame(
        {"c": np.geomspace(0.1, 100, 60), "test_error": np.linspace(0.5, 0, 60), "data.dim": [1.0, 10, 100] * 20}
    )
    table = spoil(table)
    kinds = ["law", *["rival"] * 5, "shuffled"]
    fits = [Fit(kind, {"data.dim": -i, "data.signal_norm": 4}, 0.9 - 0.1 * i, (0.1, 0.0, 0.2)) for i, kind in enumerate(kinds)]
    names = (r"$n|\mu|^4 / (s^4 d)$", "test_error", "data.dim")
    return figure_collapse(*(table[key].to_numpy() for key in ("c", "test_error", "data.dim")), names, fits).figure


STEPS = np.unique(np.geomspace(1, 3000, 40).round().astype(int))


def curves_of(spoil: Spoil, seeds: int, lowest: float = 0.05) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs and curves of two stages, whose errors fall to `lowest` and rise again."""
    parts = []
    for seed in range(seeds):
        t = np.r_[0, STEPS].astype(float)
        late = 1 / (1 + (300 / np.maximum(t, 0.1)) ** 3)
        table = pd.DataFrame({"run_id": str(seed), "step": t.astype(int)}).assign(**dict.fromkeys(METRICS, 0.5))
        early = np.exp(-t / 10)
        error = (lowest + 0.5 * early + 0.2 * late) * (1 + 0.3 * np.sin(seed + 3 * t))
        table = table.assign(clean_accuracy=1 - 0.5 * early, noisy_accuracy=late, test_error=error.clip(0, 1))
        table = table.assign(clean_loss=0.69 * early, noisy_loss=1.2 - late, train_loss=0.5 * early + 0.1 * (1 - late))
        table = table.assign(signal_coef=np.log1p(t), noise_coef_noisy=np.log1p(t) * late, overtaken_share=late)
        parts.append(table)
    runs = pd.DataFrame(
        {"run_id": [str(seed) for seed in range(seeds)], "stage1_step": 30.0, "stage2_step": 60.0, "best_step": 40}
    )
    runs["stage2_step"] += np.arange(seeds)
    return spoil(runs), spoil(pd.concat(parts, ignore_index=True))


def stages(spoil: Spoil, titles: list[str], lowest: float = 0.05, seeds: int = 6) -> Figure:
    return figure_stages({title: curves_of(spoil, seeds, lowest) for title in titles}).figure


def signals(spoil: Spoil, titles: list[str]) -> Figure:
    return figure_signals({title: curves_of(spoil, 6) for title in titles}).figure


def signals_by(spoil: Spoil, parts: list[str]) -> Figure:
    table = pd.DataFrame([(part, rate) for part in parts for rate in (0.1, 0.2, 0.3, 0.4)], columns=["loss", "noise.rate"])
    for name in LOOKS:
        for suffix in WHEN:
            middle = 0.8 + 0.1 * np.sin(np.arange(len(table)))
            kinds = {"mean": middle, "low": middle - 0.05, "high": middle + 0.05}
            table = table.assign(**{f"{name}{suffix}_{kind}": values for kind, values in kinds.items()})
    return figure_signals_by(spoil(table), "noise.rate", "loss").figure


def losses(spoil: Spoil, titles: list[str]) -> Figure:
    rng = np.random.default_rng(0)
    observed = np.repeat([0, 1], 200)
    samples = {"true": np.where(rng.random(400) < 0.2, 1 - observed, observed), "observed": observed}
    samples |= {f"loss_{state}": 10.0 ** rng.uniform(-9, 1, 400) for state in ("best", "last")}
    return figure_images.figure_losses({title: spoil(pd.DataFrame(samples)) for title in titles})[0].figure


def suspects(spoil: Spoil) -> Figure:
    table = pd.DataFrame({"true": [1.0, 2, np.nan] * 4, "observed": [1, 3, 2] * 4})
    return figure_images.figure_suspects(spoil(table), np.zeros((12, 1, 5, 5))).figure


def attributions(spoil: Spoil) -> Figure:
    samples = spoil(pd.DataFrame({"kind": [*KINDS] * 4, "observed": 10, "true": 12}))
    rng = np.random.default_rng(0)
    values = {state: rng.standard_normal((8, 1, 6, 6)) for state in ("best", "last")}
    explained = SimpleNamespace(samples=samples, images=rng.random((8, 1, 6, 6)), values=values)
    return figure_images.figure_attributions(explained).figure


def attribution_numbers(spoil: Spoil, conditions: list[str]) -> Figure:
    table = pd.DataFrame([(condition, kind) for condition in conditions for kind in KINDS], columns=["condition", "kind"])
    names = [f"{name}{end}" for name in ("agreement", "overlap") for end in ("", "_null")]
    names += [f"centre_share_{end}" for end in ("best", "last", "null")]
    numbers = {name: 0.4 + 0.1 * np.sin(np.arange(len(table)) + i) for i, name in enumerate(names)}
    return figure_images.figure_attribution_numbers(
        spoil(table.assign(runs=6, samples=60, **numbers, **{f"{name}_sem": 0.02 for name in names}))
    ).figure


def predicted(spoil: Spoil) -> Figure:
    names = ("memorised", "test_error", "best_test_error_fresh")
    table = pd.DataFrame({name: np.geomspace(0.001, 0.5, 30) for name in names})
    return figure_predicted(spoil(table.assign(**{f"{name}_predicted": table[name] * 1.1 for name in names}))).figure


def phases(spoil: Spoil) -> Figure:
    table = pd.MultiIndex.from_product([[0.5, 1, 2, 4, 8], [0.1, 0.2, 0.3, 0.4]], names=["kappa", "rate"]).to_frame(index=False)
    staged = (table["kappa"] * (1 - 2 * table["rate"]) > 1).astype(float)
    price = 0.05 / table["kappa"]
    return figure_phases(spoil(table.assign(staged=staged, price=price, staged_predicted=staged, price_predicted=price))).figure


def over_time(spoil: Spoil, titles: list[str]) -> Figure:
    """Diagrams over time, of which the first alone has all lines."""
    places = pd.MultiIndex.from_product([2.0 ** np.arange(12), np.linspace(0, 0.4, 5)], names=["step", "noise.rate"])
    table = spoil(places.to_frame(index=False).assign(test_error=np.linspace(0, 0.5, 60)))
    wide = table.pivot(index="step", columns="noise.rate", values="test_error")
    x = wide.columns.to_numpy(float)
    data = Grid(x, wide.index.to_numpy(float), wide.to_numpy(float)[..., None])
    lines = {name: 10.0 ** (1 + place / 4) * (1 + x) for place, name in enumerate(ENDS)}
    panels = {title: TimePanel(data, lines if title == titles[0] else {"t1": lines["t1"]}) for title in titles}
    return figure_time(panels, "noise.rate", "step", "test_error").figure


def against(spoil: Spoil) -> Figure:
    table = pd.DataFrame({"data.dim": range(9), "ours": np.linspace(0, 0.5, 9), "theirs": np.linspace(0.02, 0.48, 9)})
    table = spoil(table.assign(ours_se=0.01, theirs_se=0.02))
    table["difference"] = table["ours"] - table["theirs"]
    return figure_against(Against(["data.dim"], "test_error", table, 9, "made up", np.zeros(5))).figure


NAMES = [f"{LONG} {i}" for i in range(12)]
CONDITIONS = ["noise=symmetric, noise.rate=0.2", "noise=pair, noise.rate=0.4, optimizer=sgd", "noise=none", "noise=instance"]
FIGURES: dict[str, Callable[[Spoil], Figure]] = {
    "comparison of numbers": lambda spoil: comparison(spoil, ["gd", "sam rho=0.05"], [""], True),
    "comparison of many long names": lambda spoil: comparison(spoil, NAMES, ["adamw", "sgd"], True),
    "comparison of options": lambda spoil: comparison(spoil, NAMES[:3], ["adamw", "sgd"], False),
    "lines": lambda spoil: lines(spoil, ["test_error"]),
    "several lines": lambda spoil: lines(spoil, VALUES),
    "strategies": lambda spoil: strategies(spoil, ["none", *NAMES[:9]]),
    "phase diagram": lambda spoil: phase(spoil, 1, 6.9, marked=True),
    "narrow phase diagram": lambda spoil: phase(spoil, 1, 3.35, marked=True),
    "phase diagrams": lambda spoil: phase(spoil, 5, 6.9),
    "collapse": collapse,
    "stages": lambda spoil: stages(spoil, ["noise.rate=0.2"]),
    "stages of small errors": lambda spoil: stages(spoil, CONDITIONS[:2], lowest=0.001),
    "stages of four conditions": lambda spoil: stages(spoil, CONDITIONS, seeds=3),
    "signals": lambda spoil: signals(spoil, CONDITIONS[:3]),
    "signals by a key": lambda spoil: signals_by(spoil, ["logistic", "generalised_cross_entropy", "mae"]),
    "losses": lambda spoil: losses(spoil, CONDITIONS[:3]),
    "suspects": suspects,
    "attributions": attributions,
    "attributions in numbers": lambda spoil: attribution_numbers(spoil, CONDITIONS),
    "predicted": predicted,
    "phases": phases,
    "against": against,
    "time": lambda spoil: over_time(spoil, CONDITIONS),
}


def texts_of(figure: Figure) -> list[tuple[str, Bbox, Text]]:
    """The texts that are drawn, with their places in pixels. Ticks beyond an axis have texts too, which are not drawn."""
    shown: dict[int, Text] = {}
    draw = Text.draw

    def noted(self: Text, *args: object, **kwargs: object) -> None:
        shown[id(self)] = self
        draw(self, *args, **kwargs)

    with mock.patch.object(Text, "draw", noted), rc_context(STYLE):
        figure.draw_without_rendering()
    return [
        (text.get_text(), text.get_window_extent(), text)
        for text in shown.values()
        if text.get_visible() and text.get_text().strip()
    ]


def legends_of(figure: Figure) -> list[Legend]:
    return [*figure.legends, *(legend for ax in figure.axes if (legend := ax.get_legend()) is not None)]


def points_of(ax: Axes) -> Iterator[np.ndarray]:
    """Points [n, 2] in pixels on all that an axes shows: closely along lines, at the places of marks, on the edges of areas."""
    for line in ax.lines:
        path = line.get_path().interpolated(1).transformed(line.get_transform())
        yield dense(path.vertices)
    for collection in ax.collections:
        if isinstance(collection, QuadMesh | PolyCollection):
            for path in collection.get_paths():
                yield dense(collection.get_transform().transform_path(path).vertices)
        elif isinstance(collection, PathCollection):
            yield collection.get_offset_transform().transform(np.ma.filled(collection.get_offsets(), np.nan))
    for patch in ax.patches:
        yield dense(patch.get_transform().transform_path(patch.get_path()).vertices)


def dense(vertices: np.ndarray) -> np.ndarray:
    """Points between the vertices [n, 2] of a line, no more than some pixels apart."""
    if len(vertices) < 2:
        return vertices
    place = np.linspace(0, len(vertices) - 1, 50 * len(vertices))
    return np.stack([np.interp(place, np.arange(len(vertices)), column) for column in vertices.T], 1)


def inside(box: Bbox, points: np.ndarray, slack: float = 1.0) -> bool:
    low, high = np.array(box.min) + slack, np.array(box.max) - slack
    return bool(((points > low) & (points < high)).all(1).any())


def meet(one: Bbox, other: Bbox, slack: float = 1.5) -> bool:
    """Whether two boxes have more than some pixels in common each way."""
    return bool((np.minimum(one.max, other.max) - np.maximum(one.min, other.min) > slack).all())


def faults(figure: Figure) -> list[str]:
    """What lies on what: texts on texts, data or maps under texts and legends, and what leaves the figure."""
    found, texts, legends = [], texts_of(figure), legends_of(figure)
    boxes = [("legend", legend.get_window_extent(), legend) for legend in legends]
    own = {id(text): legend for legend in legends for text in legend.findobj(Text)}
    straight = [(name, box, text) for name, box, text in texts if text.get_rotation() % 90 == 0]
    for i, (name, box, _) in enumerate(straight):
        found += [f"{name!r} on {other!r}" for other, place, _ in straight[:i] if meet(box, place)]
    found += [
        f"{name!r} under a legend"
        for _, box, legend in boxes
        for name, place, text in texts
        if own.get(id(text)) is not legend and meet(box, place)
    ]
    room = figure.bbox
    found += [
        f"{name!r} leaves the figure: {box.extents.round()}"
        for name, box, _ in (*texts, *boxes)
        if (np.array(box.min) < room.min - 1.5).any() or (np.array(box.max) > room.max + 1.5).any()
    ]
    for ax in figure.axes:
        if not ax.get_visible():
            continue
        if ax.images or any(isinstance(part, QuadMesh) for part in ax.collections):
            found += [f"{name!r} on a map" for name, box, _ in (*texts, *boxes) if meet(box, ax.bbox)]
        clip = ax.bbox
        for points in points_of(ax):
            seen = points[((points >= clip.min) & (points <= clip.max)).all(1)]
            found += [f"data under {name!r}" for name, box, _ in (*texts, *boxes) if inside(box, seen)]
    return sorted(set(found))
