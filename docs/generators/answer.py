"""The answer of the README: every hierarchy beside a flat network of equal training operations."""

import statistics

from generators.records import COMPARED, METHODS, PARTWISE, compared, differences, interval
from generators.text import table


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
    columns = [
        "method",
        *(f"{COMPARED[name]} (n = {_images(records)})" for name, records in sets.items()),
    ]
    return table(columns, rows)


def summary() -> str:
    """Returns the sentences of the answer that hold figures."""
    best = {"default": -100.0, "full": -100.0}
    worst, runs = 100.0, 0
    for records in compared().values():
        for method in PARTWISE:
            for mode, measure in (("default", "msr"), ("full", "msr_full")):
                values = differences(records, method, to=_control(method), measure=measure)
                if values:
                    best[mode] = max(best[mode], *values)
                    if mode == "default":
                        worst, runs = min(worst, *values), runs + len(values)
    demo = compared()["methods"]
    dhnn = differences(demo, "dhnn", to=_control("dhnn"), measure="msr_full")
    low, high = interval(dhnn)
    return "\n".join(
        [
            (
                "1. **At equal training cost: no.** No tree whose parts start from a trained flat "
                f"network (`{'`, `'.join(PARTWISE)}`) beat a flat network trained with as many "
                f"operations: {runs} of {runs} recorded runs are behind, by {-best['default']:.1f} to "
                f"{-worst:.1f} points (with all branches executed by at least {-best['full']:.1f})."
            ),
            (
                "2. **Only for short trainings.** All networks trained 5 to 16 epochs on two CPU "
                "cores. Nothing has converged, so nothing follows for long trainings."
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
                "5. **Few seeds.** Seeds 0, 1 and 2 of every method on the demo, of `uppsala` and "
                "`hiernet` on all sets; elsewhere `hdcnn`, `merged` and `dhnn` have "
                f"{_fewest_seeds()}, which gives a direction and no result."
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


def _fewest_seeds() -> str:
    counts = [
        len(records[method])
        for name, records in compared().items()
        for method in ("hdcnn", "merged", "dhnn")
        if name != "methods" and method in records
    ]
    return "one seed" if max(counts) == 1 else f"{min(counts)} or {max(counts)} seeds"


def _control(method: str) -> str:
    return f"{method}_train_flops"


def _cell(values: list[float]) -> str:
    return " / ".join(f"{value:+.1f}" for value in values)


def _images(records: dict) -> int:
    return next(iter(records["flat"].values()))["metrics"]["n_test"]
