"""
Stage `decide`: which posts are kept and which personae become labels. No network.

    python -m scraper decide

In come the tables of `listing`; out go `decisions.parquet` (every post seen, one row per rule that
it broke), `kept.parquet` and `personae.parquet`. Posts are read in batches, so that a million of
them need little memory, and equal input gives equal bytes.
"""

import json
import logging
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, field_validator

from personae import tables
from scraper import filters, personae
from scraper.filters import Facts, Limits
from scraper.personae import Kinship
from scraper.post import DECISIONS_SCHEMA, TAG_KINDS, Decision

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
}
KEPT_SCHEMA = pa.schema(_KEPT_COLUMNS)
PERSONAE_SCHEMA = pa.schema(_PERSONAE_COLUMNS)
# A post gets at most one of these, after every rule on the post alone has passed it.
_LATER_REASONS = ("persona_too_small", "persona_not_chosen", "enough_images")
_REASONS = (*filters.RULES, *_LATER_REASONS)
_CODES = {reason: code for code, reason in enumerate(_REASONS)}
_TAG_COLUMNS = tuple(f"tags_{kind}" for kind in TAG_KINDS)
_FLAGS = ("is_deleted", "is_banned", "is_pending", "is_flagged")
_PLAIN = (
    *("post_id", "md5", "rating", "image_width", "image_height", "file_ext"),
    *("duration_seconds", *_FLAGS, "given_label"),
)


class Params(BaseModel):
    """Section `decide`: what a post must be like. Tag sets and defaults follow the board's wiki."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratings: tuple[Literal["g", "s", "q", "e"], ...] = Field(
        ("g",), description="ratings kept: g general, s sensitive, q questionable, e explicit"
    )
    file_types: tuple[str, ...] = Field(
        ("jpg", "jpeg", "png", "webp"), description="types of original kept; still images only"
    )
    min_side: int = Field(
        256,
        ge=0,
        description="pixels that the shorter side of the original must have; 0 for folders of "
        "small images",
    )
    max_aspect: float = Field(
        3.0, ge=1.0, description="largest ratio of longer to shorter side; beyond it lie strips"
    )
    skip: tuple[str, ...] = Field(
        (), description="reason codes of rules that are switched off, such as flagged"
    )
    accept_tags: tuple[str, ...] = Field(
        (),
        description="tags that no rule holds against a post, such as lowres where min_side is "
        "below 500",
    )
    refuse_tags: tuple[str, ...] = Field(
        (),
        description="further tags that refuse a post (reason refused_tag), such as chibi, sketch, "
        "3d, doujinshi, speech_bubble, jpeg_artifacts",
    )

    @field_validator("skip")
    @classmethod
    def _only_known_rules(cls, skip: tuple[str, ...]) -> tuple[str, ...]:
        for reason in skip:
            if reason not in filters.RULES:
                raise ValueError(f"'{reason}' is no rule; known: {', '.join(filters.RULES)}")
            if reason in filters.INDISPENSABLE:
                raise ValueError(f"'{reason}' cannot be skipped: without it there is no label")
        return skip

    @property
    def limits(self) -> Limits:
        """The values that the rules compare with."""
        return Limits(
            ratings=frozenset(self.ratings),
            file_types=frozenset(self.file_types),
            min_side=self.min_side,
            max_aspect=self.max_aspect,
            refuse_tags=frozenset(self.refuse_tags),
        )


@dataclass(slots=True)
class _Persona:
    """What the posts say about one persona; `number` counts personae as they are met."""

    number: int
    listed: int = 0
    kept: int = 0
    bases: Counter[tuple[str, str]] = field(default_factory=Counter)
    copyrights: Counter[str] = field(default_factory=Counter)

    def base(self, name: str) -> tuple[str, str]:
        """The base that most posts give and its source; a real base goes before the persona."""
        return max(
            self.bases,
            key=lambda base: (base[1] != "self", self.bases[base], base),
            default=(name, "self"),
        )

    def copyright(self) -> str | None:
        """The copyright tag on most posts; the first by name among equals."""
        return min(self.copyrights, key=lambda tag: (-self.copyrights[tag], tag), default=None)


@dataclass(slots=True)
class _Judged:
    """The outcome of the rules on single posts, a few bytes for each post."""

    posts: int = 0
    refused: list[pa.Table] = field(default_factory=list)
    people: dict[str, _Persona] = field(default_factory=dict)
    passed_ids: "array[int]" = field(default_factory=lambda: array("q"))
    passed_persona: "array[int]" = field(default_factory=lambda: array("l"))
    passed_white: bytearray = field(default_factory=bytearray)


def run(params: Params, wanted: personae.Params, listing_dir: Path, out_dir: Path) -> None:
    """
    Judges every listed post and writes the three tables of the stage.

    Args:
        params: Section `decide`.
        wanted: Section `personae`.
        listing_dir: Where `listing` wrote.
        out_dir: Where to write.

    Raises:
        MissingInput: A table of `listing` is absent.
        MissingColumn: A table of `listing` lacks a column.
    """
    _log.info("decide: %s, personae: %s", params, wanted)
    judged = _judge(params, listing_dir)
    bases = {name: person.base(name) for name, person in judged.people.items()}
    outcome = personae.choose(
        {name: person.kept for name, person in judged.people.items()},
        {name: base for name, (base, _) in bases.items()},
        wanted,
    )
    later = _later(judged, outcome, wanted.most_images)
    decisions = _decisions(judged, later)
    effective = {"decide": params.model_dump(), "personae": wanted.model_dump()}
    tables.write(
        out_dir / "decisions.parquet",
        decisions.replace_schema_metadata({"personae.params": json.dumps(effective)}),
    )
    kept = _kept(judged, later, bases)
    tables.write(out_dir / "kept.parquet", kept)
    tables.write(out_dir / "personae.parquet", _personae(judged, outcome, bases))
    _log.info(
        "decide: %d posts, %d kept, %d of %d personae; refused by reason (a post may have several):"
        " %s",
        judged.posts,
        kept.num_rows,
        sum(refusal is None for refusal in outcome.values()),
        len(outcome),
        _counts(decisions) or "none",
    )


def _judge(params: Params, listing_dir: Path) -> _Judged:
    """Applies the rules on single posts, batch by batch."""
    kinship = _kinship(listing_dir)
    limits, accepted, skip = params.limits, frozenset(params.accept_tags), frozenset(params.skip)
    judged = _Judged()
    columns = (*_PLAIN, *_TAG_COLUMNS, "variants")
    for batch in tables.batches(listing_dir / "posts.parquet", columns, stage="listing"):
        refused: list[Decision] = []
        for facts, copyrights, base_source in _facts(batch, kinship, accepted):
            for leaf in facts.leaves:
                person = judged.people.setdefault(leaf, _Persona(len(judged.people)))
                person.listed += 1
            decisions = filters.refusals(facts, limits, skip=skip)
            refused += decisions
            if decisions:
                continue
            # A post that breaks no rule has one leaf and one base.
            person.kept += 1
            person.bases[facts.bases[0], base_source] += 1
            person.copyrights.update(copyrights)
            judged.passed_ids.append(facts.post_id)
            judged.passed_persona.append(person.number)
            judged.passed_white.append(filters.white_background_tag(facts.tags))
        judged.posts += batch.num_rows
        judged.refused.append(_rows(refused))
        _log.debug("decide: %d posts judged", judged.posts)
    return judged


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
    batch: pa.RecordBatch, kinship: Kinship, accepted: frozenset[str]
) -> Iterator[tuple[Facts, frozenset[str], str]]:
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
        lineage = personae.lineage(characters, current["copyright"], kinship)
        facts = Facts(
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
    """The rows of a column of lists; through numpy, which is several times faster than boxing."""
    names = column.flatten().to_numpy(zero_copy_only=False).tolist()
    end = 0
    for length in pc.list_value_length(column).to_pylist():
        start, end = end, end + (length or 0)
        yield names[start:end]


def _rows(decisions: list[Decision]) -> pa.Table:
    """Refusals as columns, with the reason as one byte."""
    return pa.table(
        {
            "post_id": pa.array([row.post_id for row in decisions], pa.int64()),
            "code": pa.array([_CODES[row.reason or ""] for row in decisions], pa.int8()),
            "measured": pa.array([row.measured for row in decisions], pa.float64()),
            "threshold": pa.array([row.threshold for row in decisions], pa.float64()),
        }
    )


def _later(
    judged: _Judged,
    outcome: Mapping[str, personae.Refusal | None],
    most_images: int | None,
) -> pa.Table:
    """One row per post that broke no rule: what the choice of personae makes of it."""
    names = list(judged.people)
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


def _decisions(judged: _Judged, later: pa.Table) -> pa.Table:
    """All decisions, by post and then in the order of the rules."""
    rows = pa.concat_tables([*judged.refused, later])
    rows = rows.sort_by([("post_id", "ascending"), ("code", "ascending")])
    reasons = pc.take(pa.array(_REASONS), rows.column("code"))
    columns = {
        "post_id": rows.column("post_id"),
        "stage": pa.repeat(filters.STAGE, rows.num_rows),
        "kept": pc.is_null(rows.column("code")),
        "reason": reasons,
        "measured": rows.column("measured"),
        "threshold": rows.column("threshold"),
    }
    return pa.table(columns, schema=DECISIONS_SCHEMA)


def _kept(judged: _Judged, later: pa.Table, bases: Mapping[str, tuple[str, str]]) -> pa.Table:
    """The posts to download, each with the label it stands for."""
    number = pa.array(judged.passed_persona, pa.int32())
    copyrights = [person.copyright() for person in judged.people.values()]
    columns = {
        "post_id": later.column("post_id"),
        "persona": _of_number(list(judged.people), number),
        "base": _of_number([bases[name][0] for name in judged.people], number),
        "base_source": _of_number([bases[name][1] for name in judged.people], number),
        "copyright": _of_number(copyrights, number),
        "white_background_tag": pa.array(np.frombuffer(judged.passed_white, np.bool_)),
    }
    table = pa.table(columns, schema=KEPT_SCHEMA)
    return table.filter(pc.is_null(later.column("code"))).sort_by("post_id").combine_chunks()


def _of_number(values: list[str] | list[str | None], number: Any) -> Any:
    """Turns numbers of personae into what `values` says of each."""
    return pc.take(pa.array(values, pa.string()), number)


def _personae(
    judged: _Judged,
    outcome: Mapping[str, personae.Refusal | None],
    bases: Mapping[str, tuple[str, str]],
) -> pa.Table:
    """One row per persona that any listed post shows."""
    rows = [
        {
            "persona": name,
            "base": bases[name][0],
            "copyright": person.copyright(),
            "listed": person.listed,
            "kept": person.kept,
            "qualifies": outcome[name] is None,
        }
        for name, person in sorted(judged.people.items())
    ]
    return pa.Table.from_pylist(rows, schema=PERSONAE_SCHEMA)


def _counts(decisions: pa.Table) -> str:
    """`reason count` of every reason, the most frequent first."""
    counts = Counter(reason for reason in decisions.column("reason").to_pylist() if reason)
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
