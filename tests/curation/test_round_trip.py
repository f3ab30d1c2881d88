"""What is exported as a folder and read again has the same labels, splits and pixels."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from curation.__main__ import main as curation
from scraper.__main__ import main as scraper
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
