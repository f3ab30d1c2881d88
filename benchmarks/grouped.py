"""
Components of HD-CNN as one grouped computation, compared with a loop over the components.

Eight untrained components with heads of 30 labels are executed on the same maps, on one thread. Both
programs are timed in alternation. Grouping is also measured where `train.backbone.siblings` uses
the loop: the limit of that module rests on these figures.
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.shared import pairs
from benchmarks.shared.result import Result
from train import backbone
from train.backbone.siblings import Siblings

NETWORKS = {"resnet20": (4, 32), "nin": (1, 26)}
"""Blocks that HD-CNN shares, and the side of the images."""
COMPONENTS, OUTPUTS, BATCHES = 8, 30, (1, 2, 8, 32)
RUNS, IMAGES = 5, 32  # turns of each pair, and images of a turn
BAR = 1.0


class Always(Siblings):
    """Branches that are grouped for every batch size."""

    def at_once(self, maps: Tensor) -> bool:
        """Returns true for every batch of maps."""
        return maps.ndim == 4


class Never(Siblings):
    """Branches that are never grouped."""

    def at_once(self, maps: Tensor) -> bool:
        """Returns false for every batch of maps."""
        return maps.ndim != 4


def branches(name: str) -> tuple[nn.Module, nn.ModuleDict]:
    """Returns the shared blocks of a network, and components with different random weights."""
    shared, side = NETWORKS[name]
    torch.manual_seed(0)
    whole = backbone.build(backbone.Params(name=name), outputs=100, side=side).eval()
    parts = nn.ModuleDict()
    for index in range(COMPONENTS):
        parts[f"cluster-{index}"] = backbone.branch_of(whole, outputs=OUTPUTS, first_own=shared)
        for weight in parts[f"cluster-{index}"].parameters():
            nn.init.normal_(weight, std=0.05)
    return whole.blocks[:shared], parts.eval()


def turn(siblings: Siblings, maps: Tensor) -> Callable[[], int]:
    """Returns a program that computes the log probabilities of about `IMAGES` images, and counts them."""
    calls = max(1, IMAGES // len(maps))

    def run() -> int:
        for _ in range(calls):
            siblings.log_probabilities(maps)
        return calls * len(maps)

    return run


@torch.no_grad()
def measure(name: str) -> list[dict[str, Any]]:
    """Returns the ratios (time of the loop / grouped time) and the largest difference by batch size."""
    stem, parts = branches(name)
    side, rows = NETWORKS[name][1], []
    grouped, loop = Always(parts), Never(parts)
    for batch in BATCHES:
        x = torch.rand(batch, side, side, 3).permute(0, 3, 1, 2)  # as images come
        maps = stem(x)
        ours, theirs = grouped.log_probabilities(maps), loop.log_probabilities(maps)
        ratios, rates = pairs.compared(turn(grouped, maps), turn(loop, maps), runs=RUNS)
        rows.append(
            {
                "network": name,
                "batch": batch,
                "ratio": statistics.median(ratios),
                "ratios": ratios,
                "ms_grouped": 1000 * batch / statistics.median(rates["ours"]),
                "ms_loop": 1000 * batch / statistics.median(rates["theirs"]),
                "difference": max(float((ours[k] - theirs[k]).abs().max()) for k in ours),
                "taken": Siblings(parts).at_once(maps),
            }
        )
    return rows


def run() -> Result:
    """Returns the smallest median ratio of the cases that the program groups."""
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
