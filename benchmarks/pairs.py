"""Two programs timed side by side in one run, in turns, so that both meet the same machine."""

import statistics
import time
from collections.abc import Callable

RUNS = 5


def rate(pictures: Callable[[], int]) -> float:
    """Images per second of one call, which returns how many there were."""
    began = time.perf_counter()
    count = pictures()
    return count / (time.perf_counter() - began)


def compared(
    ours: Callable[[], int], theirs: Callable[[], int], *, runs: int = RUNS
) -> tuple[list[float], dict[str, list[float]]]:
    """The ratios ours / theirs of `runs` turns after one for warmth, and both rates of each."""
    rate(ours), rate(theirs)
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(runs):
        rates["ours"].append(rate(ours))
        rates["theirs"].append(rate(theirs))
    ratios = [one / two for one, two in zip(rates["ours"], rates["theirs"], strict=True)]
    return ratios, {name: [round(value, 1) for value in found] for name, found in rates.items()}


def medians(rates: dict[str, list[float]]) -> dict[str, float]:
    """The median rate of each side."""
    return {name: statistics.median(found) for name, found in rates.items()}
