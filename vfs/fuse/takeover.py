"""A daemon that goes on where a killed one stopped: `python -m vfs.fuse.takeover TICKET`, run by the process guard.

The guard has kept the connection to the kernel open, and the memory of what the kernel knows. To programs a takeover is
a pause: open files and current directories go on, and requests that the killed daemon had not answered are sent again.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

import msgspec

from vfs.fuse.session.guard import end_connection
from vfs.fuse.session.handshake import can_resume
from vfs.fuse.session.legacy import Legacy
from vfs.fuse.session.log_format import FORMAT, log_to_stderr
from vfs.fuse.session.mountpoint import MountOptions

log = logging.getLogger(__name__)

TAKEOVERS_MAX, WITHIN_S = 30, 60.0
"""A daemon that ends as often has a reason to: the mount is dead then."""


class Ticket(msgspec.Struct):
    """What a daemon needs to take a mount over. `began`: when earlier ones did, in seconds of the monotonic clock."""

    repository: str
    mountpoint: str
    device: str
    options: MountOptions
    connection: int
    legacy: int
    began: tuple[float, ...] = ()

    def command(self) -> list[str]:
        """Returns the program of the next daemon."""
        return [sys.executable, "-m", __name__, msgspec.json.encode(self).decode()]


class Takeover:
    """The connection, with what is known about it, of a mount that goes on."""

    def __init__(self, ticket: Ticket) -> None:
        self.connection = ticket.connection
        self.legacy = Legacy(ticket.legacy)
        now = time.monotonic()
        self.began = (*(each for each in ticket.began if now - each < WITHIN_S), now)


def main(words: list[str]) -> int:
    """Serves the mount of a ticket until it ends, and returns the exit status."""
    ticket = msgspec.json.decode(words[0], type=Ticket)
    # The guard has the log of the daemon that started it for its standard error.
    log_to_stderr(FORMAT, as_json=ticket.options.log_json)
    os.set_inheritable(ticket.connection, False)
    mountpoint = Path(ticket.mountpoint)
    takeover = Takeover(ticket)
    try:
        if len(takeover.began) > TAKEOVERS_MAX or not can_resume(takeover.legacy.left.handshake):
            log.error("the mount at %s is not taken over, and is dead", mountpoint)
            end_connection(mountpoint, ticket.device)
            return 1
        from vfs.fuse.mount import run_mount

        log.warning("the daemon of %s was killed; process %d takes the mount over", mountpoint, os.getpid())
        run_mount(Path(ticket.repository), mountpoint, ticket.options, lambda _: None, takeover=takeover)
    except BaseException:
        log.exception("the mount at %s is not taken over any more, and is dead", mountpoint)
        end_connection(mountpoint, ticket.device)
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
