"""
Descent of images through a tree of networks: along every path, or along one route.

A network's logits have one column per child of its node, in the order of its outputs. With rollback
a network below the root has one more output, `reject`: the image belongs to another cluster. Images
are selected by masks, never by `if` on tensor values, so the model can be exported.

Source: Colin and Nagarajan, A hierarchical architecture of CNNs to increase the performance on a
categorization problem, Uppsala University 2018, section 4.2.1 (the route) and section 6, which
proposes rollback but does not implement it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import networkx as nx
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from train.tree import hierarchy as trees

LogitsOf = Callable[[str, Bool[Tensor, " batch"]], Float[Tensor, "batch output"]]
"""Callback: from a node and a mask of images to the logits of the node's network. Rows where the mask
is false are undefined."""


@dataclass(slots=True)
class Route:
    """The result of following one route per image."""

    rows: Float[Tensor, "batch leaf"]
    """Probabilities of the last network on the route; one-hot if it ends at a label higher up."""
    executed: dict[str, Bool[Tensor, " batch"]] = field(default_factory=dict)
    """For each node but the labels, the images that reach it, whether they are rejected or not."""


def inside(
    tree: nx.DiGraph, node: str, logits: Float[Tensor, "batch output"]
) -> Float[Tensor, "batch child"]:
    """Returns P(child | node): the softmax over the children, without `reject`."""
    children = len(trees.children(tree, node))
    return torch.softmax(logits[:, :children].float(), dim=1)


def full(
    tree: nx.DiGraph, logits: Mapping[str, Float[Tensor, "batch _"]]
) -> Float[Tensor, "batch leaf"]:
    """Returns the product of P(child | node) along the path of every leaf."""
    root = inside(tree, trees.ROOT, logits[trees.ROOT])
    rows = torch.zeros(root.shape[0], trees.leaf_count(tree), device=root.device)
    reached = {trees.ROOT: torch.ones_like(root[:, :1])}
    for node in trees.inner(tree):
        below = reached[node] * inside(tree, node, logits[node])
        for index, child in enumerate(trees.children(tree, node)):
            reached[child] = below[:, index : index + 1]
            if tree.nodes[child]["kind"] == "label":
                rows[:, tree.nodes[child]["label"]] = below[:, index]
    return rows


def route(
    tree: nx.DiGraph, logits_of: LogitsOf, *, images: Shaped[Tensor, "batch ..."], attempts: int = 0
) -> Route:
    """
    Follows the likeliest child at each network.

    A child network rejects an image if its `reject` output has the largest logit. The image then
    tries the next likeliest child, up to `attempts` times at a node. If the first choice and all
    further attempts reject, the first choice is taken. Labels and nodes without `reject` accept
    every image.

    Args:
        tree: The hierarchy.
        logits_of: Callback, called once for each node and attempt, each time with another mask.
        images: Any tensor with a row per image, on the device of the logits.
        attempts: Further attempts after the first choice at a node.
    """
    everything = torch.ones(images.shape[0], dtype=torch.bool, device=images.device)
    result = Route(torch.zeros(images.shape[0], trees.leaf_count(tree), device=images.device))
    logits = {trees.ROOT: logits_of(trees.ROOT, everything)}
    reached = {trees.ROOT: everything}
    result.executed[trees.ROOT] = everything
    for node in trees.inner(tree):
        likely, below = inside(tree, node, logits[node]), trees.children(tree, node)
        labels = trees.own_labels(tree, node)
        if len(labels) == len(below):
            result.rows[:, labels] = torch.where(reached[node][:, None], likely, 0.0)
            continue
        visits = _Visits(tree, logits_of, logits, result.executed)
        chosen = _chosen(below, likely, reached[node], visits, attempts=attempts)
        for index, child in enumerate(below):
            reached[child] = reached[node] & (chosen == index)
            if tree.nodes[child]["kind"] == "label":
                result.rows[:, tree.nodes[child]["label"]] = reached[child].to(likely.dtype)
    return result


@dataclass(frozen=True, slots=True)
class _Visits:
    """The logits of the nodes visited so far, and the images that visited them."""

    tree: nx.DiGraph
    logits_of: LogitsOf
    logits: dict[str, Tensor]
    executed: dict[str, Tensor]

    def rejected(self, node: str, mask: Bool[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
        """Executes the network of `node` for the images of `mask`; returns those that it rejects."""
        if self.tree.nodes[node]["kind"] == "label":
            return torch.zeros_like(mask)
        logits = self.logits_of(node, mask)
        before = self.logits.get(node, logits)
        self.logits[node] = torch.where(mask[:, None], logits, before)
        self.executed[node] = self.executed.get(node, torch.zeros_like(mask)) | mask
        return mask & (logits.argmax(dim=1) == len(trees.children(self.tree, node)))


def _chosen(
    below: list[str],
    likely: Float[Tensor, "batch child"],
    mask: Bool[Tensor, " batch"],
    visits: _Visits,
    *,
    attempts: int,
) -> Int[Tensor, " batch"]:
    """Returns the index of the child that each image takes in the end."""
    chosen = current = likely.argmax(dim=1)
    for attempt in range(min(attempts, len(below) - 1) + 1):
        if attempt:
            likely = likely.scatter(1, current[:, None], -1.0)
            current = likely.argmax(dim=1)
        rejected = torch.zeros_like(mask)
        for index, child in enumerate(below):
            rejected = rejected | visits.rejected(child, mask & (current == index))
        chosen = torch.where(mask & ~rejected, current, chosen)
        mask = rejected
    return chosen
