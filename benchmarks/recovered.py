"""
Similarity of predicted groupings to the grouping of the data set.

Adjusted mutual information of each rule's clusters and the grouping `given` (CIFAR-100's coarse
labels, or families of species), for each seed in data/clustering. Compared with a 95 % interval
over resampled validation images, random groups of the same sizes, and the same rules on a confusion
matrix whose mistakes are permuted. Run after `clustering`.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score

from benchmarks.shared.result import Result
from benchmarks.shared.shuffled_confusion import shuffled_confusion
from train.errors import BadHierarchy
from train.grouping import average_linkage, modularity
from train.grouping.inputs import read_predictions
from train.grouping.predictions import LabelledPredictions, confusion_of
from train.params.clustering import Params
from train.tree import hierarchy

RULES = ("modularity", "laplacian", "average_linkage", "spectral", "agglomerative")
RANDOM = ("random", "random_1", "random_2", "random_given")
RESAMPLES, SHUFFLES = 100, 20
BAR_SHUFFLED = 0.1


def measure(folder: Path, predictions: LabelledPredictions) -> dict[str, Any]:
    """Returns the index of each grouping of one seed, the intervals of two rules, and the control."""
    seed = int(folder.name)
    documents = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    given = hierarchy.parents(documents["given"]["clusters"])
    params = Params(**documents["given"]["params"])
    indices = {
        name: _index(documents[name]["clusters"], given)
        for name in (*RULES, *RANDOM)
        if "clusters" in documents.get(name, {})
    }
    generator = np.random.default_rng(seed)
    resampled: dict[str, list[float]] = {"modularity": [], "average_linkage": []}
    for _ in range(RESAMPLES):
        rows = generator.integers(len(predictions.labels), size=len(predictions.labels))
        confusion = confusion_of(predictions.drawn(rows), "counts")
        soft = confusion_of(predictions.drawn(rows), "soft")
        resampled["modularity"].append(_swept(confusion, params, given))
        resampled["average_linkage"].append(_linked(soft, given))
    confusion = confusion_of(predictions, "counts")
    shuffled = [
        _swept(shuffled_confusion(confusion, generator), params, given) for _ in range(SHUFFLES)
    ]
    return {
        "seed": seed,
        "groups_told": int(given.max()) + 1,
        "groups_found": {name: len(documents[name]["clusters"]) for name in indices},
        "index": indices,
        "interval": {
            name: np.percentile(values, [2.5, 97.5]).tolist() for name, values in resampled.items()
        },
        "shuffled": statistics.mean(shuffled),
        "shuffled_largest": max(shuffled),
    }


def _swept(confusion: np.ndarray, params: Params, given: np.ndarray) -> float:
    try:
        candidates = modularity.sweep(
            confusion,
            gammas=modularity.resolutions(params.gamma_first, params.gamma_last, params.gamma_step),
            largest=params.largest,
        )
        return _index(modularity.select(candidates).clusters, given)
    except BadHierarchy:  # no resolution groups labels: every label is a cluster
        return _index([[leaf] for leaf in range(len(given))], given)


def _linked(soft: np.ndarray, given: np.ndarray) -> float:
    """Returns the index of HierNet's grouping with about as many groups as the data set has."""
    count = round(len(given) ** 0.5)
    return _index(average_linkage.swept(soft, g_max=len(given) // 2, count=count)[1], given)


def _index(clusters: list[list[int]], given: np.ndarray) -> float:
    return float(adjusted_mutual_info_score(given, hierarchy.parents(clusters)))


def run() -> Result:
    """Returns the median index of `modularity` over seeds; its intervals must exceed the controls."""
    folders = sorted(Path("data/clustering").glob("[0-9]*"), key=lambda folder: int(folder.name))
    folders = [folder for folder in folders if (folder / "given.json").exists()]
    if not folders:
        raise SystemExit(
            "no clusters with groups to compare: run `dvc repro`, on data with families"
        )
    seeds = [
        measure(folder, read_predictions(Path(f"results/flat/{folder.name}/validation.parquet")))
        for folder in folders
    ]
    values = [seed["index"]["modularity"] for seed in seeds]
    above = [seed["interval"]["modularity"][0] > seed["shuffled_largest"] for seed in seeds]
    return Result(
        value=statistics.median(values),
        unit="adjusted mutual information",
        bar=f"intervals above every shuffled control; shuffled < {BAR_SHUFFLED}",
        ok=all(above) and statistics.mean(seed["shuffled"] for seed in seeds) < BAR_SHUFFLED,
        runs=values,
        peer="the same with a shuffled confusion; random groups",
        details={"seeds": seeds},
        commands=["dvc repro"],
    )
