"""Compares responses of the board with recordings of the live site: keys, order, types, errors."""

import yaml


def recorded(real_data, folder):
    """Returns recorded responses of the live site, as pairs of response and parsed body."""
    paths = sorted((real_data / "danbooru-fixtures" / "danbooru" / folder).glob("*.yaml"))
    answers = [yaml.safe_load(path.read_text())["response"] for path in paths]
    return [(answer, answer["body_json"]) for answer in answers]


def shape(value):
    """Returns the keys in order, with the type of each value."""
    if isinstance(value, dict):
        return {key: shape(inside) for key, inside in value.items()}
    if isinstance(value, bool | list):
        return type(value).__name__
    return "number" if isinstance(value, int | float) else type(value).__name__


NULLABLE = {
    *("last_comment_bumped_at", "last_noted_at", "parent_id", "approver_id", "pixiv_id"),
    *("last_commented_at", "duration", "forum_topic_id", "forum_post_id"),
}


def strict(shape_):
    return {
        key: strict(value) if isinstance(value, dict) else value
        for key, value in shape_.items()
        if key not in NULLABLE
    }


def test_a_post_has_the_fields_of_a_recorded_one(get, real_data):
    """Keys, their order and their types agree with every recorded post."""
    visible = get("/posts.json", tags="solo status:active -status:banned", limit=20).json()
    live = [
        post
        for folder in ("posts_search", "pagination")
        for answer, body in recorded(real_data, folder)
        if answer["status"] == 200
        for post in body
    ]

    assert len(live) > 10
    assert {tuple(post) for post in live} == {tuple(post) for post in visible}
    assert {tuple(post["media_asset"]) for post in live} == {
        tuple(post["media_asset"]) for post in visible
    }
    assert strict(shape(live[0])) == strict(shape(visible[0]))
    assert {tuple(v) for post in live for v in post["media_asset"]["variants"]} == {
        tuple(v) for post in visible for v in post["media_asset"]["variants"]
    }


def test_tag_rows_have_the_fields_of_recorded_ones(get, real_data):
    """Tags, aliases and implications have the recorded keys in the recorded order."""
    tags = [row for _, body in recorded(real_data, "tags_search") for row in body]
    aliases = [row for _, body in recorded(real_data, "tag_aliases_search") for row in body]

    assert {tuple(tags[0])} == {tuple(row) for row in get("/tags.json").json()}
    assert strict(shape(tags[0])) == strict(shape(get("/tags.json").json()[0]))
    for path in ("/tag_aliases.json", "/tag_implications.json"):
        assert {tuple(aliases[0])} == {tuple(row) for row in get(path).json()}
        assert strict(shape(aliases[0])) == strict(shape(get(path).json()[0]))


def test_errors_have_the_recorded_body(get, real_data):
    """422 and 404 have the keys, class and message of the live site."""
    many = next(
        body for answer, body in recorded(real_data, "posts_search") if answer["status"] == 422
    )
    gone = next(
        body for answer, body in recorded(real_data, "posts_by_id") if answer["status"] == 404
    )
    answered = [get("/posts.json", tags="1girl solo smile"), get("/posts/99999999.json")]

    assert [422, 404] == [answer.status_code for answer in answered]
    for live, here in zip((many, gone), (answer.json() for answer in answered), strict=True):
        assert list(live) == list(here)
        assert [live[key] for key in ("success", "error", "message")] == [
            here[key] for key in ("success", "error", "message")
        ]
    assert "no-cache" == answered[0].headers["Cache-Control"]
    assert "ETag" not in answered[0].headers
