"""
Stage `clustering`: groups the labels that the flat network confuses on validation images.

Reads results/flat/SEED/validation.parquet, results/flat/SEED/model.json and
data/shards/classes.json. Writes data/clustering/SEED/GROUPING.json and .dot for every grouping: one
for each rule of `train.grouping.rules`; `given` and `given_deep` from the data set's families or a
file of the user; and random controls of the same shapes (docs/methods/grouping.md).
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from train.errors import BadHierarchy
from train.evaluation import metrics
from train.grouping import agglomerative, document, given, inputs, modularity, rules
from train.grouping.controls import SIZED, SOURCES, controls
from train.grouping.partition import affinity, nested
from train.grouping.predictions import LabelledPredictions, confusion_of
from train.grouping.rules import GroupingTree
from train.grouping.stability import stability
from train.params.clustering import Params

__all__ = ["Params", "run"]

log = logging.getLogger(__name__)


def run(params: Params, *, data_dir: Path, results_dir: Path, seed: int) -> Path:
    """
    Groups the labels of the flat network of this seed; returns the folder written.

    Raises:
        MissingInput: An input file is absent or unreadable.
        BadParams: The flat network was trained on the validation images.
        BadHierarchy: The file `params.given` gives no grouping.
    """
    source = results_dir / "flat" / str(seed)
    labels = inputs.read_labels(source / "model.json")
    predictions = inputs.read_predictions(source / "validation.parquet", labels=len(labels))
    families = inputs.read_families(data_dir / "shards" / "classes.json")
    left_out: dict[str, str] = {}
    own = _given(params, labels, families, left_out)
    # On matrices of a hundred labels several threads are ten times slower than one if a training
    # runs beside them. And one thread adds in the same order on every machine.
    with threadpool_limits(1):
        groupings, reasons, filled = rules.search(predictions, params)
        stable = stability(groupings, predictions, filled, seed=seed)
        own |= _given_deep(params, own, predictions, left_out)
    groupings |= own
    groupings |= controls(groupings, seed=seed)
    left_out |= reasons
    sources = SOURCES | dict.fromkeys(SIZED, rules.MAIN)
    left_out |= {name: left_out[of] for name, of in sources.items() if of in left_out}

    confusion = confusion_of(predictions, params.confusion)
    common = {"labels": labels, "seed": seed, "params": params.model_dump(mode="json")}
    documents = {
        name: _figures(confusion, grouping, params) | common | {"stability": stable.get(name)}
        for name, grouping in groupings.items()
    }
    folder = data_dir / "clustering" / str(seed)
    document.write(folder, documents, left_out)
    for name, figures in documents.items():
        log.info(
            "clustering: %s, %d labels in %d clusters, excess %.4f, stability %s",
            name,
            len(labels),
            len(figures["clusters"]),
            figures["excess"],
            figures["stability"],
        )
    return folder


def _given(
    params: Params,
    labels: list[str],
    families: Mapping[str, str | None],
    left_out: dict[str, str],
) -> dict[str, GroupingTree]:
    """
    Returns the grouping `given`, and beside a file of the user the grouping `families`.

    Without a file `given` is the families of the data. These may be no grouping: then the reason is
    noted.
    """
    own: dict[str, GroupingTree] = {}
    name = "given"
    if params.given is not None:
        own["given"] = GroupingTree(given.read(params.given, labels))
        name = "families"
    try:
        own[name] = GroupingTree(nested(given.families(labels, families)))
    except BadHierarchy as error:
        left_out[name] = str(error)
        log.info("clustering: %s is left out. %s", name, error)
    return own


def _given_deep(
    params: Params,
    own: Mapping[str, GroupingTree],
    predictions: LabelledPredictions,
    left_out: dict[str, str],
) -> dict[str, GroupingTree]:
    """Returns the grouping `given_deep`, whose groups hold groups of `given`, or adds a reason."""
    if "given" not in own:
        left_out["given_deep"] = "There is no grouping `given` whose groups could be joined."
        return {}
    try:
        weights = affinity(confusion_of(predictions, params.confusion))
        tree = agglomerative.above(weights, own["given"].clusters)
        return {"given_deep": GroupingTree(tree)}
    except BadHierarchy as error:
        left_out["given_deep"] = str(error)
        log.info("clustering: given_deep is left out. %s", error)
        return {}


def _figures(
    confusion: Float[np.ndarray, "label label"], grouping: GroupingTree, params: Params
) -> dict[str, Any]:
    """Returns the fields of a document that describe a grouping, and its quality."""
    weights, clusters = affinity(confusion, diagonal=params.diagonal), grouping.clusters
    surplus = modularity.modularity_matrix(weights, gamma=1.0)
    return {
        "clusters": clusters,
        "tree": grouping.tree,
        "cover": grouping.cover,
        "gamma": grouping.gamma,
        "p_min": grouping.p_min,
        "sweep": grouping.sweep,
        "modularity": modularity.modularity(surplus, clusters, float(weights.sum())),
        "micp": metrics.micp(confusion, clusters),
        "micp_random": metrics.micp_random(confusion, [len(group) for group in clusters]),
        "excess": metrics.micp_excess(confusion, clusters),
        "accuracy": float(np.mean(np.diag(confusion))),
    }
