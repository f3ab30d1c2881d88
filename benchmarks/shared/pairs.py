"""Times two programs in alternation, so that other load on the machine affects both alike."""

import time
from collections.abc import Callable

RUNS = 5


def rate(program: Callable[[], int]) -> float:
    """Returns the images per second of one call, which returns the number of its images."""
    start = time.perf_counter()
    images = program()
    return images / (time.perf_counter() - start)


def compared(
    ours: Callable[[], int], theirs: Callable[[], int], *, runs: int = RUNS
) -> tuple[list[float], dict[str, list[float]]]:
    """
    Returns the ratios ours / theirs of `runs` calls of each program, and the rates of both.

    A first call of each warms up and is not counted. Rates are in images per second.
    """
    rate(ours), rate(theirs)
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(runs):
        rates["ours"].append(rate(ours))
        rates["theirs"].append(rate(theirs))
    ratios = [our / their for our, their in zip(rates["ours"], rates["theirs"], strict=True)]
    return ratios, {name: [round(value, 1) for value in values] for name, values in rates.items()}
