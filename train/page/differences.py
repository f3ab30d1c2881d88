"""
A paired difference between two runs, with an interval over test images and one over seeds.

The interval over images covers the choice of test images, the interval over seeds the variation
between training runs. A difference is conclusive only where both exclude zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.evaluation.statistics import Interval


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """
    The mean difference of two runs over the seeds that both have; a share, in -1..1.

    `over_images` is the paired bootstrap over test images, `by_seed` the difference of each seed,
    `over_seeds` Student's t interval of `by_seed`; None with one seed.
    """

    over_images: Interval
    by_seed: tuple[float, ...]
    over_seeds: Interval | None

    @property
    def mean(self) -> float:
        """The mean over images and seeds."""
        return self.over_images.mean

    @property
    def seeds(self) -> int:
        """The number of seeds that both runs have."""
        return len(self.by_seed)

    @property
    def is_conclusive(self) -> bool:
        """Says whether both intervals exclude zero; never with one seed."""
        return (
            self.over_seeds is not None
            and self.over_seeds.excludes_zero
            and self.over_images.excludes_zero
        )

    @property
    def p_value(self) -> float:
        """
        The larger p value of the two intervals; 1 with one seed.

        It is below 0.05 only where both are: a difference must hold over images and over seeds.
        """
        if self.over_seeds is None:
            return 1.0
        return max(self.over_images.p_value, self.over_seeds.p_value)

    @property
    def is_better(self) -> bool:
        """Says whether the difference is conclusive and above zero."""
        return self.is_conclusive and self.mean > 0

    @property
    def is_worse(self) -> bool:
        """Says whether the difference is conclusive and below zero."""
        return self.is_conclusive and self.mean < 0


def t_interval(values: Sequence[float], *, level: float = 0.95) -> Interval | None:
    r"""
    Returns the mean of `values` with Student's t interval; None of fewer than two values.

    With $n$ values of mean $\bar d$ and standard deviation $s$ (over $n - 1$), the interval is
    $\bar d \pm t_{n-1} \, s / \sqrt n$, where $t_{n-1}$ is the quantile (1 + `level`) / 2 of
    Student's t with $n - 1$ degrees of freedom (Student, "The Probable Error of a Mean", 1908).

    Example:
        (1, 2, 3): mean 2, s = 1, t = 4.302653, so 2 ± 2.484138; p = 0.074180.
    """
    if len(values) < 2:
        return None
    from scipy import stats  # takes most of a second to import

    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * error
    if error == 0:
        p_value = float(mean == 0)
    else:
        p_value = 2 * float(stats.t.sf(abs(mean) / error, len(values) - 1))
    return Interval(mean=mean, low=mean - reach, high=mean + reach, p_value=p_value)
