"""
Stage `filters`: refuses images by their measures and by the exclude file, with reasons.

Reads measures.parquet, writes decisions.parquet. A rule is a function whose name is its reason code;
it returns the two numbers compared if the image falls short, else None. All rules are evaluated, so
an image may have several reasons. A post that a rule of the exclude file matches has the reason
`excluded`, and tombstones.parquet, which is written where there are such rules, names the rules.
"""

import logging
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from curation import exclusions
from curation.exclusions import ExclusionRule
from curation.params.filters import Params
from personae import tables
from personae.decisions import DECISIONS

log = logging.getLogger(__name__)

_BATCH = 10_000  # images decided at once
EXCLUDED = "excluded"
"""Reason code of the posts that a rule of the exclude file matches."""
TOMBSTONES = pa.schema({"post_id": pa.int64(), "rule": pa.string(), "why": pa.string()})
"""Columns of tombstones.parquet: one row for each excluded post and rule that matches it."""


@dataclass(frozen=True, slots=True)
class Measures:
    """The columns of measures.parquet that the rules read; None if the image was not decoded."""

    post_id: int
    error: str | None
    measured: float | None
    """The number that refused an image in `measure`, and the one that it was compared with."""
    threshold: float | None
    width: int | None
    height: int | None
    saturation: float | None
    sharpness: float | None
    contrast: float | None


@dataclass(frozen=True, slots=True)
class Shortfall:
    """The two numbers that a rule compared; both None if the rule compares no numbers."""

    measured: float | None = None
    threshold: float | None = None


def unreadable(measures: Measures) -> str | None:
    """
    Refuses an image that `measure` could not decode.

    Returns the error of `measure` as the reason: undecodable, truncated, too_many_pixels,
    animated_file or wrong_size.
    """
    return measures.error


def small_image(measures: Measures, params: Params) -> Shortfall | None:
    """Refuses an image whose long side is below `min_side`."""
    if measures.width is None or measures.height is None:
        return None
    return _below(float(max(measures.width, measures.height)), params.min_side)


def low_saturation(measures: Measures, params: Params) -> Shortfall | None:
    """Refuses an image without colour: grey images without a tag for it are frequent."""
    return _below(measures.saturation, params.min_saturation)


def low_contrast(measures: Measures, params: Params) -> Shortfall | None:
    """Refuses an image that is nearly blank."""
    return _below(measures.contrast, params.min_contrast)


def blurred(measures: Measures, params: Params) -> Shortfall | None:
    """Refuses an image without sharp edges at 64 pixels."""
    return _below(measures.sharpness, params.min_sharpness)


RULES: tuple[Callable[[Measures, Params], Shortfall | None], ...] = (
    small_image,
    low_saturation,
    low_contrast,
    blurred,
)


def decide(measures: Measures, params: Params) -> dict[str, Shortfall]:
    """Returns the reasons against an image with the numbers compared; no reason means kept."""
    error = unreadable(measures)
    if error is not None:
        return {error: Shortfall(measures.measured, measures.threshold)}
    shortfalls = {rule.__name__: rule(measures, params) for rule in RULES}
    return {reason: shortfall for reason, shortfall in shortfalls.items() if shortfall is not None}


def run(params: Params, *, data_dir: Path, work_dir: Path) -> None:  # noqa: ARG001  # every stage has this signature
    """
    Decides on every measured image.

    Raises:
        MissingInput, MissingColumn: measures.parquet is absent or lacks a column, or so does a table
            that the rules of the exclude file are compared with.
        BadParams: The exclude file cannot be read, or a line of it is no rule.
    """
    rules = exclusions.read(Path(params.exclude))
    excluded = exclusions.matches(rules, data_dir)
    totals = _Totals()
    out_dir = data_dir / "filters"

    def pieces() -> Iterator[pa.Table]:
        # Python objects of a batch at a time: those of a million images would need gigabytes.
        for batch in _measured(data_dir / "measure" / "measures.parquet"):
            measured = [Measures(**row) for row in batch.to_pylist()]
            decided = [
                (row.post_id, _exclusion(row.post_id, excluded) | decide(row, params))
                for row in measured
            ]
            totals.add(decided, excluded)
            yield pa.Table.from_pylist(list(_rows(decided)), schema=DECISIONS)
        if rules:  # before the decisions appear, whose presence says that all is there
            tables.write(out_dir / "tombstones.parquet", _tombstones(totals.dead))

    # Without rules the table has the bytes that it had before posts could be excluded.
    unset = set() if rules else {"exclude"}
    metadata = {"personae.params": params.model_dump_json(exclude=unset)}
    (out_dir / "tombstones.parquet").unlink(missing_ok=True)
    tables.write_rows(out_dir / "decisions.parquet", DECISIONS.with_metadata(metadata), pieces())
    counts = totals.reasons
    effective = {rule.key for matched in totals.dead.values() for rule in matched}
    if idle := [rule.key for rule in rules if rule.key not in effective]:
        # No warning: the file of a removed post may have been deleted, and its rule stays.
        log.info(
            "filters: %s has rules that match no stored image: %d, such as `%s`",
            params.exclude,
            len(idle),
            idle[0],
        )
    log.info(
        "filters: %d of %d posts kept; refused: %s",
        totals.kept,
        totals.posts,
        ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items())) or "none",
    )


@dataclass(slots=True)
class _Totals:
    """What the decisions of all batches add up to."""

    posts: int = 0
    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    dead: dict[int, list[ExclusionRule]] = field(default_factory=dict)

    def add(
        self,
        decided: Iterable[tuple[int, dict[str, Shortfall]]],
        excluded: Mapping[int, list[ExclusionRule]],
    ) -> None:
        for post_id, shortfalls in decided:
            self.posts += 1
            self.kept += not shortfalls
            self.reasons.update(shortfalls.keys())
            if post_id in excluded:
                self.dead[post_id] = excluded[post_id]


def _measured(path: Path) -> Iterator[pa.RecordBatch]:
    """Yields the columns of `Measures` by post id; in memory are the rows of a batch, or of all."""
    columns = list(Measures.__dataclass_fields__)
    post_ids = tables.read(path, ["post_id"], stage="measure")["post_id"].to_numpy()
    if (post_ids[1:] > post_ids[:-1]).all():  # as stage `measure` writes them
        yield from tables.batches(path, columns, stage="measure", rows=_BATCH)
        return
    table = tables.read(path, columns, stage="measure").sort_by("post_id")
    yield from table.to_batches(max_chunksize=_BATCH)


def _exclusion(post_id: int, excluded: Container[int]) -> dict[str, Shortfall]:
    return {EXCLUDED: Shortfall()} if post_id in excluded else {}


def _tombstones(excluded: Mapping[int, Iterable[ExclusionRule]]) -> pa.Table:
    rows = [
        {"post_id": post_id, "rule": rule.key, "why": rule.why}
        for post_id, rules in excluded.items()
        for rule in rules
    ]
    return pa.Table.from_pylist(rows, schema=TOMBSTONES)


def _below(measured: float | None, threshold: float) -> Shortfall | None:
    if measured is None or measured >= threshold:
        return None
    return Shortfall(measured, float(threshold))


def _rows(decided: Iterable[tuple[int, dict[str, Shortfall]]]) -> Iterable[dict[str, object]]:
    for post_id, reasons in decided:
        if not reasons:
            yield {"post_id": post_id, "stage": "filters", "kept": True}
        for reason, shortfall in reasons.items():
            yield {
                "post_id": post_id,
                "stage": "filters",
                "kept": False,
                "reason": reason,
                "measured": shortfall.measured,
                "threshold": shortfall.threshold,
            }
