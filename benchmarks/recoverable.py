"""
The room there is for experts: R of the greedy cover, and its lift over permuted covers.

Run after `flat` and `evaluate flat`. The cover is chosen on the validation images of each
results/flat/SEED and counted on its test images (methods.md 9.3): E sets of m labels, 8 of 10
for a hundred labels. The bar is the first criterion of methods.md 9.7: 5 points, twice by chance.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks import cover
from benchmarks.result import Result
from train.evaluation.metrics import confusion_counts

EXPERTS, LARGEST, DRAWS = 8, 10, 20
BAR, BAR_LIFT = 0.05, 2.0
FEW = 100  # with fewer validation images of a label, soft weights choose the cover


def size(labels: int) -> tuple[int, int]:
    """Sets of the square root of the labels, so many that they could hold each label once."""
    largest = max(2, min(LARGEST, round(labels**0.5)))
    return min(EXPERTS, labels // largest + 1), largest


def measure(folder: Path, seed: int) -> dict[str, Any]:
    """R, permuted R and lift of the covers that either kind of weight chooses."""
    labels, predicted, probabilities = _answers(folder / "validation.parquet")
    leaves = probabilities.shape[1]
    experts, largest = size(leaves)
    weights = {
        "counts": cover.count_weights(confusion_counts(labels, predicted, leaves=leaves)),
        "soft": cover.soft_weights(probabilities, labels),
    }
    test_labels, test_predicted, _ = _answers(folder / "predictions.parquet")
    judged = cover.count_weights(confusion_counts(test_labels, test_predicted, leaves=leaves))
    few = int(np.bincount(labels, minlength=leaves).min()) < FEW
    found = {
        kind: _judged(
            cover.greedy_cover(chosen_by, experts=experts, largest=largest), judged, seed=seed
        )
        for kind, chosen_by in weights.items()
    }
    facts = {
        "seed": seed,
        "labels": leaves,
        "experts": experts,
        "largest": largest,
        "error": float(np.mean(test_labels != test_predicted)),
        "chosen_by": "soft" if few else "counts",
    }
    return facts | found


def _judged(chosen: list[list[int]], weights: np.ndarray, *, seed: int) -> dict[str, Any]:
    room = cover.recoverable(weights, chosen)
    permuted = cover.permuted(weights, chosen, draws=DRAWS, seed=seed)
    mean = statistics.mean(permuted)
    return {
        "recoverable": room,
        "permuted": mean,
        "permuted_deviation": statistics.stdev(permuted),
        "by_chance": cover.by_chance(weights, chosen),
        "lift": room / mean if mean else None,
        "sizes": [len(one) for one in chosen],
        "labels_covered": len({label for one in chosen for label in one}),
        "cover": chosen,
    }


def _answers(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        table = pq.read_table(path, columns=["label", "predicted", "probabilities"])
    except FileNotFoundError as error:
        raise SystemExit(f"{path} is absent: run `dvc repro` or `train evaluate flat`") from error
    labels, predicted = (table[name].to_numpy().astype(np.int64) for name in ("label", "predicted"))
    return labels, predicted, np.array(table["probabilities"].to_pylist(), dtype=np.float64)


def run(results_dir: Path = Path("results")) -> Result:
    """The median over seeds of R on the test images, as a share of them."""
    folders = sorted((results_dir / "flat").glob("[0-9]*"), key=lambda folder: int(folder.name))
    if not folders:
        raise SystemExit("no flat network was trained: run `dvc repro`")
    found = [measure(folder, int(folder.name)) for folder in folders]
    chosen = [one[one["chosen_by"]] for one in found]
    rooms = [one["recoverable"] for one in chosen]
    lifts = [one["lift"] or 0.0 for one in chosen]
    manifest = Path("data/shards/manifest.json")
    shards = json.loads(manifest.read_text())["root_sha256"] if manifest.exists() else None
    return Result(
        value=statistics.median(rooms),
        unit="share of the test images",
        bar=f">= {BAR} and a lift >= {BAR_LIFT} for every seed",
        ok=min(rooms) >= BAR and min(lifts) >= BAR_LIFT,
        runs=rooms,
        peer=f"mean of {DRAWS} covers with permuted labels",
        details={"lift": lifts, "seeds": found, "root_sha256": shards},
        commands=["dvc repro"],
    )
