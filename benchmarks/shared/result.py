"""The result of a benchmark."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Result:
    """A measured figure with its bar; `value` is the median of `runs` unless `details` says otherwise."""

    value: float
    unit: str
    bar: str
    ok: bool
    runs: list[float]
    peer: str | None = None
    commands: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
