"""
Does clustering find the demo's planted families? Adjusted Rand index over the seeds at hand.

Run after `dvc exp run -S 'seeds=[0,1,2]'`. The truth lies in `scraper.demo`, which `train` cannot
import; only this program brings the two together. The control clusters the same confusion
with its mistakes moved to other pairs of labels.
"""

import json
import statistics
from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_rand_score

from benchmarks.result import Result
from benchmarks.shuffled import moved
from scraper.demo.facts.personae import PERSONAE
from train.grouping.inputs import read_predictions
from train.grouping.modularity import select, sweep
from train.grouping.params import Params
from train.grouping.predictions import confusion_of

BAR, BAR_SHUFFLED, SHUFFLES = 0.6, 0.1, 20


def _index(clusters: list[list[int]], labels: list[str]) -> float:
    family = {persona.name: persona.family for persona in PERSONAE}
    found = {leaf: number for number, cluster in enumerate(clusters) for leaf in cluster}
    return float(
        adjusted_rand_score(
            [family[label] for label in labels], [found[leaf] for leaf in range(len(labels))]
        )
    )


def _shuffled(seed: int, labels: list[str]) -> float:
    """The mean index when the mistakes of the same network fall on other pairs of labels."""
    params = Params()
    predictions = read_predictions(Path(f"results/flat/{seed}/validation.parquet"))
    confusion = confusion_of(predictions, params.confusion)
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(SHUFFLES):
        found = sweep(moved(confusion, generator), gammas=params.gammas(), largest=params.largest)
        values.append(_index(select(found).clusters, labels))
    return statistics.mean(values)


def run() -> Result:
    """The median index over seeds; the bar also asks the shuffled control to stay low."""
    found, shuffled = [], []
    for path in sorted(Path("data/clustering").glob("*/modularity.json")):
        grouping = json.loads(path.read_text())
        found.append(_index(grouping["clusters"], grouping["labels"]))
        shuffled.append(_shuffled(int(path.parent.name), grouping["labels"]))
    if len(found) < 3:
        raise SystemExit("three seeds are needed: dvc exp run -S 'seeds=[0,1,2]'")
    return Result(
        value=statistics.median(found),
        unit="adjusted Rand index",
        bar=f">= {BAR} for every seed; shuffled < {BAR_SHUFFLED}",
        ok=min(found) >= BAR and statistics.mean(shuffled) < BAR_SHUFFLED,
        runs=found,
        peer="the same with a shuffled confusion",
        details={"shuffled_mean_of_20": shuffled},
        commands=["dvc exp run -S 'seeds=[0,1,2]'"],
    )
