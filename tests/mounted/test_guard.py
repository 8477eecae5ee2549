"""A killed daemon's mount is dead and never hangs, also where a thread of the daemon waits in the kernel for it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.mounts import TIMEOUT_S, call, killed_if_it_hangs, mounted
from support.waiting import wait_until
from vfs.control.messages import CommitArgs
from vfs.control.services import COMMIT
from vfs.fuse.prefetch.worker_pool import PROCESSES
from vfs.fuse.session.guard_process import is_zombie
from vfs.fuse.session.mountpoint import mounted_at, unmount
from vfs.repo.repository import Repository

pytestmark = pytest.mark.mount

# A mount some of whose requests are never answered. It says so, and waits for the word when it may be killed. One of
# them ends the event loop, while a worker thread syncs for ever.
_SERVE = """
import os, sys, threading
from pathlib import Path
import trio
from vfs.fuse import request_handlers
from vfs.fuse.mount import run_mount
from vfs.fuse.session.mount_options import MountOptions
from vfs.overlay.overlay import Overlay

async def never(*_):
    print("asked", flush=True)
    await trio.sleep_forever()

def sync_for_ever(self):
    print("syncing", flush=True)
    threading.Event().wait()

async def mkdir(self, parent, name, mode, ctx):
    if name == b"broken":
        raise KeyboardInterrupt
    return await (never() if name == b"never" else answered(self, parent, name, mode, ctx))

answered = request_handlers.VfsOperations.mkdir
request_handlers.VfsOperations.mkdir = mkdir
if sys.argv[3] == "no-sync":
    Overlay.sync = sync_for_ever
if sys.argv[3] == "nothing":
    request_handlers.VfsOperations.getattr = never
run_mount(Path(sys.argv[1]), Path(sys.argv[2]), MountOptions(), lambda _: print("ready", flush=True))
"""


@contextmanager
def served(repository: Path, path: Path, answers: str) -> Iterator[subprocess.Popen[str]]:
    """Mounts, in a process of its own whose words can be read, and takes whatever is left of it away."""
    path.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _SERVE, str(repository), str(path), answers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
            if mounted_at(path) is not None:
                # Should it hang, this ends it.
                subprocess.run(["umount", "-f", path], check=False, capture_output=True)
            if mounted_at(path) is not None:
                unmount(path, lazy=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def threads_in(process: subprocess.Popen[str], place: str) -> list[str]:
    """Returns the threads of a process that wait in a function of the kernel."""
    tasks = Path(f"/proc/{process.pid}/task")
    return [task.name for task in tasks.iterdir() if (task / "wchan").read_text() == place]


def wait_for_thread_in(process: subprocess.Popen[str], place: str) -> None:
    wait_until(lambda: threads_in(process, place))


def test_a_daemon_killed_while_it_waits_for_its_own_answer(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "mnt"
    with served(repository, path, "nothing") as process:
        assert said(process) == "asked"
        wait_for_thread_in(process, "request_wait_answer")
        process.kill()
        process.wait(TIMEOUT_S)
        with pytest.raises(OSError, match="not connected") as caught:
            os.statvfs(path)
        assert caught.value.errno == errno.ENOTCONN
    with mounted(repository, path):
        pass


def test_a_daemon_killed_while_it_waits_for_a_directory_in_use(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "mnt"
    with served(repository, path, "everything") as process:
        assert said(process) == "ready"
        (path / "dir").mkdir()
        (path / "dir/file").write_text("committed")
        commit(repository)
        (path / "dir/file").write_text("uncommitted")
        with subprocess.Popen(["mkdir", path / "dir/never"], stderr=subprocess.PIPE, text=True) as user:
            assert said(process) == "asked"
            arguments = ["--repo", str(repository), "restore", "--discard", "v1", "dir/file"]
            command = [sys.executable, "-m", "vfs", *arguments]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as restoring:
                wait_for_thread_in(process, "fuse_reverse_inval_entry")
                process.kill()
                _, words = user.communicate(timeout=TIMEOUT_S)
                assert "abort" in words or "not connected" in words
                assert restoring.wait(TIMEOUT_S) == 3
        process.wait(TIMEOUT_S)
        assert mounted_at(path) is not None
    with mounted(repository, path) as mount:
        assert (mount / "dir/file").read_text() == "committed"


def test_a_daemon_that_ends_by_an_error_while_a_thread_of_it_does_not(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "mnt"
    with served(repository, path, "no-sync") as process:
        assert said(process) == "ready"
        (path / "file").write_text("acknowledged")
        with (
            subprocess.Popen(["sync", path / "file"], stderr=subprocess.PIPE, text=True) as user,
            killed_if_it_hangs(process),
        ):
            assert said(process) == "syncing"
            with subprocess.Popen(["mkdir", path / "broken"], stderr=subprocess.PIPE, text=True) as other:
                for asking in (other, user):
                    assert "abort" in asking.communicate()[1]
        # It is still there, and waits for its thread.
        assert process.poll() is None
        assert mounted_at(path) is not None
    with mounted(repository, path) as mount:
        assert (mount / "file").read_text() == "acknowledged"


def commit(repository: Path) -> None:
    call(repository, "main", COMMIT, CommitArgs("m", "a"))


def test_a_mount_that_ends_leaves_no_process(repository: Path, tmp_path: Path) -> None:
    with mounted(repository, tmp_path / "mnt") as mount:
        children = Path(f"/proc/{mount.process.pid}/task/{mount.process.pid}/children").read_text().split()
        assert len(children) == 1 + PROCESSES
        mount.end()
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    with Repository.open(repository) as repo, repo.open_overlay() as overlay:
        assert overlay.recovery.is_clean


def test_a_daemon_that_was_reaped_while_the_guard_asked_has_ended() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_zombie(ended.pid)
