"""
Images per second of stages `measure` and `shards`, as a share of bare decoding, resizing and encoding.

The limit is a loop in two processes that does nothing else. What ours does more than it stands in
`benchmarks/shared/shard_programs.py`.
"""

import statistics

from benchmarks.shared import pairs, shard_programs
from benchmarks.shared.result import Result

BAR, RUNS = 0.8, 5


def run() -> Result:
    """Returns the median share."""
    with shard_programs.prepared() as programs:
        rates = pairs.in_rounds({"ours": programs.ours, "bare": programs.bare}, runs=RUNS)
    ratios = [our / bare for our, bare in zip(rates["ours"], rates["bare"], strict=True)]
    value = statistics.median(ratios)
    return Result(
        value=value,
        unit="of the images per second of the bare loop",
        bar=f">= {BAR:g}",
        ok=value >= BAR,
        runs=ratios,
        peer="Pillow in two processes: decode, resize, encode, write",
        details={
            "images": shard_programs.IMAGES,
            "images_per_second": {
                name: [round(rate, 1) for rate in values] for name, values in rates.items()
            },
        },
        commands=["PERSONAE_TEST_DATA=FOLDER python -m benchmarks shard_vs_limit"],
    )
