"""
JSON documents with a version: a model for each, one reader and one writer for all.

A document without a version is of version 1: the first release wrote none.
"""

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from personae import files
from personae.errors import BadDocument

MAX_SIDE: Final = 2048
"""Largest side of a normalised image, pixels."""

Background = Literal["border", "white"]
"""Colour of the margin of a normalised image: the mean of the image's border, or white."""

Count = Annotated[int, Field(ge=0, lt=2**63)]
"""A number of things, or of bytes: what a column of 64 bits holds."""

DocumentT = TypeVar("DocumentT", bound="Document")


class Part(BaseModel):
    """A nested part of a document: frozen, without unknown fields, all numbers finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Document(Part):
    """A JSON file with a version. Subclasses name the stage that writes it."""

    stage: ClassVar[str]

    version: Literal[1] = 1

    @classmethod
    def read(cls: type[DocumentT], path: Path, *, stage: str | None = None) -> DocumentT:  # noqa: PYI019  # beartype checks no `Self` outside of a decorated class
        """
        Returns the document in `path`.

        Args:
            path: A JSON file.
            stage: The stage that writes the file, named in messages; by default the class's own.

        Raises:
            MissingInput: The file is absent, unreadable or no JSON mapping.
            BadDocument: A field is absent, unknown or of another type, or the version is another.
        """
        stage = stage or cls.stage
        content = files.read_json(path, stage=stage)
        return cls._validated(content, str(path), f"Run stage '{stage}' again.")

    @classmethod
    def parse(cls: type[DocumentT], content: bytes, source: str, *, remedy: str) -> DocumentT:  # noqa: PYI019  # as `read`
        """
        Returns the document in `content`.

        Args:
            content: JSON text.
            source: Where it comes from, and `remedy`: what to do about it; both stand in messages.
            remedy: A sentence.

        Raises:
            BadDocument: The content is no JSON mapping, or as `read` does.
        """
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise BadDocument(f"{source} is no readable JSON ({error}). {remedy}") from error
        if not isinstance(document, dict):
            raise BadDocument(f"{source} holds no JSON mapping. {remedy}")
        return cls._validated(document, source, remedy)

    @classmethod
    def _validated(cls, content: dict[str, Any], source: str, remedy: str) -> Self:
        version = content.get("version", 1)
        if version != 1:
            raise BadDocument(
                f"{source} has version {version!r}; this program reads version 1. Use the program "
                f"that wrote it, or {remedy[0].lower()}{remedy[1:]}"
            )
        try:
            # Strict validation takes tuples from JSON text alone: in Python a list is no tuple.
            return cls.model_validate_json(json.dumps(content), strict=True)
        except RecursionError as error:
            raise BadDocument(f"{source} is damaged: it is nested too deeply. {remedy}") from error
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in problem["loc"])
            raise BadDocument(
                f"{source} is damaged: '{field}' is "
                f"{repr(problem['input'])[:200]}: {problem['msg']}. {remedy}"
            ) from error

    def write(self, path: Path) -> None:
        """Writes the document to `path`, whole or not at all."""
        files.write_json(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Returns the fields that were set, and the version, as plain JSON values."""
        return self.model_dump(mode="json", exclude_unset=True) | {"version": self.version}
