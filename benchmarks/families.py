"""
Similarity of the predicted groupings to the demo's families: adjusted Rand index for each seed.

Run after `dvc exp run -S 'seeds=[0,1,2]'`. The families are defined in `scraper.demo`, which `train`
cannot import, so only this program compares them. The control clusters the same confusion matrix
with permuted mistakes.
"""

import json
import statistics
from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_rand_score

from benchmarks.shared.result import Result
from benchmarks.shared.shuffled_confusion import shuffled_confusion
from scraper.demo.facts.personae import PERSONAE
from train.grouping.inputs import read_predictions
from train.grouping.modularity import select, sweep
from train.grouping.predictions import confusion_of
from train.params.clustering import Params
from train.tree import hierarchy

BAR, BAR_SHUFFLED, SHUFFLES = 0.6, 0.1, 20


def _index(clusters: list[list[int]], labels: list[str]) -> float:
    family = {persona.name: persona.family for persona in PERSONAE}
    return float(
        adjusted_rand_score([family[label] for label in labels], hierarchy.parents(clusters))
    )


def _shuffled(seed: int, labels: list[str]) -> float:
    """Returns the mean index of confusion matrices with permuted mistakes."""
    params = Params()
    predictions = read_predictions(Path(f"results/flat/{seed}/validation.parquet"))
    confusion = confusion_of(predictions, params.confusion)
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(SHUFFLES):
        candidates = sweep(
            shuffled_confusion(confusion, generator),
            gammas=modularity.resolutions(params.gamma_first, params.gamma_last, params.gamma_step),
            largest=params.largest,
        )
        values.append(_index(select(candidates).clusters, labels))
    return statistics.mean(values)


def run() -> Result:
    """Returns the median index over seeds; the bar also limits the index of the control."""
    indices, shuffled = [], []
    for path in sorted(Path("data/clustering").glob("*/modularity.json")):
        grouping = json.loads(path.read_text())
        indices.append(_index(grouping["clusters"], grouping["labels"]))
        shuffled.append(_shuffled(int(path.parent.name), grouping["labels"]))
    if len(indices) < 3:
        raise SystemExit("three seeds are needed: dvc exp run -S 'seeds=[0,1,2]'")
    return Result(
        value=statistics.median(indices),
        unit="adjusted Rand index",
        bar=f">= {BAR} for every seed; shuffled < {BAR_SHUFFLED}",
        ok=min(indices) >= BAR and statistics.mean(shuffled) < BAR_SHUFFLED,
        runs=indices,
        peer="the same with a shuffled confusion",
        details={"shuffled_mean_of_20": shuffled},
        commands=["dvc exp run -S 'seeds=[0,1,2]'"],
    )
