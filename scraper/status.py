"""
What is finished, refused and left, read from the tables and ledgers of the three stages.

It works offline and locks nothing, so a run may be under way.
"""

import json
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from personae import tables
from personae.errors import BadParams
from scraper import recorded, store
from scraper.personae import MOST_NAMED

_MOST_REASONS = 8


def report(data_dir: Path) -> str:
    """Returns the state of the three stages, one line each."""
    known = facts(data_dir)
    return "\n".join(
        (
            f"listing   {_of_listing(known['listing'])}",
            f"decide    {_of_decide(known['decide'])}",
            f"download  {_of_download(known['download'])}",
        )
    )


def as_json(data_dir: Path) -> str:
    """Returns the state of the three stages as JSON, for programs."""
    return json.dumps(facts(data_dir), indent=1)


def facts(data_dir: Path) -> dict[str, dict[str, Any]]:
    """Returns for each stage its `state`, and the counts of what is done, refused and left."""
    return {
        "listing": _listing(data_dir / "listing"),
        "decide": _decide(data_dir / "decide"),
        "download": _download(data_dir / "download", data_dir / "decide"),
    }


def is_finished(data_dir: Path) -> bool:
    """Returns whether the last run listed everything and has no image left to download."""
    listing = _listing(data_dir / "listing")
    download = _download(data_dir / "download", data_dir / "decide")
    is_downloaded = download["state"].startswith("done") and not download["left"]
    return listing["state"] == "done" and is_downloaded


def require_personae(data_dir: Path, min_images: int) -> None:
    """
    Makes sure that at least one persona qualifies.

    Raises:
        BadParams: None does; the message names the personae with most images, and the rules that
            refused most posts.
    """
    rows = _personae(data_dir / "decide")
    if any(row["qualifies"] for row in rows):
        return
    rows.sort(key=lambda row: (-row["kept"], row["persona"]))
    largest = ", ".join(f"{row['persona']} {row['kept']:,}" for row in rows[:MOST_NAMED])
    reasons = _decide(data_dir / "decide").get("reasons", {})
    rules = {name: count for name, count in reasons.items() if name != "persona_too_small"}
    refused = f" Refused by the rules: {_text(rules)}." if rules else ""
    raise BadParams(
        f"No persona has {min_images} images that pass the rules. The largest: {largest or 'none'}."
        f"{refused} Lower "
        "--min-images (personae.min_images), or relax the rules in section 'decide'."
    )


def _listing(folder: Path) -> dict[str, Any]:
    held = recorded.summary(folder)
    if held is None:
        return {"state": "not begun"}
    known = {
        "searches": held.searches,
        "searches_done": held.searches_done,
        "board": held.board,
        "boards": held.boards,
    }
    if held.searches_done < held.searches or not (folder / "posts.parquet").is_file():
        return {"state": "unfinished", "posts": held.posts} | known
    posts = tables.read(folder / "posts.parquet", ("post_id",), stage="listing").num_rows
    return {
        "state": "done",
        "posts": posts,
        "unreadable": held.unreadable,
        "gone": held.gone,
    } | known


def _of_listing(known: dict[str, Any]) -> str:
    if known["state"] == "not begun":
        return "not begun"
    # The tables and the next run are those of one board, whatever else the record holds.
    board = f" of {known['board']}, the last of {known['boards']} boards here"
    posts = f"{known['posts']:,} posts{board if known['boards'] > 1 else ''}"
    if known["state"] == "unfinished":
        return (
            f"unfinished: {posts}, {known['searches_done']} of {known['searches']} searches done; run "
            "the same command again to continue"
        )
    counts = [f"{known[name]:,} {name}" for name in ("unreadable", "gone") if known[name]]
    return ", ".join([f"done: {posts}", *counts])


def _decide(folder: Path) -> dict[str, Any]:
    if not (folder / "kept.parquet").is_file():
        return {"state": "not done"}
    kept = tables.read(folder / "kept.parquet", ("post_id",), stage="decide").num_rows
    columns = ("post_id", "reason")
    decisions = tables.read(folder / "decisions.parquet", columns, stage="decide")
    posts = len(decisions.column("post_id").unique())
    rows = _personae(folder)
    return {
        "state": "done",
        "personae": len(rows),
        "personae_qualify": sum(row["qualifies"] for row in rows),
        "kept": kept,
        "refused": posts - kept,
        "reasons": _reasons(decisions),
    }


def _of_decide(known: dict[str, Any]) -> str:
    if known["state"] == "not done":
        return "not done"
    return (
        f"done: {known['personae_qualify']} of {known['personae']} personae qualify; "
        f"{known['kept']:,} posts kept, {known['refused']:,} refused ({_text(known['reasons'])})"
    )


def _download(folder: Path, decide_dir: Path) -> dict[str, Any]:
    if not (decide_dir / "kept.parquet").is_file():
        return {"state": "not begun"}
    kept = tables.read(decide_dir / "kept.parquet", ("post_id",), stage="decide").num_rows
    if (folder / "images.parquet").is_file():
        columns = ("post_id", "reason")
        decisions = tables.read(folder / "decisions.parquet", columns, stage="download")
        stored = tables.read(folder / "images.parquet", ("post_id",), stage="download").num_rows
        left = kept - decisions.num_rows
        return {
            "state": "done" if not left else "done for earlier decisions",
            "stored": stored,
            "refused": decisions.num_rows - stored,
            "reasons": _reasons(decisions),
            "left": max(left, 0),
        }
    stored, refused = _recorded(folder / "ledger.sqlite")
    begun = bool(stored or refused)
    return {
        "state": "unfinished" if begun else "not begun",
        "stored": stored,
        "refused": refused,
        "left": max(0, kept - stored - refused),
    }


def _of_download(known: dict[str, Any]) -> str:
    if "left" not in known:
        return "not begun"
    if known["state"] == "not begun":
        return f"not begun: {known['left']:,} left"
    counts = f"{known['stored']:,} images stored, {known['refused']:,} refused"
    if known["state"] == "unfinished":
        left = f"about {known['left']:,} left; run the same command again to continue"
        return f"unfinished: {counts}, {left}"
    return f"{known['state']}: {counts} ({_text(known['reasons'])}), {known['left']:,} left"


def _recorded(path: Path) -> tuple[int, int]:
    if not path.is_file():
        return 0, 0
    with store.translated(path, remedy=""), closing(store.read_only(path)) as rows:
        if not store.has_tables(rows):
            return 0, 0
        (stored,) = rows.execute("SELECT count(*) FROM images").fetchone()
        (refused,) = rows.execute("SELECT count(*) FROM refusals").fetchone()
    return int(stored), int(refused)


def _personae(folder: Path) -> list[dict[str, Any]]:
    schema = pa.schema({"persona": pa.string(), "kept": pa.int64(), "qualifies": pa.bool_()})
    rows: list[dict[str, Any]] = tables.read_complete(
        folder / "personae.parquet", schema, stage="decide"
    ).to_pylist()
    return rows


def _reasons(decisions: pa.Table) -> dict[str, int]:
    """Returns the number of decisions of each reason, the most frequent first."""
    counts = Counter(reason for reason in decisions.column("reason").to_pylist() if reason)
    return dict(counts.most_common())


def _text(reasons: dict[str, int]) -> str:
    shown = [f"{reason} {count:,}" for reason, count in reasons.items()][:_MOST_REASONS]
    return ", ".join(shown) or "none"
