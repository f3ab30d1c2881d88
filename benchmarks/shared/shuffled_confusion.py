"""Control for clusterings: the mistakes of the same network on other pairs of labels."""

import numpy as np

from train.evaluation.metrics import normalise_rows


def shuffled_confusion(confusion: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns a confusion matrix with permuted off-diagonal entries; rows are normalised again."""
    mistakes = ~np.eye(len(confusion), dtype=bool)
    shuffled = confusion.copy()
    shuffled[mistakes] = generator.permutation(confusion[mistakes])
    return normalise_rows(shuffled)
