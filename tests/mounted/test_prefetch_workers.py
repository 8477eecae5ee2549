"""The processes beside a daemon that read ahead: programs get the right bytes whatever becomes of them."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.ended import have_ended, watched
from support.mounts import TIMEOUT_S, Mount
from support.waiting import wait_until
from vfs.fuse.prefetch.worker_pool import PROCESSES
from vfs.fuse.session.mountpoint import unmount
from vfs.fuse.session.supervisor import WORKER_NAME

pytestmark = pytest.mark.mount

FILES = 300
_READ = """
import hashlib, sys
from pathlib import Path
found = hashlib.blake2b()
for path in sorted(Path(sys.argv[1]).iterdir()):
    found.update(path.read_bytes())
print(found.hexdigest())
"""


def workers(mount: Mount) -> list[int]:
    """Returns the daemon's processes that read ahead, when all have their names."""
    wait_until(lambda: len(_found_workers(mount)) == PROCESSES)
    return _found_workers(mount)


def _found_workers(mount: Mount) -> list[int]:
    """Returns the children that read ahead by their names, which a process has shortly after its start."""
    children = [
        int(pid)
        for task in Path(f"/proc/{mount.process.pid}/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]
    return [pid for pid in children if Path(f"/proc/{pid}/comm").read_bytes() == WORKER_NAME + b"\n"]


def test_they_end_with_the_mount(mount: Mount) -> None:
    with watched(workers(mount)) as processes:
        assert len(processes) == PROCESSES
        mount.end()
        assert have_ended(processes)


def test_they_end_with_a_killed_daemon(mount: Mount) -> None:
    with watched(workers(mount)) as processes:
        assert len(processes) == PROCESSES
        mount.process.kill()
        mount.process.wait()
        assert have_ended(processes)
    unmount(mount.path, lazy=True)


@pytest.mark.parametrize("what", ["nothing", "stopped", "killed"])
def test_programs_that_read_in_order_get_the_right_bytes(mount: Mount, what: str) -> None:
    folder = mount / "data"
    folder.mkdir()
    source = random.Random(what)
    contents = {f"{number:03d}": source.randbytes(source.randrange(1, 200_000)) for number in range(FILES)}
    contents["large"] = source.randbytes(8 << 20) + b"words and figures, 12.5\n" * 500_000
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    mount.commit()
    expected = hashlib.blake2b(b"".join(contents.values())).hexdigest()
    mount.drop_kernel_caches()
    processes = workers(mount)
    if what == "stopped":
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
    try:
        readers = [_reading(mount / path) for path in ("@v1/data", "data", "@v1/data")]
        if what == "killed":
            for pid in processes:
                os.kill(pid, signal.SIGKILL)
        assert [reader.communicate(timeout=TIMEOUT_S)[0].strip() for reader in readers] == [expected] * 3
    finally:
        if what == "stopped":
            for pid in processes:
                os.kill(pid, signal.SIGCONT)
    assert "Traceback" not in mount.log.read_text()


def _reading(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _READ, str(folder)], stdout=subprocess.PIPE, text=True)
