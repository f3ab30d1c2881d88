"""Makes values of the catalog, of whatever type of DuckDB, values of JSON."""

import datetime as dt
import decimal
import math
from collections.abc import Sequence
from typing import Any


def plain(value: Any) -> Any:
    """Returns the value in a type of JSON."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, float | decimal.Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(inner) for inner in value]
    return value if isinstance(value, bool | int | str | None) else str(value)
