"""
Tests of differences between values of alpha, and between merged runs.

Dutt, Pellerin and Quénot (2017), section 4, use Student's paired t over runs. The other tests are
the bootstrap interval over test images of the mean difference over seeds, and McNemar's exact test of
each seed, with Holm's correction over all rows and seeds of a level.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import Bool

from train.evaluation.statistics import flips, holm, paired_interval
from train.methods.merged.adaptation import GRID

LEVELS = ("coarse", "fine")
NEXT = {"coarse": 2, "fine": 1}
"""Steps of the grid from the optimum to the values that it is compared with, as in the paper."""
RESAMPLES, SEED = 10_000, 0
NONE, FULL, OTHER = (GRID.index(alpha) for alpha in (0.0, 1.0, 2.0))


@dataclass(frozen=True, slots=True)
class CorrectByAlpha:
    """Which test images one seed predicts correctly at each alpha of GRID."""

    correct: Mapping[str, Bool[np.ndarray, "alpha image"]]
    """By level."""
    chosen: Mapping[str, float]
    """By level, the alpha of GRID that validation images choose."""
    parents: tuple[int, ...]
    """The category of each label."""


Seeds = Mapping[int, CorrectByAlpha]
Side = tuple[str, dict[int, Bool[np.ndarray, " image"]]]
"""Name of a run and its alpha, and the test images that each seed predicts correctly."""


def compared(runs: Mapping[str, Seeds], peers: Sequence[str]) -> list[dict[str, Any]]:
    """
    Returns a row for each pair of alphas within a run, and for each pair of `peers` at alpha 1.

    Images are in the same order in all runs. Categories are compared only if both runs have the same
    categories. Two runs without a common seed have no row.
    """
    rows = []
    for level in LEVELS:
        pairs = [pair for name, seeds in runs.items() for pair in _within(name, seeds, level)]
        pairs += [
            (_at(one, runs[one], level, FULL), _at(other, runs[other], level, FULL))
            for one, other in combinations(peers, 2)
            if _have_common(runs[one], runs[other], level)
        ]
        rows += _corrected([_row(level, *pair) for pair in pairs])
    return rows


def paired_t(first: Sequence[float], second: Sequence[float]) -> float:
    """
    Returns the two-sided p value of Student's paired t of two samples.

    NaN for fewer than two pairs. If all differences are equal, t is not defined: the result is 1 for
    no difference and 0 for any other.
    """
    differences = np.subtract(first, second)
    if len(differences) < 2:
        return math.nan
    if not np.ptp(differences):
        return 0.0 if differences[0] else 1.0
    return float(scipy.stats.ttest_rel(first, second).pvalue)


def optimum(seeds: Seeds, level: str) -> int:
    """Returns the index in GRID of the best alpha on test images; ties: nearest to 1, then the lower."""
    counts = sum(seed.correct[level].sum(axis=1) for seed in seeds.values())
    return min(
        range(len(GRID)), key=lambda index: (-counts[index], abs(GRID[index] - 1), GRID[index])
    )


def _within(name: str, seeds: Seeds, level: str) -> Iterator[tuple[Side, Side]]:
    """Yields the pairs of one run; as in the paper, test images choose the optimum, which favours it."""
    none, full, other = (_at(name, seeds, level, index) for index in (NONE, FULL, OTHER))
    yield from ((full, none), (other, none), (full, other))
    correct = {
        seed: by_alpha.correct[level][GRID.index(by_alpha.chosen[level])]
        for seed, by_alpha in seeds.items()
    }
    yield (f"{name} at the chosen", correct), none
    best = optimum(seeds, level)
    for beside in (best - NEXT[level], best + NEXT[level]):
        if 0 <= beside < len(GRID):
            _, correct = _at(name, seeds, level, best)
            yield (f"{name} at its best {GRID[best]}", correct), _at(name, seeds, level, beside)


def _at(name: str, seeds: Seeds, level: str, index: int) -> Side:
    correct = {seed: by_alpha.correct[level][index] for seed, by_alpha in seeds.items()}
    return f"{name} at {GRID[index]}", correct


def _have_common(first: Seeds, second: Seeds, level: str) -> bool:
    seeds = first.keys() & second.keys()
    same_categories = all(first[seed].parents == second[seed].parents for seed in seeds)
    return bool(seeds) and (level == "fine" or same_categories)


def _row(level: str, first: Side, second: Side) -> dict[str, Any]:
    (name, ours), (beside, theirs) = first, second
    seeds = sorted(ours.keys() & theirs.keys())
    change = np.mean([ours[seed].astype(float) - theirs[seed] for seed in seeds], axis=0)
    interval = paired_interval(change, resamples=RESAMPLES, seed=SEED)
    means = [[float(side[seed].mean()) for seed in seeds] for side in (ours, theirs)]
    p = paired_t(*means)
    changed = [flips(theirs[seed], ours[seed]) for seed in seeds]
    return {
        "level": level,
        "first": name,
        "second": beside,
        "seeds": seeds,
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "p_paired_t": None if math.isnan(p) else p,  # JSON has no NaN
        "fixed": [flip.fixed for flip in changed],
        "broken": [flip.broken for flip in changed],
        "p_mcnemar": [flip.p_value for flip in changed],
    }


def _corrected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds the p values after Holm's correction over all rows and seeds of a level."""
    corrected = iter(holm([p for row in rows for p in row["p_mcnemar"]]))
    return [row | {"p_mcnemar_holm": [next(corrected) for _ in row["p_mcnemar"]]} for row in rows]
