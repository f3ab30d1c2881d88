"""The tree of each hierarchy, with its first seed, and the MICP of each of its networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from train.page.blocks import FigureGroup, PageSection, ReportTable, group, table
from train.page.figures import Drawing
from train.page.formatting import percent
from train.page.results import Results
from train.page.tree import TreeNode, networks

_LONG = 30  # labels; trees of more are folded


@dataclass(frozen=True, slots=True)
class TreeContent:
    """What `templates/tree.html` shows."""

    figures: FigureGroup
    micp: tuple[ReportTable, ...]


def section(
    drawings: Mapping[str, Drawing],
    trees: Mapping[str, TreeNode],
    leading: Sequence[str],
    results: Results,
) -> PageSection:
    """Returns the drawn tree of each run, and the MICP of every network; keys are runs' names."""
    first = results.first_seeds
    notes = {name: f"{name}, seed {first[name]}." for name in drawings}
    shown = () if len(results.labels) > _LONG else leading
    tables = [micp_table(tree, name=name) for name, tree in trees.items()]
    content = TreeContent(
        figures=group(drawings, notes, shown),
        micp=tuple(each for each in tables if each is not None),
    )
    return PageSection("tree", "The tree", content)


def micp_table(tree: TreeNode, *, name: str) -> ReportTable | None:
    """Returns the MICP of each network of a tree beside that by chance; None where none has any."""
    rows = [
        (node.name, percent(node.micp), percent(node.micp_random), str(node.images))
        for node in networks(tree)
        if node.micp is not None
    ]
    caption = (
        f"{name}: the probability that an image of a network's labels is sent to the right one of "
        "its groups, and the expectation for random groups of the same sizes. Where every group "
        "holds one label the two are equal, and both are the accuracy of the network."
    )
    head = ("network", "MICP, %", "by chance, %", "test images")
    return table(head, rows, caption=caption) if rows else None
