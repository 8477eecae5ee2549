"""The FUSE handshake (FUSE_INIT): sets flags that the C library does not know.

A connection begins with one message of the kernel, which offers flags, and one answer, which selects some of them. The
installed library does not know two flags that a working layer needs, so this module relays these two messages and
changes the answer. Both are part of the kernel's interface and only ever grow at their ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable

from vfs.fuse.session.takeover_state import Legacy

_MESSAGE_BYTES_MAX = 1 << 20
_OFFERED = struct.Struct("<40x12xI")
"""Of the kernel's message: the flags, behind its head, two versions and the read-ahead."""
_WANTED = struct.Struct("<16x12xI")
"""Of the answer: the same, behind a shorter head. The limits of requests in the background are next."""
_BACKGROUND = struct.Struct("<HH")

_OFFERED_MORE = struct.Struct("<40x16xI")
"""Of the kernel's message: the second word of flags."""
_HAS_RESEND = 1 << 7
"""In the second word: the kernel can send unanswered requests again (Linux 6.9)."""
_RESEND = struct.pack("<IiQ", 16, 7, 0)
"""The notification that requests it: its length, its code, no request."""

_ATOMIC_O_TRUNC = 1 << 3
_AUTO_INVAL_DATA = 1 << 12
_EXPLICIT_INVAL_DATA = 1 << 25
_HANDLE_KILLPRIV_V2 = 1 << 28


def improved(wanted: int, offered: int) -> int:
    """Returns the flags of an answer, changed for a filesystem that only its kernel and invalidations change.

    - The overlay removes privileges with each write, so the kernel need not ask for a file's capabilities before it.
    - A file's pages stay cached when its times change: only this kernel, or an invalidation, changes its content.
    - Opening with O_TRUNC truncates by a request of its own, after the kernel has checked that no process executes it.
    """
    wanted &= ~_ATOMIC_O_TRUNC
    if offered & _HANDLE_KILLPRIV_V2:
        wanted |= _HANDLE_KILLPRIV_V2
    if offered & _EXPLICIT_INVAL_DATA:
        wanted = wanted & ~_AUTO_INVAL_DATA | _EXPLICIT_INVAL_DATA
    return wanted


def can_resume(message: bytes) -> bool:
    """Returns True if another daemon can take over a connection that began with this message."""
    return len(message) >= _OFFERED_MORE.size and bool(_OFFERED_MORE.unpack_from(message)[0] & _HAS_RESEND)


class Handshake:
    """Relays the two messages of a connection.

    The library gets the connection's descriptor, which is a socket at first. The caller calls `deliver` before the
    library reads for the first time, and `finish` before it reads for the second.
    """

    def __init__(
        self, connection: int, *, background_max: int | None = None, legacy: Legacy | None = None, resumes: bool = False
    ) -> None:
        """`background_max`: how many readahead requests the kernel may send at a time; None: its default, 12.

        `legacy`: where the kernel's message is recorded, or with `resumes`, was recorded: then the kernel has had its
        answer, and is asked to send the requests again that no daemon has answered.
        """
        self._legacy = legacy
        self._resumes = resumes
        self.call_when_finished: Callable[[], None] | None = None
        """Called when the connection is at its descriptor."""
        self.connection = connection
        self._background_max = background_max
        self._kernel = os.dup(connection)
        self._offered = 0
        self._own, library = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with library:
            os.dup2(library.fileno(), connection, inheritable=False)

    def deliver(self) -> None:
        """Relays the kernel's message, which is there since the mount was made, to the library."""
        if self._resumes and self._legacy is not None:
            message = self._legacy.left.handshake
        else:
            message = os.read(self._kernel, _MESSAGE_BYTES_MAX)
            if self._legacy is not None:
                self._legacy.shook_hands(message)
        (self._offered,) = _OFFERED.unpack_from(message)
        self._own.sendall(message)

    def finish(self) -> None:
        """Relays the library's answer, changed, to the kernel, and puts the connection at the descriptor."""
        answer = bytearray(self._own.recv(_MESSAGE_BYTES_MAX))
        if len(answer) >= _WANTED.size:
            (wanted,) = _WANTED.unpack_from(answer)
            struct.pack_into("<I", answer, _WANTED.size - 4, improved(wanted, self._offered))
        if self._background_max is not None and len(answer) >= _WANTED.size + _BACKGROUND.size:
            # The second is the number from which the kernel calls the connection congested.
            _BACKGROUND.pack_into(answer, _WANTED.size, self._background_max, self._background_max * 3 // 4)
        # If the mount has ended meanwhile, the library's next read fails.
        with contextlib.suppress(OSError):
            os.write(self._kernel, _RESEND if self._resumes else answer)
        os.dup2(self._kernel, self.connection, inheritable=False)
        os.close(self._kernel)
        self._own.close()
        if self.call_when_finished is not None:
            self.call_when_finished()
