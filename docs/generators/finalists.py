"""The tests of experiments/PROTOCOL.md as tables: each finalist against each of its controls."""

import json
from typing import Any

from generators.records import LEVEL
from generators.text import ROOT, table

_RESULTS = ROOT / "benchmarks" / "results"
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


def finalists(test: str) -> str:
    """Returns one row per comparison of a test."""
    return _table(_details(test)["comparisons"])


def sentence() -> str:
    """
    Returns the sentence of the summary.

    Raises:
        ValueError: A finalist wins, or `recover` is ahead of one tail: the answer must be written anew.
    """
    details, narrow = _details("finalists"), _details("narrow")
    if details["winners"] or narrow["winners"]:
        raise ValueError("A finalist is ahead of all its controls: write the answer anew.")
    rows, of_narrow = _by_pair(details), _by_pair(narrow)
    to_one = [each["recover", "recover_one"] for each in (rows, of_narrow)]
    if max(abs(row["difference"]) for row in to_one) >= LEVEL:
        raise ValueError("recover and one tail are no longer level: write the answer anew.")
    seeds = len(to_one[0]["by_seed"])
    return (
        f"**By a protocol written in advance: no hierarchy is shown to help.** The demo, 128 epochs, "
        f"{seeds} fresh seeds (`experiments/PROTOCOL.md`). Points, with 95 % intervals: targets "
        f"smoothed inside the families of look-alikes {_measured(rows['tree_s30', 'flat'])} to "
        f"`flat`; targets learned online, without a tree, {_measured(rows['online', 'flat'])}; "
        f"`recover`, tails over look-alikes behind an early exit, "
        f"{_measured(rows['recover', 'flat'])}, in a network of an eighth of the width "
        f"{_measured(of_narrow['recover', 'flat'])}. But one tail over all labels, without a "
        f"tree, is as accurate: `recover` differs from it by {' and '.join(map(_measured, to_one))}."
    )


def _by_pair(details: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Returns the comparisons by finalist and control."""
    return {(row["finalist"], row["control"]): row for row in details["comparisons"]}


def _measured(row: dict[str, Any]) -> str:
    return f"{row['difference']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"


def _details(test: str) -> dict[str, Any]:
    path = _RESULTS / f"{test}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))["details"])


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
