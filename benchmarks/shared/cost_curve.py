"""
The exponent by which a cost grows, apart from the cost of the start: cost = start + factor * posts ** exponent.

A program that starts in half a second hides how its work grows. Subtracting the measured cost of a tiny
input does not help: where the work takes less than the start, the difference is mostly noise. Therefore
all sizes together determine the start.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_EXPONENTS = np.arange(0.2, 3, 0.001)
_RESOLVED = 0.2  # of the start: less work than this is not told from noise


@dataclass(frozen=True, slots=True)
class CostCurve:
    """The curve with the least squares of relative errors."""

    exponent: float
    start: float
    """Cost of no posts, in the unit of the costs."""
    misfit: float
    """Largest difference of a cost from the curve, as a share of the curve."""


def fitted(costs: Mapping[int, float]) -> CostCurve:
    """Fits the curve to the cost of each number of posts: four sizes or more."""
    posts, cost = np.array(list(costs), float), np.array(list(costs.values()))
    curves = []
    for exponent in _EXPONENTS:
        terms = np.column_stack([np.ones(len(posts)), (posts / posts.max()) ** exponent])
        weighted = terms / cost[:, None]
        solution = np.linalg.lstsq(weighted, np.ones(len(cost)))[0]
        curve = terms @ solution
        errors = float(np.sum((curve / cost - 1) ** 2))
        misfit = float(np.max(np.abs(cost / curve - 1)))
        curves.append((errors, CostCurve(float(exponent), float(solution[0]), misfit)))
    return min(curves, key=lambda each: each[0])[1]


def slope(costs: Mapping[int, float], *, start: float = 0.0) -> float | None:
    """
    Returns the slope of the logarithm of the cost, less `start`, over that of the posts.

    None if the least cost does not exceed `start` by a fifth: the slope would be that of noise.
    """
    work = {posts: cost - start for posts, cost in costs.items()}
    if min(work.values()) <= _RESOLVED * start:
        return None
    return statistics.linear_regression(
        [math.log(posts) for posts in work], [math.log(value) for value in work.values()]
    ).slope
