"""
Complete images per second when one request in ten fails, against the same board without faults.

Refused requests, broken connections, cut, foreign and undecodable bodies strike other addresses in every
run. Every image must arrive.
"""

import itertools
import statistics

import requests

from benchmarks.shared import board, pairs
from benchmarks.shared.result import Result

BAR = 1.3
FAULTS = (
    "server_error=0.015",
    "bad_gateway=0.01",
    "unavailable=0.015",
    "reset=0.02",
    "reset_in_body=0.02",
    "short_file=0.01",
    "html_as_image=0.01",
)


def run() -> Result:
    """Returns the median ratio of the times, with faults to without."""
    with board.served("--control") as (url, root):
        numbers = itertools.count()

        def scrape(*faults: str) -> int:
            board.set_faults(url, faults)
            return board.scrape(url, root / f"run{next(numbers)}")

        ratios, rates = pairs.compared(scrape, lambda: scrape(*FAULTS))
        log = requests.get(f"{url}/demo/log.json", timeout=60).json()
    value = statistics.median(ratios)
    return Result(
        value=value,
        unit="of the time without faults; every image complete",
        bar=f"<= {BAR:g}",
        ok=value <= BAR,
        runs=ratios,
        details={
            "share_complete": 1.0,  # `board.scrape` ends the benchmark otherwise
            "images_per_second_calm": rates["ours"],
            "images_per_second_with_faults": rates["theirs"],
            "faults": FAULTS,
            "requests": log["requests"],
            "statuses": log["statuses"],
            "latency_seconds": board.LATENCY_SECONDS,
        },
    )
