"""Progress: counts bytes, knows the total, moves by a clock; and is silent without a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from vfs.cli.terminal.progress import TICK_S, FileBar, StageBar


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Returns all that the line showed, one after the other."""
        return [line.strip() for line in self.getvalue().split("\r") if line.strip()]


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("COLUMNS", "90")
    return Screen()


def test_bytes_are_counted_where_their_total_is_known(screen: Screen, clock: Clock) -> None:
    progress = FileBar("committing", clock, screen)
    progress.expect(10 << 30)
    for second in range(1, 11):
        clock.now_s = 1000.0 + second
        progress(0, second << 30, 2)
    lines = screen.lines()
    assert len(lines) == 10
    assert [line.split("%")[0].split()[-1] for line in lines] == [f"{tenth}0" for tenth in range(1, 11)]
    assert "5.00G/10.0G [00:05<00:05" in lines[4]
    assert lines[4].endswith("0/2 files]")
    assert lines[4].startswith("committing")


def test_files_are_counted_where_nothing_is_known_of_bytes(screen: Screen, clock: Clock) -> None:
    progress = FileBar("importing", clock, screen)
    clock.now_s += 2
    progress(50, 4 << 20, 100)
    assert "50/100" in screen.lines()[-1]
    assert "4.0 MiB, 2.0 MiB/s" in screen.lines()[-1]


def test_what_ends_soon_shows_nothing(screen: Screen, clock: Clock) -> None:
    progress = FileBar("committing", clock, screen)
    progress(1, 1, 1)
    clock.now_s += TICK_S - 0.01
    progress(1, 1, 1)
    assert screen.getvalue() == ""
    clock.now_s += 0.02
    progress(1, 1, 1)
    assert screen.getvalue() != ""


def test_the_line_is_drawn_a_few_times_a_second_however_often_something_is_heard(screen: Screen, clock: Clock) -> None:
    progress = FileBar("committing", clock, screen)
    progress.expect(10_000)
    for _ in range(10_000):
        clock.now_s += 0.001
        progress(0, 1, 1)
    assert 50 <= len(screen.lines()) <= 110


def test_the_line_is_updated_without_new_messages(screen: Screen, clock: Clock) -> None:
    progress = FileBar("committing", clock, screen)
    clock.now_s += 1
    progress.draw()
    clock.now_s += 60
    progress.draw()
    assert ["[00:01" in screen.lines()[0], "[01:01" in screen.lines()[-1]] == [True, True]


def test_the_total_of_a_directory_is_counted_beside_the_work(screen: Screen, clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "f").write_bytes(b"x" * 1000)
    (tmp_path / "d" / "e" / "g").write_bytes(b"x" * 24)
    (tmp_path / "link").symlink_to("d")
    progress = FileBar("importing", clock, screen)
    progress.count_now(tmp_path)
    clock.now_s += 1
    progress(1, 512, None)
    assert "50%" in screen.lines()[-1]
    assert "1/3 files" in screen.lines()[-1]


def test_more_than_was_expected_is_all_of_it(screen: Screen, clock: Clock) -> None:
    progress = FileBar("importing", clock, screen)
    progress.expect(100)
    clock.now_s += 1
    progress(1, 300)
    assert "100%" in screen.lines()[-1]


def test_each_stage_begins_anew(screen: Screen, clock: Clock) -> None:
    progress = StageBar(clock, screen)
    for stage in ("packs", "versions"):
        for done in (1, 2):
            clock.now_s += 1
            progress(stage, done, 2)
    lines = screen.lines()
    assert [line.split(":")[0] for line in lines] == ["packs", "packs", "versions", "versions"]
    assert "1/2" in lines[2]


def test_the_line_is_gone_when_the_work_ends(screen: Screen, clock: Clock) -> None:
    with FileBar("committing", clock, screen) as progress:
        clock.now_s += 1
        progress(1, 1, 1)
        shown = screen.lines()
    assert shown
    assert screen.getvalue().endswith("\r")
    progress.draw()
    assert screen.lines() == shown


def test_nothing_is_shown_where_standard_error_is_no_terminal(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with FileBar("committing", clock) as progress:
        clock.now_s += 10
        progress(1, 1, 1)
        progress.waiting("another commit")
    assert capsys.readouterr().err == ""
