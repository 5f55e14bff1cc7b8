"""What the theory predicts for one run, without training it: python -m lnt.theory [overrides of train.py].

A mistyped key is answered before anything heavy is imported.
"""

import sys
from typing import TYPE_CHECKING, Any

from lnt import cli
from lnt.errors import MENDABLE, one_line, require

if TYPE_CHECKING:
    import pandas as pd

    from lnt.training.experiment import Experiment

USAGE = """Predict one run from theory, without training it; nothing is fitted (docs/theory.md).

  python -m lnt.theory noise.rate=0.2 data.dim=1e5    settings of train.py; its --help lists them
  python -m lnt.theory from=outputs/DIR               those of a saved run
"""
DRAWS = 64  # of label counts
STRONG = 1.0  # kappa n / d: above it the signal direction in the noise patches decides which filters respond


def main() -> None:
    """Print what is predicted; what a user can mend ends in one line on stderr."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(USAGE)
        return
    try:
        print(report(cli.configuration([word for argument in sys.argv[1:] for word in cli.written_out(argument)])))
    except MENDABLE as error:
        sys.exit(f"error: {one_line(error)}")


def report(config: dict[str, Any]) -> str:
    """The predictions in words. Raises ConfigError for settings that the theory is not about."""
    import numpy as np

    from lnt.runs.experiments_from_settings import experiment_from
    from lnt.theory.conditions import stage1_factors
    from lnt.theory.laws import kappa
    from lnt.theory.mean_field import average_over_counts, expected_counts
    from lnt.theory.run_cells import COUNTS, cells_of, predictable, unit_of_time

    experiment = experiment_from(config)
    run, rates = settings_of(experiment)
    run = run.assign(**dict(zip(COUNTS, expected_counts(experiment.n, *rates), strict=True)))
    about = "the theory is about data=signal_noise, model.power=1, model.activation=relu, model.output=mean, "
    about += "model.second_layer=fixed, no bias, plain gd to the end, labels drawn once and strategy=none, "
    about += "and the defaults of data.noise_patches, data.balanced, data.positive_share, data.noise_ratio and model.init_law"
    # A loss of one's own is known here, though not from its name in a table.
    require(bool(predictable(run.assign(loss="logistic"))[0]), "settings", "these", about)
    strength, t1, steps = float(kappa(run)[0]), float(unit_of_time(run)[0]), experiment.total_steps()
    tau, load = float(np.mean(rates)), strength * experiment.n / float(run["data.dim"][0])
    found = average_over_counts(cells_of(run), np.array([rates]), steps / t1, margin_loss(experiment), DRAWS)
    # The borders and the paper's conditions are about the logistic loss.
    logistic = experiment.choices["loss"] == "logistic"
    lines = [
        *place(strength, rates, logistic),
        f"T1 = n m / (eta s^2 d) = {t1:.4g} steps; training ends after {steps} steps = {steps / t1:.3g} T1",
    ]
    if logistic:
        lines += ["conditions of the paper on Stage I:"]
        lines += [condition(str(name), float(value)) for name, value in stage1_factors(run).iloc[0].items()]
    lines += [
        f"predicted, mean over {DRAWS} draws of the label counts:",
        f"  half of the mislabelled samples memorised: {memorised(found, t1, tau, steps / t1)}",
        f"  lowest test error {error(found.lowest_error[0])}, at the last step {error(found.final_error[0])}",
    ]
    if load > STRONG:
        lines.append(f"  kappa n / d = {load:.2g} is above {STRONG:g}: these are rough (docs/theory.md)")
    return "\n".join(lines)


def place(strength: float, rates: tuple[float, float], logistic: bool) -> list[str]:
    """kappa, and tau and x of the classes, with the phases in which they lie if the borders of these are known."""
    kappa = f"kappa = n SNR^2 = {strength:.4g}"
    if rates[0] == rates[1]:
        return [f"{kappa}, {phase(strength, rates[0], logistic)}{' (borders 1 and 2)' if logistic and rates[0] else ''}"]
    classes = [f"  class {sign}: {phase(strength, rate, logistic)}" for sign, rate in zip("+-", rates, strict=True)]
    return [f"{kappa}{'; by class (borders 1 and 2)' if logistic else ''}:", *classes]


def phase(strength: float, tau: float, logistic: bool) -> str:
    """tau and x of a class, and its phase."""
    if tau == 0:
        return "no label noise"
    x = strength * (1 - 2 * tau)
    name = "no Stage I" if x < 1 else "a Stage I in which rho leads" if x < 2 else "a Stage I in which gamma leads"
    return f"tau = {tau:.4g}, x = kappa (1 - 2 tau) = {x:.3g}{f': {name}' if logistic else ''}"


def settings_of(experiment: "Experiment") -> tuple["pd.DataFrame", tuple[float, float]]:
    """A row as runs.parquet would have it, before any outcome but the step size, and the flip rates of both classes."""
    import pandas as pd

    require(experiment.choices["data"] == "signal_noise", "data", experiment.choices["data"], "has no mean-field theory")
    samples = experiment.representatives()
    plus, minus = (float(experiment.noise.flip_rate_of(label, samples)[0]) for label in (0, 1))
    return pd.DataFrame([experiment.columns()]).assign(step_size=experiment.step_size()), (plus, minus)


def margin_loss(experiment: "Experiment") -> Any:
    """The experiment's loss as the theory takes it."""
    from lnt.losses import Logistic
    from lnt.theory.mean_field import LOGISTIC
    from lnt.theory.run_cells import of_margin

    loss = experiment.bound_loss()
    return LOGISTIC if type(loss) is Logistic else of_margin(loss)


def condition(name: str, factor: float) -> str:
    """One condition, and the factor by which it holds or fails."""
    if factor >= 1:
        return f"  holds by a factor {factor:.3g}: {name}"
    return f"  fails by a factor {1 / factor if factor else float('inf'):.3g}: {name}"


def error(value: float) -> str:
    """A test error; what no test set would show is not written out."""
    return f"{value:.3g}" if value >= 1e-6 else "below 1e-6"


def memorised(found: Any, t1: float, tau: float, t_end: float) -> str:
    """When half of the mislabelled samples are memorised, in T1 and in steps."""
    time, (low, high) = found.time[0], found.time_range[0]
    if tau == 0:
        return "none is mislabelled"
    if time != time:
        return f"not within {t_end:.3g} T1"
    if time == 0:
        return "from the start"
    return f"t = {time:.3g} T1 = step {time * t1:.0f} (80 % of draws: {low:.3g} to {high:.3g} T1)"


if __name__ == "__main__":
    main()
