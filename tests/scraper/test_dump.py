"""Tests a dump of metadata as a source: which rows it chooses, and that the board describes them."""

import asyncio
import csv
import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from personae.errors import MissingColumn, MissingInput
from scraper import filters
from scraper.__main__ import main
from scraper.demo.board import booru
from scraper.demo.facts.params import TINY
from scraper.demo.server.thread import serving
from scraper.errors import BadDump
from scraper.filters import PostFacts
from scraper.params.decide import Params
from scraper.sources.dump import Dump
from tests.scraper.listing_fixture import Shelf
from tests.scraper.test_update import post

RULES = Params().rules


def row(number, characters="rin", tags="1girl solo", **changes):
    return {
        "id": number,
        "rating": "g",
        "file_ext": "png",
        "image_width": 400,
        "image_height": 500,
        "tag_string": f"{tags} {characters}",
        "tag_string_character": characters,
    } | changes


def written(folder, rows, kind="parquet"):
    """Writes a dump of one type; returns its path."""
    path = folder / f"posts.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def chosen(dump):
    """Returns the number of chosen rows by character."""

    async def read():
        return {tag.name: tag.post_count async for tag in dump.candidates(1)}

    return asyncio.run(read())


def pages(dump, search, *, size=200):
    async def read():
        before, result = None, []
        while True:
            page = await dump.page(search, before=before, size=size)
            if page.cursor is None:
                return result
            result.append([each.post_id for each in page.posts])
            before = page.cursor

    return asyncio.run(read())


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_rows_that_pass_the_rules_are_chosen(tmp_path, kind):
    """Status, rating, type, size and tags refuse rows; each character of a kept row is counted."""
    rows = [
        row(1, is_deleted=False),
        row(2, "mai rin", is_deleted=False),
        row(3, is_deleted=True),
        row(4, rating="s", is_deleted=False),
        row(5, file_ext="mp4", is_deleted=False),
        row(6, image_width=100, is_deleted=False),
        row(7, image_height=4000, is_deleted=False),
        row(8, tags="1girl", is_deleted=False),
        row(9, tags="1girl solo comic", is_deleted=False),
        row(10, tags="2girls solo", is_deleted=False),
        row(11, "", is_deleted=False),
        row(12, "a,b c*d", is_deleted=False),
    ]

    assert {"rin": 2, "mai": 1} == chosen(
        Dump(written(tmp_path, rows, kind), "gsqe", Shelf(), RULES)
    )


@pytest.mark.parametrize(
    ("scale", "rating", "kept"),
    [
        ("gsqe", "g", True),
        ("gsqe", "General", True),
        ("gsqe", "s", False),
        ("gsqe", "sensitive", False),
        ("sqe", "s", True),
        ("sqe", "safe", True),
        ("sqe", "q", False),
        ("0123", 0, True),
        ("0123", 1, False),
    ],
)
def test_ratings_have_the_declared_meaning(tmp_path, scale, rating, kept):
    """Letters, words and numbers are read; s of the old scale may be general today."""
    rows = [row(1, rating=rating), row(2, "other", rating={"0123": 0, "sqe": "s"}.get(scale, "g"))]
    dump = Dump(written(tmp_path, rows), scale, Shelf(), RULES)

    assert kept is ("rin" in chosen(dump))


def test_a_wrong_scale_names_the_ratings_that_there_are(tmp_path):
    """A dump without any rating of the declared scale is an error with its own ratings."""
    with pytest.raises(BadDump, match=r"'0123' .* Its ratings are 'g'"):
        Dump(written(tmp_path, [row(1)]), "0123", Shelf(), RULES)


def test_lists_of_tags_are_read_as_text_is(tmp_path):
    """Dumps with lists `tags` and `tags_character` give the same rows."""
    rows = [
        {
            **{key: value for key, value in row(1).items() if not key.startswith("tag_string")},
            "tags": ["1girl", "solo", "rin"],
            "tags_character": ["rin"],
        }
    ]

    assert {"rin": 1} == chosen(Dump(written(tmp_path, rows), "gsqe", Shelf(), RULES))


def test_a_folder_of_files_is_one_dump(tmp_path):
    """The files of a folder are read together; another type beside them is ignored."""
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        path = written(tmp_path / str(number), [row(number)])
        path.rename(tmp_path / f"part{number}.parquet")
    (tmp_path / "readme.csv").write_text("no,dump\n")

    assert {"rin": 2} == chosen(Dump(tmp_path, "gsqe", Shelf(), RULES))


def test_posts_come_from_the_board_by_id(tmp_path):
    """Pages go down by id; a post that is gone is passed, and an edited one has its new tags."""
    rows = [row(number) for number in range(1, 251)]
    board = Shelf(*(post(number, "rin") for number in range(1, 251) if number != 77))
    dump = Dump(written(tmp_path, rows), "gsqe", board, RULES)
    listed = pages(dump, "rin")

    assert [100, 99, 50] == [len(page) for page in listed]
    assert {250, 1} < {number for page in listed for number in page}
    assert 77 not in listed[1]
    # Three pages; the absent post is requested again, and counted.
    assert 3 + 2 == len(board.asked)


def test_absent_posts_are_counted_by_the_board(tmp_path):
    """A search by ids goes to the board: a dump's own count would prove that every post is gone."""
    board = Shelf(post(1, "rin"), post(2, "rin"))
    dump = Dump(written(tmp_path, [row(1), row(2)]), "gsqe", board, RULES)

    assert 2 == asyncio.run(dump.remaining("id:1,2", before=None))
    assert 0 == asyncio.run(dump.remaining("rin", before=None))


facts = st.fixed_dictionaries(
    {
        "rating": st.sampled_from("gsqe"),
        "file_ext": st.sampled_from(["png", "jpg", "gif", "mp4"]),
        "width": st.sampled_from([1, 200, 256, 300, 900]),
        "height": st.sampled_from([1, 200, 256, 300, 900]),
        "is_deleted": st.booleans(),
        "tags": st.sets(
            st.sampled_from(
                [
                    "solo",
                    "1girl",
                    "2girls",
                    "comic",
                    "lowres",
                    "solo_focus",
                    "6+boys",
                    "hair",
                    "sepia",
                ]
            )
        ),
    }
)


@given(
    posts=st.lists(facts, min_size=1, max_size=12),
    skip=st.sets(st.sampled_from(["rating", "small", "comic", "not_solo", "damaged_tag"])),
    accepted=st.sets(st.sampled_from(["lowres", "solo", "comic"])),
)
def test_no_row_that_the_rules_keep_is_lost(tmp_path_factory, posts, skip, accepted):
    """Whatever the rules of stage `decide` keep, the dump chooses; and nothing that `rating` refuses."""
    rules = Params(skip=tuple(skip), accept_tags=tuple(accepted)).rules
    rows = [row(0, "sure")]
    kept = set()
    for number, each in enumerate(posts, start=1):
        known = PostFacts(
            post_id=number,
            leaves=("rin",),
            bases=("rin",),
            **(each | {"tags": frozenset(each["tags"]) - rules.accepted}),
        )
        if not filters.refusals(known, rules.limits, skip=rules.skip):
            kept.add(number)
        rows.append(
            row(
                number,
                rating=each["rating"],
                file_ext=each["file_ext"],
                image_width=each["width"],
                image_height=each["height"],
                is_deleted=each["is_deleted"],
                tag_string=" ".join(sorted(each["tags"])),
            )
        )
    rows.append(row(10**6, "sure"))
    folder = tmp_path_factory.mktemp("dump")
    board = Shelf(*(post(number, "rin") for number in range(1, len(posts) + 1)))
    dump = Dump(written(folder, rows), "gsqe", board, rules)
    listed = {number for page in pages(dump, "rin") for number in page}

    assert kept <= listed
    if "rating" not in skip:
        assert {posts[number - 1]["rating"] for number in listed} <= {"g"}


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("posts.parquet", b"no parquet", BadDump),
        ("posts.parquet", b"PAR1" + bytes(40) + b"PAR1", BadDump),
        ("posts.csv", b"id,rating\n1,g\n", MissingColumn),
        ("posts.jsonl", b"", MissingColumn),
        ("posts.jsonl", b"[" * 10_000, MissingColumn),
        ("posts.txt", b"", MissingInput),
    ],
)
def test_what_is_no_dump_is_named(tmp_path, name, content, error):
    """A damaged file, one without the columns, and one of another type are named errors."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(error, match=tmp_path.name):
        Dump(tmp_path, "gsqe", Shelf(), RULES)


def test_damaged_lines_of_json_are_passed(tmp_path):
    """A line that is no JSON costs this line alone."""
    path = written(tmp_path, [row(number) for number in range(1, 6)], "jsonl")
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:40]
    path.write_text("\n".join(lines))

    assert {"rin": 4} == chosen(Dump(path, "gsqe", Shelf(), RULES))


def test_the_command_scrapes_what_a_dump_chooses(tmp_path, monkeypatch, capsys):
    """The demo board's own metadata as a dump gives the images of a plain run, with fewer requests."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump({}))
    with serving(booru.board(TINY)) as served:
        command = ["--site", served.url, "--min-images", "12", "--api-rate", "1e6", "--side", "64"]
        assert 0 == main([*command, "--data", "plain"])
        asked = served.log.by_kind["api"]
        duckdb.sql(
            "COPY (SELECT post_id AS id, * EXCLUDE (post_id), list_concat(tags_general, "
            "tags_character, tags_copyright, tags_artist, tags_meta) AS tags "
            "FROM 'plain/listing/posts.parquet') TO 'dump.parquet'"
        )
        assert 2 == main([*command, "--dump", "dump.parquet"])
        assert "rating_scale" in capsys.readouterr().err
        assert 0 == main([*command, "--dump", "dump.parquet", "--rating-scale", "gsqe"])
        kept = pq.read_table("data/decide/kept.parquet")["post_id"].to_pylist()

        assert pq.read_table("plain/decide/kept.parquet")["post_id"].to_pylist() == kept
        assert len(kept) == pq.read_table("data/download/images.parquet").num_rows
        assert pq.read_table("data/listing/posts.parquet").num_rows < (
            pq.read_table("plain/listing/posts.parquet").num_rows
        )
        assert 0 == main(["plan", *command, "--dump", "dump.parquet", "--rating-scale", "gsqe"])
        assert served.log.by_kind["api"] < 4 * asked
