"""Times programs in alternation, so that other load on the machine affects both alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

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


def in_rounds(
    programs: Mapping[str, Callable[[], int]], *, runs: int = RUNS
) -> dict[str, list[float]]:
    """
    Returns the rates of `runs` calls of each program, in images per second.

    In each round every program runs once, and every second round has the reverse order. A first call
    of each warms up and is not counted.
    """
    rates: dict[str, list[float]] = {name: [] for name in programs}
    for program in programs.values():
        rate(program)
    for number in range(runs):
        names = list(programs) if number % 2 == 0 else list(reversed(programs))
        for name in names:
            rates[name].append(rate(programs[name]))
    return rates


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Returns the median ratio of rates that were measured in the same rounds, to three digits."""
    pairs = zip(ours, theirs, strict=True)
    return round(statistics.median(our / their for our, their in pairs), 3)
