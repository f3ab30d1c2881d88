"""The five systems in long trainings, each beside its controls."""

import statistics

from generators.records import (
    METHODS,
    PARTWISE,
    Records,
    accuracies,
    differences,
    prediction_costs,
    recorded,
    training_operations,
)
from generators.text import gain, mean_and_deviation, table

_COLUMNS = (
    "method",
    "seeds",
    "accuracy, %",
    "to `flat`",
    "training operations / flat",
    "to `METHOD_train_flops`",
    "with all branches or paths, to `METHOD_train_flops`",
    "to `METHOD_random`",
    "operations per prediction / flat",
    "to `METHOD_macs`",
)
_BRANCHED = (*PARTWISE, "dhnn")
"""Methods that execute a part of their branches by default."""


def systems(preset: str) -> str | None:
    """Returns one row per method: points by which it is ahead of each control; None without records."""
    records = recorded(preset)
    return table(_COLUMNS, [_row(records, method) for method in METHODS]) if records else None


def _row(records: Records, method: str) -> list[object]:
    if method not in records:
        return [f"`{method}`", 0, *([""] * (len(_COLUMNS) - 2))]
    equal = f"{method}_train_flops"
    return [
        f"`{method}`",
        len(records[method]),
        mean_and_deviation(accuracies(records, method)),
        gain(differences(records, method)),
        _operations(records, equal),
        gain(differences(records, method, to=equal)),
        gain(differences(records, method, to=equal, measure="msr_full"))
        if method in _BRANCHED
        else "",
        gain(differences(records, method, to=f"{method}_random")),
        f"{statistics.mean(prediction_costs(records, method)):.2f}",
        gain(differences(records, method, to=f"{method}_macs")),
    ]


def _operations(records: Records, equal: str) -> str:
    """Returns the operations of the control, which are those of the method and the flat network before."""
    ratios = [
        training_operations(record) / training_operations(records["flat"][seed])
        for seed, record in records.get(equal, {}).items()
    ]
    return f"{statistics.mean(ratios):.2f}" if ratios else ""
