"""Groups of linked posts: the connected components of their links."""

from collections.abc import Iterable

from networkx.utils import UnionFind


def groups_of(posts: Iterable[int], links: Iterable[tuple[int, int]]) -> dict[int, int]:
    """
    Returns, for each post, the smallest post id that it is linked to over any number of links.

    Args:
        posts: Ids; the result has their order.
        links: Pairs of these ids.
    """
    sets = UnionFind(posts)
    for post_a, post_b in links:
        sets.union(post_a, post_b)
    smallest = {post: min(group) for group in sets.to_sets() for post in group}
    return {post: smallest[post] for post in sets}
