"""The program of a mount's process guard (see guard.py), and what it has in common with the daemon.

It runs alone, without the rest of the package. Each mount starts one: a module that it imports costs every mount
milliseconds and memory, so what is read from /proc is read without pathlib.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_CONNECTIONS = "/sys/fs/fuse/connections"
_PR_SET_PDEATHSIG = 1
DIED = signal.SIGUSR1
"""The signal that the kernel sends when the daemon's main thread has ended."""
END_CONNECTION = signal.SIGUSR2
"""The daemon's request."""
SIGNALS = {DIED, END_CONNECTION}
STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
"""With these, users stop a mount. A guard has them blocked, and a successor until it obeys them (signals.py)."""
WITHIN_S = 600.0
"""A daemon that is killed too often within this time has a reason to: the mount is dead then."""
READY = "ready"
MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


def unmount_exactly(path: Path | str, device: str, flags: int) -> None:
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
    fields = dict(line.split(b":", 1) for line in _read(f"/proc/self/fdinfo/{descriptor}").splitlines())
    mount = fields[b"mnt_id"].strip()
    for line in _read("/proc/self/mountinfo").splitlines():
        number, _, device, _ = line.split(b" ", 3)
        if number == mount:
            return device.decode()
    return None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def end_connection(path: Path | str, device: str) -> None:
    """Ends a mount's connection: the mount is dead then, like that of any killed daemon. Raises OSError.

    Its owner may by the kernel's control filesystem, where that is mounted; root may anyway.
    """
    try:
        with open(f"{_CONNECTIONS}/{device.partition(':')[2]}/abort", "w") as file:
            file.write("1\n")
    except OSError:
        try:
            unmount_exactly(path, device, MNT_FORCE)
        except OSError as error:
            # The descriptor that names the mount keeps it in use: its connection is ended, and it stays.
            if error.errno != errno.EBUSY:
                raise


def _watch(daemon: int, path: str, takeovers_max: int, successor: Sequence[str]) -> None:
    """Waits until the daemon's main thread has ended or requests it; becomes its successor or ends the connection."""
    os.chdir("/")
    device, ready = "", ""
    began: list[float] = []
    while True:
        received = _wait_for_end_of(daemon)
        if not ready:
            device, ready = _told()
        if not successor or received != DIED:
            break
        now = time.monotonic()
        began = [*(each for each in began if now - each < WITHIN_S), now]
        guard = 0
        if ready == READY and len(began) <= takeovers_max:
            daemon = os.getpid()
            try:
                # First of all: the successor may be killed as well.
                guard = os.fork()
            except OSError:
                pass
            else:
                if not guard:
                    os.setsid()
                    continue
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0)
        # The kernel sends the signal again for each thread of the daemon that becomes the parent and ends after the
        # first: one that came since would end the successor. So would a request of the daemon from before its end.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, STOPPING)
        try:
            os.execv(successor[0], [*successor, device, ready, str(guard or "")])
        except OSError:
            break
    if device:
        # An error: it has ended already, as for every process that could be killed as a whole.
        try:
            end_connection(path, device)
        except OSError:
            pass


def _wait_for_end_of(daemon: int) -> int:
    """Waits until the main thread of the parent process has ended, or for its request; returns the signal."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, DIED)
    # The daemon may have ended before prctl asked the kernel for the signal.
    if os.getppid() == daemon and not is_zombie(daemon):
        return signal.sigwait(SIGNALS)
    return DIED


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
    try:
        return _read(f"/proc/{process}/stat").rpartition(b") ")[2][:1] == b"Z"
    except (FileNotFoundError, ProcessLookupError):
        # Its parent has reaped it since the caller asked.
        return True


if __name__ == "__main__":
    _watch(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:])
