"""
Values of metatags: numbers, dates, sizes, lists and ranges, as Danbooru's `RangeParser` reads them.

In come a text such as `5..9` or `>=5,none` and a function that reads one value; out goes a test.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from scraper.demo.facts.clock import from_eastern

Read = Callable[[str], float]

_DAY_MS = 86_400_000
_DURATIONS = {
    "s": 1,
    "mi": 60,
    "h": 3_600,
    "d": 86_400,
    "w": 604_800,
    "mo": 2_629_746,
    "y": 31_556_952,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|mi|h|d|w|mo|y)[a-z]*")
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\d*\.\d+)([km]?)b?", re.IGNORECASE)


class BadValue(Exception):
    """A value that is no number, date or size: the metatag then matches nothing."""


@dataclass(frozen=True, slots=True)
class ValueRange:
    """Values from `low` to `high`; `open_low` and `open_high` leave the ends out."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value lies inside."""
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)


def within(
    text: str, read: Read, *, around: float = 0.0, width: float = 0.0
) -> Callable[[float | None], bool]:
    """
    Returns the test for `5`, `5,6`, `>5`, `>=5`, `<5`, `<=5`, `5..9`, `5...9`, `5..`, `..5`.

    `any` and `none` ask whether there is a value. A bare value matches within the share `around`,
    or from itself up to `width` above. Raises BadValue when `read` cannot read a value.
    """
    lowered = text.strip().lower()
    if lowered in ("any", "none"):
        return lambda value: (value is None) is (lowered == "none")
    try:
        intervals = [
            _interval(part, read, around=around, width=width)
            for part in re.split("[, ]+", lowered)
            if part
        ]
    except (ValueError, ZeroDivisionError) as error:
        raise BadValue(text) from error
    if not intervals:
        raise BadValue(text)
    return lambda value: value is not None and any(one.holds(value) for one in intervals)


def _interval(text: str, read: Read, *, around: float, width: float) -> ValueRange:
    if match := re.fullmatch(r"(.+?)(\.\.\.?)(.+)", text):
        low, high = sorted((read(match[1]), read(match[3])))
        return ValueRange(low, high, open_high=match[2] == "...")
    if match := re.fullmatch(r"(<=|<|\.\.)(.+)", text):
        return ValueRange(high=read(match[2]), open_high=match[1] == "<")
    if match := re.fullmatch(r"(>=|>)(.+)", text):
        return ValueRange(low=read(match[2]), open_low=match[1] == ">")
    if text.endswith(".."):
        return ValueRange(low=read(text[:-2]))
    value = read(text)
    high = value + width if width else value * (1 + around)
    return ValueRange(value * (1 - around), high, open_high=bool(width))


def integer(text: str) -> float:
    """A whole number."""
    return float(int(text))


def ratio(text: str) -> float:
    """`4:3`, `4/3` or `1.33`, to two digits."""
    over, _, under = text.replace(":", "/").partition("/")
    return round(float(over) / float(under or 1), 2)


def size(text: str) -> float:
    """Bytes: `200`, `5k`, `1.5M`."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return float(match[1]) * {"": 1, "k": 2**10, "m": 2**20}[match[2].lower()]


def duration_ms(text: str) -> float:
    """`2w`, `3d`, `1mo`, in milliseconds."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return float(match[1]) * _DURATIONS[match[2]] * 1000


def date(text: str) -> Callable[[float | None], bool]:
    """The test for `date:`; a bare date means the whole day, Eastern time."""
    return within(text, from_eastern, width=_DAY_MS)


def age(text: str, now_ms: float) -> Callable[[float | None], bool]:
    """The test of a time (milliseconds since 1970) for `age:`, such as `<1w`."""
    aged = within(text, duration_ms, width=_DAY_MS)
    return lambda value: aged(None if value is None else now_ms - value)
