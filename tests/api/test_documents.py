"""The JSON documents, without a command that prints them."""

from __future__ import annotations

from vfs.api.documents import change_document, iso_time
from vfs.history.diff import PathChange
from vfs.model.objects import Entry, Form, Kind


def file(name: bytes, content: bytes, size: int) -> Entry:
    return Entry(name, Kind.FILE, 0o644, 0, 0, 5, size=size, content=content * 32, form=Form.CHUNK)


def test_change_says_what_differs() -> None:
    change = PathChange(b"a.csv", "modified", file(b"a.csv", b"1", 100), file(b"a.csv", b"2", 2048))
    value = change_document(change)
    assert (value["path"], value["change"], value["type"], value["what"]) == ("a.csv", "modified", "file", ["content"])
    assert value["old"] is not None
    assert value["old"]["size"] == 100
    assert value["new"] is not None
    assert value["new"]["hash"] == (b"2" * 32).hex()
    added = PathChange(b"new", "added", None, Entry(b"new", Kind.DIR, 0o755, 0, 0, 5))
    assert change_document(added)["old"] is None


def test_times_for_programs_are_utc_whatever_the_sign() -> None:
    assert iso_time(1_793_534_403_123_456_789) == "2026-11-01T12:00:03.123456Z"
    assert iso_time(-1) == "1969-12-31T23:59:59.999999Z"
