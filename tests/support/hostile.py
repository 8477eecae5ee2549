"""Repositories that a program which means harm could make: every checksum right, and what they say impossible.

Objects are encoded and stored as the project does it; what is in them is not checked. `publish` writes the line of the
log by itself, since no operation of ours would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from vfs.model.ids import CommitId, chunk_id
from vfs.model.nodes import AnyItem, NodeKind, leaf_key, sums
from vfs.model.objects import ChildRef, ChunkRef, Commit, Entry, Form, Kind, LinkItem, TinyItem
from vfs.repo.repository import Repository
from vfs.store.object_writer import ObjectWriter
from vfs.store.refs.operation import Operation, RefChange

ROOT = Entry(b"", Kind.DIR, 0o755, 0, 0, 0)
SMALL = b"x" * 100

Build = Callable[[ObjectWriter], Commit]


def commit_of(root: Entry, **fields: Any) -> Commit:
    """Returns a first version's commit, with some fields as told."""
    given = {"number": 1, "parents": (), "links": b"", "time_ns": 10**18, "author": "a", "message": "m", **fields}
    return Commit(root=root, **given)


def directory_of(writer: ObjectWriter, name: bytes, items: Sequence[Entry], tiny: Sequence[TinyItem] = ()) -> Entry:
    """Stores a directory of one node for entries and one for tiny files; the sums are those of its entries."""
    content = writer.put_node(NodeKind.ENTRIES, 0, items) if items else b""
    bytes_of_tiny = writer.put_node(NodeKind.TINY, 0, tiny) if tiny else b""
    _, files, size = sums(items)
    return msgspec.structs.replace(ROOT, name=name, content=content, tiny=bytes_of_tiny, files=files, size=size)


def small_file(name: bytes, **fields: Any) -> tuple[Entry, TinyItem]:
    """Returns a tiny file's entry and bytes."""
    entry = Entry(name, Kind.FILE, 0o644, 0, 0, 0, len(SMALL), chunk_id(SMALL), Form.TINY)
    return msgspec.structs.replace(entry, **fields), TinyItem(name, SMALL)


def over(writer: ObjectWriter, kind: NodeKind, level: int, items: Sequence[AnyItem]) -> ChildRef:
    """Stores a node and returns it as a parent names it."""
    return ChildRef(leaf_key(items[-1]), writer.put_node(kind, level, items), *sums(items))


def make(path: Path, build: Build) -> CommitId:
    """Makes a repository whose branch `main` is at what `build` returns."""
    with Repository.init(path) as repo:
        with ObjectWriter(repo.store) as writer:
            made = writer.put_commit(build(writer))
            writer.flush()
        publish(repo, made)
    return made


def publish(repo: Repository, commit_id: CommitId, **fields: Any) -> None:
    """Appends a line that moves `main` to a commit, whatever it is."""
    refs = (RefChange("branches/main", "", commit_id.hex()),)
    repo.log.append(msgspec.structs.replace(Operation(seq=1, time_ns=10**18, kind="commit", refs=refs), **fields))


# Unbounded expansion: few objects that stand for an astronomical number of paths or chunks.


def shared_directories(writer: ObjectWriter, depth: int = 40) -> Commit:
    """A tree of 2^depth paths: each directory has the next one twice."""
    entry, tiny = small_file(b"f")
    below = directory_of(writer, b"a", [entry], [tiny])
    for _ in range(depth):
        below = directory_of(writer, b"a", [below, msgspec.structs.replace(below, name=b"b")])
    return commit_of(msgspec.structs.replace(below, name=b""))


def deep_directories(writer: ObjectWriter, depth: int = 10_000) -> Commit:
    """A chain of directories, as deep as told."""
    entry, tiny = small_file(b"f")
    below = directory_of(writer, b"d", [entry], [tiny])
    for _ in range(depth):
        below = directory_of(writer, b"d", [below])
    return commit_of(msgspec.structs.replace(below, name=b""))


def equal_chunks(writer: ObjectWriter, levels: int = 4, hole: int = 0) -> Commit:
    """A file of 2,048^levels equal chunks of some bytes, with a hole before all of them if that has any bytes."""
    plain = SMALL * 41
    chunk = ChunkRef(writer.put_chunk(plain), len(plain))
    first: list[AnyItem] = [chunk] * 2048
    leaf = over(writer, NodeKind.CHUNKS, 0, first)
    holed = over(writer, NodeKind.CHUNKS, 0, [ChunkRef(b"", hole), *first[1:]]) if hole else leaf
    for level in range(1, levels):
        holed = over(writer, NodeKind.CHUNKS, level, [holed, *[leaf] * 2047])
        leaf = over(writer, NodeKind.CHUNKS, level, [leaf] * 2048)
    entry = Entry(b"f", Kind.FILE, 0o644, 0, 0, 0, holed.size, holed.id, Form.LIST, hole_bytes=hole)
    return commit_of(directory_of(writer, b"", [entry]))


def shared_holes(writer: ObjectWriter, levels: int = 4) -> Commit:
    """A file of 1,024^levels holes, each between two chunks."""
    plain = SMALL * 41
    pair = [ChunkRef(writer.put_chunk(plain), len(plain)), ChunkRef(b"", 1)]
    holes = 1024
    child = over(writer, NodeKind.CHUNKS, 0, pair * 1024)
    for level in range(1, levels):
        child = over(writer, NodeKind.CHUNKS, level, [child] * 2048)
        holes *= 2048
    entry = Entry(b"f", Kind.FILE, 0o644, 0, 0, 0, child.size, child.id, Form.LIST, hole_bytes=holes)
    return commit_of(directory_of(writer, b"", [entry]))


ENDLESS: dict[str, Build] = {
    "2^40 paths": shared_directories,
    "10,000 deep": deep_directories,
    "2,048^4 chunks": equal_chunks,
    "2,048^4 chunks and a hole": lambda writer: equal_chunks(writer, hole=7),
    "2,048^4 holes": shared_holes,
}


# What cannot be: one value of a tree that is otherwise right.


def _entry(**fields: Any) -> Build:
    def build(writer: ObjectWriter) -> Commit:
        entry, tiny = small_file(b"f", **fields)
        found = directory_of(writer, b"", [entry], [tiny])
        if not 0 <= found.size < 2**63 or not 0 <= found.files < 2**63:
            found = msgspec.structs.replace(found, size=1, files=1)
        return commit_of(found)

    return build


def _commit(**fields: Any) -> Build:
    def build(writer: ObjectWriter) -> Commit:
        entry, tiny = small_file(b"f")
        return commit_of(directory_of(writer, b"", [entry], [tiny]), **fields)

    return build


def _names(*names: bytes) -> Build:
    def build(writer: ObjectWriter) -> Commit:
        files = [small_file(name) for name in names]
        return commit_of(directory_of(writer, b"", [entry for entry, _ in files], [tiny for _, tiny in files]))

    return build


def _links(*items: LinkItem) -> Build:
    def build(writer: ObjectWriter) -> Commit:
        entry, tiny = small_file(b"f", linked=True)
        root = directory_of(writer, b"", [entry], [tiny])
        return commit_of(root, links=writer.put_node(NodeKind.LINKS, 0, items))

    return build


def linked_through(target: bytes) -> Build:
    """A version with a symbolic link, whose map of hard links says that a file's other name is behind that link."""

    def build(writer: ObjectWriter) -> Commit:
        entry, tiny = small_file(b"f", linked=True)
        link = Entry(b"a", Kind.SYMLINK, 0o777, 0, 0, 0, len(target), target)
        root = directory_of(writer, b"", [link, entry], [tiny])
        items = [LinkItem(b"a/x", b"a/x", (b"a/x", b"f")), LinkItem(b"f", b"a/x")]
        return commit_of(root, links=writer.put_node(NodeKind.LINKS, 0, items))

    return build


def _runs(*runs: ChunkRef, size: int | None = None, hole_bytes: int = 0, level: int = 0) -> Build:
    def build(writer: ObjectWriter) -> Commit:
        known = {len(SMALL): writer.put_chunk(SMALL)}
        items = [run if run.id != b"?" else ChunkRef(known[run.size], run.size) for run in runs]
        list_id = writer.put_node(NodeKind.CHUNKS, level, items)
        total = size if size is not None else sum(run.size for run in runs)
        entry = Entry(b"f", Kind.FILE, 0o644, 0, 0, 0, total, list_id, Form.LIST, hole_bytes=hole_bytes)
        root = writer.put_node(NodeKind.ENTRIES, 0, [entry])
        return commit_of(msgspec.structs.replace(ROOT, content=root, files=1, size=max(0, min(total, 2**63 - 1))))

    return build


def _roots(**fields: Any) -> Build:
    return lambda writer: msgspec.structs.replace(
        (made := _commit()(writer)), root=msgspec.structs.replace(made.root, **fields)
    )


_LONG = b"\0" * 40
IMPOSSIBLE: dict[str, Build] = {
    **{f"mode {mode:o}": _entry(mode=mode) for mode in (-1, 0o10000, 2**40)},
    **{f"uid {uid}": _entry(uid=uid) for uid in (-1, 2**32, 2**63)},
    **{f"file of {size} bytes": _entry(size=size) for size in (-1, 0, 5, 2**63, 2**64 - 1)},
    **{f"kind {kind}": _entry(kind=kind) for kind in (0, 2, 3, 4, 8, 200)},
    **{f"form {form}": _entry(form=form) for form in (0, 2, 3, 4, 99)},
    **{f"id of {len(content)} bytes": _entry(content=content) for content in (b"", b"x", _LONG)},
    "device number of a file": _entry(rdev=5),
    "holes in a tiny file": _entry(hole_bytes=5),
    "more holes than bytes": _entry(hole_bytes=2**62),
    "sums of a file": _entry(files=3),
    "tiny map of a file": _entry(tiny=bytes(32)),
    "NUL in a target": _entry(kind=Kind.SYMLINK, form=0, size=3, content=b"a\0b"),
    "empty target": _entry(kind=Kind.SYMLINK, form=0, size=0, content=b""),
    "long target": _entry(kind=Kind.SYMLINK, form=0, size=4096, content=b"a" * 4096),
    "target of another size": _entry(kind=Kind.SYMLINK, form=0, size=3, content=b"abcd"),
    "NUL in an attribute": _entry(xattrs=((b"user.a\0b", b""),)),
    "attribute without name": _entry(xattrs=((b"", b"x"),)),
    "long name of an attribute": _entry(xattrs=((b"user." + b"x" * 300, b""),)),
    "attributes unsorted": _entry(xattrs=((b"user.b", b""), (b"user.a", b""))),
    "attributes twice": _entry(xattrs=((b"user.a", b""), (b"user.a", b""))),
    "attributes too large": _entry(xattrs=((b"user.a", b"x" * 70_000),)),
    "linked without a group": _entry(linked=True),
    **{f"name {name!r}": _names(name) for name in (b"", b".", b"..", b"a/b", b"/", b"a\0b", b"x" * 256)},
    "names twice": _names(b"a", b"a"),
    "names unsorted": _names(b"b", b"a"),
    **{f"commit number {number}": _commit(number=number) for number in (-1, 0, 2, 2**48, 2**63, 2**64 - 1)},
    **{f"commit time {time}": _commit(time_ns=time) for time in (2**63, 2**64 - 1)},
    "parent without id": _commit(parents=(b"",)),
    "parent of 5 bytes": _commit(parents=(b"12345",)),
    "parent that is missing": _commit(number=2, parents=(bytes(32),)),
    "parents without end": _commit(number=2, parents=(bytes(32),) * 1000),
    "links of 5 bytes": _commit(links=b"12345"),
    "links that are missing": _commit(links=bytes(32)),
    "root with a name": _roots(name=b"x"),
    "root that is a file": _roots(kind=Kind.FILE),
    "root of 5 bytes": _roots(content=b"12345"),
    "root that is missing": _roots(content=bytes(32)),
    "root of another size": _roots(size=2**63 - 1, files=7),
    "root with a tiny map that is its entries": lambda writer: msgspec.structs.replace(
        (made := _commit()(writer)), root=msgspec.structs.replace(made.root, tiny=made.root.content)
    ),
    "links up and out": _links(LinkItem(b"../../etc/passwd", b"f"), LinkItem(b"f", b"f", (b"../../etc/passwd", b"f"))),
    "links from the root": _links(LinkItem(b"/f", b"/f", (b"/f",))),
    "links without name": _links(LinkItem(b"", b"f"), LinkItem(b"f", b"f", (b"", b"f"))),
    "links of one": _links(LinkItem(b"f", b"f", (b"f",))),
    "links in a circle": _links(LinkItem(b"f", b"g"), LinkItem(b"g", b"f")),
    "links to nothing": _links(LinkItem(b"f", b"f", (b"f", b"g")), LinkItem(b"g", b"f")),
    "hole of 0": _runs(ChunkRef(b"?", 100), ChunkRef(b"", 0), size=100),
    "chunk of 0": _runs(ChunkRef(b"?", 100), ChunkRef(bytes(32), 0), size=100),
    "chunk of a size that it has not": _runs(ChunkRef(b"?", 100), ChunkRef(bytes(32), 50), size=150),
    "chunk of 2^62": _runs(ChunkRef(bytes(32), 2**62)),
    "chunk with an id of 3": _runs(ChunkRef(b"abc", 100)),
    "negative hole": _runs(ChunkRef(b"?", 100), ChunkRef(b"", -5), size=100),
    "holes past 2^63": _runs(ChunkRef(b"", 2**62), ChunkRef(b"?", 100), ChunkRef(b"", 2**62), hole_bytes=2**63 - 1),
    "two holes": _runs(ChunkRef(b"?", 100), ChunkRef(b"", 5), ChunkRef(b"", 5), hole_bytes=10),
    "list that is shorter": _runs(ChunkRef(b"?", 100), ChunkRef(b"", 5), size=200, hole_bytes=5),
    "list that is longer": _runs(ChunkRef(b"?", 100), ChunkRef(b"", 500), size=101, hole_bytes=50),
    "list of chunks at level 24": _runs(ChunkRef(b"?", 100), level=24),
    "list at level 200": _runs(ChunkRef(b"?", 100), level=200),
}
