"""
Near duplicates: posts with close perceptual hashes, as they are or mirrored, and like pixels.

Equal files are one candidate, and so are different files with equal hashes and like pixels: thousands
of copies of a placeholder cost no more than their number.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from curation.hamming import Hashes, first_rows, mirrored_pairs, near_pairs
from curation.image import Pixels
from curation.links import DuplicateCandidate, Link
from curation.pixels import difference


def near_links(
    posts: Sequence[DuplicateCandidate],
    hashes: Hashes,
    thumbnail: Callable[[int], Pixels],
    *,
    distance: int,
    max_difference: float,
) -> tuple[list[Link], list[Link]]:
    """
    Returns the pairs of near hashes with like pixels, and those with different pixels.

    Whether two posts are a pair depends on no post with a larger id than theirs.

    Args:
        posts: Posts of different files, by id.
        hashes: 256 bits of each post as four words, `[posts, 4]`.
        thumbnail: Returns the pixels of a post; all have one shape.
        distance: Largest distance of hashes, bits, 0..31.
        max_difference: Largest difference of pixels, 0..2.
    """
    confirmed: list[Link] = []
    apart: list[Link] = []

    def compare(first: int, second: int, bits: int, *, mirrored: bool) -> bool:
        post, other = sorted((posts[first].post_id, posts[second].post_id))
        pixels = thumbnail(other)
        unlike = difference(thumbnail(post), pixels[:, ::-1] if mirrored else pixels)
        link = Link(post, other, "near", bits, unlike, mirrored=mirrored)
        (confirmed if unlike <= max_difference else apart).append(link)
        return unlike <= max_difference

    distinct, of_row = first_rows(hashes)
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, index in enumerate(of_row.tolist()):
        known = rows_of[index]
        # A post whose pixels are those of an earlier post with its hash is no candidate of its own.
        if not any(compare(first, row, 0, mirrored=False) for first in known):
            known.append(row)
    for mirrored, first, second, bits in _pairs(hashes[distinct], distance):
        for row in rows_of[first]:
            for other in rows_of[second]:
                compare(row, other, bits, mirrored=mirrored)
    return confirmed, apart


def _pairs(hashes: Hashes, distance: int) -> Iterator[tuple[bool, int, int, int]]:
    """Yields whether the second is mirrored, two rows of different hashes, and the bits between."""
    for mirrored, search in ((False, near_pairs), (True, mirrored_pairs)):
        for first, second, bits in zip(*search(hashes, distance), strict=True):
            yield mirrored, int(first), int(second), int(bits)
