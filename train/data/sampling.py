"""
Samplers of the networks in training, whose classes are labels, or clusters of labels.

Which images an epoch has, and in which order: `personae.sampling`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from personae.balance import Balance
from personae.sampling import Sampler


def by_class(
    labels: Int[np.ndarray, " image"], groups: Sequence[Sequence[int]], *, balance: Balance
) -> Sampler:
    """Returns the sampler over `groups` of leaves, one output for each group."""
    return Sampler(
        classes=[[np.flatnonzero(labels == leaf) for leaf in group] for group in groups],
        balance=balance,
    )


def by_label(
    labels: Int[np.ndarray, " image"], leaves: Sequence[int], *, balance: Balance
) -> Sampler:
    """Returns the sampler over `leaves`, one output for each leaf."""
    return by_class(labels, [[leaf] for leaf in leaves], balance=balance)
