"""Tests file writing: a file is complete or absent, and a folder has one writer."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personae import files, tables
from personae.errors import AlreadyRunning, DiskRefused, MissingInput
from personae.stages import absent


def test_file_appears_only_when_it_is_whole(tmp_path):
    """The old file stays until the block ends; afterwards no other file remains."""
    path = tmp_path / "deep" / "table.bin"
    files.write_bytes(path, b"old")
    with files.whole_file(path) as file:
        file.write(b"new")
        assert b"old" == path.read_bytes()

    assert b"new" == path.read_bytes()
    assert [path] == list(path.parent.iterdir())


@pytest.mark.parametrize("name", [".", "folder", "folder/.."])
def test_folder_is_no_file_to_write(tmp_path, monkeypatch, name):
    """The path of a folder is refused before anything is written, whatever its spelling."""
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(IsADirectoryError):
        files.write_bytes(Path(name), b"")
    assert ["folder"] == [path.name for path in tmp_path.rglob("*")]


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [(0, 4, b"abcd"), (1, 2, b"bc"), (3, 2, b""), (0, 2**60, b""), (-1, 2, b""), (2, -1, b"")],
)
def test_range_of_a_file_is_whole_or_empty(tmp_path, offset, size, expected):
    """A range that the file does not have gives no bytes, and takes no memory."""
    path = tmp_path / "segment"
    path.write_bytes(b"abcd")

    assert expected == files.read_range(path, offset, size)


def test_folders_are_synced_where_they_are_made(tmp_path, monkeypatch):
    """Each new folder is synced in its parent, and a known one is not synced again."""
    synced = []
    monkeypatch.setattr(files, "_sync", synced.append)
    files.make_folder(tmp_path / "data" / "listing")
    files.make_folder(tmp_path / "data" / "download")
    files.make_folder(tmp_path / "data" / "download")

    assert [tmp_path, tmp_path / "data", tmp_path / "data"] == synced


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_names_the_file(tmp_path, number):
    """The error of a write that finds no room names the file, which the system does not."""

    def write():
        with files.whole_file(tmp_path / "table.bin"):
            raise OSError(number, "no room")

    with pytest.raises(OSError, match=r"no room: .*table\.bin'"):
        write()
    assert [] == list(tmp_path.iterdir())


def test_failed_sync_names_the_file(tmp_path, monkeypatch):
    """The error of a sync names the file or the folder."""

    def fail(_handle):
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(OSError, match=r"broken disk: .*table\.bin\.part'"):
        files.write_bytes(tmp_path / "table.bin", b"new")


def test_removed_file_stays_removed(tmp_path, monkeypatch):
    """The folder is synced after a removal; where there is no file, nothing is done."""
    synced = []
    monkeypatch.setattr(files, "_sync", synced.append)
    path = tmp_path / "manifest.json"
    path.write_bytes(b"{}")
    files.remove(path)
    files.remove(path)

    assert not path.exists()
    assert [tmp_path] == synced


def test_failed_block_leaves_the_old_file(tmp_path):
    """If the block raises, the old file stays and no `.part` file remains."""
    path = tmp_path / "table.bin"
    files.write_bytes(path, b"old")

    def fail():
        with files.whole_file(path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert b"old" == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_bytes_are_synced_before_the_name_and_the_folder_after(tmp_path, monkeypatch):
    """The order is fsync of the file, replace, fsync of the folder."""
    events = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(handle):
        events.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real_sync(handle)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(
        "pathlib.os.replace", lambda a, b: (events.append("replace"), real_replace(a, b))
    )
    files.write_bytes(tmp_path / "a", b"x")

    assert [str(tmp_path / "a.part"), "replace", str(tmp_path)] == events


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8
)


def test_absent_file_names_all_stages_in_a_checkout(tmp_path, monkeypatch):
    """Beside dvc.yaml the message also names the command that runs every stage in order."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}")

    assert str(absent(Path("data/shards/manifest.json"), "shards")).endswith(
        ":\n  python -m curation shards\nAll stages in their order:\n  dvc repro"
    )


@given(document=st.dictionaries(st.text(), json_values, max_size=5))
def test_json_comes_back(document, tmp_path_factory):
    """A written document is read back, whatever its keys and texts are."""
    path = tmp_path_factory.mktemp("json") / "a.json"
    files.write_json(path, document)

    assert document == files.read_json(path, stage="x")
    assert list(json.loads(path.read_text("utf-8"))) == sorted(document)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.json is absent: stage 'fit' writes it. Run that stage first:\n  python -m"),
        (b"{", "a.json is no readable JSON"),
        (b"\xff", "a.json is no readable JSON"),
        (b"[" * 200_000, "a.json is no readable JSON"),
        (b"[]", "a.json holds no JSON mapping."),
    ],
)
def test_bad_json_is_named(content, message, tmp_path):
    """For absent, broken, too deep or wrong JSON, the message gives file and stage."""
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(MissingInput) as caught:
        files.read_json(path, stage="fit")
    assert message in str(caught.value)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_linked_file_becomes_a_file_of_its_own(tmp_path, link):
    """A hard or symbolic link, protected as in a DVC cache, is replaced by a writable copy."""
    cached = tmp_path / "cached"
    cached.write_bytes(b"original")
    cached.chmod(0o444)
    path = tmp_path / "data" / "file"
    path.parent.mkdir()
    link(cached, path)
    files.own(path)
    path.write_bytes(b"changed")

    assert b"original" == cached.read_bytes()
    assert 1 == path.stat().st_nlink
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o200


def test_an_own_file_and_an_absent_one_stay(tmp_path):
    """A file without links keeps its inode; an absent file stays absent."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    before = path.stat().st_ino
    files.own(path)
    files.own(tmp_path / "absent")

    assert before == path.stat().st_ino
    assert [path] == list(tmp_path.iterdir())


def test_folder_that_cannot_be_made_is_named_and_another_is_not_changed(tmp_path):
    """The check makes nothing; below a file, or on a disk that takes no file, it raises."""
    files.check_writable(tmp_path / "results" / "flat" / "0")
    (tmp_path / "file").touch()

    assert [tmp_path / "file"] == list(tmp_path.iterdir())
    with pytest.raises(OSError, match=r"Not a directory: .*file/0'"):
        files.check_writable(tmp_path / "file" / "0")


def test_second_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    """A second process is refused; after a kill the lock is free and leaves no file."""
    code = (
        "import sys, time; from pathlib import Path; from personae import files\n"
        "with files.locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        with pytest.raises(AlreadyRunning, match="Another run is writing"):
            files.lock(tmp_path)
        child.kill()
    with files.locked(tmp_path):
        assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK, errno.ENOTSUP])
def test_file_system_without_locks_is_named(number, tmp_path, monkeypatch):
    """A file system without locks is reported as such, not as another run."""

    def refuse(_handle, _operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)

    with pytest.raises(DiskRefused, match="Its file system offers no locks"):
        files.lock(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/locks")
def test_holder_of_a_lock_is_named(tmp_path):
    """The message of a refused run has the command and the process id of the other run."""
    code = (
        "import sys; from pathlib import Path; from personae import files\n"
        "with files.locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), "an argument"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        child.stdout.readline()
        with pytest.raises(AlreadyRunning) as caught:
            files.lock(tmp_path)
        child.stdin.close()

    assert f"{tmp_path} an argument (process {child.pid})" in str(caught.value)


def test_device_or_pipe_is_written_to_and_not_replaced(tmp_path):
    """Writing to a pipe, as to /dev/stdout or /dev/null, leaves the pipe in its place."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as reader:
        files.write_bytes(path, b"content")

        assert b"content" == reader.stdout.read()
    assert path.is_fifo()
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_a_regular_file_is_read(tmp_path, kind):
    """A pipe waits for its writer, and /dev/zero has no end: neither is read."""
    path = tmp_path / "a.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()

    with pytest.raises(MissingInput, match=r"a\.json is no readable JSON .*no regular file"):
        files.read_json(path, stage="pack")
    with pytest.raises(MissingInput, match=r"a\.json is no readable Parquet .*no regular file"):
        tables.read(path, ["post_id"], stage="pack")
