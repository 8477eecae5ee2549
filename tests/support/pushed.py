"""A connection that takes files as the kernel does when they are pushed into its page cache."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

_STORE = struct.Struct("<IiQQQII")
_STORE_CODE = 4
_MESSAGE_BYTES_MAX = 1 << 20


class PushedFiles:
    """Stands where a mount's connection is; each write is one message, as it is there."""

    def __init__(self) -> None:
        self._own, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * _MESSAGE_BYTES_MAX)
        self._pages: dict[int, bytes] = {}

    @property
    def connection(self) -> int:
        """The descriptor to write to."""
        return self._theirs.fileno()

    def taken(self) -> dict[int, bytes]:
        """Returns the bytes that files have by now, by inode number."""
        while True:
            try:
                message = self._own.recv(_MESSAGE_BYTES_MAX, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return dict(self._pages)
            length, code, unique, ino, offset, size, _ = _STORE.unpack_from(message)
            assert (length, code, unique, offset) == (len(message), _STORE_CODE, 0, 0)
            assert size == len(message) - _STORE.size
            self._pages[ino] = message[_STORE.size :]

    def close(self) -> None:
        """Ends the connection."""
        self._own.close()
        self._theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
