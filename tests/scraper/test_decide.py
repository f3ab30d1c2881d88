"""Tests stage `decide`: it reads the listing tables and writes three tables."""

import hashlib
import json
import logging
import random
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from personae.decisions import DECISIONS
from personae.errors import BadParams, BadTable, MissingColumn, MissingInput
from scraper import decide, personae
from scraper.decide import KEPT_SCHEMA, PERSONAE_SCHEMA
from scraper.filters import RULES
from tests.scraper.decide_fixture import FEW, GOOD, IMPLICATIONS, decided, listing, many

__all__ = ["decided", "listing"]  # fixtures


def test_keeps_a_good_post(decided):
    """A good post has one decision without a reason, and a row with its persona."""
    decisions, kept, people = decided([GOOD])

    assert [
        {
            "post_id": 1,
            "stage": "decide",
            "kept": True,
            "reason": None,
            "measured": None,
            "threshold": None,
        }
    ] == decisions
    assert [
        {
            "post_id": 1,
            "persona": "rin",
            "base": "rin",
            "base_source": "self",
            "copyright": "vocaloid",
            "white_background_tag": False,
        }
    ] == kept
    assert [
        {
            "persona": "rin",
            "base": "rin",
            "copyright": "vocaloid",
            "listed": 1,
            "kept": 1,
            "qualifies": True,
            "reason": None,
        }
    ] == people


REFUSED = {
    "hidden": {"md5": None, "variants": ()},
    "deleted": {"is_deleted": True},
    "banned": {"is_banned": True},
    "pending": {"is_pending": True},
    "flagged": {"is_flagged": True},
    "rating": {"rating": "s"},
    "file_type": {"file_ext": "avif"},
    "animated": {"duration_seconds": 2.0},
    "not_solo": {"tags_general": ("1girl",)},
    "person_count": {"tags_general": ("2girls", "solo")},
    "no_persona": {"tags_character": ()},
    "two_personas": {"tags_character": ("miku", "rin")},
    "two_bases": {"tags_character": ("fusion",)},
    "comic": {"tags_general": ("1girl", "solo", "manga")},
    "monochrome_tag": {"tags_general": ("1girl", "solo", "greyscale")},
    "cosplay": {"tags_character": ("rin", "miku_(cosplay)")},
    "several_views": {"tags_general": ("1girl", "solo", "multiple_views")},
    "not_a_drawing": {"tags_meta": ("photo_(medium)",)},
    "machine_made": {"tags_meta": ("ai-generated",)},
    "damaged_tag": {"tags_meta": ("corrupted_image",)},
    "unfinished_tags": {"tags_meta": ("tagme",)},
    "small": {"image_width": 255, "image_height": 300},
    "extreme_shape": {"image_width": 300, "image_height": 901},
    "refused_tag": {"tags_general": ("1girl", "solo", "chibi")},
    "excluded": {},
}


def test_every_rule_reaches_the_table(decided):
    """Of one post for each rule, each is refused with its own reason, and nothing is kept."""
    assert set(RULES) == set(REFUSED)
    posts = [
        replace(GOOD, post_id=number, **changes) for number, changes in enumerate(REFUSED.values())
    ]
    fusion = [("fusion", "rin"), ("fusion", "miku")]
    decisions, kept, _ = decided(
        posts,
        decide.Params(refuse_tags=("chibi",), exclude_posts=(str(len(posts) - 1),)),
        implications=IMPLICATIONS + fusion,
    )

    assert list(enumerate(REFUSED)) == [(row["post_id"], row["reason"]) for row in decisions]
    assert [] == kept


def test_all_failures_of_a_post_are_recorded(decided):
    """A post that breaks three rules has three rows, with numbers where numbers are compared."""
    post = replace(GOOD, is_deleted=True, tags_character=("a", "b"), image_width=100)
    decisions, *_ = decided([post])

    assert [
        ("deleted", None, None),
        ("two_personas", 2, 1),
        ("small", 100, 256),
        ("extreme_shape", 12, 3),
    ] == [(row["reason"], row["measured"], row["threshold"]) for row in decisions]


def test_aliases_and_implications_are_resolved_first(decided):
    """An old tag name counts as the current one, and a form gets its base."""
    posts = [
        replace(GOOD, post_id=1, tags_character=("rin_kagamine",)),
        replace(GOOD, post_id=2, tags_character=("rin", "rin_(party)")),
        replace(GOOD, post_id=3, tags_character=("rin_(party)",)),
    ]
    _, kept, people = decided(posts)

    assert [
        ("rin", "rin", "self"),
        ("rin_(party)", "rin", "implication"),
        ("rin_(party)", "rin", "implication"),
    ] == [(row["persona"], row["base"], row["base_source"]) for row in kept]
    assert [("rin", 1), ("rin_(party)", 2)] == [(row["persona"], row["kept"]) for row in people]


def test_base_by_name_holds_for_the_whole_persona(decided):
    """Without implications, a base seen on one post applies to all posts of the persona."""
    posts = [
        *many(3, tags_character=("rin_(party)",)),
        replace(GOOD, post_id=200, tags_character=("rin", "rin_(party)")),
    ]
    _, kept, _ = decided(posts, implications=[])

    assert {("rin", "name")} == {(row["base"], row["base_source"]) for row in kept}


def test_small_personae_are_refused_with_their_numbers(decided):
    """Posts of a persona below `min_images` record its number of images and the minimum."""
    posts = [*many(3), replace(GOOD, post_id=7, tags_character=("miku",))]
    decisions, kept, people = decided(posts, wanted=personae.Params(min_images=3))

    assert (7, False, "persona_too_small", 1, 3) == tuple(
        decisions[0][name] for name in ("post_id", "kept", "reason", "measured", "threshold")
    )
    assert [100, 101, 102] == [row["post_id"] for row in kept]
    assert [("miku", False, "persona_too_small"), ("rin", True, None)] == [
        (row["persona"], row["qualifies"], row["reason"]) for row in people
    ]


def test_personae_of_other_series_are_refused(decided):
    """The series of a persona is the copyright tag on most of its posts."""
    others = [
        replace(post, post_id=post.post_id + 50, tags_character=("miku",), tags_copyright=("song",))
        for post in many(4)
    ]
    _, kept, people = decided(
        [*many(3), *others], wanted=personae.Params(min_images=1, copyrights=("song",))
    )

    assert {"miku"} == {row["persona"] for row in kept}
    assert [None, "other_copyright"] == [row["reason"] for row in people]


def test_surplus_personae_are_refused_with_their_rank(decided):
    """With `labels`, posts of the personae that are not chosen record the rank of their persona."""
    posts = [*many(3), replace(GOOD, post_id=7, tags_character=("miku",))]
    decisions, *_ = decided(posts, wanted=personae.Params(min_images=1, labels=1))

    assert ("persona_not_chosen", 2, 1) == tuple(
        decisions[0][name] for name in ("reason", "measured", "threshold")
    )


def test_enough_images_takes_the_first_by_hash(decided):
    """With `max_images`, posts are chosen by the hash of their id; the others record their rank."""
    decisions, kept, people = decided(many(20), wanted=personae.Params(min_images=1, max_images=8))
    ranked = sorted(range(100, 120), key=personae.hash_order)

    assert sorted(ranked[:8]) == [row["post_id"] for row in kept]
    surplus = {row["post_id"]: row for row in decisions if not row["kept"]}
    assert {post_id: (rank, 8) for rank, post_id in enumerate(ranked[8:], start=9)} == {
        post_id: (row["measured"], row["threshold"]) for post_id, row in surplus.items()
    }
    assert {"enough_images"} == {row["reason"] for row in surplus.values()}
    assert (20, 20, True) == tuple(people[0][name] for name in ("listed", "kept", "qualifies"))


def test_white_background_is_a_column(decided):
    """The tag for a white background is recorded and never refuses a post."""
    white = replace(GOOD, post_id=2, tags_general=("1girl", "solo", "white_background"))
    _, kept, _ = decided([GOOD, white])

    assert [False, True] == [row["white_background_tag"] for row in kept]


def test_accepted_tags_refuse_nothing(decided):
    """A tag that the parameters accept refuses no post."""
    small_board = replace(GOOD, tags_meta=("lowres",))

    assert "damaged_tag" == decided([small_board])[0][0]["reason"]
    assert None is decided([small_board], decide.Params(accept_tags=("lowres",)))[0][0]["reason"]


def test_given_label_is_the_persona(decided):
    """An image with a given label keeps that label, without any tag."""
    nothing = {f"tags_{kind}": () for kind in ("general", "character", "copyright", "meta")}
    _, kept, _ = decided([replace(GOOD, given_label="sparrow", **nothing)])

    assert [("sparrow", "sparrow", None)] == [
        (row["persona"], row["base"], row["copyright"]) for row in kept
    ]


def test_listed_counts_refused_posts_too(decided):
    """`listed` counts every post with the persona, `kept` those that broke no rule."""
    posts = [*many(2), replace(GOOD, tags_character=("rin", "miku"))]
    _, _, people = decided(posts)

    assert [("miku", 1, 0), ("rin", 3, 2)] == [
        (row["persona"], row["listed"], row["kept"]) for row in people
    ]


def test_copyright_is_the_one_on_most_posts(decided):
    """The copyright of a persona is its most frequent one; ties are decided by name."""
    posts = [
        replace(GOOD, post_id=1, tags_copyright=("b", "a")),
        replace(GOOD, post_id=2, tags_copyright=("c", "b")),
    ]

    assert ["b", "b"] == [row["copyright"] for row in decided(posts)[1]]
    assert ["a"] == [row["copyright"] for row in decided(posts[:1])[1]]


def test_no_posts_make_empty_tables(decided):
    """An empty listing gives empty tables, with their schemas."""
    assert ([], [], []) == decided([])


def test_schemas_are_fixed(decided, tmp_path):
    """The tables have the documented columns and record the effective parameters."""
    decided([GOOD])
    read = {
        name: pq.read_schema(tmp_path / "decide" / f"{name}.parquet")
        for name in ("decisions", "kept", "personae")
    }

    assert read["decisions"].equals(DECISIONS)
    assert read["kept"].equals(KEPT_SCHEMA)
    assert read["personae"].equals(PERSONAE_SCHEMA)
    effective = json.loads(read["decisions"].metadata[b"personae.params"])
    assert (256, 1) == (effective["decide"]["min_side"], effective["personae"]["min_images"])


def varied_posts(count):
    """Returns posts of six personae that break rules at random, from a fixed seed."""
    dice = random.Random(0)
    changes = list(REFUSED.values())
    for number in range(count):
        post = replace(GOOD, post_id=number * 3, tags_character=(f"p{dice.randrange(6)}",))
        for change in dice.sample(changes, dice.choice([0, 0, 0, 1, 2])):
            post = replace(post, **change)
        yield post


def test_same_input_gives_the_same_bytes_whatever_the_order_of_tags(decided, tmp_path):
    """Two runs on the same posts, one with shuffled tags, write identical files."""
    posts = list(varied_posts(400))
    wanted = personae.Params(min_images=10, max_images=20, labels=4)
    shuffled = [
        replace(
            post,
            tags_general=post.tags_general[::-1],
            tags_character=post.tags_character[::-1],
        )
        for post in posts
    ]
    sums = []
    for version in (posts, shuffled):
        decided(version, wanted=wanted)
        sums.append(
            {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in (tmp_path / "decide").iterdir()
            }
        )

    assert {"decisions.parquet", "kept.parquet", "personae.parquet"} == set(sums[0])
    assert sums[0] == sums[1]


def test_every_post_is_either_kept_or_refused(decided, caplog):
    """Each post has one row that keeps it or rows that refuse it; totals of log and table agree."""
    posts = list(varied_posts(400))
    with caplog.at_level(logging.INFO):
        decisions, kept, _ = decided(posts, wanted=personae.Params(min_images=10, max_images=20))
    outcomes = {}
    for row in decisions:
        outcomes.setdefault(row["post_id"], []).append((row["kept"], row["reason"]))

    assert [post.post_id for post in posts] == list(outcomes)
    assert {row["post_id"] for row in kept} == {
        post_id for post_id, rows in outcomes.items() if rows == [(True, None)]
    }
    assert all(
        rows == [(True, None)] or all(not kept and reason for kept, reason in rows)
        for rows in outcomes.values()
    )
    small = sum(row["reason"] == "small" for row in decisions)
    assert f"small {small}" in caplog.messages[-1]
    assert f"400 posts, {len(kept)} kept" in caplog.messages[-1]


def test_absent_table_names_the_stage_that_writes_it(tmp_path):
    """If the tables of `listing` are absent, the error says which stage to run."""
    with pytest.raises(MissingInput, match="stage 'listing' writes it"):
        decide.run(decide.Params(), FEW, tmp_path, tmp_path / "decide")


def test_absent_column_is_named(listing, tmp_path):
    """A table without a required column is refused, and the error gives the column."""
    folder = listing([GOOD])
    path = folder / "posts.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["rating"]), path)

    with pytest.raises(MissingColumn, match="lacks column rating"):
        decide.run(decide.Params(), FEW, folder, tmp_path / "decide")


@pytest.mark.parametrize("reason", ["solo", "two_personas"])
def test_unknown_or_indispensable_rule_cannot_be_skipped(reason):
    """`skip` accepts only existing rules that do not determine the label."""
    with pytest.raises(ValidationError, match=f"'{reason}'"):
        decide.Params(skip=(reason,))


def test_skipped_rule_keeps_the_post(decided):
    """A skipped rule refuses nothing."""
    flagged = replace(GOOD, is_flagged=True)

    assert [1] == [
        row["post_id"] for row in decided([flagged], decide.Params(skip=("flagged",)))[1]
    ]


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("image_width", ["900"], "has the type string, not int32"),
        ("image_width", pa.nulls(1, pa.int32()), "has 1 empty values"),
        ("variants", ["x"], "has the type string"),
        ("tags_character", pa.nulls(1, pa.list_(pa.string())), "has 1 empty values"),
    ],
)
def test_foreign_column_is_named(listing, tmp_path, column, values, problem):
    """A column of another type, or an empty value that a rule needs, is named with its stage."""
    path = listing([GOOD]) / "posts.parquet"
    table = pq.read_table(path)
    pq.write_table(
        table.set_column(table.schema.get_field_index(column), column, pa.array(values)), path
    )

    with pytest.raises(BadTable, match=f"Column '{column}' of .*{problem}.*Run stage 'listing'"):
        decide.run(decide.Params(), FEW, path.parent, tmp_path / "decide")


def test_a_misspelt_exclusion_is_an_error(listing, tmp_path):
    """An excluded persona is on a listed post, or one that stage `listing` looked up on the board."""
    folder = listing([GOOD])

    def run(*exclude):
        wanted = personae.Params(min_images=1, exclude=exclude)
        decide.run(decide.Params(), wanted, folder, tmp_path / "decide")

    with pytest.raises(BadParams, match=r"'personae\.exclude' holds 'rinn', .* Did you mean rin\?"):
        run("rinn")
    with pytest.raises(BadParams, match=r"which is on no listed post\. Listed: rin\."):
        run("mai")
    posts = pq.read_table(folder / "posts.parquet")
    params = {"personae.params": json.dumps({"personae": {"exclude": ["mai"]}})}
    pq.write_table(posts.replace_schema_metadata(params), folder / "posts.parquet")
    run("rin", "mai")
