"""
HD-CNN for several numbers of clusters K and overlaps gamma, and without shared layers.

Run after `flat` of a preset that has a run of method hdcnn with grouping hdcnn_spectral, whose
number of clusters can be chosen. The sweep of Yan et al. 2015, "HD-CNN" (arXiv:1410.0736), was K of 5,
9, 14 and 19 for 100 labels. Validation images choose; the figures of the test images stand beside. A
cell is trained in work/hdcnn_sweep, and not again when it is there.
"""

import json
import logging
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.shared import validation
from benchmarks.shared.result import Result
from personae import files

RUN = "hdcnn_spectral"
CLUSTERS, OVERLAPS = (2, 3, 4, 6), (1.0, 2.0, 5.0, 20.0)
UNSHARED = (4, 5.0)
FOLDER = Path("work/hdcnn_sweep")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of the sweep."""

    clusters: int
    overlap: float
    share: bool

    @property
    def folder(self) -> Path:
        """Where the cell's groupings and trained networks are."""
        kind = "shared" if self.share else "unshared"
        return FOLDER / f"{self.clusters}-{self.overlap:g}-{kind}"


def run() -> Result:
    """Returns the largest gain over flat in points of the test images, of the cell validation chose."""
    seeds = sorted(int(path.name) for path in Path("results/flat").glob("[0-9]*"))
    if not seeds:
        raise SystemExit("results/flat is empty: run `python -m train flat --seed 0` first")
    cells = [Cell(k, gamma, share=True) for k in CLUSTERS for gamma in OVERLAPS]
    cells.append(Cell(*UNSHARED, share=False))
    for seed in seeds:  # seed by seed, so that a stop leaves whole seeds
        for cell in cells:
            _train(cell, seed)
            log.info("hdcnn_sweep: %s, seed %d", cell.folder.name, seed)
    rows = [_row(cell, seeds) for cell in cells]
    flat = {
        split: _mean(_accuracy(Path("results/flat"), seeds, split)) for split in ("val", "test")
    }
    chosen = max(rows, key=lambda row: statistics.mean(row["val"]))
    return Result(
        value=round(_mean(chosen["test"]) - flat["test"], 2),
        unit="points of test accuracy gained over flat by the setting that validation images choose",
        bar="none: a sweep, not a result",
        ok=True,
        runs=[round(_mean(row["test"]) - flat["test"], 2) for row in rows],
        details={"seeds": seeds, "flat": flat, "cells": rows, "chosen": chosen},
        commands=[f"python -m train flat --seed {seed}" for seed in seeds],
    )


def _train(cell: Cell, seed: int) -> None:
    """Groups the labels, and trains and evaluates the cell's network, unless that has been done."""
    results, data = cell.folder / "results", cell.folder / "data"
    if (results / RUN / str(seed) / "predictions.parquet").exists():
        return
    for folder, source in ((results / "flat", "results/flat"), (data / "shards", "data/shards")):
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.exists():
            folder.symlink_to(Path(source).resolve())
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["clustering"] |= {"clusters": cell.clusters, "overlap": cell.overlap}
    params["hdcnn"] |= {"share": cell.share}
    path = cell.folder / "params.yaml"
    files.write_text(path, yaml.safe_dump(params, sort_keys=False))
    for command in ("clustering", f"fit {RUN}", f"evaluate {RUN}"):
        subprocess.run(
            [
                *(sys.executable, "-m", "train", *command.split(), "--seed", str(seed)),
                *("--params", str(path), "--data", str(data), "--results", str(results)),
            ],
            check=True,
        )


def _row(cell: Cell, seeds: list[int]) -> dict[str, Any]:
    results = cell.folder / "results"
    groupings = [
        _json(cell.folder / "data" / "clustering" / str(seed) / f"{RUN}.json") for seed in seeds
    ]
    costs = {
        run: [_json(folder / run / str(seed) / "cost.json")["macs_expected"] for seed in seeds]
        for folder, run in ((results, RUN), (Path("results"), "flat"))
    }
    return {
        "clusters": cell.clusters,
        "overlap": cell.overlap,
        "share": cell.share,
        "sets": [len(grouping["clusters"]) for grouping in groupings],
        "sets_per_label": [
            round(sum(map(len, grouping["cover"])) / len(grouping["labels"]), 2)
            for grouping in groupings
        ],
        "macs_expected": round(_mean(costs[RUN]) / _mean(costs["flat"]), 3),
        "params": _json(results / RUN / str(seeds[0]) / "cost.json")["params"],
        "val": _accuracy(results / RUN, seeds, "val"),
        "test": _accuracy(results / RUN, seeds, "test"),
    }


def _accuracy(folder: Path, seeds: list[int], split: str) -> list[float]:
    """Returns the accuracy of each seed in %."""
    folders = [folder / str(seed) for seed in seeds]
    if split == "val":
        return [validation.accuracy(each) for each in folders]
    return [round(100 * _json(each / "metrics.json")["msr"], 2) for each in folders]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _mean(values: list[float]) -> float:
    return round(statistics.mean(values), 4)
