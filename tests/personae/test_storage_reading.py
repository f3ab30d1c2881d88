"""Tests builds that are read at a URL: the same samples as from the folder, in a bounded cache."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from personae import Dataset
from personae.build import stream
from personae.build.index import read_index
from personae.errors import BadDocument, BadParams, BadShard, BadStorage, MissingInput
from personae.storage import copies
from personae.storage.address import Address
from personae.storage.build import RemoteBuild, RemoteShards
from personae.storage.store import RemoteStore
from tests.storage_server import MARKS, write_build
from tests.storage_server import _server as _server  # noqa: PLC0414  # a fixture of a fixture
from tests.storage_server import server as server  # noqa: PLC0414  # a fixture

pytestmark = MARKS
LOCK_OUT = """
import sys
for name in ("s3fs", "fsspec"):
    sys.modules[name] = None
from pathlib import Path
from personae.errors import MissingPackage
from personae.storage.build import RemoteBuild
try:
    RemoteBuild.open("s3://bucket/a", Path("."))
except MissingPackage as error:
    print(error)
"""


def streamed(build: RemoteBuild, split: str = "train") -> stream.Streamed:
    """Returns the images of a split of a build at a URL."""
    index = read_index(build.shards_dir, files=RemoteShards(build))
    return stream.open_rows(index.split(split), index.manifest)[0]


def local(folder: Path, split: str = "train") -> stream.Streamed:
    """Returns the images of a split in a data folder."""
    index = read_index(folder / "shards")
    return stream.open_rows(index.split(split), index.manifest)[0]


def cached_bytes(folder: Path) -> int:
    """Returns the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_whole_shards_are_fetched_once(server, tmp_path):
    """With room for all, each shard is one request, and a second reader makes none."""
    data = write_build(tmp_path / "data")
    copies.push(data, server.target)
    expected = local(data)[:]
    server.requests.clear()
    images = streamed(RemoteBuild.open(server.target, tmp_path / "cache"))
    rows = np.random.default_rng(0).permutation(len(images))

    assert np.array_equal(expected[rows], images[rows])
    assert 1 == sum("train" in key for kind, key, _ in server.requests if kind == "GetObject")
    again = streamed(RemoteBuild.open(server.target, tmp_path / "cache"))
    server.requests.clear()
    assert np.array_equal(expected, again[:])
    assert [] == server.requests


def test_small_cache_reads_single_images(server, tmp_path):
    """A cache without room for the shard gives the same images, by ranges, within its bound."""
    data = write_build(tmp_path / "data")
    copies.push(data, server.target)
    bound = 20_000
    assert (data / "shards" / "train-000000.tar").stat().st_size > bound
    build = RemoteBuild.open(server.target, tmp_path / "cache", cache_bytes=bound)
    images = pickle.loads(pickle.dumps(streamed(build)))
    server.requests.clear()

    assert np.array_equal(local(data)[:], images[:])
    spans = [span for kind, key, span in server.requests if kind == "GetObject" and "train" in key]
    assert len(images) == len(set(spans))
    assert cached_bytes(tmp_path / "cache") <= bound


def test_changed_image_is_refused(server, tmp_path):
    """An image that is read by itself is compared with its own sha256."""
    data = write_build(tmp_path / "data")
    copies.push(data, server.target)
    images = streamed(RemoteBuild.open(server.target, tmp_path / "cache", cache_bytes=20_000))
    store = RemoteStore(Address.parse(server.target))
    name = next(name for name in store.sizes() if "train-000000" in name)
    content = bytearray(server.path(name).read_bytes())
    content[int(images.offset[3]) + 50] ^= 1
    store.write(name, bytes(content))

    assert images.encoded(2) == local(data).encoded(2)
    with pytest.raises(BadStorage, match="does not have its sha256: the storage holds other bytes"):
        images.encoded(3)


def test_evicted_shard_is_read_elsewhere(server, tmp_path):
    """A shard that another process has evicted while it is read costs requests, and no error."""
    data = write_build(tmp_path / "data")
    copies.push(data, server.target)
    images = streamed(RemoteBuild.open(server.target, tmp_path / "cache"))
    images.encoded(0)
    for path in (tmp_path / "cache").rglob("*.tar"):
        path.unlink()

    assert local(data).encoded(1) == images.encoded(1)


def test_damaged_cache_is_fetched_again(server, tmp_path):
    """`verified` compares the cached shard with the manifest, and fetches it again if it differs."""
    data = write_build(tmp_path / "data")
    copies.push(data, server.target)
    build = RemoteBuild.open(server.target, tmp_path / "cache")
    index = read_index(build.shards_dir, files=RemoteShards(build))
    entry = index.manifest.shards[0]
    path = index.files.verified(entry)
    path.write_bytes(b"?" * path.stat().st_size)

    assert (data / "shards" / entry.shard).read_bytes() == index.files.verified(entry).read_bytes()


def test_dataset_at_a_url_is_that_of_the_folder(server, tmp_path):
    """`Dataset(URL)` has the samples, pixels and hash of the folder, and says where it came from."""
    data = write_build(tmp_path / "data")
    copies.push(data, server.target)
    there = Dataset(server.target, cache_dir=tmp_path / "cache")
    here = Dataset(data)

    assert here.sha256 == there.sha256
    assert [sample.post_id for sample in here] == [sample.post_id for sample in there]
    assert here[5].encoded == there[5].encoded
    assert server.target in repr(there)
    with pytest.raises(MissingInput, match=r"has no catalog/catalog\.duckdb"):
        there.query("SELECT 1")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"version": 2}, BadDocument, "has version 2"),
        ({"files": 3}, BadDocument, "'files' is 3"),
        ({"path": "shards/../../up"}, BadDocument, "'files.0.path' is"),
        ({"path": "/etc/passwd"}, BadDocument, "'files.0.path' is"),
        ({"path": "shards/classes.json"}, BadDocument, "stands in the list twice"),
        ({"sha256": "0" * 63}, BadDocument, "'files.0.sha256' is"),
        ({"bytes": -1}, BadDocument, "'files.0.bytes' is"),
        ({"bytes": 10**12}, BadParams, "cache .* may hold"),
    ],
)
def test_hostile_index_is_refused(server, tmp_path, change, error, message):
    """An index that leads out of the cache, or lies about sizes, ends in a named error."""
    data = write_build(tmp_path / "data")
    copies.push(data, server.target)
    store = RemoteStore(Address.parse(server.target))
    index = json.loads(server.path("personae.json").read_text())
    if set(change) <= {"version", "files"}:
        index |= change
    else:
        index["files"].sort(key=lambda file: "manifest" not in file["path"])
        index["files"][0] |= change
    store.write("personae.json", json.dumps(index).encode())
    with pytest.raises(error, match=message):
        RemoteBuild.open(server.target, tmp_path / "cache").shards_dir  # noqa: B018  # it fetches

    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_index_and_manifest_must_agree(server, tmp_path):
    """A shard whose hash in the index is not that of the manifest is refused before it is read."""
    data = write_build(tmp_path / "data")
    copies.push(data, server.target)
    build = RemoteBuild.open(server.target, tmp_path / "cache")
    index = read_index(build.shards_dir, files=RemoteShards(build))
    entry = index.manifest.shards[0].model_copy(update={"sha256": "0" * 64})

    with pytest.raises(
        BadShard, match=r"says another sha256 of train-000000\.tar than the manifest"
    ):
        index.files.verified(entry)


def test_missing_extra_names_its_command(tmp_path):
    """Without the packages, the error says how to install them."""
    done = subprocess.run(
        [sys.executable, "-c", LOCK_OUT], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    assert "pip install 'personae[s3]'" in done.stdout


@pytest.mark.parametrize(
    "url",
    [
        "s3://user:hunter2@bucket/a",
        "s3://hunter2@bucket",
        "s3://bucket/a?key=hunter2",
        "s3://bucket/a#hunter2",
        "user:hunter2@bucket",
        "s3://",
        "file:///",
        "simplecache::s3://bucket/a",
    ],
)
def test_url_with_more_than_an_address_is_refused(url):
    """Credentials in a URL are refused, and the error does not repeat them."""
    with pytest.raises(BadParams) as caught:
        Address.parse(url)

    assert "hunter2" not in str(caught.value)


def test_unknown_scheme_is_named():
    """A scheme without a file system is a wrong parameter."""
    with pytest.raises(BadParams, match="fsspec knows no storage 'nowhere'"):
        RemoteStore(Address.parse("nowhere://a/b")).sizes()
