"""The answer of the README: every hierarchy beside a flat network of equal training operations."""

import statistics

from generators import finalists, longer
from generators.records import (
    MEASURES,
    METHODS,
    PARTWISE,
    by_budget,
    compared,
    differences,
    interval,
    prediction_costs,
    test_images,
)
from generators.text import span, table


def answer() -> str:
    """
    Returns one row per method: the difference to its control, for each data set and seed.

    The control is a flat network trained with as many operations as the hierarchy needs, the flat
    network that it starts from included (runs `METHOD_train_flops`).
    """
    sets = by_budget()
    rows = [
        [
            f"`{method}`",
            *(
                _cell(differences(records, method, to=_control(method), measure=MEASURES[method]))
                for records in sets.values()
            ),
        ]
        for method in METHODS
    ]
    columns = [f"{name} (n = {test_images(records)})" for name, records in sets.items()]
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
    paths, shuffled = (
        differences(compared()["methods"], run, to=_control("dhnn"), measure="msr_full")
        for run in ("dhnn", "dhnn_random")
    )
    if not interval(paths)[0] < 0 < interval(shuffled)[0]:
        raise ValueError("dhnn or its random groups changed: write the sentence of dhnn anew.")
    sentences = [
        (
            f"**Short trainings, {span(_epochs())} epochs: no.** Trees whose parts start from a "
            f"trained flat network (`{'`, `'.join(PARTWISE)}`) are behind a flat network trained "
            f"with as many operations in all {len(route)} recorded runs, by {-max(route):.1f} to "
            f"{-min(route):.1f} points. `merged` and `dhnn` train from the start and are ahead of "
            f"their controls in some runs, behind in others: on the demo, `dhnn` differs by "
            f"{_estimate(paths)} points ({len(paths)} seeds, 95 % interval), and with a random tree "
            f"by {_estimate(shuffled)}."
        ),
        (
            "**Longer trainings: the gap shrinks; none is shown to be ahead at equal cost** (table "
            f"below).{longer.ahead()}"
        ),
        finalists.sentence(),
        (
            "**Few seeds, and predictions of unequal cost.** One seed is a direction, not a result. "
            f"A prediction takes {_costs(set(METHODS) - {'hdcnn'})} times the operations of `flat`, "
            f"with `hdcnn` {_costs({'hdcnn'})}."
        ),
    ]
    return "\n".join(f"- {text}" for text in sentences)


def noise() -> str:
    """Returns how far two flat networks of the demo differ that have almost the same size."""
    values = differences(compared()["methods"], "uppsala_macs")
    return (
        "`uppsala_macs` is a flat network with other initial weights and 0.5 % more parameters. It "
        f"differs from `flat` by {', '.join(f'{value:+.1f}' for value in values)} points (seeds 0, "
        "1, 2): a difference below about five points over three seeds says little unless every "
        "seed agrees."
    )


def _estimate(values: list[float]) -> str:
    low, high = interval(values)
    return f"{statistics.mean(values):+.1f} ({low:+.1f} to {high:+.1f})"


def _costs(methods: set[str]) -> str:
    """Returns the smallest and the largest mean cost of a prediction in the table, relative to flat."""
    costs = [
        statistics.mean(prediction_costs(records, method))
        for records in by_budget().values()
        for method in methods
        if method in records
    ]
    return span(costs, "{:.1f}".format)


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


def _control(method: str) -> str:
    return f"{method}_train_flops"


def _cell(values: list[float]) -> str:
    return " / ".join(f"{value:+.1f}" for value in values)
