"""
Largest gain of perfect experts: R of the greedy cover, and its lift over permuted covers.

Run after `flat` and `evaluate flat`. Validation images of each results/flat/SEED choose the cover, and
its R is computed on test images: E sets of m labels, 8 sets of 10 for a hundred labels. Bar: 5
points, and twice the R of covers with permuted labels.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared import cover
from benchmarks.shared.result import Result
from personae.errors import MissingInput
from train.evaluation.metrics import confusion_counts
from train.grouping.inputs import read_predictions
from train.grouping.predictions import LabelledPredictions

EXPERTS, LARGEST, DRAWS = 8, 10, 20
BAR, BAR_LIFT = 0.05, 2.0
FEW = 100  # if a label has fewer validation images, soft weights choose the cover


def size(labels: int) -> tuple[int, int]:
    """Returns E and m: m is at most the square root of the labels, and E sets could hold every label."""
    largest = max(2, min(LARGEST, round(labels**0.5)))
    return min(EXPERTS, labels // largest + 1), largest


def measure(folder: Path, seed: int) -> dict[str, Any]:
    """Returns R, permuted R and lift of the covers that either kind of weights chooses."""
    validation = _predictions(folder / "validation.parquet")
    labels, probabilities = validation.labels, validation.probabilities
    leaves = probabilities.shape[1]
    experts, largest = size(leaves)
    weights = {
        "counts": cover.count_weights(
            confusion_counts(labels, validation.predicted, leaves=leaves)
        ),
        "soft": cover.soft_weights(probabilities, labels),
    }
    test = _predictions(folder / "predictions.parquet")
    test_weights = cover.count_weights(confusion_counts(test.labels, test.predicted, leaves=leaves))
    few = int(np.bincount(labels, minlength=leaves).min()) < FEW
    figures = {
        kind: _figures(
            cover.greedy_cover(chosen_by, experts=experts, largest=largest), test_weights, seed=seed
        )
        for kind, chosen_by in weights.items()
    }
    facts = {
        "seed": seed,
        "labels": leaves,
        "experts": experts,
        "largest": largest,
        "error": float(np.mean(test.labels != test.predicted)),
        "chosen_by": "soft" if few else "counts",
    }
    return facts | figures


def _figures(chosen: list[list[int]], weights: np.ndarray, *, seed: int) -> dict[str, Any]:
    recoverable = cover.recoverable(weights, chosen)
    permuted = cover.permuted(weights, chosen, draws=DRAWS, seed=seed)
    mean = statistics.mean(permuted)
    return {
        "recoverable": recoverable,
        "permuted": mean,
        "permuted_deviation": statistics.stdev(permuted),
        "by_chance": cover.by_chance(weights, chosen),
        "lift": recoverable / mean if mean else None,
        "sizes": [len(members) for members in chosen],
        "labels_covered": len({label for members in chosen for label in members}),
        "cover": chosen,
    }


def _predictions(path: Path) -> LabelledPredictions:
    try:
        return read_predictions(path)
    except MissingInput as error:
        raise SystemExit(f"{path} is absent: run `dvc repro` or `train evaluate flat`") from error


def run(results_dir: Path = Path("results")) -> Result:
    """Returns the median over seeds of R, as a share of the test images."""
    folders = sorted((results_dir / "flat").glob("[0-9]*"), key=lambda folder: int(folder.name))
    if not folders:
        raise SystemExit("no flat network was trained: run `dvc repro`")
    seeds = [measure(folder, int(folder.name)) for folder in folders]
    chosen = [seed[seed["chosen_by"]] for seed in seeds]
    gains = [figures["recoverable"] for figures in chosen]
    lifts = [figures["lift"] or 0.0 for figures in chosen]
    manifest = Path("data/shards/manifest.json")
    shards = json.loads(manifest.read_text())["root_sha256"] if manifest.exists() else None
    return Result(
        value=statistics.median(gains),
        unit="share of the test images",
        bar=f">= {BAR} and a lift >= {BAR_LIFT} for every seed",
        ok=min(gains) >= BAR and min(lifts) >= BAR_LIFT,
        runs=gains,
        peer=f"mean of {DRAWS} covers with permuted labels",
        details={"lift": lifts, "seeds": seeds, "root_sha256": shards},
        commands=["dvc repro"],
    )
