"""Finding the processes that keep a mount busy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vfs.control.busy_processes import busy_processes, holders_hint

_HOLD = "import sys; file = open(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"


def test_processes_are_named_with_what_they_hold(tmp_path: Path) -> None:
    inside = tmp_path / "mount" / "labels.csv"
    inside.parent.mkdir()
    inside.write_bytes(b"x")
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, inside], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (found,) = busy_processes(inside.parent)
        shown = holders_hint(inside.parent)
        process.communicate("")
    assert f"({process.pid}): it has {inside} open" in found
    assert shown == found
    assert busy_processes(inside.parent) == []


def test_working_directory_holds_and_a_name_that_begins_alike_does_not(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data2").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", "print('ready', flush=True); input()"],
        cwd=tmp_path / "data2",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert busy_processes(tmp_path / "data") == []
        (found,) = busy_processes(tmp_path / "data2")
        process.communicate("\n")
    assert "its current directory is" in found
