"""Tests the JSON documents: round trips, versions, shapes, and the root hash."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from curation import documents
from curation.documents import (
    CertificateDocument,
    ClassesDocument,
    ManifestDocument,
    ShardEntry,
)
from personae.errors import BadDocument, MissingInput

MODELS = {
    "shards/manifest.json": ManifestDocument,
    "shards/classes.json": ClassesDocument,
    "split/certificate.json": CertificateDocument,
}


@pytest.mark.parametrize("name", MODELS)
def test_document_comes_back(curated, tmp_path: Path, name: str) -> None:
    """Reading and writing a document gives the same bytes, with version 1."""
    path = curated.data_dir / name
    document = MODELS[name].read(path)
    document.write(tmp_path / "again.json")

    assert path.read_bytes() == (tmp_path / "again.json").read_bytes()
    assert 1 == json.loads(path.read_bytes())["version"]


def edit(path: Path, **changes: Any) -> None:
    """Changes keys of a document; None removes a key."""
    content = json.loads(path.read_bytes()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize("name", MODELS)
def test_document_without_version_is_of_version_1(curated, name: str) -> None:
    """A document without a version is read as version 1, because the first releases wrote none."""
    path = curated.data_dir / name
    document = MODELS[name].read(path)
    edit(path, version=None)

    assert "version" not in json.loads(path.read_bytes())
    assert document == MODELS[name].read(path)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "has version 2; this program reads version 1"),
        ({"labels": 0.5}, "'labels' is 0.5"),
        ({"labels": None}, "'labels' is"),
        ({"surplus": 1}, "'surplus' is 1: Extra inputs are not permitted"),
    ],
)
def test_other_version_or_shape_is_named(curated, name: str, changes, message: str) -> None:
    """For another version or shape, the error gives the file, the key and the stage to run."""
    path = curated.data_dir / name
    edit(path, **changes)

    with pytest.raises(BadDocument, match=f"{path.name} .*{message}") as caught:
        MODELS[name].read(path)
    assert f"stage '{path.parent.name}'" in str(caught.value)


def test_absent_document_names_its_stage(tmp_path: Path) -> None:
    """If a document is absent, the error gives the stage that writes it."""
    with pytest.raises(MissingInput, match="absent: stage 'split' writes it"):
        CertificateDocument.read(tmp_path / "certificate.json")


def test_root_hash_is_that_of_sha256sum(curated) -> None:
    """`sha256sum *.tar | sha256sum` gives the root hash of the manifest."""
    folder = curated.data_dir / "shards"
    done = subprocess.run(
        ["bash", "-c", "LC_ALL=C sha256sum *.tar | sha256sum"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    manifest = ManifestDocument.read(folder / "manifest.json")

    assert f"{manifest.root_sha256}  -\n" == done.stdout
    assert manifest.root_sha256 == documents.root_sha256(reversed(manifest.shards))


def test_shard_is_named_within_its_folder() -> None:
    """A shard name that contains a path or does not match the pattern is refused."""
    entry = {"split": "train", "samples": 1, "bytes": 1, "sha256": "0" * 64}
    for name in ("../train-000000.tar", "/train-000000.tar", "train-000000.tar\n", "x", ""):
        with pytest.raises(ValueError, match="should match pattern"):
            ShardEntry(shard=name, **entry)

    assert ShardEntry(shard="train-000000.tar", **entry)
