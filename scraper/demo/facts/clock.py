"""
Times as Danbooru writes them: US Eastern time with daylight saving, to the millisecond.

The daylight-saving rule is written out, so that no time-zone database is needed.
"""

from datetime import UTC, datetime, timedelta, timezone

_WINTER = timezone(timedelta(hours=-5))
_SUMMER = timezone(timedelta(hours=-4))


def eastern(ms: int) -> str:
    """
    Returns the ISO 8601 text of a time, with offset `-04:00` in summer and `-05:00` in winter.

    Args:
        ms: Milliseconds since 1970, UTC.
    """
    moment = datetime.fromtimestamp(ms / 1000, tz=UTC)
    local = moment.astimezone(_SUMMER if _is_summer(moment) else _WINTER)
    return local.isoformat(timespec="milliseconds")


def from_eastern(text: str) -> float:
    """
    Returns the milliseconds since 1970, UTC, of an ISO 8601 date or time.

    A date stands for its first moment. A text without an offset is in Eastern time.

    Raises:
        ValueError: The text is neither a date nor a time.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        winter = moment.replace(tzinfo=_WINTER)
        moment = moment.replace(tzinfo=_SUMMER) if _is_summer(winter) else winter
    return moment.timestamp() * 1000


def _is_summer(moment: datetime) -> bool:
    """
    Returns whether daylight saving time applies in the United States.

    It lasts from 2:00 on the second Sunday of March (7:00 UTC) to 2:00 on the first Sunday of
    November (6:00 UTC): Energy Policy Act of 2005, section 110.
    """
    year = moment.year
    start = datetime(year, 3, 14 - datetime(year, 3, 1, tzinfo=UTC).weekday(), 7, tzinfo=UTC)
    end = datetime(year, 11, 7 - datetime(year, 11, 1, tzinfo=UTC).weekday(), 6, tzinfo=UTC)
    return start <= moment < end
