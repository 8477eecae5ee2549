"""The JSON documents, without a command that prints them."""

from __future__ import annotations

from vfs.api.documents import change_document, entry_document, iso_time
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


def test_entries_of_every_kind_say_what_only_they_have() -> None:
    def made(kind: Kind, **fields: object) -> dict[str, object]:
        entry = Entry(b"n", kind, 0o4755, 1, 2, -1, **fields)  # type: ignore[arg-type]
        document: dict[str, object] = {**entry_document(b"d/\xff", entry)}
        common = {"type", "mode", "uid", "gid", "size", "mtime", "mtime_ns", "path"}
        assert document["mode"] == "4755"
        assert document["path"] == "d/\udcff"
        return {key: value for key, value in document.items() if key not in common}

    assert made(Kind.SYMLINK, content=b"to/\xfe") == {"target": "to/\udcfe"}
    assert made(Kind.DIR, content=b"i" * 32, files=7) == {"hash": (b"i" * 32).hex(), "files": 7}
    assert made(Kind.FILE, size=9, hole_bytes=4, content=b"i" * 32, form=Form.LIST) == {
        "hash": (b"i" * 32).hex(),
        "hole_bytes": 4,
    }
    assert made(Kind.FILE, linked=True) == {"hard_linked": True}
    assert made(Kind.CHAR, rdev=259) == {"rdev": 259}
    assert made(Kind.BLOCK, rdev=0) == {"rdev": 0}
    assert made(Kind.FIFO, xattrs=((b"user.\xff", b"\x00v"),)) == {"xattrs": {"user.\udcff": "0076"}}
