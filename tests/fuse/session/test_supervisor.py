"""A daemon in the foreground ends with its supervisor, and with no other process that was its parent before."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The supervisor; its child, a daemon whose main thread ends before another one; and the child of that, its successor,
# which says whether it has a supervisor, whether that has ended and whether the daemon has.
_KILLED_DAEMON = """
import ctypes, os, select, signal, sys, threading, time
from vfs.fuse.session.guard_process import is_zombie
from vfs.fuse.session.supervisor import watched_supervisor
supervisor, daemon_s = os.getpid(), float(sys.argv[1])
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
daemon = os.fork()
if not daemon:
    daemon = os.getpid()
    if os.fork():
        threading.Thread(target=lambda: (time.sleep(daemon_s), os._exit(0))).start()
        ctypes.CDLL(None).pthread_exit(None)
    while not is_zombie(daemon):
        time.sleep(0.001)
    watched = watched_supervisor(supervisor)
    while not daemon_s and os.getppid() == daemon:
        time.sleep(0.001)
    has_gone = os.getppid() != daemon
    print(watched is not None, bool(select.select([watched], [], [], 0)[0]), has_gone, flush=True)
    select.select([watched], [], [])
    print("ended", flush=True)
    if not has_gone:
        os.kill(daemon, signal.SIGKILL)
    os._exit(0)
os.waitpid(daemon, 0)
os.wait()
"""


@pytest.mark.parametrize(("daemon_s", "has_gone"), [(0.0, True), (60.0, False)])
def test_a_successor_ends_with_its_supervisor_whether_a_killed_daemon_is_gone_or_not(
    daemon_s: float, *, has_gone: bool
) -> None:
    command = [sys.executable, "-c", _KILLED_DAEMON, str(daemon_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        try:
            assert supervisor.stdout.readline() == f"True False {has_gone}\n"
        finally:
            supervisor.kill()
        assert supervisor.stdout.readline() == "ended\n"


def test_a_successor_whose_supervisor_has_ended_has_none() -> None:
    script = "import sys; from vfs.fuse.session.supervisor import watched_supervisor as w; print(w(int(sys.argv[1])))"
    with subprocess.Popen(["sleep", "3600"]) as other:
        try:
            for process in (other.pid, _ended()):
                command = [sys.executable, "-c", script, str(process)]
                assert subprocess.run(command, capture_output=True, check=True).stdout == b"None\n"
        finally:
            other.kill()


def _ended() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


# A supervisor whose daemon was killed, and has a thread left; the daemon's child is its successor, which says what it
# gets, and then ends that thread.
_LINGERING_DAEMON = """
import ctypes, os, sys, threading, time
from vfs.fuse.session import supervisor
reading, writing = os.pipe()
daemon = os.fork()
if not daemon:
    if os.fork():
        threading.Thread(target=time.sleep, args=(60,)).start()
        ctypes.CDLL(None).pthread_exit(None)
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], "vfs.fuse.takeover", str(os.getppid())])
supervisor._supervise(daemon, reading, lambda: None)
"""
_SUCCESSOR = """
import os, signal, sys, time
from vfs.fuse.session.guard_process import STOPPING, is_zombie
signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
daemon = int(sys.argv[2])
while not is_zombie(daemon):
    time.sleep(0.001)
print("takes over", flush=True)
print(signal.Signals(signal.sigwait(STOPPING)).name, flush=True)
os.kill(daemon, signal.SIGKILL)
while os.getppid() == daemon:
    time.sleep(0.001)
print(signal.sigtimedwait(STOPPING, 0.2), flush=True)
"""


def test_a_successor_is_stopped_once_while_the_killed_daemon_is_not_gone() -> None:
    command = [sys.executable, "-c", _LINGERING_DAEMON, _SUCCESSOR]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        try:
            assert supervisor.stdout.readline() == "takes over\n"
            supervisor.terminate()
            assert supervisor.stdout.readline() == "SIGTERM\n"
            assert supervisor.stdout.readline() == "None\n"
        finally:
            supervisor.kill()
