"""The ten queries of `docs/queries.sql`, each with its output on the catalog at hand."""

import re
import subprocess
import sys

from generators.text import ROOT

CATALOG = ROOT / "data" / "catalog" / "catalog.duckdb"


def split_queries() -> list[tuple[str, str]]:
    """Returns title and text of each query: a comment line, then SQL up to the semicolon."""
    text = (ROOT / "docs" / "queries.sql").read_text(encoding="utf-8")
    parts = re.findall(r"^-- (.+)\n((?:(?!--).*\n)*?.*;)$", text, flags=re.MULTILINE)
    return [(title.strip(), query.strip()) for title, query in parts]


def queries() -> str | None:
    """Returns each query with its output; None without a catalog."""
    if not CATALOG.exists():
        return None
    parts = []
    for title, query in split_queries():
        done = subprocess.run(
            [sys.executable, "-m", "curation", "query", query, "--limit", "6"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        shown = done.stdout.rstrip()
        parts.append(f"## {title}\n\n```sql\n{query}\n```\n\n```text\n{shown}\n```")
    return "\n\n".join(parts)
