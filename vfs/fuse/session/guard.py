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
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_CONNECTIONS = Path("/sys/fs/fuse/connections")
_PR_SET_PDEATHSIG = 1
_DIED = signal.SIGUSR1
"""The signal that the kernel sends when the daemon's main thread has ended; SIGTERM is the daemon's request."""
_SIGNALS = {signal.SIGTERM, _DIED}
MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


@contextmanager
def process_guard(
    path: Path, device: str, successor: Sequence[str] = (), kept: Sequence[int] = ()
) -> Iterator[Callable[[], None]]:
    """Guards the mount at a path, by its device's `MAJOR:MINOR`, while the caller's thread lives.

    `successor`: the program that the guard becomes if the daemon is killed, with the descriptors `kept` open; without
    one, the guard ends the connection.

    Yields a function that makes the guard end the connection now, for a daemon that answers no more and cannot end yet;
    it needs almost no memory. The caller must be the main thread: the kernel tells the guard of that thread's end.
    """
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(path), device, *successor]
    # The child inherits the blocked signal: one that is sent before the child waits for it is not lost.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        # In a session of its own: a Ctrl-C is meant for the daemon. In `/`, and without descriptors of the daemon.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            pass_fds=kept,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    with process:
        try:
            yield process.terminate
        except BaseException:
            # Programs and threads of the daemon that wait for an answer get an error before the daemon waits for them.
            process.terminate()
            process.wait()
            raise
        finally:
            process.kill()


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


def _watch(daemon: int, path: Path, device: str, successor: Sequence[str]) -> None:
    """Waits until the daemon's main thread has ended or requests it; becomes its successor or ends the connection."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _DIED)
    received: int = _DIED
    # The daemon may have ended before prctl asked the kernel for the signal.
    if os.getppid() == daemon and not _is_zombie(daemon):
        received = signal.sigwait(_SIGNALS)
    if successor and received == _DIED:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        with suppress(OSError):
            os.execv(successor[0], list(successor))
    try:
        end_connection(path, device)
    except OSError:
        # It has ended already, as for every process that could be killed as a whole.
        return


def _is_zombie(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_bytes().rpartition(b") ")[2][:1] == b"Z"


if __name__ == "__main__":
    _watch(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
