"""Predictions for labelled images, and the confusion matrix that groupings start from."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from train.evaluation import metrics


@dataclass(frozen=True, slots=True)
class LabelledPredictions:
    """Predictions of the flat network for validation images, with the images' labels."""

    labels: Int[np.ndarray, " image"]
    """Leaf of the true label."""
    predicted: Int[np.ndarray, " image"]
    """Leaf of the most probable label."""
    probabilities: Float[np.ndarray, "image label"]
    """Each row sums to one."""

    def drawn(self, rows: Int[np.ndarray, " drawn"]) -> "LabelledPredictions":
        """Returns the predictions at the given row indices, which may repeat."""
        return LabelledPredictions(
            self.labels[rows], self.predicted[rows], self.probabilities[rows]
        )


def confusion_of(
    predictions: LabelledPredictions, kind: Literal["counts", "soft"]
) -> Float[np.ndarray, "label label"]:
    """
    Returns the confusion matrix M, whose row i is the distribution of predictions for label i.

    Rows sum to one; the row of a label without images is zero.

    Args:
        predictions: Predictions for labelled images.
        kind: `counts` counts predicted labels (Colin and Nagarajan 2018, section 4.2.2); `soft`
            averages the predicted probabilities (Tempfli and Sándor, "HierNet", section 4).
    """
    if kind == "soft":
        soft = metrics.soft_confusion(predictions.probabilities, predictions.labels)
        return metrics.normalise_rows(soft)
    leaves = predictions.probabilities.shape[1]
    counts = metrics.confusion_counts(predictions.labels, predictions.predicted, leaves=leaves)
    return metrics.normalise_rows(counts)
