"""Accuracy of a trained run on the validation images, which may choose; test images may not."""

from pathlib import Path

import numpy as np

from train.grouping.inputs import read_predictions


def accuracy(folder: Path) -> float:
    """Returns the accuracy in %, of the validation.parquet in the folder of a run and seed."""
    predictions = read_predictions(folder / "validation.parquet")
    return round(100 * float(np.mean(predictions.predicted == predictions.labels)), 2)
