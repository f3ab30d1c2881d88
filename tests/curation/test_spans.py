"""Tests the reading of byte ranges: checked by sha256, with few files open at once."""

import hashlib
import resource
from pathlib import Path
from typing import Any

import pytest

from curation.errors import TamperedData
from curation.spans import SpanReader
from personae.errors import MissingInput

SHA256 = hashlib.sha256(b"image").hexdigest()


def open_files() -> int:
    """Returns the number of files that this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def reader(folder: Path) -> SpanReader:
    return SpanReader(folder, stage="measure", table="measures.parquet", remedy="Run it again.")


def test_thousands_of_files_need_few_descriptors(tmp_path: Path) -> None:
    """More files than a process may open are read, and all are closed afterwards."""
    limit = 100
    for number in range(2 * limit):
        (tmp_path / f"{number}.tar").write_bytes(b"..image")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = open_files()
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + limit, before[1]))
    try:
        with reader(tmp_path) as spans:
            for number in [*range(2 * limit), 0]:
                data = spans.read(7, f"{number}.tar", offset=2, size=5, sha256=SHA256)
                assert b"image" == data
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert count == open_files()


@pytest.mark.parametrize(
    ("name", "offset", "size"),
    [
        *[("a.tar", 0, 5), ("a.tar", -1, 5), ("a.tar", 2, -1), ("a.tar", 3, 5), ("../a.tar", 2, 5)],
        *[(None, 2, 5), (7, 2, 5), ("a.tar", None, 5), ("a.tar", "2", 5), ("a.tar", 2, 5.0)],
    ],
)
def test_wrong_range_is_tampered_data(tmp_path: Path, name: Any, offset: Any, size: Any) -> None:
    """Other bytes, a range outside the file, a path for a name, and other types are refused."""
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "a.tar", tmp_path / "b" / "a.tar"):
        path.write_bytes(b"..image")

    with reader(tmp_path / "b") as spans, pytest.raises(TamperedData, match="image of post 7 at"):
        spans.read(7, name, offset=offset, size=size, sha256=SHA256)


def test_absent_file_names_the_stage(tmp_path: Path) -> None:
    """If a file is absent, the error gives the stage that writes it."""
    with reader(tmp_path) as spans, pytest.raises(MissingInput, match=r"a\.tar .*'measure'"):
        spans.read(7, "a.tar", offset=0, size=5, sha256=SHA256)
