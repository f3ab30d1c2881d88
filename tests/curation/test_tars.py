"""Tests that members of a tar have the bytes that `tarfile` gives them."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import tars

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=100)


@given(names=st.lists(NAMES, max_size=4), data=st.binary(max_size=1200))
def test_members_have_the_bytes_of_tarfile(names: list[str], data: bytes) -> None:
    """Members and end are those of a USTAR archive with zeroed metadata."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    members = b"".join(tars.member(name, data) for name in names)

    assert buffer.getvalue() == members + tars.end(len(members))


@pytest.mark.parametrize("name", ["é.png", "a" * 101])
def test_refuses_a_name_without_room(name: str) -> None:
    """A name that USTAR cannot hold as it is raises an error."""
    with pytest.raises(ValueError, match=r"ascii|no USTAR header"):
        tars.member(name, b"")
