"""
Computes the accuracy of each network and label of a run's tree, and draws the tree.

Networks are rectangles and labels ellipses, as in Figures 8, 13 and 14 of the Uppsala report
(Colin and Nagarajan 2018). The root stands on the left, so that a hundred labels make a long
figure and not a wide one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import networkx as nx
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse, FancyBboxPatch

from train.evaluation.metrics import confusion_counts, micp, micp_random, normalise_rows
from train.page.figures import INKS, SMALLEST_LETTERS, STYLE, Drawing, figure, render, shown
from train.page.results import TrainedRun
from train.page.summary import RunSummary, per_label
from train.tree import hierarchy

_COLUMN = 3.1  # inches from a level to the next
_ROW = 0.3  # inches from a label to the next
_BOX = (1.75, 0.44)
_ELLIPSE = (2.5, 0.26)


COLUMNS = ("node", "kind", "success", "images", "difference_to_flat", "micp", "micp_random")


@dataclass(frozen=True, slots=True)
class TreeNode:
    """
    A network or a label. `accuracy` is its share of right decisions among `images`.

    The images of a network are the test images of the labels below it. `micp` is the MICP of the
    groups of its children among its labels, and `micp_random` the expected MICP of random groups
    of the same sizes; both are None without probabilities of mode `full`, and where children
    overlap. The `change` of a label is its accuracy minus that of the flat run.
    """

    name: str
    is_label: bool
    accuracy: float
    images: int
    change: float | None
    children: tuple["TreeNode", ...]
    micp: float | None = None
    micp_random: float | None = None


def build(summary: RunSummary, flat: RunSummary, labels: Sequence[str], *, seed: int) -> TreeNode:
    """Returns the tree of one run and seed, with the accuracy of every node."""
    trained = summary.predictions[seed].trained
    graph = trained.hierarchy
    ours = per_label({seed: summary.predictions[seed]}, len(labels))
    theirs = per_label({seed: flat.predictions[seed]}, len(labels))
    return _node(graph, hierarchy.ROOT, trained, labels, (ours, ours - theirs))


def draw(tree: TreeNode, *, name: str) -> Drawing:
    """Draws a tree: rectangles are networks, ellipses labels, with accuracy and test images."""
    leaves, depth = _leaves(tree), _depth(tree)
    width, height = _COLUMN * depth + _BOX[0] / 2 + _ELLIPSE[0] / 2 + 0.6, _ROW * leaves + 0.5
    drawn = figure(width, height, layout=None)
    with mpl.rc_context(STYLE):
        axes = drawn.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_xlim(-_BOX[0] / 2 - 0.1, width - _BOX[0] / 2 - 0.1)
        axes.set_ylim(_ROW * leaves + 0.1, -0.4)
        axes.axis("off")
        _place(axes, tree, level=0, depth=depth, first=0)
    return Drawing(
        name=name,
        description="Tree of networks (rectangles) and labels (ellipses) with their accuracy.",
        svg=render(drawn, name=name),
        columns=COLUMNS,
        rows=_rows(tree),
    )


def networks(node: TreeNode) -> list[TreeNode]:
    """Returns every network of a tree, parents first."""
    return [
        node,
        *(each for child in node.children for each in networks(child) if not each.is_label),
    ]


def _node(
    graph: nx.DiGraph,
    name: str,
    trained: TrainedRun,
    labels: Sequence[str],
    accuracy: tuple[Float[np.ndarray, " leaf"], Float[np.ndarray, " leaf"]],
) -> TreeNode:
    data = graph.nodes[name]
    members = list(data["members"])
    below = hierarchy.children(graph, name)
    if len(members) == 1:
        leaf = members[0]
        images = int(np.sum(trained.label == leaf))
        return TreeNode(
            labels[leaf], True, float(accuracy[0][leaf]), images, float(accuracy[1][leaf]), ()
        )
    right, images = _decisions(graph, below, trained, members)
    groups = [list(graph.nodes[child]["members"]) for child in below]
    landed, by_chance = _micp(trained, members, groups)
    return TreeNode(
        name=name,
        is_label=False,
        accuracy=right,
        images=images,
        change=None,
        children=tuple(_node(graph, child, trained, labels, accuracy) for child in below),
        micp=landed,
        micp_random=by_chance,
    )


def _decisions(
    graph: nx.DiGraph, below: Sequence[str], trained: TrainedRun, members: Sequence[int]
) -> tuple[float, int]:
    """
    The share of a network's own images that it sends to the right child, and their number.

    With probabilities of mode `full` its images are all test images of its labels: among the labels
    of a node these probabilities rank as its network ranks them. Without, its images are those
    that reached it. Where children overlap, every child that holds the label is right.
    """
    groups = [graph.nodes[child]["members"] for child in below]
    holds = hierarchy.membership(groups, len(graph.nodes[hierarchy.ROOT]["members"]))
    own = np.isin(trained.label, members)
    if trained.full is None:
        own &= np.isin(trained.predicted, members)
        chosen = holds.argmax(axis=0)[trained.predicted[own]]
    else:
        sums = [trained.full[own][:, list(group)].sum(axis=1) for group in groups]
        chosen = np.argmax(sums, axis=0)
    right = holds[chosen, trained.label[own]]
    return float(right.mean()) if right.size else float("nan"), int(own.sum())


def _micp(
    trained: TrainedRun, members: list[int], groups: Sequence[Sequence[int]]
) -> tuple[float, float] | tuple[None, None]:
    """MICP of the groups among the labels of one network, and its expectation by chance."""
    own = np.isin(trained.label, members)
    if trained.full is None or sum(map(len, groups)) > len(members) or not own.any():
        return None, None
    index = {leaf: number for number, leaf in enumerate(members)}
    truth = np.array([index[leaf] for leaf in trained.label[own].tolist()])
    predicted = trained.full[own][:, members].argmax(axis=1)
    counts = confusion_counts(truth, predicted, leaves=len(members))
    confusion = normalise_rows(counts)
    inside = [[index[leaf] for leaf in group] for group in groups]
    return micp(confusion, inside), micp_random(confusion, [len(group) for group in groups])


def _leaves(node: TreeNode) -> int:
    return sum(_leaves(child) for child in node.children) if node.children else 1


def _depth(node: TreeNode) -> int:
    return 1 + max(_depth(child) for child in node.children) if node.children else 0


def _rows(node: TreeNode) -> list[tuple[object, ...]]:
    kind = "label" if node.is_label else "network"
    figures = (node.accuracy, node.images, node.change, node.micp, node.micp_random)
    rows: list[tuple[object, ...]] = [(node.name, kind, *figures)]
    for child in node.children:
        rows += _rows(child)
    return rows


def _place(axes: Axes, node: TreeNode, *, level: int, depth: int, first: int) -> float:
    """Draws a node and its subtree; returns the height of the node, in inches from the top."""
    across = _COLUMN * (depth if node.is_label else level)
    if node.is_label:
        down = _ROW * first
        _label(axes, node, across, down)
        return down
    index, downs = first, []
    for child in node.children:
        downs.append(_place(axes, child, level=level + 1, depth=depth, first=index))
        index += _leaves(child)
    down = (downs[0] + downs[-1]) / 2
    for child, child_down in zip(node.children, downs, strict=True):
        end = _COLUMN * (depth if child.is_label else level + 1)
        end -= (_ELLIPSE if child.is_label else _BOX)[0] / 2
        start = across + _BOX[0] / 2
        bend = start + 0.35
        axes.plot(
            [start, bend, bend, end],
            [down, down, child_down, child_down],
            color=INKS["grid"],
            linewidth=1,
            zorder=0,
        )
    _network(axes, node, across, down)
    return down


def _network(axes: Axes, node: TreeNode, across: float, down: float) -> None:
    width, height = _BOX
    corner = (across - width / 2, down - height / 2)
    style = "round,pad=0,rounding_size=0.05"
    axes.add_patch(
        FancyBboxPatch(corner, width, height, boxstyle=style, fc=INKS["panel"], ec=INKS["blue"])
    )
    axes.text(across, down - 0.09, node.name, ha="center", va="center", fontsize=SMALLEST_LETTERS)
    axes.text(
        across,
        down + 0.1,
        f"{_percent(node.accuracy)} of {node.images:,}",
        ha="center",
        va="center",
        fontsize=SMALLEST_LETTERS,
        color=INKS["muted"],
    )


def _label(axes: Axes, node: TreeNode, across: float, down: float) -> None:
    width, height = _ELLIPSE
    centre = (across, down)
    ellipse = Ellipse(centre, width, height, fc=INKS["panel"], ec=INKS["muted"], linewidth=0.8)
    axes.add_patch(ellipse)
    axes.text(
        across - 0.28, down, shown(node.name), ha="center", va="center", fontsize=SMALLEST_LETTERS
    )
    axes.text(
        across + width / 2 - 0.13,
        down,
        _percent(node.accuracy),
        ha="right",
        va="center",
        fontsize=SMALLEST_LETTERS,
    )
    if node.change is not None and round(100 * node.change):
        colour = INKS["blue"] if node.change > 0 else INKS["orange"]
        text = f"{100 * node.change:+.0f}".replace("-", "−")
        axes.text(
            across + width / 2 + 0.06,
            down,
            text,
            va="center",
            fontsize=SMALLEST_LETTERS,
            color=colour,
        )


def _percent(share: float) -> str:
    return "no images" if np.isnan(share) else f"{100 * share:.0f} %"
