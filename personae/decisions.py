"""The columns of the table `decisions`, which each deciding stage writes."""

from typing import Any

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


def table(
    stage: str, post_ids: Any, reasons: pa.Array, *, measured: pa.Array, threshold: pa.Array
) -> pa.Table:
    """
    Returns rows of `DECISIONS` from columns; a post whose reason is null is kept.

    Args:
        stage: The stage that decided.
        post_ids: Ids, `[rows]`.
        reasons: Reason codes.
        measured: Measured numbers; null where the reason compares no numbers.
        threshold: The numbers that they were compared with.
    """
    columns = {
        "post_id": post_ids,
        "stage": pa.repeat(stage, len(post_ids)),
        "kept": reasons.is_null(),
        "reason": reasons,
        "measured": measured,
        "threshold": threshold,
    }
    return pa.table(columns, schema=DECISIONS)
