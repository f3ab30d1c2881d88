"""Shards to arrays: exact pixels, the cache, and every kind of damaged shard."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from personae.errors import BadShard, MissingInput
from train.data import images
from train.data.images import channel_mean, open_data, open_split


def repack(path, change):
    """Rewrites a tar with `change(name, content)`; None drops a member."""
    members = []
    with tarfile.open(path) as archive:
        members = [(m.name, archive.extractfile(m).read()) for m in archive]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            changed = change(name, content)
            if changed is not None:
                member = tarfile.TarInfo(name)
                member.size = len(changed)
                archive.addfile(member, io.BytesIO(changed))


def entries(folder):
    return json.loads((folder / "manifest.json").read_text())["shards"]


def test_pictures_come_back_exactly(tiny_shards, tmp_path):
    """Pixels, labels, post ids and the white flag equal those of the shard, in its order."""
    found = open_data(tiny_shards, tmp_path / "cache")
    with tarfile.open(tiny_shards / "train-000000.tar") as archive:
        names = [m.name for m in archive if m.name.endswith(".png")]
        first = np.asarray(Image.open(io.BytesIO(archive.extractfile(names[0]).read())))

    assert ("ann", "bea", "cem", "dua") == found.labels
    assert (24, 16, 16, 3) == found.train.images.shape
    assert [int(name.removesuffix(".png")) for name in names] == found.train.post_ids.tolist()
    assert (first == found.train.images[0]).all()
    assert (found.train.post_ids % 3 == 0).tolist() == found.train.white.tolist()
    assert [6, 6, 6, 6] == np.bincount(found.train.labels).tolist()
    assert not set(found.train.post_ids) & set(found.val.post_ids)
    assert (first == found.train.batch(np.array([0]))[0].numpy()).all()


def test_second_opening_reads_no_shard(tiny_shards, tmp_path):
    """The cache works without the shards; a changed manifest requires them again."""
    first = open_data(tiny_shards, tmp_path / "cache")
    for path in tiny_shards.glob("*.tar"):
        path.unlink()
    second = open_data(tiny_shards, tmp_path / "cache")

    assert (first.train.images == second.train.images).all()
    assert not list((tmp_path / "cache").glob("*.part"))
    manifest = json.loads((tiny_shards / "manifest.json").read_text())
    manifest["shards"][0]["sha256"] = "0" * 64
    (tiny_shards / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(MissingInput, match=r"train-000000\.tar is absent"):
        open_data(tiny_shards, tmp_path / "cache")


def test_training_never_opens_test_shards(tiny_shards, tmp_path):
    """Training data opens when the test shard is deleted."""
    (tiny_shards / "test-000000.tar").unlink()

    assert len(open_data(tiny_shards, tmp_path / "cache").train) == 24
    with pytest.raises(MissingInput, match="test-000000"):
        open_split(tiny_shards, tmp_path / "cache", "test")


def test_a_part_of_a_cached_split_is_sent_as_a_path(tiny_shards, tmp_path):
    """Some images of a cached split are pickled as the path of the cache, without a pixel."""
    whole = open_data(tiny_shards, tmp_path / "cache").train
    part = whole.at(np.array([2, 0]))
    sent = pickle.dumps(part)

    assert part.images.images[0].tobytes() not in sent
    received = pickle.loads(sent)
    assert np.array_equal(part.images[:], received.images[:])
    assert np.array_equal(part.post_ids, received.post_ids)


def test_changed_shard_is_refused(tiny_shards, tmp_path):
    """One flipped byte is detected before decoding, and nothing is cached."""
    path = tiny_shards / "val-000000.tar"
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)

    with pytest.raises(BadShard, match="changed or damaged"):
        open_data(tiny_shards, tmp_path / "cache")
    assert not (tmp_path / "cache" / "val").exists()


def damaged_picture(name, content):
    return content[: len(content) // 2] if name == "3.png" else content


def wide_picture(name, content):
    if name != "3.png":
        return content
    buffer = io.BytesIO()
    Image.new("RGB", (17, 16)).save(buffer, "PNG")
    return buffer.getvalue()


def giant_header(name, content):
    if name != "3.png":
        return content
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damaged_picture, "sample 3 .* cannot be decoded"),
        (wide_picture, "17×16 pixels, and the manifest says 16×16"),
        (giant_header, "9000×9000"),
        (lambda name, content: None if name == "3.png" else content, "has no image"),
        (lambda name, content: None if name == "3.cls" else content, "lacks a readable label"),
        (lambda name, content: b"{" if name == "3.json" else content, "lacks a readable label"),
        (lambda name, content: None if name.startswith("3.") else content, "holds 23 samples"),
        (lambda name, content: b"9" if name == "3.cls" else content, "leaf 9"),
        (
            lambda name, content: b"1" if name.endswith(".cls") else content,
            "no image of 'ann'.* given, add images",
        ),
    ],
)
def test_damaged_sample_is_named(tiny_shards, shard_writer, tmp_path, change, message):
    """A damaged, missing, giant or mislabelled sample stops with an error that names it."""
    repack(tiny_shards / "train-000000.tar", change)
    shard_writer[1](tiny_shards, entries(tiny_shards))

    with pytest.raises(BadShard, match=message):
        open_data(tiny_shards, tmp_path / "cache")


def test_other_wrongs_are_named(tiny_shards, shard_writer, tmp_path):
    """Other defects of the shards, the manifest or the settings give an error that names them."""
    cache = tmp_path / "cache"
    with pytest.raises(BadShard, match=r"data\.side is 32"):
        open_data(tiny_shards, cache, params=images.Params(side=32))
    with pytest.raises(BadShard, match="no shard of split 'dev'"):
        open_split(tiny_shards, cache, "dev")
    with pytest.raises(MissingInput, match="stage 'shards'"):
        open_data(tmp_path, cache)
    found = entries(tiny_shards)
    (tiny_shards / "train-000000.tar").write_bytes(b"no tar at all" * 10_000)
    shard_writer[1](tiny_shards, found)
    with pytest.raises(BadShard, match="no readable tar"):
        open_data(tiny_shards, cache)
    manifest = json.loads((tiny_shards / "manifest.json").read_text())
    manifest["shards"][0]["shard"] = "../train-000000.tar"
    (tiny_shards / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BadShard, match="leads out"):
        open_data(tiny_shards, cache)
    (tiny_shards / "classes.json").write_text("{", encoding="utf-8")
    with pytest.raises(MissingInput, match="is no readable JSON"):
        open_data(tiny_shards, cache)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_channel_mean_equals_the_plain_one(seed, count):
    """The mean summed in integers equals numpy's mean over floats."""
    images = np.random.default_rng(seed).integers(0, 256, size=(count, 4, 4, 3), dtype=np.uint8)

    assert np.allclose(images.mean(axis=(0, 1, 2)) / 255, channel_mean(images), atol=1e-6)


def test_share_of_the_training_images_is_the_same_for_each_label(tiny_shards, tmp_path):
    """Half of each label's images train, always the same ones; a larger share holds a smaller one."""
    opened = {
        share: images.open_data(
            tmp_path / "data" / "shards", tmp_path / "cache", params=images.Params(share=share)
        )
        for share in (0.1, 0.5, 1.0)
    }
    counts = {share: np.bincount(data.train.labels).tolist() for share, data in opened.items()}
    posts = {share: set(data.train.post_ids.tolist()) for share, data in opened.items()}

    assert [count // 2 for count in counts[1.0]] == counts[0.5]
    assert [max(1, round(0.1 * count)) for count in counts[1.0]] == counts[0.1]
    assert posts[0.1] < posts[0.5] < posts[1.0]
    assert (opened[0.5].val.post_ids == opened[1.0].val.post_ids).all()
    whole = dict(zip(opened[1.0].train.post_ids, opened[1.0].train.labels, strict=True))
    half = opened[0.5].train
    assert [whole[post] for post in half.post_ids] == half.labels.tolist()
    rows = np.flatnonzero(np.isin(opened[1.0].train.post_ids, half.post_ids))
    assert torch.equal(half.batch(np.arange(len(half))), opened[1.0].train.batch(rows))
    assert "share" not in images.Params().model_dump()
