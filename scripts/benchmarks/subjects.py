"""The subjects: a plain directory, this filesystem, and an empty filesystem on the same binding.

Each holds the same tree and can be made to forget what it has read.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks import machine
from vfs.fuse.event_loop import READ_AHEAD_KIB

MOUNT_TIMEOUT_S = 60
PROGRAM = Path(sys.executable).with_name("vfs")


def vfs(*arguments: str | Path) -> str:
    """Runs the program and returns what it prints."""
    command = [str(PROGRAM), *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(
            f"{' '.join(command)} exited with {finished.returncode}:\n{finished.stderr}{finished.stdout}"
        )
    return finished.stdout


def is_mounted(path: Path) -> bool:
    """Returns True if a filesystem is mounted at a path; reads the kernel's table: a dead mount cannot block that."""
    table = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    return any(line.split(" ")[4] == str(path) for line in table.splitlines())


def unmount(path: Path) -> None:
    """Unmounts a path, if anything is mounted there, and waits until it is gone."""
    deadline = time.monotonic() + MOUNT_TIMEOUT_S
    while is_mounted(path):
        subprocess.run(["fusermount3", "-u", str(path)], capture_output=True, check=False)
        if time.monotonic() > deadline:
            # A process may still use it: detach it, so that no mount is left behind.
            subprocess.run(["umount", "--lazy", str(path)], capture_output=True, check=False)
            raise TimeoutError(f"{path} was in use and is detached")
        time.sleep(0.05)


class Subject(Protocol):
    """One column of the table."""

    name: str

    def refresh(self) -> None:
        """Drops all caches and, for a mount, starts a new daemon."""
        ...

    def tree(self) -> Path:
        """Returns the root of the data set, to be read."""
        ...

    def working(self) -> Path:
        """Returns a directory to write to."""
        ...

    def close(self) -> None:
        """Unmounts."""
        ...


class Plain:
    """A plain directory on the filesystem of the scratch directory."""

    def __init__(self, tree: Path, working: Path) -> None:
        self.name = machine.filesystem_of(tree)
        self._tree = tree
        self._working = working

    def refresh(self) -> None:
        machine.drop_caches()

    def tree(self) -> Path:
        return self._tree

    def working(self) -> Path:
        return self._working

    def close(self) -> None:
        return


class Mounted:
    """This filesystem, writable: version 1 of a repository for reading, the working layer for writing."""

    name = "vfs"
    options: Sequence[str] = ()

    def __init__(self, repository: Path, mountpoint: Path) -> None:
        self.repository = repository
        self.mountpoint = mountpoint
        self.mount_seconds: list[float] = []
        self.peak_bytes = 0
        self._memory: machine.MemoryWatch | None = None
        mountpoint.mkdir(parents=True, exist_ok=True)

    def mount(self) -> None:
        """Mounts and notes how long it took until the mount answered."""
        command: list[str | Path] = ["mount", *self.options, self.repository, self.mountpoint]
        self.mount_seconds.append(machine.seconds(lambda: vfs(*command)))
        pid = self.daemon()
        if pid is not None:
            self._memory = machine.MemoryWatch(pid)

    def refresh(self) -> None:
        self.close()
        machine.drop_caches()
        self.mount()

    def tree(self) -> Path:
        return self.version(1)

    def version(self, number: int) -> Path:
        """Returns the root of a version."""
        return self.mountpoint / f"@v{number}"

    def working(self) -> Path:
        return self.mountpoint

    def close(self) -> None:
        if not is_mounted(self.mountpoint):
            return
        pid = self.daemon()
        if self._memory is not None:
            self.peak_bytes = max(self.peak_bytes, self._memory.stop())
            self._memory = None
        try:
            vfs("umount", self.mountpoint)
        finally:
            unmount(self.mountpoint)
        while pid is not None and Path(f"/proc/{pid}").exists():
            time.sleep(0.01)

    def daemon(self) -> int | None:
        """Returns the process that serves the mount."""
        return machine.process_with_words(b"mount", os.fsencode(self.mountpoint))


class ReadOnly(Mounted):
    """A read-only mount of the same repository, as training nodes have: version 1."""

    name = "vfs, read-only"
    options = ("--read-only",)

    def working(self) -> Path:
        raise RuntimeError("a read-only mount has nothing to write to")


class WorkingView:
    """The working layer of the same mount, read where nothing in it has changed since the newest version."""

    name = "vfs, working layer"

    def __init__(self, mounted: Mounted) -> None:
        self._mounted = mounted

    def refresh(self) -> None:
        self._mounted.refresh()

    def tree(self) -> Path:
        return self._mounted.mountpoint

    def working(self) -> Path:
        return self._mounted.mountpoint

    def close(self) -> None:
        self._mounted.close()


class Empty:
    """The floor: a filesystem of constants with the names and sizes of the data set."""

    name = "empty"

    def __init__(self, source: Path, mountpoint: Path) -> None:
        self._source = source
        self._mountpoint = mountpoint
        self._process: subprocess.Popen[bytes] | None = None
        mountpoint.mkdir(parents=True, exist_ok=True)

    def refresh(self) -> None:
        self.close()
        machine.drop_caches()
        command: Sequence[str] = [sys.executable, "-m", "benchmarks.empty_filesystem"]
        # In a session of its own, as a mount's daemon is: see PassthroughLayer.
        self._process = subprocess.Popen([*command, str(self._source), str(self._mountpoint)], start_new_session=True)
        deadline = time.monotonic() + MOUNT_TIMEOUT_S
        while not is_mounted(self._mountpoint):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the empty filesystem did not come up")
            time.sleep(0.05)
        os.stat(self._mountpoint / next(iter(os.listdir(self._mountpoint))))
        widen_read_ahead(self._mountpoint)

    def tree(self) -> Path:
        return self._mountpoint

    def working(self) -> Path:
        return self._mountpoint

    def close(self) -> None:
        unmount(self._mountpoint)
        if self._process is not None:
            self._process.wait(MOUNT_TIMEOUT_S)
            self._process = None


def widen_read_ahead(mountpoint: Path) -> None:
    """Lets the kernel read ahead as far as `vfs mount` lets it: at the default of 128 KiB this would be no floor."""
    device = os.stat(mountpoint).st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    if os.access(setting, os.W_OK):
        setting.write_text(str(READ_AHEAD_KIB), encoding="ascii")


def copy_tree(source: Path, target: Path) -> None:
    """Copies a tree as users do: the yardstick for a first import."""
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)


def remove_tree(path: Path) -> None:
    """Removes a tree if it is there."""
    shutil.rmtree(path, ignore_errors=True)
