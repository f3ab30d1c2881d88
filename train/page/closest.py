"""
The images of different splits that are most alike, by the certificate of stage `split`.

Its descriptor is another one than those that put copies into one split: what these miss stands here.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from personae.errors import PersonaeError
from train.documents import ClosenessDocument, ClosePairDocument
from train.page.thumbnails import Thumbnails

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClosestPair:
    """A pair of the certificate, with small copies of both images."""

    facts: ClosePairDocument
    first: bytes
    second: bytes


@dataclass(frozen=True, slots=True)
class ClosestPairs:
    """The pairs, closest first, and the difference above which a drawn split passes."""

    pairs: tuple[ClosestPair, ...]
    least_difference: float
    is_given: bool
    """Whether the splits are the source's own, which are only reported."""


def read(path: Path, thumbnails: Thumbnails) -> ClosestPairs | None:
    """
    Returns the pairs in certificate.json; None if the file is absent or names no pair.

    A file that cannot be read, or is of other shards, is left out with a warning: it is no part of the
    comparison.
    """
    if not path.exists():
        return None
    try:
        document = ClosenessDocument.read(path)
        pairs = tuple(
            ClosestPair(pair, thumbnails.webp(pair.post_a), thumbnails.webp(pair.post_b))
            for pair in document.like
        )
    except PersonaeError as error:
        log.warning("The report leaves the closest images of different splits out: %s", error)
        return None
    if not pairs:
        return None
    return ClosestPairs(pairs, document.least_difference, is_given=document.mode == "given")
