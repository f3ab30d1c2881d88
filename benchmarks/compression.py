"""
Compression of HD-CNN's fine components: accuracy and bytes for several codebooks.

Run after `fit hdcnn`. Every layer of the fine components but the last is quantised in segments of two
columns, as in Yan et al. 2015, "HD-CNN" (arXiv:1410.0736), "Parameter compression". The result is
the largest codebook that compresses by a factor of four, because it loses least accuracy.
"""

import copy
import statistics
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.shared import hdcnn_runs
from benchmarks.shared.hdcnn_runs import HdcnnRun
from benchmarks.shared.result import Result
from train.data.images import ImageSet
from train.methods.hdcnn import quantise
from train.methods.hdcnn.classifier import Classifier

CODEBOOKS, WIDTH = (4, 8, 16, 32, 64), 2
FACTOR = 4.0


def curve(
    classifier: Classifier,
    images: ImageSet,
    *,
    codebooks: Sequence[int] = CODEBOOKS,
    factor: float = FACTOR,
) -> list[dict[str, Any]]:
    """Returns accuracy, bytes of the fine components and compression factor for each codebook."""
    uncompressed = hdcnn_runs.accuracy(classifier, images)
    rows = []
    for codebook in sorted({*codebooks, *reaching(classifier, factor=factor)}):
        smaller = copy.deepcopy(classifier)
        start = time.perf_counter()
        storage = smaller.compress(codebook=codebook, width=WIDTH)
        seconds = time.perf_counter() - start
        accuracy = hdcnn_runs.accuracy(smaller, images)
        rows.append(
            {
                "codebook": codebook,
                "bytes_before": storage.bytes_before,
                "bytes_after": storage.bytes_after,
                "factor": storage.factor,
                "accuracy": accuracy,
                "loss": uncompressed - accuracy,
                "seconds": round(seconds, 1),
            }
        )
    return rows


def reaching(classifier: Classifier, *, factor: float = FACTOR) -> list[int]:
    """Returns the largest codebook that reaches the factor, or nothing if none reaches it."""
    fine = classifier.network.fine
    sizes = [
        size
        for size in range(2, quantise.LARGEST + 1)
        if quantise.storage(fine, codebook=size, width=WIDTH).factor >= factor
    ]
    return sizes[-1:]


def measure(trained: HdcnnRun, *, codebooks: Sequence[int] = CODEBOOKS) -> dict[str, Any]:
    """Returns the curve of one seed on the test images, and the largest codebook that reaches the factor."""
    rows = curve(trained.classifier, trained.test, codebooks=codebooks)
    enough = [row for row in rows if row["factor"] >= FACTOR]
    chosen = max(enough, key=lambda row: row["codebook"]) if enough else None
    return {"seed": trained.seed, "chosen": chosen, "curve": rows}


def run() -> Result:
    """Measures every trained seed."""
    return judged([measure(trained) for trained in hdcnn_runs.trained()])


def judged(seeds: list[dict[str, Any]]) -> Result:
    """Returns the median over seeds of the accuracy that a factor of four loses."""
    chosen = [seed["chosen"] for seed in seeds if seed["chosen"] is not None]
    losses = [row["loss"] for row in chosen]
    return Result(
        value=statistics.median(losses) if losses else float("nan"),
        unit="share of the test images lost",
        bar=f"a codebook reaches a factor of {FACTOR}; its loss is shown",
        ok=len(chosen) == len(seeds),
        runs=losses,
        peer="the same components in 32 bits",
        details={"codebooks": [row["codebook"] for row in chosen], "seeds": seeds, "width": WIDTH},
        commands=["dvc repro"],
    )
