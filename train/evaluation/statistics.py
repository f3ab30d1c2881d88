"""
How sure a difference is: the paired bootstrap, the exact test of McNemar, Holm's correction.

Numbers in, numbers out: nothing here knows of files or of runs. Section 7.4 of the methods
describes all three. Student's paired t over runs is Dutt and others' own test (section 3.5).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

_CELLS_AT_ONCE = 4_000_000  # drawn counts held in memory at once: 32 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the interval that holds it; `low` and `high` are quantiles of resamples."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Says whether the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Flips:
    """What changed from one run to another on the same images, and how likely by chance."""

    fixed: int
    broken: int

    @property
    def p_value(self) -> float:
        """The two-sided p of the exact McNemar test."""
        return mcnemar(self.fixed, self.broken)


def paired_interval(
    difference: Float[np.ndarray, " image"],
    *,
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """
    Returns the mean of `difference` with its bootstrap percentile interval over images.

    An image's difference is the correctness of one run minus that of another, averaged over
    seeds. Drawing n images with replacement draws each distinct difference as often as a
    multinomial says; with few distinct values this is the same bootstrap at a small part of
    the cost. An empty `difference` gives NaN throughout.
    """
    images = len(difference)
    if images == 0:
        return Interval(mean=float("nan"), low=float("nan"), high=float("nan"))
    values, counts = np.unique(difference, return_counts=True)
    random = np.random.default_rng(seed)
    chunk = max(1, _CELLS_AT_ONCE // len(values))
    means = np.concatenate(
        [
            random.multinomial(images, counts / images, size=min(chunk, resamples - start))
            @ values
            / images
            for start in range(0, resamples, chunk)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=float(np.mean(difference)), low=float(low), high=float(high))


def flips(before: Bool[np.ndarray, " image"], after: Bool[np.ndarray, " image"]) -> Flips:
    """Counts the images that `after` has right and `before` wrong (fixed), and the reverse."""
    return Flips(fixed=int(np.sum(~before & after)), broken=int(np.sum(before & ~after)))


def mcnemar(fixed: int, broken: int) -> float:
    r"""
    Returns the exact two-sided p of McNemar's test.

    With $b$ images fixed and $c$ broken,

    $$p = \min\left(1,\; 2 \sum_{i \le \min(b, c)} \binom{b + c}{i} / 2^{b + c}\right)$$

    in whole numbers until the last division, so that no count is too large for it.

    Example:
        16 fixed and 6 broken give 0.052479; 5 and 0 give 0.0625; 10 and 10 give 1.
    """
    trials = fixed + broken
    term = total = 1
    for drawn in range(min(fixed, broken)):
        term = term * (trials - drawn) // (drawn + 1)
        total += term
    return min(1.0, float(2 * total / 2**trials))


@dataclass(frozen=True, slots=True)
class PairedT:
    """Student's t of paired differences, and how likely one so large is by chance."""

    mean: float
    t: float
    degrees: int

    @property
    def p_value(self) -> float:
        """The two-sided p; 1 where nothing differs, NaN of fewer than two pairs."""
        return student(self.t, degrees=self.degrees)


def paired_t(first: Sequence[float], second: Sequence[float]) -> PairedT:
    r"""
    Returns $t = \bar d \sqrt n / s_d$ of the differences $d$, `first` minus `second`.

    With few runs it takes much to be sure: five have four degrees of freedom, and runs of different
    configurations share no more than their seed. Differences that are all the same give an infinite
    t, or 0 if they are 0; fewer than two pairs give NaN.

    Example:
        (3, 4, 5) and (2, 2, 2): d = (1, 2, 3), t = 3.464102 of 2 degrees, p = 0.074180.
    """
    differences = np.array(first, dtype=np.float64) - np.array(second, dtype=np.float64)
    pairs = len(differences)
    mean = float(differences.mean()) if pairs else math.nan
    if pairs < 2:
        return PairedT(mean=mean, t=math.nan, degrees=max(0, pairs - 1))
    error = float(differences.std(ddof=1)) / math.sqrt(pairs)
    if error == 0:
        return PairedT(
            mean=mean, t=math.copysign(math.inf, mean) if mean else 0.0, degrees=pairs - 1
        )
    return PairedT(mean=mean, t=mean / error, degrees=pairs - 1)


def student(t: float, *, degrees: int) -> float:
    r"""
    Returns the two-sided p of Student's t with a whole number of degrees of freedom.

    With $\theta = \arctan(t / \sqrt\nu)$ the p is one minus $\sin\theta \sum_k a_k
    \cos^{2k}\theta$ for an even $\nu$, and one minus $\frac{2}{\pi} (\theta + \sin\theta
    \sum_k a_k \cos^{2k + 1}\theta)$ for an odd one (Abramowitz and Stegun 26.7.3 and 26.7.4).

    Example:
        2.776445 of 4 degrees: 0.05.
    """
    if degrees < 1 or math.isnan(t):
        return math.nan
    angle = math.atan2(abs(t), math.sqrt(degrees))
    odd = degrees % 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for step in range(degrees // 2):
        total += term
        term *= math.cos(angle) ** 2 * (2 * step + 1 + odd) / (2 * step + 2 + odd)
    inside = math.sin(angle) * total
    inside = 2 / math.pi * (angle + inside) if odd else inside
    return min(1.0, max(0.0, 1.0 - inside))


def holm(p_values: Sequence[float]) -> list[float]:
    """
    Returns the p values after Holm's correction, in the order given.

    The k-th smallest of m is multiplied by m - k + 1, never falls below the one before it and
    never rises above one (Holm 1979).
    """
    corrected = [1.0] * len(p_values)
    floor = 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = floor
    return corrected
