"""Reads the inputs of stage `clustering`: the flat network's labels and predictions, and families."""

import json
from pathlib import Path

import numpy as np

from personae import stages
from personae.errors import BadParams, BadTable, MissingInput
from train.evaluation import stored
from train.grouping.predictions import LabelledPredictions


def read_labels(path: Path) -> list[str]:
    """
    Returns the label names in leaf order from the flat network's `model.json`.

    Raises:
        MissingInput: The file is absent, unreadable, or has no labels.
        BadParams: The network was trained on the validation images.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        labels = list(facts["labels"])
    except FileNotFoundError as error:
        raise stages.absent(path, "flat") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingInput(
            f"{path} is unreadable or has no labels ({error!r}). Stage 'flat' writes it: run it first."
        ) from error
    if facts.get("params", {}).get("data", {}).get("train_on_val"):
        raise BadParams(
            f"The network in {path.parent} was trained on its validation images "
            "(data.train_on_val), so its mistakes on them do not show which labels it confuses. "
            "Train without data.train_on_val before grouping."
        )
    return labels


def read_predictions(path: Path, *, labels: int | None = None) -> LabelledPredictions:
    """
    Returns a table of predictions that stage `flat` or `evaluate` wrote.

    Args:
        path: The table.
        labels: Number of labels; None: as many as the first image has probabilities.

    Raises:
        MissingInput: The file is absent or no Parquet file.
        MissingColumn: A column is absent.
        BadTable: A column has another type, or refers to other labels.
    """
    table = stored.read(path, ("label", "predicted"), ("probabilities",), stage="flat")
    if labels is None:
        labels = len(table["probabilities"][0].as_py() or ()) if len(table) else 0
    true, predicted = (table[name].to_numpy().astype(np.int64) for name in ("label", "predicted"))
    rows = stored.matrix(table, "probabilities", columns=labels, path=path, stage="flat")
    if rows is None or not all(0 <= leaf < labels for leaf in {*true, *predicted}):
        raise BadTable(f"{path} holds no predictions of {labels} labels. Run stage 'flat' again.")
    return LabelledPredictions(labels=true, predicted=predicted, probabilities=rows)


def read_families(path: Path) -> dict[str, str | None]:
    """
    Returns the family (copyright) of each label from the data set's `classes.json`.

    The mapping is empty if the data set has no families.

    Raises:
        MissingInput: The file is absent, unreadable, or its `copyright` is no mapping.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).get("copyright", {}))
    except FileNotFoundError as error:
        raise stages.absent(path, "shards") from error
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise MissingInput(
            f"{path} is unreadable or has no labels ({error!r}). Stage 'shards' writes it: run it "
            "first."
        ) from error
