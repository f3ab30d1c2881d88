"""Where HierNet divides its backbone: the blocks that each level of the tree shares."""

from personae.errors import BadParams
from train.backbone import Network
from train.backbone.residual import BasicBlock
from train.params.hiernet import Params

_PUBLISHED = {
    "relu": {9: (5, 2), 15: (9, 3), 21: (12, 4), 27: (16, 5), 54: (38, 4)},
    "elu": {9: (6, 2), 15: (9, 3), 21: (15, 2), 27: (19, 5), 54: (38, 4)},
}
"""Split and added blocks, by activation and number of residual blocks (section 5.7)."""
_SHARED, _ADDED = 0.6, 0.2  # shares of the blocks of other backbones, near those of the table


def division(params: Params, network: Network) -> tuple[int, int]:
    """
    Returns the numbers of shared blocks, without the first block, and of the group head's blocks.

    Raises:
        BadParams: The backbone has only one block, or fewer blocks than both numbers together.
    """
    blocks = len(network.blocks) - 1
    if not blocks:
        raise BadParams(
            "The backbone has one block, and hiernet shares some blocks and copies the others. Choose "
            "another backbone.name, such as resnet20."
        )
    flavour = "elu" if hasattr(network.head, "act") else "relu"
    is_basic = all(isinstance(block, BasicBlock) for block in list(network.blocks)[1:])
    published = _PUBLISHED[flavour].get(blocks) if is_basic else None
    usual_split, usual_added = published or (
        round(_SHARED * blocks),
        max(1, round(_ADDED * blocks)),
    )
    split = usual_split if params.split is None else params.split
    added = params.group_blocks
    if added is None:
        added = max(0, min(usual_added, blocks - split))
    if split + added > blocks:
        raise BadParams(
            f"hiernet.split {split} and hiernet.group_blocks {added} are more than the {blocks} "
            "blocks that this backbone has after the first one. Lower one of them."
        )
    return split, added


def shared(params: Params, network: Network, *, levels: int) -> list[int]:
    """
    Returns where the shared blocks of each level end, as numbers of blocks with the first one.

    The nodes of a level share one split point. Below the first split, each level takes half of the
    blocks that are left, rounded down, unless `hiernet.deeper_splits` gives them.

    Args:
        params: Section `hiernet`.
        network: The backbone.
        levels: Levels of nodes that have groups; 1 for groups of labels alone.

    Raises:
        BadParams: The given splits are too few, do not grow, or exceed the blocks.

    Example:
        Ten blocks and a split of 5: 6 blocks are shared, then 8, then 9.
    """
    blocks = len(network.blocks)
    ends = [division(params, network)[0] + 1]
    given = params.deeper_splits
    if given is None:
        while len(ends) < levels:
            ends.append(ends[-1] + (blocks - ends[-1]) // 2)
        return ends
    ends += [split + 1 for split in given[: levels - 1]]
    if len(ends) < levels or ends != sorted(ends) or ends[-1] > blocks:
        raise BadParams(
            f"hiernet.deeper_splits is {list(given)}. This tree needs {levels - 1} numbers that do not "
            f"fall, from the split of the first level ({ends[0] - 1}) up to the {blocks - 1} blocks after "
            "the first one."
        )
    return ends
