"""Tests tar segments: unchanged bytes, torn tails cut, and a clear error on a full disk."""

import errno
import subprocess
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personae.errors import DiskRefused
from scraper.segments import END_OF_ARCHIVE, Location, Segments, padded_end


@pytest.fixture
def segments(tmp_path):
    opened = Segments(tmp_path / "segments", segment_bytes=20_480)
    yield opened
    opened.close()


def read(folder, place, length):
    with (folder / place.segment).open("rb") as file:
        file.seek(place.offset)
        return file.read(length)


def test_nothing_is_written_before_the_first_image(segments, tmp_path):
    """A run without new images creates no file and no folder."""
    segments.cut_back({})
    segments.sync()
    segments.seal()

    assert [] == list(tmp_path.iterdir())


@given(payloads=st.lists(st.binary(max_size=3000), min_size=1, max_size=12))
def test_any_bytes_come_back(tmp_path_factory, payloads):
    """Any appended bytes are at their offset, and a plain tar reader returns them by name."""
    folder = tmp_path_factory.mktemp("segments")
    segments = Segments(folder, segment_bytes=10_240)
    places = [segments.append(number, "png", payload) for number, payload in enumerate(payloads)]
    segments.seal()

    assert payloads == [
        read(folder, place, len(payload)) for place, payload in zip(places, payloads, strict=True)
    ]
    found = {}
    for path in sorted(folder.iterdir()):
        assert path.stat().st_size <= 10_240
        with tarfile.open(path) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar}
    assert {f"{number}.png": payload for number, payload in enumerate(payloads)} == found


def test_segments_roll_at_their_size(segments, tmp_path):
    """A full segment is sealed and the next one begins; an image may exceed the segment size."""
    places = [segments.append(number, "jpg", bytes(6000)) for number in range(4)]
    huge = segments.append(4, "jpg", bytes(50_000))
    after = segments.append(5, "jpg", b"x")
    segments.seal()

    names = ["00000.tar"] * 2 + ["00001.tar"] * 2
    assert names == [place.segment for place in places]
    assert ("00002.tar", "00003.tar") == (huge.segment, after.segment)
    for path in (tmp_path / "segments").iterdir():
        assert path.read_bytes().endswith(END_OF_ARCHIVE)


def test_system_tar_reads_a_segment(segments, tmp_path):
    """The system's own `tar` lists a segment without a warning."""
    segments.append(17, "webp", b"first")
    segments.append(18, "png", b"second")
    segments.seal()
    listed = subprocess.run(
        ["tar", "-tf", tmp_path / "segments" / "00000.tar"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert ("17.webp\n18.png\n", "") == (listed.stdout, listed.stderr)


def test_unsealed_segment_is_readable(segments, tmp_path):
    """During a run, any tar reader can read the synced images."""
    segments.append(17, "webp", b"first")
    segments.sync()

    with tarfile.open(tmp_path / "segments" / "00000.tar") as tar:
        assert ["17.webp"] == tar.getnames()


@given(kept=st.integers(0, 4), torn=st.integers(0, 4096), garbage=st.binary(max_size=600))
def test_torn_tail_is_cut_back_to_the_last_recorded_image(tmp_path_factory, kept, torn, garbage):
    """After a torn write, only recorded images stay, and the next image follows them."""
    folder = tmp_path_factory.mktemp("segments")
    before = Segments(folder, segment_bytes=2**20)
    places = [before.append(number, "png", bytes([number]) * 700) for number in range(5)]
    before.close()
    path = folder / "00000.tar"
    end = padded_end(places[kept - 1].offset, 700) if kept else 0
    path.write_bytes(path.read_bytes()[: max(end, torn)] + garbage)

    after = Segments(folder, segment_bytes=2**20)
    after.cut_back({"00000.tar": end} if kept else {})
    place = after.append(99, "png", b"next")
    after.seal()

    assert Location("00000.tar", end + 512) == place
    with tarfile.open(path) as tar:
        assert [f"{number}.png" for number in range(kept)] + ["99.png"] == tar.getnames()


def test_end_mark_is_left_alone_when_nothing_is_appended(segments, tmp_path):
    """A run without new images does not change a sealed segment; the next run appends to it."""
    place = segments.append(1, "png", b"one")
    segments.seal()
    path = tmp_path / "segments" / "00000.tar"
    before = path.stat()
    ends = {"00000.tar": padded_end(place.offset, 3)}
    again = Segments(tmp_path / "segments", segment_bytes=20_480)

    assert 0 == again.cut_back(ends)
    assert before.st_mtime_ns == path.stat().st_mtime_ns
    again.append(2, "png", b"two")
    again.seal()
    with tarfile.open(path) as tar:
        assert ["1.png", "2.png"] == tar.getnames()


def test_false_end_mark_is_cut(segments, tmp_path):
    """A tail with the length of an end mark but with other bytes is cut off."""
    place = segments.append(1, "png", b"one")
    segments.close()
    path = tmp_path / "segments" / "00000.tar"
    end = padded_end(place.offset, 3)
    path.write_bytes(path.read_bytes() + b"x" * len(END_OF_ARCHIVE))

    assert len(END_OF_ARCHIVE) == segments.cut_back({"00000.tar": end})
    assert end == path.stat().st_size


def test_unrecorded_segment_is_removed(segments, tmp_path):
    """A segment without a recorded image is removed, and its number is used again."""
    first = segments.append(1, "png", bytes(15_000))
    segments.append(2, "png", bytes(15_000))
    segments.close()
    segments.cut_back({"00000.tar": padded_end(first.offset, 15_000)})

    assert ["00000.tar"] == [path.name for path in (tmp_path / "segments").iterdir()]
    assert "00001.tar" == segments.append(3, "png", bytes(15_000)).segment


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_is_one_clear_error(tmp_path, number):
    """For a full disk, a quota or a size limit, one error says what happened and what to do."""

    class Full:
        def __init__(self, path):
            self.file = path.open("x+b", buffering=0)

        def write(self, data):
            if self.file.tell() > 1000:
                raise OSError(number, "no room")
            return self.file.write(data[:300])

        def __getattr__(self, name):
            return getattr(self.file, name)

    segments = Segments(tmp_path, segment_bytes=20_480, open_file=Full)

    with pytest.raises(DiskRefused, match=r"Make room.*run the same command again"):
        segments.append(1, "png", bytes(2000))
    segments.close()


def test_other_failures_of_the_disk_keep_their_name(tmp_path):
    """An error other than lack of room keeps its class."""

    def refuse(path):
        raise PermissionError(errno.EACCES, "not yours", str(path))

    with pytest.raises(PermissionError):
        Segments(tmp_path, segment_bytes=20_480, open_file=refuse).append(1, "png", b"x")


def test_partial_writes_are_completed(tmp_path):
    """If a file accepts few bytes at a time, all bytes are written."""

    class Slow:
        def __init__(self, path):
            self.file = path.open("x+b", buffering=0)

        def write(self, data):
            return self.file.write(data[:100])

        def __getattr__(self, name):
            return getattr(self.file, name)

    segments = Segments(tmp_path, segment_bytes=20_480, open_file=Slow)
    payload = bytes(range(256)) * 4
    place = segments.append(1, "png", payload)
    segments.seal()

    assert payload == read(tmp_path, place, len(payload))


@pytest.mark.parametrize("file_ext", ["../../x", "tar/x", ""])
def test_only_a_plain_type_makes_a_name(segments, file_ext):
    """A file type that is not a plain extension fails an assertion."""
    with pytest.raises(AssertionError):
        segments.append(1, file_ext, b"x")
