"""Tests the groups of linked posts."""

import networkx as nx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.groups import groups_of


@given(pairs=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_groups_are_connected_components(pairs: list[tuple[int, int]]) -> None:
    """Groups are connected components with their smallest id as number, in any order of links."""
    graph = nx.Graph(pairs)
    graph.add_nodes_from(range(31))
    smallest = {post: min(part) for part in nx.connected_components(graph) for post in part}
    expected = [3 * smallest[post] for post in range(31)]
    posts, links = 3 * np.arange(31), 3 * np.array(pairs, np.int64).reshape(-1, 2)

    assert expected == groups_of(posts, links).tolist()
    assert expected == groups_of(posts, links[::-1, ::-1]).tolist()
