"""The answer of the README: every hierarchy beside a flat network of equal training operations."""

import statistics
from typing import Any

from generators.records import COMPARED, METHODS, PARTWISE, compared, differences, interval
from generators.text import span, table


def answer() -> str:
    """
    Returns one row per method: the difference to its control, for each data set and seed.

    The control is a flat network trained with as many operations as the hierarchy needs, the flat
    network that it starts from included (runs `METHOD_train_flops`).
    """
    sets = {name: records for name, records in compared().items() if name != "cifar100_resnet20"}
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
    route, full = _partwise("msr"), _partwise("msr_full")
    if max(*route, *full) >= 0:
        raise ValueError("A hierarchy is ahead of its control: write the first sentence anew.")
    dhnn = differences(compared()["methods"], "dhnn", to=_control("dhnn"), measure="msr_full")
    low, high = interval(dhnn)
    if not low < 0 < high:
        raise ValueError("The interval of dhnn does not hold zero: write the third sentence anew.")
    return "\n".join(
        [
            (
                "1. **At equal training cost: no.** No tree whose parts start from a trained flat "
                f"network (`{'`, `'.join(PARTWISE)}`) beat a flat network trained with as many "
                f"operations: all {len(route)} recorded runs are behind, by {-max(route):.1f} to "
                f"{-min(route):.1f} points (with all branches executed by {-max(full):.1f} to "
                f"{-min(full):.1f})."
            ),
            (
                f"2. **Only for short trainings.** The flat networks trained {span(_epochs())} "
                "epochs, on two CPU cores. Nothing has converged, so nothing follows for long "
                "trainings."
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
                "5. **Few seeds.** Seeds 0, 1 and 2 of every method on the demo; on illustrations "
                "and CIFAR-100 the same of `uppsala` and `hiernet`, and "
                f"{span(_fewest_seeds())} seeds of `hdcnn`, `merged` and `dhnn`, which give a "
                "direction and no result."
            ),
        ]
    )


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


def _fewest_seeds() -> list[int]:
    return [
        len(records[method])
        for name, records in compared().items()
        for method in ("hdcnn", "merged", "dhnn")
        if name != "methods" and method in records
    ]


def _control(method: str) -> str:
    return f"{method}_train_flops"


def _cell(values: list[float]) -> str:
    return " / ".join(f"{value:+.1f}" for value in values)


def _images(records: dict[str, Any]) -> int:
    return next(iter(records["flat"].values()))["metrics"]["n_test"]
