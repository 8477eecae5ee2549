"""What kernel and filesystem agree on at first, with what the C library cannot be told to agree to.

A connection begins with one message of the kernel, which says what it can do, and one answer, which says what of it is
wanted. The library of this age knows neither of the two things that matter for a working layer, so this stands between
for that one answer. The messages are part of the kernel's interface and only ever grow at their ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

_MESSAGE_BYTES_MAX = 1 << 20
_OFFERED = struct.Struct("<40x12xI")
"""Of the kernel's message: the flags, behind its head, two versions and the read-ahead."""
_WANTED = struct.Struct("<16x12xI")
"""Of the answer: the same, behind a shorter head."""

_ATOMIC_O_TRUNC = 1 << 3
_AUTO_INVAL_DATA = 1 << 12
_EXPLICIT_INVAL_DATA = 1 << 25
_HANDLE_KILLPRIV_V2 = 1 << 28


def improved(wanted: int, offered: int) -> int:
    """Returns the flags of an answer, with what is better for a filesystem that changes through its kernel alone.

    - Writing takes privileges away here (namespace and content of the overlay see to it), so the kernel need not ask
      for a file's capabilities before each write.
    - A file's pages stay when its times change: only this kernel, or an invalidation, changes what is in them.
    - Opening with O_TRUNC cuts by a request of its own, once the kernel knows that the file is no running program.
    """
    wanted &= ~_ATOMIC_O_TRUNC
    if offered & _HANDLE_KILLPRIV_V2:
        wanted |= _HANDLE_KILLPRIV_V2
    if offered & _EXPLICIT_INVAL_DATA:
        wanted = wanted & ~_AUTO_INVAL_DATA | _EXPLICIT_INVAL_DATA
    return wanted


class Handshake:
    """Stands at a connection's descriptor until both messages have passed.

    The library is given the descriptor, at which there is a socket first; `deliver` and `finish` are called, once each,
    before the library reads the first and the second time.
    """

    def __init__(self, connection: int) -> None:
        self.connection = connection
        self._kernel = os.dup(connection)
        self._offered = 0
        self._own, library = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with library:
            os.dup2(library.fileno(), connection, inheritable=False)

    def deliver(self) -> None:
        """Hands the kernel's message, which is there since it has mounted, to the library."""
        message = os.read(self._kernel, _MESSAGE_BYTES_MAX)
        (self._offered,) = _OFFERED.unpack_from(message)
        self._own.sendall(message)

    def finish(self) -> None:
        """Hands the library's answer, improved, to the kernel, and puts the connection in its place."""
        answer = bytearray(self._own.recv(_MESSAGE_BYTES_MAX))
        if len(answer) >= _WANTED.size:
            (wanted,) = _WANTED.unpack_from(answer)
            struct.pack_into("<I", answer, _WANTED.size - 4, improved(wanted, self._offered))
        # Where the mount has gone meanwhile, the library hears of it when it reads next.
        with contextlib.suppress(OSError):
            os.write(self._kernel, answer)
        os.dup2(self._kernel, self.connection, inheritable=False)
        os.close(self._kernel)
        self._own.close()
