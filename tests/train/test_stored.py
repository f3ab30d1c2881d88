"""Stored predictions: what a stage wrote is read, and what was damaged is named."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personae import tables
from personae.errors import BadTable
from train.grouping.inputs import read_predictions

SHARES = [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.125, 0.125, 0.75]]
FACTS = {"label": [0, 1, 2], "predicted": [0, 1, 1]}


@pytest.fixture
def stored(tmp_path):
    """Writes a table of three images and labels: `stored(predicted=…)` replaces columns."""

    def write(**changed):
        path = tmp_path / "validation.parquet"
        columns = {**FACTS, "probabilities": SHARES} | changed
        tables.write(path, pa.table(columns))
        return path

    return write


@pytest.mark.parametrize("labels", [3, None])
def test_predictions_are_read(stored, labels):
    """Integers of any width and lists of numbers are labels and probabilities."""
    predictions = read_predictions(stored(), labels=labels)

    assert ([0, 1, 2], [0, 1, 1]) == (predictions.labels.tolist(), predictions.predicted.tolist())
    assert np.array_equal(np.array(SHARES), predictions.probabilities)
    assert pa.int64() == pq.read_schema(stored()).field("label").type


@pytest.mark.parametrize(
    "changed",
    [
        {"probabilities": [row[1:] for row in SHARES]},
        {"probabilities": [SHARES[0][1:], *SHARES[1:]]},
        {"probabilities": [[float("nan")] * 3, *SHARES[1:]]},
        {"probabilities": [None, *SHARES[1:]]},
        {"probabilities": [[None, 0.5, 0.5], *SHARES[1:]]},
        {"probabilities": ["x"] * 3},
        {"label": [0, 1, 99]},
        {"label": [0, None, 1]},
        {"predicted": [0, 1, -1]},
        {"predicted": ["x"] * 3},
    ],
)
def test_damaged_predictions_are_named(stored, changed):
    """Predictions of other labels, or that are no numbers, give an error that names the file."""
    with pytest.raises(BadTable, match=r"validation\.parquet"):
        read_predictions(stored(**changed), labels=3)
