"""Tables and numbers in Markdown, and the marked parts of a document."""

import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The folder of the repository."""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def mean_and_deviation(values: Sequence[float], digits: int = 1) -> str:
    """Returns the mean, and the standard deviation where there are several values."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def mean(values: Sequence[float], digits: int = 1) -> str:
    """Returns the mean, or nothing where there are no values."""
    return f"{statistics.mean(values):.{digits}f}" if values else ""


def rounded(value: float) -> str:
    """Returns a number with three digits, or as a whole number from a hundred on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def span(values: Sequence[float], form: Callable[[float], str] = "{:g}".format) -> str:
    """Returns the smallest and the largest value, or the only one."""
    ends = [form(value) for value in (min(values), max(values))] if values else []
    return " to ".join(dict.fromkeys(ends))


def gain(values: Sequence[float]) -> str:
    """Returns the mean of signed differences, and their smallest and largest where there are several."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):+.1f}"
    return mean if len(values) == 1 else f"{mean} ({span(values, '{:+.1f}'.format)})"


def fill(text: str, parts: Mapping[str, str | None]) -> str:
    """
    Returns `text` with what stands between each pair of markers replaced.

    The markers of part NAME are `<!-- NAME -->` and `<!-- /NAME -->`, with what follows a colon
    in NAME left out of the second. A part that is None stays as it is.
    """
    for name, part in parts.items():
        if part is None:
            continue
        pattern = rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{name.split(':')[0]} -->)"
        body = f"{part}\n" if part else ""
        text = re.sub(pattern, lambda m, body=body: m[1] + body + m[2], text, flags=re.DOTALL)
    return text
