"""Sum up a run in three lines, with the facts that its user wants first."""

from collections.abc import Iterator, Mapping
from typing import Any


def run_summary(run: Mapping[str, Any]) -> Iterator[str]:
    """Say how a run ended, line by line, from its row of runs.parquet."""
    if run["status"] == "failed":
        yield f"the run failed: {run['error']}"
        return
    if run["last_step"] is None:
        yield "diverged before anything was measured; try a smaller optimizer.lr"
        return
    yield f"{run['status']} after step {run['last_step']}; clean samples fitted: {_when(run['stage1_step'])}"
    share = run["noisy_accuracy"]
    # Null in the table, or NaN, which alone differs from itself.
    if share is None or share != share:
        yield "no sample is mislabelled"
    else:
        yield f"mislabelled samples memorised: {_when(run['stage2_step'])} ({share:.1%} of them now)"
    lowest = f"the lowest was {run['best_test_error']:.4f}, at step {run['best_step']}"
    fresh = run["best_test_error_fresh"]
    # It takes two test samples, of which one chooses and one judges.
    judged = "" if fresh is None or fresh != fresh else f" ({fresh:.4f} where other samples choose the step)"
    yield f"test error: {run['test_error']:.4f}; {lowest}{judged}"


def _when(step: int | None) -> str:
    return "never" if step is None else f"at step {step}"
