"""
Conditional execution of HD-CNN: accuracy, executed MACs and time for several values of beta.

Run after `fit hdcnn` (Yan et al. 2015, "HD-CNN", arXiv:1410.0736, "Conditional execution"). Validation
images choose the beta that executes the fewest MACs of the fine components and loses at most half a
point of accuracy; test images give its figures.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from benchmarks.shared import hdcnn_runs
from benchmarks.shared.hdcnn_runs import HdcnnRun
from benchmarks.shared.result import Result
from train.data.images import ImageSet
from train.evaluation import latency
from train.methods.hdcnn.classifier import Classifier

BETAS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0, 6.0, 12.0, 50.0)
BATCHES = (1, 256)
BAR_SHARE, BAR_LOSS = 0.40, 0.005
SECONDS = 2.0  # for each beta and batch size


def curve(
    classifier: Classifier, images: ImageSet, *, betas: Sequence[float] = BETAS
) -> list[dict[str, Any]]:
    """
    Returns accuracy and executed share of the fine MACs for each beta, and for None (no limit).

    A set of one label has no network, so it is no component and has no MACs.
    """
    coarse, labels = hdcnn_runs.probabilities(classifier, images)
    costs = classifier.cost().macs
    macs = torch.tensor([float(costs.get(node, 0)) for node in classifier.network.clusters])
    rows = []
    for beta in (*betas, None):
        limit(classifier, beta)
        chosen = classifier.chosen(coarse)
        weights = coarse * chosen
        scores = (weights[:, :, None] * labels).sum(dim=1)
        correct = scores.argmax(dim=1).numpy() == images.labels
        share = (chosen * macs).sum(dim=1) / macs.sum()
        rows.append(
            {
                "beta": beta,
                "accuracy": float(np.mean(correct)),
                "share": float(share.double().mean()),
                "components": float((chosen & (macs > 0)).sum(dim=1).double().mean()),
            }
        )
    return rows


def limit(classifier: Classifier, beta: float | None) -> None:
    """Sets the beta of the default mode."""
    classifier.params = classifier.params.model_copy(update={"beta": beta})


def cheapest(rows: list[dict[str, Any]]) -> float | None:
    """Returns the beta of least executed MACs that loses at most `BAR_LOSS` against all components."""
    enough = [row for row in rows if rows[-1]["accuracy"] - row["accuracy"] <= BAR_LOSS]
    beta: float | None = min(enough, key=lambda row: row["share"])["beta"]
    return beta


def timed(
    classifier: Classifier, images: ImageSet, beta: float | None, *, seconds: float = SECONDS
) -> list[dict[str, Any]]:
    """Returns the times of calls with each size of `BATCHES`."""
    limit(classifier, beta)
    cpu = torch.device("cpu")
    return [
        asdict(
            latency.measure(
                classifier,
                latency.inputs_of(images, batch=batch, device=cpu),
                warm_up=5,
                calls=200,
                seconds=seconds,
            )
        )
        for batch in BATCHES
    ]


def measure(
    trained: HdcnnRun, *, betas: Sequence[float] = BETAS, seconds: float = SECONDS
) -> dict[str, Any]:
    """Returns the curve of one seed, the chosen beta, and its figures on the test images."""
    chosen = cheapest(curve(trained.classifier, trained.val, betas=betas))
    rows = curve(trained.classifier, trained.test, betas=betas)
    tested = next(row for row in rows if row["beta"] == chosen)
    for row in rows:
        row["latency"] = timed(trained.classifier, trained.test, row["beta"], seconds=seconds)
    return {
        "seed": trained.seed,
        "sets": len(trained.classifier.network.clusters),
        "components": len(trained.classifier.network.fine),
        "beta": chosen,
        "share": tested["share"],
        "loss": rows[-1]["accuracy"] - tested["accuracy"],
        "curve": rows,
    }


def run() -> Result:
    """Measures every trained seed."""
    return judged([measure(trained) for trained in hdcnn_runs.trained()])


def judged(seeds: list[dict[str, Any]]) -> Result:
    """Returns the median over seeds of the share of fine MACs that the chosen beta executes."""
    shares, losses = [seed["share"] for seed in seeds], [seed["loss"] for seed in seeds]
    return Result(
        value=statistics.median(shares),
        unit="share of the fine components' operations",
        bar=f"<= {BAR_SHARE} for at most {100 * BAR_LOSS} points, with eight components or more",
        ok=(
            statistics.median(shares) <= BAR_SHARE
            and statistics.median(losses) <= BAR_LOSS
            and min(seed["components"] for seed in seeds) >= 8
        ),
        runs=shares,
        peer="every component on every image",
        details={"losses": losses, "seeds": seeds, "threads": torch.get_num_threads()},
        commands=["dvc repro"],
    )
