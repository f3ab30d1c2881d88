"""Tests the search for near pairs of different splits where they are too many to compare."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import certificate
from curation.errors import LeakingSplit
from personae.selection import SPLITS
from tests.curation.split_fixture import Folder, apart


@given(st.integers(2, 60), st.integers(0, 2**32))
def test_search_equals_a_comparison_of_all_pairs(size, seed) -> None:
    """Up to the limit, the closest pair and the number of pairs are those of comparing all pairs."""
    chance = np.random.default_rng(seed)
    hashes = chance.integers(0, 2**63, (size, 4), np.uint64) & np.uint64(0x0101010101010101)
    hashes[chance.integers(0, size, size // 3)] = hashes[0]
    splits = np.array(SPLITS)[chance.integers(0, 3, size)]
    ids = np.arange(size, dtype=np.int64) * 7
    left_out = np.array(
        [(7 * j, 7 * i) for i in range(size) for j in range(i) if (i + j) % 5 == 0], np.int64
    ).reshape(-1, 2)
    every = certificate.compare(ids, hashes, splits, apart=left_out, limit=8)
    searched = certificate.compare_within(ids, hashes, splits, apart=left_out, limit=8)

    assert {names: count for names, count in every.within.items() if count} == searched.within
    if every.closest is not None and every.closest.distance <= 8:
        assert every.closest == searched.closest
    else:
        assert searched.closest is None


def test_searched_certificate_names_its_bits(tmp_path: Path, monkeypatch) -> None:
    """Above the number of pairs, the closest pair is that of one label, and the limit is recorded."""
    folder = Folder(tmp_path)
    first, second = apart("train", "test")
    folder.labels |= {first: "label_0", second: "label_1"}
    folder.hashes |= {first: b"\xaa" * 32, second: b"\xaa" * 27 + b"\x55" * 5}
    folder.run()
    whole = folder.certificate()
    monkeypatch.setattr(certificate, "_MOST_PAIRS", 0)
    folder.run()
    searched = folder.certificate()

    assert "searched" not in whole
    assert 40 == whole["closest"]["distance"]
    assert whole["labels"] == searched["labels"]
    assert 31 == searched.pop("searched")
    assert searched["closest"] == min(
        searched["labels"].values(), key=lambda pair: pair["distance"]
    )
    assert searched["passed"]


@pytest.mark.parametrize("bits", [0, 1])
def test_searched_certificate_sees_a_leak(tmp_path: Path, monkeypatch, bits) -> None:
    """Two images of different labels and splits within the limit stop the stage."""
    monkeypatch.setattr(certificate, "_MOST_PAIRS", 0)
    folder = Folder(tmp_path)
    first, second = apart("train", "test")
    folder.labels |= {first: "label_0", second: "label_1"}
    folder.hashes |= {first: b"\xaa" * 32, second: b"\xaa" * 31 + bytes([0xAA ^ bits])}

    with pytest.raises(LeakingSplit, match=rf"{first} \(train\) and {second} \(test\) differ in"):
        folder.run()
