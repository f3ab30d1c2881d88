"""What a network said of some images, and the confusions in it that groupings start from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from personae import tables
from train.evaluation import metrics


@dataclass(frozen=True, slots=True)
class Answers:
    """What the flat network said of the validation images."""

    labels: Int[np.ndarray, " image"]
    predicted: Int[np.ndarray, " image"]
    probabilities: Float[np.ndarray, "image label"]

    def drawn(self, rows: Int[np.ndarray, " drawn"]) -> "Answers":
        """Returns the answers of some images."""
        return Answers(self.labels[rows], self.predicted[rows], self.probabilities[rows])


def confusion_of(
    answers: Answers, kind: Literal["counts", "soft"]
) -> Float[np.ndarray, "label label"]:
    """Returns M, from counts or from mean probabilities."""
    if kind == "soft":
        soft = metrics.soft_confusion(answers.probabilities, answers.labels)
        return metrics.normalise_rows(soft)
    leaves = answers.probabilities.shape[1]
    counts = metrics.confusion_counts(answers.labels, answers.predicted, leaves=leaves)
    return metrics.normalise_rows(counts)


def read_answers(path: Path) -> Answers:
    """Returns what stage `flat` or `evaluate` wrote of a network's answers to `path`."""
    columns = ["label", "predicted", "probabilities"]
    table = tables.read(path, columns, stage="flat")
    return Answers(
        labels=table["label"].to_numpy().astype(np.int64),
        predicted=table["predicted"].to_numpy().astype(np.int64),
        probabilities=np.array(table["probabilities"].to_pylist(), dtype=np.float64),
    )
