"""Shards, manifests and caches after an attack or a power failure: errors with a name."""

import io
import json
import sys
import tarfile

import numpy as np
import pytest

from personae import files
from personae.errors import BadDocument, BadShard, MissingInput
from train.data.images import open_data, open_split

TRAIN = "train-000000.tar"


def reseal(folder, shard_writer):
    """Writes the manifest for the present shards, so that only their content is wrong."""
    shard_writer[1](folder, json.loads((folder / "manifest.json").read_text())["shards"])


def append(path, member, content=b""):
    with tarfile.open(path, "a") as archive:
        archive.addfile(member, io.BytesIO(content))


def member(name, kind, **fields):
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.mark.parametrize(
    "info",
    [
        member("900.png", tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("900.png", tarfile.SYMTYPE, linkname="absent"),
        member("900.png", tarfile.LNKTYPE, linkname="absent"),
        member("900.png", tarfile.LNKTYPE, linkname="1.png"),
        member("900.png", tarfile.FIFOTYPE),
        member("900.png", tarfile.CHRTYPE),
        member("900.png", tarfile.DIRTYPE),
    ],
    ids=["symlink", "dangling", "hard link", "hard link inside", "fifo", "device", "folder"],
)
def test_members_that_are_no_files_are_refused(tiny_shards, shard_writer, tmp_path, info):
    """A link, a pipe, a device or a folder in a shard is refused by name."""
    append(tiny_shards / TRAIN, info)
    reseal(tiny_shards, shard_writer)

    with pytest.raises(BadShard, match=r"member '900\.png' is no regular file"):
        open_data(tiny_shards, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def lying_header(kind, size):
    """Returns one header block that claims `size` bytes, with no data after it."""
    info = tarfile.TarInfo("900.png")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def sparse_header():
    """Returns a sparse member of a few bytes that unpacks to a terabyte."""
    info = tarfile.TarInfo("900.png")
    info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}
    info.size = 1
    return info.tobuf(tarfile.PAX_FORMAT) + b"x".ljust(512, b"\0")


def bad_pax_record():
    info = tarfile.TarInfo("900.png")
    block = b"99999999 path=x\n".ljust(512, b"\0")
    info.type, info.size = tarfile.XHDTYPE, len(block)
    return info.tobuf(tarfile.USTAR_FORMAT) + block


@pytest.mark.parametrize(
    "blocks",
    [
        lying_header(tarfile.REGTYPE, 2**40),
        lying_header(tarfile.XHDTYPE, 2**40),
        lying_header(tarfile.GNUTYPE_LONGNAME, 2**40),
        lying_header(tarfile.REGTYPE, 2**62),
        sparse_header(),
        lying_header(tarfile.GNUTYPE_LONGNAME, 0) * 5000,
        b"",
    ],
    ids=["size", "pax size", "long name", "largest size", "sparse", "chain", "empty"],
)
def test_headers_that_lie_are_refused(tiny_shards, shard_writer, tmp_path, blocks):
    """A header that claims more data than the file has uses no memory and gives BadShard."""
    path = tiny_shards / TRAIN
    samples = path.read_bytes().rstrip(b"\0")
    whole = samples + b"\0" * (-len(samples) % 512)
    path.write_bytes(whole + blocks if blocks else b"")
    reseal(tiny_shards, shard_writer)

    with pytest.raises(
        BadShard, match=r"no readable tar|holds \d+ samples|has no image|too few for"
    ):
        open_data(tiny_shards, tmp_path / "cache")


def test_a_pax_record_that_lies_adds_no_sample(tiny_shards, shard_writer, tmp_path):
    """The shard is refused; tarfile of Python 3.11.2 reads it as if the record were not there."""
    path = tiny_shards / TRAIN
    before = len(open_data(tiny_shards, tmp_path / "before").train)
    samples = path.read_bytes().rstrip(b"\0")
    path.write_bytes(samples + b"\0" * (-len(samples) % 512) + bad_pax_record())
    reseal(tiny_shards, shard_writer)

    if sys.version_info >= (3, 11, 7):
        with pytest.raises(BadShard, match="no readable tar"):
            open_data(tiny_shards, tmp_path / "cache")
    else:
        assert before == len(open_data(tiny_shards, tmp_path / "cache").train)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".json", b"[]"),
        (".json", b"5"),
        (".json", b"null"),
        (".json", b'{"post_id": 1e999, "white_background": true}'),
        (".json", b'{"post_id": 123456789012345678901234567890, "white_background": true}'),
        (".json", b'{"post_id": [1], "white_background": true}'),
        (".json", b'{"post_id": 1, "white_background": "maybe"}'),
        (".json", b'{"post_id": ' + b"9" * 5000 + b', "white_background": true}'),
        (".json", b"[" * 100_000),
        (".json", b"\xff\xfe"),
        (".cls", b"\xff"),
        (".cls", b"1e999"),
        (".cls", b"9" * 5000),
        (".cls", b"123456789012345678901234567890"),
    ],
)
def test_records_of_another_shape_are_refused(tiny_shards, shard_writer, tmp_path, suffix, content):
    """A label or record of a wrong type, infinite or nested gives an error with the sample."""
    with tarfile.open(tiny_shards / TRAIN) as archive:
        members = [(info.name, archive.extractfile(info).read()) for info in archive]
    with tarfile.open(tiny_shards / TRAIN, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, original in members:
            changed = content if name == f"3{suffix}" else original
            info = tarfile.TarInfo(name)
            info.size = len(changed)
            archive.addfile(info, io.BytesIO(changed))
    reseal(tiny_shards, shard_writer)

    with pytest.raises(BadShard, match=r"Sample 3 of .*lacks a readable label or record"):
        open_data(tiny_shards, tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("manifest.json", {"shards": 5}, "shards"),
        ("manifest.json", {"shards": [5]}, "shards.0"),
        ("manifest.json", {"shards": [{"shard": TRAIN}]}, "shards.0.split"),
        ("manifest.json", {"image": []}, "image"),
        ("manifest.json", {"image": {"side": "16", "format": "png"}}, "image.side"),
        ("manifest.json", {"image": {"side": -16, "format": "png"}}, "image.side"),
        ("manifest.json", {"root_sha256": None}, "root_sha256"),
        ("manifest.json", {"version": 2}, "version"),
        ("classes.json", {"labels": 4}, "labels"),
        ("classes.json", {"labels": [1, 2, 3, 4]}, "labels.0"),
        ("classes.json", {"labels": []}, "labels"),
    ],
)
def test_index_of_another_shape_is_refused(tiny_shards, tmp_path, name, change, field):
    """A manifest or class list with a wrong field gives an error with file, field and command."""
    path = tiny_shards / name
    files.write_json(path, json.loads(path.read_text()) | change)

    with pytest.raises(
        BadDocument, match=rf"{name} (is damaged: '{field}|has {field} 2;)"
    ) as caught:
        open_data(tiny_shards, tmp_path / "cache")
    assert "stage 'shards' again" in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "5", "[" * 100_000, "null", "1e999", ""])
def test_index_that_is_no_mapping_is_refused(tiny_shards, tmp_path, content):
    """A manifest that is not a JSON mapping counts as a missing input."""
    (tiny_shards / "manifest.json").write_text(content, encoding="utf-8")

    with pytest.raises(MissingInput, match="stage 'shards'"):
        open_data(tiny_shards, tmp_path / "cache")


def truncated(path):
    path.write_bytes(path.read_bytes()[:-7])


def emptied(path):
    path.write_bytes(b"")


def zeroed(path):
    path.write_bytes(bytes(len(path.read_bytes())))


def shortened(path):
    np.save(path, np.load(path)[1:])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["images", "labels", "post_ids", "white"])
@pytest.mark.parametrize(
    "damage", [truncated, emptied, zeroed, shortened, flipped, lambda p: p.unlink()]
)
def test_damaged_cache_is_decoded_again(tiny_shards, tmp_path, name, damage, caplog):
    """A truncated, empty or zeroed cache file is rebuilt from the shards."""
    cache = tmp_path / "cache"
    before = open_split(tiny_shards, cache, "val")
    pixels, labels = np.array(before.images), before.labels.copy()
    del before
    (folder,) = cache.iterdir()
    damage(folder / f"{name}.npy")
    again = open_split(tiny_shards, cache, "val")

    assert (pixels == again.images).all()
    assert (labels == again.labels).all()
    assert "decoding the shards again" in caplog.text
    assert [folder] == [*cache.iterdir()]


def test_unfinished_cache_of_a_killed_process_is_removed(tiny_shards, tmp_path):
    """A folder that a killed process left is removed; that of a running process stays."""
    cache = tmp_path / "cache"
    left, held = cache / "val-0.1.part", cache / "val-0.2.part"
    for folder in (left, held):
        folder.mkdir(parents=True)
        (folder / "images.npy.part").write_bytes(b"x")
    with files.locked(held):
        open_split(tiny_shards, cache, "val")

    assert not left.exists()
    assert held.exists()
