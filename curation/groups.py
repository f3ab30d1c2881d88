"""Groups of linked posts: the connected components of their links."""

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


def groups_of(posts: Ids, links: Ids) -> Ids:
    """
    Returns, for each post, the smallest post id that it is linked to over any number of links.

    Args:
        posts: Ids, ascending, each once, `[posts]`.
        links: Pairs of these ids, `[links, 2]`.
    """
    first, second = np.searchsorted(posts, links.reshape(-1, 2)).T
    smallest = np.arange(len(posts))  # row of a post that is linked; in the end, of the first such
    is_changed = True
    while is_changed:
        before = smallest
        low = np.minimum(smallest[first], smallest[second])
        smallest = smallest.copy()
        for end in (first, second):
            np.minimum.at(smallest, before[end], low)
        while not np.array_equal(smallest, further := smallest[smallest]):
            smallest = further
        is_changed = not np.array_equal(before, smallest)
    return posts[smallest]
