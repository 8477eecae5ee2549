"""Look-ups and attributes that the native session layer answers; a socket takes the kernel's place."""

from __future__ import annotations

import ctypes
import random
import struct
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.native_layer import BATCH_FORGET, DIRECTORY_INO, FILE_INO, FORGET, LOOKUP, Kernel
from support.native_names import LISTED_INO, PREFIX, SLOT, Admitted, Names
from vfs.errors import Corrupt
from vfs.fuse.inodes import FILE_BITS, WORKING_START
from vfs.fuse.view.version_inodes import encode_entry
from vfs.model.ids import digest64_and_check
from vfs.model.nodes import NodeKind, decode_node, encode_node
from vfs.model.objects import FORMAT_BITS, TIME_NS_MIN, Entry, Form, Kind
from vfs.native.known_files import Known
from vfs.native.session import Modes, Prepared

GETATTR = 3
ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
ENTRY_OUT = struct.Struct("<QQQQII")
ATTR_OUT = struct.Struct("<QII")
FOREVER_S = 1_000_000_000
LEAVES_BYTES = 16 << 20


def _file(name: bytes, **fields: object) -> Entry:
    values: dict[str, object] = {
        "kind": Kind.FILE,
        "mode": 0o640,
        "uid": 1000,
        "gid": 70_000,
        "mtime_ns": 1_700_000_000_123_456_789,
        "size": 5_000_000_000,
        "content": b"c" * 32,
        "form": Form.LIST,
    }
    return Entry(name=name, **{**values, **fields})  # type: ignore[arg-type]


def _directory(name: bytes) -> Entry:
    return _file(name, kind=Kind.DIR, form=Form.EMPTY, size=77, files=3)


def _link(name: bytes) -> Entry:
    return _file(name, kind=Kind.SYMLINK, form=Form.EMPTY, size=4, content=b"a/\xff?")


@pytest.fixture
def attached(kernel: Kernel) -> Kernel:
    kernel.attach(Modes.NO_OPEN | Modes.NO_OPENDIR)
    return kernel


def _serve(kernel: Kernel, entries: list[Entry], position: int = 0) -> Names:
    source = Names(kernel.session, entries, position)
    kernel.session.serve_names(source)
    return source


def _shown(entry: Entry, ino: int, links: int = 1) -> bytes:
    """Returns what `stat` shows of an entry as the kernel takes it."""
    seconds, rest = divmod(entry.mtime_ns, 10**9)
    size = 0 if entry.kind == Kind.DIR else entry.size
    blocks = -(-(entry.size - entry.hole_bytes) // 512) if entry.kind == Kind.FILE else 0
    times = [seconds % 2**64] * 3 + [rest] * 3
    mode = FORMAT_BITS[entry.kind] | entry.mode
    return ATTR.pack(ino, size, blocks, *times, mode, links, entry.uid, entry.gid, 0, 4096, 0)


def _number(entry: Entry) -> tuple[int, int]:
    digest, check = digest64_and_check(PREFIX + encode_entry(entry))
    return (1 << FILE_BITS) + (digest & (1 << FILE_BITS) - 1), check


@pytest.mark.parametrize("count", [1, 15, 16, 300])
def test_a_name_is_looked_up_in_the_leaf_that_is_handed_over(attached: Kernel, count: int) -> None:
    entries = [_file(b"%05d" % number, size=number + 1, mtime_ns=number - 150) for number in range(count)]
    source = _serve(attached, entries, position=1000)
    for at, entry in random.Random(1).sample(list(enumerate(entries)), count):
        ino, check = _number(entry)
        assert attached.send(LOOKUP, DIRECTORY_INO, entry.name + b"\0") is None
        body = ENTRY_OUT.pack(ino, 0, FOREVER_S, FOREVER_S, 0, 0) + _shown(entry, ino)
        assert attached.answer() == (0, body)
        assert source.known_files.find(ino) == Known(check, SLOT, 1000 + at, 1, -1, is_marked=False)
    assert source.found == []
    # Nothing says that one of them will be read.
    assert source.answered == []
    assert len(source.asked) == 1


@pytest.mark.parametrize(
    "entry",
    [
        _directory(b"x"),
        _link(b"x"),
        _file(b"x", form=Form.EMPTY, size=0, content=b""),
        _file(b"x", hole_bytes=4_999_999_999),
        _file(b"x", xattrs=((b"user.a", b""), (b"user.b", bytes(300)))),
        _file(b"n" * 255, uid=2**32 - 1, gid=0, mode=0o7777, size=2**63 - 1),
        *(_file(b"x", mtime_ns=time) for time in (0, -1, -32, -33, -128, -129, -(2**31), -(2**31) - 1, TIME_NS_MIN)),
        *(_file(b"x", mtime_ns=time) for time in (127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63 - 1)),
    ],
)
def test_every_kind_of_entry_is_shown_as_python_shows_it(attached: Kernel, entry: Entry) -> None:
    source = _serve(attached, [entry])
    assert attached.send(LOOKUP, DIRECTORY_INO, entry.name + b"\0") is None
    ino, check = (LISTED_INO, 0) if entry.kind == Kind.DIR else _number(entry)
    assert attached.answer()[1][ENTRY_OUT.size :] == _shown(entry, ino)
    if entry.kind == Kind.DIR:
        assert source.found == [Admitted(DIRECTORY_INO, 0, encode_entry(entry))]
        assert source.answered == [(LISTED_INO, Prepared.NO)]
    else:
        assert source.known_files.find(ino) == Known(check, SLOT, 0, 1, -1, is_marked=False)
    # The kernel asks again what it has forgotten in part.
    assert attached.send(GETATTR, ino, bytes(16)) is None
    assert attached.answer() == (0, ATTR_OUT.pack(FOREVER_S, 0, 0) + _shown(entry, ino))
    assert source.asked == [entry.name]


@pytest.mark.parametrize(
    "entry",
    [
        _file(b"x", linked=True),
        _file(b"x", kind=Kind.FIFO, form=Form.EMPTY, size=0, content=b""),
        _file(b"x", kind=Kind.CHAR, form=Form.EMPTY, size=0, content=b"", rdev=5),
        _file(b"x", mtime_ns=2**63),
        _file(b"y"),
        _file(b"xx"),
    ],
)
def test_what_only_python_knows_is_left_to_it(attached: Kernel, entry: Entry) -> None:
    source = _serve(attached, [entry])
    assert attached.send(LOOKUP, DIRECTORY_INO, b"x\0") is not None
    assert source.found == []
    assert not attached.has_answer()


def test_a_directory_that_python_does_not_admit_reaches_the_binding(attached: Kernel) -> None:
    source = _serve(attached, [_directory(b"x")])
    source.admit = lambda _: 0
    assert attached.send(LOOKUP, DIRECTORY_INO, b"x\0") is not None
    assert source.answered == []
    assert not attached.has_answer()


def test_a_file_whose_number_another_one_has_reaches_the_binding(attached: Kernel) -> None:
    entry = _file(b"x")
    source = _serve(attached, [entry])
    ino, check = _number(entry)
    source.known_files.hold(ino, check ^ 1, 0, 0)
    assert attached.send(LOOKUP, DIRECTORY_INO, b"x\0") is not None
    assert source.known_files.find(ino) == Known(check ^ 1, 0, 0, 1, -1, is_marked=False)
    assert not attached.has_answer()


def test_no_file_is_counted_where_numbers_are_not_the_derived_ones(attached: Kernel) -> None:
    source = _serve(attached, [_file(b"x")])
    source.known_files.are_derived(are_derived=False)
    assert attached.send(LOOKUP, DIRECTORY_INO, b"x\0") is not None
    assert source.known_files.count.count == 0
    source.known_files.are_derived(are_derived=True)
    assert attached.send(LOOKUP, DIRECTORY_INO, b"x\0") is None


@pytest.mark.parametrize(
    ("ino", "body"),
    [(1, b"x\0"), (WORKING_START, b"x\0"), (FILE_INO, b"x\0"), (DIRECTORY_INO, b"x"), (DIRECTORY_INO, b"\0")],
)
def test_other_look_ups_reach_the_binding(attached: Kernel, ino: int, body: bytes) -> None:
    source = _serve(attached, [_file(b"x")])
    assert attached.send(LOOKUP, ino, body) is not None
    assert source.found == []


def test_attributes_are_asked_for_once_until_the_kernel_forgets(attached: Kernel) -> None:
    source = _serve(attached, [])
    entry = _file(b"x")
    source.attributes[FILE_INO] = 3, encode_entry(entry)
    answer = 0, ATTR_OUT.pack(FOREVER_S, 0, 0) + _shown(entry, FILE_INO, 3)
    for _ in range(3):
        assert attached.send(GETATTR, FILE_INO, bytes(16)) is None
        assert attached.answer() == answer
    assert len(source.asked) == 1
    assert attached.send(FORGET, FILE_INO, struct.pack("<Q", 1)) is not None
    assert attached.send(GETATTR, FILE_INO, bytes(16)) is None
    assert attached.answer() == answer
    assert len(source.asked) == 2
    body = struct.pack("<IIQQ", 1, 0, FILE_INO, 1)
    assert attached.send(BATCH_FORGET, 0, body) is not None
    del source.attributes[FILE_INO]
    assert attached.send(GETATTR, FILE_INO, bytes(16)) is not None
    assert len(source.asked) == 3


def test_leaves_are_dropped_for_others_and_handed_over_again(attached: Kernel) -> None:
    entries = [_file(b"%04d" % number, xattrs=((b"user.a", bytes(9000)),)) for number in range(20)]
    source = _serve(attached, entries)
    directories = range(DIRECTORY_INO, DIRECTORY_INO + 2 * LEAVES_BYTES // (20 * 9000))
    for ino in (*directories, *directories):
        # The key of such a file is longer than what is hashed natively.
        assert attached.send(LOOKUP, ino, b"0007\0") is not None
    assert len(source.asked) == 2 * len(directories)
    assert attached.send(LOOKUP, directories[-1], b"0008\0") is not None
    assert len(source.asked) == 2 * len(directories)
    attached.session.drop_leaves(directories[-1])
    assert attached.send(LOOKUP, directories[-1], b"0008\0") is not None
    assert len(source.asked) == 2 * len(directories) + 1


def test_a_directory_of_many_leaves_is_searched_in_the_right_one(attached: Kernel) -> None:
    leaves = [[_file(b"%02d-%02d" % (part, number)) for number in range(20)] for part in range(50)]
    source = _serve(attached, [])
    for part, entries in random.Random(2).sample(list(enumerate(leaves)), len(leaves)):
        node = encode_node(NodeKind.ENTRIES, 0, entries)
        for _ in range(2):
            assert attached.session.keep_leaf(DIRECTORY_INO, SLOT, part * 20, PREFIX, node)
    for part, entries in enumerate(leaves):
        for at, entry in enumerate(entries):
            assert attached.send(LOOKUP, DIRECTORY_INO, entry.name + b"\0") is None
            known = source.known_files.find(_number(entry)[0])
            assert known is not None
            assert known.position == part * 20 + at
            attached.answer()
    assert source.asked == []


def test_nothing_is_kept_behind_the_end(attached: Kernel) -> None:
    _serve(attached, [_file(b"x")])
    assert attached.send(LOOKUP, DIRECTORY_INO, b"x\0") is None
    attached.answer()
    attached.session.detach()
    attached.attach(Modes.NO_OPEN)
    assert attached.send(LOOKUP, DIRECTORY_INO, b"x\0") is not None
    assert attached.send(GETATTR, _number(_file(b"x"))[0], bytes(16)) is not None


ENTRIES = [
    _file(b"a"),
    _directory(b"b"),
    _link(b"c"),
    _file(b"d", kind=Kind.CHAR, form=Form.EMPTY, size=0, content=b"", rdev=5),
    _file(b"e", xattrs=((b"user.a", b"1"), (b"user.b", b"2"))),
    _file(b"f", hole_bytes=4096, mtime_ns=-(10**18)),
    _file(b"g", form=Form.EMPTY, size=0, content=b""),
]
NODE = encode_node(NodeKind.ENTRIES, 0, ENTRIES)


def _is_python_s(node: bytes) -> bool:
    """Returns True if Python takes a node, and would encode it so."""
    with suppress(Corrupt):
        decoded = decode_node(node)
        return encode_node(decoded.kind, decoded.level, decoded.items) == node
    return False


def test_the_nodes_of_these_tests_are_taken(kernel: Kernel) -> None:
    assert _is_python_s(NODE)
    assert kernel.session.keep_leaf(DIRECTORY_INO, SLOT, 0, PREFIX, NODE)


@given(data=st.data())
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_python_refuses_is_never_taken(kernel: Kernel, data: st.DataObject) -> None:
    node = bytearray(NODE)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(node) - 1))
        if data.draw(st.booleans()):
            node[at] = data.draw(
                st.sampled_from([0, 1, 0x7F, 0x80, 0x90, 0xC2, 0xC4, 0xCC, 0xCF, 0xD0, 0xD3, 0xFF, at & 255])
            )
        else:
            node[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    # Behind its end there is nothing that may be read.
    exact = ctypes.create_string_buffer(bytes(node), len(node))
    assert not kernel.session.keep_leaf(DIRECTORY_INO, SLOT, 0, PREFIX, exact.raw) or _is_python_s(bytes(node))


@pytest.mark.parametrize(
    "entries",
    [
        [_file(b"b"), _file(b"a")],
        [_file(b"a"), _file(b"a")],
        [_file(b"a/b")],
        [_file(b"..")],
        [_file(b".")],
        [_file(b"a\0b")],
        [_file(b"")],
        [_file(b"a", content=b"short")],
        [_file(b"a", size=0)],
        [_file(b"a", hole_bytes=5_000_000_001)],
        [_file(b"a", form=Form.CHUNK, hole_bytes=1)],
        [_file(b"a", tiny=bytes(32))],
        [_file(b"a", files=1)],
        [_file(b"a", rdev=1)],
        [_file(b"a", size=2**62), _file(b"b", size=2**62)],
        [_file(b"a", xattrs=((b"b", b""), (b"a", b"")))],
        [_file(b"a", xattrs=((b"", b""),))],
        [_file(b"a", xattrs=((b"a", bytes(65_536)),))],
        [_file(b"a", kind=Kind.SYMLINK, form=Form.EMPTY, size=3, content=b"a\0b")],
        [_file(b"a", kind=Kind.SYMLINK, form=Form.EMPTY, size=2, content=b"abc")],
        [_file(b"a", kind=Kind.DIR, form=Form.EMPTY, linked=True)],
        [
            _file(b"a", kind=Kind.DIR, form=Form.EMPTY, files=2**62, size=0),
            _file(b"b", kind=Kind.DIR, form=Form.EMPTY, files=2**62, size=0),
        ],
        [_file(b"a", kind=Kind.FIFO, form=Form.EMPTY)],
    ],
)
def test_entries_that_cannot_be_are_refused_as_python_refuses_them(kernel: Kernel, entries: list[Entry]) -> None:
    node = encode_node(NodeKind.ENTRIES, 0, entries)
    with pytest.raises(Corrupt):
        decode_node(node)
    assert not kernel.session.keep_leaf(DIRECTORY_INO, SLOT, 0, PREFIX, node)


@pytest.mark.parametrize("node", [b"", b"\1\0", b"\1\0\x90", b"\1\1" + NODE[2:], b"\2\0" + NODE[2:], NODE + b"\0"])
def test_what_is_no_leaf_of_entries_is_refused(kernel: Kernel, node: bytes) -> None:
    assert not kernel.session.keep_leaf(DIRECTORY_INO, SLOT, 0, PREFIX, node)
