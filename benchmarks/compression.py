"""
Compression of HD-CNN's fine components: accuracy and bytes against the codebook (methods.md 6.6).

Run after `fit hdcnn`. Every layer of the fine components but the last is quantised in segments of two
columns, as in the paper. Of the codebooks that reach a factor of four the largest one is looked for:
it loses least.
"""

import copy
import statistics
import time
from typing import Any

from benchmarks import averaged
from benchmarks.averaged import Trained
from benchmarks.result import Result
from train.data.images import ImageSet
from train.methods.hdcnn import quantise
from train.methods.hdcnn.classifier import Classifier

CODEBOOKS, WIDTH = (4, 8, 16, 32, 64), 2
FACTOR = 4.0


def curve(classifier: Classifier, pictures: ImageSet) -> list[dict[str, Any]]:
    """Accuracy in full, bytes of the fine components and their factor for each codebook."""
    right = averaged.accuracy(classifier, pictures)
    rows = []
    for codebook in sorted({*CODEBOOKS, *reaching(classifier)}):
        smaller = copy.deepcopy(classifier)
        began = time.perf_counter()
        storage = smaller.compress(codebook=codebook, width=WIDTH)
        seconds = time.perf_counter() - began
        accuracy = averaged.accuracy(smaller, pictures)
        rows.append(
            {
                "codebook": codebook,
                "bytes_before": storage.bytes_before,
                "bytes_after": storage.bytes_after,
                "factor": storage.factor,
                "accuracy": accuracy,
                "loss": right - accuracy,
                "seconds": round(seconds, 1),
            }
        )
    return rows


def reaching(classifier: Classifier) -> list[int]:
    """The largest codebook with the wanted factor; none where no codebook has it."""
    fine = classifier.network.fine
    sizes = [
        size
        for size in range(2, quantise.LARGEST + 1)
        if quantise.storage(fine, codebook=size, width=WIDTH).factor >= FACTOR
    ]
    return sizes[-1:]


def measure(one: Trained) -> dict[str, Any]:
    """The curve of one seed on its test images, and the largest codebook with a factor of four."""
    rows = curve(one.classifier, one.test)
    enough = [row for row in rows if row["factor"] >= FACTOR]
    chosen = max(enough, key=lambda row: row["codebook"]) if enough else None
    return {"seed": one.seed, "chosen": chosen, "curve": rows}


def run() -> Result:
    """The median over seeds of what a factor of four loses, in shares of the test images."""
    found = [measure(one) for one in averaged.trained()]
    chosen = [one["chosen"] for one in found if one["chosen"] is not None]
    losses = [one["loss"] for one in chosen]
    return Result(
        value=statistics.median(losses) if losses else float("nan"),
        unit="share of the test images lost",
        bar=f"a codebook reaches a factor of {FACTOR}; its loss is told",
        ok=len(chosen) == len(found),
        runs=losses,
        peer="the same components in 32 bits",
        details={"codebooks": [one["codebook"] for one in chosen], "seeds": found, "width": WIDTH},
        commands=["dvc repro"],
    )
