"""Writes folders as other programs do: `datasets`, WebDataset and gallery-dl."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import webdataset
from PIL import Image

from tests.scraper.folder_fixture import pixels

NAMES = ["Mr. Mime", "Élan", "plain"]


def encoded(number, kind="PNG"):
    """Returns an encoded image; equal numbers give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(number)).save(buffer, kind)
    return buffer.getvalue()


def table(numbers, *, names=NAMES, **columns):
    """Returns a table as `datasets` makes it: image struct, label number, features in its metadata."""
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    features = {
        "image": {"_type": "Image"},
        "label": {"names": names, "_type": "ClassLabel"},
    }
    rows = {
        "image": pa.array([{"bytes": encoded(n), "path": f"/etc/{n}.png"} for n in numbers], image),
        "label": pa.array([n % len(names) for n in numbers], pa.int64()),
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.table(rows | columns).replace_schema_metadata(metadata)


def saved_to_disk(root: Path, splits, *, options=None, rows=2):
    """Writes Arrow files as `DatasetDict.save_to_disk` does."""
    for split, numbers in splits.items():
        folder = root / split
        folder.mkdir(parents=True)
        name = "data-00000-of-00001.arrow"
        content = table(numbers)
        with pa.ipc.new_stream(str(folder / name), content.schema, options=options) as writer:
            writer.write_table(content, max_chunksize=rows)
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
        (folder / "dataset_info.json").write_text("{}")
    (root / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return root


def on_the_hub(root: Path, splits, *, rows=2):
    """Writes Parquet files as the hub has them, with small row groups."""
    (root / "data").mkdir(parents=True)
    for split, numbers in splits.items():
        path = root / "data" / f"{split}-00000-of-00001.parquet"
        pq.write_table(table(numbers), path, row_group_size=rows)
    return root


def archive(path: Path, samples):
    """Writes samples by the library `webdataset`; a value that is no bytes is encoded by it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path), encoder=True) as writer:
        for key, members in samples.items():
            writer.write({"__key__": key, **members})
    return path


def downloaded(path: Path, number, **metadata):
    """Writes a file and its metadata as `gallery-dl --write-metadata` does; returns the metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(number))
    if metadata:
        Path(f"{path}.json").write_text(json.dumps(metadata, indent=4), encoding="utf-8")
    return metadata


def danbooru(number, characters, **changes):
    """Returns what gallery-dl writes of a post of Danbooru, as far as it is read here."""
    return {
        "category": "danbooru",
        "subcategory": "tag",
        "id": number,
        "created_at": "2024-05-01T10:00:00.123-04:00",
        "rating": "g",
        "score": 7,
        "source": f"https://artist.example/{number}",
        "parent_id": None,
        "is_deleted": False,
        "is_banned": False,
        "is_pending": False,
        "is_flagged": False,
        "tag_string_general": "1girl solo",
        "tag_string_character": characters,
        "tag_string_copyright": "series",
        "tag_string_artist": "someone",
        "tag_string_meta": "highres",
        "tags": ["1girl", "solo", *characters.split()],
        "tags_character": characters.split(),
    } | changes
