"""The JSON documents of a data set: of the shards, the split and the catalog."""

import hashlib
import re
from collections.abc import Iterable
from typing import ClassVar, Final, Literal

from pydantic import Field, field_validator

from personae.documents import MAX_SIDE, Background, Count, Document, Part

SHARD_NAME: Final = re.compile(r"(train|val|test)-[0-9]{6,}\.tar")
"""Names of shards. A name that leads to another folder does not match."""

_SHA256 = r"^[0-9a-f]{64}$"


class ShardEntry(Part):
    """One shard of the manifest."""

    shard: str = Field(pattern=rf"^{SHARD_NAME.pattern}$")
    split: Literal["train", "val", "test"]
    samples: Count
    bytes: Count
    sha256: str = Field(pattern=_SHA256)


class NormalisedFormat(Part):
    """How the images of the shards were encoded."""

    side: int = Field(ge=1, le=MAX_SIDE)
    """Pixels."""
    format: Literal["png", "webp", "jpg"]
    background: Background = "border"
    """Colour of the margin; unset where it is that of the border, as in older versions."""


class ManifestDocument(Document):
    """manifest.json, written last: its presence says that the data set is complete."""

    stage: ClassVar[str] = "shards"

    shards: tuple[ShardEntry, ...]
    root_sha256: str = Field(pattern=_SHA256)
    """See `root_sha256`."""
    files: dict[Literal["classes.json", "samples.parquet"], str]
    """The sha256 of classes.json and samples.parquet."""
    samples: dict[str, Count]
    """Number of samples of each split."""
    labels: Count
    """Number of labels."""
    image: NormalisedFormat
    versions: dict[str, str]
    """Versions of the libraries that decided the bytes of the images."""

    @field_validator("shards")
    @classmethod
    def _named_once(cls, shards: tuple[ShardEntry, ...]) -> tuple[ShardEntry, ...]:
        if len({entry.shard for entry in shards}) != len(shards):
            raise ValueError("a shard stands in the list twice")
        return shards


class ClassesDocument(Document):
    """classes.json: the labels in the order of their leaves."""

    stage: ClassVar[str] = "shards"

    labels: tuple[str, ...]
    base: dict[str, str | None]
    """For each label, the label that it is a form of, or itself."""
    copyright: dict[str, str | None]


class CatalogDocument(Document):
    """catalog.json: what catalog.duckdb was when stage `catalog` had built it."""

    stage: ClassVar[str] = "catalog"

    sha256: str = Field(pattern=_SHA256)
    """Of catalog.duckdb."""
    bytes: Count
    root_sha256: str = Field(pattern=_SHA256)
    """Root hash of the shards that it describes."""


class CrossPair(Part):
    """Two posts of different splits, the first with the smaller id."""

    post_a: int
    post_b: int
    split_a: str
    split_b: str
    distance: int
    """Bits that differ between the two 256-bit perceptual hashes."""
    above: bool
    """Whether the distance is larger than the largest distance of duplicates, or that is unknown."""


class LikePair(Part):
    """Two posts of one label and different splits, the first with the smaller id."""

    post_a: int
    post_b: int
    split_a: str
    split_b: str
    label: str
    difference: float
    """Of their edge histograms, 0..2: see `curation.edges`."""
    mirrored: bool
    """Whether one of them is mirrored."""


class CertificateDocument(Document):
    """certificate.json: how near the nearest images of different splits are."""

    stage: ClassVar[str] = "split"

    distance: int | None
    """Largest distance of duplicates, bits of 256; None if it is unknown."""
    passed: bool
    """Whether the closest pair of each measure is above its limit, or there is none."""
    searched: int | None = None
    """
    Bits up to which images of different labels were searched; absent: all their pairs were compared.

    `closest` is then the closest pair up to these bits, else the closest pair of one label.
    """
    posts: int
    posts_without_hash: int
    pairs_told_apart: int
    """Pairs of near hashes whose pixels differ: no duplicates."""
    pairs_within: dict[str, int]
    """Pairs not above the distance by splits, such as `train-test`."""
    closest: CrossPair | None
    labels: dict[str, CrossPair | None]
    """The closest pair of each label."""
    least_difference: float
    """Parameter `split.least_difference`; 0: edge histograms were not compared."""
    like: tuple[LikePair, ...]
    """The pairs with the most similar edge histograms, closest first, at most 20."""
    mode: Literal["hash", "stratified", "given"]
    """Parameter `split.mode`."""
    seed: int
    """Parameter `split.seed`."""
    shares: dict[str, dict[str, float]]
    """Share of each split, 0..1, for each label."""


def root_sha256(shards: Iterable[ShardEntry]) -> str:
    """Returns the sha256 of the lines that `sha256sum` prints for the shards in order of names."""
    ordered = sorted(shards, key=lambda entry: entry.shard)
    lines = "".join(f"{entry.sha256}  {entry.shard}\n" for entry in ordered)
    return hashlib.sha256(lines.encode()).hexdigest()
