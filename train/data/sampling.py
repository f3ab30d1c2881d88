"""
Selects the images of an epoch: all of them, or the same number for each class.

A class is an output of the network in training: a label, or a cluster of labels. The order of an
epoch is a pure function of the random generators, which depend on seed, network and epoch alone.
See docs/methods/training.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from train.params.balance import Balance


@dataclass(frozen=True, slots=True)
class Sampler:
    """Draws the rows of an epoch for one network."""

    classes: Sequence[Sequence[Int[np.ndarray, " _"]]]
    """For each output, the rows of each of its labels."""
    balance: Balance

    @property
    def images(self) -> int:
        """Number of images that may be drawn."""
        return sum(len(rows) for labels in self.classes for rows in labels)

    @property
    def epoch_images(self) -> int:
        """Number of images in one epoch."""
        if self.balance in ("weights", "none"):
            return self.images
        return len(self.classes) * self._smallest()

    def weights(self) -> Float[np.ndarray, " output"] | None:
        """Returns w_k = n / (K n_k) for balance `weights`, else None."""
        if self.balance != "weights":
            return None
        sizes = np.array([sum(map(len, labels)) for labels in self.classes])
        return np.asarray(sizes.sum() / (len(sizes) * sizes), dtype=np.float64)

    def draw(
        self, *, fixed: np.random.Generator, epoch: np.random.Generator
    ) -> Int[np.ndarray, " position"]:
        """
        Returns the rows of one epoch in their order.

        Args:
            fixed: Draws the images of balance `fixed`; it must be the same for all epochs.
            epoch: Shuffles, and draws the images of balance `resample`.
        """
        if self.balance in ("weights", "none"):
            rows = np.concatenate([rows for labels in self.classes for rows in labels])
            return epoch.permutation(np.sort(rows))
        rng = fixed if self.balance == "fixed" else epoch
        per_class = self._smallest()
        chosen = []
        for labels in self.classes:
            order = rng.permutation(len(labels))
            shares = quotas([len(labels[index]) for index in order], per_class)
            for index, share in zip(order, shares, strict=True):
                chosen.append(rng.permutation(labels[index])[:share])
        return epoch.permutation(np.concatenate(chosen))

    def _smallest(self) -> int:
        return min(sum(map(len, labels)) for labels in self.classes)


def quotas(available: Sequence[int], total: int) -> list[int]:
    """
    Divides `total` images equally among labels with `available` images each.

    A label with fewer images than its share gives all of them, and the other labels share the
    rest. A remainder goes to the first labels.

    Example:
        100 among three labels of 100: 34, 33, 33. 100 among 10, 200, 200: 10, 45, 45.
    """
    shares = [0] * len(available)
    left = total
    while left > 0:
        unfilled = [index for index, share in enumerate(shares) if share < available[index]]
        for rank, index in enumerate(unfilled):
            fair = left // len(unfilled) + (rank < left % len(unfilled))
            shares[index] += min(fair, available[index] - shares[index])
        left = total - sum(shares)
    return shares


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
