"""Predictions of two runs over the small data folder, and the catalog opened for the browse page."""

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from curation.browse.snapshot import Library

SCHEMA = pa.schema(
    [
        ("post_id", pa.int64()),
        ("split", pa.string()),
        ("white_background", pa.bool_()),
        ("label", pa.int32()),
        ("predicted", pa.int32()),
        ("probabilities", pa.list_(pa.float32())),
    ]
)


def samples(data_dir: Path) -> list[dict[str, Any]]:
    """Returns the rows of samples.parquet."""
    rows: list[dict[str, Any]] = pq.read_table(data_dir / "shards" / "samples.parquet").to_pylist()
    return rows


def write_predictions(data_dir: Path, results_dir: Path) -> list[dict[str, Any]]:
    """Writes runs flat (seeds 0 and 1) and tree (0); every third prediction is wrong."""
    written = []
    for run, seed in (("flat", 0), ("flat", 1), ("tree", 0)):
        rows = []
        for number, sample in enumerate(samples(data_dir)):
            if sample["split"] == "train":
                continue
            predicted = (sample["leaf"] + ((number + seed) % 3 == 0)) % 4
            probabilities = [0.1, 0.1, 0.1, 0.1]
            probabilities[predicted] = 0.7
            row = {"post_id": sample["post_id"], "split": sample["split"], "label": sample["leaf"]}
            row |= {"white_background": False, "predicted": predicted}
            rows.append(row | {"probabilities": probabilities})
        path = results_dir / run / str(seed) / "predictions.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
        written += [row | {"run": run, "seed": seed} for row in rows]
    return written


def opened(data_dir: Path) -> Library:
    """Writes predictions beside a data folder and returns the library of both."""
    results_dir = data_dir.parent / "results"
    write_predictions(data_dir, results_dir)
    return Library(data_dir, results_dir)


def edit_catalog(data_dir: Path, sql: str) -> None:
    """Runs SQL on the catalog, as someone who passes on a crafted one would."""
    with duckdb.connect(str(data_dir / "catalog" / "catalog.duckdb")) as connection:
        connection.execute(sql)
