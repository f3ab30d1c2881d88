"""
HD-CNN's grouping as its code has it: Laplacian eigenmap, affinity propagation (methods.md 6.3).

In comes A, the symmetric confusions, so that D = 1 - A off its diagonal is the distance of labels.
"""

import networkx as nx
import numpy as np
from jaxtyping import Float

from train.grouping import affinity_propagation
from train.grouping.laplacian import normalised
from train.grouping.partition import ZERO, Partition, by_owner, isolated, must_group

_SCALE, _DIMENSIONS, _DAMPING = 0.9, 4, 0.75  # of exp(-D/t); eigenvectors 2 to 5; of the messages
_DIGITS = 12  # of a weight: equal means stay equal, whatever the order of their sums


def groups(weights: Float[np.ndarray, "label label"], *, neighbours: int) -> Partition:
    """
    Returns groups of a symmetric weight matrix A with nothing on its diagonal; how many, it says.

    Labels without any weight stand alone.

    Raises:
        BadHierarchy: That is one group, or all labels apart.
    """
    alone, connected = isolated(weights)
    found: Partition = []
    if len(connected):
        points = embedding(graph(weights[np.ix_(connected, connected)], neighbours=neighbours))
        owners = affinity_propagation.clusters_of(points, damping=_DAMPING)
        found = by_owner(connected, owners)
    return must_group(
        sorted(alone + found),
        remedy="Set clustering.neighbours, or take more validation images to see confusions.",
    )


def graph(
    weights: Float[np.ndarray, "label label"], *, neighbours: int
) -> Float[np.ndarray, "label label"]:
    """
    Returns exp(-D/0.9) between labels of which one is among the other's nearest, else nothing.

    Differs:
        Labels as near as the last neighbour are neighbours too, and labels that are never confused
        are none, so that the order of the labels decides nothing.
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
    Returns eigenvectors 2 to 5 of L v = lambda Deg v as the labels' coordinates.

    Where the graph has more than five parts there are as many vectors as tell them apart: which of
    equal eigenvalues come first would be chance.

    Differs:
        Fewer than 24 labels have a sixth of their number of coordinates, where four would tell
        apart what belongs together.
    """
    parts = nx.number_connected_components(nx.from_numpy_array(weights > ZERO))
    degrees = weights.sum(axis=1)
    # L v = lambda Deg v is A v = (1 - lambda) Deg v; the trivial vector, which is known, goes last.
    trivial = np.sqrt(degrees / degrees.sum())
    deflated = normalised(weights) - 3 * np.outer(trivial, trivial)
    usual = max(1, min(_DIMENSIONS, len(weights) // 6))
    wanted = min(max(usual, parts - 1), len(weights) - 1)
    vectors = np.linalg.eigh(deflated)[1][:, ::-1][:, :wanted]
    return np.asarray(vectors / np.sqrt(degrees)[:, None])
