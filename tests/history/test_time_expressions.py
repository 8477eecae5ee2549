"""Goal: a day or time means what the clock of its zone showed, also where that clock is set back or forward."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.history.time_expressions import parse_span

NS = 1_000_000_000
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
"""Clocks go from 02:00 to 03:00 on 2026-03-29, and from 03:00 back to 02:00 on 2026-10-25."""
MIDNIGHT = "AAA4BBB,M3.2.0/0,M11.1.0/0"
"""Clocks go from 00:00 to 01:00 on 2026-03-08, and from 00:00 back to 23:00 on 2026-11-01."""


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """The local zone is the one that a test names."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * NS


@pytest.mark.parametrize(
    ("text", "first", "after"),
    [
        ("2026-11-01T12:00Z", "2026-11-01T12:00Z", "2026-11-01T12:01Z"),
        ("2026-11-01T12:00+02:00", "2026-11-01T10:00Z", "2026-11-01T10:01Z"),
        ("2026-11-01 12:00:05 +0200", "2026-11-01T10:00:05Z", "2026-11-01T10:00:06Z"),
        ("2026-11-01T12:00-08", "2026-11-01T20:00Z", "2026-11-01T20:01Z"),
        ("2026-11-01 12:00 UTC", "2026-11-01T12:00Z", "2026-11-01T12:01Z"),
        ("2026-11-01+05:30", "2026-10-31T18:30Z", "2026-11-01T18:30Z"),
    ],
)
@pytest.mark.parametrize("zone", [BERLIN], indirect=True)
@pytest.mark.usefixtures("zone")
def test_an_offset_counts_whatever_the_zone(text: str, first: str, after: str) -> None:
    assert parse_span(text, None) == parse_span(text) == (at(first), at(after) - 1)


def test_a_time_as_json_has_it_is_understood() -> None:
    whole = at("2026-11-01T12:00:03Z")
    assert parse_span("2026-11-01T12:00:03.123456Z") == (whole + 123_456_000, whole + 123_456_999)


@pytest.mark.parametrize(
    ("zone", "text", "first", "after"),
    [
        (BERLIN, "2026-11-01T12:00", "2026-11-01T11:00Z", "2026-11-01T11:01Z"),
        (BERLIN, "2026-07-01", "2026-06-30T22:00Z", "2026-07-01T22:00Z"),
        (BERLIN, "2026-03-29", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        (BERLIN, "2026-10-25", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
        # Shown twice: from the first time to the last.
        (BERLIN, "2026-10-25T02:30", "2026-10-25T00:30Z", "2026-10-25T01:31Z"),
        (BERLIN, "2026-10-25T02:30+02:00", "2026-10-25T00:30Z", "2026-10-25T00:31Z"),
        (MIDNIGHT, "2026-03-08", "2026-03-08T04:00Z", "2026-03-09T03:00Z"),
        (MIDNIGHT, "2026-03-07", "2026-03-07T04:00Z", "2026-03-08T04:00Z"),
        (MIDNIGHT, "2026-10-31", "2026-10-31T03:00Z", "2026-11-01T04:00Z"),
    ],
    indirect=["zone"],
)
@pytest.mark.usefixtures("zone")
def test_local_times_are_what_the_local_clock_shows(text: str, first: str, after: str) -> None:
    assert parse_span(text, None) == (at(first), at(after) - 1)


@pytest.mark.parametrize("zone", [BERLIN], indirect=True)
@pytest.mark.parametrize("text", ["2026-03-29T02:00", "2026-03-29T02:30", "2026-03-29 02:59:59"])
@pytest.mark.usefixtures("zone")
def test_a_time_that_the_clock_passed_over_is_the_moment_of_the_change(text: str) -> None:
    assert parse_span(text, None) == (at("2026-03-29T01:00Z"),) * 2


@pytest.mark.parametrize(
    "text",
    ["2026-11-01T12", "2026-11-01 12:00+24:00", "2026-11-01 12:00+02:60", "0001-01-01+23", "12:00", "2026-13-01Z"],
)
def test_an_invalid_time_is_none(text: str) -> None:
    assert parse_span(text) is None


@given(st.integers(0, 7_000_000_000), st.integers(-14 * 60, 14 * 60))
def test_times_printed_with_an_offset_are_parsed_again(seconds: int, minutes: int) -> None:
    shown = datetime.fromtimestamp(seconds, timezone(timedelta(minutes=minutes)))
    assert parse_span(shown.strftime("%Y-%m-%d %H:%M:%S %z")) == (seconds * NS, (seconds + 1) * NS - 1)
