"""Tests that a changed data set rewrites few shards: equal shards are kept, boundaries go by hash."""

import hashlib
import json
import os
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import catalog, shards, verify
from tests.curation.test_shards import contents, data_dir, images, run, samples_of

__all__ = ["data_dir", "images"]  # fixtures


def written_at(folder: Path) -> dict[str, tuple[int, int]]:
    """Returns file number and time of each shard: both change when a file is written anew."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*.tar")
    }


def without(data_dir: Path, post_id: int) -> None:
    """Removes one post from the split, as a rule of the exclude file does."""
    path = data_dir / "split" / "split.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.field("post_id") != post_id), path)


def test_second_build_writes_no_shard_again(data_dir: Path) -> None:
    """A shard that is there with its bytes keeps file and time; a changed shard is written."""
    folder = run(data_dir)
    before, bytes_before = written_at(folder), contents(folder)
    run(data_dir)
    assert before == written_at(folder)
    damaged = folder / "train-000001.tar"
    for data in (b"", damaged.read_bytes()[:-1], damaged.read_bytes() + b"x", bytes(9000)):
        damaged.write_bytes(data)
        run(data_dir)
        after = written_at(folder)
        assert bytes_before == contents(folder)
        assert {damaged.name} == {name for name in before if before[name] != after[name]}
        before = after


@pytest.mark.parametrize("kind", ["pipe", "folder_link", "broken_link"])
def test_shard_that_is_no_file_is_replaced(data_dir: Path, kind: str) -> None:
    """A pipe or a link of the name of a shard is replaced, and nothing is written through it."""
    folder = run(data_dir)
    expected = contents(folder)
    path = folder / "train-000000.tar"
    path.unlink()
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(
        data_dir if kind == "folder_link" else data_dir / "nowhere"
    )
    run(data_dir)

    assert path.is_file()
    assert expected == contents(folder)
    assert not (data_dir / "nowhere").exists()


BY_HASH = shards.Params(samples_per_shard=5, boundaries="hash")


def test_a_removed_sample_changes_its_own_shard_alone(data_dir: Path, images) -> None:
    """With boundaries by hash, one shard of many is written anew, whichever sample is removed."""
    folder = run(data_dir, BY_HASH)
    shard_of = {row["post_id"]: row["shard"] for row in samples_of(folder)}
    assert len(set(shard_of.values())) >= 8
    for post_id in sorted(images)[:3]:
        before = written_at(folder)
        without(data_dir, post_id)
        run(data_dir, BY_HASH)
        after = written_at(folder)
        assert {shard_of[post_id]} == {
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        }
        assert post_id not in {row["post_id"] for row in samples_of(folder)}


def planned(count: int, per_shard: int, seed: int, split_of) -> list[shards.ShardSpec]:
    """Returns the plan of samples 0, 1, …, with boundaries by hash."""
    samples = [
        shards.ShardSample(n, "a", 0, split_of(n), False, n, "t", 0, 1, "0") for n in range(count)
    ]
    params = shards.Params(samples_per_shard=per_shard, boundaries="hash", seed=seed)
    return shards.plan(samples, params, extension="png")


@given(count=st.integers(1, 200), per_shard=st.integers(1, 50), seed=st.integers(0, 3))
@settings(max_examples=40)
def test_boundaries_by_hash_lose_no_sample(count: int, per_shard: int, seed: int) -> None:
    """Every sample is in one shard, and there are less than twice the shards that are needed."""
    specs = planned(count, per_shard, seed, lambda _: "train")
    posts = [sample.post_id for spec in specs for sample in spec.samples]

    assert list(range(count)) == sorted(posts)
    assert all(spec.samples for spec in specs)
    assert max(int(spec.shard[6:12]) for spec in specs) < max(1, 2 * -(-count // per_shard) - 1)


def test_boundaries_by_hash_give_shards_of_like_size() -> None:
    """Shards have like sizes, though stage `split` has drawn by a hash of the same ids and seed."""

    def split_of(post_id: int) -> str:
        return "train" if hashlib.sha256(f"0:{post_id}".encode()).digest()[0] < 150 else "test"

    specs = planned(4000, 200, 0, split_of)
    sizes = [len(spec.samples) for spec in specs if spec.shard.startswith("train")]

    assert 16 == len(sizes)
    assert sum(sizes) / 16 / 1.4 < min(sizes) < max(sizes) < sum(sizes) / 16 * 1.4


def test_boundaries_by_hash_read_back(curated) -> None:
    """A data set with boundaries by hash passes `verify`, and samples.parquet says how it was packed."""
    params = shards.Params(samples_per_shard=10, boundaries="hash")
    shards.run(params, data_dir=curated.data_dir, work_dir=curated.work_dir)
    catalog.run(catalog.Params(), data_dir=curated.data_dir, work_dir=curated.work_dir)
    metadata = pq.read_schema(curated.data_dir / "shards" / "samples.parquet").metadata

    assert [] == list(verify.problems(curated.data_dir))
    assert "hash" == json.loads(metadata[b"personae.params"])["boundaries"]
