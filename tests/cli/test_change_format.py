"""Changed paths as lines."""

from __future__ import annotations

import pytest

from vfs.cli.display.change_format import echo_changes, totals_text
from vfs.history.change_totals import Totals, counted
from vfs.history.diff import PathChange
from vfs.model.objects import Entry, Form, Kind


def file(name: bytes, content: bytes, size: int, mode: int = 0o644) -> Entry:
    return Entry(name, Kind.FILE, mode, 0, 0, 5, size=size, content=content * 32, form=Form.CHUNK)


DIRECTORY = Entry(b"new", Kind.DIR, 0o755, 0, 0, 5)
CHANGES = [
    PathChange(b"a.csv", "modified", file(b"a.csv", b"1", 100), file(b"a.csv", b"2", 2048)),
    PathChange(b"new", "added", None, DIRECTORY),
    PathChange(b"new/x", "added", None, file(b"x", b"3", 1024)),
    PathChange(b"new/y", "added", None, file(b"y", b"4", 1024)),
    PathChange(b"newer", "removed", file(b"newer", b"5", 10), None),
    PathChange(b"run.sh", "modified", file(b"run.sh", b"6", 1), file(b"run.sh", b"6", 1, 0o755)),
]


def test_added_directory_is_one_line_with_its_sum(capsys: pytest.CaptureFixture[str]) -> None:
    totals = Totals()
    echo_changes(counted(iter(CHANGES), totals))
    assert capsys.readouterr().out.splitlines() == [
        "M  a.csv   100 B → 2.0 KiB",
        "A  new/    2 files, 2.0 KiB",
        "D  newer   10 B",
        "M  run.sh  mode",
    ]
    assert totals_text(totals) == "3 added, 2 modified, 1 removed; 111 B → 4.0 KiB"


def test_small_change_of_a_large_file_shows_in_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    change = PathChange(b"a", "modified", file(b"a", b"1", 40_000), file(b"a", b"2", 40_002))
    echo_changes([change])
    assert capsys.readouterr().out == "M  a  39.1 KiB (+2 B)\n"


def test_whole_lists_every_path(capsys: pytest.CaptureFixture[str]) -> None:
    echo_changes(iter(CHANGES), whole=True)
    assert len(capsys.readouterr().out.splitlines()) == len(CHANGES)


def test_lines_can_be_limited(capsys: pytest.CaptureFixture[str]) -> None:
    echo_changes(iter(CHANGES), lines_max=2)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_names_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    echo_changes([PathChange(b"\x1b[31m\xff", "added", None, file(b"x", b"3", 1))])
    assert capsys.readouterr().out == "A  \\x1b[31m\\xff  1 B\n"
