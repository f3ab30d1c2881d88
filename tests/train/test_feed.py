"""Batches: an order that can start at any position, parts of several processes, streaming."""

import itertools
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personae.errors import BadParams, BadShard, MissingInput
from tests.train.selection_fixture import samples_of
from train.data import augment, images, sampling
from train.data.images import DataModule, ImageSet, channel_mean, open_data
from train.engine.feed import Feed, Order, spans
from train.engine.task import Task


def order_of(pictures, *, seed=0, batch_size=4, rank=0, ranks=1, balance="none"):
    sampler = sampling.by_class(pictures.train.labels, [[0, 1], [2], [3]], balance=balance)
    task = Task("root", pictures, np.array([0, 0, 1, 2]), sampler, macs_trained=1)
    return Order(task, seed, batch_size, rank, ranks)


def write_index(folder):
    """Writes samples.parquet for the shards in `folder`, as stage `shards` does."""
    pq.write_table(pa.Table.from_pylist(samples_of(folder)), folder / "samples.parquet")


@given(count=st.integers(1, 200), batch_size=st.integers(1, 50), least=st.integers(1, 8))
def test_spans_cover_an_epoch(count, batch_size, least):
    """Every position is in one batch; only a single batch may be smaller than `least`."""
    found = spans(count, batch_size, least=least)

    assert list(range(count)) == [place for span in found for place in range(*span)]
    assert len(found) == 1 or found[-1][1] - found[-1][0] >= min(least, batch_size)
    assert all(stop - start == batch_size for start, stop in found[:-1])


def test_spans_of_the_worked_example():
    """One remaining image joins the batch before it; two remaining images form a batch."""
    assert [(0, 4), (4, 8), (8, 10)] == spans(10, 4)
    assert [(0, 4), (4, 9)] == spans(9, 4)


@given(
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
    batch_size=st.integers(1, 9),
    ranks=st.integers(1, 3),
    balance=st.sampled_from(["none", "resample", "fixed", "weights"]),
)
def test_resume_at_every_position_gives_the_same_ids(tiny_pictures, epoch, ranks, **options):
    """Resumed at any update, every process gets the same ids as without the break."""
    for rank in range(ranks):
        options |= {"rank": rank, "ranks": ranks}
        whole = [ids.tolist() for ids in order_of(tiny_pictures, **options).ids(epoch)]
        for start in range(len(whole) + 1):
            again = order_of(tiny_pictures, **options).ids(epoch, start=start)
            assert whole[start:] == [ids.tolist() for ids in again]


@given(seed=st.integers(0, 3), batch_size=st.integers(2, 9), ranks=st.integers(2, 4))
def test_processes_share_each_batch(tiny_pictures, seed, batch_size, ranks):
    """Together the processes get the batch of a single process, and no image twice."""
    parts = [
        list(order_of(tiny_pictures, seed=seed, batch_size=batch_size, rank=r, ranks=ranks).ids(1))
        for r in range(ranks)
    ]
    whole = order_of(tiny_pictures, seed=seed, batch_size=batch_size, ranks=ranks)
    rows = whole.rows(1)
    for place, (start, stop) in enumerate(whole.spans(len(rows))):
        together = np.concatenate([part[place] for part in parts])
        assert sorted(tiny_pictures.train.post_ids[rows[start:stop]]) == sorted(together)


@given(
    batch_size=st.integers(8, 40),
    before=st.integers(1, 4),
    after=st.integers(1, 4),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
)
def test_another_number_of_processes_changes_no_batch(
    tiny_pictures, batch_size, before, after, **options
):
    """Continued with more or fewer processes, each batch is the same, and no image comes twice."""
    seed, epoch = options.values()
    begun = order_of(tiny_pictures, seed=seed, batch_size=batch_size, ranks=before)
    rows = begun.rows(epoch)
    batches = [set(tiny_pictures.train.post_ids[rows[slice(*span)]]) for span in begun.spans(32)]
    try:
        parts = [
            list(
                order_of(tiny_pictures, seed=seed, batch_size=batch_size, rank=rank, ranks=after)
                .continuing(begun.smallest)
                .ids(epoch)
            )
            for rank in range(after)
        ]
    except BadParams:
        assert after > before
        assert len(batches[-1]) < 2 * after
        return
    together = [np.concatenate(of_batch).tolist() for of_batch in zip(*parts, strict=True)]
    assert batches == [set(ids) for ids in together]
    assert sorted(post for posts in together for post in posts) == sorted(
        tiny_pictures.train.post_ids
    )
    assert min(len(ids) for part in parts for ids in part) >= 2


def test_too_many_processes_for_the_last_batch(tiny_pictures):
    """32 images in batches of 29 leave three: a second process is refused, and told how many fit."""
    begun = order_of(tiny_pictures, batch_size=29)
    with pytest.raises(BadParams, match=r"has 3 images, and 2 processes .* at most 1"):
        order_of(tiny_pictures, batch_size=29, ranks=2).continuing(begun.smallest)


def test_epochs_differ_and_seeds_too(tiny_pictures):
    """Two epochs or two seeds never have the same order."""
    orders = [
        tuple(order_of(tiny_pictures, seed=seed).rows(epoch)) for seed in (0, 1) for epoch in (0, 1)
    ]
    assert len(set(orders)) == 4


@pytest.fixture(scope="session")
def tiny_pictures():
    """Builds 32 black images of four labels for tests that only read ids."""
    labels = np.repeat(np.arange(4), [10, 7, 12, 3])
    images = np.zeros((len(labels), 4, 4, 3), dtype=np.uint8)
    held = ImageSet(images, labels, np.arange(len(labels)) + 100, np.zeros(len(labels), bool))
    return DataModule(("a", "b", "c", "d"), 4, "0" * 64, held, held)


def opened(shards, tmp_path, **options):
    return open_data(shards, tmp_path / "cache", params=images.Params(**options))


def test_streamed_pictures_equal_cached_ones(tiny_shards, tmp_path):
    """Rows, labels, ids, flags and pixels are equal: whole, sliced, and after pickling."""
    write_index(tiny_shards)
    cached = opened(tiny_shards, tmp_path, storage="cache")
    streamed = opened(tiny_shards, tmp_path, storage="stream")
    rows = np.array([5, 0, 23, 5])

    for name in ("train", "val"):
        one, two = getattr(cached, name), getattr(streamed, name)
        assert one.images.shape == two.images.shape
        assert (one.images[:] == two.images[:]).all()
        for column in ("labels", "post_ids", "white"):
            assert (getattr(one, column) == getattr(two, column)).all()
    assert streamed.train.slow
    assert not cached.train.slow
    assert (cached.train.batch(rows) == streamed.train.batch(rows)).all()
    for held in (cached, streamed):
        travelled = pickle.loads(pickle.dumps(held.train))  # pickle of our own data
        assert (travelled.batch(rows) == cached.train.batch(rows)).all()
    assert (channel_mean(cached.train.images) == channel_mean(streamed.train.images)).all()


def test_streamed_batches_equal_cached_ones(tiny_shards, tmp_path):
    """A feed that prefetches gives the same inputs and targets in the same order."""
    write_index(tiny_shards)
    found = []
    for storage in ("cache", "stream"):
        held = opened(tiny_shards, tmp_path, storage=storage)
        sampler = sampling.by_class(held.train.labels, [[0], [1], [2], [3]], balance="none")
        task = Task("root", held, np.arange(4), sampler, macs_trained=1)
        feed = Feed(
            Order(task, 0, 5),
            augmentation=augment.Params(),
            mean=torch.zeros(3),
            weights=None,
            device=torch.device("cpu"),
            clock=itertools.count().__next__,  # each reading advances by one second
        )
        found.append(list(feed.epoch(0)))
        assert (5, 5) == (feed.waited, feed.augmented)

    assert [5, 5, 5, 5, 4] == [len(batch.targets) for batch in found[0]]
    for one, two in zip(*found, strict=True):
        assert torch.equal(one.inputs, two.inputs)
        assert torch.equal(one.targets, two.targets)


def test_streaming_names_what_is_wrong(tiny_shards, tmp_path):
    """A mismatched index, an absent shard or a damaged image gives an error that names it."""
    with pytest.raises(MissingInput, match=r"samples\.parquet is absent"):
        opened(tiny_shards, tmp_path, storage="stream")
    write_index(tiny_shards)
    index = tiny_shards / "samples.parquet"
    whole = pq.read_table(index)
    pq.write_table(whole.slice(1), index)
    with pytest.raises(BadShard, match="names 23 images of these shards"):
        opened(tiny_shards, tmp_path, storage="stream")
    pq.write_table(whole, index)
    held = opened(tiny_shards, tmp_path, storage="stream").train
    path = tiny_shards / "train-000000.tar"
    content = bytearray(path.read_bytes())
    start = int(held.images.offset[0])
    content[start : start + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(BadShard, match=r"row 0 in .*train-000000\.tar cannot be decoded"):
        opened(tiny_shards, tmp_path, storage="stream").train.batch(np.array([0]))
    path.unlink()
    with pytest.raises(MissingInput, match=r"train-000000\.tar is absent"):
        opened(tiny_shards, tmp_path, storage="stream")


def test_streamed_shards_hold_no_files_open(tiny_shards, tmp_path):
    """A data set may have more shards than a process may have open files: none stays open."""
    write_index(tiny_shards)
    pictures = opened(tiny_shards, tmp_path, storage="stream").train
    assert len(pictures.batch(np.arange(len(pictures)))) == len(pictures)
    names = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]

    assert [] == [name for name in names if name.startswith(str(tiny_shards))]


def test_validation_pictures_may_be_trained_on(tiny_shards, tmp_path):
    """With `train_on_val` the training set has both splits, and validation does not change."""
    plain = opened(tiny_shards, tmp_path)
    both = opened(tiny_shards, tmp_path, train_on_val=True)

    assert set(plain.train.post_ids) | set(plain.val.post_ids) == set(both.train.post_ids)
    assert (plain.val.post_ids == both.val.post_ids).all()


@pytest.mark.parametrize("storage", ["cache", "stream"])
def test_chosen_rows_are_those_of_the_whole_split(tiny_shards, tmp_path, storage):
    """Images, labels and means at chosen rows, in their order, from a memory map and from shards."""
    write_index(tiny_shards)
    whole = images.open_split(tiny_shards, tmp_path / "cache", "train+val", storage=storage)
    rows = np.array([39, 3, 17, 3])
    chosen = whole.at(rows)
    within = np.array([2, 0])

    assert 4 == len(chosen) == len(chosen.images)
    assert (4, 16, 16, 3) == chosen.images.shape
    assert torch.equal(whole.batch(rows[within]), chosen.batch(within))
    assert whole.post_ids[rows].tolist() == chosen.post_ids.tolist()
    assert whole.labels[rows].tolist() == chosen.labels.tolist()
    assert whole.slow == chosen.slow
    assert np.allclose(
        images.channel_mean(np.asarray(whole.images[rows])), images.channel_mean(chosen.images)
    )
