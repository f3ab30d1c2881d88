"""
Values of metatags: numbers, dates, sizes, and lists and ranges of them.

Turns a text such as `5..9` or `>=5,7` into a function that tests a value. The syntax is that of
https://danbooru.donmai.us/wiki_pages/help:cheatsheet, read as in `app/logical/range_parser.rb` of
https://github.com/danbooru/danbooru.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from scraper.demo.facts.clock import from_eastern

Read = Callable[[str], float]
"""Reads one value; raises ValueError or ZeroDivisionError for any other text."""

Test = Callable[[float | None], bool]
"""Tells whether a value matches; None stands for an absent value."""

_DAY_MS = 86_400_000
# Seconds of a unit. Month and year are means of the Gregorian calendar, as in Ruby on Rails.
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
    """A text that is not a value of the metatag. The metatag then matches nothing."""


@dataclass(frozen=True, slots=True)
class ValueRange:
    """The values from `low` to `high`."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    """Whether `low` itself is outside."""
    open_high: bool = False
    """Whether `high` itself is outside."""

    def holds(self, value: float) -> bool:
        """Returns whether a value lies inside."""
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)


def within(text: str, read: Read, *, around: float = 0.0, width: float = 0.0) -> Test:
    """
    Returns the test of a text: `5`, `5,6`, `>5`, `>=5`, `<5`, `<=5`, `5..9`, `5...9`, `5..`, `..5`.

    `any` matches every value that exists, `none` an absent value. In `5...9` the 9 is outside.

    Args:
        text: The text after the metatag's colon.
        read: Reads one value.
        around: Share, 0 to 1, by which a value may differ from a single number.
        width: If not 0, a single number matches from itself up to, not including, `width` more.

    Raises:
        BadValue: `read` cannot read a value of the text.
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
    return lambda value: value is not None and any(part.holds(value) for part in intervals)


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
    """Reads a whole number. ValueError for any other text."""
    return float(int(text))


def ratio(text: str) -> float:
    """
    Reads `4:3`, `4/3` or `1.33` as width divided by height, rounded to two digits.

    Raises:
        ValueError: A part is not a number.
        ZeroDivisionError: The height is zero.
    """
    over, _, under = text.replace(":", "/").partition("/")
    return round(float(over) / float(under or 1), 2)


def size(text: str) -> float:
    """Reads `200`, `5k` or `1.5M` as bytes; k is 1,024 and M its square. ValueError else."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return float(match[1]) * {"": 1, "k": 2**10, "m": 2**20}[match[2].lower()]


def duration_ms(text: str) -> float:
    """Reads `2w`, `3d` or `1mo` as milliseconds. ValueError for any other text."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return float(match[1]) * _DURATIONS[match[2]] * 1000


def date(text: str) -> Test:
    """
    Returns the test of `date:` for a time in milliseconds since 1970, UTC.

    A single date matches the whole day in Eastern time.

    Raises:
        BadValue: The text has no date.
    """
    return within(text, from_eastern, width=_DAY_MS)


def age(text: str, now_ms: float) -> Test:
    """
    Returns the test of `age:`, such as `<1w`, for a time in milliseconds since 1970, UTC.

    Args:
        text: The text after the colon.
        now_ms: The time that ages are relative to, in milliseconds since 1970, UTC.

    Raises:
        BadValue: The text has no duration.
    """
    aged = within(text, duration_ms, width=_DAY_MS)
    return lambda value: aged(None if value is None else now_ms - value)
