"""The committed results of the benchmarks, each with its bar, its number of runs and their spread."""

import json

from generators.text import ROOT, rounded, span, table


def bars() -> str:
    """Returns one row per committed result; a missed bar stays in the table."""
    rows, machines = [], []
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        rows.append(
            [
                f"`{path.stem}`",
                f"{rounded(result['value'])} {result['unit']}",
                result["bar"],
                "yes" if result["ok"] else "**no**",
                len(result["runs"]),
                span(result["runs"], rounded),
                result["recorded"],
                f"`{result['commit']}`",
            ]
        )
        machines.append(
            f"{result['machine']['cpu_cores']} {result['machine']['architecture']} cores"
        )
    columns = ("benchmark", "value", "bar", "met", "runs", "min to max", "recorded", "commit")
    return f"{table(columns, rows)}\n\nMachines: {', '.join(sorted(set(machines)))}."
