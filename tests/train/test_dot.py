"""The label tree in DOT: round trips, hand-written files, refused texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.test_hierarchy import trees
from train.errors import BadHierarchy
from train.tree import dot, hierarchy

NAMES = ["ann", "bea", "cem", "dua"]
BY_HAND = """
// siblings, by hand
digraph personae {
  rankdir=LR;
  node [shape=box];
  all -> "the east";
  all -> "the west"; # a comment
  "the east" -> cem
  "the east" -> dua [order=0];
  "the west" -> ann;
  "the west" -> "second";
  "second" [label="bea", color=red];
}
"""


@given(trees(), st.data())
def test_dot_round_trip(tree, data):
    """A hierarchy written as DOT is read back equal, for any label names."""
    labels = len(hierarchy.leaves(tree))
    some = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
    names = data.draw(st.lists(some, min_size=labels, max_size=labels, unique=True))
    graph = hierarchy.from_nested(tree, labels)
    again = dot.from_dot(dot.to_dot(graph, names), names)

    assert hierarchy.to_json(graph) == hierarchy.to_json(again)
    assert dot.to_dot(graph, names) == dot.to_dot(again, names)


def test_shape_shows_which_nodes_have_a_network():
    """A box has a network, a dashed box has one child, and a label shows its name."""
    text = dot.to_dot(hierarchy.from_clusters([[0, 1], [2]], 3), ["a", 'b "2"', "c\\d"])

    assert '"cluster-0" [shape=box];' in text
    assert '"cluster-1" [shape=box, style=dashed];' in text
    assert '"label-1" [shape=plaintext, label="b \\"2\\""];' in text
    assert '"label-2" [shape=plaintext, label="c\\\\d"];' in text
    assert '"root" -> "cluster-1" [order=1];' in text


def test_file_by_hand_is_read():
    """Unquoted identifiers, comments, settings and label attributes are read."""
    graph = dot.from_dot(BY_HAND, NAMES)

    assert [[2, 3], [0, 1]] == hierarchy.clusters(graph)
    assert ["the east", "the west"] == hierarchy.children(graph, "root")
    assert ["label-3", "label-2"] == hierarchy.children(graph, "the east")
    assert "the west" == graph.nodes["the west"]["net"]


def test_shared_nodes_are_kept():
    """A label below two clusters stays one node, so overlapping sets form a hierarchy."""
    graph = dot.from_dot(
        "digraph { r -> x -> ann; r -> y; x -> bea\ny -> bea y -> cem }", NAMES[:3]
    )

    assert [[0, 1], [1, 2]] == hierarchy.clusters(graph)


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        ("all -> x -> ann\nall -> [", r"Line 2 is no DOT: 'all -> \['"),
        (
            "all -> ann [order=first]",
            "from 'all' to 'ann' has order=first, which is no whole number",
        ),
        ("all -> ann\nall -> bee", "'bee' is none of the 4 labels. Did you mean 'bea'"),
        ("all -> ann\nall -> zzzzzz", "There are ann, bea, cem, dua"),
        ("all -> ann\nnone -> bea", "has the roots"),
        ("all -> x\nx -> y\ny -> x\ny -> ann", "a cycle"),
        ("a -> b\nb -> a", "a cycle"),
        ("", "has the roots"),
        ("all -> ann\nall -> other\nother [label=ann]", r"would be called \['label-0'\]"),
        ("all -> root\nroot -> ann\nroot -> bea", r"would be called \['root'\]"),
        ("all -> ann\nall -> bea", "holds the labels"),
        ("all -> x:port\nx -> ann", "x:port has a port"),
        ("all -> {ann bea}", "leads to a subgraph"),
        ("subgraph east { all -> ann }", "no subgraph"),
    ],
)
def test_what_is_no_hierarchy_is_refused(statements, message):
    """The error names the line, the node, the edge or the nearest label."""
    with pytest.raises(BadHierarchy, match=message):
        dot.from_dot("digraph {" + statements + "\n}", NAMES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Line 1 is no DOT"),
        ("all -> ann", "Line 1 is no DOT: 'all -> ann'"),
        ("digraph {\nall -> ann\n} all -> bea", "Line 3 is no DOT: '} all -> bea'"),
        ("digraph { all -> ann } digraph { all -> bea }", "one `digraph`"),
        ("graph { all -- ann }", "one `digraph`"),
        ("digraph {" + "subgraph {" * 3000 + "}" * 3001, "nested too deeply"),
        ("digraph {" + " " * dot.LARGEST + "}", "at most 262144 are read"),
    ],
    ids=["empty", "no_graph", "text_after", "two", "undirected", "deep", "long"],
)
def test_text_that_is_no_directed_graph_is_refused(text, message):
    """A text that is not exactly one directed graph is refused with the reason."""
    with pytest.raises(BadHierarchy, match=message):
        dot.from_dot(text, NAMES)
