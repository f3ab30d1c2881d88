"""The tests of experiments/PROTOCOL.md as tables: each finalist against each of its controls."""

import json
from typing import Any

from generators.text import ROOT, table

_RESULTS = ROOT / "benchmarks" / "results"
_TREELESS = {"online"}
"""Finalists that learn without a tree."""
_COLUMNS = (
    "finalist",
    "control",
    "difference, points",
    "95 % interval",
    "for each seed",
    "p",
    "p, corrected",
    "training operations / control",
    "E[MAC] / control",
)


def finalists(test: str) -> str | None:
    """Returns one row per comparison of a test; None where it is not recorded."""
    details = _details(test)
    return _table(details["comparisons"]) if details else None


def sentence() -> str | None:
    """Returns the sentence of the summary; None where the test is not recorded."""
    details = _details("finalists")
    if details is None:
        return None
    rows, winners = details["comparisons"], details["winners"]
    hardest: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: float(row["difference"])):
        hardest.setdefault(row["finalist"], row)
    answer = f"`{'`, `'.join(winners)}` helps" if winners else "no hierarchy shown to help"
    differences, treeless = (
        ", ".join(
            f"`{name}` {_measured(row)} to `{row['control']}`"
            for name, row in hardest.items()
            if (name in _TREELESS) == is_treeless
        )
        for is_treeless in (False, True)
    )
    level = [
        f" `{row['finalist']}` is ahead of `flat` by {_measured(row)}, corrected p "
        f"{row['p_holm']:.3f}; but so is `{hardest[row['finalist']]['control']}`, which has no "
        "tree: the gain is not the tree's."
        for row in rows
        if row["control"] == "flat" and row["low"] > 0 and row["finalist"] not in winners
    ]
    return (
        f"**By a protocol written in advance, at 128 epochs: {answer}.** The demo, "
        f"{len(rows[0]['by_seed'])} fresh seeds (`experiments/PROTOCOL.md`). Difference to the "
        f"strongest control in points, 95 % interval: {differences}; without a tree {treeless}."
        f"{''.join(level)}{_narrow()}"
    )


def _narrow() -> str:
    """
    Returns what becomes of `recover` in narrow networks; nothing where the test is not recorded.

    Raises:
        ValueError: `recover` is ahead of a tail without a tree, or behind `flat`: write it anew.
    """
    details = _details("narrow")
    if details is None:
        return ""
    rows = {row["control"]: row for row in details["comparisons"]}
    if details["winners"] or rows["flat"]["low"] <= 0 or rows["recover_one"]["low"] > 0:
        raise ValueError("The test in narrow networks has another outcome: write it anew.")
    return (
        f" In a network of an eighth of the width, too, `recover` is ahead of `flat` by "
        f"{_measured(rows['flat'])}, and of `recover_one` by {_measured(rows['recover_one'])}."
    )


def _measured(row: dict[str, Any]) -> str:
    return f"{row['difference']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"


def _details(test: str) -> dict[str, Any] | None:
    path = _RESULTS / f"{test}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))["details"]) if path.exists() else None


def _table(rows: list[dict[str, Any]]) -> str:
    return table(
        _COLUMNS,
        [
            [
                f"`{row['finalist']}`",
                f"`{row['control']}`",
                f"{row['difference']:+.2f}",
                f"{row['low']:+.2f} to {row['high']:+.2f}",
                " / ".join(f"{value:+.1f}" for value in row["by_seed"]),
                f"{row['p']:.3f}",
                f"{row['p_holm']:.3f}",
                f"{row['train_flops_ratio']:.3f}",
                f"{row['macs_ratio']:.3f}",
            ]
            for row in rows
        ],
    )
