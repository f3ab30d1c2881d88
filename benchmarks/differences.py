"""
Differences between values of alpha, and between merged runs: over seeds and over test images.

The paired t over seeds is Dutt and others' own (methods.md 3.5). Beside it stand our own tests
(7.4): the bootstrap interval of an image's difference in the mean over seeds, and McNemar's exact
p of each seed, which Holm's correction multiplies by all the rows and seeds of a level.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool

from train.evaluation.statistics import flips, holm, paired_interval, paired_t
from train.methods.merged.adaptation import GRID

LEVELS = ("coarse", "fine")
NEXT = {"coarse": 2, "fine": 1}
"""Steps of the grid around the optimum that make a difference, as the paper says."""
RESAMPLES, SEED = 10_000, 0
NONE, FULL, OTHER = (GRID.index(alpha) for alpha in (0.0, 1.0, 2.0))


@dataclass(frozen=True, slots=True)
class Tried:
    """Which test images one seed has right at each alpha of GRID, both by level."""

    right: Mapping[str, Bool[np.ndarray, "alpha image"]]
    chosen: Mapping[str, float]
    """The alpha of GRID that validation chose."""
    parents: tuple[int, ...]
    """The category of each label."""


Seeds = Mapping[int, Tried]
Side = tuple[str, dict[int, Bool[np.ndarray, " picture"]]]
"""A run at an alpha, in words, and which test images each of its seeds has right."""


def compared(runs: Mapping[str, Seeds], peers: Sequence[str]) -> list[dict[str, Any]]:
    """
    Returns a row for each pair: values of alpha within every run, and the runs `peers` at alpha 1.

    Images are in the same order in all runs. Categories are compared where two runs have the
    same. Of runs without a common seed there is no row.
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


def optimum(seeds: Seeds, level: str) -> int:
    """Returns the place in GRID with most test images right, over all seeds; ties as on validation."""
    counts = sum(one.right[level].sum(axis=1) for one in seeds.values())
    return min(range(len(GRID)), key=lambda at: (-counts[at], abs(GRID[at] - 1), GRID[at]))


def _within(name: str, seeds: Seeds, level: str) -> Iterator[tuple[Side, Side]]:
    """Pairs of one run; the optimum is that of the test curve, as in the paper: it flatters."""
    none, full, other = (_at(name, seeds, level, place) for place in (NONE, FULL, OTHER))
    yield from ((full, none), (other, none), (full, other))
    places = {seed: GRID.index(one.chosen[level]) for seed, one in seeds.items()}
    right = {seed: one.right[level][places[seed]] for seed, one in seeds.items()}
    yield (f"{name} at the chosen", right), none
    best = optimum(seeds, level)
    for beside in (best - NEXT[level], best + NEXT[level]):
        if 0 <= beside < len(GRID):
            _, right = _at(name, seeds, level, best)
            yield (f"{name} at its best {GRID[best]}", right), _at(name, seeds, level, beside)


def _at(name: str, seeds: Seeds, level: str, place: int) -> Side:
    right = {seed: one.right[level][place] for seed, one in seeds.items()}
    return f"{name} at {GRID[place]}", right


def _have_common(one: Seeds, other: Seeds, level: str) -> bool:
    seeds = one.keys() & other.keys()
    alike = all(one[seed].parents == other[seed].parents for seed in seeds)
    return bool(seeds) and (level == "fine" or alike)


def _row(level: str, first: Side, second: Side) -> dict[str, Any]:
    (name, ours), (beside, theirs) = first, second
    seeds = sorted(ours.keys() & theirs.keys())
    change = np.mean([ours[seed].astype(float) - theirs[seed] for seed in seeds], axis=0)
    interval = paired_interval(change, resamples=RESAMPLES, seed=SEED)
    means = [[float(side[seed].mean()) for seed in seeds] for side in (ours, theirs)]
    p = paired_t(*means).p_value
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
        "fixed": [one.fixed for one in changed],
        "broken": [one.broken for one in changed],
        "p_mcnemar": [one.p_value for one in changed],
    }


def _corrected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Holm's correction over every row and seed of a level, as in the report."""
    found = iter(holm([p for row in rows for p in row["p_mcnemar"]]))
    return [row | {"p_mcnemar_holm": [next(found) for _ in row["p_mcnemar"]]} for row in rows]
