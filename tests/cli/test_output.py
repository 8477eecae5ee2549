"""Sizes, dates, columns, colour."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.api.documents import iso_time
from vfs.cli.main import main
from vfs.cli.terminal.columns import LAST_MIN, columns, cut, display_width, echo_table
from vfs.cli.terminal.output import human_time, style, uses_colour, wrapped
from vfs.formats.quantities import human_count, human_size
from vfs.history.time_expressions import parse_moment


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


def test_columns_align_and_the_last_is_not_padded() -> None:
    assert columns([["a", "1", "x"], ["long", "200", "yy"]], right=[1]) == [["a   ", "  1", "x"], ["long", "200", "yy"]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> Terminal:
    """Makes standard output a terminal of some width, and returns it."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "dumb")
    return screen


def test_last_column_is_cut_to_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_a_terminal(monkeypatch, 30)
    echo_table([["v1", "a message that is too long for the line"]])
    assert screen.getvalue() == "v1  a message that is too lon…\n"


def test_columns_are_left_out_before_the_last_one_gets_too_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["v1", "deadbeef", "ann", "a message that is too long for the line"]]
    for width, shown in ((80, rows[0]), (40, ["v1", "deadbeef", "ann"]), (36, ["v1", "ann"]), (20, ["v1"])):
        screen = on_a_terminal(monkeypatch, width)
        echo_table(rows, droppable=(1, 2))
        (line,) = screen.getvalue().splitlines()
        assert line.split()[: len(shown)] == " ".join(shown).split()[: len(shown)]
        assert display_width(line) <= max(width, LAST_MIN + 4)


def test_a_pipe_gets_all_whatever_the_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    echo_table([["v1", "x" * 100]], droppable=(0,))
    assert capsys.readouterr().out == f"v1  {'x' * 100}\n"


@given(st.text(max_size=30), st.integers(1, 30))
def test_a_long_path_is_cut_at_its_beginning_and_fits(text: str, width: int) -> None:
    found = cut(text, width)
    assert display_width(found) <= width or found == "…"
    assert text.startswith(found.removesuffix("…"))
    assert found == text or display_width(text) > width


def test_wide_characters_count_as_two_columns() -> None:
    assert columns([["日本", "x"], ["abcde", "x"]]) == [["日本 ", "x"], ["abcde", "x"]]
    assert cut("日本語", 5) == "日本…"


def test_errors_are_broken_between_words_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    text = "  a hint with several words, /and/a/path/that/is/longer/than/the/line"
    lines = wrapped(text, stream=Terminal()).splitlines()
    assert [line.strip() for line in lines] == [
        "a hint with",
        "several words,",
        "/and/a/path/that/is/longer/than/the/line",
    ]
    assert all(line.startswith("  ") for line in lines)
    assert wrapped(text, stream=io.StringIO()) == text


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert not uses_colour(io.StringIO())
    assert style("x", "red", stream=Terminal()) == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert style("x", "red", stream=Terminal()) == "x"


@pytest.mark.parametrize(("when", "shown"), [("always", True), ("never", False), ("auto", False)])
def test_colour_is_what_was_said(
    when: str, shown: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["init", str(tmp_path / "repo")]) == 0
    assert main(["--repo", str(tmp_path / "repo"), "commit", "-m", "x", "--allow-empty"]) == 0
    for words in (["--color", when, "log"], ["log", f"--color={when}"]):
        capsys.readouterr()
        assert main(["--repo", str(tmp_path / "repo"), *words]) == 0
        assert ("\x1b[" in capsys.readouterr().out) is shown
    assert main(["--color", "purple", "log"]) == 2
