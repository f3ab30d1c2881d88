"""The images of different splits that are most alike, side by side."""

from dataclasses import dataclass

from train.page.blocks import BROWSE_PAGE, PageSection
from train.page.closest import ClosestPair, ClosestPairs
from train.page.thumbnails import data_url

_SHOWN = 6  # pairs that are open


@dataclass(frozen=True, slots=True)
class ShownImage:
    """One image of a pair: its data URL, its description, and the address of its post."""

    source: str
    title: str
    link: str


@dataclass(frozen=True, slots=True)
class ShownPair:
    """One pair: both images and a line on them."""

    images: tuple[ShownImage, ShownImage]
    text: str


@dataclass(frozen=True, slots=True)
class ClosestContent:
    """What `templates/closest.html` shows."""

    shown: tuple[ShownPair, ...]
    folded: tuple[ShownPair, ...]
    least: str
    is_given: bool


def section(closest: ClosestPairs) -> PageSection:
    """Returns the pairs of the certificate, the closest of them open."""
    pairs = tuple(_pair(pair) for pair in closest.pairs)
    content = ClosestContent(
        shown=pairs[:_SHOWN],
        folded=pairs[_SHOWN:],
        least=f"{closest.least_difference:g}",
        is_given=closest.is_given,
    )
    return PageSection("closest", "The closest images of different splits", content)


def _pair(pair: ClosestPair) -> ShownPair:
    facts = pair.facts
    mirrored = ", one mirrored" if facts.mirrored else ""
    return ShownPair(
        images=(
            _image(pair.first, facts.post_a, facts.split_a, facts.label),
            _image(pair.second, facts.post_b, facts.split_b, facts.label),
        ),
        text=f"{facts.label}: {facts.split_a} and {facts.split_b}, {facts.difference:.3f}{mirrored}",
    )


def _image(webp: bytes, post_id: int, split: str, label: str) -> ShownImage:
    return ShownImage(
        source=data_url(webp),
        title=f"post {post_id}, {split}, {label}",
        link=f"{BROWSE_PAGE}?post={post_id}",
    )
