"""A mount's beginning and end: signals, kills, dead mount points, two of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.mounts import TIMEOUT_S, Mount, call, mounted
from vfs.control.busy_processes import holders_of
from vfs.control.client import DaemonClient
from vfs.control.daemon_socket import wait_until_closed
from vfs.control.messages import CommitArgs, Empty, ProgressUpdate
from vfs.control.services import COMMIT, PING
from vfs.errors import Busy
from vfs.fuse.session.mountpoint import claimed, mounted_at, unmount
from vfs.repo.paths import control_socket
from vfs.repo.repository import Repository

pytestmark = pytest.mark.mount

DETACH = """
import os, sys
from pathlib import Path
from vfs.backend.rooted_path import RootedPath
from vfs.errors import VfsError
from vfs.fuse.session.daemon import detach
from vfs.fuse.mount import run_mount
from vfs.fuse.session.mount_options import MountOptions
repository, path = map(Path, sys.argv[1:])
try:
    log = RootedPath(repository, "run", "main.log")
    detach(lambda ready: run_mount(repository, path, MountOptions(), ready), log)
except VfsError as error:
    sys.exit(f"{error.code}: {error.message}")
"""


def _detach(repository: Path, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", DETACH, str(repository), str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts_cleanly(mount: Mount, number: signal.Signals) -> None:
    (mount / "file").write_text("uncommitted")
    mount.process.send_signal(number)
    assert mount.process.wait(TIMEOUT_S) == 0
    assert mounted_at(mount.path) is None
    assert not control_socket(mount.repository, "main").exists()
    with Repository.open(mount.repository) as repo, repo.open_overlay() as overlay:
        assert overlay.recovery.is_clean
        assert not overlay.is_clean()


def _niceness(pid: int) -> dict[int, int]:
    """Returns that of each thread of a process."""
    stats = {int(task.name): (task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()}
    return {task: int(stat.rpartition(")")[2].split()[16]) for task, stat in stats.items()}


def _may_be_raised() -> bool:
    command = [sys.executable, "-c", "import os; os.setpriority(os.PRIO_PROCESS, 0, -10)"]
    is_plain = os.getpriority(os.PRIO_PROCESS, 0) == 0 and os.sched_getscheduler(0) == os.SCHED_OTHER
    return is_plain and subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_requests_get_the_processor_before_other_threads(mount: Mount) -> None:
    (mount / "file").write_bytes(bytes(1 << 20))
    found = _niceness(mount.process.pid)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert found.pop(mount.process.pid) == (-10 if _may_be_raised() else own)
    assert set(found.values()) == {own}


@pytest.mark.parametrize("chosen", [["nice", "-n", "3"], ["chrt", "-b", "0"]])
def test_a_priority_that_was_chosen_stays(repository: Path, tmp_path: Path, chosen: list[str]) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    path = tmp_path / "mnt"
    path.mkdir()
    subprocess.run([*chosen, sys.executable, "-c", DETACH, str(repository), str(path)], check=True, timeout=TIMEOUT_S)
    try:
        pid = call(repository, "main", PING, Empty()).pid
        is_nice = chosen[0] == "nice"
        assert set(_niceness(pid).values()) == {own + 3 if is_nice else own}
        assert is_nice or os.sched_getscheduler(pid) == os.SCHED_BATCH
    finally:
        subprocess.run(["fusermount3", "-u", path], check=True)
    assert wait_until_closed(repository, "main", TIMEOUT_S)


def test_a_signal_unmounts_while_files_are_open(mount: Mount) -> None:
    file = os.open(mount / "file", os.O_RDWR | os.O_CREAT)
    os.write(file, b"bytes")
    mount.process.terminate()
    assert mount.process.wait(TIMEOUT_S) == 0
    assert mounted_at(mount.path) is None
    with pytest.raises(OSError, match="not connected"):
        os.close(file)


def test_a_killed_daemon_leaves_a_dead_mount_that_the_next_mount_takes_away(mount: Mount) -> None:
    (mount / "file").write_text("written, not synced")
    mount.process.kill()
    mount.process.wait()
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        os.stat(mount.path)
    assert DaemonClient.connect(mount.repository, "main") is None
    with mounted(mount.repository, mount.path) as again:
        assert (again / "file").read_text() == "written, not synced"
        assert again.commit().number == 1


def test_a_dead_mount_whose_attributes_the_kernel_remembers_is_taken_away_too(mount: Mount) -> None:
    os.stat(mount.path)
    mount.process.kill()
    mount.process.wait()
    os.stat(mount.path)
    with mounted(mount.repository, mount.path):
        pass


def test_a_working_layer_that_lost_its_end_is_in_the_log(mount: Mount) -> None:
    (mount / "file").write_text("cut in two")
    mount.process.kill()
    mount.process.wait()
    journal = max((mount.repository / "work" / "main").glob("journal-*"))
    os.truncate(journal, journal.stat().st_size - 1)
    with mounted(mount.repository, mount.path) as again:
        assert "did not end with a whole record" in again.log.read_text()


def test_a_second_mount_of_a_branch_and_a_taken_mount_point_are_refused(mount: Mount, tmp_path: Path) -> None:
    with pytest.raises(Busy, match="mounted at"), claimed(mount.path, mount.repository):
        pass
    other = tmp_path / "other"
    other.mkdir()
    done = _detach(mount.repository, other)
    assert done.returncode == 1
    assert done.stderr.startswith("busy: ")
    assert mounted_at(other) is None


def test_a_mount_goes_into_the_background_when_it_answers(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    done = _detach(repository, path)
    try:
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        here = mounted_at(path)
        assert here is not None
        assert (here.type, here.repository) == ("fuse.vfs", repository)
        pinged = call(repository, "main", PING, Empty())
        assert os.getsid(pinged.pid) != os.getsid(0)
        assert pinged.mountpoint == os.fsencode(path)
    finally:
        subprocess.run(["fusermount3", "-u", path], check=done.returncode == 0)
    assert wait_until_closed(repository, "main", TIMEOUT_S)


def test_a_missing_repository_is_an_error_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    done = _detach(tmp_path / "nothing", tmp_path / "mnt")
    assert done.returncode == 1
    assert "not-found" in done.stderr


def test_the_mount_forbids_devices_and_set_user_id(mount: Mount) -> None:
    here = os.statvfs(mount.path)
    assert here.f_flag & os.ST_NOSUID
    assert here.f_flag & os.ST_NODEV


def test_a_commit_under_way_is_finished_before_a_signal_unmounts(mount: Mount) -> None:
    for number in range(40):
        (mount / f"file{number}").write_bytes(os.urandom(1 << 20))
    told: list[ProgressUpdate] = []

    def terminate_once(progress: ProgressUpdate) -> None:
        if not told:
            mount.process.terminate()
        told.append(progress)

    result = mount.call(COMMIT, CommitArgs("m", "a"), terminate_once)
    assert told
    assert result.number == 1
    assert mount.process.wait(TIMEOUT_S) == 0
    with Repository.open(mount.repository) as repo, repo.open_overlay() as overlay:
        assert repo.refs.version_count("main") == 1
        assert overlay.recovery.is_clean
        assert overlay.is_clean()


def test_a_mount_that_is_unmounted_lazily_serves_its_last_user(mount: Mount) -> None:
    file = os.open(mount / "file", os.O_RDWR | os.O_CREAT)
    unmount(mount.path, lazy=True)
    assert mounted_at(mount.path) is None
    os.write(file, b"after")
    assert os.pread(file, 10, 0) == b"after"
    os.close(file)
    assert mount.process.wait(TIMEOUT_S) == 0
    with mounted(mount.repository, mount.path) as again:
        assert (again / "file").read_bytes() == b"after"


def test_unmounting_waits_for_what_holds_the_mount_without_a_name(mount: Mount) -> None:
    """A thread of a killed daemon that waits for its answer does so until its successor has given it."""
    held = os.open(mount.path, os.O_PATH)
    asked = []

    def end(path: Path) -> list[str]:
        asked.append(path)
        os.close(held)
        return []

    unmount(mount.path, holders=end)
    assert asked == [mount.path]


def test_unmounting_does_not_wait_for_what_has_a_name(mount: Mount, tmp_path: Path) -> None:
    asked = []

    def look(path: Path) -> list[str]:
        asked.append(path)
        return holders_of(path)

    (mount / "inner").mkdir()
    (tmp_path / "other").mkdir()
    with Repository.init(tmp_path / "other/repo") as other, mounted(other.path, mount / "inner"):
        with pytest.raises(Busy):
            unmount(mount.path, holders=look)
        assert holders_of(mount.path)[0] == f"a mount is at {mount / 'inner'}"
    hold = "import os, sys; os.chdir(sys.argv[1]); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(mount.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        with pytest.raises(Busy):
            unmount(mount.path, holders=look)
        process.communicate(b"")
    assert asked == [mount.path] * 2
