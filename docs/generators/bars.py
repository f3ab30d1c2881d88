"""The committed results of the benchmarks, each with its bar, its number of runs and their spread."""

import json
from typing import Any

from generators.text import ROOT, span, table


def bars() -> str:
    """Returns one row per committed result; a missed bar stays in the table."""
    rows = []
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        rows.append(
            [
                f"`{path.stem}`",
                f"{result['value']:.3g}",
                result["unit"],
                result["bar"],
                "yes" if result["ok"] else "**no**",
                len(result["runs"]),
                span(result["runs"], "{:.3g}"),
                _cores(result["machine"]),
                f"`{result['commit']}`",
            ]
        )
    columns = ("benchmark", "value", "unit", "bar", "met", "runs", "min to max", "cores", "commit")
    return table(columns, rows)


def _cores(machine: dict[str, Any]) -> str:
    return f"{machine['cpu_cores']} {machine['architecture']}"
