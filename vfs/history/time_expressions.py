"""Days and times as people write them, to spans of Unix time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from vfs.model.layout import MOMENT

_NS = 1_000_000_000


def parse_moment(text: str, zone: tzinfo | None = UTC) -> int | None:
    """Returns the last nanosecond (Unix time) of a stated day, minute or second; None for anything else."""
    span = parse_span(text, zone)
    return None if span is None else span[1]


def parse_span(text: str, zone: tzinfo | None = UTC) -> tuple[int, int] | None:
    """Returns the first and the last nanosecond (Unix time) of a stated day, minute, second or part of one; else None.

    Behind it may stand its offset: `Z`, `UTC`, `+01:00`, `+0100`, `+01`. Without one it is meant in `zone`; None is the
    local zone (TZ). What the clock shows twice, when it is set back, lasts from the first time to the last; what it
    never shows, when it is set forward, is the moment of the change.
    """
    match = re.fullmatch(MOMENT, text)
    if match is None:
        return None
    try:
        within = _zone(match["zone"]) if match["zone"] else zone
        start = datetime.fromisoformat(match["day"])
        if match["hour"] is None:
            return _first(start, within) * _NS, _first(start + timedelta(days=1), within) * _NS - 1
        start = start.replace(hour=int(match["hour"]), minute=int(match["minute"]), second=int(match["second"] or 0))
        length_ns = _NS * (60 if match["second"] is None else 1)
        offset_ns = 0
        if match["fraction"] is not None:
            length_ns = 10 ** (9 - len(match["fraction"]))
            offset_ns = int(match["fraction"]) * length_ns
        first_s, last_s = _first(start, within), _seconds(start.replace(fold=1), within)
        if not _is_shown(start, within):
            return first_s * _NS, first_s * _NS
        return first_s * _NS + offset_ns, last_s * _NS + offset_ns + length_ns - 1
    except (ValueError, OverflowError, OSError):
        return None


def _zone(text: str) -> tzinfo:
    """Returns the zone of an offset. Raises ValueError for one of a day or more."""
    if text in ("Z", "UTC"):
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    if int(digits[2:]) > 59:
        raise ValueError(text)
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)


def _seconds(shown: datetime, zone: tzinfo | None) -> int:
    """Returns when a clock shows a time; `fold` says which of two times. Without a zone it is the local clock."""
    return int(shown.replace(tzinfo=zone).timestamp())


def _is_shown(shown: datetime, zone: tzinfo | None) -> bool:
    """Returns True if a clock ever shows a time."""
    return datetime.fromtimestamp(_seconds(shown, zone), zone).replace(tzinfo=None, fold=0) == shown


def _first(shown: datetime, zone: tzinfo | None) -> int:
    """Returns the first second at which a clock shows a time, or has passed over it."""
    if _is_shown(shown, zone):
        return _seconds(shown, zone)
    # The offset before the change takes such a time for one after it, the offset after it for one before.
    before, after = sorted((_seconds(shown, zone), _seconds(shown.replace(fold=1), zone)))
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).replace(tzinfo=None) > shown:
            after = middle
        else:
            before = middle
    return after
