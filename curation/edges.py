"""
Histograms of edge directions: a descriptor of an image that no rule for duplicates uses.

Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005, with directions
of 0 to 180 degrees, so that a drawing of another hue has nearly the same histogram.
"""

import numpy as np
import numpy.typing as npt

from curation.image import Pixels

SIDE = 32  # of the pixels that are described
_CELLS = 8  # of 4 × 4 pixels, in each row and column
_DIRECTIONS = 8

_STEP = 2.0**-20  # between two values of a descriptor

Descriptors = npt.NDArray[np.float64]


def described(images: npt.NDArray[np.uint8]) -> Descriptors:
    """
    Returns descriptors of length 1, `[n, 512]`, of images `[n, 32, 32, 3]`.

    The difference of two images is one minus the product of their descriptors, 0..2. An image
    without edges has the descriptor 0, which is far from every other. Values are multiples of 2 ** -20,
    so that 64-bit arithmetic is exact in any order: every processor finds the same difference.
    """
    values = images.astype(np.float32)
    right, down = np.zeros_like(values), np.zeros_like(values)
    right[:, :, 1:-1] = values[:, :, 2:] - values[:, :, :-2]
    down[:, 1:-1] = values[:, 2:] - values[:, :-2]
    channel = (right**2 + down**2).argmax(axis=3)[..., None]
    x, y = (np.take_along_axis(part, channel, axis=3)[..., 0] for part in (right, down))
    length = np.sqrt(x**2 + y**2)
    # Processors differ in the last bit of an arc tangent, which 64 bits put far below a step.
    angle = (np.arctan2(y, x, dtype=np.float64) % np.pi) / np.pi * _DIRECTIONS
    low = np.floor(angle).astype(np.int64)
    share = angle - low
    cell = np.arange(SIDE) // (SIDE // _CELLS)
    image = np.arange(len(images))[:, None, None] * _CELLS**2
    place = (image + cell[:, None] * _CELLS + cell[None, :]) * _DIRECTIONS
    histograms = np.zeros(len(images) * _CELLS**2 * _DIRECTIONS)
    for direction, weight in ((low, length * (1 - share)), (low + 1, length * share)):
        codes = (place + direction % _DIRECTIONS).reshape(-1)
        histograms += np.bincount(codes, weight.reshape(-1), len(histograms))
    roots = np.sqrt(histograms).reshape(len(images), _CELLS**2 * _DIRECTIONS)
    roots -= roots.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(roots, axis=1, keepdims=True)
    return np.asarray(np.round(roots / np.where(norms > 0, norms, 1) / _STEP) * _STEP)


def mirrored(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns the images `[n, height, width, 3]` mirrored left and right."""
    return images[:, :, ::-1]


def stacked(images: list[Pixels]) -> npt.NDArray[np.uint8]:
    """Returns a list of images as one array `[n, 32, 32, 3]`."""
    return np.stack(images) if images else np.empty((0, SIDE, SIDE, 3), np.uint8)
