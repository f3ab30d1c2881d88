"""
Times as the board writes them: US Eastern with its daylight saving, to the millisecond.

The rule is written out so that no time-zone database is needed.
"""

from datetime import UTC, datetime, timedelta, timezone

_WINTER = timezone(timedelta(hours=-5))
_SUMMER = timezone(timedelta(hours=-4))


def eastern(ms: int) -> str:
    """ISO 8601 of milliseconds since 1970, with `-04:00` in summer and `-05:00` in winter."""
    moment = datetime.fromtimestamp(ms / 1000, tz=UTC)
    local = moment.astimezone(_SUMMER if _is_summer(moment) else _WINTER)
    return local.isoformat(timespec="milliseconds")


def from_eastern(text: str) -> float:
    """
    Milliseconds since 1970 of a date (its first moment) or a time, Eastern unless it says else.

    Raises ValueError when the text is neither.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        winter = moment.replace(tzinfo=_WINTER)
        moment = moment.replace(tzinfo=_SUMMER) if _is_summer(winter) else winter
    return moment.timestamp() * 1000


def _is_summer(moment: datetime) -> bool:
    """From the second Sunday of March, 2:00, to the first of November, 2:00 (7:00 and 6:00 UTC)."""
    year = moment.year
    start = datetime(year, 3, 14 - datetime(year, 3, 1, tzinfo=UTC).weekday(), 7, tzinfo=UTC)
    end = datetime(year, 11, 7 - datetime(year, 11, 1, tzinfo=UTC).weekday(), 6, tzinfo=UTC)
    return start <= moment < end
