"""
Conditional execution of HD-CNN: accuracy, executed operations and time against beta (methods.md 6.5).

Run after `fit hdcnn`. Beta is chosen on the validation images: the one that executes the fewest
operations of the fine components and loses at most half a point. It is judged on the test images.
"""

import statistics
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from benchmarks import averaged
from benchmarks.averaged import Trained
from benchmarks.result import Result
from train.data.images import ImageSet
from train.evaluation import latency
from train.methods.hdcnn.classifier import Classifier

BETAS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0, 6.0, 12.0, 50.0)
BATCHES = (1, 256)
BAR_SHARE, BAR_LOSS = 0.40, 0.005
SECONDS = 2.0  # for each beta and batch


def curve(classifier: Classifier, pictures: ImageSet) -> list[dict[str, Any]]:
    """
    Accuracy and share of the fine operations for each beta, and for None: every component.

    A set of one label has no network: it is no component, and costs nothing.
    """
    coarse, labels = averaged.answers(classifier, pictures)
    costs = classifier.cost().macs
    macs = torch.tensor([float(costs.get(node, 0)) for node in classifier.network.clusters])
    rows = []
    for beta in (*BETAS, None):
        limit(classifier, beta)
        chosen = classifier.chosen(coarse)
        weights = coarse * chosen
        rated = (weights[:, :, None] * labels).sum(dim=1)
        right = rated.argmax(dim=1).numpy() == pictures.labels
        share = (chosen * macs).sum(dim=1) / macs.sum()
        rows.append(
            {
                "beta": beta,
                "accuracy": float(np.mean(right)),
                "share": float(share.double().mean()),
                "components": float((chosen & (macs > 0)).sum(dim=1).double().mean()),
            }
        )
    return rows


def limit(classifier: Classifier, beta: float | None) -> None:
    """Makes the default mode execute what `beta` asks for."""
    classifier.params = classifier.params.model_copy(update={"beta": beta})


def cheapest(rows: list[dict[str, Any]]) -> float | None:
    """The beta that executes least and loses at most half a point against all components."""
    enough = [row for row in rows if rows[-1]["accuracy"] - row["accuracy"] <= BAR_LOSS]
    found: float | None = min(enough, key=lambda row: row["share"])["beta"]
    return found


def timed(classifier: Classifier, pictures: ImageSet, beta: float | None) -> list[dict[str, Any]]:
    """Time of a call with one image and with many."""
    limit(classifier, beta)
    cpu = torch.device("cpu")
    return [
        asdict(
            latency.measure(
                classifier,
                latency.inputs_of(pictures, batch=batch, device=cpu),
                warm_up=5,
                calls=200,
                seconds=SECONDS,
            )
        )
        for batch in BATCHES
    ]


def measure(one: Trained) -> dict[str, Any]:
    """The curves of one seed, the chosen beta, and what it gives on the test images."""
    chosen = cheapest(curve(one.classifier, one.val))
    rows = curve(one.classifier, one.test)
    judged = next(row for row in rows if row["beta"] == chosen)
    for row in rows:
        row["latency"] = timed(one.classifier, one.test, row["beta"])
    return {
        "seed": one.seed,
        "sets": len(one.classifier.network.clusters),
        "components": len(one.classifier.network.fine),
        "beta": chosen,
        "share": judged["share"],
        "loss": rows[-1]["accuracy"] - judged["accuracy"],
        "curve": rows,
    }


def run() -> Result:
    """The median over seeds of the share of fine operations that the chosen beta executes."""
    found = [measure(one) for one in averaged.trained()]
    shares, losses = [one["share"] for one in found], [one["loss"] for one in found]
    return Result(
        value=statistics.median(shares),
        unit="share of the fine components' operations",
        bar=f"<= {BAR_SHARE} for at most {100 * BAR_LOSS} points, with eight components or more",
        ok=(
            statistics.median(shares) <= BAR_SHARE
            and statistics.median(losses) <= BAR_LOSS
            and min(one["components"] for one in found) >= 8
        ),
        runs=shares,
        peer="every component on every image",
        details={"losses": losses, "seeds": found, "threads": torch.get_num_threads()},
        commands=["dvc repro"],
    )
