"""The five systems in longer trainings: one row per data set, and those that are ahead."""

import math
import statistics
from typing import Any

from generators.records import (
    COMPARED,
    LADDERS,
    LEVEL,
    LONG,
    MEASURES,
    METHODS,
    Records,
    accuracies,
    differences,
    flat_epochs,
    longer,
    prediction_costs,
    recorded,
    test_images,
    training_operations,
)
from generators.text import span, table

_COLUMNS = (
    "data",
    "epochs",
    "seeds",
    "to flat networks trained as long, points",
    "to random groups of the same sizes, points",
    "accuracy of `flat`, %",
)
_EQUAL, _RANDOM = "_train_flops", "_random"
"""Endings of the runs of two controls."""


def longer_trainings() -> str:
    """
    Returns one row per data set: the methods beside two controls, and flat at three budgets.

    Raises:
        ValueError: The largest gap of a data set has not shrunk: the answer must be written anew.
    """
    return table(_COLUMNS, [_row(preset, records) for preset, records in longer().items()])


def ahead() -> str:
    """
    Returns a sentence for each method that is clearly ahead of the flat network of equal training.

    Raises:
        ValueError: No wider flat network of equal predictions is ahead of the method: the answer must
            be written anew.
    """
    return "".join(
        f" `{method}` is ahead on {COMPARED[LONG[preset]]} by {statistics.mean(values):.1f} points, "
        f"with {statistics.mean(prediction_costs(records, method)):.1f} times flat's operations per "
        f"prediction{_with_random_groups(records, method)}. A wider flat network with predictions as "
        f"costly is {_lead_of_equal_predictions(records, method):.1f} points ahead of it."
        for preset, records in longer().items()
        for method, values in _gains(records, _EQUAL).items()
        if statistics.mean(values) > _chance(records, method)
    )


def _row(preset: str, records: Records) -> list[object]:
    short = recorded(LONG[preset])
    gains, before = (
        [statistics.mean(values) for values in _gains(runs, _EQUAL).values()]
        for runs in (records, short)
    )
    if min(gains) <= min(before):
        raise ValueError(f"{preset}: the largest gap has not shrunk: write the answer anew.")
    to_random = [statistics.mean(values) for values in _gains(records, _RANDOM).values()]
    return [
        COMPARED[LONG[preset]],
        flat_epochs(records),
        span(sorted({len(values) for values in _gains(records, _EQUAL).values()})),
        _span(gains),
        _span(to_random),
        _flat(preset, records, short),
    ]


def _span(gains: list[float]) -> str:
    """Returns the range of the methods' gains, and how many have the control."""
    count = f" ({len(gains)} of {len(METHODS)} methods)" if gains else ""
    return f"{span(gains, '{:+.1f}'.format)}{count}"


def _gains(records: Records, ending: str) -> dict[str, list[float]]:
    """By method, the differences to the control of this ending; methods without it are left out."""
    gains = {
        method: differences(
            records,
            method,
            to=f"{method}{ending}",
            measure=MEASURES[method],
            of_other=MEASURES[method] if ending == _RANDOM else "msr",
        )
        for method in METHODS
    }
    return {method: values for method, values in gains.items() if values}


def _chance(records: Records, method: str) -> float:
    """
    Returns the points by which two equal networks may differ: half of the 95 % interval of a difference.

    It is that of accuracies on independent test images, so it is wider than that on the same images.
    """
    share = statistics.mean(accuracies(records, method, measure=MEASURES[method])) / 100
    return 100 * 1.96 * math.sqrt(2 * share * (1 - share) / test_images(records))


def _with_random_groups(records: Records, method: str) -> str:
    values = differences(
        records, f"{method}{_RANDOM}", to=f"{method}{_EQUAL}", measure=MEASURES[method]
    )
    return f"; with random groups by {statistics.mean(values):.1f}" if values else ""


def _lead_of_equal_predictions(records: Records, method: str) -> float:
    """Returns the points by which a flat network is ahead whose predictions cost as much."""
    values = differences(records, method, to=f"{method}_macs", measure=MEASURES[method])
    if not values or statistics.mean(values) > -LEVEL:
        raise ValueError(f"{method} is ahead at equal cost too, or that is open: write it anew.")
    return -statistics.mean(values)


def _flat(preset: str, records: Records, short: Records) -> str:
    """
    Returns the accuracy of flat after a short, a long and a longer training.

    They are budgets of the ladder of the data set; without a ladder, the last is the longest control.
    """
    if preset in LADDERS:
        ladder = recorded(LADDERS[preset])
        runs = [ladder[name] for name in ("flat", "flat_128", "flat_256")]
    else:
        controls = (records[f"{method}{_EQUAL}"] for method in _gains(records, _EQUAL))
        runs = [short["flat"], records["flat"], max(controls, key=_operations)]
    seeds = set.intersection(*map(set, runs))
    before, after, most = (
        statistics.mean(100 * run[seed]["metrics"]["msr"] for seed in seeds) for run in runs
    )
    return (
        f"{before:.1f} after {flat_epochs(short)} epochs, {after:.1f} after "
        f"{flat_epochs(records)}, {most:.1f} after "
        f"{_operations(runs[2]) / _operations(runs[1]):.1f} times as many "
        f"({len(seeds)} seed{'s' if len(seeds) > 1 else ''})"
    )


def _operations(runs: dict[int, dict[str, Any]]) -> float:
    return statistics.mean(map(training_operations, runs.values()))
