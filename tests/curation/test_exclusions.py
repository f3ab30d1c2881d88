"""Tests the exclude file: its rules, what they match, and that excluded posts stay out."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import (
    catalog,
    duplicates,
    exclusions,
    filters,
    measure,
    persona,
    shards,
    split,
    verify,
)
from personae.errors import BadParams
from tests.curation.conftest import IMAGES, POSTS

SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
MD5 = "098f6bcd4621d373cade4e832627b4f6"


def keys(text: str, path: Path) -> list[str]:
    """Returns the rules of a file with the given text."""
    path.write_text(text, encoding="utf-8")
    return [rule.key for rule in exclusions.read(path)]


def test_every_kind_of_rule_is_read(tmp_path: Path) -> None:
    """Rules have a kind and a value; comments, empty lines and repeated rules are no rules."""
    text = (
        "\ufeff# a comment\n\n  post   0012  # by request of\tthe artist # twice\n"
        f"tag #compass\nartist a_b#c\r\nsha256 {SHA256.upper()}\nmd5 {MD5} #\npost 12\n"
    )
    path = tmp_path / "exclude.txt"

    expected = ["post 12", "tag #compass", "artist a_b#c", f"sha256 {SHA256}", f"md5 {MD5}"]
    assert expected == keys(text, path)
    assert "by request of the artist # twice" == exclusions.read(path)[0].why
    assert [] == exclusions.read(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1234", "line 2: '1234' is no rule"),
        ("post", "line 2: 'post' is no rule"),
        ("tag two words", "line 2: 'tag two words' is no rule"),
        ("tags sketch", "line 2 has the kind 'tags', not post, tag, artist, sha256, md5"),
        ("post 12a", "line 2 has '12a', which is not a post id"),
        ("post -3", "line 2 has '-3', which is not a post id"),
        ("post 9223372036854775808", "which is not a post id"),
        ("post ٣", "which is not a post id"),
        ("md5 abc", "line 2 has 'abc', which is not 32 hexadecimal digits"),
        (f"sha256 {MD5}", "which is not 64 hexadecimal digits"),
    ],
)
def test_line_that_is_no_rule_is_named(tmp_path: Path, line: str, message: str) -> None:
    """A wrong line is an error with file, line and text: a rule that is ignored excludes nothing."""
    with pytest.raises(BadParams) as caught:
        keys(f"post 1\n{line}\n", tmp_path / "exclude.txt")

    assert message in str(caught.value)
    assert str(tmp_path / "exclude.txt") in str(caught.value)


def test_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    """A folder, or bytes that are no UTF-8, are an error and not an absent file."""
    (tmp_path / "bytes").write_bytes(b"post 1\xff\n")
    for path in (tmp_path, tmp_path / "bytes"):
        with pytest.raises(BadParams, match="cannot be read as a list of excluded posts"):
            exclusions.read(path)


@given(
    tags=st.lists(
        st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=12), max_size=5
    ),
    why=st.text(max_size=30),
)
def test_added_rules_are_read_again(tmp_path_factory, tags: list[str], why: str) -> None:
    """Whatever a tag and a reason are, the rule that is written is the rule that is read."""
    path = tmp_path_factory.mktemp("rules") / "exclude.txt"
    tags = [tag for tag in tags if tag != "#"]
    rules = [exclusions.rule("tag", tag, why) for tag in tags]
    added = exclusions.add(path, rules)

    assert list(dict.fromkeys(rules)) == added == exclusions.read(path)
    assert [] == exclusions.add(path, rules)


def test_adding_keeps_the_text_of_the_file(tmp_path: Path) -> None:
    """A new rule is a new line at the end; no other line changes, and no known rule is repeated."""
    path = tmp_path / "exclude.txt"
    path.write_text("# mine\npost 1   # kept\n\ntag b", encoding="utf-8")
    rules = [exclusions.rule("post", "1"), exclusions.rule("post", "2", "why")]

    assert rules[1:] == exclusions.add(path, rules)
    assert "# mine\npost 1   # kept\n\ntag b\npost 2  # why\n" == path.read_text(encoding="utf-8")
    assert [path] == list(tmp_path.iterdir())


def rows(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


def matched(data_dir: Path, kind: str, value: str) -> set[int]:
    """Returns the posts that one rule matches."""
    return set(exclusions.matches([exclusions.rule(kind, value)], data_dir))


def test_rules_match_posts_by_id_tag_artist_and_hash(tiny_data) -> None:
    """A rule matches exactly the posts with its tag in any category, its artist, or its hash."""
    data = tiny_data.data_dir
    posts, images = rows(data / "listing/posts.parquet"), rows(data / "download/images.parquet")
    column = {"general": "checkered_background", "copyright": "reef", "meta": "highres"}

    for kind, tag in column.items():
        expected = {post["post_id"] for post in posts if tag in post[f"tags_{kind}"]}
        assert expected == matched(data, "tag", tag)
        assert expected
        assert not matched(data, "artist", tag)
    artist = {post["post_id"] for post in posts if post["tags_artist"] == ["artist_3"]}
    assert artist == matched(data, "artist", "artist_3") == matched(data, "tag", "artist_3")
    stored = {row["post_id"] for row in images if row["sha256"] == images[3]["sha256"]}
    assert stored == matched(data, "sha256", images[3]["sha256"])
    assert images[3]["post_id"] in matched(data, "md5", images[3]["md5"])
    assert {posts[5]["post_id"]} == matched(data, "md5", posts[5]["md5"])
    assert {77} == matched(data, "post", "77")
    assert not matched(data, "tag", "no_such_tag")


def test_tag_matches_under_its_other_names(tiny_data) -> None:
    """A tag that the board renames still matches: aliases are followed from both names."""
    data = tiny_data.data_dir
    aliases = pa.table({"antecedent": ["old", "older"], "consequent": ["artist_1", "artist_1"]})
    pq.write_table(aliases, data / "listing/aliases.parquet")
    expected = matched(data, "artist", "artist_1")
    path = data / "listing/posts.parquet"
    changed = rows(path)
    for number, post in enumerate(post for post in changed if post["tags_artist"] == ["artist_1"]):
        post["tags_artist"] = [["artist_1"], ["old"], ["older"]][number % 3]
    pq.write_table(pa.Table.from_pylist(changed, schema=POSTS), path)

    for name in ("artist_1", "old", "older"):
        assert expected == matched(data, "artist", name)
        assert expected == matched(data, "tag", name)


SPLIT = {"train": 0.4, "val": 0.3, "test": 0.3, "tolerance": 1, "seed": 2}


def run_stages(data: Path, work: Path, exclude: Path, **shard_params) -> None:
    """Runs the stages from `filters` to `catalog`, as the fixture `curated` did."""
    filters.run(filters.Params(exclude=str(exclude)), data_dir=data, work_dir=work)
    duplicates.run(duplicates.Params(workers=1), data_dir=data, work_dir=work)
    persona.run(persona.Params(min_samples=5, balance="none"), data_dir=data, work_dir=work)
    split.run(split.Params(**SPLIT), data_dir=data, work_dir=work)
    packed = {"samples_per_shard": 10} | shard_params
    shards.run(shards.Params(**packed), data_dir=data, work_dir=work)
    catalog.run(catalog.Params(), data_dir=data, work_dir=work)


def decisions_of(data: Path, post_id: int) -> list[tuple[str, str | None]]:
    """Returns the decisions of curation on one post: stage and reason."""
    stages = ("filters", "duplicates", "persona", "split")
    table = [row for stage in stages for row in rows(data / stage / "decisions.parquet")]
    return [(row["stage"], row["reason"]) for row in table if row["post_id"] == post_id]


def test_absent_and_empty_file_change_no_byte(curated, tmp_path: Path) -> None:
    """Without rules, with or without the file, `filters` leaves the bytes that it left before."""
    before = (curated.data_dir / "filters/decisions.parquet").read_bytes()
    path = tmp_path / "exclude.txt"
    path.write_text("# no rule\n")
    for exclude in (path, tmp_path / "absent"):
        filters.run(
            filters.Params(exclude=str(exclude)), data_dir=curated.data_dir, work_dir=tmp_path
        )
        assert before == (curated.data_dir / "filters/decisions.parquet").read_bytes()
        assert not (curated.data_dir / "filters/tombstones.parquet").exists()
    assert b'"exclude"' not in before


def test_rule_that_matches_no_image_is_counted(curated, tmp_path: Path, caplog) -> None:
    """A mistyped rule excludes nothing, and the log of stage `filters` counts it."""
    caplog.set_level("INFO")
    exclude = tmp_path / "exclude.txt"
    post = min(row["post_id"] for row in rows(curated.data_dir / "shards/samples.parquet"))
    for text, idle in (
        (f"post {post}\n", ""),
        (f"post 1\ntag none\npost {post}\n", "2, such as `post 1`"),
    ):
        exclude.write_text(text)
        filters.run(
            filters.Params(exclude=str(exclude)), data_dir=curated.data_dir, work_dir=tmp_path
        )
        assert bool(idle) == ("match no stored image" in caplog.text)
        assert idle in caplog.text


def test_excluded_posts_leave_the_data_set_and_stay_out(curated, tmp_path: Path) -> None:
    """
    A removed post and all posts with a removed tag are no samples, each with its reason.

    A later listing with new posts of the tag, and the removed post listed again, changes nothing.
    """
    data, work, exclude = curated.data_dir, curated.work_dir, tmp_path / "exclude.txt"
    samples = {row["post_id"] for row in rows(data / "shards/samples.parquet")}
    removed = min(samples)
    exclude.write_text(f"post {removed}  # by request\nartist artist_2\n")
    run_stages(data, work, exclude)
    left = {row["post_id"] for row in rows(data / "shards/samples.parquet")}
    by_artist = exclusions.matches([exclusions.rule("artist", "artist_2")], data)

    assert not left & {removed, *by_artist}
    # The copy of a removed image takes its place, unless a rule matches the copy too.
    assert {curated.original[post_id] for post_id in left - samples} <= {removed, *by_artist}
    assert samples & set(by_artist)
    assert [("filters", "excluded")] == decisions_of(data, removed)
    dead = {row["post_id"]: row for row in rows(data / "filters/tombstones.parquet")}
    assert {"post_id": removed, "rule": f"post {removed}", "why": "by request"} == dead[removed]
    assert [] == list(verify.problems(data))
    path = data / "filters/tombstones.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    (problem,) = verify.problems(data)
    assert problem.startswith("filters/tombstones.parquet differs from table 'tombstones'")

    # A re-scrape lists a new post of the artist: the file of an excluded post under a new id.
    listed = rows(data / "listing/posts.parquet")
    stored = rows(data / "download/images.parquet")
    kept = rows(data / "decide/kept.parquet")
    old = min(samples & set(by_artist))
    for table in (listed, stored, kept):
        (row,) = [row for row in table if row["post_id"] == old]
        table.append(row | {"post_id": 9999})
    pq.write_table(pa.Table.from_pylist(listed, schema=POSTS), data / "listing/posts.parquet")
    pq.write_table(pa.Table.from_pylist(stored, schema=IMAGES), data / "download/images.parquet")
    schema = pq.read_schema(data / "decide/kept.parquet")
    pq.write_table(pa.Table.from_pylist(kept, schema=schema), data / "decide/kept.parquet")
    measure.run(measure.Params(workers=1), data_dir=data, work_dir=work)
    run_stages(data, work, exclude)

    assert left == {row["post_id"] for row in rows(data / "shards/samples.parquet")}
    assert ("filters", "excluded") in decisions_of(data, 9999)

    exclude.write_text("")
    shutil.rmtree(data / "shards")
    run_stages(data, work, exclude)
    again = {row["post_id"] for row in rows(data / "shards/samples.parquet")}
    assert removed in again
    assert not (data / "filters/tombstones.parquet").exists()
