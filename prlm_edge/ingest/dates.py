"""Dates in all usual writings as ISO 8601. What can't be told for sure is no date."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

_FIRST_YEAR, _LAST_YEAR = 1000, 2100  # beyond them lie placeholders such as 0001-01-01 and 9999-12-31
_MAX_CHARS = 80  # of a text that is a date
_PREFIX = re.compile(r"[0-9]{4}(-(0[1-9]|1[0-2]))?")
_YEAR_FIRST = re.compile(r"(\d{4})\s?[-/._年 ]\s?(\d{1,2})\s?[-/._月 ]\s?(\d{1,2})日?(?!\d)(?:$|[T,. \d].*)")
_NUMBER = re.compile(r"-?\d{1,20}(\.\d*)?")
_DOT_NET = re.compile(r"/Date\((-?\d+)(?:[+-]\d{4})?\)/")
_UNITS = (1, 1_000, 1_000_000, 1_000_000_000)  # Unix times in seconds, milliseconds, microseconds, nanoseconds
_KEYS = ("$date", "$numberLong", "_seconds", "seconds", "iso")  # of objects that are dates: MongoDB, Firestore, Parse


def iso_date(value: object) -> str:
    """`value` as an ISO date or prefix of one ("2024", "2024-08", "2024-08-01"); "" where it can't be told for sure.

    Understands ISO 8601, RFC 2822, year-first dates, English month names, day and month in bare numbers where one of
    them is beyond 12, Unix times (numbers or digits), and the objects that databases export as dates. A day keeps the
    time zone it is written in; Unix times are read as UTC.
    """
    if isinstance(value, datetime | date):
        return _checked(value)
    if isinstance(value, Mapping):
        return _of_object(value)
    if isinstance(value, list) and len(value) >= 3:  # [2024, 8, 1, ...]
        return _of_numbers(*value[:3])
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _of_text(str(value).strip()) if not isinstance(value, int) or abs(value) < 10**20 else ""


@lru_cache(maxsize=4096)  # a table has many rows of one day, and dates in words take long
def _of_text(text: str) -> str:
    if len(text) > _MAX_CHARS:
        return ""
    return _of_digits(text) or _of_iso(text) or _of_words(text)


def _checked(day: date) -> str:
    return day.isoformat()[:10] if _FIRST_YEAR <= day.year <= _LAST_YEAR else ""


def _of_object(value: Mapping[str, Any]) -> str:
    key = next((key for key in _KEYS if key in value), None)
    if key is not None:
        return iso_date(value[key])
    parts = [value.get(name, value.get(f"{name}Value")) for name in ("year", "month", "day")]
    return _of_numbers(*parts)


def _of_numbers(*parts: Any) -> str:
    if all(type(part) is int for part in parts):
        with suppress(ValueError, OverflowError):
            return _checked(date(*parts))
    return ""


def _of_digits(text: str) -> str:
    """A year, a year and a month, a day such as 20240801, or a Unix time, perhaps with a fraction."""
    if _PREFIX.fullmatch(text):
        return text if _FIRST_YEAR <= int(text[:4]) <= _LAST_YEAR else ""
    if match := _DOT_NET.fullmatch(text):
        text = match[1]
        return _of_unix(int(text) / 1000)
    if not text.isascii() or not _NUMBER.fullmatch(text):
        return ""
    if len(text) in (8, 12, 14) and text.isdigit():  # a day, perhaps with its time: 202408011030
        with suppress(ValueError):
            return _checked(datetime.strptime(text, "%Y%m%d%H%M%S"[: len(text) - 2]))
    number = float(text)
    # 1e8 seconds are 1973: below lie numbers that are no times. Each unit has three digits more than the one before.
    return next((_of_unix(number / unit) for unit in _UNITS if 1e8 <= number / unit < 1e10), "")


def _of_unix(seconds: float) -> str:
    with suppress(ValueError, OverflowError, OSError):
        return _checked(datetime.fromtimestamp(seconds, UTC))
    return ""


def _of_iso(text: str) -> str:
    """A date that begins with its year; words behind the day ("... 10:00:00 +0200 CEST") don't make it doubtful."""
    if match := _YEAR_FIRST.fullmatch(text):
        return _of_numbers(*(int(part) for part in match.groups()))
    with suppress(ValueError):  # 20240801T100000Z, 2024-W31
        return _checked(datetime.fromisoformat(text)) if not text.isdigit() else ""
    return ""


def _of_words(text: str) -> str:
    """A date in words or with its year last, as far as all readings agree."""
    from dateutil.parser import parse  # slow to import, and seldom needed

    readings = []
    for month in (1, 2):  # what the text doesn't say is taken from these dates, and so differs
        default = datetime(1900 + month, month, month)
        try:
            readings.append(parse(re.sub(r"\(.*\)$", "", text), default=default, dayfirst=month == 1, ignoretz=True))
        except (ValueError, OverflowError, TypeError):
            return ""
    one, other = (_checked(reading) for reading in readings)
    if one == other:
        return one
    if one[:7] == other[:7] and (one[8:], other[8:]) == ("01", "02") and not re.search(r"\d[./-]\d", text):
        return one[:7]  # "Aug 2024"
    return ""
