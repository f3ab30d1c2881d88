"""Writes shards, their tables and a catalog in the format of the `curation` stages."""

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

ROOT_HASH = "ab" * 32


SIDE = 24


def write_shards(
    folder: Path,
    images: dict[str, np.ndarray],
    labels: tuple[str, ...],
    *,
    draw: Callable[[int, int], bytes],
    side: int,
) -> None:
    folder.mkdir(parents=True)
    rows = []
    chosen = images["split"] == "test"
    with (folder / "test-000000.tar").open("wb") as file:
        for post_id, leaf in zip(images["post_id"][chosen], images["label"][chosen], strict=True):
            data = draw(int(leaf), int(post_id))
            member = tarfile.TarInfo(f"{post_id}.png")
            member.size = len(data)
            header = member.tobuf(tarfile.USTAR_FORMAT)
            offset = file.tell() + len(header)
            file.write(header + data + bytes(-len(data) % 512))
            rows.append((int(post_id), "test-000000.tar", offset, len(data)))
        file.write(bytes(1024))
    names = ("post_id", "shard", "image_offset", "image_bytes")
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    pq.write_table(table, folder / "samples.parquet")
    write_json(folder / "classes.json", {"labels": list(labels), "base": {}, "copyright": {}})
    counts = {split: int(np.sum(images["split"] == split)) for split in ("val", "test")}
    write_json(
        folder / "manifest.json",
        {
            "root_sha256": ROOT_HASH,
            "samples": {"train": 1200, **counts},
            "labels": len(labels),
            "image": {"side": side, "format": "png"},
            "versions": {"pillow": "12.0"},
            "shards": [],
        },
    )


def image_bytes(leaf: int, post_id: int) -> bytes:
    rng = np.random.default_rng(post_id)
    image = Image.new("RGB", (SIDE, SIDE), (255, 255, 255) if post_id % 3 == 0 else (220, 224, 232))
    draw = ImageDraw.Draw(image)
    x, y = (int(number) for number in rng.integers(3, 8, 2))
    colour = tuple(int(number) for number in np.random.default_rng(leaf).integers(40, 210, 3))
    draw.ellipse((x, y, x + 13, y + 13), fill=colour, outline=(20, 20, 20))
    draw.rectangle((x + 3, y + 4, x + 4, y + 6), fill=(20, 20, 20))
    draw.rectangle((x + 9, y + 4, x + 10, y + 6), fill=(20, 20, 20))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_catalog(path: Path) -> None:
    path.parent.mkdir(parents=True)
    rows = [
        ("decide", "kept", 8000),
        ("decide", "comic", 900),
        ("decide", "two_personas", 700),
        ("decide", "monochrome_tag", 500),
        ("decide", "persona_too_small", 200),
        ("download", "kept", 7990),
        ("download", "gone", 10),
        ("filters", "kept", 7800),
        ("filters", "low_saturation", 150),
        ("filters", "blurred", 60),
        ("duplicates", "kept", 7500),
        ("duplicates", "near_duplicate", 300),
        ("persona", "kept", 1740),
        ("persona", "over_cap", 5760),
        ("split", "kept", 1740),
    ]
    with duckdb.connect(str(path)) as catalog:
        catalog.execute("CREATE TABLE posts AS SELECT range AS post_id FROM range(10000)")
        catalog.execute(
            "CREATE TABLE steps (position INTEGER, stage VARCHAR, outcome VARCHAR, posts BIGINT)"
        )
        catalog.executemany(
            "INSERT INTO steps VALUES (?, ?, ?, ?)",
            [(index, *row) for index, row in enumerate(rows)],
        )
        catalog.execute("CREATE VIEW funnel AS SELECT * FROM steps")


def write_json(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")


def write_curves(path: Path, networks: list[str]) -> None:
    names = ["network", "epoch", "step", "lr", "train_loss", "val_loss", "val_accuracy", "seconds"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for network in networks:
            for epoch in range(1, 13):
                loss = 2.4 * np.exp(-epoch / 5)
                writer.writerow(
                    [
                        network,
                        epoch,
                        epoch * 9,
                        0.01 if epoch < 8 else 0.005,
                        loss,
                        loss + 0.02 * epoch,
                        0.5,
                        1.5,
                    ]
                )
