"""The process guard of a mount: it ends the connection when the daemon was killed and cannot.

A thread that waits in the kernel for its own process's answer, or for a directory that another process has locked while
it waits for that answer, cannot be killed, and keeps the connection open when the rest of the process has ended.
Programs that use the mount would hang instead of getting an error. A process that does not have the connection open can
end it.

This module is also the program of that process: it runs alone, without the rest of the package.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_CONNECTIONS = Path("/sys/fs/fuse/connections")
_PR_SET_PDEATHSIG = 1
_DIED = signal.SIGUSR1
"""The signal that the kernel sends when the daemon's main thread has ended; SIGTERM is the daemon's request."""
_SIGNALS = {signal.SIGTERM, _DIED}
TAKEOVERS_MAX, WITHIN_S = 30, 600.0
"""A daemon that is killed as often has a reason to: the mount is dead then."""
READY = "ready"
MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


class ProcessGuard:
    """The guard of a mount, for as long as the daemon's main thread lives.

    It is started before the mount is made, so that a daemon which is killed at any moment has one.
    """

    def __init__(self, process: int, told: int | None = None) -> None:
        """`process`: a child of this one; `told`: the descriptor through which it is told what happens."""
        self._process: int | None = process
        self._told = told

    @classmethod
    def start(cls, path: Path, successor: Sequence[str] = (), kept: Sequence[int] = ()) -> ProcessGuard:
        """Starts the guard of a mount point, in the main thread: the kernel tells the guard of that thread's end.

        `successor`: the program that the guard becomes if the daemon is killed, with the descriptors `kept` open and
        three more arguments: the mount's device and READY, as far as they were told, and the process of its own guard,
        "" if daemons were killed too often. Without a successor the guard ends the connection.
        """
        heard, told = os.pipe()
        try:
            actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
                (os.POSIX_SPAWN_DUP2, heard, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                *((os.POSIX_SPAWN_DUP2, each, each) for each in kept),
            ]
            command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(path), *successor]
            # In a session of its own: a Ctrl-C is meant for the daemon. With the signals blocked: one that is sent
            # before the guard waits for it is not lost.
            process = os.posix_spawn(
                sys.executable, command, os.environ, file_actions=actions, setsid=True, setsigmask=_SIGNALS
            )
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(heard)
        return cls(process, told)

    def tell(self, word: str) -> None:
        """Tells the guard the mount's device, `MAJOR:MINOR`, once it is there, then READY."""
        if self._told is not None:
            # A guard that was killed guards no more; the mount goes on.
            with suppress(BrokenPipeError):
                os.write(self._told, f"{word}\n".encode())

    def end_connection(self) -> None:
        """Makes the guard end the connection now, for a daemon that answers no more and cannot end yet.

        It needs almost no memory.
        """
        if self._process is not None:
            os.kill(self._process, signal.SIGTERM)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Guards while the mount is served; the guard is gone afterwards."""
        try:
            yield
        except BaseException:
            # Programs and threads of the daemon that wait for an answer get an error before the daemon waits for them.
            self.end_connection()
            self._reap()
            raise
        finally:
            self.close()

    def close(self) -> None:
        """Ends the guard."""
        if self._told is not None:
            os.close(self._told)
            self._told = None
        if self._process is not None:
            os.kill(self._process, signal.SIGKILL)
            self._reap()

    def _reap(self) -> None:
        if self._process is not None:
            with suppress(ChildProcessError):
                os.waitpid(self._process, 0)
            self._process = None


def unmount_exactly(path: Path, device: str, flags: int) -> None:
    """Unmounts, as root, the mount of a device at the top of a path, and no other that took its place meanwhile.

    With MNT_FORCE its connection is ended and the mount stays, dead. Raises OSError; ENOENT if it is not there.
    """
    # Sends no request to the daemon, which may be dead or hang; names this mount, whatever is at the path later.
    pinned = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _device_of(pinned) != device:
            raise OSError(errno.ENOENT, f"no mount of device {device} is at {path}")
        library = ctypes.CDLL(None, use_errno=True)
        if library.umount2(f"/proc/self/fd/{pinned}".encode(), flags):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(pinned)


def _device_of(descriptor: int) -> str | None:
    """Returns the `MAJOR:MINOR` of the mount that a descriptor is in, without asking the filesystem itself."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines())
    mount = fields["mnt_id"].strip().encode()
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        number, _, device, _ = line.split(b" ", 3)
        if number == mount:
            return device.decode()
    return None


def end_connection(path: Path, device: str) -> None:
    """Ends a mount's connection: the mount is dead then, like that of any killed daemon. Raises OSError.

    Its owner may by the kernel's control filesystem, where that is mounted; root may anyway.
    """
    try:
        (_CONNECTIONS / device.partition(":")[2] / "abort").write_text("1\n")
    except OSError:
        try:
            unmount_exactly(path, device, MNT_FORCE)
        except OSError as error:
            # The descriptor that names the mount keeps it in use: its connection is ended, and it stays.
            if error.errno != errno.EBUSY:
                raise


def _watch(daemon: int, path: Path, successor: Sequence[str]) -> None:
    """Waits until the daemon's main thread has ended or requests it; becomes its successor or ends the connection."""
    os.chdir("/")
    device, ready = "", ""
    began: list[float] = []
    while True:
        received = _wait_for_end_of(daemon)
        if not ready:
            device, ready = _told()
        if not successor or received != _DIED:
            break
        now = time.monotonic()
        began = [*(each for each in began if now - each < WITHIN_S), now]
        guard = 0
        if ready == READY and len(began) <= TAKEOVERS_MAX:
            daemon = os.getpid()
            with suppress(OSError):
                # First of all: the successor may be killed as well.
                guard = os.fork()
                if not guard:
                    os.setsid()
                    continue
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0)
        # The kernel sends the signal again for each thread of the daemon that becomes the parent and ends after the
        # first: one that came since would end the successor.
        signal.signal(_DIED, signal.SIG_IGN)
        signal.signal(_DIED, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        with suppress(OSError):
            os.execv(successor[0], [*successor, device, ready, str(guard or "")])
        break
    if device:
        # An error: it has ended already, as for every process that could be killed as a whole.
        with suppress(OSError):
            end_connection(path, device)


def _wait_for_end_of(daemon: int) -> int:
    """Waits until the main thread of the parent process has ended, or for its request; returns the signal."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _DIED)
    # The daemon may have ended before prctl asked the kernel for the signal.
    if os.getppid() == daemon and not is_zombie(daemon):
        return signal.sigwait(_SIGNALS)
    return _DIED


def _told() -> tuple[str, str]:
    """Returns the mount's device and READY, as far as the daemon told them."""
    os.set_blocking(0, False)
    try:
        device, ready, *_ = [*os.read(0, 100).decode().split("\n"), "", ""]
    except BlockingIOError:
        return "", ""
    return device, ready


def is_zombie(process: int) -> bool:
    """Returns True if the main thread of a process has ended."""
    return Path(f"/proc/{process}/stat").read_bytes().rpartition(b") ")[2][:1] == b"Z"


if __name__ == "__main__":
    _watch(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
