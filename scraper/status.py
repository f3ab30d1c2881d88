"""
What is finished, refused and left, read from the tables and ledgers of the three stages.

It works offline and locks nothing, so a run may be under way.
"""

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from personae import tables
from personae.errors import BadParams
from scraper import pages, store

_MOST_REASONS = 8


def report(data_dir: Path) -> str:
    """Returns the state of the three stages, one line each."""
    return "\n".join(
        (
            _listing(data_dir / "listing"),
            _decide(data_dir / "decide"),
            _download(data_dir / "download", data_dir / "decide"),
        )
    )


def is_finished(data_dir: Path) -> bool:
    """Returns whether the last run listed everything and has no image left to download."""
    held = pages.summary(data_dir / "listing")
    images = data_dir / "download" / "images.parquet"
    kept = data_dir / "decide" / "kept.parquet"
    if (
        held is None
        or held.searches_done < held.searches
        or not images.is_file()
        or not kept.is_file()
    ):
        return False
    posts = tables.read(kept, ("post_id",), stage="decide").num_rows
    decisions = tables.read(images.with_name("decisions.parquet"), ("post_id",), stage="download")
    return bool(posts <= decisions.num_rows)


def require_personae(data_dir: Path, min_images: int) -> None:
    """
    Makes sure that at least one persona qualifies.

    Raises:
        BadParams: None does; the message names the persona with most images.
    """
    rows = _personae(data_dir / "decide")
    if any(row["qualifies"] for row in rows):
        return
    best = max(rows, key=lambda row: (row["kept"], row["persona"]), default=None)
    most = f"the largest, {best['persona']!r}, has {best['kept']}" if best else "none was listed"
    raise BadParams(
        f"No persona has {min_images} images that pass the rules; {most}. Lower "
        "--min-images (personae.min_images), or relax the rules in section 'decide'."
    )


def _listing(folder: Path) -> str:
    held = pages.summary(folder)
    if held is None:
        return "listing   not begun"
    left = held.searches - held.searches_done
    if left or not (folder / "posts.parquet").is_file():
        return (
            f"listing   unfinished: {held.posts:,} posts, {held.searches_done} of {held.searches} "
            "searches done; run the same command again to continue"
        )
    posts = tables.read(folder / "posts.parquet", ("post_id",), stage="listing").num_rows
    return f"listing   done: {posts:,} posts"


def _decide(folder: Path) -> str:
    if not (folder / "kept.parquet").is_file():
        return "decide    not done"
    kept = tables.read(folder / "kept.parquet", ("post_id",), stage="decide").num_rows
    columns = ("post_id", "reason")
    decisions = tables.read(folder / "decisions.parquet", columns, stage="decide")
    posts = len(decisions.column("post_id").unique())
    rows = _personae(folder)
    return (
        f"decide    done: {sum(row['qualifies'] for row in rows)} of {len(rows)} personae qualify; "
        f"{kept:,} posts kept, {posts - kept:,} refused ({_reasons(decisions)})"
    )


def _download(folder: Path, decide_dir: Path) -> str:
    if not (decide_dir / "kept.parquet").is_file():
        return "download  not begun"
    kept = tables.read(decide_dir / "kept.parquet", ("post_id",), stage="decide").num_rows
    if (folder / "images.parquet").is_file():
        columns = ("post_id", "reason")
        decisions = tables.read(folder / "decisions.parquet", columns, stage="download")
        stored = tables.read(folder / "images.parquet", ("post_id",), stage="download").num_rows
        refused = decisions.num_rows - stored
        left = kept - decisions.num_rows
        state = "done" if not left else "done for earlier decisions"
        return (
            f"download  {state}: {stored:,} images stored, {refused:,} refused "
            f"({_reasons(decisions)}), {max(left, 0):,} left"
        )
    stored, refused = _recorded(folder / "ledger.sqlite")
    if not stored and not refused:
        return f"download  not begun: {kept:,} left"
    return (
        f"download  unfinished: {stored:,} images stored, {refused:,} refused, about "
        f"{max(0, kept - stored - refused):,} left; run the same command again to continue"
    )


def _recorded(path: Path) -> tuple[int, int]:
    if not path.is_file():
        return 0, 0
    with store.translated(path, again="download"), closing(store.read_only(path)) as rows:
        (stored,) = rows.execute("SELECT count(*) FROM images").fetchone()
        (refused,) = rows.execute("SELECT count(*) FROM refusals").fetchone()
    return int(stored), int(refused)


def _personae(folder: Path) -> list[dict[str, Any]]:
    columns = ("persona", "kept", "qualifies")
    rows: list[dict[str, Any]] = tables.read(
        folder / "personae.parquet", columns, stage="decide"
    ).to_pylist()
    return rows


def _reasons(decisions: pa.Table) -> str:
    counts = Counter(reason for reason in decisions.column("reason").to_pylist() if reason)
    shown = [f"{reason} {count:,}" for reason, count in counts.most_common(_MOST_REASONS)]
    return ", ".join(shown) or "none"
