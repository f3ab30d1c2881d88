"""Groups of linked posts: the connected components of their links."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ids = npt.NDArray[np.int64]

SEVERAL_LABELS = (
    "SELECT group_id, persona, post_id, representative, original_url FROM groups JOIN kept USING "
    "(post_id) JOIN posts USING (post_id) QUALIFY count(DISTINCT persona) OVER (PARTITION BY group_id) "
    "> 1 ORDER BY ALL"
)
"""Query of the catalog: the posts of the groups of `of_several_labels`."""


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


def of_several_labels(group_ids: Ids, labels: pa.ChunkedArray) -> int:
    """Returns the number of groups whose posts differ in their label; one row per post, `[posts]`."""
    posts = pa.table({"group": group_ids, "label": labels})
    counts = posts.group_by("group").aggregate([("label", "count_distinct")])
    return pc.sum(pc.greater(counts["label_count_distinct"], 1)).as_py() or 0
