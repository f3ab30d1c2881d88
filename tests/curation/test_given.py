"""Tests given splits: they are kept as given, with a validation split of exact size."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curation import split
from curation.errors import TooFewSamples
from curation.given import validation
from personae.errors import BadParams, MissingInput
from tests.curation.split_fixture import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Returns the tables of 800 posts and two labels without duplicates."""
    return Folder(tmp_path)


def test_given_split_is_taken_and_leaks_are_only_reported(folder: Folder) -> None:
    """`mode: given` keeps the given splits, whatever their shares, and only reports duplicates."""
    folder.given = {post: ("test", "train", "train", "val")[post % 4] for post in folder.labels}
    folder.hashes[4] = folder.hashes[1 + 4]
    rows = folder.run(split.Params(mode="given", tolerance=0.01))

    assert folder.given == {row["post_id"]: row["split"] for row in rows}
    assert not folder.certificate()["passed"]
    assert (4, 5, 0) == tuple(
        folder.certificate()["closest"][name] for name in ("post_a", "post_b", "distance")
    )


def test_certificate_counts_pairs_of_a_given_split(folder: Folder) -> None:
    """The certificate counts near pairs per pair of splits, except pairs of different pixels."""
    folder.given = {post: ("test", "train")[post % 2] for post in folder.labels}
    folder.hashes[4] = folder.hashes[5] = folder.hashes[8] = b"\xaa" * 32
    folder.apart = [(5, 8)]
    folder.run(split.Params(mode="given", val=0.01, train=0.74))

    assert 1 == folder.certificate()["pairs_within"]["train-test"]
    assert 1 == folder.certificate()["pairs_told_apart"]


def test_validation_divides_no_linked_posts(folder: Folder) -> None:
    """With a given split, linked posts of `train` are all in train or all in validation."""
    folder.given = dict.fromkeys(folder.labels, "train")
    posts = sorted(folder.labels)
    folder.links = list(zip(posts[::2], posts[1::2], strict=True))
    split_of = {row["post_id"]: row["split"] for row in folder.run(split.Params(mode="given"))}

    assert {"train", "val"} == set(split_of.values())
    assert all(split_of[first] == split_of[second] for first, second in folder.links)


@pytest.mark.parametrize("val_from", ["train", "test"])
def test_validation_has_the_exact_number_of_each_label(tmp_path, val_from) -> None:
    """`val_per_label` images of each label move from `val_from` to val; no other post moves."""
    folder = Folder(tmp_path, posts=400, labels=4)
    folder.given = {
        post: "test" if post % 12 in (1, 2, 7, 8) else "train" for post in folder.labels
    }
    rows = folder.run(split.Params(mode="given", val_from=val_from, val_per_label=13))
    counts = Counter((row["label"], row["split"]) for row in rows)

    assert {(label, 13) for label in set(folder.labels.values())} == {
        (label, count) for (label, side), count in counts.items() if side == "val"
    }
    assert {val_from} == {folder.given[row["post_id"]] for row in rows if row["split"] == "val"}
    assert all(
        folder.given[row["post_id"]] == row["split"] for row in rows if row["split"] != "val"
    )


def test_exact_validation_keeps_duplicates_and_given_groups_together(folder: Folder) -> None:
    """Posts of the same group or given group are all in val or all in train."""
    posts = sorted(folder.labels)
    folder.given = dict.fromkeys(posts[:-200], "train") | dict.fromkeys(posts[-200:], "test")
    folder.groups = {posts[i + 1]: posts[i] for i in range(0, 100, 2)}
    folder.given_groups = {posts[i]: f"scene {i % 40}" for i in range(100, 300)}
    rows = folder.run(split.Params(mode="given", val_per_label=70))
    side = {row["post_id"]: row["split"] for row in rows}

    assert {70} == set(Counter(row["label"] for row in rows if row["split"] == "val").values())
    assert all(side[posts[i]] == side[posts[i + 1]] for i in range(0, 100, 2))
    for scene in range(40):
        shown = {
            side[post] for post, group in folder.given_groups.items() if group == f"scene {scene}"
        }
        assert 1 == len(shown)


def test_exact_validation_of_too_few_is_named(folder: Folder) -> None:
    """A label with too few images stops the stage, and the error names the label."""
    folder.given = {post: "train" if post > 6 else "test" for post in folder.labels}
    with pytest.raises(TooFewSamples, match=r"Label 'label_0' gives 2 of the 3 images"):
        folder.run(split.Params(mode="given", val_from="test", val_per_label=3))


def test_exact_validation_beside_a_given_one_is_refused(folder: Folder) -> None:
    """`val_per_label` is refused if the source has its own validation split."""
    folder.given = {post: ("test", "train", "val")[post % 5 % 3] for post in folder.labels}
    with pytest.raises(BadParams, match="the source has a validation split of its own"):
        folder.run(split.Params(mode="given", val_per_label=3))


def test_protocol_of_a_given_split_needs_the_mode() -> None:
    """`val_per_label` without `mode: given` is refused, because it would have no effect."""
    with pytest.raises(ValidationError, match="are for `mode: given`"):
        split.Params(val_per_label=50)


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_validation_is_exact_stable_and_whole(seed, per_label) -> None:
    """Each label gets its exact number, groups stay whole, and post order has no effect."""
    chance = random.Random(seed)
    ids = chance.sample(range(1, 2**62), 120)
    label_of = {post: f"label_{number % 4}" for number, post in enumerate(ids)}
    group_of = {post: min(ids[number - number % 2 : number + 1]) for number, post in enumerate(ids)}
    group_of = {post: group_of[post] if chance.random() < 0.3 else post for post in ids}
    taken = validation(group_of, label_of, per_label=per_label, seed=seed)
    shuffled = dict(chance.sample(sorted(group_of.items()), len(group_of)))

    assert dict.fromkeys(label_of.values(), per_label) == Counter(label_of[p] for p in taken)
    assert taken == validation(shuffled, label_of, per_label=per_label, seed=seed)
    assert {group_of[p] for p in taken}.isdisjoint(group_of[p] for p in ids if p not in taken)


def test_given_split_without_val_draws_it_from_train(folder: Folder) -> None:
    """If the source has only train and test, the validation split is drawn from train."""
    folder.given = {post: "test" if post % 4 == 0 else "train" for post in folder.labels}
    rows = folder.run(split.Params(mode="given"))
    counts = Counter(row["split"] for row in rows)

    assert {post for post, side in folder.given.items() if side == "test"} == {
        row["post_id"] for row in rows if row["split"] == "test"
    }
    assert pytest.approx(0.2, abs=0.05) == counts["val"] / (counts["val"] + counts["train"])


def test_post_without_given_split_is_named(folder: Folder) -> None:
    """With `mode: given`, a post without a split is an error with the post id and the remedy."""
    with pytest.raises(MissingInput, match="Post 1 has the given split None"):
        folder.run(split.Params(mode="given"))
