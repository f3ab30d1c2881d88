"""
How images go down a tree of networks: along every path, or along one route (methods.md 2.1, 2.7).

What the network of a node says are logits, one for each child in the order of its outputs. With
rollback a network below the root has one more, `reject`: its cluster is the wrong one. Nothing here
depends on the values of a tensor but through masks, so that a whole descent can be exported.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import networkx as nx
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from train.tree import hierarchy as trees

Says = Callable[[str, Bool[Tensor, " batch"]], Float[Tensor, "batch output"]]
"""From a node and the images that come to it to its logits; the rows of others may be anything."""


@dataclass(slots=True)
class Route:
    """Where each image went."""

    rows: Float[Tensor, "batch leaf"]
    """The distribution of the last network on the way; one-hot where a label hangs higher up."""
    executed: dict[str, Bool[Tensor, " batch"]] = field(default_factory=dict)
    """For each node but the labels, the images that came to it, turned away or not."""


def inside(
    tree: nx.DiGraph, node: str, logits: Float[Tensor, "batch output"]
) -> Float[Tensor, "batch child"]:
    """Returns the probabilities of a node's children, given the node; `reject` is left out."""
    children = len(trees.children(tree, node))
    return torch.softmax(logits[:, :children].float(), dim=1)


def full(
    tree: nx.DiGraph, logits: Mapping[str, Float[Tensor, "batch output"]]
) -> Float[Tensor, "batch leaf"]:
    """Returns for every leaf the product of the probabilities along its path."""
    root = inside(tree, trees.ROOT, logits[trees.ROOT])
    rows = torch.zeros(root.shape[0], trees.leaf_count(tree), device=root.device)
    reached = {trees.ROOT: torch.ones_like(root[:, :1])}
    for node in trees.inner(tree):
        below = reached[node] * inside(tree, node, logits[node])
        for place, child in enumerate(trees.children(tree, node)):
            reached[child] = below[:, place : place + 1]
            if tree.nodes[child]["kind"] == "label":
                rows[:, tree.nodes[child]["label"]] = below[:, place]
    return rows


def route(tree: nx.DiGraph, says: Says, *, images: Tensor, attempts: int = 0) -> Route:
    """
    Returns where each image goes if it follows the likeliest child at each network.

    A child's network may reject it, `reject` being its largest logit. The image then takes the
    next likeliest child, up to `attempts` times at a node; if all reject it, the first one stands.
    Labels and nodes without `reject` take what comes.

    Args:
        tree: The hierarchy.
        says: Asked once for each node and attempt, with different images each time.
        images: Anything with one row an image, on the device of the logits.
        attempts: K of methods.md 2.7.
    """
    comes = torch.ones(images.shape[0], dtype=torch.bool, device=images.device)
    found = Route(torch.zeros(images.shape[0], trees.leaf_count(tree), device=images.device))
    logits, reached = {trees.ROOT: says(trees.ROOT, comes)}, {trees.ROOT: comes}
    found.executed[trees.ROOT] = comes
    for node in trees.inner(tree):
        likely, below = inside(tree, node, logits[node]), trees.children(tree, node)
        labels = trees.own_labels(tree, node)
        if len(labels) == len(below):
            found.rows[:, labels] = torch.where(reached[node][:, None], likely, 0.0)
            continue
        asked = _Asked(tree, says, logits, found.executed)
        chosen = _chosen(below, likely, reached[node], asked, attempts=attempts)
        for place, child in enumerate(below):
            reached[child] = reached[node] & (chosen == place)
            if tree.nodes[child]["kind"] == "label":
                found.rows[:, tree.nodes[child]["label"]] = reached[child].to(likely.dtype)
    return found


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the nodes have said so far, of the images that have come to them."""

    tree: nx.DiGraph
    says: Says
    logits: dict[str, Tensor]
    executed: dict[str, Tensor]

    def turns_away(self, node: str, comes: Bool[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
        """Asks `node` of the images that come, and returns those of them that it rejects."""
        if self.tree.nodes[node]["kind"] == "label":
            return torch.zeros_like(comes)
        said = self.says(node, comes)
        before = self.logits.get(node, said)
        self.logits[node] = torch.where(comes[:, None], said, before)
        self.executed[node] = self.executed.get(node, torch.zeros_like(comes)) | comes
        return comes & (said.argmax(dim=1) == len(trees.children(self.tree, node)))


def _chosen(
    below: list[str],
    likely: Float[Tensor, "batch child"],
    comes: Bool[Tensor, " batch"],
    asked: _Asked,
    *,
    attempts: int,
) -> Int[Tensor, " batch"]:
    """Returns the place of the child that each image ends in."""
    chosen = place_now = likely.argmax(dim=1)
    for attempt in range(min(attempts, len(below) - 1) + 1):
        if attempt:
            likely = likely.scatter(1, place_now[:, None], -1.0)
            place_now = likely.argmax(dim=1)
        away = torch.zeros_like(comes)
        for place, child in enumerate(below):
            away = away | asked.turns_away(child, comes & (place_now == place))
        chosen = torch.where(comes & ~away, place_now, chosen)
        comes = away
    return chosen
