"""
Do the clusters that confusions give meet the groups that the data set tells?

Adjusted mutual information of each rule's clusters with grouping `given` (CIFAR-100's coarse labels,
the families of species), for each seed at hand. Beside it a 95 % interval over resampled validation
images, the random groups of the same sizes, and the same rules on the same network's mistakes
moved to other pairs of labels. Run after `clustering`.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score

from benchmarks.result import Result
from benchmarks.shuffled import moved
from train.errors import BadHierarchy
from train.grouping import average_linkage, modularity
from train.grouping.inputs import read_predictions
from train.grouping.params import Params
from train.grouping.predictions import LabelledPredictions, confusion_of
from train.tree import hierarchy

RULES = ("modularity", "laplacian", "average_linkage", "spectral", "agglomerative")
RANDOM = ("random", "random_1", "random_2", "random_given")
RESAMPLES, SHUFFLES = 100, 20
BAR_SHUFFLED = 0.1


def measure(folder: Path, predictions: LabelledPredictions) -> dict[str, Any]:
    """Returns the indices of one seed by grouping, the interval of two rules, and their control."""
    seed = int(folder.name)
    documents = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    told = hierarchy.parents(documents["given"]["clusters"])
    params = Params(**documents["given"]["params"])
    indices = {
        name: _index(documents[name]["clusters"], told)
        for name in (*RULES, *RANDOM)
        if "clusters" in documents.get(name, {})
    }
    generator = np.random.default_rng(seed)
    resampled: dict[str, list[float]] = {"modularity": [], "average_linkage": []}
    for _ in range(RESAMPLES):
        rows = generator.integers(len(predictions.labels), size=len(predictions.labels))
        confusion = confusion_of(predictions.drawn(rows), "counts")
        soft = confusion_of(predictions.drawn(rows), "soft")
        resampled["modularity"].append(_swept(confusion, params, told))
        resampled["average_linkage"].append(_linked(soft, told))
    confusion = confusion_of(predictions, "counts")
    shuffled = [_swept(moved(confusion, generator), params, told) for _ in range(SHUFFLES)]
    return {
        "seed": seed,
        "groups_told": int(told.max()) + 1,
        "groups_found": {name: len(documents[name]["clusters"]) for name in indices},
        "index": indices,
        "interval": {
            name: np.percentile(values, [2.5, 97.5]).tolist() for name, values in resampled.items()
        },
        "shuffled": statistics.mean(shuffled),
        "shuffled_largest": max(shuffled),
    }


def _swept(confusion: np.ndarray, params: Params, told: np.ndarray) -> float:
    try:
        found = modularity.sweep(confusion, gammas=params.gammas(), largest=params.largest)
        return _index(modularity.select(found).clusters, told)
    except BadHierarchy:  # no resolution gives clusters: all labels apart
        return _index([[leaf] for leaf in range(len(told))], told)


def _linked(soft: np.ndarray, told: np.ndarray) -> float:
    """HierNet's grouping with as many groups wanted as the data tells."""
    count = round(len(told) ** 0.5)
    return _index(average_linkage.swept(soft, g_max=len(told) // 2, count=count)[1], told)


def _index(clusters: list[list[int]], told: np.ndarray) -> float:
    return float(adjusted_mutual_info_score(told, hierarchy.parents(clusters)))


def run() -> Result:
    """The median index of modularity over seeds; the bar is an interval above the controls."""
    folders = sorted(Path("data/clustering").glob("[0-9]*"), key=lambda folder: int(folder.name))
    folders = [folder for folder in folders if (folder / "given.json").exists()]
    if not folders:
        raise SystemExit(
            "no clusters with groups to compare: run `dvc repro`, on data with families"
        )
    found = [
        measure(folder, read_predictions(Path(f"results/flat/{folder.name}/validation.parquet")))
        for folder in folders
    ]
    values = [one["index"]["modularity"] for one in found]
    above = [one["interval"]["modularity"][0] > one["shuffled_largest"] for one in found]
    return Result(
        value=statistics.median(values),
        unit="adjusted mutual information",
        bar=f"intervals above every shuffled control; shuffled < {BAR_SHUFFLED}",
        ok=all(above) and statistics.mean(one["shuffled"] for one in found) < BAR_SHUFFLED,
        runs=values,
        peer="the same with a shuffled confusion; random groups",
        details={"seeds": found},
        commands=["dvc repro"],
    )
