"""Paths as outputs of steps: the slides' example, uneven trees, positions of the decisions."""

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.random_trees import SLIDES, trees
from train.errors import BadHierarchy
from train.tree import hierarchy
from train.tree.label_path import encode, levels

UNEVEN = [[[0, 1], 2], [3], 4]


def test_path_of_the_slides():
    """With outputs A to G, the path to F is B, F: y_1 = 0100000, y_2 = 0000010."""
    paths = encode(hierarchy.from_nested(SLIDES, 5))

    assert ("cluster-0", "cluster-1", *(f"label-{leaf}" for leaf in range(5))) == paths.nodes
    assert (1, 5) == paths.sequences[3]
    assert (7, 2) == (paths.outputs, paths.steps)
    assert [[0, 2], [0, 3], [1, 4], [1, 5], [1, 6]] == paths.targets().tolist()


def test_official_tree_of_cifar_has_120_outputs():
    """Twenty clusters of five labels give 120 nodes and two steps."""
    groups = [list(range(first, first + 5)) for first in range(0, 100, 5)]
    paths = encode(hierarchy.from_clusters(groups, 100))

    assert (120, 2) == (paths.outputs, paths.steps)


def test_uneven_paths_are_repeated_or_ended():
    """A shallow leaf is repeated to the depth of the tree, or every path gets an end symbol."""
    tree = hierarchy.from_nested(UNEVEN, 5)
    repeated, ended = encode(tree), encode(tree, ended=True)
    end = len(ended.nodes)

    assert (
        ended.nodes
        == repeated.nodes
        == (
            "cluster-0",
            "cluster-1",
            "label-4",
            "cluster-0-0",
            "label-2",
            "label-3",
            "label-0",
            "label-1",
        )
    )
    assert ((0, 3, 6), (0, 3, 7), (0, 4, 4), (1, 5, 5), (2, 2, 2)) == repeated.sequences
    assert ((0, 3, 6, end), (0, 3, 7, end), (0, 4, end), (1, 5, end), (2, end)) == ended.sequences
    assert [2, end, -1, -1] == ended.targets()[4].tolist()
    assert end + 1 == ended.outputs


def test_leaf_first_is_the_same_path_backwards():
    """In order leaf_first the path is reversed, and the end symbol stays last."""
    tree = hierarchy.from_nested(UNEVEN, 5)

    assert (4, 4, 0) == encode(tree, order="leaf_first").sequences[2]
    assert (4, 0, 8) == encode(tree, order="leaf_first", ended=True).sequences[2]


def test_decisions_lie_where_several_leaves_are_left():
    """A leaf that is alone below an output needs no further decision; its path is one chain."""
    found = levels(encode(hierarchy.from_nested(UNEVEN, 5), ended=True).sequences)

    assert [(), (0,), (0, 3)] == [decision.before for level in found for decision in level]
    assert [(None, 3, 4), (None, 2), (0, 1)] == [one.ends for level in found for one in level]
    assert [((0,), (1, 5, 8), (2, 8)), ((3,), (4, 8)), ((6, 8), (7, 8))] == [
        one.chains for level in found for one in level
    ]


@given(tree=trees(), order=st.sampled_from(["root_first", "leaf_first"]), ended=st.booleans())
def test_decisions_lead_to_every_leaf_once(tree, order, ended):
    """The outputs before a decision plus a chain form a leaf's sequence, once for every leaf."""
    sequences = encode(tree, order=order, ended=ended).sequences
    found = {}
    above = [()]
    for level in levels(sequences):
        following = []
        for decision in level:
            assert decision.before[:-1] == above[decision.parent]
            for end, chain in zip(decision.ends, decision.chains, strict=True):
                if end is None:
                    following.append((*decision.before, *chain))
                else:
                    found[end] = (*decision.before, *chain)
        above = [decision.before for decision in level]
        assert len(set(following)) == len(following)

    assert dict(enumerate(sequences)) == found


@given(tree=trees(), ended=st.booleans())
def test_sequences_are_paths_of_the_tree(tree, ended):
    """From the root, each sequence goes from parent to child down to its own leaf."""
    paths = encode(tree, ended=ended)
    for leaf, sequence in enumerate(paths.sequences):
        names = [
            paths.nodes[output] for output in dict.fromkeys(sequence) if output < len(tree) - 1
        ]

        assert hierarchy.paths(tree)[leaf] == [hierarchy.ROOT, *names]


def test_overlapping_groups_are_refused():
    """A label in two groups is refused, because it would have two paths."""
    tree = hierarchy.from_clusters([[0, 1], [2]], 3)
    tree.add_edge("cluster-1", "label-0", order=1)
    tree.nodes["cluster-1"]["members"] = (0, 2)

    assert nx.is_directed_acyclic_graph(tree)
    with pytest.raises(BadHierarchy, match="do not overlap"):
        encode(tree)
