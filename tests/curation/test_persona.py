"""Tests the labels: which are large enough, how many samples each gets, and which samples."""

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curation import persona
from curation.errors import TooFewSamples
from personae import tables
from personae.decisions import DECISIONS
from personae.errors import MissingInput

SIZES = {"zinc": 12, "amber": 9, "Beryl": 15, "coral_(winter)": 3}
KEPT = pa.schema(
    [("post_id", pa.int64())] + [(name, pa.string()) for name in ("persona", "base", "copyright")]
)


@pytest.fixture
def folder(tmp_path):
    """Returns the tables of four labels of unequal size and one post that `duplicates` refused."""
    write(tmp_path, SIZES)
    return tmp_path


def write(folder, sizes) -> None:
    kept, decided = [], []
    for label, size in sizes.items():
        for number in range(size):
            post_id = 1000 * (1 + list(sizes).index(label)) + number
            base = label.removesuffix("_(winter)")
            row = {"post_id": post_id, "persona": label, "base": base, "copyright": "mine"}
            kept.append(row)
            decided.append({"post_id": post_id, "stage": "duplicates", "kept": True})
    refused = {"post_id": 1, "stage": "duplicates", "kept": False, "reason": "near_duplicate"}
    tables.write(folder / "decide" / "kept.parquet", pa.Table.from_pylist(kept, schema=KEPT))
    tables.write(
        folder / "duplicates" / "decisions.parquet",
        pa.Table.from_pylist([refused, *decided], schema=DECISIONS),
    )


def run(folder, **params) -> dict[str, list[dict]]:
    persona.run(persona.Params(**params), data_dir=folder, work_dir=folder)
    names = ("labels", "classes", "decisions")
    return {
        name: pq.read_table(folder / "persona" / f"{name}.parquet").to_pylist() for name in names
    }


def counts(tables) -> dict[str, int]:
    return dict(Counter(row["label"] for row in tables["labels"]))


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"min_samples": 5}, {"Beryl": 9, "amber": 9, "zinc": 9}),
        ({"min_samples": 1}, dict.fromkeys(SIZES, 3)),
        ({"min_samples": 5, "cap": 7}, {"Beryl": 7, "amber": 7, "zinc": 7}),
        ({"min_samples": 5, "cap": 99}, {"Beryl": 9, "amber": 9, "zinc": 9}),
        ({"min_samples": 5, "balance": "cap", "cap": 10}, {"Beryl": 10, "amber": 9, "zinc": 10}),
        ({"min_samples": 1, "balance": "none"}, SIZES),
        ({"min_samples": 5, "balance": "none"}, {"Beryl": 15, "amber": 9, "zinc": 12}),
    ],
)
def test_balances(folder, params, expected) -> None:
    """`equal` takes the size of the smallest label, a cap limits it, and `none` takes all."""
    assert expected == counts(run(folder, **params))


@pytest.mark.parametrize("params", [{"balance": "cap"}, {"balance": "none", "cap": 2}])
def test_refuses_a_balance_that_contradicts_the_cap(params) -> None:
    """A cap without its number, or a number without a cap, is refused."""
    with pytest.raises(ValidationError, match="does not go with cap"):
        persona.Params(**params)


def test_leaves_are_in_byte_order(folder) -> None:
    """Leaves are numbered in byte order of the labels, and labels and classes agree."""
    tables = run(folder, min_samples=1)

    assert ["Beryl", "amber", "coral_(winter)", "zinc"] == [
        row["label"] for row in tables["classes"]
    ]
    assert [0, 1, 2, 3] == [row["leaf"] for row in tables["classes"]]
    leaf_of = {row["label"]: row["leaf"] for row in tables["classes"]}
    assert all(row["leaf"] == leaf_of[row["label"]] for row in tables["labels"])
    assert sorted(row["post_id"] for row in tables["labels"]) == [
        row["post_id"] for row in tables["labels"]
    ]


def test_classes_keep_what_there_was(folder) -> None:
    """A class records its base, its copyright, and its numbers of available and taken samples."""
    row = run(folder, min_samples=1)["classes"][2]

    assert {
        "label": "coral_(winter)",
        "leaf": 2,
        "base": "coral",
        "copyright": "mine",
        "available": 3,
        "samples": 3,
    } == row


def test_every_post_has_its_decision(folder) -> None:
    """Each omitted post has a reason and numbers; refusals of earlier stages are not repeated."""
    tables = run(folder, min_samples=5)
    decided = {row["post_id"]: row for row in tables["decisions"]}
    reasons = Counter(row["reason"] for row in tables["decisions"])

    assert sum(SIZES.values()) == len(decided) == len(tables["decisions"])
    assert {None: 27, "label_too_small": 3, "over_cap": 9} == reasons
    assert (3.0, 5.0) == (decided[4000]["measured"], decided[4000]["threshold"])
    over = sorted(row["measured"] for row in decided.values() if row["reason"] == "over_cap")
    assert [10.0, 10.0, 11.0, 11.0, 12.0, 12.0, 13.0, 14.0, 15.0] == over
    assert {row["post_id"] for row in tables["labels"]} == {
        post_id for post_id, row in decided.items() if row["kept"]
    }


@given(
    posts=st.lists(st.integers(0, 1 << 60), unique=True, max_size=40),
    more=st.lists(st.integers(0, 1 << 60), unique=True, max_size=40),
    most=st.integers(1, 20),
)
def test_growth_keeps_the_order(posts: list[int], more: list[int], most: int) -> None:
    """New posts never reorder old posts, and a larger number keeps all posts taken before."""
    before = persona.ranked(posts)
    after = persona.ranked(sorted({*posts, *more}))

    assert before == [post_id for post_id in after if post_id in set(posts)]
    assert set(before[:most]) <= set(before[: most + 1])
    assert set(after[:most]) - set(more) <= set(before[:most])


def test_names_the_largest_when_all_are_too_small(folder) -> None:
    """If no label is large enough, the error gives the size of the largest label."""
    with pytest.raises(TooFewSamples, match=r"No label has 16 samples.*'Beryl', has 15"):
        run(folder, min_samples=16)
    write(folder, {})
    with pytest.raises(TooFewSamples, match="there is none"):
        run(folder)


def test_refuses_a_post_without_persona(folder) -> None:
    """A post without a persona stops the stage, and the error gives its id."""
    path = folder / "decide" / "kept.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)

    with pytest.raises(MissingInput, match="lacks post 1000"):
        run(folder)


def test_writes_the_same_bytes_twice(folder) -> None:
    """Equal inputs and parameters give equal files."""
    run(folder, min_samples=5)
    first = {path.name: path.read_bytes() for path in (folder / "persona").iterdir()}
    run(folder, min_samples=5)

    assert first == {path.name: path.read_bytes() for path in (folder / "persona").iterdir()}
