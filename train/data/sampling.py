"""
Which images an epoch shows: everything, or the same number for each class (methods.md 2.5).

A class is an output of the network in training: a label, or a cluster of labels. The order of an
epoch is a pure function of the random generator, which is one of seed, network and epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Balance = Literal["resample", "fixed", "weights", "none"]


@dataclass(frozen=True, slots=True)
class Sampler:
    """Draws the rows of an epoch for one network."""

    classes: Sequence[Sequence[Int[np.ndarray, " row"]]]
    """For each output, the rows of each of its labels."""
    balance: Balance

    @property
    def pictures(self) -> int:
        """Images that may be drawn."""
        return sum(len(rows) for labels in self.classes for rows in labels)

    @property
    def epoch_pictures(self) -> int:
        """Images in one epoch."""
        if self.balance in ("weights", "none"):
            return self.pictures
        return len(self.classes) * self._smallest()

    def weights(self) -> Float[np.ndarray, " output"] | None:
        """Returns w_k = n / (K n_k) for balance `weights`, else None."""
        if self.balance != "weights":
            return None
        sizes = np.array([sum(map(len, labels)) for labels in self.classes])
        return np.asarray(sizes.sum() / (len(sizes) * sizes), dtype=np.float64)

    def draw(
        self, *, fixed: np.random.Generator, epoch: np.random.Generator
    ) -> Int[np.ndarray, " picture"]:
        """
        Returns the rows of one epoch in their order.

        `epoch` shuffles; it also draws the images of mode `resample`, while mode `fixed` draws
        them from `fixed`, which must be the same for all epochs.
        """
        if self.balance in ("weights", "none"):
            rows = np.concatenate([rows for labels in self.classes for rows in labels])
            return epoch.permutation(np.sort(rows))
        rng = fixed if self.balance == "fixed" else epoch
        wanted = self._smallest()
        chosen = []
        for labels in self.classes:
            order = rng.permutation(len(labels))
            shares = quotas([len(labels[place]) for place in order], wanted)
            for place, share in zip(order, shares, strict=True):
                chosen.append(rng.permutation(labels[place])[:share])
        return epoch.permutation(np.concatenate(chosen))

    def _smallest(self) -> int:
        return min(sum(map(len, labels)) for labels in self.classes)


def quotas(available: Sequence[int], wanted: int) -> list[int]:
    """
    Divides `wanted` images equally among labels that have so many; the remainder goes first.

    A label with fewer than its share gives all it has, and the others make up for it.

    Example:
        100 among three labels of 100: 34, 33, 33. 100 among 10, 200, 200: 10, 45, 45.
    """
    shares = [0] * len(available)
    left = wanted
    while left > 0:
        open_places = [place for place, share in enumerate(shares) if share < available[place]]
        for rank, place in enumerate(open_places):
            fair = left // len(open_places) + (rank < left % len(open_places))
            shares[place] += min(fair, available[place] - shares[place])
        left = wanted - sum(shares)
    return shares


def by_class(
    labels: Int[np.ndarray, " picture"], groups: Sequence[Sequence[int]], *, balance: Balance
) -> Sampler:
    """Returns the sampler over `groups` of leaves, one group an output."""
    return Sampler(
        classes=[[np.flatnonzero(labels == leaf) for leaf in group] for group in groups],
        balance=balance,
    )
