"""
Pairs of posts that show the same drawing, whatever was done to the rest of the image.

A drawing returns on another background, cut out, scaled, shifted, mirrored, recoloured or with a
caption. Hashes of the whole image do not see that. Keypoints do: two images of one drawing have many
keypoints with like descriptors, at positions that one shift, rotation and scale maps onto each other.
Only images of one label are compared: images of different labels that share keypoints share a card
frame, a logo or a line of text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from curation import workers
from curation.keypoints import LEAST_SIDE, SIDE, Keypoints, keypoints_of, words_of
from curation.params.measure import MAX_PIXELS
from curation.pixels import moved_difference
from curation.rows import distinct
from curation.spans import SpanReader
from personae import squares
from personae.errors import UnreadableImage

_LEAST_VOTES = 4  # equal words that agree on the position of one image in the other
_CANDIDATES = 24  # earlier images that are verified for each image, as it is and mirrored
_SHARED = 64  # earlier keypoints of a label with the same word that are compared
_BLOCK = 64  # images whose votes are in memory at once
_RATIO = 0.8  # Lowe 2004, section 7.1: the best match must be clearly nearer than the second best
_TOLERANCE = 4.0  # pixels of the rendering between a keypoint and its mapped partner
_APART = 2.0  # pixels: keypoints of one cell of this side are one
_TRIALS = 500  # of RANSAC


@dataclass(frozen=True, slots=True)
class StoredArtwork:
    """The bytes of one post in a segment of `download`."""

    post_id: int
    segment: str
    offset: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LabelImages:
    """All images of one label, by id, and the folder of the segments."""

    images: tuple[StoredArtwork, ...]
    segments_dir: Path
    least_inliers: int
    """Keypoints that must agree in one pair, at least."""


@dataclass(frozen=True, slots=True)
class ArtworkPair:
    """Two posts of the same drawing, the smaller id first."""

    post_a: int
    post_b: int
    inliers: int
    """Keypoints of one image that one shift, rotation and scale maps onto those of the other."""
    mirrored: bool
    difference: float
    """Of the pixels where one image, moved, covers the other, 0..2: see `curation.pixels`."""
    overlap: float
    """Share of the image that is covered less, 0..1."""


def is_large_enough(
    width: npt.NDArray[np.integer], height: npt.NDArray[np.integer]
) -> npt.NDArray[np.bool_]:
    """Returns whether images of these sizes, pixels, have enough keypoints to be compared."""
    return np.asarray(np.maximum(width, height) >= LEAST_SIDE, np.bool_)


def pairs_of_label(label: LabelImages) -> list[ArtworkPair]:
    """
    Returns the pairs of images of one label that show the same drawing.

    Whether two images are a pair depends on no image with a larger id than theirs.

    Raises:
        MissingInput, TamperedData: A segment is absent, or does not have its recorded bytes.
    """
    segments = SpanReader(
        label.segments_dir,
        stage="download",
        table="images.parquet",
        remedy="Restore the segment from a copy. Without a copy, move data/download away and run "
        "stage 'download' again.",
    )
    with segments:
        described = [_read(stored, segments) for stored in label.images]
    best: dict[tuple[int, int], ArtworkPair] = {}
    for first, second, mirrored in candidates(described):
        workers.check_for_stop()
        other, query = described[first], described[second]
        if mirrored:
            query = query.mirrored()
        ends = label.images[first].post_id, label.images[second].post_id
        least = max(label.least_inliers, best[ends].inliers if ends in best else 0)
        pair = compared(other, query, ends, mirrored=mirrored, least_inliers=least)
        if pair is not None:
            best[ends] = pair
    return [best[ends] for ends in sorted(best)]


def candidates(described: Sequence[Keypoints]) -> Iterator[tuple[int, int, bool]]:
    """
    Yields pairs of rows `i < j` to verify, and whether `j` is to be mirrored.

    Two keypoints with an equal word vote for the shift, rotation and scale between their images
    (Lowe 2004, section 7.3). A pair is a candidate if four votes agree. A keypoint is compared with
    the last 64 keypoints of smaller rows that share its word, and an image with 24 smaller rows, so
    that the work is proportional to the number of keypoints.

    Args:
        described: Keypoints of each image, in the order of post ids.
    """
    if not described:
        return
    counts = np.array([len(keypoints) for keypoints in described])
    owner = np.repeat(np.arange(len(counts)), counts)
    ends = np.concatenate([[0], np.cumsum(counts)])
    places = np.concatenate([keypoints.places for keypoints in described])
    words = words_of(np.concatenate([keypoints.descriptors for keypoints in described]))
    tables = [_Table.of(row, owner) for row in words]
    for start, stop in pairwise([*range(0, len(described), _BLOCK), len(described)]):
        rows = np.arange(ends[start], ends[stop])
        for mirrored in (False, True):
            queries = [image.mirrored() if mirrored else image for image in described[start:stop]]
            query_words = words[:, rows]
            if mirrored:
                query_words = words_of(np.concatenate([query.descriptors for query in queries]))
            votes = [table.votes(query_words[n], owner[rows]) for n, table in enumerate(tables)]
            # A pair of keypoints has one vote, however many words it shares.
            query, partner = np.divmod(distinct(np.concatenate(votes)), len(owner))
            moved = _positions(
                np.concatenate([image.places for image in queries])[query], places[partner]
            )
            pair = owner[rows][query] * len(described) + owner[partner]
            for code in _agreeing_votes(pair, moved, len(described)):
                yield int(code % len(described)), int(code // len(described)), mirrored


def compared(
    other: Keypoints,
    query: Keypoints,
    ends: tuple[int, int],
    *,
    mirrored: bool,
    least_inliers: int,
) -> ArtworkPair | None:
    """Returns the pair of two images with its pixels compared; None if too few keypoints agree."""
    inliers, matrix = agreeing(query, other)
    if inliers < least_inliers:
        return None
    of_thumbnails = other.to_thumbnail() @ matrix @ np.linalg.inv(query.to_thumbnail())
    difference, overlap = moved_difference(other.thumbnail, query.thumbnail, of_thumbnails[:2])
    return ArtworkPair(*ends, inliers, mirrored, difference, overlap)


@dataclass(frozen=True, slots=True)
class _Table:
    """The keypoints in order of one of their words, and then of their images."""

    order: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64]
    images: int

    @classmethod
    def of(cls, words: npt.NDArray[np.int32], owner: npt.NDArray[np.int64]) -> "_Table":
        order = np.argsort(words, kind="stable")
        images = int(owner.max(initial=0)) + 1
        return cls(order, words[order].astype(np.int64) * images + owner[order], images)

    def votes(
        self, words: npt.NDArray[np.int32], owner: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Returns the votes: an index into `words` times all keypoints, plus an earlier keypoint."""
        first = np.searchsorted(self.keys, words.astype(np.int64) * self.images)
        end = np.searchsorted(self.keys, words.astype(np.int64) * self.images + owner)
        first = np.maximum(first, end - _SHARED)
        number = end - first
        query = np.repeat(np.arange(len(words)), number)
        steps = np.arange(len(query)) - np.repeat(np.cumsum(number) - number, number)
        partner = self.order[np.repeat(first, number) + steps]
        return np.asarray(query * len(self.order) + partner, np.int64)


def _positions(
    query: npt.NDArray[np.float32], partner: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """
    Returns `[4, votes]`: rotation in steps of 30 degrees, scale in octaves, and a mapped point.

    The point is the middle of the first rendering in the second one, in steps of 50 pixels. It is
    near for votes that agree, while their shifts at the origin would differ.
    """
    turn = (partner[:, 3] - query[:, 3]).astype(np.float64) % 360
    octaves = np.log2(partner[:, 2]).astype(np.float64) - np.log2(query[:, 2])
    angle, scale = np.deg2rad(turn), np.exp2(octaves)
    middle = np.where(query[:, 0] < 0, -SIDE / 2, SIDE / 2)
    right, down = middle - query[:, 0], SIDE / 2 - query[:, 1]
    x = partner[:, 0] + scale * (np.cos(angle) * right - np.sin(angle) * down)
    y = partner[:, 1] + scale * (np.sin(angle) * right + np.cos(angle) * down)
    return np.stack([turn / 30, octaves, x / 50, y / 50])


def _agreeing_votes(
    pair: npt.NDArray[np.int64], positions: npt.NDArray[np.float64], images: int
) -> npt.NDArray[np.int64]:
    """
    Returns the pairs with four votes in a cell of positions, for each later image the best ones.

    Cells are shifted once by a half, so that votes near the edge of a cell agree too.
    """
    codes, counts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for shift in (0.0, 0.5):
        cells = np.floor(positions + shift).astype(np.int64)
        code = pair * 12 + cells[0] % 12
        for row, reach in zip(cells[1:], (4, 8, 8), strict=True):
            code = code * (2 * reach) + np.clip(row, -reach, reach - 1) + reach
        values, votes = np.unique(code, return_counts=True)
        agree = votes >= _LEAST_VOTES
        codes.append(values[agree] // (12 * 8 * 16 * 16))
        counts.append(votes[agree])
    pairs, place = np.unique(np.concatenate(codes), return_inverse=True)
    best = np.zeros(len(pairs), np.int64)
    np.maximum.at(best, place, np.concatenate(counts))
    later = pairs // images
    order = np.lexsort((pairs, -best, later))
    rank = np.arange(len(order)) - np.searchsorted(later, later)
    return np.sort(pairs[order[rank < _CANDIDATES]])


def agreeing(query: Keypoints, other: Keypoints) -> tuple[int, npt.NDArray[np.float64]]:
    """
    Returns how many keypoints of `query` one map brings onto like ones of `other`, and the map.

    The map is a shift, rotation and scale, `[3, 3]`, searched by RANSAC with OpenCV's fixed seed;
    the identity if there is none. Matches are those of Lowe's ratio test. Keypoints at one position
    count once, since grey and edges often have one each.
    """
    nothing = 0, np.eye(3)
    if min(len(query), len(other)) < 2:
        return nothing
    rows, partners = _clear_matches(query.descriptors, other.descriptors)
    if len(rows) < _LEAST_VOTES:
        return nothing
    start, goal = query.places[rows, :2], other.places[partners, :2]
    matrix, is_inlier = cv2.estimateAffinePartial2D(
        start, goal, method=cv2.RANSAC, ransacReprojThreshold=_TOLERANCE, maxIters=_TRIALS
    )
    if matrix is None:
        return nothing
    kept = np.flatnonzero(is_inlier)
    inliers = min(len(np.unique(ends[kept] // _APART, axis=0)) for ends in (start, goal))
    return inliers, np.concatenate([matrix, [[0.0, 0.0, 1.0]]])


def _clear_matches(
    query: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """
    Returns rows of `query` and of `other` that pass Lowe's ratio test; `other` has two or more.

    The squares of all distances are integers below 2 ** 24, so that 32-bit arithmetic is exact.
    """
    from_query, from_other = query.astype(np.float32), other.astype(np.float32)
    lengths = (from_query**2).sum(axis=1)[:, None] + (from_other**2).sum(axis=1)
    squares_of_distances = lengths - 2 * (from_query @ from_other.T)
    rows = np.arange(len(query))
    nearest = squares_of_distances.argmin(axis=1)
    first = squares_of_distances[rows, nearest].copy()
    squares_of_distances[rows, nearest] = np.inf
    is_clear = first < _RATIO**2 * squares_of_distances.min(axis=1)
    return rows[is_clear], nearest[is_clear]


def _read(stored: StoredArtwork, segments: SpanReader) -> Keypoints:
    """Returns the keypoints of one stored image; none if it cannot be decoded."""
    workers.check_for_stop()
    data = segments.read(
        stored.post_id, stored.segment, offset=stored.offset, size=stored.size, sha256=stored.sha256
    )
    try:
        decoded = squares.decode(data, max_pixels=MAX_PIXELS, side=SIDE // 2)
    except UnreadableImage:
        blank = np.zeros((1, 1, 3), np.uint8)
        return Keypoints(np.empty((0, 4), np.float32), np.empty((0, 128), np.uint8), blank, 1.0)
    return keypoints_of(decoded.image)
