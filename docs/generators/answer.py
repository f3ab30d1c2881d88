"""The answer of the README: every hierarchy beside a flat network of equal training operations."""

import statistics
from typing import Any

from generators import finalists
from generators.records import (
    COMPARED,
    METHODS,
    PARTWISE,
    Records,
    accuracies,
    compared,
    differences,
    interval,
    recorded,
)
from generators.text import span, table

_THREE, _FIRST = [0, 1, 2], [0]
_FEW = {"uppsala": _THREE, "hiernet": _THREE, "hdcnn": _FIRST, "merged": _FIRST, "dhnn": _FIRST}
_SEEDS = {"methods": dict.fromkeys(METHODS, _THREE), "illustrations": _FEW, "cifar100_small": _FEW}
"""The seeds with a control, as the fifth sentence of the summary states them."""


def answer() -> str:
    """
    Returns one row per method: the difference to its control, for each data set and seed.

    The control is a flat network trained with as many operations as the hierarchy needs, the flat
    network that it starts from included (runs `METHOD_train_flops`).
    """
    sets = _tabulated()
    rows = [
        [
            f"`{method}`",
            *(
                _cell(differences(records, method, to=_control(method)))
                for records in sets.values()
            ),
        ]
        for method in METHODS
    ]
    columns = [f"{COMPARED[name]} (n = {_images(records)})" for name, records in sets.items()]
    return table(("method", *columns), rows)


def summary() -> str:
    """
    Returns the sentences of the answer, with their figures.

    Raises:
        ValueError: A record contradicts a sentence, which must then be written anew.
    """
    route, full, apart = _partwise("msr"), _partwise("msr_full"), _resnet20()
    if max(*route, *full) >= 0:
        raise ValueError("A hierarchy is ahead of its control: write the first sentence anew.")
    dhnn = differences(compared()["methods"], "dhnn", to=_control("dhnn"), measure="msr_full")
    low, high = interval(dhnn)
    if not low < 0 < high:
        raise ValueError("The interval of dhnn does not hold zero: write the third sentence anew.")
    if _seeds_with_control() != _SEEDS:
        raise ValueError("Other seeds have a control: write the fifth sentence anew.")
    converged = finalists.sentence()
    return "\n".join(
        [
            (
                "1. **At equal training cost: no.** No tree whose parts start from a trained flat "
                f"network (`{'`, `'.join(PARTWISE)}`) beat a flat network trained with as many "
                f"operations. All {len(route)} recorded runs are behind, by {-max(route):.1f} to "
                f"{-min(route):.1f} points. With all branches executed, they are behind by "
                f"{-max(full):.1f} to {-min(full):.1f} points. The table of differences has "
                f"{len(route) - 1} of these runs; the other is `hiernet` with ResNet-20 on "
                f"CIFAR-100 ({apart:+.1f} points, seed 0, n = 10000)."
            ),
            (
                f"2. **Only for short trainings.** The flat networks trained {span(_epochs())} "
                "epochs, on two CPU cores. None of these runs has converged, so nothing follows for "
                f"long trainings. {_ladder()}"
            ),
            (
                "3. **Not settled: `merged` and `dhnn`.** They train from scratch. `dhnn` with all "
                f"paths counted differs from its control by {statistics.mean(dhnn):+.1f} points on "
                f"the demo ({len(dhnn)} seeds, 95 % interval {low:+.1f} to {high:+.1f})."
            ),
            (
                "4. **Not settled: do learned clusters beat random groups?** The recorded trainings "
                "are too short to decide it."
            ),
            (
                "5. **Few seeds.** Demo: seeds 0, 1, 2 of every method. Illustrations and CIFAR-100: "
                "seeds 0, 1, 2 of `uppsala` and `hiernet`, seed 0 of the others (seeds that have a "
                "control). One seed is a direction, not a result."
            ),
            *([f"6. {converged}"] if converged else []),
        ]
    )


def _tabulated() -> dict[str, Records]:
    """The records that the table of the README shows, by preset."""
    return {name: records for name, records in compared().items() if name != "cifar100_resnet20"}


def noise() -> str:
    """Returns how far two flat networks of the demo differ that have almost the same size."""
    values = differences(compared()["methods"], "uppsala_macs")
    return (
        "`uppsala_macs` is a flat network with other initial weights and 0.5 % more parameters. It "
        f"differs from `flat` by {', '.join(f'{value:+.1f}' for value in values)} points (seeds 0, "
        "1, 2): a difference below about five points over three seeds says little unless every "
        "seed agrees."
    )


def _partwise(measure: str) -> list[float]:
    return [
        value
        for records in compared().values()
        for method in PARTWISE
        for value in differences(records, method, to=_control(method), measure=measure)
    ]


def _epochs() -> list[int]:
    return [
        record["params"]["loop"]["epochs"]
        for records in compared().values()
        for record in records["flat"].values()
    ]


def _resnet20() -> float:
    """The only comparison with ResNet-20, which the table of the README leaves out."""
    records = compared()["cifar100_resnet20"]
    values = {
        method: differences(records, method, to=_control(method))
        for method in METHODS
        if records.get(_control(method))
    }
    if list(values) != ["hiernet"] or len(values["hiernet"]) != 1:
        raise ValueError("ResNet-20 has other comparisons: write the first sentence anew.")
    return values["hiernet"][0]


def _seeds_with_control() -> dict[str, dict[str, list[int]]]:
    """By data set and method, the seeds of which both the run and its control are recorded."""
    return {
        name: {
            method: sorted(set(records[method]) & set(records[_control(method)]))
            for method in METHODS
        }
        for name, records in _tabulated().items()
    }


def _control(method: str) -> str:
    return f"{method}_train_flops"


def _cell(values: list[float]) -> str:
    return " / ".join(f"{value:+.1f}" for value in values)


def _images(records: dict[str, Any]) -> int:
    return next(iter(records["flat"].values()))["metrics"]["n_test"]


def _ladder() -> str:
    """Returns how far the flat network of the demo is from its best budget, from the records."""
    ladder = recorded("ladder")
    first, best = (accuracies(ladder, run) for run in ("flat", "flat_128"))
    images = next(iter(ladder["flat"].values()))["metrics"]["n_test"]
    return (
        f"On the demo the flat network alone goes from {statistics.mean(first):.1f} to "
        f"{statistics.mean(best):.1f} % when it trains 128 epochs instead of 16 "
        f"({len(best)} seeds, n = {images}). {_converged()}"
    )


def _converged() -> str:
    """Returns how far the methods are from flat networks trained as long, where those have converged."""
    records = recorded("converged")
    gains = [differences(records, method, to=_control(method)) for method in METHODS]
    means = [statistics.mean(values) for values in gains if values]
    seeds = max(map(len, gains))
    return (
        f"There {len(means)} of the {len(METHODS)} methods differ by {min(means):+.1f} to "
        f"{max(means):+.1f} points from flat networks trained as long "
        f"({seeds} seed{'s' if seeds > 1 else ''})."
    )
