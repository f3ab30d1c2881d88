"""
The most similar images of different splits by edge histograms, which built no group.

Every pair of images of one label and different splits is compared, and every pair with one of them
mirrored.
"""

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from curation.documents import LikePair
from curation.edges import described, mirrored

MOST = 20  # pairs that are named
_BLOCK = 1024  # rows compared at once


def like_pairs(
    label: str, posts: Sequence[int], splits: Sequence[str], images: npt.NDArray[np.uint8]
) -> list[LikePair]:
    """
    Returns the 20 most similar pairs of different splits of one label, closest first.

    Args:
        label: Label of all posts.
        posts: Ids, ascending.
        splits: Split of each post.
        images: Pixels of each post, `[posts, 32, 32, 3]`.
    """
    names = np.asarray(splits)
    plain = described(images)
    closest: list[tuple[float, int, int, bool]] = []
    for is_mirrored, others in ((False, plain), (True, described(mirrored(images)))):
        for start in range(0, len(posts), _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, len(posts)))
            difference = 1 - plain[rows] @ others.T
            is_pair = (names[rows][:, None] != names) & (rows[:, None] < np.arange(len(posts)))
            difference[~is_pair] = np.inf
            flat = difference.reshape(-1)
            nearest = np.argpartition(flat, min(MOST, len(flat) - 1))[:MOST]
            closest += [
                (
                    round(max(0.0, float(flat[code])), 6),
                    int(rows[code // len(posts)]),
                    int(code % len(posts)),
                    is_mirrored,
                )
                for code in nearest.tolist()
                if np.isfinite(flat[code])
            ]
    return [
        LikePair(
            post_a=posts[first],
            post_b=posts[second],
            split_a=splits[first],
            split_b=splits[second],
            label=label,
            difference=difference,
            mirrored=is_mirrored,
        )
        for difference, first, second, is_mirrored in heapq.nsmallest(MOST, closest)
    ]
