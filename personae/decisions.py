"""The columns of the table `decisions`, which each deciding stage writes."""

import pyarrow as pa

DECISIONS = pa.schema(
    {
        "post_id": pa.int64(),
        "stage": pa.string(),
        "kept": pa.bool_(),
        "reason": pa.string(),
        "measured": pa.float64(),
        "threshold": pa.float64(),
    }
)
"""
Columns of `decisions.parquet`.

A post that the stage kept has one row without a reason. A refused post has one row for each rule
that it failed, with the measured number and the threshold.
"""
