r"""
Confident learning: samples whose label a network, not trained on them, doubts with good reason.

With $p_j(x)$ the probability of label $j$ and $X_j$ the samples labelled $j$, the threshold of a label
is the mean probability that its own samples give it: $t_j = \frac{1}{|X_j|} \sum_{x \in X_j} p_j(x)$.
Of the labels with $p_j(x) \ge t_j$, the one with the largest probability is the confident label. A
sample is suspect if it has another confident label than its own, and the network predicts another
label than its own.

Source: Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels,
2021, https://arxiv.org/abs/1911.00068, section 3.1, equations 1 and 2. The condition on the
prediction is that of the authors' program (cleanlab, `find_label_issues`).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from personae.sampling import rank_in_label

_TOLERANCE = (
    1e-6  # of the comparisons, as in cleanlab: a mean of equal numbers may differ from them
)


@dataclass(frozen=True, slots=True)
class LabelDoubts:
    """How far out-of-sample predictions contradict the labels of samples."""

    thresholds: Float[np.ndarray, " leaf"]
    """Mean self-confidence of each label's samples; infinite for a label without samples."""
    predicted: Int[np.ndarray, " image"]
    """Label with the largest probability; of equal ones the lower leaf."""
    self_confidence: Float[np.ndarray, " image"]
    """Probability of the sample's own label."""
    margin: Float[np.ndarray, " image"]
    """Largest probability of another label minus that of the own label, -1..1."""
    is_suspect: Bool[np.ndarray, " image"]
    rank: Int[np.ndarray, " image"]
    """Position among the samples of the label from 0: least self-confidence first, then in their order."""


def doubts(
    probabilities: Float[np.ndarray, "image leaf"], labels: Int[np.ndarray, " image"]
) -> LabelDoubts:
    """
    Returns how far the probabilities contradict the labels.

    Args:
        probabilities: Of at least two labels, by a network that was not trained on the image.
        labels: Leaf of each image.

    Example:
        Samples of label 0 with (0.9, 0.1) and (0.2, 0.8), and one of label 1 with (0.3, 0.7): the
        thresholds are 0.55 and 0.7. The second sample reaches that of label 1 alone: it is suspect,
        with margin 0.6.
    """
    exact = probabilities.astype(np.float64)
    images, leaves = np.arange(len(labels)), exact.shape[1]
    own = exact[images, labels]
    counts = np.bincount(labels, minlength=leaves)
    sums = np.bincount(labels, weights=own, minlength=leaves)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    confident = np.where(exact >= thresholds - _TOLERANCE, exact, -1.0)
    chosen = confident.argmax(axis=1)
    has_other = (confident[images, chosen] >= 0) & (chosen != labels)
    predicted = exact.argmax(axis=1)
    exact[images, labels] = -1.0
    margin = exact.max(axis=1) - own
    return LabelDoubts(
        thresholds=thresholds,
        predicted=predicted,
        self_confidence=own,
        margin=margin,
        is_suspect=has_other & (margin > _TOLERANCE),
        rank=rank_in_label(labels, np.argsort(own, kind="stable")),
    )
