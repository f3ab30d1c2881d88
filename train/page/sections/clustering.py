"""How the clusters were chosen: the sweep of each seed, and the groups of every grouping."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from train.page.blocks import PageSection, ReportTable, table
from train.page.formatting import percent, points
from train.page.results import UNGROUPED, Results
from train.tree.hierarchy import Nested


@dataclass(frozen=True, slots=True)
class ListedGrouping:
    """A grouping: its name, and each of its groups as text, labels of deeper nodes in brackets."""

    name: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SeedClusters:
    """The sweep over resolutions of one seed, and all groupings of that seed."""

    seed: int
    sweep: ReportTable
    groupings: tuple[ListedGrouping, ...]


@dataclass(frozen=True, slots=True)
class ClusteringContent:
    """What `templates/clustering.html` shows."""

    seeds: tuple[SeedClusters, ...]


def section(results: Results) -> PageSection:
    """Returns the sweep of each seed with the resolution chosen, and the groups of each grouping."""
    seeds = tuple(
        SeedClusters(
            seed=seed,
            sweep=_sweep(results.reference(seed).facts, seed=seed),
            groupings=tuple(
                ListedGrouping(
                    grouping.name,
                    tuple(_nested(cluster, results.labels) for cluster in grouping.tree),
                )
                for (_, of), grouping in results.groupings.items()
                if of == seed
            ),
        )
        for seed in results.seeds
    )
    return PageSection("clustering", "How the clusters were chosen", ClusteringContent(seeds))


def _sweep(facts: Mapping[str, Any], *, seed: int) -> ReportTable:
    """Neighbouring resolutions with the same partition share a row."""
    rows: list[tuple[str, ...]] = []
    marked: list[int] = []
    last = None
    for step in facts["sweep"]:
        if last is not None and step["clusters"] == last["clusters"]:
            first = rows[-1][0].split("–")[0]
            rows[-1] = (f"{first}–{step['gamma']:g}", *rows[-1][1:])
        else:
            rows.append(
                (
                    f"{step['gamma']:g}",
                    str(len(step["clusters"])),
                    ", ".join(map(str, sorted(map(len, step["clusters"]), reverse=True))),
                    percent(step["micp"]),
                    points(step["excess"]),
                    (step["refused"] or "").replace("_", " "),
                )
            )
        if step["selected"]:
            marked.append(len(rows) - 1)
        last = step
    for index in marked:
        rows[index] = (*rows[index][:-1], "selected")
    if UNGROUPED in facts:
        caption = f"Seed {seed}: there is nothing to group. {facts[UNGROUPED]}"
        return table(("γ", "clusters"), [], caption=caption)
    stability = facts.get("stability")
    more = "" if stability is None else f" Stability {stability:.2f} (mean adjusted Rand index)."
    caption = (
        f"Seed {seed}: modularity clusters of the validation confusion by resolution γ. Excess is "
        f"MICP minus that of random clusters of the same sizes.{more}"
    )
    head = ("γ", "clusters", "labels in each", "MICP, %", "excess, points", "")
    return table(head, rows, caption=caption, words=(0, 2, 5), marked=marked)


def _nested(tree: int | Nested, labels: Sequence[str]) -> str:
    """The labels below a node; those of a deeper node in brackets."""
    if isinstance(tree, int):
        return labels[tree]
    return ", ".join(
        labels[child] if isinstance(child, int) else f"({_nested(child, labels)})" for child in tree
    )
