"""
Keypoints of an image: positions, SIFT descriptors, and words for the search of equal descriptors.

Source: Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004, as OpenCV
implements it. The words are cross-polytope hashes: Andoni, Indyk, Laarhoven, Razenshteyn and
Schmidt, "Practical and Optimal LSH for Angular Distance", 2015, arXiv 1509.02897, section 3.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.image import Pixels

SIDE = (
    192  # long side of the grey rendering, pixels: larger images show more detail than copies keep
)
THUMBNAIL = 64  # long side of the thumbnail, pixels
LEAST_SIDE = 64  # pixels: smaller images have too few keypoints to compare
KEYPOINTS = 150  # strongest keypoints of the grey, and of the edges
TABLES = 8  # words of a descriptor
_BLOCKS = 4  # coordinates of a word; each has 64 values, so that a word has 24 bits
_CHUNK = 8192  # descriptors turned at once
_SIZE = 128  # of a descriptor: 4 rows × 4 columns × 8 directions

# Mean descriptor of 7,256 illustrations, a row per cell of the 4 × 4 grid. Without it, most
# descriptors have the same words. It is its own mirror image.
_MEAN = (
    (20, 21, 21, 21, 22, 13, 10, 12),
    (59, 36, 23, 20, 20, 13, 12, 25),
    (63, 28, 16, 14, 16, 14, 18, 36),
    (24, 14, 11, 12, 17, 16, 18, 22),
    (28, 20, 22, 26, 31, 21, 13, 14),
    (94, 37, 25, 28, 29, 20, 17, 38),
    (96, 38, 18, 20, 25, 23, 22, 39),
    (35, 17, 14, 17, 23, 20, 19, 22),
    (28, 14, 13, 21, 31, 26, 22, 20),
    (94, 38, 17, 20, 29, 28, 25, 37),
    (96, 39, 22, 23, 25, 20, 18, 38),
    (35, 22, 19, 20, 23, 17, 14, 17),
    (20, 12, 10, 13, 22, 21, 21, 21),
    (59, 25, 12, 13, 20, 20, 23, 36),
    (63, 36, 18, 14, 16, 14, 16, 28),
    (24, 22, 18, 16, 17, 12, 11, 14),
)
_MIRROR = np.array(
    [
        ((3 - row) * 4 + column) * 8 + (8 - direction) % 8
        for row in range(4)
        for column in range(4)
        for direction in range(8)
    ]
)
"""Where each value of a descriptor is in the descriptor of the mirrored image."""


@dataclass(frozen=True, slots=True)
class Keypoints:
    """The `n` keypoints of one image, strongest first."""

    places: npt.NDArray[np.float32]
    """`[n, 4]`: x and y in pixels of the rendering, diameter in pixels, angle in degrees."""
    descriptors: npt.NDArray[np.uint8]
    """`[n, 128]`"""
    thumbnail: Pixels
    """`[height, width, 3]`: the whole image, to compare its pixels."""
    scale: float
    """Pixels of the thumbnail for a pixel of the rendering."""
    is_mirrored: bool = False

    def __len__(self) -> int:
        return len(self.places)

    def mirrored(self) -> "Keypoints":
        """
        Returns the keypoints of the image mirrored left and right, at x below 0.

        SIFT describes the mirrored image by the same numbers in another order, so that no second
        search for keypoints is needed.
        """
        places = self.places.copy()
        places[:, 0] = -places[:, 0]
        places[:, 3] = (180 - places[:, 3]) % 360
        descriptors = np.ascontiguousarray(self.descriptors[:, _MIRROR])
        flipped = np.ascontiguousarray(self.thumbnail[:, ::-1])
        return Keypoints(places, descriptors, flipped, self.scale, not self.is_mirrored)

    def to_thumbnail(self) -> npt.NDArray[np.float64]:
        """Returns the matrix `[3, 3]` from positions of the rendering to those of the thumbnail."""
        shift = self.thumbnail.shape[1] if self.is_mirrored else 0.0
        return np.array([[self.scale, 0, shift], [0, self.scale, 0], [0, 0, 1]])


def keypoints_of(image: Image.Image) -> Keypoints:
    """
    Returns the strongest keypoints of an image: at most 150 of its grey, and 150 of its edges.

    On a dark background the outline of a drawing has the opposite contrast as on a light one, and
    another descriptor. Its edges are the same.

    OpenCV's code for newer processors gives other roundings, so it is switched off: one version of
    OpenCV gives the same numbers on every x86 machine.
    """
    cv2.setUseOptimized(False)
    cv2.setNumThreads(1)
    scale = min(1.0, SIDE / max(image.size))
    rendering = _resized(image, scale)
    sources = (np.asarray(rendering.convert("L")), _edges(np.asarray(rendering)))
    parts = [_strongest(source) for source in sources]
    places, descriptors = (np.concatenate(part) for part in zip(*parts, strict=True))
    small = min(1.0, THUMBNAIL / max(image.size))
    thumbnail = np.asarray(_resized(image, small))
    return Keypoints(places, descriptors, thumbnail, small / scale)


def _strongest(
    grey: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Returns positions and descriptors of the strongest keypoints of one channel."""
    points, descriptors = cv2.SIFT.create(nfeatures=KEYPOINTS).detectAndCompute(grey, None)
    # OpenCV returns more than `nfeatures` where several are equally strong.
    strongest = sorted(range(len(points)), key=lambda row: -points[row].response)[:KEYPOINTS]
    chosen = [points[row] for row in strongest]
    places = np.array([(*point.pt, point.size, point.angle) for point in chosen], np.float32)
    rows = descriptors[strongest] if strongest else np.empty((0, _SIZE))
    return places.reshape(-1, 4), np.asarray(rows, np.uint8)


def _edges(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Returns the lengths of the edges over all channels, `[height, width]`, as roots."""
    padded = np.pad(pixels.astype(np.int64), ((1, 1), (1, 1), (0, 0)), mode="edge")
    right = padded[1:-1, 2:] - padded[1:-1, :-2]
    down = padded[2:, 1:-1] - padded[:-2, 1:-1]
    lengths = np.sqrt((right**2 + down**2).sum(axis=2).astype(np.float64))
    return np.asarray(np.round(255 * np.sqrt(lengths / max(1.0, lengths.max()))), np.uint8)


def _resized(image: Image.Image, scale: float) -> Image.Image:
    width, height = image.size
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return image.resize(size, Image.Resampling.BILINEAR)


def words_of(descriptors: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """
    Returns the words `[TABLES, n]` of descriptors `[n, 128]`: near descriptors share some words.

    A table turns the descriptor, less the mean, by a random rotation. In each of four blocks of 32
    coordinates, the largest coordinate by magnitude and its sign give six bits. All numbers are
    integers below 2 ** 24, so that 32-bit arithmetic is exact in any order.
    """
    words = np.zeros((TABLES, len(descriptors)), np.int32)
    for start in range(0, len(descriptors), _CHUNK):
        part = slice(start, start + _CHUNK)
        centred = descriptors[part].astype(np.float32) - np.array(_MEAN, np.float32).reshape(-1)
        for table, rotation in enumerate(_rotations()):
            turned = (centred @ rotation).reshape(len(centred), _BLOCKS, _SIZE // _BLOCKS)
            both = np.concatenate([turned, -turned], axis=2)
            for block in range(_BLOCKS):
                digit = both[:, block].argmax(axis=1)
                words[table, part] = words[table, part] * both.shape[2] + digit
    return words


@functools.cache
def _rotations() -> list[npt.NDArray[np.float32]]:
    """Returns a scaled rotation per table: the Hadamard matrix with random signs and columns."""
    hadamard = np.ones((1, 1), np.float32)
    while len(hadamard) < _SIZE:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    chance = np.random.default_rng(0)
    return [
        np.ascontiguousarray(
            (hadamard * chance.choice([-1, 1], (_SIZE, 1)))[:, chance.permutation(_SIZE)],
            np.float32,
        )
        for _ in range(TABLES)
    ]
