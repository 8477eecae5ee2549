"""Sizes, dates, columns, colour."""

from __future__ import annotations

import io
import time

import pytest

from vfs.cli.output import columns, human_count, human_size, human_time, iso_time, say_table, style, uses_colour
from vfs.history.moments import parse_moment


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (10 * 1024**3, "10.0 GiB"),
        (2**80, "1048576.0 EiB"),
    ],
)
def test_sizes_are_short(size_bytes: int, text: str) -> None:
    assert human_size(size_bytes) == text


def test_counts_have_plurals() -> None:
    assert [human_count(1, "file"), human_count(12000, "file"), human_count(2, "entry")] == [
        "1 file",
        "12,000 files",
        "2 entries",
    ]


def test_times_for_people_are_local_and_say_their_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        for zone, shown in (
            ("UTC", "2026-11-01 12:00:03 +0000"),
            ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-11-01 13:00:03 +0100"),
            ("IST-5:30", "2026-11-01 17:30:03 +0530"),
        ):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert human_time(1_793_534_403_999_999_999) == shown
            assert parse_moment(shown, None) == 1_793_534_403_999_999_999
            assert iso_time(1_793_534_403_000_000_000) == "2026-11-01T12:00:03.000000Z"
            for time_ns in (-(1 << 63), (1 << 63) - 1):
                assert human_time(time_ns)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_times_for_programs_are_utc_whatever_the_sign() -> None:
    assert iso_time(1_793_534_403_123_456_789) == "2026-11-01T12:00:03.123456Z"
    assert iso_time(-1) == "1969-12-31T23:59:59.999999Z"


def test_columns_align_and_the_last_is_not_padded() -> None:
    assert columns([["a", "1", "x"], ["long", "200", "yy"]], right=[1]) == [["a   ", "  1", "x"], ["long", "200", "yy"]]


def test_last_column_is_cut_to_the_width(capsys: pytest.CaptureFixture[str]) -> None:
    say_table([["v1", "a message that is too long for the line"]], width=30)
    assert capsys.readouterr().out == "v1  a message that is too lon…\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert not uses_colour(io.StringIO())
    assert style("x", "red", stream=Terminal()) == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert style("x", "red", stream=Terminal()) == "x"
