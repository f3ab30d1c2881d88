"""
The JSON documents of a data set: manifest.json, classes.json and certificate.json.

Each is a model with a version, written and read here alone. A document without a version is of
version 1: the first releases wrote none.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from personae import files
from personae.errors import BadDocument

SPLITS: Final = ("train", "val", "test")
SHARD_NAME: Final = re.compile(r"(train|val|test)-[0-9]{6,}\.tar")
"""Names of shards. A name that leads to another folder does not match."""

_SHA256 = r"^[0-9a-f]{64}$"


class Document(BaseModel):
    """What the documents share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: ClassVar[str]
    """The stage that writes the document."""
    version: Literal[1] = 1


DocumentT = TypeVar("DocumentT", bound=Document)


class ShardEntry(BaseModel):
    """One shard of the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: str = Field(pattern=rf"^{SHARD_NAME.pattern}$")
    split: Literal["train", "val", "test"]
    samples: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=_SHA256)


class NormalisedFormat(BaseModel):
    """How the images of the shards were encoded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(ge=1)
    """Pixels."""
    format: Literal["png", "webp", "jpg"]


class ManifestDocument(Document):
    """manifest.json, written last: its presence says that the data set is complete."""

    stage: ClassVar[str] = "shards"

    shards: tuple[ShardEntry, ...]
    root_sha256: str = Field(pattern=_SHA256)
    """See `root_sha256`."""
    files: dict[Literal["classes.json", "samples.parquet"], str]
    """The sha256 of classes.json and samples.parquet."""
    samples: dict[str, int]
    """Number of samples of each split."""
    labels: int = Field(ge=0)
    """Number of labels."""
    image: NormalisedFormat
    versions: dict[str, str]
    """Versions of the libraries that decided the bytes of the images."""


class ClassesDocument(Document):
    """classes.json: the labels in the order of their leaves."""

    stage: ClassVar[str] = "shards"

    labels: tuple[str, ...]
    base: dict[str, str | None]
    """For each label, the label that it is a form of, or itself."""
    copyright: dict[str, str | None]


class CrossPair(BaseModel):
    """Two posts of different splits, the first with the smaller id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    post_a: int
    post_b: int
    split_a: str
    split_b: str
    distance: int
    """Bits that differ between the two 256-bit perceptual hashes."""
    above: bool
    """Whether the distance is larger than the largest distance of duplicates, or that is unknown."""


class CertificateDocument(Document):
    """certificate.json: how near the nearest images of different splits are."""

    stage: ClassVar[str] = "split"

    distance: int | None
    """Largest distance of duplicates, bits of 256; None if it is unknown."""
    passed: bool
    """Whether the closest pair is above the distance, or there is none."""
    posts: int
    posts_without_hash: int
    pairs_told_apart: int
    """Pairs of near hashes whose pixels differ: no duplicates."""
    pairs_within: dict[str, int]
    """Pairs not above the distance by splits, such as `train-test`."""
    closest: CrossPair | None
    labels: dict[str, CrossPair | None]
    """The closest pair of each label."""
    mode: Literal["hash", "given"]
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


def write(path: Path, document: Document) -> None:
    """Writes a document as JSON with sorted keys, whole or not at all."""
    files.write_json(path, document.model_dump(mode="json"))


def read(path: Path, model: type[DocumentT]) -> DocumentT:
    """
    Returns the document in `path`.

    Raises:
        MissingInput: The file is absent, unreadable or no JSON mapping.
        BadDocument: It has another version, or another shape than `model`.
    """
    content = files.read_json(path, stage=model.stage)
    version = content.get("version", 1)
    if version != 1:
        raise BadDocument(
            f"{path} has version {version!r}; this program reads version 1. Use the program that "
            f"wrote it, or run stage '{model.stage}' again with this one."
        )
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise BadDocument(
            f"{path} is damaged: '{key}' is {repr(problem['input'])[:200]}: {problem['msg']}. "
            f"Run stage '{model.stage}' again."
        ) from error
