"""Agglomerative clustering: average linkage on 1 - A, until K clusters are left."""

import numpy as np
from jaxtyping import Float

from train.components.grouping.average_linkage import merges
from train.components.grouping.partition import ZERO, Partition, must_group


def groups(weights: Float[np.ndarray, "label label"], *, clusters: int) -> Partition:
    """
    Returns `clusters` groups of a symmetric weight matrix A with nothing on its diagonal.

    Labels that are never confused have distance 1 and are not merged, so that more groups than
    asked for may be left. Nothing caps the size of a group, unlike in `average_linkage`.

    Raises:
        BadHierarchy: That is one group, or all labels apart.
    """
    found: Partition = [[label] for label in range(len(weights))]
    for proximity, left in merges(weights, g_max=len(weights)):
        if proximity <= ZERO or len(found) <= clusters:
            break
        found = left
    return must_group(
        found,
        remedy=f"{clusters} were asked for: set clustering.clusters, or take more validation "
        "pictures to see confusions.",
    )
