"""Descriptors that are closed behind their last user, so that no number is used when it is another file's."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from vfs.backend.rooted_path import RootedPath
from vfs.overlay.journal.framing import FORMAT, Heading
from vfs.overlay.journal.journal import Journal
from vfs.overlay.journal.journal_records import Write
from vfs.overlay.journal.open_file import OpenFile, wait_until_closed


def opened(path: Path) -> tuple[OpenFile, int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    return OpenFile(descriptor, RootedPath.of(path)), descriptor


def is_open(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def test_it_is_closed_behind_its_last_user_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "f"
    file, descriptor = opened(path)
    with file as outer:
        assert outer == descriptor
        file.hold()
        file.close()
        file.close()
        assert is_open(descriptor, path)
    assert is_open(descriptor, path), "it is held"
    with file as again:
        assert again == descriptor
    file.release()
    assert not is_open(descriptor, path)
    # The number is another file's now: nothing that still has the first one closes it, or gets to it.
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    try:
        assert other == descriptor
        file.close()
        for use in (file.hold, file.__enter__):
            with pytest.raises(OSError, match="f is used after it was closed"):
                use()
        assert is_open(other, tmp_path / "other")
    finally:
        os.close(other)


def test_an_error_inside_takes_the_use_back(tmp_path: Path) -> None:
    file, descriptor = opened(tmp_path / "f")

    def fail() -> None:
        with file:
            file.close()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not is_open(descriptor, tmp_path / "f")


def test_a_large_file_is_closed_by_a_thread_and_by_its_user_where_there_is_no_room_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, descriptor = opened(tmp_path / "f")
    before = threading.enumerate()
    file.close(is_large=True)
    for thread in threading.enumerate():
        if thread not in before:
            thread.join()
    assert not is_open(descriptor, tmp_path / "f")

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    file, descriptor = opened(tmp_path / "f")
    file.close(is_large=True)
    assert not is_open(descriptor, tmp_path / "f")


def test_waiting_for_large_files_ends_when_they_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, descriptor = opened(tmp_path / "f")
    may_close = threading.Event()

    class Late(threading.Thread):
        def run(self) -> None:
            may_close.wait()
            super().run()

    waiting = threading.Thread(target=wait_until_closed)
    monkeypatch.setattr(threading, "Thread", Late)
    file.close(is_large=True)
    waiting.start()
    assert waiting.is_alive()
    assert is_open(descriptor, tmp_path / "f")
    may_close.set()
    waiting.join()
    assert not is_open(descriptor, tmp_path / "f")


USES: dict[str, tuple[str, Callable[[Journal, int], object]]] = {
    "read": ("pread", lambda journal, position: journal.read(position, 500)),
    "read into": ("preadv", lambda journal, position: journal.read_into(position, memoryview(bytearray(500)))),
    "append": ("pwritev", lambda journal, _: journal.append(Write(5, 0, 8), b"more")),
    "sync": ("fdatasync", lambda journal, _: journal.sync()),
    "records": ("pread", lambda journal, _: list(journal.records())),
    "damaged data": ("pread", lambda journal, _: list(journal.damaged_data())),
    "finish": ("fdatasync", lambda journal, _: journal.finish()),
}
"""A system call that takes the descriptor's number, and what makes it."""


@pytest.mark.parametrize("use", USES)
def test_a_journal_closed_just_before_a_system_call_reaches_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    """Other files take its number as soon as it is free; the call that has the number already must not get there."""
    call, work = USES[use]
    stray = tmp_path / "stray"
    stray.write_bytes(b"-" * 4096)
    journal = Journal.create(RootedPath(tmp_path, "j"), Heading(FORMAT, "main", 1, b"", 1))
    position = journal.append(Write(5, 0, 8), b"right" * 100)
    real = getattr(os, call)
    reached: list[bool] = []
    strays: list[int] = []

    def closed_before(descriptor: int, *args: object) -> object:
        if not reached:
            journal.close()
            strays.extend(os.open(stray, os.O_RDWR) for _ in range(8))
        reached.append(os.path.samestat(os.fstat(descriptor), (tmp_path / "j").stat()))
        return real(descriptor, *args)

    monkeypatch.setattr(os, call, closed_before)
    with contextlib.suppress(OSError):
        # What would need the file once more is told that it is closed.
        work(journal, position)
    monkeypatch.undo()
    for descriptor in strays:
        os.close(descriptor)
    assert reached
    assert all(reached)
    assert stray.read_bytes() == b"-" * 4096
    with pytest.raises(OSError, match="used after it was closed"):
        journal.read(position, 3)


def test_a_closed_journal_takes_no_more_records(tmp_path: Path) -> None:
    journal = Journal.create(RootedPath(tmp_path, "j"), Heading(FORMAT, "main", 1, b"", 1))
    journal.hold()
    journal.close()
    size = (tmp_path / "j").stat().st_size
    with pytest.raises(OSError, match="opened again"):
        journal.append(Write(5, 0, 8), b"late")
    journal.release()
    # The layer's lock is free by then: what another process appends must not be mixed with ours.
    assert (tmp_path / "j").stat().st_size == size
