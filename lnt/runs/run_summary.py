"""Sum up a run in three lines, with the facts that its user wants first."""

from collections.abc import Iterator, Mapping
from typing import Any

NOT_KNOWN = "not known: there are observed labels only"


def run_summary(run: Mapping[str, Any]) -> Iterator[str]:
    """Say how a run ended, line by line, from its row of runs.parquet."""
    if run["status"] == "failed":
        yield f"the run failed: {run['error']}"
        return
    if run["last_step"] is None:
        yield "diverged before anything was measured; try a smaller optimizer.lr"
        return
    ended, share = f"{run['status']} after step {run['last_step']}", run["noisy_accuracy"]
    if _missing(run["realised_noise_rate"]):
        yield f"{ended}; training loss {run['train_loss']:.4g}"
        yield f"which samples are mislabelled is {NOT_KNOWN}"
    elif _missing(share):
        yield f"{ended}; clean samples fitted: {_when(run['stage1_step'])}"
        yield "no sample is mislabelled"
    else:
        yield f"{ended}; clean samples fitted: {_when(run['stage1_step'])}"
        yield f"mislabelled samples memorised: {_when(run['stage2_step'])} ({share:.1%} of them now)"
    if _missing(run["test_error"]):
        observed = run["test_error_observed"]
        yield f"test error: {NOT_KNOWN}" + ("" if _missing(observed) else f"; against these: {observed:.4f}")
        return
    lowest = f"the lowest was {run['best_test_error']:.4f}, at step {run['best_step']}"
    fresh = run["best_test_error_fresh"]
    # It takes two test samples, of which one chooses and one judges.
    judged = "" if _missing(fresh) else f" ({fresh:.4f} where other samples choose the step)"
    yield f"test error: {run['test_error']:.4f}; {lowest}{judged}"


def _missing(value: float | None) -> bool:
    """Whether a number is null in the table, or NaN, which alone differs from itself."""
    return value is None or value != value


def _when(step: int | None) -> str:
    return "never" if step is None else f"at step {step}"
