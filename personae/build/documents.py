"""
The JSON documents of the shards, as their readers see them.

ShardIndex    data/shards/manifest.json    the shards and their hashes
LabelIndex    data/shards/classes.json     the class labels in leaf order
"""

from typing import ClassVar

from pydantic import ConfigDict, Field, field_validator

from personae.documents import MAX_SIDE, Background, Count, Document, Part


class ImageDocument(Part):
    """Format, side in pixels and margin of every image in the shards."""

    side: int = Field(ge=1, le=MAX_SIDE)
    format: str
    background: Background = "border"
    """Colour of the margin. Unset, and so of the border, in the manifests of older versions."""


class IndexedShard(Part):
    """One shard of the manifest."""

    shard: str
    """File name, without a folder."""
    split: str
    samples: Count
    sha256: str
    bytes: Count | None = None


class ShardIndex(Document):
    """data/shards/manifest.json: every shard with its hash, and the root hash over them."""

    stage: ClassVar[str] = "shards"

    shards: tuple[IndexedShard, ...]
    root_sha256: str
    """Names the data set."""
    image: ImageDocument
    labels: Count
    """Number of class labels."""
    samples: dict[str, Count]
    """Images of each split."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the other files."""
    versions: dict[str, str] = Field(default_factory=dict)

    @field_validator("shards")
    @classmethod
    def _named_once(cls, shards: tuple[IndexedShard, ...]) -> tuple[IndexedShard, ...]:
        if len({entry.shard for entry in shards}) != len(shards):
            raise ValueError("a shard stands in the list twice")
        return shards


class LabelIndex(Document):
    """data/shards/classes.json: the class labels; what else it holds is not read here."""

    model_config = ConfigDict(extra="ignore")

    stage: ClassVar[str] = "shards"

    labels: tuple[str, ...] = Field(min_length=1)
    """In leaf order."""
    base: dict[str, str | None] = Field(default_factory=dict)
    """The base form of each label that is a form of another label."""
