"""A daemon that goes on where a killed one stopped: `python -m vfs.fuse.takeover TICKET`, run by the process guard.

The guard has kept the connection to the kernel open, and the memory of what the kernel knows. To programs a takeover is
a pause: open files and current directories go on, and requests that the killed daemon had not answered are sent again.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from vfs.fuse.session.connection import KeptConnection
from vfs.fuse.session.guard import ProcessGuard
from vfs.fuse.session.guard_process import READY, end_connection
from vfs.fuse.session.handshake import can_resume
from vfs.fuse.session.log_format import FORMAT, log_to_stderr
from vfs.fuse.session.mount_options import MountOptions
from vfs.fuse.session.mounting import detach, is_attached
from vfs.fuse.session.mountpoint import mounted_at, source_of
from vfs.fuse.session.supervisor import watched_supervisor
from vfs.fuse.session.takeover_state import Legacy

log = logging.getLogger(__name__)


class Ticket(msgspec.Struct):
    """What a daemon needs to take a mount over.

    `connection`, `legacy`: descriptors of a KeptConnection and of a Legacy.
    """

    repository: str
    mountpoint: str
    options: MountOptions
    connection: int
    legacy: int

    def command(self) -> list[str]:
        """Returns the program of the next daemon, to which the guard adds what it knows."""
        return [sys.executable, "-P", "-m", __name__, msgspec.json.encode(self).decode()]


class Takeover:
    """The connection, with what is known about it, of a mount that goes on.

    `supervisor`: a descriptor of the process that a mount in the foreground ends with, readable once it has ended.
    """

    def __init__(self, ticket: Ticket, kept: KeptConnection, guard: ProcessGuard, supervisor: int | None) -> None:
        self.kept = kept
        self.legacy = Legacy(ticket.legacy)
        self.guard = guard
        self.supervisor = supervisor


def main(words: list[str]) -> int:
    """Serves the mount of a ticket until it ends, and returns the exit status."""
    ticket = msgspec.json.decode(words[0], type=Ticket)
    device, ready, guard = words[1:]
    # The guard has the log of the daemon that started it for its standard error.
    log_to_stderr(FORMAT, as_json=ticket.options.log_json)
    mountpoint = Path(ticket.mountpoint)
    kept = KeptConnection(ticket.connection)
    supervisor = watched_supervisor(ticket.options.supervisor) if ticket.options.supervisor else None
    if ready != READY or (ticket.options.supervisor and supervisor is None):
        if guard:
            ProcessGuard(int(guard)).close()
        _leave_no_mount(kept, mountpoint, device, source_of(Path(ticket.repository), ticket.options.branch))
        return 1
    if not guard:
        log.error("the mount at %s is not taken over, and is dead: its daemons are killed too often", mountpoint)
        end_connection(mountpoint, device)
        return 1
    takeover = Takeover(ticket, kept, ProcessGuard(int(guard)), supervisor)
    try:
        if not can_resume(takeover.legacy.left.handshake):
            log.error("the mount at %s is not taken over, and is dead: that needs Linux 6.9", mountpoint)
            takeover.guard.close()
            end_connection(mountpoint, device)
            return 1
        from vfs.fuse.mount import run_mount

        log.warning("the daemon of %s was killed; process %d takes the mount over", mountpoint, os.getpid())
        run_mount(Path(ticket.repository), mountpoint, ticket.options, lambda _: None, takeover=takeover)
    except BaseException:
        log.exception("the mount at %s is not taken over any more, and is dead", mountpoint)
        takeover.guard.close()
        end_connection(mountpoint, device)
        raise
    return 0


def _leave_no_mount(kept: KeptConnection, mountpoint: Path, device: str, source: str) -> None:
    """Unmounts what a daemon mounted that was killed before the mount answered, or together with its supervisor."""
    connection = kept.connection()
    if connection is not None and is_attached(connection):
        log.error("the daemon of %s was killed before the mount answered, or with its supervisor", mountpoint)
        here = mounted_at(mountpoint)
        if here is not None and here.source == source:
            if device:
                # A thread of the killed daemon that waits for an answer would keep it open.
                with suppress(OSError):
                    end_connection(mountpoint, device)
            detach(mountpoint)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
