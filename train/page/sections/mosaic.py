"""Test images, one label a row, framed by which network predicted them correctly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from train.page.blocks import PageSection
from train.page.formatting import percent
from train.page.mosaic import Tile
from train.page.summary import RunSummary, per_label
from train.page.thumbnails import data_url

_SHOWN = 12  # labels whose rows are open
_OUTCOMES = {  # of `Tile.outcome`
    "both": "both right",
    "hierarchy": "hierarchy alone right",
    "flat": "flat alone right",
    "neither": "both wrong",
}
_FLAT_OUTCOMES = {"both": "right", "neither": "wrong"}


@dataclass(frozen=True, slots=True)
class MosaicImage:
    """One image: its frame, its data URL and its description."""

    outcome: str
    source: str
    title: str


@dataclass(frozen=True, slots=True)
class MosaicRow:
    """The images of one label, and the accuracy of the flat network on it in percent."""

    label: str
    flat: str
    images: tuple[MosaicImage, ...]


@dataclass(frozen=True, slots=True)
class MosaicContent:
    """What `templates/mosaic.html` shows. `keys` maps a frame to its meaning."""

    keys: Mapping[str, str]
    shown: tuple[MosaicRow, ...]
    folded: tuple[MosaicRow, ...]


def section(
    lines: Sequence[Sequence[Tile]], labels: Sequence[str], flat: RunSummary
) -> PageSection:
    """Returns a row of images for each label that has some; `lines` are in the order of `labels`."""
    has_hierarchy = any(tile.hierarchical is not None for line in lines for tile in line)
    accuracy = per_label(flat.predictions, len(labels))
    rows = tuple(
        MosaicRow(
            label=labels[leaf],
            flat=percent(float(accuracy[leaf])),
            images=tuple(_image(tile, labels) for tile in line),
        )
        for leaf, line in enumerate(lines)
        if line
    )
    keys = _OUTCOMES if has_hierarchy else _FLAT_OUTCOMES
    content = MosaicContent(keys=keys, shown=rows[:_SHOWN], folded=rows[_SHOWN:])
    return PageSection("mosaic", "Test images", content)


def _image(tile: Tile, labels: Sequence[str]) -> MosaicImage:
    predicted = [f"flat: {labels[tile.flat]}"]
    if tile.hierarchical is not None:
        predicted.append(f"hierarchy: {labels[tile.hierarchical]}")
    return MosaicImage(
        outcome=tile.outcome,
        source=data_url(tile.webp),
        title=f"post {tile.post_id}, {labels[tile.label]} ({', '.join(predicted)})",
    )
