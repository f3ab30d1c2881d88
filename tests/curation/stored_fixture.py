"""The samples of a build, read out of its shards by their offsets."""

from pathlib import Path

import pyarrow.parquet as pq


def stored(shards: Path) -> dict[int, tuple[str, str, bytes]]:
    """Returns split, label and image bytes of each sample in the folder `shards`, by post id."""
    samples = {}
    for row in pq.read_table(shards / "samples.parquet").to_pylist():
        content = (shards / row["shard"]).read_bytes()
        image = content[row["image_offset"] : row["image_offset"] + row["image_bytes"]]
        samples[row["post_id"]] = (row["split"], row["label"], image)
    return samples
