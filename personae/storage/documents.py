"""
The JSON document of a storage, as writer and readers see it.

StorageIndex    URL/personae.json    the files of one build, with their hashes
"""

import json
import re
from typing import ClassVar, Final

from pydantic import Field, field_validator

from personae.documents import Count, Document, Part

NAME: Final = "personae.json"
DIGESTS: Final = "shards/images.sha256"
"""The sha256 of every image, 32 bytes for each row of samples.parquet, in its order."""
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.=-]{0,199}"
PATH: Final = re.compile(rf"{_PART}(/{_PART}){{1,7}}")
"""Paths of files. A path that leads out of a folder does not match."""


class StoredFile(Part):
    """One file of a build."""

    path: str = Field(pattern=rf"^{PATH.pattern}$")
    """In the data folder, such as `shards/train-000000.tar`."""
    bytes: Count
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @property
    def name(self) -> str:
        """
        The name below the URL: the path, with the begin of the hash before the ending.

        Files of two builds never have the same name, so that a build that is read stays as it is
        while the next is written.
        """
        folder, _, file = self.path.rpartition("/")
        stem, dot, ending = file.rpartition(".")
        stem, ending = (stem, dot + ending) if stem else (file, "")
        return f"{folder}/{stem}-{self.sha256[:16]}{ending}"


class StorageIndex(Document):
    """URL/personae.json, written last: all files that it names are there."""

    stage: ClassVar[str] = "push"

    root_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Root hash of the shards."""
    files: tuple[StoredFile, ...]
    """In the order of their paths."""

    def to_bytes(self) -> bytes:
        """Returns the document as JSON with sorted keys."""
        return (json.dumps(self.to_json(), indent=1, sort_keys=True) + "\n").encode()

    @field_validator("files")
    @classmethod
    def _named_once(cls, files: tuple[StoredFile, ...]) -> tuple[StoredFile, ...]:
        if len({file.path for file in files}) != len(files):
            raise ValueError("a path stands in the list twice")
        return files
