"""Tests push and pull against a real S3 server: what is sent, what a kill leaves, what readers see."""

import filecmp
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personae.errors import BadParams, BadShard, BadStorage, MissingInput
from personae.storage import copies
from personae.storage.address import Address
from personae.storage.build import RemoteBuild
from personae.storage.store import RemoteStore
from tests.storage_server import MARKS, write_build
from tests.storage_server import _server as _server  # noqa: PLC0414  # a fixture of a fixture
from tests.storage_server import server as server  # noqa: PLC0414  # a fixture

pytestmark = MARKS
PART = 64 << 10
PUSH = (
    "import sys; from pathlib import Path; from personae.storage import copies;"
    f"copies.push(Path(sys.argv[1]), sys.argv[2], part_bytes={PART})"
)


def same(one: Path, other: Path) -> bool:
    """Returns whether two data folders have the same files."""
    names = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    there = [path.relative_to(other) for path in other.rglob("*") if path.is_file()]
    return sorted(names) == sorted(there) and all(
        filecmp.cmp(one / name, other / name, shallow=False) for name in names
    )


def test_push_and_pull_give_the_same_files(server, tmp_path):
    """A pull into an empty folder equals the folder pushed; both copy nothing a second time."""
    data = write_build(tmp_path / "data", segment_bytes=5 * PART)
    first = copies.push(data, server.target, part_bytes=PART)
    parts = server.counts()["UploadPart"]
    again = copies.push(data, server.target, part_bytes=PART)
    pulled = copies.pull(server.target, tmp_path / "copy")

    assert (8, 8) == (first.files, first.sent)
    assert 6 + 2 == parts  # the segment has a bit more than five parts, the largest shard than one
    assert (8, 0, 0) == (again.files, again.sent, again.sent_bytes)
    assert 7 == pulled.sent  # all but the digests of the images
    assert same(data, tmp_path / "copy")
    assert 0 == copies.pull(server.target, tmp_path / "copy").sent


def test_killed_push_continues_with_its_parts(server, tmp_path):
    """After a SIGKILL in the fourth part, the next push sends that part and those after it alone."""
    data = write_build(tmp_path / "data", segment_bytes=7 * PART)
    reached, parts = threading.Event(), []

    def hang(kind: str, key: str) -> threading.Event | None:
        if kind == "UploadPart" and "segments" in key:
            parts.append(key)
            return reached if len(parts) == 4 else None
        return None

    server.fault = hang
    with subprocess.Popen([sys.executable, "-c", PUSH, str(data), server.target]) as child:
        assert reached.wait(30)
        os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(MissingInput, match=r"holds no build: personae\.json is absent"):
        RemoteBuild.open(server.target, tmp_path / "cache")
    server.fault = lambda _kind, _key: None
    server.requests.clear()
    copies.push(data, server.target, part_bytes=PART)
    sent = [key for kind, key, _ in server.requests if kind == "UploadPart" and "segments" in key]

    assert 5 == len(sent)  # of eight
    assert ("CreateMultipartUpload", sent[0], "") not in server.requests
    copies.pull(server.target, tmp_path / "copy")
    assert same(data, tmp_path / "copy")


def test_upload_with_other_bytes_is_given_up(server, tmp_path):
    """Stored parts are kept for their MD5, not for their numbers: a wrong one ends that upload."""
    data = write_build(tmp_path / "data", segment_bytes=3 * PART)
    store = RemoteStore(Address.parse(server.target))
    segment = data / "download" / "segments" / "000000.tar"
    sha256 = hashlib.sha256(segment.read_bytes()).hexdigest()
    name = f"download/segments/000000-{sha256[:16]}.tar"
    upload = store.call("create_multipart_upload", name)["UploadId"]
    for number, content in enumerate((segment.read_bytes()[:PART], b"y" * PART), 1):
        store.call("upload_part", name, PartNumber=number, Body=content, UploadId=upload)
    server.requests.clear()
    copies.push(data, server.target, part_bytes=PART)
    sent = [key for kind, key, _ in server.requests if kind == "UploadPart" and key.endswith(name)]

    assert 4 == len(sent)
    copies.pull(server.target, tmp_path / "copy")
    assert same(data, tmp_path / "copy")


def test_reader_sees_the_old_build_until_the_push_ends(server, tmp_path):
    """A build that is open stays readable during and after a push; a new reader gets the new one."""
    old, new = write_build(tmp_path / "old"), write_build(tmp_path / "new", seed=1)
    copies.push(old, server.target)
    roots = [json.loads((each / "shards/manifest.json").read_text()) for each in (old, new)]
    early = RemoteBuild.open(server.target, tmp_path / "cache")
    during = []

    def look(kind: str, key: str) -> None:
        if kind == "PutObject":
            index = json.loads(server.path("personae.json").read_text())
            during.append(index["root_sha256"])

    server.fault = look
    copies.push(new, server.target)
    server.fault = lambda _kind, _key: None
    late = RemoteBuild.open(server.target, tmp_path / "cache")

    assert {roots[0]["root_sha256"]} == set(during)
    assert roots[1]["root_sha256"] == late.index.root_sha256
    for build, folder in ((early, old), (late, new)):
        for file in build.index.files:
            if file.path.endswith(".tar"):
                assert (folder / file.path).read_bytes() == build.fetch(file.path).read_bytes()


def test_push_sends_only_what_differs(server, tmp_path):
    """Shards that two builds share are sent once; `prune` removes what the new build lacks."""
    data = write_build(tmp_path / "data")
    copies.push(data, server.target)
    other = shutil.copytree(data, tmp_path / "other")
    (other / "download").mkdir()
    (other / "download" / "images.parquet").write_bytes(b"a table")
    (other / "download" / ".gitignore").write_text("hidden")
    store = RemoteStore(Address.parse(server.target))
    store.write("notes/mine.txt", b"no file of ours")
    copies.push(data, f"{server.target}/below")
    report = copies.push(other, server.target)
    pruned = copies.push(data, server.target, prune=True)

    assert (1, 7) == (report.sent, report.sent_bytes)
    assert (0, 1) == (pruned.sent, pruned.removed)
    assert "notes/mine.txt" in store.sizes()
    assert 0 == copies.push(data, f"{server.target}/below").sent
    assert 0 == copies.pull(server.target, data).sent


def test_pull_continues_a_file_and_replaces_another_build(server, tmp_path):
    """Half a file is not fetched again; shards of another build go; the manifest comes last."""
    data = write_build(tmp_path / "data", segment_bytes=4 * PART)
    copies.push(data, server.target)
    copy = write_build(tmp_path / "copy", seed=1)
    (copy / "shards" / "train-000009.tar").write_bytes(b"of another build")
    segment = next(
        f for f in RemoteBuild.open(server.target, tmp_path / "c").index.files if "seg" in f.path
    )
    part = copy / f"{segment.path}.{segment.sha256[:16]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes((data / segment.path).read_bytes()[: 3 * PART])
    server.requests.clear()
    report = copies.pull(server.target, copy)
    ranges = {key: span for kind, key, span in server.requests if kind == "GetObject"}

    assert 1 == report.removed
    assert f"bytes={3 * PART}-{segment.bytes - 1}" == next(
        span for key, span in ranges.items() if key.endswith(segment.name)
    )
    assert "manifest" in list(ranges)[-1]
    assert same(data, copy)


def test_pull_starts_anew_after_a_damaged_half(server, tmp_path):
    """Half a file with other bytes is thrown away, and the file fetched whole."""
    data = write_build(tmp_path / "data", segment_bytes=2 * PART)
    copies.push(data, server.target)
    segment = next(
        f for f in RemoteBuild.open(server.target, tmp_path / "c").index.files if "seg" in f.path
    )
    part = tmp_path / "copy" / f"{segment.path}.{segment.sha256[:16]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * PART)
    copies.pull(server.target, tmp_path / "copy")

    assert same(data, tmp_path / "copy")


@pytest.mark.parametrize("damage", ["changed", "cut"])
def test_wrong_bytes_are_refused(server, tmp_path, damage):
    """A stored file with other bytes is a named error, and no file appears under its name."""
    data = write_build(tmp_path / "data")
    copies.push(data, server.target)
    store = RemoteStore(Address.parse(server.target))
    name = next(name for name in store.sizes() if "train-000000" in name)
    content = server.path(name).read_bytes()[:-1024]
    store.write(name, content if damage == "cut" else content + b"?" * 1024)
    with pytest.raises(
        BadStorage, match=r"train-000000-[0-9a-f]{16}\.tar does not have the \d+ bytes"
    ):
        copies.pull(server.target, tmp_path / "copy")

    assert not (tmp_path / "copy/shards/train-000000.tar").exists()
    assert not (tmp_path / "copy/shards/manifest.json").exists()
    assert damage == "changed" or copies.push(data, server.target).sent == 1


@pytest.mark.parametrize("url", ["memory://sets/one", "file://{}/sets/one"])
def test_other_file_systems_do_the_same(tmp_path, url):
    """Push, pull and a cached read work on any file system of fsspec."""
    url = url.format(tmp_path)
    data = write_build(tmp_path / "data", segment_bytes=PART)
    copies.push(data, url)

    assert 0 == copies.push(data, url).sent
    assert 7 == copies.pull(url, tmp_path / "copy").sent
    assert same(data, tmp_path / "copy")
    assert not list(tmp_path.rglob("sets/**/*.part"))
    copies.push(data, url, folders=["shards"], prune=True)
    with pytest.raises(MissingInput, match="has no folder download"):
        copies.pull(url, tmp_path / "other", folders=["download"])


def test_table_that_claims_other_bytes_is_not_pushed(tmp_path):
    """An image that its shard does not hold is refused, whatever size the table claims."""
    data = write_build(tmp_path / "data")
    table = data / "shards" / "samples.parquet"
    rows = pq.read_table(table)
    sizes = pa.array([2**60] * len(rows), pa.int64())
    column = rows.schema.get_field_index("image_bytes")
    pq.write_table(rows.set_column(column, "image_bytes", sizes), table)

    with pytest.raises(BadShard, match=rf"has no {2**60} bytes at byte 512"):
        copies.push(data, f"file://{tmp_path}/storage")


def test_unsound_builds_are_not_pushed(server, tmp_path):
    """A shard that the manifest does not describe, or a name that leads astray, is refused."""
    data = write_build(tmp_path / "data")
    with (data / "shards" / "val-000000.tar").open("ab") as file:
        file.write(b"more")
    with pytest.raises(BadShard, match=r"val-000000.tar is absent, or has another sha256"):
        copies.push(data, server.target)
    with pytest.raises(MissingInput, match=r"manifest.json is absent"):
        copies.push(tmp_path / "none", server.target)
    other = write_build(tmp_path / "other", segment_bytes=PART)
    (other / "download" / "a b.txt").write_text("")
    with pytest.raises(BadParams, match="has a name that storage does not take"):
        copies.push(other, server.target)

    assert 0 == server.counts()["PutObject"]
