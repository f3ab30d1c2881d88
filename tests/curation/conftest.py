"""
Fixtures of the curation tests: a small, consistent data folder with 65 posts of four personae.

`tiny_data` is a fresh copy for each test. It holds the tables of `listing/`, `decide/` and
`download/` and one segment. Its `truth` gives for each post the defect of its image, or `good`.
"""

import hashlib
import shutil
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from tests.curation.entries_fixture import (
    COLOURS,
    COPYRIGHTS,
    Entry,
    copied_entries,
    flawed_entries,
    good_entries,
)

DECISIONS = pa.schema(
    [
        pa.field("post_id", pa.int64(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("measured", pa.float64()),
        pa.field("threshold", pa.float64()),
    ]
)
TIME = pa.timestamp("ms", tz="UTC")
TAGS = pa.list_(pa.string())
VARIANT = pa.struct(
    [
        ("type", pa.string()),
        ("url", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("file_ext", pa.string()),
    ]
)
POSTS = pa.schema(
    [
        ("post_id", pa.int64()),
        ("created_at_utc", TIME),
        ("updated_at_utc", TIME),
        ("md5", pa.string()),
        ("pixel_hash", pa.string()),
        ("rating", pa.string()),
        ("image_width", pa.int32()),
        ("image_height", pa.int32()),
        ("file_ext", pa.string()),
        ("file_bytes", pa.int64()),
        ("duration_seconds", pa.float64()),
        ("parent_id", pa.int64()),
        ("has_children", pa.bool_()),
        ("is_pending", pa.bool_()),
        ("is_flagged", pa.bool_()),
        ("is_deleted", pa.bool_()),
        ("is_banned", pa.bool_()),
        ("score", pa.int32()),
        ("uploader_id", pa.int64()),
        ("source", pa.string()),
        ("tags_general", TAGS),
        ("tags_character", TAGS),
        ("tags_copyright", TAGS),
        ("tags_artist", TAGS),
        ("tags_meta", TAGS),
        ("variants", pa.list_(VARIANT)),
        ("given_label", pa.string()),
        ("given_split", pa.string()),
        ("given_group", pa.string()),
        ("licence", pa.string()),
    ]
)
IMAGES = pa.schema(
    [
        ("post_id", pa.int64()),
        ("segment", pa.string()),
        ("offset", pa.int64()),
        ("file_bytes", pa.int64()),
        ("sha256", pa.string()),
        ("md5", pa.string()),
        ("variant", pa.string()),
        ("file_ext", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)


@dataclass(frozen=True, slots=True)
class TinyData:
    """The data folder, the expected outcome of each post, and the original of each copy."""

    data_dir: Path
    work_dir: Path
    truth: dict[int, str]
    original: dict[int, int]


def _post(post_id: int, label: str, **changes: Any) -> dict[str, Any]:
    stamp = datetime(2024, 5, 1, tzinfo=UTC) + timedelta(hours=post_id)
    row: dict[str, Any] = dict.fromkeys(POSTS.names)
    row |= {
        "post_id": post_id,
        "created_at_utc": stamp,
        "updated_at_utc": stamp,
        "md5": hashlib.md5(str(post_id).encode()).hexdigest(),
        "pixel_hash": hashlib.md5(f"pixels {post_id}".encode()).hexdigest(),
        "rating": "g",
        "image_width": 900,
        "image_height": 900,
        "file_ext": "jpg",
        "file_bytes": 100_000,
        "has_children": False,
        "is_pending": False,
        "is_flagged": False,
        "is_deleted": False,
        "is_banned": False,
        "score": post_id % 10,
        "uploader_id": 1 + post_id % 3,
        "source": "",
        "tags_general": ["1girl", "solo"],
        "tags_character": [label] + (["coral"] if label == "coral_(winter)" else []),
        "tags_copyright": [COPYRIGHTS[label]],
        "tags_artist": [f"artist_{post_id % 5}"],
        "licence": f"CC BY {post_id % 3}.0",
        "tags_meta": ["highres"],
        "variants": [],
    }
    return row | changes


def _general_tags(post_id: int, *, white: bool) -> list[str]:
    """Every seventh post that is not white stands on checkers."""
    ground = ["white_background"] if white else ["checkered_background"] * (post_id % 7 == 0)
    return sorted(["1girl", "solo", *ground])


def _segment(path: Path, entries: list[Entry]) -> list[dict[str, Any]]:
    """Writes the bytes into one tar; returns the rows of images.parquet."""
    path.parent.mkdir(parents=True)
    rows = []
    with path.open("wb") as file:
        for entry in entries:
            info = tarfile.TarInfo(str(entry.post_id))
            info.size = len(entry.data)
            file.write(info.tobuf(tarfile.USTAR_FORMAT))
            rows.append(
                {
                    "post_id": entry.post_id,
                    "segment": path.name,
                    "offset": file.tell(),
                    "file_bytes": len(entry.data),
                    "sha256": hashlib.sha256(entry.data).hexdigest(),
                    "md5": hashlib.md5(entry.data).hexdigest(),
                    "variant": "180x180",
                    "file_ext": "jpg",
                    "width": entry.size[0],
                    "height": entry.size[1],
                }
            )
            file.write(entry.data + bytes(-len(entry.data) % 512))
        file.write(bytes(1024))
    return rows


def _decision(post_id: int, stage: str, reason: str | None = None) -> dict[str, Any]:
    return {"post_id": post_id, "stage": stage, "kept": reason is None, "reason": reason}


def write_rows(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Writes rows as a stage does: with a fixed schema, in the given order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")


def _listing(folder: Path, posts: list[dict[str, Any]]) -> None:
    write_rows(folder / "posts.parquet", sorted(posts, key=lambda row: row["post_id"]), POSTS)
    counts: dict[tuple[str, int], int] = {}
    for post in posts:
        for kind, category in (("general", 0), ("artist", 1), ("copyright", 3), ("character", 4)):
            for tag in post[f"tags_{kind}"]:
                counts[tag, category] = counts.get((tag, category), 0) + 1
    tags = [
        {"name": name, "category": category, "post_count": count}
        for (name, category), count in sorted(counts.items())
    ]
    names = [("name", pa.string()), ("category", pa.int8()), ("post_count", pa.int64())]
    write_rows(folder / "tags.parquet", tags, pa.schema(names))
    pair = pa.schema([("antecedent", pa.string()), ("consequent", pa.string())])
    implied = [{"antecedent": "coral_(winter)", "consequent": "coral"}]
    write_rows(folder / "implications.parquet", implied, pair)
    write_rows(folder / "aliases.parquet", [], pair)
    unreadable = _decision(5000, "listing", "malformed_post")
    write_rows(folder / "decisions.parquet", [unreadable], DECISIONS)


def _decide(folder: Path, kept: list[tuple[int, str, bool]], refused: dict[int, str]) -> None:
    rows = [_decision(post_id, "decide") for post_id, _, _ in kept]
    rows += [_decision(post_id, "decide", reason) for post_id, reason in refused.items()]
    write_rows(
        folder / "decisions.parquet", sorted(rows, key=lambda row: row["post_id"]), DECISIONS
    )
    base = {label: label.removesuffix("_(winter)") for label in COLOURS}
    named = [(name, pa.string()) for name in ("persona", "base", "base_source", "copyright")]
    schema = pa.schema([("post_id", pa.int64()), *named, ("white_background_tag", pa.bool_())])
    write_rows(
        folder / "kept.parquet",
        [
            {
                "post_id": post_id,
                "persona": label,
                "base": base[label],
                "base_source": "self" if base[label] == label else "implication",
                "copyright": COPYRIGHTS[label],
                "white_background_tag": white,
            }
            for post_id, label, white in sorted(kept)
        ],
        schema,
    )
    counted = [
        {
            "persona": label,
            "base": base[label],
            "copyright": COPYRIGHTS[label],
            "listed": sum(label == other for _, other, _ in kept) + len(refused),
            "kept": sum(label == other for _, other, _ in kept),
            "qualifies": True,
        }
        for label in sorted(COLOURS)
    ]
    text = [(name, pa.string()) for name in ("persona", "base", "copyright")]
    numbers = [("listed", pa.int64()), ("kept", pa.int64()), ("qualifies", pa.bool_())]
    write_rows(folder / "personae.parquet", counted, pa.schema(text + numbers))


def write_tiny(root: Path) -> TinyData:
    """Writes the small data folder to `root`, as the stages of the scraper would."""
    data_dir = root / "data"
    good = good_entries()
    copies, original = copied_entries(good)
    entries = sorted(good + copies + flawed_entries(), key=lambda entry: entry.post_id)
    refused = {5001: "comic", 5002: "hidden", 5003: "monochrome_tag", 5004: "not_solo"}
    gone = 5005
    posts = [
        _post(
            entry.post_id,
            entry.label,
            tags_general=_general_tags(entry.post_id, white=entry.white),
        )
        | entry.post
        for entry in entries
    ]
    posts += [_post(post_id, "amber", tags_general=["comic"]) for post_id in (*refused, gone)]
    _listing(data_dir / "listing", posts)
    kept = [(entry.post_id, entry.label, entry.white) for entry in entries]
    _decide(data_dir / "decide", [*kept, (gone, "amber", False)], refused)
    rows = _segment(data_dir / "download" / "segments" / "00000.tar", entries)
    write_rows(data_dir / "download" / "images.parquet", rows, IMAGES)
    stored = [_decision(entry.post_id, "download") for entry in entries]
    stored.append(_decision(gone, "download", "gone"))
    write_rows(data_dir / "download" / "decisions.parquet", stored, DECISIONS)
    return TinyData(
        data_dir, root / "work", {entry.post_id: entry.truth for entry in entries}, original
    )


@pytest.fixture(scope="session")
def _tiny_data_once(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny_data(_tiny_data_once: TinyData, tmp_path: Path) -> TinyData:
    """Returns a private copy of the small data folder with an empty `work_dir` and the truth."""
    shutil.copytree(_tiny_data_once.data_dir, tmp_path / "data")
    return TinyData(
        tmp_path / "data", tmp_path / "work", _tiny_data_once.truth, _tiny_data_once.original
    )


def curate(data: Path, work: Path) -> None:
    """Runs every stage of curation on a copy of the small data folder."""
    from curation import catalog, duplicates, filters, measure, persona, shards, split

    measure.run(measure.Params(workers=1), data_dir=data, work_dir=work)
    filters.run(filters.Params(), data_dir=data, work_dir=work)
    duplicates.run(duplicates.Params(workers=1), data_dir=data, work_dir=work)
    persona.run(persona.Params(min_samples=5, balance="none"), data_dir=data, work_dir=work)
    sides = split.Params(train=0.4, val=0.3, test=0.3, tolerance=1, seed=2)
    split.run(sides, data_dir=data, work_dir=work)
    shards.run(shards.Params(samples_per_shard=10), data_dir=data, work_dir=work)
    catalog.run(catalog.Params(), data_dir=data, work_dir=work)


@pytest.fixture(scope="session")
def _curated_once(_tiny_data_once: TinyData, tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    root = tmp_path_factory.mktemp("curated")
    data, work = root / "data", root / "work"
    shutil.copytree(_tiny_data_once.data_dir, data)
    curate(data, work)
    return TinyData(data, work, _tiny_data_once.truth, _tiny_data_once.original)


@pytest.fixture
def curated(_curated_once: TinyData, tmp_path: Path) -> TinyData:
    """Returns a private copy of the small data folder after every stage of curation."""
    shutil.copytree(_curated_once.data_dir, tmp_path / "curated")
    return TinyData(
        tmp_path / "curated", tmp_path / "work", _curated_once.truth, _curated_once.original
    )


@pytest.fixture
def drawing() -> Image.Image:
    """Returns an asymmetric image: a red corner at the top left, a green bar at the right."""
    image = Image.new("RGB", (120, 80), "white")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 39, 29), fill=(220, 20, 30))
    pen.rectangle((100, 20, 119, 79), fill=(20, 180, 60))
    pen.line((10, 70, 90, 40), fill="black", width=3)
    return image
