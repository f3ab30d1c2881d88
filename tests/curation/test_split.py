"""Tests stage `split`: stable when posts are added, within the tolerance, without leaks."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from pydantic import ValidationError

from curation import certificate, split
from curation.errors import LeakingSplit, TooFewSamples
from personae.errors import MissingColumn, MissingInput
from personae.selection import SPLITS
from tests.curation.entries_fixture import draw
from tests.curation.split_fixture import LOOSE, Folder, apart


def recoloured(image: Image.Image) -> Image.Image:
    """Returns an image with exchanged channels."""
    red, green, blue = image.split()
    return Image.merge("RGB", (blue, red, green))


def smaller(image: Image.Image) -> Image.Image:
    """Returns an image at half size."""
    return image.resize((image.width // 2, image.height // 2))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Returns the tables of 800 posts and two labels without duplicates."""
    return Folder(tmp_path)


def test_bridging_post_is_refused(folder: Folder) -> None:
    """A new post linked to posts of two splits is refused, and those posts keep their splits."""
    first, second = apart("train", "test")
    folder.labels |= dict.fromkeys((first, second, 5000), "label_0")
    folder.hashes |= {first: bytes(32), second: b"\xff" * 32, 5000: b"\x0f" * 32}
    folder.links = [(first, 5000), (second, 5000)]
    rows = {row["post_id"]: row["split"] for row in folder.run()}
    decisions = pq.read_table(folder.data_dir / "split" / "decisions.parquet").to_pylist()

    assert ("train", "test") == (rows[first], rows[second])
    assert 5000 not in rows
    assert [
        {
            "post_id": 5000,
            "stage": "split",
            "kept": False,
            "reason": "bridges_splits",
            "measured": 2.0,
            "threshold": 1.0,
        }
    ] == [row for row in decisions if not row["kept"]]
    assert len(folder.labels) == len(decisions)


def test_group_takes_the_split_of_its_smallest_post(folder: Folder) -> None:
    """A chain of copies gets the split of its smallest post id."""
    folder.links = [(10, 20), (20, 31), (31, 40)]
    rows = {row["post_id"]: row for row in folder.run()}

    assert [10] * 4 == [rows[post]["group_id"] for post in (10, 20, 31, 40)]
    assert 1 == len({rows[post]["split"] for post in (10, 20, 31, 40)})


def test_stage_is_stable_when_posts_are_added(tmp_path: Path) -> None:
    """A second run with more posts changes the split of no earlier post."""
    small, large = Folder(tmp_path / "a", posts=100), Folder(tmp_path / "b", posts=300)
    small.links = large.links = [(10, 20), (13, 40)]
    large.links = [*small.links, (10, 301), (20, 302), (307, 308)]
    before = {row["post_id"]: row["split"] for row in small.run()}
    after = {row["post_id"]: row["split"] for row in large.run()}

    assert before == {post: after[post] for post in before}


def test_given_groups_never_cross_drawn_splits(folder: Folder) -> None:
    """With `mode: hash`, each given group is in one split."""
    posts = sorted(folder.labels)
    folder.given_groups = {post: f"scene {number % 50}" for number, post in enumerate(posts[:300])}
    splits = defaultdict(set)
    for row in folder.run():
        splits[folder.given_groups.get(row["post_id"], row["post_id"])].add(row["split"])

    assert {1} == {len(names) for names in splits.values()}


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    """Two runs write the same three files."""
    folders = [Folder(tmp_path / name, posts=60) for name in "ab"]
    for folder in folders:
        folder.run()

    for name in ("split.parquet", "decisions.parquet", "certificate.json"):
        assert (folders[0].data_dir / "split" / name).read_bytes() == (
            folders[1].data_dir / "split" / name
        ).read_bytes()


def test_share_outside_tolerance_names_label_share_and_remedy(tmp_path: Path) -> None:
    """A small label whose share leaves the tolerance stops the stage with a clear error."""
    with pytest.raises(TooFewSamples) as caught:
        Folder(tmp_path, posts=20).run(split.Params(tolerance=0.01))

    assert "Label 'label_" in str(caught.value)
    assert "0.01 and at least one sample are required" in str(caught.value)
    assert "raise `split.tolerance`" in str(caught.value)


def test_label_without_a_sample_in_a_split_is_an_error(tmp_path: Path) -> None:
    """A label without a sample in one split is an error, whatever the tolerance."""
    with pytest.raises(TooFewSamples, match=r"has 0 of its 2 samples in"):
        Folder(tmp_path, posts=1, labels=1).run()


def test_shares_stay_within_tolerance(folder: Folder) -> None:
    """The certified shares of every label differ from the parameters by at most 0.1."""
    folder.run(split.Params())

    for shares in folder.certificate()["shares"].values():
        assert pytest.approx([0.6, 0.15, 0.25], abs=0.1) == [shares[name] for name in SPLITS]


def test_certificate_names_the_closest_pair(folder: Folder) -> None:
    """The certificate gives the closest cross-split pair, per label and overall."""
    first, second = apart("train", "test")
    folder.labels |= {first: "label_0", second: "label_1"}
    folder.hashes |= {first: b"\xaa" * 32, second: b"\xaa" * 27 + b"\x55" * 5}
    folder.run()
    certificate = folder.certificate()

    assert {
        "post_a": first,
        "post_b": second,
        "split_a": "train",
        "split_b": "test",
        "distance": 40,
        "above": True,
    } == certificate["closest"]
    assert certificate["passed"]
    assert 31 == certificate["distance"]
    assert all(pair["distance"] > 40 for pair in certificate["labels"].values())


def test_unlinked_duplicate_across_splits_is_a_leak(folder: Folder) -> None:
    """Two images of different splits within the duplicate distance stop the stage."""
    first, second = apart("train", "test")
    folder.labels |= dict.fromkeys((first, second), "label_0")
    folder.hashes |= {first: b"\xaa" * 32, second: b"\xaa" * 31 + b"\xab"}

    with pytest.raises(
        LeakingSplit, match=rf"{first} \(train\) and {second} \(test\) differ in 1 "
    ):
        folder.run()
    assert not (folder.data_dir / "split" / "split.parquet").exists()


def test_pair_with_different_pixels_is_no_leak(folder: Folder) -> None:
    """Near hashes of images whose pixels differ according to `duplicates` do not stop the stage."""
    first, second = apart("train", "test")
    folder.labels |= dict.fromkeys((first, second), "label_0")
    folder.hashes |= {first: b"\xaa" * 32, second: b"\xaa" * 31 + b"\xab"}
    folder.apart = [(first, second)]
    folder.run()

    assert 1 == folder.certificate()["pairs_told_apart"]
    assert folder.certificate()["closest"]["distance"] > 31


@pytest.mark.parametrize("edit", [ImageOps.mirror, recoloured, smaller])
def test_like_images_in_two_splits_are_a_leak(folder: Folder, edit) -> None:
    """Two images whose hashes differ but whose edges are alike stop the stage, mirrored ones too."""
    first, second = apart("train", "test")
    folder.labels |= dict.fromkeys((first, second), "label_0")
    folder.hashes |= {first: bytes(32), second: b"\xff" * 32}
    folder.images = {first: draw("amber", seed=1), second: edit(draw("amber", seed=1))}

    with pytest.raises(LeakingSplit, match=rf"{first} \(train\) and {second} \(test\).* edges"):
        folder.run()
    assert not (folder.data_dir / "split" / "split.parquet").exists()


def test_certificate_names_the_most_similar_images(folder: Folder) -> None:
    """The certificate lists the pairs with the most similar edges, closest first, with the limit."""
    first, second = apart("train", "test")
    folder.labels |= dict.fromkeys((first, second), "label_0")
    folder.hashes |= {first: bytes(32), second: b"\xff" * 32}
    turned = ImageOps.mirror(draw("amber", seed=1)).rotate(5, fillcolor="white")
    folder.images = {first: draw("amber", seed=1), second: turned}
    folder.run()
    like = folder.certificate()["like"]

    assert 20 == len(like)
    assert (first, second, "train", "test", "label_0", True) == tuple(
        like[0][name] for name in ("post_a", "post_b", "split_a", "split_b", "label", "mirrored")
    )
    assert folder.certificate()["least_difference"] < like[0]["difference"] < 0.4
    assert sorted(pair["difference"] for pair in like) == [pair["difference"] for pair in like]
    assert folder.certificate()["passed"]


def test_given_split_only_reports_like_images(folder: Folder) -> None:
    """With a given split, like images are listed, and the certificate does not pass."""
    first, second = sorted(folder.labels)[:2]
    folder.labels |= dict.fromkeys((first, second), "label_0")
    folder.given = {post: ("train", "test")[post == second] for post in folder.labels}
    folder.images = dict.fromkeys((first, second), draw("amber", seed=1))
    folder.run(split.Params(mode="given"))

    assert folder.certificate()["like"][0]["difference"] < 1e-5
    assert not folder.certificate()["passed"]


def test_label_without_an_image_in_a_given_split_is_named(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    """A given split may lack labels, and training would refuse it: a warning names them."""
    splits = {"label_0": ("train", "test"), "label_1": ("val",)}
    folder.given = {
        post: splits[label][post // 2 % len(splits[label])] for post, label in folder.labels.items()
    }
    folder.run(split.Params(mode="given"))

    assert (
        "the given splits have no image of 'label_0' in val, 'label_1' in train, 'label_1' in test. "
        in caplog.text
    )


def test_edges_are_not_compared_at_zero(folder: Folder) -> None:
    """With `least_difference: 0` no image is read."""
    folder.write()
    (folder.data_dir / "measure" / "images-00000.tar").unlink()
    split.run(
        split.Params(tolerance=1.0, least_difference=0),
        data_dir=folder.data_dir,
        work_dir=folder.data_dir / "work",
    )

    assert [] == folder.certificate()["like"]
    assert folder.certificate()["passed"]


def test_unknown_distance_cannot_be_undercut(folder: Folder) -> None:
    """If the groups record no distance, the certificate has no distance limit and passes."""
    folder.distance = None
    folder.run()

    assert folder.certificate()["distance"] is None
    assert folder.certificate()["passed"]


@given(st.integers(2, 60), st.integers(0, 2**32))
def test_closest_equals_a_slow_search(size, seed) -> None:
    """The chunked search gives the same closest pair as a comparison of every pair."""
    chance = np.random.default_rng(seed)
    hashes = chance.integers(0, 2**63, (size, 4), np.uint64) & np.uint64(0x0101010101010101)
    names = [SPLITS[number] for number in chance.integers(0, 3, size)]
    ids = np.arange(size, dtype=np.int64) * 7
    apart = {(7 * i, 7 * j) for i in range(size) for j in range(i) if (i + j) % 5 == 0}
    slow = min(
        (
            (sum(int(a ^ b).bit_count() for a, b in zip(hashes[i], hashes[j], strict=True)), i, j)
            for i in range(size)
            for j in range(i + 1, size)
            if names[i] != names[j] and (7 * j, 7 * i) not in apart
        ),
        default=None,
    )
    left_out = np.array(sorted(apart), np.int64).reshape(-1, 2)
    comparison = certificate.compare(ids, hashes, np.array(names), apart=left_out, limit=8)
    pair = comparison.closest
    within = Counter(
        "-".join(sorted((names[i], names[j]), key=SPLITS.index))
        for i in range(size)
        for j in range(i + 1, size)
        if names[i] != names[j]
        and (7 * j, 7 * i) not in apart
        and sum(int(a ^ b).bit_count() for a, b in zip(hashes[i], hashes[j], strict=True)) <= 8
    )
    assert within == Counter(comparison.within)

    if slow is None or pair is None:
        assert slow is pair is None
    else:
        assert (slow[0], 7 * slow[1], 7 * slow[2]) == (pair.distance, pair.post_a, pair.post_b)


@pytest.mark.parametrize(
    ("border", "tagged", "tags", "expected"),
    [
        (0.95, True, ["solo", "white_background"], True),
        (0.95, False, ["solo"], False),
        (0.95, False, [], True),
        (0.90, False, [], True),
        (0.89, True, ["solo", "white_background"], False),
        (None, False, [], False),
    ],
)
def test_white_background_is_border_and_tag(folder: Folder, border, tagged, tags, expected) -> None:
    """Without tags, a white border suffices; with tags, the tag must agree."""
    folder.border[1], folder.tags[1] = border, tags
    folder.tagged = {1} if tagged else set()
    rows = {row["post_id"]: row["white_background"] for row in folder.run()}

    assert expected == rows[1]


def test_white_background_of_a_given_label_needs_no_tag(folder: Folder) -> None:
    """Tags that a source derives from its label and family have no effect on the background."""
    folder.border, folder.tags = {1: 0.95, 2: 0.95}, {1: ["family"], 2: ["family"]}
    folder.given_labels = {1}
    rows = {row["post_id"]: row["white_background"] for row in folder.run()}

    assert (True, False) == (rows[1], rows[2])


def test_labels_without_groups_are_tables_of_two_runs(folder: Folder) -> None:
    """A labelled post that `duplicates` never processed stops the stage; the error gives its id."""
    folder.write()
    path = folder.data_dir / "duplicates" / "groups.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)

    with pytest.raises(MissingInput, match="Post 1 has a label but no duplicate group"):
        split.run(LOOSE, data_dir=folder.data_dir, work_dir=folder.data_dir)


def test_missing_table_and_column_are_named(folder: Folder) -> None:
    """A missing table or column is an error with file, column and the stage to run."""
    with pytest.raises(MissingInput, match="stage 'persona' writes it"):
        split.run(LOOSE, data_dir=folder.data_dir, work_dir=folder.data_dir)
    folder.write()
    path = folder.data_dir / "persona" / "labels.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["leaf"]), path)
    with pytest.raises(MissingColumn, match=r"labels.parquet lacks column leaf"):
        split.run(LOOSE, data_dir=folder.data_dir, work_dir=folder.data_dir)


def test_shares_that_do_not_add_up_are_refused() -> None:
    """Three shares that do not add up to 1 are refused."""
    with pytest.raises(ValidationError, match=r"add up to 1\.2, not to 1"):
        split.Params(train=0.8)
