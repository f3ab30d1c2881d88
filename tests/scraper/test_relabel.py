"""Tests the relabel file: posts whose label a person has corrected, from the file to the kept posts."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personae.errors import BadParams
from scraper import decide, relabel
from tests.scraper.decide_fixture import GOOD, decided, listing, many

__all__ = ["decided", "listing"]  # fixtures

NAMES = st.from_regex(r"[^\s#\x00]([^\s\x00]| (?=[^\s#]))*[^\s#\x00]", fullmatch=True)


@given(st.dictionaries(st.integers(0, 10**17), NAMES, max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_lines_are_read_back(tmp_path_factory, labels, end):
    """Names with spaces and signs are read as they were written; comments and empty lines are not."""
    path = tmp_path_factory.mktemp("relabel") / "relabel.txt"
    lines = [f"post {post_id} {name}  # why: # and so on" for post_id, name in labels.items()]
    path.write_bytes(end.join(["# first", "", *lines, ""]).encode())

    assert labels == relabel.read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("post 1", "line 1: 'post 1' is no correction"),
        ("1 rin", "line 1: '1 rin' is no correction"),
        ("tag rin len", "is no correction"),
        ("# fine\npost one rin", "line 2: "),
        ("post 1 rin\npost 1 len", "line 2: post 1 has two labels, 'rin' and 'len'"),
        ("post 9999999999999999999 rin", "is no correction"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_wrong_lines_are_named(tmp_path, text, message):
    """A line that is no correction is an error that names the file and the line."""
    path = tmp_path / "relabel.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadParams, match=message) as caught:
        relabel.read(path)
    assert str(path) in str(caught.value)


def test_absent_file_corrects_nothing(tmp_path):
    """Without a file no label is corrected."""
    assert {} == relabel.read(tmp_path / "relabel.txt")


@pytest.fixture
def corrected(decided, tmp_path):
    """Runs `decide` with the given lines of a relabel file."""

    def run(posts, text):
        path = tmp_path / "corrections.txt"
        path.write_text(text, encoding="utf-8")
        return decided(posts, decide.Params(relabel=str(path)))

    return run


def test_corrected_post_counts_for_its_label(corrected, tmp_path):
    """A post leaves its label for another, by the present name of an alias; the table records it."""
    posts = [*many(3), *(replace(GOOD, post_id=n, tags_character=("miku",)) for n in (1, 2))]
    _, kept, people = corrected(posts, "post 101 miku\npost 2 rin_kagamine  # an alias of rin\n")
    metadata = pq.read_schema(tmp_path / "decide" / "decisions.parquet").metadata
    effective = json.loads(metadata[b"personae.params"])

    assert {1: "miku", 2: "rin", 100: "rin", 101: "miku", 102: "rin"} == {
        row["post_id"]: row["persona"] for row in kept
    }
    assert {"miku": 2, "rin": 3} == {row["persona"]: row["listed"] for row in people}
    assert {"2": "rin_kagamine", "101": "miku"} == effective["decide"]["relabel"]


def test_correction_settles_two_personae(corrected):
    """A post with the tags of two characters is refused, and kept under the label that it is given."""
    posts = [*many(2), replace(GOOD, post_id=1, tags_character=("rin", "miku"))]
    posts += [replace(GOOD, post_id=2, tags_character=("miku",))]

    assert [2, 100, 101] == [row["post_id"] for row in corrected(posts, "")[1]]
    kept = corrected(posts, "post 1 miku\n")[1]
    assert ("miku", [1, 2, 100, 101]) == (kept[0]["persona"], [row["post_id"] for row in kept])


def test_correction_of_a_folder(corrected):
    """The label of a folder is corrected too."""
    posts = [
        replace(GOOD, post_id=n, tags_character=(), given_label=f"dog {n % 2}") for n in (1, 2, 3)
    ]
    _, kept, _ = corrected(posts, "post 3 dog 0\n")

    assert ["dog 1", "dog 0", "dog 0"] == [row["persona"] for row in kept]


def test_label_of_no_other_post_is_refused(corrected, tmp_path):
    """A misspelt label would become a persona of one image; the message suggests the right one."""
    with pytest.raises(BadParams, match=r"label 'rinn', which no other .* Did you mean 'rin'\?"):
        corrected(many(3), "post 100 rinn\n")


def test_correction_of_a_post_that_is_not_listed_is_counted(corrected, caplog):
    """A mistyped number corrects nothing, and a warning says so."""
    corrected(many(2), "post 100 rin\n")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    corrected(many(2), "post 7 rin\npost 100 rin\npost 8 other\n")

    assert "corrections.txt corrects posts that are not listed: 2, such as post 7." in caplog.text


def test_without_corrections_the_tables_keep_their_bytes(decided, tmp_path):
    """An absent file and one of another name give the same bytes."""
    decided(many(3))
    before = (tmp_path / "decide" / "decisions.parquet").read_bytes()
    decided(many(3), decide.Params(relabel=str(tmp_path / "none")))

    assert before == (tmp_path / "decide" / "decisions.parquet").read_bytes()
