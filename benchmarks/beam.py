"""
DHNN's decoding: accuracy and time for several beam widths, and how often steps form no path.

Run after `fit` of runs of method `dhnn`; nothing is trained. The outputs of each network are searched
with every width of the beam, where `null` keeps all paths (Koo, Klabjan and Utke 2020, slides,
Algorithm 1). For a CNN-RNN the benchmark also counts how often the most probable nodes of the steps,
chosen without the tree, form a path of the tree.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.shared.result import Result
from train import saved
from train.data.images import ImageSet, open_split
from train.evaluation import prediction
from train.methods.dhnn.classifier import Classifier
from train.methods.dhnn.recurrent import FixedPath

WIDTHS = (1, 2, 4, 8, None)


def curve(classifier: Classifier, images: ImageSet) -> list[dict[str, Any]]:
    """Returns accuracy, mean log probability of the decoded path and ms per image for each width."""
    rows, scores = [], _scores(classifier, images)
    for width in WIDTHS:
        classifier.params = classifier.params.model_copy(update={"beam": width})
        start = time.perf_counter()
        with torch.no_grad():
            batches = prediction.batches(images, torch.device("cpu"))
            decoded = torch.cat([classifier.predict_proba(x).argmax(dim=1) for x in batches])
        seconds = time.perf_counter() - start
        rows.append(
            {
                "width": width,
                "accuracy": float(np.mean(decoded.numpy() == images.labels)),
                "log_probability": float(scores.gather(1, decoded[:, None]).mean()),
                "milliseconds": round(1000 * seconds / len(images.labels), 4),
            }
        )
    return rows


@torch.no_grad()
def _scores(classifier: Classifier, images: ImageSet) -> torch.Tensor:
    """Returns the log probability of the path to every label for each image."""
    batches = prediction.batches(images, torch.device("cpu"))
    return torch.cat([classifier.network(classifier.centred(x)) for x in batches]).double()


@torch.no_grad()
def free(classifier: Classifier, images: ImageSet) -> dict[str, float] | None:
    """
    Returns how often the most probable node of each step is right, and how often they form a path.

    None for a decoder whose steps depend on the path.
    """
    network = classifier.network
    if not isinstance(network.decoder, FixedPath):
        return None
    steps = [
        network.decoder(network.read(classifier.centred(x))).argmax(dim=2)
        for x in prediction.batches(images, torch.device("cpu"))
    ]
    nodes = torch.cat(steps)
    right = nodes == network.targets[torch.from_numpy(images.labels)]
    every = set(classifier.paths.sequences)
    return {
        "paths": statistics.mean(tuple(row) in every for row in nodes.tolist()),
        "paths_right": float(right.all(dim=1).double().mean()),
        "nodes_right": float(right.double().mean()),
    }


def measure(folder: Path, images: ImageSet) -> dict[str, Any]:
    """Returns the curve of one run and seed, and the figures of its steps without the tree."""
    classifier: Any = saved.load(folder).classifier
    return {"free": free(classifier, images), "curve": curve(classifier, images)}


def run(data_dir: Path = Path("data"), results_dir: Path = Path("results")) -> Result:
    """Returns the median over runs and seeds of the accuracy gained by searching the whole tree."""
    images = open_split(data_dir / "shards", Path("work/cache"), "test")
    runs: dict[str, dict[str, Any]] = {}
    for path in sorted(results_dir.glob("*/[0-9]*/model.json")):
        facts = json.loads(path.read_text())
        if facts["method"] == "dhnn":
            runs.setdefault(facts["run"], {})[str(facts["seed"])] = measure(path.parent, images)
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
