"""The table at the top of docs/atlas.md: what is published, what was measured, and the agreement in a number."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from atlas_numbers import border, compared, curves_of, memorising_times, runs_of, with_interval
from scipy.stats import norm

PUBLISHED = Path(__file__).parent / "published"
# Of plain PyTorch with explicit vectors, 10 runs: noise standard deviation -> mean test error, standard error.
PLAIN_PYTORCH = {2.0: (0.020, 0.020), 2.5: (0.204, 0.038), 3.0: (0.435, 0.017)}

Found = tuple[str, str]  # what was measured, and how far it agrees


class Entry(NamedTuple):
    """A row of the table."""

    study: str
    picture: str  # a file of docs/, or a part of the page where there is none
    source: str
    published: str
    measure: Callable[[Path], Found]


def published_cells(study: str, keys: list[str], value: str, seeds: int) -> Callable[[Path], Found]:
    """The comparison with cells that are published, means of so many seeds each."""

    def measure(results: Path) -> Found:
        published = pd.read_csv(PUBLISHED / f"{study}.csv", comment="#").rename(columns={value: "published"})
        runs = runs_of(results, study)
        runs = runs.assign(**{key: runs[key].astype(float).round(6) for key in keys})
        found = compared(runs, published, keys, value, seeds)
        agreement = f"rms {found['rms']:.4f} (seeds alone: {found['expected']:.4f}), mean {found['mean']:+.4f}"
        return f"{found['cells']} cells", f"{agreement}, correlation {found['correlation']:.3f}"

    return measure


def exponent(study: str, x: str, y: str, level: float, law: float, rho: float | None = None) -> Callable[[Path], Found]:
    """The exponent of the line on which the mean error crosses a level, beside that of a theorem."""

    def measure(results: Path) -> Found:
        runs = runs_of(results, study)
        edge = border(runs if rho is None else runs[runs["optimizer.rho"] == rho], x, y, level)
        slope, low, high = edge.exponent
        place = "inside" if low <= law <= high else "outside"
        return f"{edge.text} at an error of {level}", f"differs by {slope - law:+.3f}: the theorem is {place} the interval"

    return measure


def pseudolabel_errors(results: Path) -> dict[float, tuple[float, float, float]]:
    """Noise standard deviation -> our mean error, its standard error, the difference to plain PyTorch over its error."""
    cells = runs_of(results, "kou2023_pseudolabels").groupby("data.noise_std")["test_error"].agg(["mean", "sem", "std"])
    found = {}
    for std, (mean, _) in PLAIN_PYTORCH.items():
        ours = cells.loc[std]
        # Errors of ten runs, some near 0 and some near 1/2, are known badly: that of the distribution is taken from ours.
        error = np.hypot(ours["sem"], ours["std"] / np.sqrt(10))
        found[std] = ours["mean"], ours["sem"], (ours["mean"] - mean) / error
    return found


def pseudolabels(results: Path) -> Found:
    """Errors at three standard deviations, beside those of a program that shares no code."""
    rows = pseudolabel_errors(results).values()
    differences = ", ".join(f"{z:+.1f}" for _, _, z in rows)
    return ", ".join(f"{mean:.3f}" for mean, _, _ in rows), f"{differences} standard errors of the difference"


def label_noise_descent(results: Path) -> Found:
    """Test errors after the 2000 steps of the paper, and when they are as low as published."""
    runs = runs_of(results, "huang2025_label_noise_gd")[["run_id", "noise.rate"]]
    curves = curves_of(results, "huang2025_label_noise_gd").merge(runs, on="run_id")
    step = curves.loc[(curves["step"] - 2000).abs().idxmin(), "step"]
    plain, noisy = (curves[(curves["step"] == step) & (curves["noise.rate"] == rate)]["test_error"] for rate in (0, 0.1))
    means = curves[curves["noise.rate"] == 0.1].groupby("step")["test_error"].mean()
    first = means.index[np.flatnonzero(means >= 0.1)[-1] + 1]
    return (
        f"{with_interval(plain)} and {with_interval(noisy)}",
        f"not reproduced: the mean is below 0.1 from step {first} on",
    )


def label_noise_heatmap(results: Path) -> Found:
    """In how many cells label-noise descent errs less than plain descent."""
    runs = runs_of(results, "huang2025_heatmap")
    cells = runs.groupby(["data.snr", "data.n_train", "noise.rate"])["test_error"].mean().unstack()
    gap = cells[0.0] - cells[0.1]
    return f"errors lower by {gap.min():.2f} to {gap.max():.2f}", f"lower in {(gap > 0).sum()} of {len(gap)} cells"


def width(results: Path) -> Found:
    """Plain descent at SNR 0.09, with 3 and with 20 filters."""
    runs = runs_of(results, "huang2025_width")
    runs = runs[np.isclose(runs["data.snr"], 0.09) & (runs["noise.rate"] == 0)]
    narrow, wide = (runs[runs["model.width"] == m].set_index("seed")["test_error"] for m in (3, 20))
    measured = f"at SNR 0.09: {with_interval(narrow)} and {with_interval(wide)}"
    return measured, f"below 0.1 and above 0.4 with {_share((narrow < 0.1) & (wide > 0.4), 'seeds')}"


def early_learning(results: Path) -> Found:
    """How many mislabelled samples are predicted right at best, and memorised in the end."""
    runs, curves = runs_of(results, "liu2020_linear"), curves_of(results, "liu2020_linear")
    early = 1 - runs["run_id"].map(curves.groupby("run_id")["noisy_accuracy"].min())
    both = _share((early > 0.95) & (runs["noisy_accuracy"] == 1))
    measured = f"shares {with_interval(early)} and {with_interval(runs['noisy_accuracy'])} at three noise rates"
    return measured, f"more than 0.95, and all, in {both}"


def ridge_error(seed: int, p_plus: float, p_minus: float) -> float:
    """The test error of the least-squares solution that firdoussi2026 descends to, on explicit vectors of its own."""
    rng, n, d = np.random.default_rng(seed), 1000, 1000
    true = np.where(rng.random(n) < 0.3, 1, -1)
    observed = np.where(rng.random(n) < np.where(true > 0, 0.4, 0.3), -true, true)
    mu = np.r_[2.0, np.zeros(d - 1)]
    x = true[:, None] * mu + rng.standard_normal((n, d))
    target = observed * (1 + observed * (p_plus - p_minus)) / (1 - p_plus - p_minus)
    w = np.linalg.solve(x.T @ x / n + 0.5 * np.eye(d), x.T @ target / n)
    return float(norm.cdf(-w @ mu / np.linalg.norm(w)))


@cache
def ridge_errors(rate: float) -> pd.Series:
    """Test errors of 40 draws, by the rate of class +1 in the loss."""
    return pd.Series([ridge_error(seed, rate, 0.3) for seed in range(40)])


def perturbed_loss(results: Path) -> Found:
    """The best rate in the loss, and the differences to the closed form."""
    runs = runs_of(results, "firdoussi2026")
    cells = runs.groupby(runs["loss.matrix"].map(lambda matrix: json.loads(matrix)[0][1]))["test_error"]
    exact = {rate: ridge_errors(rate) for rate, _ in cells}
    z = [(ours.mean() - exact[rate].mean()) / np.hypot(ours.sem(), exact[rate].sem()) for rate, ours in cells]
    best = cells.mean()
    measured = f"lowest error, {best.min():.3f}, at a rate of {best.idxmin():g}; {best[0.4]:.3f} at that of the noise, 0.4"
    return measured, f"{min(z):+.1f} to {max(z):+.1f} standard errors from the closed form"


def grokking(results: Path) -> Found:
    """Test errors after one step and at the end, at the largest signal."""
    runs, curves = runs_of(results, "xu2024_grokking"), curves_of(results, "xu2024_grokking")
    runs = runs[runs["data.signal_norm"] == runs["data.signal_norm"].max()]
    guessing = runs["run_id"].map(curves[curves["step"] == 1].set_index("run_id")["test_error"])
    groks = (guessing > 0.3) & (runs["test_error"] < 0.1) & (runs["noisy_accuracy"] == 1)
    measured = f"at \\|mu\\| = 40 errors of {with_interval(guessing)} and {with_interval(runs['test_error'])}"
    return measured, f"above 0.3, and below 0.1 with all labels fitted, in {_share(groks)}"


def rare_feature(results: Path) -> Found:
    """Errors on the rare feature at |mu| = 8, without and with mixup."""
    runs = runs_of(results, "zou2023_mixup")
    runs = runs[np.isclose(runs["data.signal_norm"], 8)].set_index("seed")
    plain, mixed = (runs[runs["data.mixup"] == alpha]["test_error_rare"] for alpha in (0, 1))
    measured = f"at \\|mu\\| = 8 errors of {with_interval(plain)} without and {with_interval(mixed)} with it"
    return measured, f"above 0.4 and below 0.05 with {_share((plain > 0.4) & (mixed < 0.05), 'seeds')}"


def verdicts(results: Path) -> Found:
    """Those of the scorecard."""
    found = pd.read_csv(results / "han2025_scorecard" / "analysis" / "scorecard.csv")["verdict"].value_counts()
    measured = ", ".join(f"{count} {verdict}" for verdict, count in found.items())
    return measured, f"{found['supported']} of {found.sum()} statements"


def times_by_loss(results: Path) -> Found:
    """Memorising times of all losses, measured over predicted."""
    times = memorising_times(results)
    ratio = np.log(times["memorised"] / times["memorised_predicted"]).dropna()
    off = f"off by {np.expm1(ratio.abs().median()):.1%} in the median, {np.expm1(ratio.mean()):+.1%} on average"
    return f"times of {len(ratio)} runs", off


def phases(results: Path) -> Found:
    """The shares of runs that have a Stage I, cell by cell."""
    found = pd.read_csv(results / "phase_kappa_rate" / "analysis" / "phases.csv").dropna(subset="staged")
    off = (found["staged"] - found["staged_predicted"]).abs().mean()
    return f"{len(found)} cells", f"share of runs with a Stage I off by {off:.3f} on average"


def nothing(results: Path) -> Found:
    """Nobody has published anything to compare with."""
    return "below", "nothing to compare with"


def _share(holds: pd.Series, of: str = "runs") -> str:
    """How many of all."""
    return f"{holds.sum()} of {len(holds)} {of}"


KOU, CHEN = "kou2023_phase_test_error_observed.png", "chen2023_sam_phase_test_error.png"
ENTRIES = (
    Entry(
        "kou2023",
        KOU,
        "Kou et al., ICML 2023",
        "66 cells of test error by d and \\|mu\\|",
        published_cells("kou2023", ["data.dim", "data.signal_norm"], "test_error_observed", 10),
    ),
    Entry(
        "karhadkar2024",
        "karhadkar2024_phase_test_error.png",
        "Karhadkar et al., NeurIPS 2024",
        "60 cells of test error by n and d / n",
        published_cells("karhadkar2024", ["data.n_train", "data.dim_over_n"], "test_error", 5),
    ),
    Entry(
        "kou2023_pseudolabels",
        "kou2023_pseudolabels_error_by_data.noise_std.png",
        "Kou et al., ICLR 2023",
        "no numbers; plain PyTorch at noise std 2, 2.5, 3: 0.020, 0.204, 0.435",
        pseudolabels,
    ),
    Entry(
        "firdoussi2026",
        "#rates-in-the-loss-that-are-not-those-of-the-noise",
        "Firdoussi et al., arXiv 2405.14088",
        "the unbiased loss is not the best one; closed form",
        perturbed_loss,
    ),
    Entry(
        "han2025_scorecard",
        "han2025_scorecard_scorecard_figure.png",
        "Han et al., ICML 2025",
        "16 statements, of which some are ours",
        verdicts,
    ),
    Entry(
        "cao2022",
        "cao2022_phase_test_error.png",
        "Cao et al., NeurIPS 2022",
        "theorem: n SNR^3 decides, SNR ~ n^(-1/3)",
        exponent("cao2022", "data.n_train", "data.snr", 0.25, -1 / 3),
    ),
    Entry(
        "meng2024_xor",
        "meng2024_xor_phase_test_error.png",
        "Meng et al., ICML 2024",
        "theorem: \\|mu\\| ~ d^(1/4)",
        exponent("meng2024_xor", "data.dim", "data.signal_norm", 0.2, 1 / 4),
    ),
    Entry(
        "frei2022",
        "frei2022_phase_test_error.png",
        "Frei et al., COLT 2022",
        "theorem (a bound): n_gamma ~ (d / n)^(-1/2)",
        exponent("frei2022", "data.dim_over_n", "data.n_gamma", 0.1, -1 / 2),
    ),
    Entry(
        "chen2023_sam",
        CHEN,
        "Chen et al., NeurIPS 2023",
        "theorem, descent: \\|mu\\| ~ d^(1/4)",
        exponent("chen2023_sam", "data.dim", "data.signal_norm", 0.1, 1 / 4, 0),
    ),
    Entry(
        "chen2023_sam",
        CHEN,
        "the same",
        "theorem, SAM: \\|mu\\| ~ 1 up to logarithms",
        exponent("chen2023_sam", "data.dim", "data.signal_norm", 0.1, 0, 1),
    ),
    Entry(
        "liu2020_linear",
        "liu2020_linear_stages.png",
        "Liu et al., NeurIPS 2020",
        "theorem: nearly all mislabelled samples predicted right early, all memorised in the end",
        early_learning,
    ),
    Entry(
        "xu2024_grokking",
        "xu2024_grokking_stages.png",
        "Xu et al., ICLR 2024",
        "theorem: all labels fitted and test samples guessed after one step; a small error later",
        grokking,
    ),
    Entry(
        "zou2023_mixup",
        "#mixup-and-a-rare-feature",
        "Zou et al., ICML 2023",
        "theorem: the rare feature is learnt with mixup only",
        rare_feature,
    ),
    Entry(
        "huang2025_label_noise_gd",
        "huang2025_label_noise_gd_stages.png",
        "Huang et al., NeurIPS 2025",
        "after 2000 steps errors above 0.24 (plain) and well below 0.10 (label-noise descent)",
        label_noise_descent,
    ),
    Entry(
        "huang2025_heatmap",
        "huang2025_heatmap_phase_test_error.png",
        "the same",
        "label-noise descent errs less; a diagram without numbers",
        label_noise_heatmap,
    ),
    Entry(
        "huang2025_width",
        "huang2025_width_phase_test_error.png",
        "a public review of it",
        "plain descent succeeds with 3 filters where it fails with 20",
        width,
    ),
    Entry("robust_losses", "robust_losses_theory.png", "ours", "nothing; mean-field theory", times_by_loss),
    Entry("robust_losses_digits", "#losses-that-are-called-robust", "ours", "nothing", nothing),
    Entry("robust_losses_final", "#losses-that-are-called-robust", "ours", "nothing", nothing),
    Entry("phase_kappa_rate", "phase_kappa_rate_phases.png", "ours", "nothing; mean-field theory", phases),
    Entry("pair_noise", "pair_noise_phase_test_error.png", "ours", "nothing", nothing),
    Entry("leak_rate", "leak_rate_phase_best_test_error_fresh.png", "ours", "nothing", nothing),
)


def table(results: Path) -> str:
    """The table as Markdown."""
    lines = ["| experiment | source | what is published | measured | agreement |", "| --- | --- | --- | --- | --- |"]
    for entry in ENTRIES:
        shown = "table" if entry.picture.startswith("#") else "picture"
        name = f"[{entry.study}](../conf/experiment/{entry.study}.yaml) ([{shown}]({entry.picture}))"
        lines.append(f"| {' | '.join([name, entry.source, entry.published, *entry.measure(results)])} |")
    return "\n".join(lines) + "\n"
