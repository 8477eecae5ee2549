"""A daemon in the foreground ends with its supervisor, and with no other process that was its parent before."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The supervisor; its child, a daemon whose main thread ends before another one; and the child of that, its successor.
_KILLED_DAEMON = """
import ctypes, os, signal, sys, threading, time
from vfs.fuse.session.guard_process import is_zombie
from vfs.fuse.session.supervisor import ends_with
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
    print(ends_with(supervisor), flush=True)
    signal.pause()
os.waitpid(daemon, 0)
os.wait()
"""


@pytest.mark.parametrize("daemon_s", [0.0, 0.5])
def test_a_successor_waits_for_the_last_thread_of_a_killed_daemon(daemon_s: float) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED_DAEMON, str(daemon_s)], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        try:
            assert supervisor.stdout.readline() == "True\n"
        finally:
            supervisor.kill()
        # The pipe's end: the successor has ended with its supervisor.
        assert supervisor.stdout.read() == ""


def test_a_successor_whose_supervisor_has_ended_is_told() -> None:
    script = "import os, sys; from vfs.fuse.session.supervisor import ends_with; print(ends_with(int(sys.argv[1])))"
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE, check=True)
    done = subprocess.run([sys.executable, "-c", script, gone.stdout], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "False\n"
