"""
The grouping rules by name: each maps predictions and parameters to a tree over the labels.

`RULES` is the registry. Every rule has the signature `Rule`, and raises `BadHierarchy` if the
predictions do not group the labels (docs/methods/grouping.md).
"""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from train.errors import BadHierarchy
from train.grouping import (
    agglomerative,
    average_linkage,
    eigenmap,
    laplacian,
    modularity,
    overlap,
    spectral,
)
from train.grouping.partition import Partition, affinity, must_group, nested
from train.grouping.predictions import LabelledPredictions, confusion_of
from train.params.clustering import Params
from train.tree import hierarchy
from train.tree.hierarchy import Nested

MAIN = "modularity"
"""The rule that gives the default number of clusters, and the random controls."""
COVER = "hdcnn"
"""The rule whose label sets overlap, and which has controls of its own."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GroupingTree:
    """A grouping, with the parameters that a sweep chose for it."""

    tree: Nested
    """Disjoint groups as nested lists of leaves."""
    cover: list[list[int]] | None = None
    """Overlapping sets, one for each group of the first level; None if groups do not overlap."""
    gamma: float | None = None
    """Resolution that the sweep chose; None without a sweep."""
    p_min: float | None = None
    """Threshold of average linkage; None for other rules."""
    sweep: list[dict[str, Any]] = field(default_factory=list)
    """A row for each resolution."""

    @property
    def clusters(self) -> Partition:
        """Returns the partition at the root."""
        return hierarchy.clusters(hierarchy.from_nested(self.tree, self.labels))

    @property
    def labels(self) -> int:
        """Returns the number of labels."""
        return len(hierarchy.leaves(self.tree))

    @property
    def refusals(self) -> dict[str, int]:
        """Returns each reason of the sweep with its count, if all was refused; else nothing."""
        chosen = any(row["selected"] and row["refused"] is not None for row in self.sweep)
        return dict(Counter(row["refused"] for row in self.sweep)) if chosen else {}


Rule = Callable[[LabelledPredictions, Params], GroupingTree]


def search(
    predictions: LabelledPredictions, params: Params
) -> tuple[dict[str, GroupingTree], dict[str, str], Params]:
    """
    Applies every rule.

    Returns:
        The groupings by rule, the reason for each rule without one, and the parameters with the
        number of clusters filled in. Where the rule `MAIN` has no grouping, no rule has one.
    """
    try:
        main = RULES[MAIN](predictions, params)
    except BadHierarchy as error:
        log.warning("clustering: there is nothing to group. %s", error)
        return {}, dict.fromkeys(RULES, str(error)), params
    filled = params.model_copy(update={"clusters": params.clusters or len(main.clusters)})
    groupings: dict[str, GroupingTree] = {}
    reasons: dict[str, str] = {}
    for name, rule in RULES.items():
        try:
            groupings[name] = main if name == MAIN else rule(predictions, filled)
            if refusals := groupings[name].refusals:
                log.warning(
                    "clustering: %s: every partition of the sweep is refused (%s); the best of "
                    "them is taken. Train longer, or take more validation images.",
                    name,
                    ", ".join(f"{count} {reason}" for reason, count in refusals.items()),
                )
        except BadHierarchy as error:
            reasons[name] = str(error)
            log.warning("clustering: %s is left out. %s", name, error)
    return groupings, reasons, filled


def _modularity(predictions: LabelledPredictions, params: Params) -> GroupingTree:
    return _swept(predictions, params, modularity.leading)


def _laplacian(predictions: LabelledPredictions, params: Params) -> GroupingTree:
    return _swept(predictions, params, laplacian.propose)


def _bisection(predictions: LabelledPredictions, params: Params) -> GroupingTree:
    weights = affinity(confusion_of(predictions, params.confusion), diagonal=params.diagonal)
    return GroupingTree(nested(modularity.bisection(weights)))


def _average_linkage(predictions: LabelledPredictions, params: Params) -> GroupingTree:
    """Groups by mean probabilities, as HierNet does, for either value of `confusion`."""
    cpm = confusion_of(predictions, "soft")
    g_max = params.g_max or max(len(cpm) // 2, 1)
    if params.p_min is None:
        count = params.groups_wanted or round(len(cpm) ** 0.5)
        p_min, clusters = average_linkage.swept(cpm, g_max=g_max, count=count)
    else:
        p_min, clusters = params.p_min, average_linkage.groups(cpm, g_max=g_max, p_min=params.p_min)
        must_group(clusters, remedy="Set clustering.p_min to null, or to another proximity.")
    return GroupingTree(nested(clusters), p_min=p_min)


def _spectral(predictions: LabelledPredictions, params: Params) -> GroupingTree:
    return GroupingTree(nested(_spectral_groups(predictions, params)))


def _agglomerative(predictions: LabelledPredictions, params: Params) -> GroupingTree:
    clusters = agglomerative.groups(_weights(predictions, params), clusters=_count(params))
    return GroupingTree(nested(clusters))


def _dendrogram(predictions: LabelledPredictions, params: Params) -> GroupingTree:
    weights = _weights(predictions, params)
    return GroupingTree(agglomerative.cut_twice(weights, clusters=_count(params)))


def _hdcnn(predictions: LabelledPredictions, params: Params) -> GroupingTree:
    weights = _weights(predictions, params)
    root = len(weights) ** 0.5
    if params.sweep_neighbours:
        confusion = confusion_of(predictions, params.confusion)
        clusters = eigenmap.swept(weights, confusion, most=round(root))
    else:
        neighbours = params.neighbours or max(1, round(root / 2))
        clusters = eigenmap.groups(weights, neighbours=neighbours)
    return _overlapping(predictions, params, clusters)


def _hdcnn_spectral(predictions: LabelledPredictions, params: Params) -> GroupingTree:
    return _overlapping(predictions, params, _spectral_groups(predictions, params))


RULES: dict[str, Rule] = {
    MAIN: _modularity,
    "bisection": _bisection,
    "laplacian": _laplacian,
    "average_linkage": _average_linkage,
    "spectral": _spectral,
    "agglomerative": _agglomerative,
    "dendrogram": _dendrogram,
    COVER: _hdcnn,
    "hdcnn_spectral": _hdcnn_spectral,
}


def _swept(
    predictions: LabelledPredictions, params: Params, propose: modularity.Propose
) -> GroupingTree:
    candidates = modularity.sweep(
        confusion_of(predictions, params.confusion),
        gammas=modularity.resolutions(params.gamma_first, params.gamma_last, params.gamma_step),
        largest=params.largest,
        diagonal=params.diagonal,
        propose=propose,
    )
    chosen = modularity.select(candidates)
    rows = [
        {
            "gamma": candidate.gamma,
            "clusters": candidate.clusters,
            "micp": candidate.micp,
            "excess": candidate.excess,
            "selected": candidate is chosen,
            "refused": candidate.refused,
        }
        for candidate in candidates
    ]
    return GroupingTree(nested(chosen.clusters), gamma=chosen.gamma, sweep=rows)


def _spectral_groups(predictions: LabelledPredictions, params: Params) -> Partition:
    return spectral.groups(_weights(predictions, params), clusters=_count(params))


def _overlapping(
    predictions: LabelledPredictions, params: Params, clusters: Partition
) -> GroupingTree:
    """Adds labels by mean probabilities, as HD-CNN does, for either value of `confusion`."""
    cover = overlap.grown(
        clusters,
        confusion_of(predictions, "soft"),
        gamma=params.overlap,
        largest=params.overlap_largest,
    )
    return GroupingTree(nested(clusters), cover=cover)


def _weights(predictions: LabelledPredictions, params: Params) -> Float[np.ndarray, "label label"]:
    return affinity(confusion_of(predictions, params.confusion))


def _count(params: Params) -> int:
    assert params.clusters is not None, "`search` fills in the number of clusters"  # noqa: S101  # our own mistake
    return params.clusters
