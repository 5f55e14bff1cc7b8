"""Confidence intervals over seeds, shared by all tables and figures: Student's t, for means and for what is computed from them.

Below FEWEST_SEEDS seeds there is no interval (NaN). The t distribution assumes that the mean over seeds is about normal, and
that cannot be judged from a handful of values: an interval from two or three seeds is either far too short or useless.
"""

import math

import numpy as np

CONFIDENCE = 0.95
FEWEST_SEEDS = 5
TOO_FEW = f"no intervals: fewer than {FEWEST_SEEDS} seeds"


def student_quantile(probability: float, freedom: object) -> np.ndarray:
    """The quantile of Student's t distribution with so many degrees of freedom; NaN where these are NaN."""
    # Not scipy.stats, which gives the same numbers and takes as long to import as all else of an analysis. Here, since
    # training imports this file for a constant.
    from scipy.special import stdtrit

    # Once for each number: most cells of a table have the same.
    numbers = np.asarray(freedom, float)
    different, place = np.unique(numbers, return_inverse=True)
    return np.asarray(stdtrit(different, probability)[place]).reshape(numbers.shape)


def half_width(sd: object, count: object, confidence: float = CONFIDENCE) -> np.ndarray:
    """Half the length of the t interval of a mean: t_{count-1} sd / sqrt(count), NaN below FEWEST_SEEDS values.

    `sd` is the standard deviation with count - 1 in the denominator. If all values are equal the interval has length 0.
    """
    number = np.asarray(count, float)
    enough = np.where(number >= FEWEST_SEEDS, number, np.nan)
    return student_quantile((1 + confidence) / 2, enough - 1) * np.asarray(sd, float) / np.sqrt(enough)


def mean_interval(values: object, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray]:
    """Low and high end of the t interval of the mean over the last axis, [..., seeds] -> [...]; NaN: a seed without a value."""
    array = np.asarray(values, float)
    there = np.isfinite(array)
    count = there.sum(-1)
    # Not nanmean and nanstd, which warn of every empty cell.
    mean = np.where(there, array, 0).sum(-1) / np.maximum(count, 1)
    squares = np.where(there, array - mean[..., None], 0) ** 2
    half = half_width(np.sqrt(squares.sum(-1) / np.maximum(count - 1, 1)), count, confidence)
    return mean - half, mean + half


def difference_interval(first: object, second: object, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Low and high end of the interval of a difference of means, first - second, from values by seed [S]; NaN: no value.

    With FEWEST_SEEDS seeds or more that have both, Student's t interval of the differences seed by seed: runs of one seed share
    their random streams, so most of what differs between seeds cancels. With fewer Welch's interval for independent samples,
    or NaN where one of them has less than FEWEST_SEEDS values. Source: Welch 1947, Biometrika 34.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() >= FEWEST_SEEDS:
        low, high = mean_interval((a - b)[both], confidence)
        return float(low), float(high)
    samples = [values[np.isfinite(values)] for values in (a, b)]
    if min(map(len, samples)) < FEWEST_SEEDS:
        return np.nan, np.nan
    squares = np.array([values.var(ddof=1) / len(values) for values in samples])
    total = float(squares.sum())
    if total == 0:
        half = 0.0
    else:
        freedom = total**2 / sum(square**2 / (len(values) - 1) for square, values in zip(squares, samples, strict=True))
        half = float(student_quantile((1 + confidence) / 2, freedom) * np.sqrt(total))
    difference = float(samples[0].mean() - samples[1].mean())
    return difference - half, difference + half


def jackknife_interval(
    estimate: object, left_out: object, used: np.ndarray | None = None, confidence: float = CONFIDENCE
) -> tuple[np.ndarray, np.ndarray]:
    """Low and high end of the interval of a statistic of all seeds: estimate -/+ t_{S-1} se, with the jackknife's

        se^2 = (S - 1) / S sum_s (left_out_s - mean of left_out)^2.

    `estimate` [...] uses all S seeds, `left_out` [seeds, ...] all but one each; a seed is left out of all cells at once, since
    runs of one seed share their random streams. `used` [seeds, ...] says which seeds contribute to each estimate (default:
    all). NaN where fewer than FEWEST_SEEDS do, or where the statistic does not exist without one of them. The statistic must
    depend smoothly on cell means: quantiles and extremes do not. A positive one is best given as its logarithm.
    Source: Tukey 1958; Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 11. For a mean this is
    `mean_interval`.
    """
    value, without = np.asarray(estimate, float), np.asarray(left_out, float)
    use = np.ones(without.shape, bool) if used is None else np.broadcast_to(used, without.shape)
    count = use.sum(0)
    centre = np.where(use, without, 0).sum(0) / np.maximum(count, 1)
    squares = (np.where(use, without - centre, 0) ** 2).sum(0)
    enough = np.where(count >= FEWEST_SEEDS, count, np.nan)
    half = student_quantile((1 + confidence) / 2, enough - 1) * np.sqrt((enough - 1) / enough * squares)
    return value - half, value + half


def with_interval(value: float, low: float, high: float) -> str:
    """A number and its interval in words, as far as they are known: 1.2 [1.1, 1.3]; 1.2; nothing."""
    if math.isnan(value):
        return ""
    return f"{value:.3g}" + ("" if math.isnan(low) or math.isnan(high) else f" [{low:.3g}, {high:.3g}]")
