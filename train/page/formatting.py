"""
Numbers as text: shares in percent, differences in points, intervals, counts and times.

Each function takes numbers and returns plain text without markup. Shares are in 0..1.
"""

import math

from train.evaluation.statistics import Interval
from train.page.differences import PairedDifference
from train.page.spread import Spread

NO_CONCLUSION = "one seed, no conclusion"


def percent(share: float | None, *, digits: int = 1) -> str:
    """Returns a share in percent without the sign: 0.7345 gives 73.5; None and NaN give ""."""
    return "" if share is None or math.isnan(share) else f"{100 * share:.{digits}f}"


def points(difference: float, *, digits: int = 1) -> str:
    """Returns a difference of shares in percentage points, always with its sign."""
    text = f"{100 * difference:+.{digits}f}"
    if float(text) == 0:
        return f"±{text[1:]}"
    return text.replace("-", "−")


def between(interval: Interval, *, digits: int = 1) -> str:
    """Returns an interval in percentage points: −0.4 to +2.1."""
    return f"{points(interval.low, digits=digits)} to {points(interval.high, digits=digits)}"


def with_intervals(difference: PairedDifference | None, *, digits: int = 1) -> str:
    """
    Returns a difference in points over two lines, for a cell of a table; None gives "".

    Example:
        +1.6 [−0.4 to +3.6], and below it: 3 seeds [−1.0 to +4.2].
    """
    if difference is None:
        return ""
    images = between(difference.over_images, digits=digits)
    return f"{points(difference.mean, digits=digits)} [{images}]\n{_over_seeds(difference, digits)}"


def brief(difference: PairedDifference) -> str:
    """Returns a difference for a list in a sentence: +1.6 [−0.4 to +3.6; one seed, no conclusion]."""
    images = between(difference.over_images)
    if difference.over_seeds is None:
        return f"{points(difference.mean)} [{images}; {NO_CONCLUSION}]"
    seeds = f"{between(difference.over_seeds)} over {difference.seeds} seeds"
    return f"{points(difference.mean)} [{images} over images; {seeds}]"


def described(difference: PairedDifference) -> str:
    """Returns a difference for a sentence: points, number of seeds and both 95 % intervals."""
    images = f"95 % interval {between(difference.over_images)} over images"
    text = f"{points(difference.mean)} points"
    if difference.over_seeds is None:
        return f"{text} ({NO_CONCLUSION}; {images})"
    return (
        f"{text} ({difference.seeds} seeds; {images}, {between(difference.over_seeds)} over seeds)"
    )


def _over_seeds(difference: PairedDifference, digits: int) -> str:
    if difference.over_seeds is None:
        return NO_CONCLUSION
    return f"{difference.seeds} seeds [{between(difference.over_seeds, digits=digits)}]"


def spread(values: Spread | None, *, digits: int = 1) -> str:
    """Returns a mean in percent, with the standard deviation of two or more seeds."""
    if values is None:
        return ""
    deviation = values.deviation
    more = "" if deviation is None else f" ± {percent(deviation, digits=digits)}"
    return percent(values.mean, digits=digits) + more


def plain_spread(values: Spread) -> str:
    """Returns a mean with three digits, with the standard deviation of two or more seeds."""
    deviation = values.deviation
    return f"{values.mean:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")


def count(value: float) -> str:
    """Returns a whole number with commas between its thousands."""
    return f"{value:,.0f}"


def seconds(value: float) -> str:
    """Returns seconds without the unit: a whole number from 100, else one digit after the point."""
    return count(value) if value >= 100 else f"{value:.1f}"


def milliseconds(value: float | None) -> str:
    """Returns milliseconds with three significant digits, without the unit; None gives ""."""
    return "" if value is None else f"{value:.3g}" if value < 100 else count(value)


def p_value(value: float) -> str:
    """Returns a p value with three digits; below 0.001 only that it is below."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def millions(value: float) -> str:
    """Returns a number in millions with three significant digits."""
    return f"{value / 1e6:.3g}"


def fixed(value: float | None, *, digits: int = 1) -> str:
    """Returns a number with so many digits after the point; None gives ""."""
    return "" if value is None else f"{value:.{digits}f}"
