"""
Statistics of differences between runs: paired bootstrap, exact McNemar test, Holm's correction.

docs/methods/evaluation.md says which comparisons each of them serves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

_CELLS_AT_ONCE = 4_000_000  # drawn counts in memory at the same time: 32 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its confidence interval; `low` and `high` are quantiles of resampled means."""

    mean: float
    low: float
    high: float
    p_value: float = field(default=float("nan"), compare=False)
    """Two-sided p value of a mean of zero; NaN where it was not computed."""

    @property
    def excludes_zero(self) -> bool:
        """Returns whether zero is outside the interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Flips:
    """Images on which exactly one of two runs is correct."""

    fixed: int
    """Images that only the second run predicts correctly."""
    broken: int
    """Images that only the first run predicts correctly."""

    @property
    def p_value(self) -> float:
        """Returns the two-sided p value of the exact McNemar test."""
        return mcnemar(self.fixed, self.broken)


def paired_interval(
    difference: Float[np.ndarray, " image"],
    *,
    resamples: int,
    seed: int,
    level: float = 0.95,
    cells_at_once: int = _CELLS_AT_ONCE,
) -> Interval:
    """
    Returns the mean of `difference` with its bootstrap percentile interval over images.

    The p value is twice the smaller share of resampled means at or beyond zero, with one resample
    added to the count, so that it is never zero (Davison and Hinkley, *Bootstrap Methods*, 1997).

    How often each distinct difference is drawn in n draws with replacement has a multinomial
    distribution. Drawing these counts is the same bootstrap as drawing images, and costs less if
    there are few distinct values.

    Args:
        difference: For each image, correctness of one run minus that of another, averaged over
            seeds. Without images the result is NaN.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.
        level: Probability that the interval has.
        cells_at_once: Drawn counts in memory at the same time; the result does not depend on it.
    """
    images = len(difference)
    if images == 0:
        return Interval(mean=float("nan"), low=float("nan"), high=float("nan"))
    values, counts = np.unique(difference, return_counts=True)
    random = np.random.default_rng(seed)
    chunk = max(1, cells_at_once // len(values))
    means = np.concatenate(
        [
            random.multinomial(images, counts / images, size=min(chunk, resamples - start))
            @ values
            / images
            for start in range(0, resamples, chunk)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    beyond = min(int(np.sum(means <= 0)), int(np.sum(means >= 0)))
    return Interval(
        mean=float(np.mean(difference)),
        low=float(low),
        high=float(high),
        p_value=min(1.0, 2 * (1 + beyond) / (1 + resamples)),
    )


def flips(before: Bool[np.ndarray, " image"], after: Bool[np.ndarray, " image"]) -> Flips:
    """Counts the images that only `after` predicts correctly (fixed), and only `before` (broken)."""
    return Flips(fixed=int(np.sum(~before & after)), broken=int(np.sum(before & ~after)))


def mcnemar(fixed: int, broken: int) -> float:
    r"""
    Returns the two-sided p value of McNemar's exact test.

    With $b$ images fixed and $c$ broken,

    $$p = \min\left(1,\; 2 \sum_{i \le \min(b, c)} \binom{b + c}{i} / 2^{b + c}\right)$$

    This is a binomial test with probability 1/2 (McNemar 1947, "Note on the sampling error of the
    difference between correlated proportions"). All numbers are integers until the last division,
    so that large counts do not overflow.

    Example:
        16 fixed and 6 broken give 0.052479; 5 and 0 give 0.0625; 10 and 10 give 1.
    """
    trials = fixed + broken
    term = total = 1
    for drawn in range(min(fixed, broken)):
        term = term * (trials - drawn) // (drawn + 1)
        total += term
    return min(1.0, float(2 * total / 2**trials))


def holm(p_values: Sequence[float]) -> list[float]:
    """
    Returns the p values after Holm's correction for several tests, in the given order.

    The k-th smallest of m values is multiplied by m - k + 1. The result is at least the corrected
    value before it, and at most 1 (Holm 1979, "A simple sequentially rejective multiple test
    procedure").
    """
    corrected = [1.0] * len(p_values)
    floor = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = floor
    return corrected
