"""
Tests the leaf rule on the four pairs of look-alikes of the Uppsala report.

Whether a form and its base are one persona or two is decided by the implications of the board, on
the day of the listing. The tests state every case, because no table of implications is recorded.
"""

import csv
import gzip
from dataclasses import replace

import pytest
import yaml

from scraper.personae import Kinship, lineage
from tests.scraper.decide_fixture import GOOD, decided, listing
from tests.scraper.test_reports_personae import PAIRS

__all__ = ["decided", "listing"]

EDGES = [(form, base) for base, form in PAIRS]
KING = "artoria_pendragon_(fate)"
"""On Danbooru a third name of the fourth pair, with more posts than both."""

pytestmark = pytest.mark.parametrize(("base", "form"), PAIRS)


def posts_of(base, form):
    """Returns one post of the base, one of the form with its base, and one of the form alone."""
    return [
        replace(GOOD, post_id=1, tags_character=(base,)),
        replace(GOOD, post_id=2, tags_character=(base, form)),
        replace(GOOD, post_id=3, tags_character=(form,)),
    ]


def outcome(tables):
    """Returns post id to persona and base for kept posts, and post id to reason for others."""
    decisions, kept, _ = tables
    return (
        {row["post_id"]: (row["persona"], row["base"]) for row in kept},
        {row["post_id"]: row["reason"] for row in decisions if not row["kept"]},
    )


def test_a_post_with_form_and_base_counts_for_the_form_alone(base, form, decided):
    """If the form implies the base, a post with both is one of the form and none of the base."""
    kept, refused = outcome(decided(posts_of(base, form), implications=EDGES))

    assert {1: (base, base), 2: (form, base), 3: (form, base)} == kept
    assert {} == refused


def test_both_as_distinct_characters_are_two_characters(base, form, decided):
    """If neither implies the other, a post with both shows two characters and is refused."""
    kept, refused = outcome(decided(posts_of(base, form), implications=[("4koma", "comic")]))

    assert {1: (base, base), 3: (form, form)} == kept
    assert {2: "two_personas"} == refused


def test_without_any_implication_the_names_of_the_pairs_prove_nothing(base, form, decided):
    """The name rule relates none of the pairs: a post with both is refused, never guessed."""
    kept, refused = outcome(decided(posts_of(base, form), implications=[]))

    assert {1, 3} == kept.keys()
    assert {2: "two_personas"} == refused


def test_an_implication_added_after_the_post_gives_its_base(base, form, decided):
    """A new row of the table changes no post: the form alone keeps its label and gains its base."""
    posts = posts_of(base, form)
    before, _ = outcome(decided(posts, implications=[("4koma", "comic")]))
    after, refused = outcome(decided(posts, implications=EDGES))

    assert [(form, form), (form, base)] == [before[3], after[3]]
    assert before[1] == after[1]
    assert {} == refused


def test_an_implication_that_the_board_removed_separates_the_pair(base, form, decided):
    """Posts saved while the row was active still have both names: they are refused from then on."""
    posts = posts_of(base, form)
    outcome(decided(posts, implications=EDGES))
    kept, refused = outcome(
        decided(posts, implications=[edge for edge in EDGES if edge != (form, base)])
    )

    assert {1: (base, base), 3: (form, form)} == kept
    assert {2: "two_personas"} == refused


def test_siblings_under_a_third_name_stay_two(base, form, decided):
    """If both imply a third name, each counts for itself, and a post with both is refused."""
    edges = [(base, KING), (form, KING)]
    posts = [
        replace(GOOD, post_id=1, tags_character=(base, KING)),
        replace(GOOD, post_id=2, tags_character=(form, KING)),
        replace(GOOD, post_id=3, tags_character=(base, form, KING)),
        replace(GOOD, post_id=4, tags_character=(KING,)),
    ]
    kept, refused = outcome(decided(posts, implications=edges))

    assert {1: (base, KING), 2: (form, KING), 4: (KING, KING)} == kept
    assert {3: "two_personas"} == refused


def test_old_names_of_the_pair_are_the_same_personae(base, form, decided):
    """An alias is resolved before the leaf rule, in posts and in implications."""
    posts = posts_of("old_base", "old_form")
    kept, refused = outcome(
        decided(
            posts,
            aliases=[("old_base", base), ("old_form", form)],
            implications=[("old_form", "old_base")],
        )
    )

    assert {1: (base, base), 2: (form, base), 3: (form, base)} == kept
    assert {} == refused


def test_real_tags_agree_with_a_form_and_its_base(base, form, real_data):
    """Both are character tags under their own names; the form has fewer posts, as a form must."""
    root = real_data / "danbooru-tags"
    with gzip.open(root / "tags.csv.gz", "rt", encoding="utf-8") as file:
        counts = {
            row["name"]: int(row["post_count"])
            for row in csv.DictReader(file)
            if row["category"] == "4"
        }
    with gzip.open(root / "aliases.csv.gz", "rt", encoding="utf-8") as file:
        old = {row["antecedent"] for row in csv.DictReader(file)}

    assert {base, form}.isdisjoint(old)
    assert 1_000 < counts[form] < counts[base]
    assert counts[KING] > counts["saber_(fate)"] > counts["saber_alter"]


def test_a_recorded_post_has_both_names_of_two_pairs(base, form, real_data):
    """One recorded post has 106 characters and `solo`; implications take away the bases alone."""
    path = next(real_data.glob("danbooru-fixtures/danbooru/pagination/02-*.yaml"))
    body = yaml.safe_load(path.read_text())["response"]["body_json"]
    post = next(row for row in body if "akuma_homura" in row["tag_string_character"].split())
    names = post["tag_string_character"].split()
    leaves = {
        table: set(lineage(names, [], Kinship.from_pairs([], pairs)).leaves)
        for table, pairs in (("with", EDGES), ("without", [("4koma", "comic")]))
    }

    assert "solo" in post["tag_string_general"].split()
    assert len(leaves["with"]) > 90
    assert {base, form} & set(names) == {base, form} & leaves["without"]
    assert form not in names or base not in leaves["with"]
