"""What is exported as a folder and read again has the same labels, splits and pixels."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from curation.__main__ import main as curation
from scraper.__main__ import main as scraper
from scraper.sources.layout import read as layout
from tests.curation.browse_fixture import edit_catalog
from tests.curation.stored_fixture import stored

STAGES = ("measure", "filters", "duplicates", "persona", "split", "shards")
PARAMS = {
    "personae": {"min_images": 1},
    "decide": {"ratings": ["g"], "min_side": 0},
    "download": {"side": None},
    "filters": {"min_side": 1, "min_saturation": 0.0, "min_sharpness": 0.0},
    "duplicates": {"artwork": "ignore", "distance": 0},
    "persona": {"min_samples": 1, "balance": "none"},
    "split": {"mode": "given"},
}


def _pixels(shards: Path) -> dict[tuple[str, str], list[bytes]]:
    """Returns the pixels of every image, sorted, by split and label."""
    found: dict[tuple[str, str], list[bytes]] = {}
    for split, label, image in stored(shards).values():
        pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).tobytes()
        found.setdefault((split, label), []).append(pixels)
    return {key: sorted(values) for key, values in found.items()}


def test_exported_folder_comes_back_equal(curated, tmp_path, monkeypatch) -> None:
    """Export, then scrape and curate the folder: the same pixels under the same labels and splits."""
    monkeypatch.chdir(tmp_path)
    assert 0 == curation(["export", "folder", "exported", "--data", str(curated.data_dir)])
    manifest = yaml.safe_load((curated.data_dir / "shards" / "manifest.json").read_text())
    measure = {"side": manifest["image"]["side"], "format": manifest["image"]["format"]}
    params = {**PARAMS, "measure": measure, "site": {"name": "folder", "folder": "exported"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    assert 0 == scraper(["--data", "again"])
    for stage in STAGES:
        assert 0 == curation([stage, "--data", "again", "--work", "work"]), stage

    assert _pixels(curated.data_dir / "shards") == _pixels(tmp_path / "again" / "shards")


@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_rating_artist_source_and_licence_come_back(curated, tmp_path, monkeypatch, form) -> None:
    """An export that is read again is held to the rating rule, and names artists and licence."""
    monkeypatch.chdir(tmp_path)
    edit_catalog(
        curated.data_dir,
        "UPDATE posts SET rating = 'e', tags_artist = ['a', 'b'], source = 'https://a.example/1', "
        "licence = 'CC0'",
    )
    assert 0 == curation(["export", form, "exported", "--data", str(curated.data_dir)])
    params = {**PARAMS, "site": {"name": "folder", "folder": "exported"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    assert 0 == scraper(["listing", "--data", "again"])
    posts = pq.read_table("again/listing/posts.parquet").to_pylist()

    assert {("e", "a b", "https://a.example/1", "CC0")} == {
        (post["rating"], " ".join(post["tags_artist"]), post["source"], post["licence"])
        for post in posts
    }


def test_shards_with_provenance_keep_their_rating(tmp_path) -> None:
    """The JSON of a sample says its rating; one that is not understood counts as explicit."""
    with tarfile.open(tmp_path / "train-0.tar", "w") as archive:
        for number, rating in enumerate(("q", "", "PG")):
            facts = {"label": "x", "rating": rating, "artist": "a b", "source": "s", "licence": ""}
            for name, content in (("png", b"-"), ("json", json.dumps(facts).encode())):
                member = tarfile.TarInfo(f"{number}.{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    noted = [image.description for image in layout.read(tmp_path).images]

    assert ["q", "g", "e"] == [description.rating for description in noted]
    assert {("a", "b")} == {description.tags["artist"] for description in noted}


@pytest.mark.parametrize("source", ["exported", "shards"])
def test_parquet_files_and_shards_come_back_equal(curated, tmp_path, monkeypatch, source) -> None:
    """The Parquet export, and the shards themselves, are read with the same labels, splits and bytes."""
    monkeypatch.chdir(tmp_path)
    shards = curated.data_dir / "shards"
    folder = shards if source == "shards" else tmp_path / "exported"
    if source == "exported":
        assert 0 == curation(["export", "parquet", "exported", "--data", str(curated.data_dir)])
    params = {**PARAMS, "site": {"name": "folder", "folder": str(folder)}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    assert 0 == scraper(["listing", "--data", "again"])
    posts = pq.read_table("again/listing/posts.parquet").to_pylist()

    assert sorted(
        (split, label, hashlib.md5(image).hexdigest())
        for split, label, image in stored(shards).values()
    ) == sorted((post["given_split"], post["given_label"], post["md5"]) for post in posts)


@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_labels_that_a_folder_may_not_have_are_read_back(
    curated, tmp_path, monkeypatch, form
) -> None:
    """A board's tag may hold a wide space or a tab: an export names such a label in plain letters."""
    monkeypatch.chdir(tmp_path)
    shards = curated.data_dir / "shards"
    classes = json.loads((shards / "classes.json").read_text(encoding="utf-8"))
    renamed = dict(zip(classes["labels"], ("a\u3000b", "a\tb", "x" * 201), strict=False))
    classes["labels"] = [renamed.get(label, label) for label in classes["labels"]]
    (shards / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
    samples = pq.read_table(shards / "samples.parquet")
    rows = [row | {"label": renamed.get(row["label"], row["label"])} for row in samples.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=samples.schema), shards / "samples.parquet")
    for label, other in renamed.items():
        edit_catalog(
            curated.data_dir, f"UPDATE samples SET label = '{other}' WHERE label = '{label}'"
        )
    assert 0 == curation(["export", form, "exported", "--data", str(curated.data_dir)])
    labels = Counter(image.label for image in layout.read(tmp_path / "exported").images)

    assert {"000_a_b", "001_a_b"} < set(labels)
    assert sorted(Counter(row["label"] for row in rows).values()) == sorted(labels.values())
