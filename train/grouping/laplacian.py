"""
The spectral reading of community detection (Newman 2013): A v = lambda D v, split by sign.

That paper shows modularity, block models and the normalised cut to share this relaxation. A way to
propose divisions for `modularity.communities`, which tests them by dQ and recurses (methods.md 2.3).
"""

import networkx as nx
import numpy as np
from jaxtyping import Float

from train.grouping.modularity import facing, signs
from train.grouping.partition import ZERO


def propose(
    weights: Float[np.ndarray, "member member"], block: Float[np.ndarray, "member member"]
) -> Float[np.ndarray, " member"]:
    """
    Proposes the signs of the second eigenvector of the group's own weights; `block` plays no part.

    Where the group falls into parts without weight between them, the eigenvalue 1 is multiple and
    its vectors are arbitrary: the part of the first member is then one side.

    Differs:
        The paper divides in two only; here each side is divided again by its own degrees.
    """
    del block
    part = nx.node_connected_component(nx.from_numpy_array(weights > ZERO), 0)
    if len(part) < len(weights):
        return np.array([1.0 if member in part else -1.0 for member in range(len(weights))])
    return signs(second_vector(weights)) if len(weights) > 1 else np.ones(1)


def normalised(weights: Float[np.ndarray, "member member"]) -> Float[np.ndarray, "member member"]:
    """Returns D^-1/2 A D^-1/2, D the diagonal of the degrees, which must be positive."""
    roots = np.sqrt(weights.sum(axis=1))
    return np.asarray(weights / np.outer(roots, roots))


def second_vector(weights: Float[np.ndarray, "member member"]) -> Float[np.ndarray, " member"]:
    """Returns v of the second-largest lambda in A v = lambda D v, with v^T D v = 1."""
    vector = np.linalg.eigh(normalised(weights))[1][:, -2]
    return facing(vector / np.sqrt(weights.sum(axis=1)))
