"""
DHNN's decoding: success and time against the width of the beam, and paths that are none (methods.md 4.4).

Run after `fit` of runs of method `dhnn`. Nothing is trained: each network's answers are searched with
every width, `null` keeping all paths. Of a CNN-RNN it is also told how often the likeliest node of
each step, chosen without the tree, are a path: what the beam's tree mends.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.result import Result
from train import saved
from train.data.images import ImageSet, open_split
from train.evaluation import prediction
from train.methods.dhnn.classifier import Classifier
from train.methods.dhnn.recurrent import FixedPath

WIDTHS = (1, 2, 4, 8, None)


def curve(classifier: Classifier, pictures: ImageSet) -> list[dict[str, Any]]:
    """Success, the mean score of the decoded path and milliseconds an image for each width."""
    rows, scores = [], _scores(classifier, pictures)
    for width in WIDTHS:
        classifier.params = classifier.params.model_copy(update={"beam": width})
        began = time.perf_counter()
        with torch.no_grad():
            batches = prediction.batches(pictures, torch.device("cpu"))
            found = torch.cat([classifier.predict_proba(x).argmax(dim=1) for x in batches])
        seconds = time.perf_counter() - began
        rows.append(
            {
                "width": width,
                "accuracy": float(np.mean(found.numpy() == pictures.labels)),
                "log_probability": float(scores.gather(1, found[:, None]).mean()),
                "milliseconds": round(1000 * seconds / len(pictures.labels), 4),
            }
        )
    return rows


@torch.no_grad()
def _scores(classifier: Classifier, pictures: ImageSet) -> torch.Tensor:
    """The log probability of the path to every label for each image."""
    batches = prediction.batches(pictures, torch.device("cpu"))
    return torch.cat([classifier.network(classifier.centred(x)) for x in batches]).double()


@torch.no_grad()
def free(classifier: Classifier, pictures: ImageSet) -> dict[str, float] | None:
    """Of the likeliest node of each step without a tree: how many are right, how many a path."""
    network = classifier.network
    if not isinstance(network.decoder, FixedPath):
        return None
    steps = [
        network.decoder(network.read(classifier.centred(x))).argmax(dim=2)
        for x in prediction.batches(pictures, torch.device("cpu"))
    ]
    said = torch.cat(steps)
    right = said == network.targets[torch.from_numpy(pictures.labels)]
    every = set(classifier.paths.sequences)
    return {
        "paths": statistics.mean(tuple(row) in every for row in said.tolist()),
        "paths_right": float(right.all(dim=1).double().mean()),
        "nodes_right": float(right.double().mean()),
    }


def measure(folder: Path, pictures: ImageSet) -> dict[str, Any]:
    """The curve of one run and seed, and what its steps say without the tree."""
    classifier: Any = saved.load(folder).classifier
    return {"free": free(classifier, pictures), "curve": curve(classifier, pictures)}


def run(data_dir: Path = Path("data"), results_dir: Path = Path("results")) -> Result:
    """The median over runs and seeds of what the whole tree gains over a greedy path."""
    pictures = open_split(data_dir / "shards", Path("work/cache"), "test")
    runs: dict[str, dict[str, Any]] = {}
    for path in sorted(results_dir.glob("*/[0-9]*/model.json")):
        facts = json.loads(path.read_text())
        if facts["method"] == "dhnn":
            runs.setdefault(facts["run"], {})[str(facts["seed"])] = measure(path.parent, pictures)
    if not runs:
        raise SystemExit(f"{results_dir} has no run of method dhnn: `dvc repro` trains them")
    curves = [seed["curve"] for seeds in runs.values() for seed in seeds.values()]
    gains = [rows[-1]["accuracy"] - rows[0]["accuracy"] for rows in curves]
    return Result(
        value=statistics.median(gains),
        unit="share of the test images",
        bar="no width decodes likelier paths than the whole tree",
        ok=all(
            row["log_probability"] <= rows[-1]["log_probability"] + 1e-6
            for rows in curves
            for row in rows
        ),
        runs=gains,
        peer="the same networks, greedily (width 1)",
        details={"runs": runs, "threads": torch.get_num_threads()},
        commands=["dvc repro"],
    )
