"""Confusion matrices: the worked example M6, planted blocks, random matrices."""

import numpy as np

M6 = np.array(
    [
        [0.70, 0.15, 0.10, 0.03, 0.01, 0.01],
        [0.20, 0.60, 0.12, 0.04, 0.02, 0.02],
        [0.10, 0.15, 0.65, 0.05, 0.03, 0.02],
        [0.02, 0.03, 0.03, 0.72, 0.18, 0.02],
        [0.01, 0.02, 0.02, 0.25, 0.68, 0.02],
        [0.01, 0.01, 0.01, 0.02, 0.01, 0.94],
    ]
)


def blocks(sizes, *, inside=0.3):
    """Returns a confusion matrix: uniform blocks on the diagonal and no confusion elsewhere."""
    matrix = np.zeros((sum(sizes), sum(sizes)))
    start = 0
    for size in sizes:
        matrix[start : start + size, start : start + size] = inside / max(size - 1, 1)
        start += size
    np.fill_diagonal(matrix, 0)
    np.fill_diagonal(matrix, 1 - matrix.sum(axis=1))
    return matrix


def families(parents, *, between=0.002, seed=0):
    """Returns a confusion matrix: labels with one parent are often confused, others seldom."""
    rng = np.random.default_rng(seed)
    near = parents[None, :] == parents[:, None]
    matrix = np.where(near, 0.05, between) * rng.uniform(0.7, 1.3, size=near.shape)
    np.fill_diagonal(matrix, 0)
    np.fill_diagonal(matrix, 1 - matrix.sum(axis=1))
    return matrix


def dense(labels, seed):
    """Returns a random confusion matrix: each row is drawn from the simplex."""
    return np.random.default_rng(seed).dirichlet(np.full(labels, 0.5), size=labels)
