"""Which images are on white: by their border, and by their tags if they have tags."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation import rows
from personae import tables

Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_KINDS = tuple(f"tags_{kind}" for kind in ("general", "character", "copyright", "artist", "meta"))


def white_background(data_dir: Path, posts: Ids, labels: pa.Array, *, white_border: float) -> Flags:
    """
    Returns whether each post is on white, `[posts]`.

    Tags that only repeat the label say nothing about the background.

    Args:
        data_dir: Folder of the tables.
        posts: Ids, ascending, `[posts]`.
        labels: Label of each post.
        white_border: Parameter `split.white_border`.

    Raises:
        MissingInput, MissingColumn: A table of an earlier stage is absent or incomplete.
    """
    measures = rows.of_posts(
        data_dir / "measure" / "measures.parquet", ["border_white"], posts, stage="measure"
    )
    border = pc.fill_null(measures["border_white"], 0.0).to_numpy()
    kept = rows.of_posts(
        data_dir / "decide" / "kept.parquet", ["white_background_tag"], posts, stage="decide"
    )
    tagged = pc.fill_null(kept["white_background_tag"], fill_value=False).to_numpy()
    has_tags = _has_tags(data_dir / "listing" / "posts.parquet", posts, labels)
    return np.asarray((border >= white_border) & (tagged | ~has_tags), np.bool_)


def _has_tags(path: Path, posts: Ids, labels: pa.Array) -> Flags:
    """Returns whether each post has a tag of its own: from the board, and not its label."""
    has_tags = np.zeros(len(posts), np.bool_)
    for batch in tables.batches(path, ["post_id", "given_label", *_KINDS], stage="listing"):
        of_batch = batch.column("post_id").to_numpy()
        at = np.minimum(np.searchsorted(posts, of_batch), max(0, len(posts) - 1))
        # `np.isin` would sort all posts for each batch.
        is_chosen = posts[at] == of_batch if len(posts) else np.zeros(len(of_batch), np.bool_)
        is_chosen &= batch.column("given_label").is_null().to_numpy(zero_copy_only=False)
        chosen = batch.filter(pa.array(is_chosen))
        row_of = at[is_chosen]
        for kind in _KINDS:
            post = row_of[chosen.column(kind).value_parent_indices().to_numpy()]
            other = pc.not_equal(chosen.column(kind).flatten(), labels.take(pa.array(post)))
            has_tags[post[other.to_numpy(zero_copy_only=False)]] = True
    return has_tags
