"""
`python -m curation remove KIND VALUE`: adds rules to the exclude file, and says what they concern.

Reads the tables of the stages and the catalog, and changes the exclude file alone. Stage `filters`
refuses the posts when it runs next.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curation import exclusions, query
from curation.exclusions import ExclusionRule
from personae import tables
from personae.errors import BadParams


@dataclass(frozen=True, slots=True)
class Removal:
    """The rules that were added, and what they concern before the stages run again."""

    added: tuple[ExclusionRule, ...]
    known: tuple[ExclusionRule, ...]
    """Rules that the file had before."""
    posts: tuple[int, ...]
    """Listed posts that the rules match."""
    copies: tuple[int, ...]
    """Posts of their duplicate groups that no rule of the file or of this removal matches."""
    splits: dict[str, int]
    """Number of samples among the posts by split."""
    shards: tuple[str, ...]
    """Shards that hold these samples."""
    seen: tuple[tuple[str, int, str, int], ...] | None
    """Run, seed, split and number of the posts that the run saw; None without a catalog."""
    unknown: tuple[str, ...]
    """Runs whose build is not recorded: which posts they saw is unknown."""


def run(
    rules: Sequence[ExclusionRule],
    *,
    exclude: Path,
    data_dir: Path,
    results_dir: Path,
    with_copies: bool = False,
    anyway: bool = False,
) -> Removal:
    """
    Adds rules to the exclude file; nothing is written if one is refused.

    Args:
        rules: The rules of one command.
        exclude: The exclude file.
        data_dir: Folder of the tables and shards.
        results_dir: Folder of the trained runs.
        with_copies: Whether the duplicates of the posts get rules too.
        anyway: Whether rules that match no listed post are added.

    Raises:
        BadParams: A rule matches no listed post, or the exclude file is damaged.
        MissingInput, MissingColumn: A table is absent or lacks a column.
    """
    known = {rule.key for rule in exclusions.read(exclude)}
    matched = exclusions.matches(rules, data_dir)
    posts = _listed(matched, data_dir)
    effective = {rule.key for post_id in posts for rule in matched[post_id]}
    idle = [rule.key for rule in rules if rule.key not in effective]
    if idle and not anyway:
        raise BadParams(
            f"No listed post matches `{idle[0]}`, so that nothing would be removed. Check the value, "
            "or add --anyway to exclude such posts when they are listed."
        )
    excluded = set(posts) | set(exclusions.matches(exclusions.read(exclude), data_dir))
    copies = [post_id for post_id in _copies(posts, data_dir) if post_id not in excluded]
    if with_copies:
        why = rules[0].why if rules else ""
        of_copies = [exclusions.rule("post", str(post_id), why) for post_id in copies]
        rules = [*rules, *of_copies]
        posts, copies = sorted({*posts, *copies}), []
    splits, shards = _samples(posts, data_dir)
    seen, unknown = _seen(posts, data_dir, results_dir)
    added = exclusions.add(exclude, rules)
    return Removal(
        added=tuple(added),
        known=tuple(rule for rule in rules if rule.key in known),
        posts=tuple(posts),
        copies=tuple(copies),
        splits=splits,
        shards=shards,
        seen=seen,
        unknown=unknown,
    )


def described(removal: Removal, exclude: Path) -> Iterator[str]:
    """Yields the lines that tell a person about a removal."""
    for rule in removal.added:
        yield f"{exclude}: added `{rule.key}`"
    for rule in removal.known:
        yield f"{exclude}: has `{rule.key}` already"
    samples = sum(removal.splits.values())
    by_split = ", ".join(f"{split} {count}" for split, count in removal.splits.items())
    yield f"listed posts: {len(removal.posts)}; samples of them: {samples}" + (
        f" ({by_split}) in {_shortened(removal.shards)}" if samples else ""
    )
    if removal.copies:
        yield (
            f"copies: {_shortened(removal.copies)} in the same duplicate groups stay, and may take the "
            "place of a removed image. Add --copies to exclude them too."
        )
    if removal.seen is None:
        yield "trained runs: unknown, because there is no catalog"
    else:
        runs: dict[str, list[str]] = {}
        for run_name, seed, split, count in removal.seen:
            runs.setdefault(f"{run_name}/{seed}", []).append(f"{split} {count}")
        listed = "; ".join(f"{name} ({', '.join(counts)})" for name, counts in runs.items())
        yield f"trained runs that saw them: {listed or 'none'}"
    if removal.unknown:
        yield f"trained runs of builds that are not recorded: {_shortened(removal.unknown)}"
    yield "Next, to leave the posts out of the data set and to train again:\n  dvc repro"


def _shortened(names: Collection[object], most: int = 8) -> str:
    shown = ", ".join(str(name) for name in list(names)[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _listed(posts: Collection[int], data_dir: Path) -> list[int]:
    """Returns those of the posts that the source lists, in order."""
    sought = pa.array(posts, pa.int64())
    listed: list[int] = []
    path = data_dir / "listing" / "posts.parquet"
    for batch in tables.batches(path, ["post_id"], stage="listing"):
        listed += batch["post_id"].filter(pc.is_in(batch["post_id"], sought)).to_pylist()
    return sorted(listed)


def _copies(posts: Collection[int], data_dir: Path) -> list[int]:
    """Returns the posts of the duplicate groups of the posts; none before stage `duplicates`."""
    path = data_dir / "duplicates" / "groups.parquet"
    if not path.exists():
        return []
    groups = tables.read(path, ["post_id", "group_id"], stage="duplicates")
    own = groups.filter(pc.is_in(groups["post_id"], pa.array(posts, pa.int64())))["group_id"]
    members: list[int] = groups.filter(pc.is_in(groups["group_id"], own))["post_id"].to_pylist()
    return sorted(members)


def _samples(posts: Collection[int], data_dir: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Returns the number of samples among the posts by split, and their shards."""
    path = data_dir / "shards" / "samples.parquet"
    if not path.exists():
        return {}, ()
    samples = tables.read(path, ["post_id", "split", "shard"], stage="shards")
    samples = samples.filter(pc.is_in(samples["post_id"], pa.array(posts, pa.int64())))
    counts = Counter(samples["split"].to_pylist())
    return dict(sorted(counts.items())), tuple(sorted(set(samples["shard"].to_pylist())))


def _seen(
    posts: Collection[int], data_dir: Path, results_dir: Path
) -> tuple[tuple[tuple[str, int, str, int], ...] | None, tuple[str, ...]]:
    """Returns what runs saw of the posts, and the runs of which that is unknown."""
    path = data_dir / "catalog" / "catalog.duckdb"
    if not path.exists():
        return None, ()
    listed = ", ".join(map(str, posts)) or "NULL"
    sql = (
        "SELECT run, seed, split, count(*) AS posts FROM seen "  # noqa: S608  # numbers alone
        f"WHERE post_id IN ({listed}) GROUP BY ALL ORDER BY ALL"
    )
    unknown = "SELECT DISTINCT run, seed FROM runs WHERE NOT is_known ORDER BY ALL"
    seen, other = (
        query.run_query(each, catalog_path=path, results_dir=results_dir).rows
        for each in (sql, unknown)
    )
    rows = tuple((run_name, seed, split, count) for run_name, seed, split, count in seen)
    return rows, tuple(f"{run_name}/{seed}" for run_name, seed in other)
