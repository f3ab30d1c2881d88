"""The answer of the README: every hierarchy beside a flat network of equal training operations."""

import math
import statistics
from typing import Any

from generators import finalists
from generators.records import (
    COMPARED,
    LADDERS,
    LEVEL,
    LONG,
    MEASURES,
    METHODS,
    PARTWISE,
    Records,
    accuracies,
    by_budget,
    compared,
    differences,
    flat_epochs,
    interval,
    longer,
    prediction_costs,
    recorded,
    test_images,
    training_operations,
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
    route, full, apart = _partwise("msr"), _partwise("msr_full"), _resnet20()
    if max(*route, *full) >= 0:
        raise ValueError("A hierarchy is ahead of its control: write the first sentence anew.")
    paths, shuffled = (
        differences(compared()["methods"], run, to=_control("dhnn"), measure="msr_full")
        for run in ("dhnn", "dhnn_random")
    )
    if not interval(paths)[0] < 0 < interval(shuffled)[0]:
        raise ValueError("dhnn or its random groups changed: write the sentence of dhnn anew.")
    protocol = finalists.sentence()
    sentences = [
        (
            f"**Short trainings: no.** At {span(_epochs())} epochs no tree whose parts start from a "
            f"trained flat network (`{'`, `'.join(PARTWISE)}`) beat a flat network trained with as "
            f"many operations. All {len(route)} recorded runs are behind, by {-max(route):.1f} to "
            f"{-min(route):.1f} points; with all branches executed, by {-max(full):.1f} to "
            f"{-min(full):.1f}. One, `hiernet` with ResNet-20 ({apart:+.1f}), is not in "
            "the table. None of these networks has converged."
        ),
        (
            "**Longer trainings: the gap shrinks; none is shown to be ahead at equal cost.** "
            "Points to flat networks trained as long, and the accuracy of flat. "
            + " ".join(map(_longer, longer()))
        ),
        *([protocol] if protocol else []),
        (
            "**Not settled: `merged` and `dhnn`, and whether learned clusters beat random "
            "groups.** In short trainings on the demo `dhnn` differs from its control by "
            f"{_estimate(paths)} points ({len(paths)} seeds, 95 % interval), and with a random tree "
            f"by {_estimate(shuffled)}."
        ),
        (
            "**Few seeds, and predictions of unequal cost.** One seed is a direction, not a result. "
            f"A prediction takes {_costs(set(METHODS) - {'hdcnn'})} times the operations of `flat`, "
            f"with `hdcnn` {_costs({'hdcnn'})}."
        ),
    ]
    return "\n".join(f"{number}. {text}" for number, text in enumerate(sentences, start=1))


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


def _resnet20() -> float:
    """The only comparison with ResNet-20, which the table of the README leaves out."""
    values = _to_controls(compared()["cifar100_resnet20"])
    if list(values) != ["hiernet"] or len(values["hiernet"]) != 1:
        raise ValueError("ResNet-20 has other comparisons: write the first sentence anew.")
    return values["hiernet"][0]


def _control(method: str) -> str:
    return f"{method}_train_flops"


def _cell(values: list[float]) -> str:
    return " / ".join(f"{value:+.1f}" for value in values)


def _longer(preset: str) -> str:
    """Returns how far the methods are from flat networks, and what more epochs bring a flat network."""
    records, short = longer()[preset], compared()[LONG[preset]]
    gains, gaps = _to_controls(records), _to_controls(short)
    means = [statistics.mean(values) for values in gains.values()]
    if min(means) <= min(map(statistics.mean, gaps.values())):
        raise ValueError(f"{preset}: the largest gap has not shrunk: write the sentence anew.")
    (before, after, most), flat_seeds, factor = _flat(preset)
    seeds = max(map(len, gains.values()))
    data = COMPARED[LONG[preset]]
    return (
        f"{data[0].upper()}{data[1:]}, {flat_epochs(records)} epochs: {min(means):+.1f} to "
        f"{max(means):+.1f} ({_methods(len(means))}, {_count(seeds)}); flat {before:.1f} % after "
        f"{flat_epochs(short)} epochs, {after:.1f} after {flat_epochs(records)}, {most:.1f} after "
        f"{factor:.1f} times as many ({_count(flat_seeds)}).{_ahead(records, gains)}"
    )


def _methods(count: int) -> str:
    return f"{count} methods" if count == len(METHODS) else f"{count} of {len(METHODS)} methods"


def _ahead(records: Records, gains: dict[str, list[float]]) -> str:
    """Returns the methods that are clearly ahead of their control, with what a prediction of them costs."""
    ahead = [
        f" `{method}` is ahead by {statistics.mean(values):+.1f}, with "
        f"{statistics.mean(prediction_costs(records, method)):.1f} times flat's operations per "
        f"prediction{_with_random_groups(records, method)}."
        f"{_to_equal_predictions(records, method)}"
        for method, values in gains.items()
        if statistics.mean(values) > _chance(records, method)
    ]
    return "".join(ahead)


def _chance(records: Records, method: str) -> float:
    """
    Returns the points by which two equal networks may differ: half of the 95 % interval of a difference.

    It is that of accuracies on independent test images, so it is wider than that on the same images.
    """
    share = statistics.mean(accuracies(records, method, measure=MEASURES[method])) / 100
    return 100 * 1.96 * math.sqrt(2 * share * (1 - share) / test_images(records))


def _with_random_groups(records: Records, method: str) -> str:
    values = differences(records, f"{method}_random", to=_control(method), measure=MEASURES[method])
    return f"; with random groups by {statistics.mean(values):+.1f}" if values else ""


def _to_equal_predictions(records: Records, method: str) -> str:
    """
    Returns how far a flat network is ahead of the method whose predictions cost as much.

    Raises:
        ValueError: None is recorded, or it is not ahead: the sentence and its heading must be written
            anew.
    """
    values = differences(records, method, to=f"{method}_macs", measure=MEASURES[method])
    if not values or statistics.mean(values) > -LEVEL:
        raise ValueError(f"{method} is ahead at equal cost too, or that is open: write it anew.")
    return f" A wider flat network with predictions as costly is {-statistics.mean(values):.1f} ahead of it."


def _flat(preset: str) -> tuple[list[float], int, float]:
    """
    Returns the accuracy of flat after the short, the long and the longest training of all.

    With it the number of seeds that all three have, and the operations of the longest training
    relative to those of the long one.
    """
    if preset in LADDERS:
        ladder = recorded(LADDERS[preset])
        runs = [ladder[name] for name in ("flat", "flat_128", "flat_256")]
    else:
        records, short = longer()[preset], compared()[LONG[preset]]
        longest = max(
            map(_control, _to_controls(records)), key=lambda run: _operations(records[run])
        )
        runs = [short["flat"], records["flat"], records[longest]]
    seeds = set.intersection(*map(set, runs))
    means = [statistics.mean(100 * run[seed]["metrics"]["msr"] for seed in seeds) for run in runs]
    return means, len(seeds), _operations(runs[2]) / _operations(runs[1])


def _count(seeds: int) -> str:
    return f"{seeds} seed{'s' if seeds > 1 else ''}"


def _to_controls(records: Records) -> dict[str, list[float]]:
    """By method, the differences to the flat network of equal training operations."""
    gains = {
        method: differences(records, method, to=_control(method), measure=MEASURES[method])
        for method in METHODS
    }
    return {method: values for method, values in gains.items() if values}


def _operations(runs: dict[int, dict[str, Any]]) -> float:
    return statistics.mean(map(training_operations, runs.values()))
