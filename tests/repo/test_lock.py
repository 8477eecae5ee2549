"""Goal: one writer at a time among threads and processes, and a crash holds nothing up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vfs.errors import Busy
from vfs.repo.lock import IndexGuard, file_lock

_HOLDER = """
import sys
from pathlib import Path
from vfs.repo.lock import file_lock
with file_lock(Path(sys.argv[1]), timeout_s=10):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """Starts a process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_lock_names_the_process_that_has_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        with pytest.raises(Busy, match=f"process {process.pid}"), file_lock(path, timeout_s=0):
            pass
        process.communicate("")
    with file_lock(path, timeout_s=0):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_killed_process_leaves_the_lock_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        process.kill()
        process.wait()
    with file_lock(path, timeout_s=0):
        pass


def test_a_second_holder_in_the_same_process_is_notified_once_and_waits(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    words: list[str] = []
    with file_lock(path, timeout_s=0), pytest.raises(Busy), file_lock(path, timeout_s=0.1, waiting=words.append):
        pass
    assert len(words) == 1


def test_the_index_is_replaced_only_while_no_other_process_has_it_open(tmp_path: Path) -> None:
    mine, other = IndexGuard(tmp_path / "guard"), IndexGuard(tmp_path / "guard")
    mine.share(0)
    other.share(0)
    with pytest.raises(Busy, match="another process has the repository open"):
        mine.exclude(0)
    other.close()
    mine.exclude(0)
    mine.share(0)
    mine.close()
