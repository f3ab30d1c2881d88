"""Given groupings: families of the data set, and trees in JSON or DOT files."""

import json

import pytest

from personae.errors import MissingInput
from train.errors import BadHierarchy
from train.grouping import given

NAMES = ["ann", "bea", "cem", "dua"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"a": "x", "b": "x", "c": "y"}, [[0, 1], [2]]),
        ({"a": "x", "c": "x"}, [[0, 2], [1]]),
        ({"a": "x", "b": "x", "c": None}, [[0, 1], [2]]),
        ({"a": "label b", "b": None, "c": "label b"}, [[0, 2], [1]]),
    ],
)
def test_families_group_what_they_name(told, expected):
    """Labels of one family form a group; a label without a family is alone."""
    assert expected == given.families(["a", "b", "c"], told)


@pytest.mark.parametrize(
    "told",
    [
        {"a": "x", "b": "x", "c": "x"},
        {"a": "x", "b": "y", "c": "z"},
        {"a": None, "b": None, "c": None},
        {},
    ],
)
def test_families_that_group_nothing_are_none(told):
    """One family for all labels, or one per label, is refused with the parameter to set."""
    with pytest.raises(BadHierarchy, match=r"clustering\.given"):
        given.families(["a", "b", "c"], told)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([["ann", "dua"], ["bea", "cem"]], [[0, 3], [1, 2]]),
        ([["dua", "ann"], "bea", "cem"], [[0, 3], [1], [2]]),
        ({"x": ["ann", {"y": ["bea", "cem"]}], "z": ["dua"]}, [[[1, 2], 0], [3]]),
    ],
)
def test_json_trees_are_read(tmp_path, told, expected):
    """Lists and objects of names become leaves; a label at the root is a cluster of its own."""
    path = tmp_path / "tree.json"
    path.write_text(json.dumps(told), encoding="utf-8")

    assert expected == given.read(path, NAMES)


def test_dot_trees_are_read(tmp_path):
    """A file in DOT gives the same tree as the lists."""
    path = tmp_path / "tree.dot"
    path.write_text(
        "digraph {\nall -> x\nall -> y\nx -> ann\nx -> dua\ny -> bea\ny -> cem\n}\n",
        encoding="utf-8",
    )

    assert [[0, 3], [1, 2]] == given.read(path, NAMES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "no JSON"),
        ('[["ann", 3], ["bea"]]', "3 is neither a label's name"),
        ('[["ann", "bee"], ["cem", "dua"]]', "'bee' is none of the 4 labels. Did you mean 'bea'"),
        ('[["ann", "bea"], ["cem"]]', "no partition of 4 labels"),
        ('[["ann", "bea"], ["cem", "dua", "ann"]]', "no partition of 4 labels"),
        ('[["ann", "bea"], ["cem", "dua"], []]', "no partition of 4 labels"),
        ('"ann"', "neither a label's name nor a list"),
        ('["ann", "bea", "cem", "dua"]', "there would be 4 clusters"),
        ('{"all": ["ann", "bea", "cem", "dua"]}', "there would be 4 clusters"),
    ],
)
def test_trees_that_are_none_name_the_file(tmp_path, text, message):
    """A wrong tree file gives an error with the file and the parameter."""
    path = tmp_path / "tree.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadHierarchy, match=r"tree\.json \(clustering\.given\)") as caught:
        given.read(path, NAMES)

    assert message in str(caught.value)


def test_missing_file_names_the_parameter(tmp_path):
    """A missing file gives an error with the parameter that names it."""
    with pytest.raises(MissingInput, match=r"clustering\.given names .*none\.json"):
        given.read(tmp_path / "none.json", NAMES)
