"""
Components of HD-CNN as one grouped computation against the loop over them, heads included.

Eight components of 30 labels each, untrained, all of them executed on the same maps; one thread. The
two take turns, so that whatever else the machine does meets both. Where the program would take the
loop (`siblings`), grouping is measured all the same: that is what its limit rests on.
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import pairs
from benchmarks.result import Result
from train import backbone
from train.backbone.siblings import Siblings

NETWORKS = {"resnet20": (4, 32), "nin": (1, 26)}
"""Blocks that HD-CNN shares, and the side of the images."""
COMPONENTS, OUTPUTS, BATCHES = 8, 30, (1, 2, 8, 32)
RUNS, PICTURES = 5, 32  # turns of each pair, and images of a turn
BAR = 1.0


class Always(Siblings):
    """Branches that are grouped for any number of images."""

    def at_once(self, maps: Tensor) -> bool:
        """Says yes."""
        return maps.ndim == 4


class Never(Siblings):
    """Branches that run one after the other."""

    def at_once(self, maps: Tensor) -> bool:
        """Says no."""
        return maps.ndim != 4


def branches(name: str) -> tuple[nn.Module, nn.ModuleDict]:
    """Returns the shared blocks of a network and its components, which differ."""
    shared, side = NETWORKS[name]
    torch.manual_seed(0)
    whole = backbone.build(backbone.Params(name=name), outputs=100, side=side).eval()
    parts = nn.ModuleDict()
    for place in range(COMPONENTS):
        parts[f"cluster-{place}"] = backbone.branch_of(whole, outputs=OUTPUTS, first_own=shared)
        for weight in parts[f"cluster-{place}"].parameters():
            nn.init.normal_(weight, std=0.05)
    return whole.blocks[:shared], parts.eval()


def turn(siblings: Siblings, maps: Tensor) -> Callable[[], int]:
    """Returns what says something of as many images as a turn has, and counts them."""
    calls = max(1, PICTURES // len(maps))

    def run() -> int:
        for _ in range(calls):
            siblings.log_probabilities(maps)
        return calls * len(maps)

    return run


@torch.no_grad()
def measure(name: str) -> list[dict[str, Any]]:
    """The ratios, time of the loop / time of grouped, and the largest difference for each batch."""
    stem, parts = branches(name)
    side, rows = NETWORKS[name][1], []
    grouped, loop = Always(parts), Never(parts)
    for batch in BATCHES:
        x = torch.rand(batch, side, side, 3).permute(0, 3, 1, 2)  # as images come
        maps = stem(x)
        one, other = grouped.log_probabilities(maps), loop.log_probabilities(maps)
        ratios, rates = pairs.compared(turn(grouped, maps), turn(loop, maps), runs=RUNS)
        rows.append(
            {
                "network": name,
                "batch": batch,
                "ratio": statistics.median(ratios),
                "ratios": ratios,
                "ms_grouped": 1000 * batch / statistics.median(rates["ours"]),
                "ms_loop": 1000 * batch / statistics.median(rates["theirs"]),
                "difference": max(float((one[k] - other[k]).abs().max()) for k in one),
                "taken": Siblings(parts).at_once(maps),
            }
        )
    return rows


def run() -> Result:
    """The smallest median ratio where the program groups."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = [row for name in NETWORKS for row in measure(name)]
    torch.set_num_threads(threads)
    taken = [row for row in rows if row["taken"]]
    worst = min(taken, key=lambda row: row["ratio"])
    return Result(
        value=worst["ratio"],
        unit="time of the loop / time of grouped, the smallest where grouping is used",
        bar=f">= {BAR}, and log probabilities equal within 1e-5 of them",
        ok=worst["ratio"] >= BAR and all(row["difference"] <= 1e-5 for row in rows),
        runs=worst["ratios"],
        peer="the same components one after the other",
        details={"rows": rows, "components": COMPONENTS, "outputs": OUTPUTS, "threads": 1},
    )
