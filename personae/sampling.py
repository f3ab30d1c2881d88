"""
Selects the images of an epoch: all of them, or the same number for each class; and their order.

A class is an output of the network in training: a label, or a cluster of labels. The order of an
epoch is a pure function of the random generators, which depend on seed, network and epoch alone.
See docs/methods/training.md.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from personae.balance import Balance

Rows = npt.NDArray[np.int64]
"""Indices of images, `[position]`."""


def rank_in_label(labels: Rows, order: Rows) -> Rows:
    """
    Returns the position of each image among those of its label, from 0.

    Args:
        labels: The label of each image.
        order: Every image once, in the order that counts.
    """
    grouped = order[np.argsort(labels[order], kind="stable")]
    ordered = labels[grouped]
    first = np.searchsorted(ordered, ordered)  # where the label of each ordered image begins
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[grouped] = np.arange(len(labels)) - first
    return ranks


@dataclass(frozen=True, slots=True)
class Sampler:
    """Draws the rows of an epoch for one network."""

    classes: Sequence[Sequence[Rows]]
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

    def weights(self) -> npt.NDArray[np.float64] | None:
        """Returns w_k = n / (K n_k) for each output for balance `weights`, else None."""
        if self.balance != "weights":
            return None
        sizes = np.array([sum(map(len, labels)) for labels in self.classes])
        return np.asarray(sizes.sum() / (len(sizes) * sizes), dtype=np.float64)

    def draw(self, *, fixed: np.random.Generator, epoch: np.random.Generator) -> Rows:
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


def generator(*parts: int | str) -> np.random.Generator:
    """Returns a random generator that depends on `parts` alone, such as seed and epoch."""
    return np.random.default_rng(list(digest(*parts)))


def digest(*parts: int | str) -> bytes:
    """Returns the hash of `parts`, 32 bytes."""
    return hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()


def epoch_rows(
    sampler: Sampler, *, seed: int, network: str, epoch: int
) -> tuple[Rows, np.random.Generator]:
    """
    Returns the rows of one epoch in their order, and the generator for what follows in the epoch.

    Args:
        sampler: Draws the rows.
        seed: Seed of the training.
        network: Name of the network in training; `root` for a flat network.
        epoch: Number of the epoch, from 0.
    """
    rng = generator(seed, network, "epoch", epoch)
    return sampler.draw(fixed=generator(seed, network, "fixed"), epoch=rng), rng
