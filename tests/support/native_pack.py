"""A file of blocks of which the native session layer answers reads, without a kernel."""

from __future__ import annotations

import random
import select
from pathlib import Path

from support.native_layer import (
    READ_,
    READ_BYTES_MAX,
    TIMEOUT_S,
    Kernel,
    read_body,
)
from vfs.model.ids import chunk_id
from vfs.native.session import (
    HANDLE,
    Piece,
    Place,
    ReturnedRead,
)
from vfs.store.packs.blocks import ObjectType, StoredObject, encode_block
from vfs.store.packs.compression import Compression


class Pack:
    """A file of blocks, of whose chunks reads are answered natively, and the read that is given back."""

    def __init__(self, kernel: Kernel, path: Path) -> None:
        path.touch()
        self.path = path
        self._file = path.open("rb")
        self.places: dict[int, Place | None] = {}
        self.given: dict[int, bytes] = {}
        self.looked_up = self.told = 0
        self._kernel = kernel
        event = kernel.session.serve_reads(self)
        assert event is not None
        self.event = event

    def locate(self, ino: int, _offset: int, _size: int) -> Place | None:
        self.looked_up += 1
        if ino in self.given:
            self._kernel.session.give(ino, self.given[ino])
        return self.places.get(ino)

    def located(self) -> None:
        self.told += 1

    def add(self, *chunks: bytes) -> list[Piece]:
        """Appends a block; returns where its chunks are."""
        stored = [StoredObject(ObjectType.CHUNK, len(chunk), chunk_id(chunk)) for chunk in chunks]
        block = encode_block(stored, chunks, Compression())
        offset = self.path.stat().st_size
        with self.path.open("ab") as file:
            file.write(block.header)
            file.write(block.payload)
        return [Piece(offset, block.block_bytes, one.size, 1, self._file.fileno(), one.id) for one in stored]

    def place(self, *pieces: Piece, is_kept: bool = False) -> Place:
        return Place(0, sum(piece.size for piece in pieces), pieces, is_kept)

    def asked(self, ino: int, place: Place | None, offset: int = 0, size: int = READ_BYTES_MAX) -> bytes | None:
        """Asks for a file's bytes; returns what the binding gets, if anything."""
        self.places[ino] = place
        return self._kernel.send(READ_, ino, read_body(ino | HANDLE, offset, size))

    def read(self, ino: int, place: Place | None, offset: int = 0, size: int = READ_BYTES_MAX) -> bytes:
        assert self.asked(ino, place, offset, size) is None
        error, body = self._kernel.answer()
        assert not error
        return body

    def flip(self, offset: int) -> None:
        """Changes a bit of the file."""
        with self.path.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))

    def refuses(self, ino: int, place: Place) -> None:
        """Asks for bytes that Python has to answer: they are not what they must be."""
        passed = self.asked(ino, place)
        if passed is None:
            read = self.given_back()
            assert read == ReturnedRead(self._kernel.requests, ino, 0, READ_BYTES_MAX)
        # A read that is alone may never leave the thread of the event loop.
        assert passed is None or not self._kernel.is_crowded
        assert not self._kernel.has_answer()

    def given_back(self) -> ReturnedRead:
        assert select.select([self.event], [], [], TIMEOUT_S)[0]
        (read,) = self._kernel.session.take_returned()
        return read

    def answer(self) -> bytes | None:
        """Returns the answer to the last read; None if that is given back."""
        answers = select.select([self._kernel.socket.fileno(), self.event], [], [], TIMEOUT_S)[0]
        assert answers
        if self.event in answers:
            self.given_back()
            return None
        error, body = self._kernel.answer()
        assert not error
        return body

    def close(self) -> None:
        self._kernel.session.detach()
        self._file.close()


SOURCE_OF_BYTES = random.Random(3)


def noise(size: int) -> bytes:
    return SOURCE_OF_BYTES.randbytes(size)


def text(size: int) -> bytes:
    """Returns bytes of which zstd makes a half."""
    return SOURCE_OF_BYTES.randbytes(size).hex().encode()[:size]
