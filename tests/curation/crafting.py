"""
Tools that craft a data set: each returns a function that changes a folder of sound shards.

They work as an attacker would: `seal` writes a manifest whose hashes and sizes fit, so that only the
content is wrong.
"""

import hashlib
import io
import json
import os
import random
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, PngImagePlugin

SHARD = "train-000000.tar"
BLOCK = 512
Craft = Callable[[Path], None]


def seal(folder: Path) -> None:
    """Writes hashes and sizes of the present files into the manifest."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for entry in manifest["shards"]:
        shard = folder / entry["shard"]
        if shard.is_file():
            entry["sha256"] = hashlib.sha256(shard.read_bytes()).hexdigest()
            entry["bytes"] = shard.stat().st_size
    lines = sorted((entry["shard"], entry["sha256"]) for entry in manifest["shards"])
    text = "".join(f"{sha256}  {name}\n" for name, sha256 in lines)
    manifest["root_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    for name in manifest["files"]:
        if (folder / name).is_file():
            manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(manifest))


def first_row(folder: Path) -> dict[str, Any]:
    """Returns the row of the first sample of the shard."""
    rows = pq.read_table(folder / "samples.parquet").to_pylist()
    return min((row for row in rows if row["shard"] == SHARD), key=lambda row: row["offset"])


def members(folder: Path) -> list[tuple[str, bytes]]:
    """Returns name and content of each member of the shard."""
    with tarfile.open(folder / SHARD) as archive:
        return [(info.name, archive.extractfile(info).read()) for info in archive]


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: Any) -> bytes:
    """Returns header and data of a member as one that lies would have them."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    form = tarfile.PAX_FORMAT if info.pax_headers else tarfile.GNU_FORMAT
    return info.tobuf(form) + content + bytes(-len(content) % BLOCK)


def replaced(suffix: str, build: Callable[[str, bytes], bytes]) -> Craft:
    """Replaces the first member with `suffix` by the bytes of `build(name, content)`."""

    def craft(folder: Path) -> None:
        parts, is_done = [], False
        for name, content in members(folder):
            if name.endswith(suffix) and not is_done:
                parts.append(build(name, content))
                is_done = True
            else:
                parts.append(member(name, content))
        data = b"".join(parts)
        end = bytes(2 * BLOCK + -(len(data) + 2 * BLOCK) % tarfile.RECORDSIZE)
        (folder / SHARD).write_bytes(data + end)
        seal(folder)

    return craft


def content(suffix: str, data: bytes) -> Craft:
    """Gives the first member with `suffix` another content."""
    return replaced(suffix, lambda name, _: member(name, data))


def header(**fields: Any) -> Craft:
    """Changes fields of the header of the first image; the data stays."""

    def build(name: str, data: bytes) -> bytes:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for field, value in fields.items():
            setattr(info, field, value)
        return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % BLOCK)

    return replaced(".png", build)


def raw_header(position: int, value: bytes) -> Craft:
    """Overwrites bytes of the first header, and makes its checksum fit."""

    def craft(folder: Path) -> None:
        data = bytearray((folder / SHARD).read_bytes())
        data[position : position + len(value)] = value
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:BLOCK])
        (folder / SHARD).write_bytes(data)
        seal(folder)

    return craft


def image(build: Callable[[Image.Image], bytes]) -> Craft:
    """Replaces the first image by bytes that are made from it."""

    def change(name: str, data: bytes) -> bytes:
        return member(name, build(Image.open(io.BytesIO(data)).convert("RGB")))

    return replaced(".png", change)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def large_text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("bomb", "x" * 10_000_000, zip=True)
    return info


def giant(picture: Image.Image) -> bytes:
    """Returns a PNG file whose header claims four billion pixels."""
    data = bytearray(encoded(picture))
    data[16:24] = (65_535).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def cut(share: float) -> Craft:
    """Cuts the shard short."""

    def craft(folder: Path) -> None:
        path = folder / SHARD
        os.truncate(path, int(path.stat().st_size * share))
        seal(folder)

    return craft


def flipped(number: int) -> Craft:
    """Flips one bit of the shard's samples, where no manifest is sealed again."""

    def craft(folder: Path) -> None:
        path = folder / SHARD
        data = bytearray(path.read_bytes())
        data[random.Random(number).randrange(len(data.rstrip(b"\0")))] ^= 1 << number % 8
        path.write_bytes(data)

    return craft


def manifest(*keys: Any, value: Any) -> Craft:
    """Changes one value of the manifest."""

    def craft(folder: Path) -> None:
        path = folder / "manifest.json"
        document = json.loads(path.read_text())
        part = document
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        path.write_text(json.dumps(document))

    return craft


def written(name: str, text: str | bytes) -> Craft:
    """Writes a file of the data set anew."""

    def craft(folder: Path) -> None:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        if name != "manifest.json":
            seal(folder)

    return craft


def replaced_text(name: str, before: str, after: str) -> Craft:
    """Replaces a part of a file's text that the JSON module would not write."""

    def craft(folder: Path) -> None:
        text = (folder / name).read_text()
        assert before in text
        (folder / name).write_text(text.replace(before, after, 1))

    return craft


def column(
    name: str, change: Callable[[list[Any]], list[Any]], kind: pa.DataType | None = None
) -> Craft:
    """Changes one column of samples.parquet."""

    def craft(folder: Path) -> None:
        path = folder / "samples.parquet"
        table = pq.read_table(path)
        index = table.schema.get_field_index(name)
        values = pa.array(change(table[name].to_pylist()), kind or table.schema.field(index).type)
        pq.write_table(table.set_column(index, name, values), path)
        seal(folder)

    return craft


def first(value: Any) -> Callable[[list[Any]], list[Any]]:
    """Returns a change that puts `value` into every row."""
    return lambda values: [value] * len(values)


def table(build: Callable[[pa.Table], pa.Table]) -> Craft:
    """Changes samples.parquet as a whole."""

    def craft(folder: Path) -> None:
        path = folder / "samples.parquet"
        pq.write_table(build(pq.read_table(path)), path)
        seal(folder)

    return craft


def linked(name: str, target: str) -> Craft:
    """Replaces a file by a link to something that is no file of the data set."""

    def craft(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return craft


def pipe(name: str) -> Craft:
    def craft(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return craft


def before_first(data: bytes) -> Craft:
    """Puts bytes before the first member."""

    def craft(folder: Path) -> None:
        path = folder / SHARD
        path.write_bytes(data + path.read_bytes())
        seal(folder)

    return craft


def added(data: bytes) -> Craft:
    """Puts bytes after the last member."""

    def craft(folder: Path) -> None:
        path = folder / SHARD
        samples = path.read_bytes().rstrip(b"\0")
        whole = samples + bytes(-len(samples) % BLOCK) + data
        path.write_bytes(whole + bytes(2 * BLOCK + -(len(whole) + 2 * BLOCK) % tarfile.RECORDSIZE))
        seal(folder)

    return craft


def pax(**records: str) -> Craft:
    return replaced(".png", lambda name, data: member(name, data, pax_headers=records))


def lying(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("9.png")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def shard_twice(folder: Path) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    document["shards"].append(document["shards"][0])
    path.write_text(json.dumps(document))
    seal(folder)
