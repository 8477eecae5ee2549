"""The recording of a run while it goes on: a file to which the daemon appends what it observes, in blocks.

    recordings/ID = block*        block = length (4) || CRC-32 (4) || MessagePack array of events

The daemon holds an exclusive `flock` on the file as long as it records. A file without a holder is of a daemon that was
killed: what its blocks say is in the record all the same.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from vfs.backend.rooted_path import RootedPath
from vfs.model.decoding import UNDECODABLE
from vfs.repo.runs.records import check_run_id

_DIRECTORY = "recordings"
_HEAD = struct.Struct("<II")
_BLOCK_BYTES_MAX = 64 << 20
_FILE_BYTES_MAX = 4 << 30

EventKind = Literal[
    "read", "list", "version-read", "version-list", "version-place", "named", "write", "remove", "step", "note", "end"
]


class Event(msgspec.Struct, frozen=True, array_like=True):
    """One thing that a run did. `path`: from the branch's or version's root. `version`: a commit's id.

    `entry`: of a file of a version, the encoded Entry. A *version-place* is a file whose directory, at `path`, was not
    to be read when it was opened: `entry` is its position in there, in decimal. A *step* is a run inside this one, a
    *note* a sentence: `path` is its text. An *end* is the last event of a recording that was ended in order; its
    `version` is what the working layer shows since, empty where that is not known.
    """

    kind: EventKind
    path: bytes = b""
    version: bytes = b""
    entry: bytes = b""


def recording_path(repository: Path, run_id: str) -> RootedPath:
    """Returns the file of a run's recording."""
    return RootedPath(repository, _DIRECTORY, check_run_id(run_id))


class RecordingFile:
    """A recording that is written; one thread at a time uses it."""

    def __init__(self, path: RootedPath) -> None:
        path.parent.make_directory()
        self._descriptor = path.create()
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def append(self, events: list[Event]) -> None:
        """Appends events as blocks. Raises OSError."""
        for start in range(0, len(events), 10_000):
            payload = msgspec.msgpack.encode(events[start : start + 10_000])
            data = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
            while data:
                data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        """Closes the file, and gives up its lock."""
        os.close(self._descriptor)


def is_recorded(path: RootedPath) -> bool:
    """Returns True while a daemon records into a file."""
    try:
        descriptor = path.open(os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_events(path: RootedPath) -> Iterator[Event]:
    """Yields the events of a recording up to its end, or to where it is torn; none where there is no file."""
    try:
        descriptor = path.open(os.O_RDONLY)
    except FileNotFoundError:
        return
    decode = msgspec.msgpack.Decoder(list[Event]).decode
    with open(descriptor, "rb") as file:
        while file.tell() < _FILE_BYTES_MAX:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return
            size, check = _HEAD.unpack(head)
            if size > _BLOCK_BYTES_MAX:
                return
            payload = file.read(size)
            if len(payload) < size or zlib.crc32(payload) != check:
                return
            try:
                events = decode(payload)
            except UNDECODABLE:
                return
            yield from events
