"""
Near duplicates: posts with close perceptual hashes, as they are or mirrored, and like pixels.

Equal files are one candidate, and so are different files with equal hashes and like pixels: thousands
of copies of a placeholder cost no more than their number.
"""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from curation.hamming import BandSearch, Hashes, first_rows, mirrored_pairs, near_pairs
from curation.image import Pixels
from curation.links import Link
from curation.pixels import difference

Ids = npt.NDArray[np.int64]


def near_links(
    posts: Ids,
    hashes: Hashes,
    thumbnail: Callable[[int], Pixels],
    *,
    distance: int,
    max_difference: float,
    search: BandSearch | None = None,
) -> tuple[list[Link], list[Link]]:
    """
    Returns the pairs of near hashes with like pixels, and those with different pixels.

    Whether two posts are a pair depends on no post with a larger id than theirs.

    Args:
        posts: Ids of posts of different files, ascending, `[posts]`.
        hashes: 256 bits of each post as four words, `[posts, 4]`.
        thumbnail: Returns the pixels of a post; all have one shape.
        distance: Largest distance of hashes, bits, 0..31.
        max_difference: Largest difference of pixels, 0..2.
        search: What searches the bands of the hashes; None: threads of this process.
    """
    confirmed: list[Link] = []
    apart: list[Link] = []

    def compare(first: int, second: int, bits: int, *, mirrored: bool) -> bool:
        post, other = sorted((int(posts[first]), int(posts[second])))
        pixels = thumbnail(other)
        unlike = difference(thumbnail(post), pixels[:, ::-1] if mirrored else pixels)
        link = Link(post, other, "near", bits, unlike, mirrored=mirrored)
        (confirmed if unlike <= max_difference else apart).append(link)
        return unlike <= max_difference

    distinct, of_row = first_rows(hashes)
    # Before any pixels are in memory: a million hashes need 300 MB.
    searches = ((False, near_pairs), (True, mirrored_pairs))
    searched = [
        (mirrored, pairs(hashes[distinct], distance, search)) for mirrored, pairs in searches
    ]
    repeated = np.bincount(of_row, minlength=len(distinct)) > 1
    rows_of: dict[int, list[int]] = defaultdict(list)  # of hashes that several posts have
    rows = np.flatnonzero(repeated[of_row])
    for row, index in zip(rows.tolist(), of_row[rows].tolist(), strict=True):
        known = rows_of[index]
        # A post whose pixels are those of an earlier post with its hash is no candidate of its own.
        if not any(compare(first, row, 0, mirrored=False) for first in known):
            known.append(row)
    for mirrored, ends in searched:
        for first, second, bits in zip(*(values.tolist() for values in ends), strict=True):
            for row in rows_of.get(first) or [int(distinct[first])]:
                for other in rows_of.get(second) or [int(distinct[second])]:
                    compare(row, other, bits, mirrored=mirrored)
    return confirmed, apart
