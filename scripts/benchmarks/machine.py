"""The machine under the measurement: what it is, and how to make it forget what it has read."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def machine_line() -> str:
    """Returns one line that says what ran this: figures mean nothing without it."""
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
    """Says whether cold figures can be had: only root may empty the page cache."""
    return os.access("/proc/sys/vm/drop_caches", os.W_OK)


def drop_caches() -> None:
    """Writes everything to disk and makes the kernel forget pages, names and inodes."""
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


def process_with_words(*words: bytes) -> int | None:
    """Returns a process whose command line has all the words, programs by their last part; None if there is none."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            found = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if all(word in found or os.path.basename(found[0]) == word for word in words):
            return int(folder.name)
    return None


def processor_seconds(pid: int) -> float:
    """Returns the processor time that a process has taken, threads that have ended and the kernel's part included."""
    # What clock_getcpuclockid(3) makes of a process, for which the library has no name.
    return time.clock_gettime(~pid << 3 | 2)


def peak_memory(pid: int) -> int:
    """Returns the most memory a process has had at once, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(match[1]) * 1024 if match else 0


def seconds(work: Callable[[], object]) -> float:
    """Returns how long a call took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
