"""
What a set of predictions is worth: success, calibration, clusters, severity (methods.md 7.1).

Arrays in, numbers out. `labels` and `predicted` are leaves, `probabilities` one row per image in
leaf order, `clusters` a partition of the leaves, `heights` those of `hierarchy.heights`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

Clusters = Sequence[Sequence[int]]
_SMALLEST = 1e-12  # below it a probability counts as this, so that NLL stays finite


def msr(labels: Int[np.ndarray, " image"], predicted: Int[np.ndarray, " image"]) -> float:
    """Returns the share of images whose label was found (micro mean success rate); NaN of none."""
    return float(np.mean(labels == predicted)) if len(labels) else float("nan")


def msr_per_label(
    labels: Int[np.ndarray, " image"], predicted: Int[np.ndarray, " image"], *, leaves: int
) -> Float[np.ndarray, " label"]:
    """Returns each label's success rate; NaN for a label without images."""
    seen = np.bincount(labels, minlength=leaves)
    right = np.bincount(labels[labels == predicted], minlength=leaves)
    return np.where(seen > 0, right / np.maximum(seen, 1), np.nan)


def msr_macro(
    labels: Int[np.ndarray, " image"], predicted: Int[np.ndarray, " image"], *, leaves: int
) -> float:
    """
    Returns the mean over labels of their success rates; labels without images do not count.

    Example:
        Labels 0 0 0 1 and predictions 0 0 1 1 give (2/3 + 1) / 2.
    """
    rates = msr_per_label(labels, predicted, leaves=leaves)
    return float(np.nanmean(rates)) if len(labels) else float("nan")


def top_k(
    probabilities: Float[np.ndarray, "image label"], labels: Int[np.ndarray, " image"], *, k: int
) -> float:
    """Returns the share of images whose label is among the `k` likeliest; ties to lower leaves."""
    if not len(labels):
        return float("nan")
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(np.mean(np.any(best == labels[:, None], axis=1)))


def nll(
    probabilities: Float[np.ndarray, "image label"], labels: Int[np.ndarray, " image"]
) -> float:
    """
    Returns the mean negative log-likelihood of the true labels, in nats.

    A routed prediction gives most labels zero; below 1e-12 a probability counts as 1e-12.
    """
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(np.mean(-np.log(np.maximum(chosen, _SMALLEST)))) if len(labels) else float("nan")


def brier(
    probabilities: Float[np.ndarray, "image label"], labels: Int[np.ndarray, " image"]
) -> float:
    """Returns the mean squared distance between probabilities and the one-hot truth, in 0..2."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(np.mean(np.sum((probabilities - truth) ** 2, axis=1)))


def ece(
    confidences: Float[np.ndarray, " image"], correct: Bool[np.ndarray, " image"], *, bins: int = 15
) -> float:
    r"""
    Returns the expected calibration error over equal, right-closed bins.

    $$\sum_b \frac{n_b}{n} \left| acc_b - conf_b \right|$$

    Example:
        Five bins, confidences .95 .9 .85 .6 .55 .3, correct 1 1 0 1 0 0 give 0.191667.
    """
    if not len(confidences):
        return float("nan")
    # 1e-9: a confidence on a bin's edge, up to rounding, belongs to the bin below it.
    place = np.clip(np.ceil(confidences * bins - 1e-9).astype(int) - 1, 0, bins - 1)
    hits = np.bincount(place, weights=correct.astype(np.float64), minlength=bins)
    trust = np.bincount(place, weights=confidences.astype(np.float64), minlength=bins)
    return float(np.abs(hits - trust).sum() / len(confidences))


def confusion_counts(
    labels: Int[np.ndarray, " image"], predicted: Int[np.ndarray, " image"], *, leaves: int
) -> Int[np.ndarray, "label label"]:
    """Returns C of methods.md 0.1: how many images of label i were called j."""
    pairs = np.bincount(labels * leaves + predicted, minlength=leaves * leaves)
    return pairs.reshape(leaves, leaves)


def soft_confusion(
    probabilities: Float[np.ndarray, "image label"], labels: Int[np.ndarray, " image"]
) -> Float[np.ndarray, "label label"]:
    """Returns the mean predicted probabilities of each label's images; zero rows where none."""
    leaves = probabilities.shape[1]
    sums = np.zeros((leaves, leaves))
    np.add.at(sums, labels, probabilities.astype(np.float64))
    return sums / np.maximum(np.bincount(labels, minlength=leaves), 1)[:, None]


def normalise_rows(counts: Shaped[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    """Returns M of methods.md 0.1: rows divided by their sums; a row of zeros stays."""
    sums = counts.sum(axis=1, keepdims=True).astype(np.float64)
    return counts / np.where(sums > 0, sums, 1.0)


def micp(confusion: Float[np.ndarray, "label label"], clusters: Clusters) -> float:
    """
    Returns the probability of landing in the right cluster (methods.md 2.2).

    `confusion` has rows that sum to one; labels count as equally frequent.

    Differs:
        The report maximises it over partitions, which one cluster of everything always wins;
        `micp_excess` is what `clustering` maximises.
    """
    inside = sum(confusion[np.ix_(list(group), list(group))].sum() for group in clusters)
    return float(inside / len(confusion))


def micp_random(confusion: Float[np.ndarray, "label label"], sizes: Sequence[int]) -> float:
    """
    Returns the expected MICP of a random partition with clusters of these `sizes`, exactly.

    With a the mean diagonal: a + (1 - a) sum_c n_c (n_c - 1) / (N (N - 1)) (methods.md 2.2).
    """
    labels = len(confusion)
    diagonal = float(np.mean(np.diag(confusion)))
    if labels < 2:
        return diagonal
    mass = float(confusion.sum() / labels)  # 1 when every row sums to one
    pairs = sum(size * (size - 1) for size in sizes) / (labels * (labels - 1))
    return diagonal + (mass - diagonal) * pairs


def micp_excess(confusion: Float[np.ndarray, "label label"], clusters: Clusters) -> float:
    """Returns how far MICP lies above that of random clusters of the same sizes."""
    sizes = [len(group) for group in clusters]
    return micp(confusion, clusters) - micp_random(confusion, sizes)


def coarse_accuracy(
    labels: Int[np.ndarray, " image"],
    predicted: Int[np.ndarray, " image"],
    parents: Int[np.ndarray, " label"],
) -> float:
    """Returns the share of images whose predicted leaf lies in the true leaf's cluster."""
    return msr(parents[labels], parents[predicted])


def severity(
    labels: Int[np.ndarray, " image"],
    predicted: Int[np.ndarray, " image"],
    heights: Int[np.ndarray, "label label"],
) -> float:
    """
    Returns the mean height of the common ancestor over the wrong images; NaN if all are right.

    It can fall by adding easy mistakes: print it with MSR and `average_cost`.
    """
    wrong = labels != predicted
    return float(heights[labels[wrong], predicted[wrong]].mean()) if wrong.any() else float("nan")


def average_cost(
    labels: Int[np.ndarray, " image"],
    predicted: Int[np.ndarray, " image"],
    heights: Int[np.ndarray, "label label"],
) -> float:
    """Returns the mean height of the common ancestor over all images; right ones count 0."""
    return float(heights[labels, predicted].mean()) if len(labels) else float("nan")


def distance_at_k(
    probabilities: Float[np.ndarray, "image label"],
    labels: Int[np.ndarray, " image"],
    heights: Int[np.ndarray, "label label"],
    *,
    k: int,
) -> float:
    """Returns the mean ancestor height of the `k` likeliest labels, over all images."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(heights[labels[:, None], best].mean())


def node_accuracy(
    true_paths: Shaped[np.ndarray, "image level"],
    predicted_paths: Shaped[np.ndarray, "image level"],
) -> float:
    """Returns the mean over levels of the share of right nodes; the root is no level."""
    return float(np.mean(true_paths == predicted_paths))


def path_accuracy(
    true_paths: Shaped[np.ndarray, "image level"],
    predicted_paths: Shaped[np.ndarray, "image level"],
) -> float:
    """Returns the share of images with every node of the path right."""
    return float(np.mean(np.all(true_paths == predicted_paths, axis=1)))


def node_f1(
    labels: Int[np.ndarray, " image"],
    predicted: Int[np.ndarray, " image"],
    nodes: Bool[np.ndarray, "label node"],
) -> float:
    """
    Returns the mean over images of F1 between the nodes of the true and of the predicted path.

    `nodes` are those of `hierarchy.nodes_of_paths`, of a tree fixed in advance.

    Example:
        Truth B, F against B, G: precision, recall and F1 are 0.5.
    """
    if not len(labels):
        return float("nan")
    lengths = nodes.sum(axis=1)
    shared = np.sum(nodes[labels] & nodes[predicted], axis=1)
    return float(np.mean(2 * shared / (lengths[labels] + lengths[predicted])))


def path_f1(labels: Int[np.ndarray, " image"], predicted: Int[np.ndarray, " image"]) -> float:
    """
    Returns the macro mean of F1 over whole paths, one class a leaf.

    Classes that neither occur nor were predicted do not count. As a leaf has one path, no tree is
    needed: node F1 tells trees apart.
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
    Returns the share of images whose predicted leaf lies in the cluster said to be likeliest.

    `members` are those of `hierarchy.membership`: where clusters overlap, either will do.
    """
    return float(np.mean(members[coarse, predicted])) if len(predicted) else float("nan")


def oracle_routing(
    probabilities: Float[np.ndarray, "image label"],
    labels: Int[np.ndarray, " image"],
    parents: Int[np.ndarray, " label"],
) -> float:
    """
    Returns the success rate when the true cluster is given.

    `probabilities` are those of mode `full`: inside a cluster they order the labels as the
    cluster's own network does.
    """
    inside = parents[None, :] == parents[labels][:, None]
    return msr(labels, np.where(inside, probabilities, -1.0).argmax(axis=1))


def adjusted_rand(first: Int[np.ndarray, " label"], second: Int[np.ndarray, " label"]) -> float:
    """
    Returns the adjusted Rand index of two partitions given as cluster indices (Hubert, Arabie 1985).

    One for equal partitions, about zero for unrelated ones; two trivial equal ones count as one.
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
