"""Control of what clusterings recover: the same network's mistakes, on other pairs of labels."""

import numpy as np

from train.evaluation.metrics import normalise_rows


def moved(confusion: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns the confusion with its off-diagonal entries drawn anew, rows summing to one."""
    mistakes = ~np.eye(len(confusion), dtype=bool)
    other = confusion.copy()
    other[mistakes] = generator.permutation(confusion[mistakes])
    return normalise_rows(other)
