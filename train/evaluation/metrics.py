"""
Metrics of predictions: accuracy, clusters, and severity of mistakes.

`labels` and `predicted` are leaves (integers), `probabilities` has one row for each image in leaf
order, `clusters` is a partition of the leaves, and `heights` is the result of `hierarchy.heights`.
A mean over no images is NaN. docs/methods/evaluation.md has every formula.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

Clusters = Sequence[Sequence[int]]


def msr(labels: Int[np.ndarray, " image"], predicted: Int[np.ndarray, " image"]) -> float:
    """
    Returns the accuracy: the share of images whose predicted label is the true one.

    Colin and Nagarajan (2018), section 5.1.1, call it mean success rate (MSR).
    """
    return float(np.mean(labels == predicted)) if len(labels) else float("nan")


def msr_per_label(
    labels: Int[np.ndarray, " image"], predicted: Int[np.ndarray, " image"], *, leaves: int
) -> Float[np.ndarray, " label"]:
    """Returns the accuracy over the images of each label; NaN for a label without images."""
    seen = np.bincount(labels, minlength=leaves)
    right = np.bincount(labels[labels == predicted], minlength=leaves)
    return np.where(seen > 0, right / np.maximum(seen, 1), np.nan)


def msr_macro(
    labels: Int[np.ndarray, " image"], predicted: Int[np.ndarray, " image"], *, leaves: int
) -> float:
    """
    Returns the mean over labels of their accuracy; labels without images do not count.

    Example:
        Labels 0 0 0 1 and predictions 0 0 1 1 give (2/3 + 1) / 2.
    """
    rates = msr_per_label(labels, predicted, leaves=leaves)
    return float(np.nanmean(rates)) if len(labels) else float("nan")


def top_k(
    probabilities: Float[np.ndarray, "image label"], labels: Int[np.ndarray, " image"], *, k: int
) -> float:
    """Returns the share of images whose label is among the `k` most probable; ties: the lower leaf."""
    if not len(labels):
        return float("nan")
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(np.mean(np.any(best == labels[:, None], axis=1)))


def confusion_counts(
    labels: Int[np.ndarray, " image"], predicted: Int[np.ndarray, " image"], *, leaves: int
) -> Int[np.ndarray, "label label"]:
    """Returns the confusion counts C: C[i, j] images of label i are predicted as label j."""
    pairs = np.bincount(labels * leaves + predicted, minlength=leaves * leaves)
    return pairs.reshape(leaves, leaves)


def soft_confusion(
    probabilities: Float[np.ndarray, "image label"], labels: Int[np.ndarray, " image"]
) -> Float[np.ndarray, "label label"]:
    """Returns the mean predicted probabilities over the images of each label; zeros without images."""
    leaves = probabilities.shape[1]
    sums = np.zeros((leaves, leaves))
    np.add.at(sums, labels, probabilities.astype(np.float64))
    return sums / np.maximum(np.bincount(labels, minlength=leaves), 1)[:, None]


def normalise_rows(counts: Shaped[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    """Returns each row divided by its sum; a row of zeros stays zero."""
    sums = counts.sum(axis=1, keepdims=True).astype(np.float64)
    return counts / np.where(sums > 0, sums, 1.0)


def micp(confusion: Float[np.ndarray, "label label"], clusters: Clusters) -> float:
    """
    Returns the mean in-cluster probability: that a prediction is in the cluster of the true label.

    With confusion matrix M, whose rows sum to one, and N equally frequent labels it is
    1/N times the sum of M within the clusters (Colin and Nagarajan 2018, section 4.2.2).

    Differs from the paper:
        The report maximises MICP over partitions, whose maximum is always one cluster of all
        labels. Stage `clustering` maximises `micp_excess`.
    """
    inside = sum(confusion[np.ix_(list(group), list(group))].sum() for group in clusters)
    return float(inside / len(confusion))


def micp_random(confusion: Float[np.ndarray, "label label"], sizes: Sequence[int]) -> float:
    """
    Returns the expected MICP of a random partition with clusters of these `sizes`.

    For the mean diagonal a and clusters of n_c of N labels it is
    a + (1 - a) sum_c n_c (n_c - 1) / (N (N - 1)).
    """
    labels = len(confusion)
    diagonal = float(np.mean(np.diag(confusion)))
    if labels < 2:
        return diagonal
    mass = float(confusion.sum() / labels)  # 1 if every row sums to one
    pairs = sum(size * (size - 1) for size in sizes) / (labels * (labels - 1))
    return diagonal + (mass - diagonal) * pairs


def micp_excess(confusion: Float[np.ndarray, "label label"], clusters: Clusters) -> float:
    """Returns MICP minus the expected MICP of random clusters of the same sizes."""
    sizes = [len(group) for group in clusters]
    return micp(confusion, clusters) - micp_random(confusion, sizes)


def severity(
    labels: Int[np.ndarray, " image"],
    predicted: Int[np.ndarray, " image"],
    heights: Int[np.ndarray, "label label"],
) -> float:
    """
    Returns the mean height of the common ancestor over the mistakes; NaN without mistakes.

    The common ancestor is the lowest one of the true and the predicted leaf. Additional mistakes of
    low height decrease the severity, so show it together with the accuracy and `average_cost`.
    """
    wrong = labels != predicted
    return float(heights[labels[wrong], predicted[wrong]].mean()) if wrong.any() else float("nan")


def average_cost(
    labels: Int[np.ndarray, " image"],
    predicted: Int[np.ndarray, " image"],
    heights: Int[np.ndarray, "label label"],
) -> float:
    """Returns the mean height of the common ancestor over all images; a correct prediction counts 0."""
    return float(heights[labels, predicted].mean()) if len(labels) else float("nan")


def hierarchical_distance(
    probabilities: Float[np.ndarray, "image label"],
    labels: Int[np.ndarray, " image"],
    heights: Int[np.ndarray, "label label"],
    *,
    k: int,
) -> float:
    """
    Returns the mean height of the common ancestor of the true leaf and the `k` most probable leaves.

    The true leaf itself counts 0. Of equal probabilities the lower leaf comes first. With `k` = 1
    this is `average_cost` (Bertinetto et al. 2020, "Making better mistakes", section 4).
    """
    if not len(labels):
        return float("nan")
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(heights[labels[:, None], best].mean())


def node_accuracy(
    true_paths: Shaped[np.ndarray, "image level"],
    predicted_paths: Shaped[np.ndarray, "image level"],
) -> float:
    """Returns the share of correct nodes over all images and levels; the root is no level."""
    return float(np.mean(true_paths == predicted_paths))


def node_f1(
    labels: Int[np.ndarray, " image"],
    predicted: Int[np.ndarray, " image"],
    nodes: Bool[np.ndarray, "label node"],
) -> float:
    """
    Returns the mean over images of the F1 of the nodes on the true and on the predicted path.

    `nodes` is the result of `hierarchy.nodes_of_paths` for a tree that is fixed in advance.

    Example:
        For the true path B, F and the predicted path B, G precision, recall and F1 are 0.5.
    """
    if not len(labels):
        return float("nan")
    lengths = nodes.sum(axis=1)
    shared = np.sum(nodes[labels] & nodes[predicted], axis=1)
    return float(np.mean(2 * shared / (lengths[labels] + lengths[predicted])))


def path_f1(labels: Int[np.ndarray, " image"], predicted: Int[np.ndarray, " image"]) -> float:
    """
    Returns the mean over leaves of their F1 (macro F1), where each whole path is one class.

    A leaf that neither occurs nor is predicted does not count. Every leaf has one path, so that path
    F1 is the same for every tree; node F1 depends on the tree.
    """
    if not len(labels):
        return float("nan")
    leaves = int(max(labels.max(), predicted.max())) + 1
    counts = confusion_counts(labels, predicted, leaves=leaves)
    seen = counts.sum(axis=0) + counts.sum(axis=1)
    return float(np.mean(2 * np.diag(counts)[seen > 0] / seen[seen > 0]))


def consistency(
    predicted: Int[np.ndarray, " image"],
    coarse: Int[np.ndarray, " image"],
    members: Bool[np.ndarray, "cluster label"],
) -> float:
    """
    Returns the share of images whose predicted leaf is in the predicted cluster.

    Args:
        predicted: The most probable leaf.
        coarse: The most probable cluster.
        members: Result of `hierarchy.membership`; a leaf may be in several clusters.
    """
    return float(np.mean(members[coarse, predicted])) if len(predicted) else float("nan")


def oracle_routing(
    probabilities: Float[np.ndarray, "image label"],
    labels: Int[np.ndarray, " image"],
    parents: Int[np.ndarray, " label"],
) -> float:
    """
    Returns the accuracy with perfect routing: the prediction is restricted to the true cluster.

    `probabilities` are those of mode `full`, which within a cluster have the order of the
    cluster's own network.
    """
    inside = parents[None, :] == parents[labels][:, None]
    return msr(labels, np.where(inside, probabilities, -1.0).argmax(axis=1))


def adjusted_rand(first: Int[np.ndarray, " label"], second: Int[np.ndarray, " label"]) -> float:
    """
    Returns the adjusted Rand index of two partitions, each as a cluster index for every label.

    It is 1 for equal partitions (also for two trivial ones), and its expected value for random
    partitions of the same sizes is 0 (Hubert and Arabie 1985, "Comparing partitions", eq. 5).
    """
    table = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(table, (first, second), 1)
    both = _pairs(table).sum()
    rows, columns = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    total = _pairs(np.array(float(len(first))))
    expected = rows * columns / total if total else 0.0
    largest = (rows + columns) / 2
    return float((both - expected) / (largest - expected)) if largest != expected else 1.0


def _pairs(counts: np.ndarray) -> np.ndarray:
    return np.asarray(counts * (counts - 1) / 2)
