"""docs/gallery.md: one picture of each kind of figure with the commands that make it (called by docs/draw.py)."""

import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent
HEAD = """# Gallery

One picture of each kind of figure, the two commands that make it, and where it lies then. DIR is a folder of your choice,
another one for each training. The same training need not be repeated; that of `kou2023` is 100 000 runs.
[What the figures show](results.md), [the theory behind them](theory.md).
"""
RATES = ("noise.rate=0.1,0.2,0.3,0.4", "seed=range(10)")
SWEEPS: dict[str, tuple[str, ...]] = {  # of the gallery alone, as arguments of train.py
    "two_strategies": ("-m", "strategy=none,small_loss", *RATES),
    "two_data_models": ("-m", "data=signal_noise,mixture", *RATES),
    "three_losses": ("-m", "loss=logistic,gce,mae", *RATES),
    "rates": ("-m", "noise.rate=range(0,0.5,0.05)", "seed=range(10)"),
    "rates_and_dimensions": ("-m", "noise.rate=range(0,0.5,0.05)", "data.dim=int(geomspace(300,1e5,8))", "seed=range(5)"),
}


@dataclass(frozen=True)
class Kind:
    """A kind of figure: what it shows, the study or sweep that stands for it, what analyze.py is told, and its file."""

    title: str
    text: str
    sweep: str
    file: str
    arguments: tuple[str, ...] = ()

    @property
    def picture(self) -> str:
        """The file in docs/."""
        return f"gallery_{'_'.join(self.title.lower().split())}{Path(self.file).suffix.replace('.html', '.png')}"

    @property
    def commands(self) -> list[str]:
        """As one would type them."""
        train = SWEEPS.get(self.sweep, (f"experiment={self.sweep}",))
        both = (("train.py", *train, "hydra.sweep.dir=DIR"), ("analyze.py", "path=DIR", *self.arguments))
        return ["python " + shlex.join(command) for command in both]


KINDS = (
    Kind(
        "Comparison of strategies",
        "What each recovers, and what it selects, by noise rate.",
        "two_strategies",
        "strategies.png",
    ),
    Kind(
        "Comparison of data models",
        "A colour for each option of the group that was swept, found by itself; means with 95 % intervals over seeds.",
        "two_data_models",
        "comparison_by_noise.rate_data.png",
    ),
    Kind("Comparison of losses", "The same for three losses.", "three_losses", "comparison_by_noise.rate_loss.png"),
    Kind(
        "Points over options",
        "`x` may be a key of options: points with intervals, a colour for each noise rate.",
        "three_losses",
        "comparison_by_loss_noise.rate.png",
        ("x=loss", "hue=noise.rate", "value=test_error"),
    ),
    Kind(
        "Two stages",
        "Coefficients, accuracies, errors and losses by step, a column for each condition.",
        "han2025_dynamics",
        "stages.png",
    ),
    Kind(
        "Phase diagram",
        "Means over seeds in each cell, where they cross a level with its band, and the law of theory.",
        "kou2023",
        "phase_test_error_observed.png",
        ("value=test_error_observed", "level=0.2"),
    ),
    Kind(
        "Against published cells",
        "`against=FILE`: means here over published ones; circles in the phase diagram have the published values.",
        "kou2023",
        "against.png",
        ("against=docs/published/kou2023.csv",),
    ),
    Kind(
        "Collapse",
        "Cell means against the combination of parameters that theory names, and against its best rival.",
        "kou2023",
        "collapse_test_error_observed.png",
        ("value=test_error_observed", "level=0.2"),
    ),
    Kind(
        "Time as an axis",
        "`y=t1` or `y=step`: which share of the mislabelled samples is memorised, and when theory expects one half.",
        "rates",
        "time_noisy_accuracy.png",
        ("y=t1",),
    ),
    Kind(
        "Phase diagram that moves",
        "`formats=[gif]`; `report.html` has a slider instead.",
        "rates_and_dimensions",
        "phase_noisy_accuracy.gif",
        ("value=noisy_accuracy", "formats=[png,gif]"),
    ),
    Kind(
        "Measured and predicted", "Mean-field theory without a fitted constant, run by run.", "phase_kappa_rate", "theory.png"
    ),
    Kind("Phases", "Which runs have a Stage I, and the predicted borders.", "phase_kappa_rate", "phases.png"),
    Kind("Values over one key", "", "kou2023_pseudolabels", "error_by_data.noise_std.png"),
    Kind(
        "Scorecard", "The statements of Han et al. 2025 beside what was measured.", "han2025_scorecard", "scorecard_figure.png"
    ),
    Kind(
        "Selection signals",
        "How well losses, margins, learning times and wrong events tell mislabelled samples from clean ones.",
        "selection_signals",
        "signals_by.png",
        ("value=selection_auc_best",),
    ),
    Kind("Losses of images", "At the lowest test error and at the end.", "digits_stages", "losses.png"),
    Kind(
        "Suspects",
        "The samples that are most likely mislabelled.",
        "selection_signals_digits",
        "suspects_1.png",
        ("attributions=0",),
    ),
    Kind("Attributions", "SHAP values at the lowest test error and at the end.", "digits_stages", "attributions_2.png"),
    Kind("Attributions in numbers", "", "digits_stages", "attributions_numbers.png"),
    Kind(
        "Figure for a paper",
        "For a column of ICML, with names of one's own; `tables.tex` and `captions.tex` lie beside it.",
        "three_losses",
        "comparison_by_noise.rate_loss.png",
        ("paper=icml", "width=column", "panels=[test_error]", "labels={gce: GCE, mae: MAE, loss: loss function}"),
    ),
    Kind("Page", "`report.html`, to explore: here its phase diagram.", "rates_and_dimensions", "report.html"),
)


def draw(results: Path, call: Callable[..., float]) -> None:
    """Train and analyse what the gallery shows, and write the page; `call` runs a command of this project."""
    for sweep, settings in SWEEPS.items():
        call("train.py", *settings, f"hydra.sweep.dir={results / sweep}")
    # One analysis of each sweep with the same arguments serves all kinds that show it.
    views: dict[tuple[str, tuple[str, ...]], list[Kind]] = {}
    for kind in KINDS:
        views.setdefault((kind.sweep, kind.arguments), []).append(kind)
    for (sweep, arguments), kinds in views.items():
        call("analyze.py", f"path={results / sweep}", *arguments)
        for kind in kinds:
            copy(results / sweep / "analysis" / kind.file, DOCS / kind.picture)
    (DOCS / "gallery.md").write_text(page())


def copy(file: Path, picture: Path) -> None:
    """Copy a figure; of a page take a picture, where there is a Chromium."""
    if file.suffix != ".html":
        shutil.copy(file, picture)
    elif browser := shutil.which("chromium"):
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1100,1500", "--virtual-time-budget=5000")
        subprocess.run([browser, *options, f"--screenshot={picture}", file.as_uri()], check=True, capture_output=True)
    else:
        print(f"{picture.name} stays as it is: no chromium is found")


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for kind in KINDS:
        lines = "\n".join(f"    {command}" for command in kind.commands)
        parts += [
            f"## {kind.title}\n",
            kind.text + "\n" if kind.text else "",
            f"{lines}\n    # DIR/analysis/{kind.file}\n",
            f"![{kind.title}]({kind.picture})\n",
        ]
    return "\n".join(filter(None, parts))
