"""Daemons that are killed while they start, those of ordinary users and those in the foreground."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.mounts import TIMEOUT_S, mounted
from support.ordinary_user import run_as_ordinary_user
from support.repositories import Repositories
from support.waiting import wait_until
from vfs.control.daemon_socket import wait_until_closed
from vfs.fuse.session.mountpoint import mounted_at, unmount
from vfs.repo.file_metadata import MOUNT_XATTR

pytestmark = pytest.mark.mount

# A mount whose daemon kills itself when it calls, or has called, a function.
_KILLED = """
import os, signal, sys
from pathlib import Path
from vfs.fuse import event_loop, mount
from vfs.fuse.session.mount_options import MountOptions
name, when = sys.argv[3:]
module = mount if hasattr(mount, name) else event_loop
function = getattr(module, name)
def killed(*args, **kwargs):
    if when == "after":
        function(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, name, killed)
mount.run_mount(Path(sys.argv[1]), Path(sys.argv[2]), MountOptions(survives=True), print)
"""

# Mounts, kills the daemon under a writer that has a file open, and prints what the file holds.
_USE = """
import json, os, signal, subprocess, sys
place, *options = sys.argv[1:]
os.chdir(place)
def vfs(*words):
    return subprocess.run([sys.executable, "-m", "vfs", *words], check=True, capture_output=True, text=True).stdout
vfs("init", "repo")
os.mkdir("mnt")
foreground = None
if options:
    command = [sys.executable, "-u", "-m", "vfs", "mount", "--foreground", "repo", "mnt"]
    foreground = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert foreground.stdout.readline() == b"Mounted at mnt.\\n"
else:
    vfs("mount", "repo", "mnt")
file = os.open("mnt/file", os.O_RDWR | os.O_CREAT | os.O_APPEND)
seen = set()
for number in range(3):
    os.write(file, b"%d" % number)
    daemon = json.loads(os.getxattr("mnt", "user.vfs.mount"))["process"]
    seen.add(daemon)
    os.kill(daemon, signal.SIGKILL)
os.write(file, b".")
os.close(file)
with open("mnt/file") as again:
    print(again.read(), len(seen), flush=True)
vfs("-R", "mnt", "commit", "-m", "one")
if not options:
    vfs("umount", "mnt")
elif options[0] == "killed":
    foreground.kill()
    foreground.wait()
else:
    foreground.terminate()
    status = foreground.wait()
    assert status == 0, status
"""

# The program, with signals that stop it, also where it would have ignored them from its start.
_HEEDING = """
import signal, sys
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
from vfs.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("name", "when"),
    [("mount", "before"), ("mount", "after"), ("_device_at", "after"), ("_announce", "before")],
)
def test_killed_before_it_answered_a_daemon_leaves_no_mount(
    repository: Path, tmp_path: Path, name: str, when: str
) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    command = [sys.executable, "-c", _KILLED, str(repository), str(path), name, when]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == -signal.SIGKILL
    wait_until(lambda: mounted_at(path) is None and _is_unlocked(path))
    with mounted(repository, path) as mount:
        (mount / "file").write_text("x")


def _is_unlocked(directory: Path) -> bool:
    """Returns True once the last process that the killed daemon had started has ended, with the mount point's lock."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _guard_of(daemon: int) -> int:
    """Returns the guard of a daemon, which becomes the next daemon."""
    for child in Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split():
        if b"guard_process.py" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise AssertionError(f"process {daemon} has no guard")


def _has_begun(process: int) -> bool:
    return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[1:4] == [b"-P", b"-m", b"vfs.fuse.takeover"]


def test_a_daemon_that_is_killed_while_it_takes_over_is_taken_over_too(
    repositories: Repositories, tmp_path: Path
) -> None:
    repo = repositories.make()
    repo.close()
    with mounted(repo.path, tmp_path / "mnt", "survives") as mount:
        file = os.open(mount / "file", os.O_RDWR | os.O_CREAT)
        os.write(file, b"1")
        daemon = mount.process.pid
        for _ in range(8):
            successor = _guard_of(daemon)
            os.kill(daemon, signal.SIGKILL)
            wait_until(lambda process=successor: _has_begun(process))  # type: ignore[misc]
            daemon = successor
        os.write(file, b"2")
        assert os.pread(file, 10, 0) == b"12"
        os.close(file)
        last = os.pidfd_open(daemon)
        unmount(mount.path)
        poll = select.poll()
        poll.register(last, select.POLLIN)
        assert poll.poll(TIMEOUT_S * 1000)
        os.close(last)


@pytest.mark.parametrize("how", ["", "stopped", "killed"])
def test_the_mount_of_an_ordinary_user_goes_on(tmp_path: Path, how: str) -> None:
    done = run_as_ordinary_user(tmp_path, _USE, how)
    assert (done.returncode, done.stdout) == (0, "012. 3\n"), done.stderr
    # The process in the foreground has ended; its daemon does so too.
    assert wait_until_closed(tmp_path / "repo", "main", TIMEOUT_S)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_mount_in_the_foreground_goes_on_and_ends_with_its_process(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-c", _USE, str(tmp_path), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "012. 3\n"), done.stderr
    wait_until(lambda: mounted_at(tmp_path / "mnt") is None)
    assert wait_until_closed(tmp_path / "repo", "main", TIMEOUT_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("begins", [False, True])
def test_a_mount_in_the_foreground_that_is_stopped_while_it_is_taken_over_is_unmounted(
    repository: Path, tmp_path: Path, number: signal.Signals, *, begins: bool
) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    command = [sys.executable, "-c", _HEEDING, "mount", "--foreground", str(repository), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as foreground:
        try:
            assert foreground.stdout is not None
            assert foreground.stdout.readline().startswith(b"Mounted")
            daemon = json.loads(os.getxattr(path, MOUNT_XATTR))["process"]
            successor = _guard_of(daemon)
            os.kill(daemon, signal.SIGKILL)
            if begins:
                wait_until(lambda: _has_begun(successor))
            foreground.send_signal(number)
            assert foreground.wait(TIMEOUT_S) == 0
            assert mounted_at(path) is None
        finally:
            foreground.kill()
            if mounted_at(path) is not None:
                unmount(path, lazy=True)
    assert wait_until_closed(repository, "main", TIMEOUT_S)
