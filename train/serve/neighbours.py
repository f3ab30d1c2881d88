r"""
The training samples whose predicted probabilities are most like those of an image.

Takes a trained run and the images that it was trained on. Two images are near if the run predicts
the same labels for them with like probabilities, by the Hellinger distance

$$h(p, q) = \sqrt{1 - \sum_j \sqrt{p_j q_j}},$$

0 for equal and 1 for disjoint ones (Hellinger 1909). This needs no layer of the network, so that it is
defined for every method.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from personae.sampling import rank_in_label
from train import predict
from train.data.images import ImageSet
from train.saved import Saved

MOST = 2_000  # training samples that are compared: predicting them takes seconds on a CPU
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training sample near an image."""

    row: int
    """Its index among the compared samples."""
    post_id: int
    leaf: int
    distance: float
    """From 0 to 1."""


class Neighbours:
    """At most `MOST` training samples, about as many of each label, and their probabilities."""

    def __init__(
        self,
        model: Saved,
        images: ImageSet,
        rows: Int[np.ndarray, " row"],
        *,
        most: int = MOST,
    ) -> None:
        """Predicts the samples that will be compared, some of the images at `rows`."""
        self.images = images.at(rows[_spread(images.labels[rows], most=most)])
        compared = np.arange(len(self.images))
        batches = [
            predict.probabilities(
                model, list(self.images.batch(compared[start : start + _BATCH]).numpy())
            )
            for start in range(0, len(compared), _BATCH)
        ]
        self._roots = np.sqrt(np.concatenate(batches).astype(np.float64))

    def __len__(self) -> int:
        """Counts the samples."""
        return len(self.images)

    def nearest(self, shares: Float[np.ndarray, " leaf"], *, count: int) -> list[Neighbour]:
        """Returns the `count` nearest samples, the nearest first; of equal ones the earlier first."""
        overlap = self._roots @ np.sqrt(shares.astype(np.float64))
        distances = np.sqrt(np.maximum(0.0, 1.0 - overlap))
        return [
            Neighbour(
                row,
                int(self.images.post_ids[row]),
                int(self.images.labels[row]),
                round(float(distances[row]), 6),
            )
            for row in np.argsort(distances, kind="stable")[:count].tolist()
        ]


def _spread(labels: Int[np.ndarray, " image"], *, most: int) -> Int[np.ndarray, " row"]:
    """Returns at most `most` rows: the first of every label, then the second, and so on."""
    ranks = rank_in_label(labels, np.arange(len(labels)))
    return np.sort(np.argsort(ranks, kind="stable")[:most])
