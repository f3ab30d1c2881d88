"""Tests the command `get`: it extracts one image from its shard; no stored name becomes a path."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation import catalog, sample
from curation.__main__ import main
from curation.documents import ManifestDocument
from personae.catalog import connect
from personae.errors import BadDocument, BadParams, MissingInput

KEY = 1000


def test_get_writes_the_image_of_a_sample(curated, tmp_path: Path, capsys) -> None:
    """`get` reads the image at its offset in the shard; its side length is that of `measure`."""
    output = tmp_path / "image.png"
    code = main(["get", "1000", "--data", str(curated.data_dir), "-o", str(output)])
    with Image.open(output) as image:
        size = image.size

    assert 0 == code
    assert (48, 48) == size
    assert f"{output}: {output.stat().st_size} bytes" in capsys.readouterr().out
    assert 5 == main(["get", "5", "--data", str(curated.data_dir)])
    assert "No sample has the key 5" in capsys.readouterr().err


def test_get_writes_to_standard_output(curated) -> None:
    """With `-o -`, `get` writes only the bytes of the image to standard output."""
    command = [sys.executable, "-m", "curation", "get", "1000", "-o", "-"]
    done = subprocess.run(
        [*command, "--data", str(curated.data_dir)], check=True, capture_output=True
    )

    assert sample.stored_bytes(curated.data_dir, 1000) == done.stdout


@pytest.mark.skipif(
    os.geteuid() != 0 and not os.access("/dev/full", os.W_OK), reason="no /dev/full"
)
def test_full_disk_is_exit_3(curated, tmp_path: Path, capsys) -> None:
    """A full disk is exit code 3, and the error says that the same command can be run again."""
    (tmp_path / "full.png.part").symlink_to("/dev/full")
    code = main(["get", "1000", "--data", str(curated.data_dir), "-o", str(tmp_path / "full.png")])

    assert 3 == code
    assert "No space left on device. Free space" in capsys.readouterr().err


def test_path_that_cannot_be_written_is_exit_3(curated, tmp_path: Path, capsys) -> None:
    """If a folder of the output path is a file, the command ends with exit code 3 and one line."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "x.png"
    code = main(["get", "1000", "--data", str(curated.data_dir), "-o", str(path)])

    assert 3 == code
    error = capsys.readouterr().err
    assert "could not be read or written: File exists. Check the path" in error
    assert "space" not in error


@pytest.mark.parametrize("command", [["get", "1000", "-o"], ["query", "FROM posts", "--parquet"]])
def test_folder_as_output_is_exit_2(curated, tmp_path: Path, capsys, command) -> None:
    """A folder where the name of a file is needed is wrong usage, and the message says so."""
    code = main([*command, f"{tmp_path}/", "--data", str(curated.data_dir)])

    assert 2 == code
    assert f"{tmp_path} is a folder, and the name of a file is needed" in capsys.readouterr().err


@pytest.fixture
def inside(curated, tmp_path: Path, monkeypatch) -> Path:
    """Returns the shards of the small data folder; the current folder lies below `tmp_path`."""
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return curated.data_dir / "shards"


def row_of(folder: Path) -> dict[str, Any]:
    """Returns the row of the sample in samples.parquet."""
    rows = pq.read_table(folder / "samples.parquet").to_pylist()
    return next(row for row in rows if row["post_id"] == KEY)


def edit_row(folder: Path, **values: Any) -> None:
    """Changes the row of the sample in samples.parquet."""
    path = folder / "samples.parquet"
    table = pq.read_table(path)
    rows = [row | (values if row["post_id"] == KEY else {}) for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def edit_shard(folder: Path, *, name: str | None = None, kind: bytes = b"", **data: bytes) -> None:
    """Changes the image's member and updates checksum and manifest, as an attacker would."""
    row = row_of(folder)
    path = folder / row["shard"]
    content = bytearray(path.read_bytes())
    start = row["offset"]
    member = tarfile.TarInfo.frombuf(bytes(content[start : start + 512]), "ascii", "strict")
    member.name = member.name if name is None else name
    member.type = kind or member.type
    content[start : start + 512] = member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    for image in data.values():
        content[start + 512 : start + 512 + len(image)] = image
    path.write_bytes(content)
    seal(folder, path)


def seal(folder: Path, path: Path) -> None:
    """Updates the manifest to match a changed shard."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["shards"]:
        if entry["shard"] == path.name:
            entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def everything(root: Path) -> dict[Path, bytes]:
    """Returns every file below a folder with its bytes."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_default_name_is_key_and_format(inside: Path, capsys) -> None:
    """Without -o, the image goes to KEY.png in the current folder."""
    assert 0 == main(["get", str(KEY), "--data", str(inside.parent)])
    assert capsys.readouterr().out.startswith(f"{KEY}.png: ")
    assert [f"{KEY}.png"] == [path.name for path in Path.cwd().iterdir()]


@pytest.mark.parametrize(
    ("kind", "extension"), [("PNG", "png"), ("WEBP", "webp"), ("JPEG", "jpg"), ("GIF", None)]
)
def test_extension_is_that_of_the_bytes(kind: str, extension: str | None) -> None:
    """The first bytes decide the extension; formats that `measure` never writes are refused."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, kind)
    if extension is None:
        with pytest.raises(sample.TamperedData, match="no PNG, WebP or JPEG"):
            sample.extension_of(file.getvalue(), KEY)
    else:
        assert extension == sample.extension_of(file.getvalue(), KEY)


def flip_a_bit(folder: Path) -> None:
    """Flips one bit of the image and leaves the manifest unchanged."""
    row = row_of(folder)
    data = bytearray((folder / row["shard"]).read_bytes())
    data[row["image_offset"] + 60] ^= 1
    (folder / row["shard"]).write_bytes(data)


ATTACKS = {
    "relative name": lambda folder: edit_shard(folder, name="../../../x.png"),
    "absolute name": lambda folder: edit_shard(folder, name=f"{folder.parent}/x.png"),
    "dots as name": lambda folder: edit_shard(folder, name=".."),
    "folder in name": lambda folder: edit_shard(folder, name=f"a/{KEY}.png"),
    "empty name": lambda folder: edit_shard(folder, name=""),
    "name of another sample": lambda folder: edit_shard(folder, name="1007.png"),
    "program as name": lambda folder: edit_shard(folder, name=f"{KEY}.py"),
    "link": lambda folder: edit_shard(folder, kind=tarfile.SYMTYPE),
    "no image": lambda folder: edit_shard(folder, image=b"#!/bin/sh\n"),
    "negative offset": lambda folder: edit_row(folder, offset=-512, image_offset=0),
    "offset between blocks": lambda folder: edit_row(folder, offset=7, image_offset=519),
    "offset after the end": lambda folder: edit_row(
        folder, offset=1 << 40, image_offset=(1 << 40) + 512
    ),
    "offset of the image elsewhere": lambda folder: edit_row(folder, image_offset=0),
    "negative size": lambda folder: edit_row(folder, image_bytes=-1),
    "larger size": lambda folder: edit_row(folder, image_bytes=1 << 40),
    "smaller size": lambda folder: edit_row(folder, image_bytes=10),
    "shard elsewhere": lambda folder: edit_row(folder, shard="../split/split.parquet"),
    "shard by absolute path": lambda folder: edit_row(folder, shard="/etc/passwd"),
    "shard that is not listed": lambda folder: edit_row(folder, shard="train-000099.tar"),
    "no shard": lambda folder: edit_row(folder, shard=None),
    "no offset": lambda folder: edit_row(folder, offset=None),
    "two rows": lambda folder: pq.write_table(
        pa.concat_tables([pq.read_table(folder / "samples.parquet")] * 2),
        folder / "samples.parquet",
    ),
    "image changed": flip_a_bit,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_crafted_data_set_is_refused_and_nothing_is_written(
    inside: Path, tmp_path: Path, capsys, attack: str
) -> None:
    """A crafted name, offset, size or image gives exit code 5, one line, and no new file."""
    ATTACKS[attack](inside)
    before = everything(tmp_path)
    code = main(["get", str(KEY), "--data", str(inside.parent)])
    err = capsys.readouterr().err

    assert 5 == code
    assert err.startswith(f"error: The image of sample {KEY} cannot be trusted: ")
    assert 1 == len(err.splitlines())
    assert before == everything(tmp_path)


def test_manifest_cannot_name_a_file_elsewhere(inside: Path) -> None:
    """A manifest with a path as a shard name is a BadDocument error."""
    manifest = json.loads((inside / "manifest.json").read_text())
    manifest["shards"][0]["shard"] = "../../../x.tar"
    (inside / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(BadDocument, match=r"'shards\.0\.shard' is '\.\./"):
        ManifestDocument.read(inside / "manifest.json")


@pytest.fixture
def originals(curated) -> Path:
    """Gives five samples an original: two files with like names, an address, a tile, a name of Latin-1."""
    path = curated.data_dir / "listing" / "posts.parquet"
    urls = {1000: "folder:a%20b/%E2%9C%93%23.png", 1007: "folder:c/a%20b/%E2%9C%93%23.png"}
    urls |= {1021: "/original/aa/bb/aabb.jpg", 1035: "folder:sheet.png#5"}
    urls |= {1049: "folder:caf%E9/1.png"}
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row in rows:
        if row["post_id"] in urls:
            size = {"width": 9, "height": 9, "file_ext": "png"}
            row["variants"] = [{"type": "original", "url": urls[row["post_id"]], **size}]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    return curated.data_dir


@pytest.mark.parametrize(
    ("key", "post_id"),
    [
        ("1000", 1000),
        ("1000.png", 1000),
        ("1000.json", 1000),
        ("a b/✓#.png", 1000),
        ("c/a b/✓#.png", None),
        ("/home/me/a b/✓#.png", 1000),
        ("/original/aa/bb/aabb.jpg", 1021),
        ("folder:c/a%20b/%E2%9C%93%23.png", 1007),
        ("sheet.png#5", 1035),
        (os.fsdecode(b"caf\xe9/1.png"), 1049),
    ],
)
def test_get_takes_the_original(originals: Path, tmp_path: Path, key: str, post_id) -> None:
    """`get` takes a post id, a member of a shard, and the path or address of the original."""
    if post_id is None:
        with pytest.raises(BadParams, match=r"fits the originals of the posts 1000, 1007"):
            sample.post_id_of(originals, key)
        return
    output = tmp_path / "image.png"

    assert post_id == sample.post_id_of(originals, key)
    assert 0 == main(["get", key, "--data", str(originals), "-o", str(output)])
    assert output.read_bytes() == sample.stored_bytes(originals, post_id)


def test_get_looks_an_original_up_in_the_catalog(originals: Path) -> None:
    """The listing, which is long, is not read where the catalog has the original."""
    catalog.run(catalog.Params(), data_dir=originals, work_dir=originals)
    (originals / "listing" / "posts.parquet").unlink()

    assert 1007 == sample.post_id_of(originals, "folder:c/a%20b/%E2%9C%93%23.png")
    with pytest.raises(MissingInput, match=r"No listed post has the key"):
        sample.post_id_of(originals, "/preview/aa/bb/aabb.jpg")
    (originals / "catalog" / "catalog.duckdb").unlink()
    with pytest.raises(MissingInput, match=r"posts\.parquet is absent"):
        sample.post_id_of(originals, "/preview/aa/bb/aabb.jpg")


def test_get_of_an_unknown_original_is_named(originals: Path, capsys) -> None:
    """An unknown path gives exit code 5 and the query that lists every original."""
    assert 5 == main(["get", "no/such.png", "--data", str(originals)])
    error = capsys.readouterr().err
    assert "No listed post has the key or the original file 'no/such.png'" in error
    assert error.endswith('\n  python -m curation query "FROM posts" --csv\n')


def test_catalog_has_the_original_of_every_sample(originals: Path) -> None:
    """Path or address of the original, source, artist and rating of each sample are columns."""
    catalog.run(catalog.Params(), data_dir=originals, work_dir=originals)
    with connect(originals / "catalog" / "catalog.duckdb") as connection:
        rows = connection.execute(
            "SELECT post_id, original_path, original_url, artist, rating, source_url FROM dataset "
            "WHERE original_url IS NOT NULL ORDER BY post_id"
        ).fetchall()

    assert ["a b/✓#.png", "c/a b/✓#.png", None, "sheet.png#5", None] == [row[1] for row in rows]
    assert rows[2][:3] == (1021, None, "/original/aa/bb/aabb.jpg")
    assert {"g"} == {row[4] for row in rows}
    assert all(row[3].startswith("artist_") for row in rows)
