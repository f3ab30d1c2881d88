"""
Comparison of the pixels of two images, whatever their colours, mirrored or moved.

Strokes are compared, not colours: a drawing of another hue has the same edges. The mean absolute
difference would not do: two different thin drawings on white agree in nearly all of their pixels.
"""

import math

import cv2
import numpy as np
import numpy.typing as npt

from curation.image import Pixels

Mask = npt.NDArray[np.bool_]

_LEAST_SHARED = 64  # pixels: fewer decide nothing


def difference(first: Pixels, second: Pixels, shared: Mask | None = None) -> float:
    """
    Returns how different the strokes of two images `[height, width, 3]` are, 0..2.

    This is one minus the correlation of all pixels and channels, or of the edges of both, whichever
    is smaller. The length of an edge is the root of the squared differences of its neighbours over
    all channels, which a turn of the hue keeps.

    Args:
        first: Pixels.
        second: Pixels of the same shape.
        shared: Pixels to compare, `[height, width]`; None for all.
    """
    inside = np.ones(first.shape[:2], np.bool_) if shared is None else shared
    colours = _uncorrelated(first[inside], second[inside])
    # An edge needs both of its neighbours.
    whole = np.zeros_like(inside)
    whole[1:-1, 1:-1] = inside[1:-1, 2:] & inside[1:-1, :-2] & inside[2:, 1:-1] & inside[:-2, 1:-1]
    edges = [_edges(pixels)[whole] for pixels in (first, second)]
    if not all(lengths.any() for lengths in edges):
        return colours
    return min(colours, _uncorrelated(*edges))


def moved_difference(
    first: Pixels, second: Pixels, matrix: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """
    Returns the difference where two images overlap, and the smaller share that the overlap has.

    Args:
        first: Pixels `[height, width, 3]`.
        second: Pixels of another shape.
        matrix: Maps positions of `second` to positions of `first`, `[2, 3]`.
    """
    size = (first.shape[1], first.shape[0])
    moved = cv2.warpAffine(second, matrix, size, flags=cv2.INTER_LINEAR)
    ones = np.ones(second.shape[:2], np.float32)
    shared = cv2.warpAffine(ones, matrix, size, flags=cv2.INTER_LINEAR) > 0.99
    area = float(np.count_nonzero(shared))
    if area < _LEAST_SHARED:
        return 2.0, 0.0
    scale = abs(float(np.linalg.det(matrix[:, :2])))
    share = min(area / shared.size, area / max(scale * ones.size, 1e-9), 1.0)
    return difference(first, np.asarray(moved, np.uint8), shared), share


def _edges(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Returns the lengths of the edges, `[height, width]`; 0 at the border."""
    values = pixels.astype(np.float64)
    lengths = np.zeros(pixels.shape[:2])
    right = values[1:-1, 2:] - values[1:-1, :-2]
    down = values[2:, 1:-1] - values[:-2, 1:-1]
    lengths[1:-1, 1:-1] = np.sqrt((right**2).sum(axis=2) + (down**2).sum(axis=2))
    return lengths


def _uncorrelated(first: npt.NDArray[np.generic], second: npt.NDArray[np.generic]) -> float:
    """
    Returns one minus the correlation of two arrays, 0..2; 1 if one of them is constant.

    The products are summed by numpy, whose order of additions is the same on every processor. That of
    BLAS is not, and a difference in the last digit gives other bytes.
    """
    left, right = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    if not len(left):
        return 1.0
    left, right = left - left.mean(), right - right.mean()
    spread = math.sqrt(float((left * left).sum()) * float((right * right).sum()))
    if spread == 0:
        return 0.0 if np.array_equal(first, second) else 1.0
    return max(0.0, 1.0 - float((left * right).sum()) / spread)
