"""Train and analyse every named study and draw the figures of docs/studies.md again: `make studies`.

Studies of real images need their files: `MNIST=DIR CIFAR=FILE CIFAR10N=FILE make studies`.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import gallery
import mnist
import pandas as pd
import real_images
from atlas import page

DOCS = Path(__file__).parent
OTHER_SEEDS = DOCS / "benchmarks_scorecard.md"  # by python -m benchmarks.scorecard, which takes longer
RESULTS = DOCS.parent / "multirun" / "studies"
STUDIES: dict[str, tuple[list[str], list[str]]] = {  # arguments of analyze.py, and the figures that are shown
    "han2025_dynamics": ([], ["stages", "signals"]),
    "han2025_scorecard": ([], ["scorecard_figure"]),
    "han2025_early_stopping": ([], ["strategies"]),
    "han2025_selection": ([], ["strategies"]),
    "kou2023": (["value=test_error_observed", "level=0.2"], ["phase_test_error_observed", "collapse_test_error_observed"]),
    "cao2022": ([], ["phase_test_error", "collapse_test_error"]),
    "meng2024_xor": ([], ["phase_test_error", "collapse_test_error"]),
    "huang2025_label_noise_gd": ([], ["stages"]),
    "huang2025_heatmap": (["x=data.n_train", "y=data.snr"], ["phase_test_error"]),
    "digits_stages": ([], ["stages", "losses", "attributions_2", "attributions_3", "attributions_numbers"]),
    "phase_rate_dim": ([], ["phase_best_test_error_fresh", "phase_test_error", "phase_price_of_memorising"]),
    "phase_rate_snr": ([], ["phase_best_test_error_fresh", "phase_test_error", "phase_price_of_memorising"]),
    "phase_kappa_rate": ([], ["phases", "theory"]),
    "karhadkar2024": (["x=data.n_train", "y=data.dim_over_n"], ["phase_test_error"]),
    "robust_losses": ([], ["theory"]),
    "robust_losses_final": (["x=data.snr"], []),
    "pair_noise": (["value=test_error"], ["phase_test_error"]),
    "kou2023_pseudolabels": ([], ["error_by_data.noise_std"]),
    "huang2025_width": (["x=model.width", "y=data.snr"], ["phase_test_error"]),
    "frei2022": (["x=data.dim_over_n", "y=data.n_gamma", "level=0.1"], ["phase_test_error"]),
    "chen2023_sam": (["x=data.dim", "y=data.signal_norm", "level=0.1"], ["phase_test_error"]),
    "liu2020_linear": ([], ["stages"]),
    "firdoussi2026": ([], []),
    "zou2023_mixup": (["value=test_error_rare"], []),
    "robust_losses_digits": ([], []),
    "xu2024_grokking": ([], ["stages"]),
    "leak_rate": (["value=best_test_error_fresh", "level=0.1"], ["phase_best_test_error_fresh"]),
    "selection_signals": (["value=selection_auc_best"], ["signals_by"]),
    "selection_signals_digits": (["attributions=0"], ["signals", "suspects_1"]),
}

REAL: dict[str, tuple[str, list[str], list[str], list[str]]] = {  # the variable with the files' place, settings, then as above
    "mnist_stages": ("MNIST", ["data.root={}"], ["attributions=0"], ["stages"]),
    "cifar_stages": (
        "CIFAR",
        ["data=arrays", "data.file={}"],
        ["attributions=4"],
        ["stages", "attributions_1", "attributions_numbers"],
    ),
    "human_labels": ("CIFAR10N", ["data.file={}", "noise.file={}"], ["attributions=0"], []),
    "selection_signals_mnist": ("MNIST", ["data.root={}"], ["attributions=0"], []),
}

READ = """Intervals hold together with 95 %: each has confidence 1 - 0.05 / 16. A statement is supported if its interval lies in
the region that agrees with the prediction (an exponent within 0.25, a border within a factor of 1.5, a share of seeds of at
least 0.9), contradicted if none of it does, undecided otherwise. T1 = n m / (eta s^2 d), x = n SNR^2 (1 - 2 tau); exponents
in eta, m and s are symmetries of gradient flow and no statements. Censored runs have no Stage I whose length could be
measured; unfinished ones, which are not used, have not fitted all their labels.

## Other seeds

"""


def call(*command: str) -> float:
    """Run a command of this project; its wall time in seconds."""
    start = time.perf_counter()
    # Pages show the command: without the place of this copy on this machine.
    short = [part.replace(f"{DOCS.parent}{os.sep}", "") for part in command]
    subprocess.run([sys.executable, *short], cwd=DOCS.parent, check=True)
    return time.perf_counter() - start


def draw(study: str, arguments: list[str], figures: list[str], settings: Sequence[str] = ()) -> tuple[str, float, float]:
    """Train what is missing, analyse, copy the figures; the times of both."""
    directory = RESULTS / study
    trained = call("train.py", f"experiment={study}", f"hydra.sweep.dir={directory}", *settings)
    analysed = call("analyze.py", f"path={directory}", *arguments)
    for figure in figures:
        shutil.copy(directory / "analysis" / f"{figure}.png", DOCS / f"{study}_{figure}.png")
    return study, trained, analysed


def scorecard() -> str:
    """The scorecard as Markdown."""
    table = pd.read_csv(RESULTS / "han2025_scorecard" / "analysis" / "scorecard.csv", keep_default_na=False)
    names = ["statement (source)", "condition", "statistic", "predicted", "measured", "verdict", "contradicted with 80 % if"]
    lines = [
        f"| {' | '.join([*names, 'seeds, cells, runs, censored, unfinished', 'panel'])} |",
        "| --- |" + " --- |" * (len(names) + 1),
    ]
    for row in table.to_dict("records"):
        value, low, high = (f"{float(row[key]):.3g}" if row[key] != "" else "-" for key in ("value", "low", "high"))
        cells = [f"{row['statement']} ({row['source']})", row["condition"], row["statistic"], row["predicted"]]
        cells += [f"{value} [{low}, {high}]", f"**{row['verdict']}** {row['note']}".strip(), row["noticed"]]
        cells += [", ".join(str(row[key]) for key in ("seeds", "cells", "runs", "censored", "unfinished")), row["figure"]]
        lines.append("| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def methods() -> None:
    """Train the methods that docs/images.md has beside each other, and write their table."""
    for name, settings in real_images.METHODS.items():
        call("train.py", "experiment=methods_digits", f"hydra.sweep.dir={RESULTS / 'methods_digits' / name}", *settings)
    real_images.write("methods_digits", RESULTS)


if __name__ == "__main__":
    times = [draw(study, *shown) for study, shown in STUDIES.items()]
    methods()
    gallery.draw(RESULTS, call)
    if root := os.environ.get("MNIST"):
        times.append(draw(mnist.STUDY, [], [], (f"data.root={root}",)))
        (DOCS / "mnist.md").write_text(mnist.page(RESULTS))
        mnist.figure_losses(RESULTS).savefig(DOCS / "robust_losses_mnist.png", dpi=200)
    else:
        print("docs/mnist.md stays as it is: MNIST=DIR says where the files of MNIST lie")
    for study, (variable, settings, arguments, figures) in REAL.items():
        if place := os.environ.get(variable):
            times.append(draw(study, arguments, figures, [setting.format(place) for setting in settings]))
            real_images.write(study, RESULTS)
    (DOCS / "scorecard.md").write_text(
        f"# Scorecard of `experiment=han2025_scorecard`\n\n{scorecard()}\n{READ}{OTHER_SEEDS.read_text()}"
    )
    (DOCS / "atlas.md").write_text(page(RESULTS))
    for study, trained, analysed in times:
        print(f"{study:28s} trained in {trained:5.1f} s, analysed in {analysed:4.1f} s")
