"""Tests tags, implications and aliases over HTTP: the rows that each search selects."""


def test_tags_are_selected_by_name_category_order_and_limit(get):
    """Exact names, lists, wildcards, categories, order and limit select tags."""

    def names(**search):
        limit = search.pop("limit", 1000)
        query = {f"search[{key}]": value for key, value in search.items()}
        return [row["name"] for row in get("/tags.json", limit=limit, **query).json()]

    assert ["solo"] == names(name="solo")
    assert {"solo", "1girl"} == set(names(name_comma="solo,1girl,nobody"))
    lenores = {name for name in names(order="name") if name.startswith("lenore_")}
    assert {"lenore_halewyn", "lenore_noir", "lenore_&_isolde_(fusion)"} <= lenores
    assert lenores == set(names(name_matches="lenore_*"))
    assert "isolde_farrow" in names(name_or_alias_matches="isolde_of_the_t*")
    assert "tsukishiro_ayame" in names(category=4, post_count=">20", hide_empty="true")
    assert "solo" not in names(category="4")
    assert sorted(names(order="name")) == names(order="name")
    assert 3 == len(names(order="count", limit=3))
    assert [] == names(is_deprecated="true")
    rows = get("/tags.json").json()
    assert 20 == len(rows)
    assert sorted((row["id"] for row in rows), reverse=True) == [row["id"] for row in rows]
    assert 1 == len(names(limit=0))
    assert names() == names(limit=5000)


def test_tag_counts_are_those_of_all_posts(get, demo_board):
    """The count of a tag includes deleted posts."""
    row = get("/tags.json", **{"search[name]": "solo"}).json()[0]
    posts = sum("solo" in post.all_tags for post in demo_board.board.posts)

    assert posts == row["post_count"]
    assert 0 == row["category"]


def test_parents_of_many_tags_in_one_call(get):
    """`only=` includes the relations of each tag."""
    rows = get(
        "/tags.json",
        only="name,antecedent_implications[consequent_name]",
        **{"search[name_comma]": "eclipse_ayame,solo"},
    ).json()

    assert {
        "eclipse_ayame": [{"consequent_name": "tsukishiro_ayame"}],
        "solo": [],
    } == {row["name"]: row["antecedent_implications"] for row in rows}


def test_implications_and_aliases_are_selected_and_paged(get):
    """Status, names and both directions of the closure select relations; cursors page them."""

    def pairs(path, **search):
        query = {f"search[{key}]": value for key, value in search.items()}
        rows = get(path, limit=1000, **query).json()
        return {(row["antecedent_name"], row["consequent_name"]) for row in rows}

    table = "/tag_implications.json"
    every = get(table, limit=1000).json()
    rest = get(table, limit=1000, page=f"b{every[3]['id']}").json()

    assert ("camellia_dane", "momoka_sparrow") in pairs(table)
    assert ("camellia_dane", "momoka_sparrow") not in pairs(table, status="active")
    assert {
        ("eclipse_ayame_(festival)", "eclipse_ayame"),
        ("eclipse_ayame", "tsukishiro_ayame"),
    } == pairs(table, implied_from="eclipse_ayame_(festival)")
    assert {
        ("eclipse_ayame_(festival)", "eclipse_ayame"),
        ("eclipse_ayame", "tsukishiro_ayame"),
    } == pairs(table, implied_to="tsukishiro_ayame")
    assert {("4koma", "comic")} == pairs(table, antecedent_name="4koma")
    assert len(pairs(table, consequent_name_comma="comic,monochrome", status="active")) == 4
    assert every[4:] == rest
    assert {("grayscale", "greyscale"), ("black_and_white", "greyscale")} == pairs(
        "/tag_aliases.json", consequent_name="greyscale"
    )
