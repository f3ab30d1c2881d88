"""Tables that stage `split` reads, for posts of a few labels and without images."""

import hashlib
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curation import split
from curation.assignment import drawn

LOOSE = split.Params(tolerance=1.0)


def apart(*splits: str) -> list[int]:
    """Returns the smallest ascending ids whose drawn splits are `splits`."""
    ids: list[int] = []
    for split_name in splits:
        post = ids[-1] + 1 if ids else 1
        while drawn(post, seed=0, train=0.6, val=0.15) != split_name:
            post += 1
        ids.append(post)
    return ids


def write(path: Path, rows: list[dict[str, Any]], columns: dict[str, pa.DataType], **metadata):
    """Writes rows with a fixed schema and metadata, as stages do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=pa.schema(columns))
    pq.write_table(table.replace_schema_metadata(metadata), path)


class Folder:
    """The tables that stage `split` reads, for posts of a few labels."""

    def __init__(self, root: Path, posts: int = 400, labels: int = 2) -> None:
        self.data_dir = root / "data"
        self.labels = {
            post: f"label_{post % labels}" for post in range(1, 1 + 3 * posts) if post % 3
        }
        chance = random.Random(0)
        self.hashes = {post: chance.randbytes(32) for post in self.labels}
        self.links: list[tuple[int, int]] = []
        self.given: dict[int, str | None] = {}
        self.given_labels: set[int] = set()
        self.given_groups: dict[int, str] = {}
        self.border: dict[int, float] = {}
        self.tagged: set[int] = set()
        self.tags: dict[int, list[str]] = {}
        self.groups: dict[int, int] = {}
        self.distance: int | None = 31
        self.apart: list[tuple[int, int]] = []
        self.images: dict[int, Image.Image] = {}

    def run(self, params: split.Params = LOOSE) -> list[dict[str, Any]]:
        """Writes the tables, runs the stage and returns the rows of split.parquet."""
        self.write()
        split.run(params, data_dir=self.data_dir, work_dir=self.data_dir / "work")
        return pq.read_table(self.data_dir / "split" / "split.parquet").to_pylist()

    def write(self) -> None:
        """Writes the tables of the earlier stages."""
        data, whole, text = self.data_dir, pa.int64(), pa.string()
        write(
            data / "persona" / "labels.parquet",
            [
                {"post_id": post, "label": label, "leaf": int(label[-1])}
                for post, label in self.labels.items()
            ],
            {"post_id": whole, "label": text, "leaf": pa.int32()},
        )
        known = {"personae.params": json.dumps({"distance": self.distance})}
        write(
            data / "duplicates" / "groups.parquet",
            [{"post_id": post, "group_id": self.groups.get(post, post)} for post in self.labels],
            {"post_id": whole, "group_id": whole},
            **(known if self.distance is not None else {}),
        )
        for name, pairs in (("links", self.links), ("apart", self.apart)):
            write(
                data / "duplicates" / f"{name}.parquet",
                [{"post_a": a, "post_b": b, "link": "near"} for a, b in pairs],
                {"post_a": whole, "post_b": whole, "link": text},
            )
        write(
            data / "measure" / "measures.parquet",
            [
                {"post_id": post, "phash": self.hashes[post], "border_white": self.border.get(post)}
                | stored
                for post, stored in self._stored()
            ],
            {"post_id": whole, "phash": pa.binary(32), "border_white": pa.float64()}
            | {"width": pa.int32(), "height": pa.int32(), "image_tar": text, "offset": whole}
            | {"image_bytes": whole, "image_sha256": text},
        )
        write(
            data / "decide" / "kept.parquet",
            [
                {"post_id": post, "white_background_tag": post in self.tagged}
                for post in self.labels
            ],
            {"post_id": whole, "white_background_tag": pa.bool_()},
        )
        kinds = ["tags_general", "tags_copyright", "tags_artist", "tags_meta"]
        write(
            data / "listing" / "posts.parquet",
            [
                {"post_id": post, "given_split": self.given.get(post), "tags_character": [label]}
                | {"given_label": label if post in self.given_labels else None}
                | {"given_group": self.given_groups.get(post)}
                | {kind: [] for kind in kinds}
                | {"tags_general": self.tags.get(post, [])}
                for post, label in self.labels.items()
            ],
            {"post_id": whole, "given_split": text, "tags_character": pa.list_(text)}
            | {"given_label": text, "given_group": text}
            | dict.fromkeys(kinds, pa.list_(text)),
        )

    def _stored(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Writes the normalised image of each post, noise where none is given; yields its row."""
        path = self.data_dir / "measure" / "images-00000.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for post in self.labels:
                noise = random.Random(post).randbytes(8 * 8 * 3)
                image = self.images.get(post) or Image.frombytes("RGB", (8, 8), noise)
                buffer = io.BytesIO()
                image.save(buffer, "PNG")
                data, offset = buffer.getvalue(), file.tell()
                file.write(data)
                yield (
                    post,
                    {"width": image.width, "height": image.height, "image_tar": path.name}
                    | {"offset": offset, "image_bytes": len(data)}
                    | {"image_sha256": hashlib.sha256(data).hexdigest()},
                )

    def certificate(self) -> dict[str, Any]:
        """Returns the certificate that the stage wrote."""
        return json.loads((self.data_dir / "split" / "certificate.json").read_text())
