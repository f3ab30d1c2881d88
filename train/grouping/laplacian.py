"""
Divides a group by the second eigenvector of A v = lambda D v.

Newman 2013, "Spectral methods for community detection and graph partitioning" (Physical Review E 88,
042822), shows that modularity, block models and the normalised cut share this relaxation. The
division is a `Propose` of `modularity.communities`, which accepts it by its gain and recurses.
"""

import networkx as nx
import numpy as np
from jaxtyping import Float

from train.grouping.modularity import Group, facing, signs
from train.grouping.partition import ZERO


def propose(group: Group) -> Float[np.ndarray, " member"]:
    """
    Returns the signs of the second eigenvector of the group's own weights.

    If the group has parts without weight between them, the eigenvalue 1 is multiple and its
    eigenvectors are arbitrary. Then the part of the first member gets the sign 1, and all other
    members -1.

    Differs from the paper:
        The paper divides into two groups only; here each part is divided again by its own degrees.
    """
    members = len(group.weights)
    part = nx.node_connected_component(nx.from_numpy_array(group.weights > ZERO), 0)
    if len(part) < members:
        return np.array([1.0 if member in part else -1.0 for member in range(members)])
    return signs(second_vector(group.weights)) if members > 1 else np.ones(1)


def normalised(weights: Float[np.ndarray, "member member"]) -> Float[np.ndarray, "member member"]:
    """Returns D^-1/2 A D^-1/2, where D is the diagonal of the degrees; all must be positive."""
    roots = np.sqrt(weights.sum(axis=1))
    return np.asarray(weights / np.outer(roots, roots))


def second_vector(weights: Float[np.ndarray, "member member"]) -> Float[np.ndarray, " member"]:
    """Returns the eigenvector v of the second-largest lambda of A v = lambda D v; v^T D v = 1."""
    vector = np.linalg.eigh(normalised(weights))[1][:, -2]
    return facing(vector / np.sqrt(weights.sum(axis=1)))
