"""
Which persona an image shows, and which personae become labels: pure functions over tag names.

Takes tag names, the alias and implication tables, and counts. Returns leaves, bases and the choice
of personae. A persona is a leaf character tag: one that no other tag of the post implies. Aliases
and implications are those of Danbooru (https://danbooru.donmai.us/wiki_pages/help:tag_aliases and
.../help:tag_implications).
"""

import difflib
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from personae.errors import BadParams
from scraper.params.personae import Params

MOST_NAMED: Final = 5
"""Personae that a message names."""


@dataclass(frozen=True, slots=True)
class Kinship:
    """
    The alias and implication tables, prepared for look-ups.

    Attributes:
        aliases: Old name to current name, chains followed to their end.
        ancestors: A tag to every tag that it implies, directly or not. Tags that imply nothing
            are absent.
        roots: A tag to those of its ancestors that imply nothing themselves, in name order.
        has_table: Whether any implication is known. If none is, the name rule decides.
    """

    aliases: Mapping[str, str]
    ancestors: Mapping[str, frozenset[str]]
    roots: Mapping[str, tuple[str, ...]]
    has_table: bool

    @classmethod
    def from_pairs(
        cls, aliases: Iterable[tuple[str, str]], implications: Iterable[tuple[str, str]]
    ) -> Self:
        """Returns the look-ups for (antecedent, consequent) pairs; cycles are harmless."""
        names = dict(sorted(aliases))
        ancestors = _ancestors(
            (_end_of_chain(antecedent, names), _end_of_chain(consequent, names))
            for antecedent, consequent in sorted(implications)
        )
        roots = {
            tag: tuple(sorted(above for above in tags if above not in ancestors))
            for tag, tags in ancestors.items()
        }
        return cls(
            aliases={name: _end_of_chain(name, names) for name in names},
            ancestors=ancestors,
            roots=roots,
            has_table=bool(ancestors),
        )

    def canonical(self, tags: Iterable[str]) -> frozenset[str]:
        """Returns the tags under their current names."""
        get = self.aliases.get
        return frozenset([get(tag, tag) for tag in tags])


def _ancestors(implications: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """Returns each tag that implies another, with all that it implies, directly or not."""
    pairs = [(tag, above) for tag, above in implications if tag != above]
    if not pairs:
        return {}
    import networkx as nx  # slow to import, and a board may have no implications

    graph = nx.DiGraph(pairs)
    # networkx walks with a visited set, so redundant edges and cycles end.
    return {tag: frozenset(nx.descendants(graph, tag)) for tag in graph if graph.out_degree(tag)}


@dataclass(frozen=True, slots=True)
class Lineage:
    """
    The characters of one post after the implications are applied.

    Attributes:
        leaves: Character tags that no other character tag of the post implies, in name order.
        bases: For a single leaf: the last characters of its implications, itself if it implies
            none, in name order. Empty when there is not exactly one leaf.
        base_source: Where the base comes from: "implication", "name", or "self" for a leaf
            that is no form of another.
    """

    leaves: tuple[str, ...]
    bases: tuple[str, ...]
    base_source: str


def lineage(characters: Iterable[str], copyrights: Iterable[str], kinship: Kinship) -> Lineage:
    """
    Returns the leaves of a post's character tags, and the base of the leaf when there is one.

    `characters` and `copyrights` are current names. A tag ending in `_(cosplay)` names a costume,
    not a person, and is ignored. Without an implication table the name rule decides: a name
    with more qualifiers is a form of the same name with fewer, copyright qualifiers not counted.
    """
    present = sorted({tag for tag in characters if not tag.endswith("_(cosplay)")})
    if kinship.has_table:
        above: Mapping[str, frozenset[str]] = kinship.ancestors
    else:
        above = _ancestors_by_name(present, copyrights) if len(present) > 1 else {}
    nothing: frozenset[str] = frozenset()
    leaves = tuple(
        tag
        for tag in present
        # Two tags that imply each other are two leaves, not none.
        if not any(
            tag in above.get(other, nothing) and other not in above.get(tag, nothing)
            for other in present
            if other != tag
        )
    )
    if len(leaves) != 1:
        return Lineage(leaves, (), "self")
    leaf = leaves[0]
    if leaf not in above:
        return Lineage(leaves, (leaf,), "self")
    if kinship.has_table:
        return Lineage(leaves, kinship.roots[leaf], "implication")
    bases = tuple(sorted(tag for tag in above[leaf] if tag not in above))
    return Lineage(leaves, bases, "name")


@dataclass(slots=True)
class PersonaCounts:
    """Counts over the posts of one persona; `number` is its position in order of appearance."""

    number: int
    listed: int = 0
    corrected: int = 0
    """Of the listed posts, those that have the label by the relabel file."""
    kept: int = 0
    bases: Counter[tuple[str, str]] = field(default_factory=Counter)
    copyrights: Counter[str] = field(default_factory=Counter)

    def base(self, name: str) -> tuple[str, str]:
        """Returns the base of most posts and its source; a base of another name goes first."""
        return max(
            self.bases,
            key=lambda base: (base[1] != "self", self.bases[base], base),
            default=(name, "self"),
        )

    def copyright(self) -> str | None:
        """Returns the copyright tag on most posts; the first by name among equals."""
        return min(self.copyrights, key=lambda tag: (-self.copyrights[tag], tag), default=None)


@dataclass(frozen=True, slots=True)
class PersonaRefusal:
    """Why a persona is no label: the reason code and the two numbers compared."""

    reason: str
    measured: int
    threshold: int


def choose(
    kept: Mapping[str, int],
    bases: Mapping[str, str],
    params: Params,
    copyrights: Mapping[str, str | None] | None = None,
    looked_up: Collection[str] | None = None,
) -> dict[str, PersonaRefusal | None]:
    """
    Returns for every persona None if it becomes a label, else the refusal.

    A persona needs `min_images` images. With `labels` that many are taken: those of `include`, then
    those with most images (equal counts: by name); with `look_alikes` one more of the same base for
    each of them. None of `exclude` is taken, and with `copyrights` none of another series.

    Args:
        kept: Images of each persona that pass every rule on a post.
        bases: The base of each persona.
        params: Section `personae`.
        copyrights: The series of each persona; None where the series are unknown, as in a plan.
        looked_up: Names of `exclude` that the board knows, listed or not; None: all of them.

    Raises:
        BadParams: A name of `include` is no persona that was listed, or a name of `exclude` neither
            that nor in `looked_up`.
    """
    known_excluded = params.exclude if looked_up is None else looked_up
    _check_known("personae.include", params.include, kept)
    _check_known("personae.exclude", params.exclude, kept, known_excluded)
    outcome: dict[str, PersonaRefusal | None] = {}
    for persona, count in kept.items():
        if persona in params.exclude:
            outcome[persona] = PersonaRefusal("persona_excluded", 1, 0)
        elif (
            params.copyrights
            and copyrights is not None
            and copyrights.get(persona) not in params.copyrights
        ):
            outcome[persona] = PersonaRefusal("other_copyright", 0, len(params.copyrights))
        elif count < params.min_images:
            outcome[persona] = PersonaRefusal("persona_too_small", count, params.min_images)
    ranked = sorted(
        (persona for persona in kept if persona not in outcome),
        key=lambda persona: (-kept[persona], persona),
    )
    most = len(ranked) if params.labels is None else params.labels
    first = [name for name in ranked if name in params.include]
    first += [name for name in ranked if name not in params.include][: max(0, most - len(first))]
    chosen = set(first)
    if params.look_alikes:
        chosen |= _partners(first, ranked, bases)
    for rank, persona in enumerate(ranked, start=1):
        outcome[persona] = (
            None if persona in chosen else PersonaRefusal("persona_not_chosen", rank, most)
        )
    return outcome


def _check_known(
    field: str, names: Iterable[str], kept: Mapping[str, int], others: Collection[str] = ()
) -> None:
    for name in names:
        if name not in kept and name not in others:
            near = difflib.get_close_matches(name, kept, n=3)
            largest = sorted(kept, key=lambda persona: (-kept[persona], persona))[:MOST_NAMED]
            hint = f"Listed: {', '.join(largest) or 'none'}."
            if near:
                hint = f"Did you mean {', '.join(near)}?"
            raise BadParams(f"'{field}' holds {name!r:.80}, which is on no listed post. {hint}")


def hash_order(post_id: int) -> bytes:
    """
    Returns the sort key by which `max_images` chooses among the images of a persona.

    The key depends on the id alone, so a new image replaces at most one other.
    """
    return hashlib.sha256(str(post_id).encode("ascii")).digest()


def _partners(chosen: list[str], ranked: list[str], bases: Mapping[str, str]) -> set[str]:
    """Returns the first two personae of the base of each chosen one, by number of images."""
    relatives: dict[str, list[str]] = {}
    for persona in ranked:
        relatives.setdefault(bases[persona], []).append(persona)
    # `ranked` is ordered and `chosen` is its beginning: where two relatives are chosen already,
    # they are the first two, and nothing is added.
    return {tag for persona in chosen for tag in relatives[bases[persona]][:2]}


def _end_of_chain(name: str, names: Mapping[str, str]) -> str:
    """Follows aliases of aliases; a cycle ends at its first name in name order."""
    seen = [name]
    while (following := names.get(seen[-1])) is not None:
        if following in seen:
            return min(seen[seen.index(following) :])
        seen.append(following)
    return seen[-1]


def _ancestors_by_name(present: list[str], copyrights: Iterable[str]) -> dict[str, frozenset[str]]:
    """The name rule: `x_(a)_(b)` is a form of `x_(b)` and of `x`, when those are present."""
    franchises = {name for tag in copyrights for name in (tag, _parts(tag)[0])}
    parts = {}
    for tag in present:
        stem, qualifiers = _parts(tag)
        parts[tag] = (stem, qualifiers - franchises)
    ancestors = {
        tag: frozenset(
            other
            for other in present
            if parts[other][0] == parts[tag][0] and parts[other][1] < parts[tag][1]
        )
        for tag in present
    }
    return {tag: above for tag, above in ancestors.items() if above}


def _parts(tag: str) -> tuple[str, frozenset[str]]:
    """`toki_(bunny)_(blue_archive)` is `toki` with qualifiers `bunny` and `blue_archive`."""
    stem, *qualifiers = tag.split("_(")
    return stem, frozenset(qualifier.removesuffix(")") for qualifier in qualifiers)
