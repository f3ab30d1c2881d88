"""Stability of groupings: how similar the groupings of resampled validation images are."""

import logging
from collections import Counter
from collections.abc import Mapping

import numpy as np

from train.errors import BadHierarchy
from train.evaluation import metrics
from train.grouping.predictions import LabelledPredictions
from train.grouping.rules import RULES, GroupingTree
from train.params.clustering import Params
from train.tree import hierarchy

log = logging.getLogger(__name__)

_RESAMPLING = 23  # separates this random stream from others of the same seed


def stability(
    groupings: Mapping[str, GroupingTree],
    predictions: LabelledPredictions,
    params: Params,
    *,
    seed: int,
) -> dict[str, float]:
    """
    Returns the mean adjusted Rand index between each grouping and those of resampled images.

    Images are drawn with replacement `params.bootstrap` times, and all rules get the same draws. If
    a rule has no grouping of a draw, every label is a cluster of its own. The mapping is empty
    without draws.

    Args:
        groupings: Groupings of all images, by names of `RULES`.
        predictions: Predictions for all images.
        params: Parameters with the number of clusters.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng([seed, _RESAMPLING])
    indices: dict[str, list[float]] = {}
    ungrouped: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for _ in range(params.bootstrap):
        images = len(predictions.labels)
        drawn = predictions.drawn(rng.integers(images, size=images))
        for name, grouping in groupings.items():
            reference = hierarchy.parents(grouping.clusters)
            try:
                regrouped = RULES[name](drawn, params)
                clusters = regrouped.clusters
                refused[name] += bool(regrouped.refusals)
            except BadHierarchy:
                ungrouped[name] += 1
                clusters = [[label] for label in range(len(reference))]
            index = metrics.adjusted_rand(reference, hierarchy.parents(clusters))
            indices.setdefault(name, []).append(index)
    for counts, what in ((ungrouped, "no grouping"), (refused, "a sweep with all refused")):
        if few := {name: count for name, count in counts.items() if count}:
            log.warning(
                "clustering: of %d resamples of the validation images, these have %s: %s. Their "
                "stability says little. Take more validation images.",
                params.bootstrap,
                what,
                ", ".join(f"{name} {count}" for name, count in few.items()),
            )
    return {name: float(np.mean(values)) for name, values in indices.items()}
