"""Listings of versions' directories that the native session layer answers; a socket takes the kernel's place."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from support.native_layer import (
    CACHE_DIR,
    DIRECTORY_INO,
    FILE_INO,
    KEEP_CACHE,
    OPEN_ANSWER,
    OPENDIR,
    READ_,
    READDIR,
    READDIRPLUS,
    VIRTUAL_INO,
    Kernel,
    open_body,
    read_body,
)
from support.native_names import LISTED_INO, PREFIX, SLOT, Admitted, Names
from vfs.fuse.inodes import FILE_BITS, WORKING_START
from vfs.fuse.view.version_inodes import encode_entry
from vfs.model.ids import digest64_and_check
from vfs.model.objects import FORMAT_BITS, Entry, Form, Kind
from vfs.native.known_files import Known
from vfs.native.session import HANDLE, Modes

ENTRY_OUT = struct.Struct("<QQQQII")
ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
DIRENT = struct.Struct("<QQII")
FOREVER_S = 1_000_000_000
SIZE = 32 * 1024


class Listed(NamedTuple):
    """An entry as the kernel gets it."""

    name: bytes
    ino: int
    next: int
    kind: int
    size: int


def _file(name: bytes, size: int = 7, **fields: object) -> Entry:
    values: dict[str, object] = {"kind": Kind.FILE, "content": b"c" * 32, "form": Form.CHUNK}
    values |= fields
    return Entry(name=name, mode=0o644, uid=1, gid=2, mtime_ns=3, size=size, **values)  # type: ignore[arg-type]


def _directory(name: bytes) -> Entry:
    return _file(name, 77, kind=Kind.DIR, form=Form.EMPTY, files=3)


def _number(entry: Entry) -> tuple[int, int]:
    digest, check = digest64_and_check(PREFIX + encode_entry(entry))
    return (1 << FILE_BITS) + (digest & (1 << FILE_BITS) - 1), check


def _parse(body: bytes) -> Iterator[Listed]:
    at = 0
    while at < len(body):
        nodeid, generation, entry_s, attr_s, *rest = ENTRY_OUT.unpack_from(body, at)
        assert (generation, entry_s, attr_s, rest) == (0, FOREVER_S, FOREVER_S, [0, 0])
        attr = ATTR.unpack_from(body, at + ENTRY_OUT.size)
        ino, following, length, kind = DIRENT.unpack_from(body, at + ENTRY_OUT.size + ATTR.size)
        assert nodeid == ino == attr[0]
        start = at + ENTRY_OUT.size + ATTR.size + DIRENT.size
        end = start + length
        at = -(-end // 8) * 8
        assert not any(body[end:at])
        assert kind == attr[9] >> 12
        yield Listed(body[start:end], ino, following, kind, attr[1])


@pytest.fixture
def attached(kernel: Kernel) -> Kernel:
    kernel.attach(Modes.NO_OPEN | Modes.NO_OPENDIR)
    return kernel


def _serve(kernel: Kernel, entries: list[Entry], leaf_entries: int = 2048, position: int = 0) -> Names:
    source = Names(kernel.session, entries, position, leaf_entries)
    kernel.session.serve_names(source)
    return source


def _list(kernel: Kernel, position: int = 0, size: int = SIZE, ino: int = DIRECTORY_INO) -> list[Listed] | None:
    """Returns what one request lists, None where the binding has to answer."""
    if kernel.send(READDIRPLUS, ino, read_body(0, position, size)) is not None:
        return None
    error, body = kernel.answer()
    assert not error
    assert len(body) <= size
    return list(_parse(body))


def _list_all(kernel: Kernel, size: int = SIZE) -> list[Listed]:
    found: list[Listed] = []
    while more := _list(kernel, found[-1].next if found else 0, size):
        found += more
    assert more == []
    return found


@pytest.mark.parametrize(("count", "leaf_entries"), [(0, 1), (1, 1), (5, 1), (500, 2048), (500, 60), (5000, 700)])
@pytest.mark.parametrize("size", [SIZE, 4096])
def test_a_directory_is_listed_in_order_with_attributes(
    attached: Kernel, count: int, leaf_entries: int, size: int
) -> None:
    entries = [_file(b"%05d" % number + b"n" * (number % 240), number + 1) for number in range(count)]
    source = _serve(attached, entries, leaf_entries)
    assert _list_all(attached, size) == [
        Listed(entry.name, _number(entry)[0], at + 1, FORMAT_BITS[Kind.FILE] >> 12, entry.size)
        for at, entry in enumerate(entries)
    ]
    for at, entry in enumerate(entries):
        ino, check = _number(entry)
        assert source.known_files.find(ino) == Known(check, SLOT, at, 1, -1, is_marked=False)
    assert source.known_files.count.count == count


def test_a_listing_begins_at_any_position(attached: Kernel) -> None:
    entries = [_file(b"%04d" % number) for number in range(400)]
    source = _serve(attached, entries, leaf_entries=90)
    for position in random.Random(1).sample(range(400), 50):
        found = _list(attached, position)
        assert found
        assert found[0].name == entries[position].name
    assert _list(attached, 400) == []
    assert _list(attached, 10**10) == []
    assert all(known and known.lookups >= 1 for known in map(source.known_files.find, source.known_files.inos(0)))


def test_only_what_is_in_the_reply_is_counted(attached: Kernel) -> None:
    entries = [_file(b"%04d" % number) for number in range(400)]
    source = _serve(attached, entries)
    found = _list(attached, 0, 4096)
    assert found
    assert source.known_files.count.count == len(found) < 400
    _list(attached, 0, 4096)
    known = source.known_files.find(found[0].ino)
    assert known is not None
    assert known.lookups == 2
    # Not even one entry has room.
    assert _list(attached, 0, 100) is None
    assert source.known_files.count.count == len(found)


def test_directories_and_links_are_listed_among_files(attached: Kernel) -> None:
    link = _file(b"c", 4, kind=Kind.SYMLINK, form=Form.EMPTY, content=b"a/b?")
    entries = [_file(b"a"), _directory(b"b"), link, _directory(b"d"), _file(b"e", form=Form.LIST, size=10**12)]
    source = _serve(attached, entries)
    found = _list_all(attached)
    assert [entry.name for entry in found] == [b"a", b"b", b"c", b"d", b"e"]
    assert [entry.kind for entry in found] == [8, 4, 10, 4, 8]
    assert [entry.size for entry in found] == [7, 0, 4, 0, 10**12]
    assert found[1].ino == LISTED_INO
    assert source.found == [
        Admitted(DIRECTORY_INO, 1, encode_entry(entries[1])),
        Admitted(DIRECTORY_INO, 3, encode_entry(entries[3])),
    ]
    assert source.known_files.count.count == 3


def test_a_leaf_that_python_drops_meanwhile_is_asked_for_again(attached: Kernel) -> None:
    entries = [_file(b"a"), _directory(b"b"), _file(b"c"), _file(b"d")]
    source = _serve(attached, entries)

    def drop(_: Admitted) -> int:
        attached.session.drop_leaves(DIRECTORY_INO)
        return LISTED_INO

    source.admit = drop
    assert [entry.name for entry in _list_all(attached)] == [b"a", b"b", b"c", b"d"]
    assert source.asked == [0, 2]


@pytest.mark.parametrize(
    "strange",
    [
        _file(b"b", linked=True),
        _file(b"b", 0, kind=Kind.FIFO, form=Form.EMPTY, content=b""),
        _file(b"b", 0, kind=Kind.CHAR, form=Form.EMPTY, content=b"", rdev=5),
        _file(b"b", xattrs=((b"user.a", bytes(9000)),)),
    ],
)
def test_what_only_python_knows_ends_a_reply_and_is_left_to_it(attached: Kernel, strange: Entry) -> None:
    source = _serve(attached, [_file(b"a"), strange, _file(b"c")])
    found = _list(attached)
    assert found is not None
    assert [entry.name for entry in found] == [b"a"]
    assert _list(attached, 1) is None
    assert source.known_files.count.count == 1
    found = _list(attached, 2)
    assert found is not None
    assert [entry.name for entry in found] == [b"c"]


def test_a_directory_that_python_does_not_admit_ends_a_reply(attached: Kernel) -> None:
    source = _serve(attached, [_file(b"a"), _directory(b"b"), _file(b"c")])
    source.admit = lambda _: 0
    found = _list(attached)
    assert found is not None
    assert [entry.name for entry in found] == [b"a"]
    assert _list(attached, 1) is None


def test_a_file_whose_number_another_one_has_is_left_to_python(attached: Kernel) -> None:
    entries = [_file(b"a"), _file(b"b")]
    source = _serve(attached, entries)
    ino, check = _number(entries[1])
    source.known_files.hold(ino, check ^ 1, 0, 0)
    found = _list(attached)
    assert found is not None
    assert [entry.name for entry in found] == [b"a"]
    assert _list(attached, 1) is None
    known = source.known_files.find(ino)
    assert known is not None
    assert known.lookups == 1


@pytest.mark.parametrize("ino", [1, VIRTUAL_INO, FILE_INO, WORKING_START])
def test_other_listings_reach_the_binding(attached: Kernel, ino: int) -> None:
    source = _serve(attached, [_file(b"a")])
    assert _list(attached, ino=ino) is None
    assert attached.send(READDIR, DIRECTORY_INO, read_body(0, 0)) is not None
    assert attached.send(READDIRPLUS, DIRECTORY_INO, read_body(5, 0)) is not None
    assert source.asked == []


def test_a_listing_whose_leaf_is_kept_overtakes_what_waits_for_python(attached: Kernel) -> None:
    entries = [_file(b"%04d" % number) for number in range(20)]
    source = _serve(attached, entries, leaf_entries=10)
    attached.is_crowded = True
    found = _list(attached)
    assert found is not None
    assert source.asked == [0, 10]
    assert _list(attached) == found
    assert source.asked == [0, 10]


def test_a_directory_whose_files_were_read_is_listed_again_by_the_kernel(kernel: Kernel) -> None:
    """In a writable mount the kernel forgets their access times, and asks for each of them."""
    kernel.attach(Modes.OPEN | Modes.OPENDIR | Modes.RELIST)
    entries = [_file(b"%04d" % number) for number in range(100)]
    _serve(kernel, entries)

    def flags() -> int:
        assert kernel.send(OPENDIR, DIRECTORY_INO, open_body(os.O_RDONLY)) is None
        handle, found, _ = OPEN_ANSWER.unpack(kernel.answer()[1])
        assert handle == DIRECTORY_INO | HANDLE
        return int(found)

    def read(first: int, last: int) -> None:
        for entry in entries[first:last]:
            ino = _number(entry)[0]
            assert kernel.send(READ_, ino, read_body(ino | HANDLE, 0)) is not None

    assert flags() == KEEP_CACHE | CACHE_DIR
    assert kernel.send(READDIRPLUS, DIRECTORY_INO, read_body(DIRECTORY_INO | HANDLE, 0, SIZE)) is None
    kernel.answer()
    read(0, 3)
    assert flags() == KEEP_CACHE | CACHE_DIR
    read(3, 5)
    for _ in range(2):
        assert flags() == CACHE_DIR
    assert _list(kernel, ino=DIRECTORY_INO)
    assert flags() == KEEP_CACHE | CACHE_DIR


def test_a_large_directory_of_which_few_files_were_read_stays_listed(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN | Modes.OPENDIR | Modes.RELIST)
    entries = [_file(b"%04d" % number) for number in range(2000)]
    _serve(kernel, entries)
    assert len(_list_all(kernel, 1 << 20)) == 2000

    def flags(reads: int) -> int:
        for entry in entries[:reads]:
            ino = _number(entry)[0]
            assert kernel.send(READ_, ino, read_body(ino | HANDLE, 0)) is not None
        assert kernel.send(OPENDIR, DIRECTORY_INO, open_body(os.O_RDONLY)) is None
        return int(OPEN_ANSWER.unpack(kernel.answer()[1])[1])

    assert flags(40) == KEEP_CACHE | CACHE_DIR
    assert flags(60) == CACHE_DIR
