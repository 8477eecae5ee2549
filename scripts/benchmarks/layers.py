"""What the working layer is measured beside: places to write to that all start from the same committed tree.

`refresh` brings each back to that tree, `working` is where to write. The pass-through is the fair floor, the overlays
are what people use to write over data that must stay as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from benchmarks import machine
from benchmarks.subjects import MOUNT_TIMEOUT_S, Mounted, is_mounted, remove_tree, unmount, vfs

FUSE_OVERLAYFS = "fuse-overlayfs"


class Layer(Protocol):
    """One column of the table."""

    name: str

    def refresh(self) -> None:
        """Undoes the changes of workloads, and mounts again."""
        ...

    def working(self) -> Path:
        """Returns a directory to write to, with the committed tree in it."""
        ...

    def daemon(self) -> int | None:
        """Returns the process that serves it; None where the kernel does."""
        ...

    def close(self) -> None:
        """Unmounts."""
        ...


class PlainLayer:
    """A copy of the tree on the disk's filesystem."""

    def __init__(self, base: Path, copy: Path) -> None:
        self.name = machine.filesystem_of(base)
        self._copy = copy
        shutil.copytree(base, copy)

    def refresh(self) -> None:
        # The workloads remove what they make, and what they overwrite is the same size as before.
        os.sync()

    def working(self) -> Path:
        return self._copy

    def daemon(self) -> int | None:
        return None

    def close(self) -> None:
        return


class PassthroughLayer:
    """The fair floor: a copy of the tree through a filesystem on the same binding that hands everything on."""

    name = "pass-through"

    def __init__(self, base: Path, copy: Path, mountpoint: Path) -> None:
        self._copy = copy
        self._mountpoint = mountpoint
        self._process: subprocess.Popen[bytes] | None = None
        shutil.copytree(base, copy)
        mountpoint.mkdir()

    def refresh(self) -> None:
        self.close()
        command = [sys.executable, "-m", "benchmarks.passthrough_filesystem", str(self._copy), str(self._mountpoint)]
        # As a mount's daemon is: the kernel shares processors out by sessions, and on a busy machine a daemon in its
        # callers' session answers at half the cost.
        self._process = subprocess.Popen(command, start_new_session=True)
        deadline = time.monotonic() + MOUNT_TIMEOUT_S
        while not is_mounted(self._mountpoint):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the pass-through filesystem did not come up")
            time.sleep(0.05)
        os.listdir(self._mountpoint)

    def working(self) -> Path:
        return self._mountpoint

    def daemon(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def close(self) -> None:
        unmount(self._mountpoint)
        if self._process is not None:
            self._process.wait(MOUNT_TIMEOUT_S)
            self._process = None


class OverlayLayer:
    """The tree below an empty directory, joined by the kernel's overlayfs or by fuse-overlayfs."""

    def __init__(self, name: str, base: Path, scratch: Path) -> None:
        self.name = name
        self._base = base
        self._upper, self._work = scratch / f"{name}-upper", scratch / f"{name}-work"
        self._mountpoint = scratch / f"{name}-mount"
        self._mountpoint.mkdir()

    def refresh(self) -> None:
        self.close()
        for path in (self._upper, self._work):
            remove_tree(path)
            path.mkdir()
        options = f"lowerdir={self._base},upperdir={self._upper},workdir={self._work}"
        if self.name == FUSE_OVERLAYFS:
            command = [FUSE_OVERLAYFS, "-o", options, str(self._mountpoint)]
        else:
            command = ["mount", "-t", "overlay", "-o", options, "overlay", str(self._mountpoint)]
        subprocess.run(command, check=True, capture_output=True)

    def working(self) -> Path:
        return self._mountpoint

    def daemon(self) -> int | None:
        if self.name != FUSE_OVERLAYFS:
            return None
        wanted = os.fsencode(self._mountpoint)
        return machine.process_with_words(FUSE_OVERLAYFS.encode(), wanted)

    def close(self) -> None:
        if is_mounted(self._mountpoint):
            subprocess.run(["umount", str(self._mountpoint)], check=True)


class WorkingLayer(Mounted):
    """The working layer of a mount of this filesystem, in which the tree is version 1."""

    def __init__(self, base: Path, repository: Path, mountpoint: Path) -> None:
        super().__init__(repository, mountpoint)
        vfs("init", repository)
        vfs("--repo", repository, "import", base, "-m", "base")

    def refresh(self) -> None:
        """Commits the changes of workloads, so that the journal is empty, and mounts again."""
        if is_mounted(self.mountpoint):
            vfs("--repo", self.repository, "commit", "--allow-empty", "-m", "between two workloads")
        self.close()
        self.mount()


def install_fuse_overlayfs() -> bool:
    """Installs Debian's package if it is missing and the user is root; returns True if the program is there."""
    if shutil.which(FUSE_OVERLAYFS) is None and shutil.which("apt-get") is not None:
        subprocess.run(["apt-get", "install", "-y", "-q", FUSE_OVERLAYFS], capture_output=True, check=False)
    return shutil.which(FUSE_OVERLAYFS) is not None


def can_overlay(directory: Path) -> bool:
    """Returns True if the kernel's overlayfs can be mounted with a directory's filesystem below it."""
    parts = [directory / f"probe-{part}" for part in ("lower", "upper", "work", "mount")]
    for part in parts:
        part.mkdir()
    options = f"lowerdir={parts[0]},upperdir={parts[1]},workdir={parts[2]}"
    command = ["mount", "-t", "overlay", "-o", options, "overlay", str(parts[3])]
    works = subprocess.run(command, capture_output=True, check=False).returncode == 0
    if works:
        subprocess.run(["umount", str(parts[3])], check=True)
    for part in parts:
        remove_tree(part)
    return works
