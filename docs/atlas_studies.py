"""Tables of single studies for the page docs/atlas.md, each from the results of its study."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from atlas_numbers import border, by_cell, curves_of, memorising_times, ratio, runs_of, with_interval
from atlas_table import PLAIN_PYTORCH, pseudolabel_errors, ridge_errors

from lnt.theory.run_cells import LOSSES, of_margin


def robust_losses(results: Path) -> str:
    """When half of the mislabelled samples are memorised, relative to the logistic loss: measured and predicted."""
    runs, times = runs_of(results, "robust_losses"), memorising_times(results)
    names = [name for name in sorted(runs["loss"].unique()) if name != "logistic"]
    lines = ["| n SNR^2 | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for snr, cells in times.groupby(level="data.snr"):
        by_loss = cells.droplevel("data.snr")
        lines.append(f"| {100 * snr**2:.0f} | " + " | ".join(_relative(by_loss, name) for name in names) + " |")
    left = runs[runs["noisy_accuracy"] < 1].groupby(["loss", "data.snr"])["noisy_accuracy"].agg(["size", "min"])
    rest = [
        f"{size} runs of {loss} at n SNR^2 = {100 * snr**2:.0f}, where at least {low:.0%} are"
        for (loss, snr), size, low in left.itertuples()
    ]
    worst = times.groupby(["data.snr", "loss"])["test_error"].mean().max()
    closing = f"\n\nThe largest mean test error at the end is {worst:.4f}. After 200 T1 every mislabelled sample is memorised"
    return "\n".join(lines) + closing + (" in all but " + "; ".join(rest) if rest else "") + ".\n"


def pairs_of(times: pd.DataFrame, loss: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Times of a loss and of the logistic one on the same seeds, measured and predicted; without seeds that lack one of them.

    `times` has an index (loss, seed), or more levels than that.
    """
    pairs = [times[name].unstack("loss")[[loss, "logistic"]] for name in ("memorised", "memorised_predicted")]
    there = pd.concat(pairs, axis=1).notna().all(axis=1)
    return pairs[0][there], pairs[1][there]


def _relative(times: pd.DataFrame, loss: str) -> str:
    """The mean time relative to the logistic loss, with its interval over seeds, and the predicted one."""
    measured, predicted = pairs_of(times, loss)
    seeds = len(times.index.unique("seed"))
    missing = "" if len(measured) == seeds else f" ({len(measured)} seeds)"
    own, base = measured.to_numpy().T
    return f"{ratio(own, base)}, {predicted[loss].mean() / predicted['logistic'].mean():.2f}{missing}"


def slope_at_zero(loss: str) -> float:
    """-l'(0) of a loss at its defaults, under the noise of robust_losses."""
    noise = np.array([[[0.8, 0.2], [0.2, 0.8]]])
    return float(of_margin(LOSSES[loss]().bound(lambda: noise)).slope(np.zeros(1))[0])


def at_equal_slopes(results: Path) -> str:
    """The lowest and the highest of the relative times by loss, in units in which all losses fall alike at margin 0."""
    times, found = memorising_times(results), []
    for name in sorted(times.index.unique("loss").drop("logistic")):
        means = pairs_of(times, name)[0].groupby(level="data.snr").mean()
        relative = means[name] / means["logistic"] * slope_at_zero(name) / slope_at_zero("logistic")
        found.append(f"{name} {relative.min():.2f} to {relative.max():.2f}")
    return ", ".join(found)


def robust_losses_final(results: Path) -> str:
    """By n SNR^2 and time the error of logistic, and what the other losses add to it on the same seeds."""
    runs, curves = runs_of(results, "robust_losses_final"), curves_of(results, "robust_losses_final")
    assert (runs["noisy_accuracy"] == 1).all(), "every mislabelled sample is memorised in every run"
    curves = curves.merge(runs[["run_id", "loss", "data.snr", "seed"]], on="run_id")
    losses = ("mae", "gce", "sce", "forward", "label_smoothing", "squared")
    lines = [f"| n SNR^2 | T1 | logistic | {' | '.join(losses)} |", "| --- | --- | --- |" + " --- |" * len(losses)]
    for (snr, step), cell in curves[curves["step"].isin([1000, 10000])].groupby(["data.snr", "step"]):
        errors = cell.pivot(index="seed", columns="loss", values="test_error")
        cells = [with_interval(errors["logistic"]), *(with_interval(errors[name] - errors["logistic"]) for name in losses)]
        lines.append(f"| {50 * snr**2:.0f} | {step // 20} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def kou2023_pseudolabels(results: Path) -> str:
    """A table of test errors beside those of plain PyTorch."""
    lines = ["| noise std | lnt | plain PyTorch, 10 runs | difference / its error |", "| --- | --- | --- | --- |"]
    for std, (ours, ours_sem, z) in pseudolabel_errors(results).items():
        mean, sem = PLAIN_PYTORCH[std]
        lines.append(f"| {std} | {ours:.3f} +- {ours_sem:.3f} | {mean:.3f} +- {sem:.3f} | {z:+.1f} |")
    return "\n".join(lines) + "\n"


def frei2022(results: Path) -> str:
    """The exponent of the border, and how even the law's variable is along it."""
    edge = border(runs_of(results, "frei2022"), "data.dim_over_n", "data.n_gamma", 0.1)
    ratios, strength, exponent = edge.x, edge.y, edge.text
    g = strength / 100  # n = 100
    bare = strength**2 * ratios / (1 - g) ** 2
    law = bare / (1 + (1 - 2 * 0.1) ** 2 * strength / (1 - g))
    return (
        f"Along an error of 0.1 n_gamma falls as (d / n)^a with a = {exponent}; the exponent of the theorem makes it -1/2. "
        f"That exponent, n |mu|^4 / (s^4 d), runs from {bare.min():.2f} to {bare.max():.2f} along the line, and divided by "
        f"1 + kappa (1 - 2 tau)^2, the term for finite n SNR^2 of [theory.md](theory.md), from {law.min():.2f} to "
        f"{law.max():.2f}. At n_gamma = 2 strong signals keep some wrong labels from being fitted in 10 000 steps.\n"
    )


def chen2023_sam(results: Path) -> str:
    """The exponents of the border under plain descent and under SAM."""
    runs = runs_of(results, "chen2023_sam")
    lines = ["| | exponent a of \\|mu\\| ~ d^a at an error of 0.1 | theorem |", "| --- | --- | --- |"]
    for rho, name, theorem in ((0, "descent", "1/4"), (1, "SAM, rho = 1", "0, up to logarithms")):
        edge = border(runs[runs["optimizer.rho"] == rho], "data.dim", "data.signal_norm", 0.1)
        lines.append(f"| {name} | {edge.text}, from d = {edge.x.min():.0f} to {edge.x.max():.0f} | {theorem} |")
    return "\n".join(lines) + "\n"


def firdoussi2026(results: Path) -> str:
    """Test errors by the rate in the loss, beside those of the closed form."""
    runs = runs_of(results, "firdoussi2026")
    lines = ["| rate of +1 in the loss | lnt, 10 runs | closed form, 40 draws |", "| --- | --- | --- |"]
    for rate, cell in runs.groupby(runs["loss.matrix"].map(lambda matrix: json.loads(matrix)[0][1])):
        lines.append(f"| {rate:g}{' (that of the noise)' if rate == 0.4 else ''} | {with_interval(cell['test_error'])} ")
        lines[-1] += f"| {with_interval(ridge_errors(rate))} |"
    return "\n".join(lines) + "\n"


def robust_losses_digits(results: Path) -> str:
    """Test errors and memorised shares by loss."""
    runs = runs_of(results, "robust_losses_digits")
    losses = ("logistic", "mae", "gce", "sce", "forward", "label_smoothing")
    columns = {
        "best_test_error_fresh": "error at the best epoch",
        "test_error": "final error",
        "noisy_accuracy": "memorised at the end",
    }
    return by_cell(((loss, runs[runs["loss"] == loss]) for loss in losses), "loss", columns)


def liu2020_linear(results: Path) -> str:
    """By noise rate: how many mislabelled samples are predicted right at best, how many are memorised at the end, the error."""
    runs, curves = runs_of(results, "liu2020_linear"), curves_of(results, "liu2020_linear")
    runs["early"] = 1 - runs["run_id"].map(curves.groupby("run_id")["noisy_accuracy"].min())
    columns = {
        "early": "mislabelled predicted right, at best",
        "noisy_accuracy": "memorised at the end",
        "best_test_error_fresh": "lowest test error",
        "test_error": "final test error",
    }
    return by_cell(runs.groupby("noise.rate"), "noise rate", columns)


def xu2024_grokking(results: Path) -> str:
    """By norm of the signal: training accuracy on observed labels and test error after one step, and at the end."""
    runs, curves = runs_of(results, "xu2024_grokking"), curves_of(results, "xu2024_grokking")
    first = curves[curves["step"] == 1].set_index("run_id")
    fitted = first["clean_accuracy"] * (1 - first["realised_noise_rate"])
    fitted += first["noisy_accuracy"] * first["realised_noise_rate"]
    runs["fitted"], runs["guessing"] = runs["run_id"].map(fitted), runs["run_id"].map(first["test_error"])
    columns = {
        "fitted": "labels fitted after 1 step",
        "guessing": "test error after 1 step",
        "test_error": "test error after 300",
        "noisy_accuracy": "memorised after 300",
    }
    return by_cell(runs.groupby("data.signal_norm"), "signal norm", columns)


def zou2023_mixup(results: Path) -> str:
    """Test errors on all samples and on those of the rare feature, without mixup and with it, by signal norm."""
    runs = runs_of(results, "zou2023_mixup")
    lines = [
        "| signal norm | all samples | rare feature | all samples, mixup | rare feature, mixup |",
        "| --- | --- | --- | --- | --- |",
    ]
    for strength in (5, 6, 7, 8, 10, 12):
        cells = [runs[np.isclose(runs["data.signal_norm"], strength) & (runs["data.mixup"] == alpha)] for alpha in (0, 1)]
        errors = [with_interval(cell[name]) for cell in cells for name in ("test_error", "test_error_rare")]
        lines.append(f"| {strength} | " + " | ".join(errors) + " |")
    return "\n".join(lines) + "\n"


def pair_noise(results: Path) -> str:
    """At n SNR^2 = 36: what is memorised when, how well losses tell clean samples, and errors, by kind and rate of noise."""
    runs, curves = runs_of(results, "pair_noise"), curves_of(results, "pair_noise")
    best = curves.merge(runs[["run_id", "best_step"]], left_on=["run_id", "step"], right_on=["run_id", "best_step"])
    best = best.set_index("run_id")
    # Before step 20 predictions are little more than guesses: from the first step on they agree with a third of these labels.
    half = curves[(curves["step"] >= 20) & (curves["noisy_accuracy"] >= 0.5)].groupby("run_id")["step"].min()
    measured = {"fitted": best["noisy_accuracy"], "auc": best["selection_auc"], "half": half / 100}
    runs = runs.assign(**{name: runs["run_id"].map(values) for name, values in measured.items()})
    gaps = {"symmetric": 5 / 4, "pair": 2}  # for five classes: g = 1 - 5 rate / 4 and 1 - 2 rate
    strong = runs[np.isclose(runs["data.snr"], 0.6)].groupby(["noise", "noise.rate"])
    cells = [
        (f"{noise}, {rate} (g = {1 - gaps[noise] * rate:.4g})", strong.get_group((noise, rate)))
        for rate in (0.1, 0.25, 0.4)
        for noise in gaps
    ]
    columns = {
        "fitted": "mislabelled fitted at the best step",
        "auc": "selection AUC there",
        "half": "half of them fitted, 100 steps",
        "best_test_error_fresh": "error at the best step",
        "test_error": "final error",
    }
    return by_cell(cells, "noise, rate", columns)


def leak_rate(results: Path) -> str:
    """The lowest test errors of ReLU, a leak of 0.1 and a linear network, by noise rate."""
    runs = runs_of(results, "leak_rate")
    leaks = (0.0, 0.1, 0.5, 1.0)
    names = [*(f"leak {leak}" for leak in leaks), "leak 1 less leak 0, on the same seeds"]
    lines = ["| noise rate | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for rate in (0.2, 0.3, 0.35, 0.4):
        cells = [runs[np.isclose(runs["noise.rate"], rate) & np.isclose(runs["model.leak"], leak)] for leak in leaks]
        errors = [cell.set_index("seed")["best_test_error_fresh"] for cell in cells]
        lines.append(f"| {rate} | " + " | ".join(map(with_interval, [*errors, errors[-1] - errors[0]])) + " |")
    return "\n".join(lines) + "\n"


def selection_signals(results: Path) -> str:
    """What the learning time gains on the loss as a signal of mislabelled samples: means over each seed's runs, over seeds."""
    runs, curves = runs_of(results, "selection_signals"), curves_of(results, "selection_signals")
    # Before a step has been taken nothing leads.
    leads = (curves["signal_coef"] > curves[["noise_coef_clean", "noise_coef_noisy"]].max(axis=1)) & (curves["step"] > 0)
    led = runs["run_id"].map(leads.groupby(curves["run_id"]).any())
    x = (runs["data.n_train"] * runs["data.snr"] ** 2 * (1 - 2 * runs["noise.rate"])).round(6)
    rows = {
        "x below 1": ("best", x < 1),
        "x above 4": ("best", x > 4),
        "x from 1 to 2": ("", (x >= 1) & (x < 2)),
        "x from 2 to 3": ("", (x >= 2) & (x < 3)),
        "x from 3 to 4": ("", (x >= 3) & (x < 4)),
        "gamma leads the largest rho-bar at some step": ("", led),
        "gamma never leads": ("", ~led),
    }
    lines = ["| runs | how many | when | AUC of the learning time less that of the loss |", "| --- | --- | --- | --- |"]
    for name, (when, chosen) in rows.items():
        end = f"_{when}" if when else ""
        gain = (runs[f"auc_learning_time{end}"] - runs[f"selection_auc{end}"])[chosen].groupby(runs["seed"]).mean()
        lines.append(f"| {name} | {chosen.sum()} | {'lowest test error' if when else 'end'} | {with_interval(gain)} |")
    return "\n".join(lines) + "\n"
