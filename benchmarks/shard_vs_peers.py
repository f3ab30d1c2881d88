"""
From local images to shards, against the best of litData, img2dataset and MosaicML streaming.

What each program does more and less than the others stands in `benchmarks/shared/shard_programs.py`.
The loop with webdataset's writer is no peer, since it is the user's own program; it stands in the details.
"""

import statistics

from benchmarks.shared import pairs, shard_programs
from benchmarks.shared.result import Result

BAR, RUNS = 1.5, 5


def run() -> Result:
    """Returns the median ratio of images per second to the best peer of the round."""
    with shard_programs.prepared() as programs:
        rates = pairs.in_rounds(
            {
                "ours": programs.ours,
                "litdata": programs.litdata,
                "img2dataset": programs.img2dataset,
                "mosaic": programs.mosaic,
                "webdataset": programs.webdataset,
            },
            runs=RUNS,
        )
    best = [max(theirs) for theirs in zip(*(rates[name] for name in _PEERS), strict=True)]
    ratios = [our / their for our, their in zip(rates["ours"], best, strict=True)]
    value = statistics.median(ratios)
    return Result(
        value=value,
        unit="times the images per second of the best peer",
        bar=f">= {BAR:g}",
        ok=value >= BAR,
        runs=ratios,
        peer=f"{', '.join(_PEERS.values())}; two processes each",
        details={
            "images": shard_programs.IMAGES,
            "images_per_second": {
                name: [round(rate, 1) for rate in values] for name, values in rates.items()
            },
            "times": {
                name: pairs.median_ratio(rates["ours"], rates[name])
                for name in rates
                if name != "ours"
            },
        },
        commands=["PERSONAE_TEST_DATA=FOLDER python -m benchmarks shard_vs_peers"],
    )


_PEERS = {
    "litdata": shard_programs.LITDATA,
    "img2dataset": shard_programs.IMG2DATASET,
    "mosaic": shard_programs.MOSAIC,
}
