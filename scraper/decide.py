"""
Stage `decide`: which posts are kept and which personae become labels. It works offline.

    python -m scraper decide

Reads the tables of `listing`. Writes `decisions.parquet` (every listed post, with one row per rule
that it broke), `kept.parquet` and `personae.parquet`. Posts are read in batches, so that a million
of them need little memory. Equal input gives equal bytes.
"""

import json
import logging
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from personae import decisions, tables
from personae.decisions import DECISIONS
from personae.errors import BadParams
from personae.settings import near_miss
from scraper import filters, personae, relabel
from scraper.filters import PostFacts
from scraper.params.decide import Params
from scraper.params.personae import Params as PersonaeParams
from scraper.personae import Kinship, PersonaCounts
from scraper.post import TAG_KINDS, PostDecision
from scraper.schemas import posts_columns

_log = logging.getLogger(__name__)

_KEPT_COLUMNS: dict[str, pa.DataType] = {
    "post_id": pa.int64(),
    "persona": pa.string(),
    "base": pa.string(),
    "base_source": pa.string(),
    "copyright": pa.string(),
    "white_background_tag": pa.bool_(),
}
_PERSONAE_COLUMNS: dict[str, pa.DataType] = {
    "persona": pa.string(),
    "base": pa.string(),
    "copyright": pa.string(),
    "listed": pa.int64(),
    "kept": pa.int64(),
    "qualifies": pa.bool_(),
    "reason": pa.string(),
}
KEPT_SCHEMA = pa.schema(_KEPT_COLUMNS)
PERSONAE_SCHEMA = pa.schema(_PERSONAE_COLUMNS)
# A post that breaks no rule gets at most one of these, from the choice of personae.
_LATER_REASONS = (
    "persona_too_small",
    "persona_not_chosen",
    "enough_images",
    "persona_excluded",
    "other_copyright",
)
_BATCH = 1000
"""Posts at once: their tags as Python objects take most of the memory."""
_PIECE = 1 << 18
"""Rows that are written at once: the text of a reason or a persona is in memory for these alone."""
_REASONS = (*filters.RULES, *_LATER_REASONS)
_CODES = {reason: code for code, reason in enumerate(_REASONS)}
_TAG_COLUMNS = tuple(f"tags_{kind}" for kind in TAG_KINDS)
_FLAGS = ("is_deleted", "is_banned", "is_pending", "is_flagged")
_PLAIN = (
    "post_id",
    "md5",
    "rating",
    "image_width",
    "image_height",
    "file_ext",
    "duration_seconds",
    *_FLAGS,
    "given_label",
)


@dataclass(slots=True)
class _Judged:
    """The outcome of the rules for single posts, a few bytes for each post."""

    posts: int = 0
    refused: list[pa.Table] = field(default_factory=list)
    personae: dict[str, PersonaCounts] = field(default_factory=dict)
    passed_ids: "array[int]" = field(default_factory=lambda: array("q"))
    passed_persona: "array[int]" = field(default_factory=lambda: array("l"))
    passed_white: bytearray = field(default_factory=bytearray)


def run(params: Params, selection: PersonaeParams, listing_dir: Path, out_dir: Path) -> None:
    """
    Judges every listed post and writes the three tables of the stage.

    Args:
        params: Section `decide`.
        selection: Section `personae`.
        listing_dir: Output of stage `listing`.
        out_dir: Folder of the three tables.

    Raises:
        MissingInput: A table of `listing` is absent.
        MissingColumn: A table of `listing` lacks a column.
        BadParams: The relabel file is wrong, or names a label of no other post; or section
            `personae` names a persona that is not known.
    """
    _log.info("decide: %s, personae: %s", params, selection)
    corrected = relabel.read(Path(params.relabel))
    judged = _judge(params, listing_dir, corrected)
    bases = {name: counts.base(name) for name, counts in judged.personae.items()}
    outcome = personae.choose(
        {name: counts.kept for name, counts in judged.personae.items()},
        {name: base for name, (base, _) in bases.items()},
        selection,
        {name: counts.copyright() for name, counts in judged.personae.items()},
        _looked_up(listing_dir),
    )
    later = _later(judged, outcome, selection.most_images)
    # Without excluded or corrected posts the table has the bytes that it had before there were such.
    own = params.model_dump(
        exclude={"relabel", *(() if params.exclude_posts else ("exclude_posts",))}
    )
    own |= {"relabel": corrected} if corrected else {}
    effective = {"decide": own, "personae": selection.model_dump()}
    rows = _ordered(judged, later)
    tables.write_rows(
        out_dir / "decisions.parquet",
        DECISIONS.with_metadata({"personae.params": json.dumps(effective)}),
        _decisions(rows),
    )
    tables.write_rows(out_dir / "kept.parquet", KEPT_SCHEMA, _kept(judged, later, bases))
    tables.write(out_dir / "personae.parquet", _personae(judged, outcome, bases))
    _log.info(
        "decide: %d posts, %d kept, %d of %d personae; refused by reason (a post may have several):"
        " %s",
        judged.posts,
        later["code"].null_count,
        sum(refusal is None for refusal in outcome.values()),
        len(outcome),
        _counts(rows["code"]) or "none",
    )


def _judge(params: Params, listing_dir: Path, corrected: Mapping[int, str]) -> _Judged:
    """Returns the outcome of the rules for single posts, read batch by batch."""
    kinship = _kinship(listing_dir)
    limits, accepted, skip = params.limits, frozenset(params.accept_tags), frozenset(params.skip)
    judged, unlisted = _Judged(), set(corrected)
    columns = (*_PLAIN, *_TAG_COLUMNS, "variants")
    path = listing_dir / "posts.parquet"
    tables.check_types(path, posts_columns(columns), stage="listing")
    for batch in tables.batches(path, columns, stage="listing", rows=_BATCH):
        refused: list[PostDecision] = []
        for facts, copyrights, base_source in _facts(batch, kinship, accepted, corrected):
            for leaf in facts.leaves:
                counts = judged.personae.setdefault(leaf, PersonaCounts(len(judged.personae)))
                counts.listed += 1
                counts.corrected += facts.post_id in corrected
            broken = filters.refusals(facts, limits, skip=skip)
            refused += broken
            if broken:
                continue
            # A post that breaks no rule has one leaf and one base.
            counts.kept += 1
            counts.bases[facts.bases[0], base_source] += 1
            counts.copyrights.update(copyrights)
            judged.passed_ids.append(facts.post_id)
            judged.passed_persona.append(counts.number)
            judged.passed_white.append(filters.white_background_tag(facts.tags))
        unlisted.difference_update(batch["post_id"].to_pylist() if unlisted else ())
        judged.posts += batch.num_rows
        judged.refused.append(_rows(refused))
        _log.debug("decide: %d posts judged", judged.posts)
    _check_corrections(params, judged)
    relabel.warn_of_unlisted(Path(params.relabel), unlisted)
    return judged


def _looked_up(listing_dir: Path) -> list[str]:
    """Returns the excluded personae that stage `listing` looked up: their posts may not be listed."""
    path = listing_dir / "posts.parquet"
    listed = tables.recorded(path, "personae.params", stage="listing").get("personae", {})
    names: list[str] = listed.get("exclude", [])
    return names


def _check_corrections(params: Params, judged: _Judged) -> None:
    """Makes sure that every corrected label is one that other posts have: a misspelt one is not."""
    known = sorted(name for name, each in judged.personae.items() if each.listed > each.corrected)
    for name, counts in judged.personae.items():
        if counts.listed == counts.corrected:
            raise BadParams(
                f"{params.relabel} has the label {name!r:.80}, which no other listed post has."
                f"{near_miss(name, known)}"
            )
    if count := sum(counts.corrected for counts in judged.personae.values()):
        _log.info("decide: %d posts have a corrected label (%s)", count, params.relabel)


def _kinship(listing_dir: Path) -> Kinship:
    pairs = []
    for name in ("aliases", "implications"):
        table = tables.read(
            listing_dir / f"{name}.parquet", ("antecedent", "consequent"), stage="listing"
        )
        pairs.append(
            zip(
                *(table.column(side).to_pylist() for side in ("antecedent", "consequent")),
                strict=True,
            )
        )
    return Kinship.from_pairs(*pairs)


def _facts(
    batch: pa.RecordBatch,
    kinship: Kinship,
    accepted: frozenset[str],
    corrected: Mapping[int, str],
) -> Iterator[tuple[PostFacts, frozenset[str], str]]:
    """Yields facts, copyright tags and base source of each post of a batch."""
    plain = zip(*(batch.column(name).to_pylist() for name in _PLAIN), strict=True)
    kinds = zip(*(_lists(batch.column(name)) for name in _TAG_COLUMNS), strict=True)
    variants = pc.list_value_length(batch.column("variants")).to_pylist()
    for row, tags, files in zip(plain, kinds, variants, strict=True):
        post_id, md5, rating, width, height, file_ext, duration, *flags, label = row
        deleted, banned, pending, flagged = flags
        current = {
            kind: kinship.canonical(names) for kind, names in zip(TAG_KINDS, tags, strict=True)
        }
        characters = current["character"] if label is None else (label,)
        if post_id in corrected:
            characters = kinship.canonical([corrected[post_id]])
        lineage = personae.lineage(characters, current["copyright"], kinship)
        facts = PostFacts(
            post_id=post_id,
            tags=frozenset().union(*current.values()) - accepted,
            leaves=lineage.leaves,
            bases=lineage.bases,
            rating=rating,
            file_ext=file_ext,
            width=width,
            height=height,
            duration_seconds=duration,
            is_hidden=md5 is None or not files,
            is_deleted=deleted,
            is_banned=banned,
            is_pending=pending,
            is_flagged=flagged,
            is_labelled=label is not None,
        )
        yield facts, current["copyright"], lineage.base_source


def _lists(column: Any) -> Iterator[list[str]]:
    """Yields the rows of a column of lists; numpy is several times faster than `to_pylist`."""
    names = column.flatten().to_numpy(zero_copy_only=False).tolist()
    end = 0
    for length in pc.list_value_length(column).to_pylist():
        start, end = end, end + (length or 0)
        yield names[start:end]


def _rows(refused: list[PostDecision]) -> pa.Table:
    """Returns refusals as a table, with the reason as one byte."""
    return pa.table(
        {
            "post_id": pa.array([row.post_id for row in refused], pa.int64()),
            "code": pa.array([_CODES[row.reason or ""] for row in refused], pa.int8()),
            "measured": pa.array([row.measured for row in refused], pa.float64()),
            "threshold": pa.array([row.threshold for row in refused], pa.float64()),
        }
    )


def _later(
    judged: _Judged,
    outcome: Mapping[str, personae.PersonaRefusal | None],
    most_images: int | None,
) -> pa.Table:
    """Returns one row per post that broke no rule: the effect of the choice of personae on it."""
    names = list(judged.personae)
    codes = np.full(len(judged.passed_ids), -1, np.int8)
    measured = np.zeros(len(codes))
    threshold = np.zeros(len(codes))
    persona = np.asarray(judged.passed_persona)
    members = np.split(
        np.argsort(persona, kind="stable"),
        np.cumsum(np.bincount(persona, minlength=len(names)))[:-1],
    )
    for name, rows in zip(names, members, strict=bool(names)):
        refusal = outcome[name]
        if refusal is not None:
            codes[rows] = _CODES[refusal.reason]
            measured[rows], threshold[rows] = refusal.measured, refusal.threshold
        elif most_images is not None and len(rows) > most_images:
            ranked = sorted(rows, key=lambda row: personae.hash_order(judged.passed_ids[row]))
            beyond = np.asarray(ranked[most_images:])
            codes[beyond] = _CODES["enough_images"]
            measured[beyond] = np.arange(most_images + 1, len(rows) + 1)
            threshold[beyond] = most_images
    kept = codes < 0
    return pa.table(
        {
            "post_id": pa.array(judged.passed_ids, pa.int64()),
            "code": pa.array(codes, mask=kept),
            "measured": pa.array(measured, mask=kept),
            "threshold": pa.array(threshold, mask=kept),
        }
    )


def _ordered(judged: _Judged, later: pa.Table) -> pa.Table:
    """Returns all decisions with the reason as one byte, by post and then in the order of the rules."""
    rows = pa.concat_tables([*judged.refused, later]).combine_chunks()
    judged.refused.clear()  # a copy of millions of rows is not kept
    post_ids = rows["post_id"].to_numpy()
    if (post_ids[1:] > post_ids[:-1]).all():
        return rows
    codes = pc.fill_null(rows["code"], len(_REASONS)).to_numpy()
    return rows.take(pa.array(np.lexsort([codes, post_ids])))


def _decisions(rows: pa.Table) -> Iterator[pa.Table]:
    """Yields the rows of `_ordered` with the columns of `DECISIONS`, in pieces."""
    for start in range(0, rows.num_rows, _PIECE):
        piece = rows.slice(start, _PIECE)
        yield decisions.table(
            filters.STAGE,
            piece["post_id"],
            pc.take(pa.array(_REASONS), piece["code"]),
            measured=piece["measured"],
            threshold=piece["threshold"],
        )


def _kept(
    judged: _Judged, later: pa.Table, bases: Mapping[str, tuple[str, str]]
) -> Iterator[pa.Table]:
    """Yields the posts to download, each with its label, by post, in pieces."""
    kept = np.flatnonzero(later["code"].is_null().to_numpy())
    post_ids = np.asarray(judged.passed_ids)[kept]
    order = np.argsort(post_ids, kind="stable")
    kept, post_ids = kept[order], post_ids[order]
    persona = np.asarray(judged.passed_persona)
    white = np.frombuffer(judged.passed_white, np.bool_)
    values = {
        "persona": list(judged.personae),
        "base": [bases[name][0] for name in judged.personae],
        "base_source": [bases[name][1] for name in judged.personae],
        "copyright": [counts.copyright() for counts in judged.personae.values()],
    }
    of_persona = {name: pa.array(column, pa.string()) for name, column in values.items()}
    for start in range(0, len(kept), _PIECE):
        rows = kept[start : start + _PIECE]
        number = pa.array(persona[rows])
        columns = {
            "post_id": post_ids[start : start + _PIECE],
            **{name: column.take(number) for name, column in of_persona.items()},
            "white_background_tag": white[rows],
        }
        yield pa.table(columns, schema=KEPT_SCHEMA)


def _personae(
    judged: _Judged,
    outcome: Mapping[str, personae.PersonaRefusal | None],
    bases: Mapping[str, tuple[str, str]],
) -> pa.Table:
    """Returns one row per persona on any listed post."""
    rows = [
        {
            "persona": name,
            "base": bases[name][0],
            "copyright": counts.copyright(),
            "listed": counts.listed,
            "kept": counts.kept,
            "qualifies": refusal is None,
            "reason": None if refusal is None else refusal.reason,
        }
        for name, counts in sorted(judged.personae.items())
        for refusal in (outcome[name],)
    ]
    return pa.Table.from_pylist(rows, schema=PERSONAE_SCHEMA)


def _counts(codes: pa.ChunkedArray) -> str:
    """Returns `reason count` of every reason, the most frequent first."""
    counts = np.bincount(codes.drop_null().to_numpy(), minlength=len(_REASONS)).tolist()
    ranked = sorted(range(len(_REASONS)), key=lambda code: -counts[code])
    return ", ".join(f"{_REASONS[code]} {counts[code]}" for code in ranked if counts[code])
