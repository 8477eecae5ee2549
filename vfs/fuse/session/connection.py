"""A connection to the kernel that outlives the process which uses it.

Its descriptor lies in the queue of a socket, and stays open as long as one process has that socket: the daemon, the
process guard, or the daemon that takes over. Processes get the descriptor without removing it from the queue, so there
is no moment at which a killed process had the only one.
"""

from __future__ import annotations

import array
import os
import socket

_ITEM = array.array("i").itemsize


class KeptConnection:
    """The socket with the descriptor of a FUSE connection in its queue."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Makes an empty one, or takes over that of another process by the descriptor of its socket."""
        self._sending: socket.socket | None = None
        if descriptor is None:
            self._queue, self._sending = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            self._queue = socket.socket(fileno=descriptor)
            self._queue.set_inheritable(False)

    @property
    def descriptor(self) -> int:
        """The socket's descriptor, for a process that shall keep the connection open too."""
        return self._queue.fileno()

    @property
    def sending(self) -> int:
        """The descriptor through which another process puts a connection into the queue."""
        assert self._sending is not None
        return self._sending.fileno()

    def put(self, connection: int) -> None:
        """Puts a connection into the queue."""
        assert self._sending is not None
        socket.send_fds(self._sending, [b"\0"], [connection])

    def seal(self) -> None:
        """Allows no connection to be put any more."""
        if self._sending is not None:
            self._sending.close()

    def connection(self) -> int | None:
        """Returns a descriptor of the connection, the caller's to close; None if none was put.

        Waits while a process, `fusermount3` for example, may put one.
        """
        self.seal()
        flags = socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC
        _, ancillary, _, _ = self._queue.recvmsg(1, socket.CMSG_SPACE(_ITEM), flags)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                (found,) = array.array("i", data[:_ITEM])
                os.set_inheritable(found, False)
                return int(found)
        return None

    def close(self) -> None:
        """Lets the connection go: it ends when no other process has it."""
        self.seal()
        self._queue.close()
