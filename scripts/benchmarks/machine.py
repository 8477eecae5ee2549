"""The machine under the measurement: its description, its caches, and processes' time and memory."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

P = ParamSpec("P")
SAMPLED_EVERY_S = 0.5


def machine_line() -> str:
    """Returns a line that describes the machine: figures mean nothing without it."""
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({model[1] if model else platform.machine()}), {memory:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    )


def load_line() -> str:
    """Returns how busy the machine is: the mean number of runnable tasks over 1 and 5 minutes."""
    one, five, _ = os.getloadavg()
    return f"load {one:.1f} / {five:.1f}"


def can_drop_caches() -> bool:
    """Returns True if cold figures can be measured: only root may drop the page cache."""
    return os.access("/proc/sys/vm/drop_caches", os.W_OK)


def drop_caches() -> None:
    """Syncs, and drops the kernel's caches of pages, names and inodes."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")


def filesystem_of(path: Path) -> str:
    """Returns the type of the filesystem that a directory lies on."""
    found = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(path)], capture_output=True, text=True, check=True
    )
    return found.stdout.strip().replace("ext2/ext3", "ext4")


def stored_bytes(path: Path) -> int:
    """Returns the disk space that a tree takes, without directories' own blocks."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total


def free_bytes(path: Path) -> int:
    """Returns how much room a filesystem has."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def process_with_words(*words: bytes) -> int | None:
    """Returns a process whose command line has all the words, programs by their last part; None if there is none.

    Of a process and children that it forked, which have the same words, it is the parent.
    """
    found = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            given = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if all(word in given or os.path.basename(given[0]) == word for word in words):
            found.add(int(folder.name))
    children = {child for pid in found for child in descendants(pid)}
    return min(found - children, default=None)


def descendants(pid: int) -> list[int]:
    """Returns the living children of a process, theirs, and so on."""
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in listed.read_text(encoding="ascii").split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def processor_seconds(pid: int) -> float:
    """Returns the processor time of a process and its descendants, the kernel's part and what has ended included.

    That of children which have ended is told in hundredths of a second, that of the others exactly.
    """
    total = _processor_seconds_of(pid)
    for child in descendants(pid):
        try:
            total += _processor_seconds_of(child)
        except OSError:
            # It has ended since it was listed; its parent's counters include it now.
            continue
    return total


def _processor_seconds_of(pid: int) -> float:
    # What clock_getcpuclockid(3) makes of a process, for which the library has no name.
    own = time.clock_gettime(~pid << 3 | 2)
    # The fields behind the program's name, which may have blanks and parentheses itself.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return own + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def peak_memory(pid: int) -> int:
    """Returns the most memory a process has had at once, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(match[1]) * 1024 if match else 0


def private_memory(pid: int) -> int:
    """Returns the memory that no other process has mapped, in bytes."""
    sums = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return sum(int(kib) for kib in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", sums, re.M)) * 1024


class MemoryWatch:
    """Watches a daemon's memory, that of its children included, until it is stopped.

    The daemon's part is its own peak, which the kernel keeps. The children's part is the most in any sample that was
    theirs alone, so that what they share with the daemon counts once. The two peaks need not have come together: the
    sum is rather too much.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._children = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"memory of {pid}", daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Ends watching; returns the peak in bytes, without the daemon's part if that has ended."""
        self._stopped.set()
        self._thread.join()
        self._sample()
        try:
            return peak_memory(self._pid) + self._children
        except OSError:
            return self._children

    def _watch(self) -> None:
        while not self._stopped.wait(SAMPLED_EVERY_S):
            self._sample()

    def _sample(self) -> None:
        together = 0
        for child in descendants(self._pid):
            try:
                together += private_memory(child)
            except OSError:
                # It has ended since it was listed.
                continue
        self._children = max(self._children, together)


def seconds(work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> float:
    """Returns how long a call took."""
    started = time.perf_counter()
    work(*args, **kwargs)
    return time.perf_counter() - started
