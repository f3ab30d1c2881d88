"""
HD-CNN's grouping as in its code: a Laplacian eigenmap, then affinity propagation.

Yan et al. 2015, "HD-CNN" (arXiv:1410.0736), section 4; the constants are those of the authors' code
(branch `hdcnn` of github.com/stephenyan1231/caffe-public). The input is A, the symmetric
confusions; D = 1 - A off the diagonal is the distance of two labels.
"""

import networkx as nx
import numpy as np
from jaxtyping import Float

from train.errors import BadHierarchy
from train.evaluation import metrics
from train.grouping import affinity_propagation
from train.grouping.laplacian import normalised
from train.grouping.partition import ZERO, Partition, by_owner, isolated, must_group

_SCALE, _DIMENSIONS, _DAMPING = 0.9, 4, 0.75  # t of exp(-D/t); eigenvectors 2 to 5; of messages
_DIGITS = 12  # of a weight: equal means stay equal in whichever order their terms are added


def groups(weights: Float[np.ndarray, "label label"], *, neighbours: int) -> Partition:
    """
    Returns groups of a symmetric weight matrix A with a zero diagonal.

    Affinity propagation decides the number of groups. A label without any weight is a group of its
    own.

    Args:
        weights: A.
        neighbours: Number of nearest labels that each label is joined with in the graph.

    Raises:
        BadHierarchy: There is one group, or a group for each label.
    """
    singletons, connected = isolated(weights)
    clusters: Partition = []
    if len(connected):
        points = embedding(graph(weights[np.ix_(connected, connected)], neighbours=neighbours))
        owners = affinity_propagation.clusters_of(points, damping=_DAMPING)
        clusters = by_owner(connected, owners)
    return must_group(
        sorted(singletons + clusters),
        remedy="Set clustering.neighbours, or take more validation images to see confusions.",
    )


def swept(
    weights: Float[np.ndarray, "label label"],
    confusion: Float[np.ndarray, "label label"],
    *,
    most: int,
) -> Partition:
    """
    Returns the groups of 1 to `most` neighbours with the largest excess MICP (ties: the fewest).

    Args:
        weights: A.
        confusion: Confusion matrix whose rows sum to one; it judges the groups.
        most: Largest number of neighbours.

    Raises:
        BadHierarchy: No number of neighbours gives groups.
    """
    candidates: list[Partition] = []
    for neighbours in range(1, most + 1):
        try:
            candidates.append(groups(weights, neighbours=neighbours))
        except BadHierarchy as error:
            reason = error
    if not candidates:
        raise reason
    return max(candidates, key=lambda clusters: round(metrics.micp_excess(confusion, clusters), 12))


def graph(
    weights: Float[np.ndarray, "label label"], *, neighbours: int
) -> Float[np.ndarray, "label label"]:
    """
    Returns exp(-D/0.9) for two labels if one is among the nearest of the other, else 0.

    Differs from the paper:
        A label as near as the last neighbour is a neighbour too, and a label that is never confused
        with another is no neighbour of it. So the result does not depend on the order of the labels.
    """
    nearness = np.round(weights, _DIGITS)
    count = min(neighbours, len(weights))
    least = np.sort(nearness, axis=1)[:, -count][:, None]
    near = (nearness >= least) & (nearness > ZERO)
    return np.asarray(np.where(near | near.T, np.exp(-(1 - weights) / _SCALE), 0.0))


def embedding(
    weights: Float[np.ndarray, "label label"],
) -> Float[np.ndarray, "label dimension"]:
    """
    Returns eigenvectors 2 to 5 of L v = lambda Deg v as coordinates of the labels.

    A graph with more than five connected parts gets one vector fewer than parts: the eigenvalue 0
    is then multiple, and the order of its eigenvectors is arbitrary.

    Differs from the paper:
        Fewer than 24 labels get n / 6 coordinates, because four coordinates would separate labels
        of one group.
    """
    parts = nx.number_connected_components(nx.from_numpy_array(weights > ZERO))
    degrees = weights.sum(axis=1)
    # L v = lambda Deg v is A v = (1 - lambda) Deg v. The deflation makes the trivial vector last.
    trivial = np.sqrt(degrees / degrees.sum())
    deflated = normalised(weights) - 3 * np.outer(trivial, trivial)
    usual = max(1, min(_DIMENSIONS, len(weights) // 6))
    count = min(max(usual, parts - 1), len(weights) - 1)
    vectors = np.linalg.eigh(deflated)[1][:, ::-1][:, :count]
    return np.asarray(vectors / np.sqrt(degrees)[:, None])
