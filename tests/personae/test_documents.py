"""Tests the documents: complete, versioned, and refused with the name of the wrong field."""

from typing import ClassVar

import pytest

from personae import files
from personae.documents import Document, Part
from personae.errors import BadDocument, MissingInput


class Box(Part):
    side: int


class Crate(Document):
    stage: ClassVar[str] = "packing"

    boxes: tuple[Box, ...]
    label: str | None = None


def test_document_comes_back(tmp_path):
    """A written document is read back, with its version in the file and without unset fields."""
    path = tmp_path / "crate.json"
    crate = Crate(boxes=(Box(side=3),))
    crate.write(path)

    assert crate == Crate.read(path)
    assert {"boxes": [{"side": 3}], "version": 1} == files.read_json(path, stage="packing")


def test_document_without_a_version_is_of_version_one(tmp_path):
    """A document without a version is read as version 1, because the first release wrote none."""
    files.write_json(tmp_path / "crate.json", {"boxes": []})

    assert Crate(boxes=()) == Crate.read(tmp_path / "crate.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"boxes": [], "version": 2}, "crate.json has version 2; this program reads version 1."),
        ({"boxes": [{"side": "3"}]}, "'boxes.0.side' is '3': Input should be a valid integer"),
        ({"boxes": [], "odd": 1}, "'odd' is 1: Extra inputs are not permitted"),
        ({}, "'boxes' is {}: Field required. Run stage 'packing' again."),
    ],
)
def test_other_shapes_are_named(tmp_path, content, message):
    """For a wrong shape, the message gives file, field, value and the stage to run."""
    files.write_json(tmp_path / "crate.json", content)

    with pytest.raises(BadDocument) as caught:
        Crate.read(tmp_path / "crate.json")
    assert message in str(caught.value)


def test_absent_document_names_its_stage(tmp_path):
    """An absent file is missing input, and the error gives the stage that the reader states."""
    with pytest.raises(MissingInput, match="stage 'loading' writes it"):
        Crate.read(tmp_path / "crate.json", stage="loading")
