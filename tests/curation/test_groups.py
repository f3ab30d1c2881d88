"""Tests the groups of linked posts."""

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from curation.groups import groups_of


@given(pairs=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_groups_are_connected_components(pairs: list[tuple[int, int]]) -> None:
    """Groups are connected components with their smallest id as number, in any order of links."""
    graph = nx.Graph(pairs)
    graph.add_nodes_from(range(31))
    expected = {post: min(part) for part in nx.connected_components(graph) for post in part}

    assert expected == groups_of(range(31), pairs)
    assert expected == groups_of(range(31), reversed(pairs))
