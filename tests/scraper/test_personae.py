"""Tests leaves, bases and the choice of personae."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personae.errors import BadParams
from scraper.personae import Kinship, Lineage, Params, PersonaRefusal, choose, hash_order, lineage

TABLE = Kinship.from_pairs(
    aliases=[("chloe", "sakamata_chloe"), ("old_chloe", "chloe")],
    implications=[
        ("sakamata_chloe_(1st_costume)", "sakamata_chloe"),
        ("sakamata_chloe_(party)", "sakamata_chloe"),
        ("void_shiki_(swimsuit)", "void_shiki"),
        ("void_shiki", "ryougi_shiki"),
        ("void_shiki_(swimsuit)", "ryougi_shiki"),  # redundant: already implied
        ("fusion", "rin"),
        ("fusion", "miku"),
        ("4koma", "comic"),
    ],
)
NO_TABLE = Kinship.from_pairs([], [])


def who(*characters, copyrights=(), kinship=TABLE):
    return lineage(characters, copyrights, kinship)


def test_lone_character_is_leaf_and_base():
    """A character without implications is its own base."""
    assert Lineage(("rin",), ("rin",), "self") == who("rin")


def test_form_with_its_base_is_one_persona():
    """A form and the base that it implies are one leaf, the form."""
    form = "sakamata_chloe_(1st_costume)"

    assert Lineage((form,), ("sakamata_chloe",), "implication") == who("sakamata_chloe", form)


def test_base_comes_from_the_table_when_the_post_lacks_it():
    """An implication newer than the post's last edit still gives the base."""
    form = "sakamata_chloe_(1st_costume)"

    assert Lineage((form,), ("sakamata_chloe",), "implication") == who(form)


def test_nested_forms_reach_the_last_base():
    """Implications are followed to their end, at any depth, even with redundant edges."""
    expected = Lineage(("void_shiki_(swimsuit)",), ("ryougi_shiki",), "implication")

    assert expected == who("ryougi_shiki", "void_shiki", "void_shiki_(swimsuit)")
    assert expected == who("ryougi_shiki", "void_shiki_(swimsuit)")


def test_siblings_are_two_leaves():
    """Two costumes of one girl are two leaves, because neither implies the other."""
    found = who("sakamata_chloe_(1st_costume)", "sakamata_chloe_(party)", "sakamata_chloe")

    assert ("sakamata_chloe_(1st_costume)", "sakamata_chloe_(party)") == found.leaves
    assert () == found.bases


def test_form_of_two_people_has_two_bases():
    """A form that implies two people has both as bases."""
    assert Lineage(("fusion",), ("miku", "rin"), "implication") == who("fusion", "rin", "miku")


def test_nobody_is_no_leaf():
    """A post without a character tag has no leaf."""
    assert ((), ()) == (who().leaves, who().bases)


def test_costume_tag_is_no_person():
    """`x_(cosplay)` is a costume: it gives no leaf here and is refused by its own rule."""
    assert ("rin",) == who("rin", "miku_(cosplay)").leaves


def test_aliases_are_followed_to_their_end():
    """An alias of an alias resolves to the current name, and unknown names stay."""
    assert frozenset({"sakamata_chloe", "rin"}) == TABLE.canonical(["old_chloe", "chloe", "rin"])


def test_implications_of_old_names_hold_for_new_ones():
    """An implication written with an aliased name applies to the current name."""
    kinship = Kinship.from_pairs([("old", "new")], [("old_(form)", "old")])

    assert ("new",) == who("old_(form)", kinship=kinship).bases


def test_cycles_end():
    """Alias and implication cycles, which a board refuses, neither hang nor lose a post."""
    kinship = Kinship.from_pairs(
        [("a", "b"), ("b", "a"), ("z", "a"), ("self", "self")],
        [("x", "y"), ("y", "x"), ("w", "w")],
    )

    assert frozenset({"a"}) == kinship.canonical(["a", "b", "z"])
    assert frozenset({"self"}) == kinship.canonical(["self"])
    assert ("x", "y") == who("x", "y", kinship=kinship).leaves
    assert () == who("x", kinship=kinship).bases
    assert ("w",) == who("w", kinship=kinship).bases


def test_name_rule_without_a_table():
    """Without implications, a name with more qualifiers is a form of the name with fewer."""
    form = "toki_(bunny)_(blue_archive)"

    assert Lineage((form,), ("toki_(blue_archive)",), "name") == who(
        form, "toki_(blue_archive)", kinship=NO_TABLE
    )
    assert Lineage(("chloe_(party)",), ("chloe",), "name") == who(
        "chloe", "chloe_(party)", kinship=NO_TABLE
    )


def test_name_rule_knows_copyright_qualifiers():
    """A franchise in brackets makes no form: `x_(costume)` is a form of `x_(franchise)`."""
    found = who("x_(bunny)", "x_(fate)", copyrights=["fate_(series)"], kinship=NO_TABLE)
    namesakes = who("saber_(fate)", "saber", copyrights=["fate_(series)"], kinship=NO_TABLE)

    assert Lineage(("x_(bunny)",), ("x_(fate)",), "name") == found
    assert ("saber", "saber_(fate)") == namesakes.leaves


def test_name_rule_sleeps_when_there_is_a_table():
    """With an implication table, names have no effect: two unrelated tags are two people."""
    assert 2 == len(who("nia", "nia_(blade)").leaves)


def test_name_rule_needs_the_shorter_name_on_the_post():
    """A qualified name without the shorter name on the post is its own base."""
    assert Lineage(("x_(party)",), ("x_(party)",), "self") == who("x_(party)", kinship=NO_TABLE)


@given(
    edges=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh"))),
    characters=st.sets(st.sampled_from("abcdefgh")),
    shuffler=st.randoms(use_true_random=False),
)
def test_order_of_tags_and_edges_never_matters(edges, characters, shuffler):
    """Leaves and bases do not depend on any order, and a post with characters has a leaf."""
    shuffled_edges, shuffled = list(edges), sorted(characters)
    shuffler.shuffle(shuffled_edges)
    shuffler.shuffle(shuffled)

    expected = who(*sorted(characters), kinship=Kinship.from_pairs([], edges))
    assert expected == who(*shuffled, kinship=Kinship.from_pairs([], shuffled_edges))
    assert bool(characters) == bool(expected.leaves)


def test_chooses_by_number_of_images():
    """A persona below `min_images` is refused as too small; the boundary itself is enough."""
    outcome = choose({"a": 10, "b": 9}, {"a": "a", "b": "b"}, Params(min_images=10))

    assert {"a": None, "b": PersonaRefusal("persona_too_small", 9, 10)} == outcome


def test_labels_takes_the_personae_with_most_images():
    """With `labels`, the personae with most images are taken; ties are decided by name."""
    kept = {"d": 20, "b": 30, "c": 20, "a": 5}
    outcome = choose(kept, {name: name for name in kept}, Params(min_images=10, labels=2))

    assert {
        "b": None,
        "c": None,
        "d": PersonaRefusal("persona_not_chosen", 3, 2),
        "a": PersonaRefusal("persona_too_small", 5, 10),
    } == outcome


def test_look_alikes_adds_one_relative_to_each_chosen_persona():
    """A chosen form adds its base, and a chosen base adds its largest form, if large enough."""
    kept = {"a_(x)": 90, "b": 80, "c": 70, "a": 40, "a_(y)": 30, "b_(z)": 5, "c_(y)": 20, "d": 60}
    bases = {name: name[0] for name in kept}
    outcome = choose(kept, bases, Params(min_images=10, labels=3, look_alikes=True))

    assert {"a_(x)", "b", "c", "a", "c_(y)"} == {
        name for name, refusal in outcome.items() if refusal is None
    }
    assert PersonaRefusal("persona_not_chosen", 6, 3) == outcome["a_(y)"]


def test_look_alikes_adds_nothing_to_a_chosen_pair():
    """If a form and its base are both chosen, no further persona is added."""
    kept = {"a": 90, "a_(x)": 80, "a_(y)": 70}
    bases = dict.fromkeys(kept, "a")
    outcome = choose(kept, bases, Params(min_images=10, labels=2, look_alikes=True))

    assert PersonaRefusal("persona_not_chosen", 3, 2) == outcome["a_(y)"]


def test_named_personae_are_taken_or_left_out():
    """`include` goes before the rest of `labels`, `exclude` frees a place, and the minimum holds."""
    kept = {"a": 50, "b": 40, "c": 30, "d": 20, "e": 5}
    params = Params(min_images=10, labels=2, include=("d", "e"), exclude=("a",))

    assert {
        "a": PersonaRefusal("persona_excluded", 1, 0),
        "b": None,
        "c": PersonaRefusal("persona_not_chosen", 2, 2),
        "d": None,
        "e": PersonaRefusal("persona_too_small", 5, 10),
    } == choose(kept, {name: name for name in kept}, params)


def test_only_the_named_series_are_taken():
    """With `copyrights`, personae of another series, or of none, are refused, whatever their counts."""
    kept = {"a": 50, "b": 40, "c": 30}
    params = Params(min_images=10, copyrights=("touhou", "vocaloid"))
    series = {"a": "vocaloid", "b": "other", "c": None}

    assert {
        "a": None,
        "b": PersonaRefusal("other_copyright", 0, 2),
        "c": PersonaRefusal("other_copyright", 0, 2),
    } == choose(kept, {name: name for name in kept}, params, series)
    assert dict.fromkeys(kept) == choose(kept, {name: name for name in kept}, params)


def test_a_misspelt_persona_is_named_with_its_neighbours():
    """A name that no post has is an error with the closest names."""
    params = Params(min_images=1, include=("hatsune_mku",))

    with pytest.raises(BadParams, match=r"'personae.include' .* Did you mean hatsune_miku"):
        choose({"hatsune_miku": 5}, {"hatsune_miku": "hatsune_miku"}, params)


def test_an_excluded_persona_needs_no_post():
    """The listing leaves the posts of an excluded persona out, so it may be on no listed post."""
    params = Params(min_images=1, exclude=("b",))

    assert {"a": None} == choose({"a": 5}, {"a": "a"}, params)


def test_max_images_is_never_below_min_images():
    """A cap below `min_images` is raised to it; without a cap the result is None."""
    assert 20 == Params(min_images=20, max_images=5).most_images
    assert 30 == Params(min_images=20, max_images=30).most_images
    assert None is Params(min_images=20).most_images


def test_choice_by_hash_is_stable_under_growth():
    """If one post is added, the first n posts by hash lose at most one."""
    before = sorted(range(100, 200), key=hash_order)[:30]
    after = sorted(range(100, 201), key=hash_order)[:30]

    assert len(set(before) - set(after)) <= 1
