"""Measures the costs of the working layer: opening, memory, commits, compactions; see `scripts/layer-costs --help`.

CPU time of this process, as it holds on a machine that does other things; also of what is done with the overlay's lock
held, to which a wait for the disk is added (one new file's name, or one record).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit
from vfs.repo.import_directory import import_directory
from vfs.repo.repository import Repository

PAGE = 4096


class TimedLock:
    """A reentrant lock that knows how much was computed at most while it was held."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._since = 0.0
        self.longest_s = 0.0

    def __enter__(self) -> bool:
        self._lock.acquire()
        self._depth += 1
        if self._depth == 1:
            self._since = time.thread_time()
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._depth == 1:
            self.longest_s = max(self.longest_s, time.thread_time() - self._since)
        self._depth -= 1
        self._lock.release()


def say(text: str) -> None:
    """Writes a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def resident_mb() -> float:
    """Returns this process's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def peak_mb() -> float:
    """Returns the most memory that this process had since `forget_peak`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def forget_peak() -> None:
    """Lets the peak begin again."""
    Path("/proc/self/clear_refs").write_text("5")


def timed(what: str, work: Callable[[], object]) -> None:
    """Runs a function and returns its duration."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    say(f"{what}: {time.process_time() - cpu:.3f} s CPU, {time.perf_counter() - wall:.3f} s")


def fill(overlay: Overlay, files: int, *, touch: bool = True) -> None:
    """Makes files of 200 bytes, a hundred in a directory."""
    data = os.urandom(200)
    directory = 0
    for number in range(files):
        if not number % 100:
            directory = overlay.mkdir(1, b"d%d" % number, 0o755, 0, 0).ino
        ino = overlay.mknod(directory, b"file-%d" % number, 0o100644, 0, 0, 0).ino
        overlay.write(ino, 0, data)
        if touch:
            overlay.setattr(ino, mtime_ns=number)


@contextmanager
def repository(directory: Path) -> Iterator[Repository]:
    """Makes a repository."""
    shutil.rmtree(directory, ignore_errors=True)
    with Repository.init(directory) as repo:
        yield repo


def journal_mb(repo: Repository) -> float:
    """Returns what the journals take."""
    return sum(path.stat().st_size for path in (repo.path / "work" / "main").glob("journal-*")) / 1e6


def opening(directory: Path, files: int) -> None:
    """Opens after a kill, and after closing, with so many new files."""
    with repository(directory) as repo:
        overlay = repo.open_overlay()
        fill(overlay, files)
        overlay.abandon()
        opened: list[Overlay] = []
        timed(
            f"opening after a kill, {files} new files, written and touched", lambda: opened.append(repo.open_overlay())
        )
        say(f"  {opened[0].recovery.records} records, {journal_mb(repo):.0f} MB of journals")
        timed("compacting it", opened[0].compactor.run)
        opened[0].close()
        timed("opening it again", lambda: opened.append(repo.open_overlay()))
        say(f"  {opened[1].recovery.records} records, {journal_mb(repo):.0f} MB of journals")
        opened[1].close()


def overwriting(directory: Path, writes: int) -> None:
    """Overwrites a file of 100 MB in pages, at random places, and compacts as a mount does."""
    chance = random.Random(1)
    with repository(directory) as repo:
        overlay = repo.open_overlay()
        ino = overlay.mknod(1, b"file", 0o100644, 0, 0, 0).ino
        pages = 100_000_000 // PAGE
        for page in range(pages):
            overlay.write(ino, page * PAGE, bytes(PAGE))
        most = 0.0
        data = os.urandom(PAGE)
        cpu = time.process_time()
        compactions, compacting = 0, 0.0
        for number in range(writes):
            overlay.write(ino, chance.randrange(pages) * PAGE, data)
            if not number % 1000:
                most = max(most, journal_mb(repo))
                begun = time.process_time()
                compactions += overlay.compactor.run_if_due()
                compacting += time.process_time() - begun
        say(f"{writes} pages over 100 MB: {time.process_time() - cpu:.1f} s CPU")
        say(f"  {compactions} compactions took {compacting:.1f} s of it")
        say(f"  journals took {most:.0f} MB at most, for {writes * PAGE / 1e6:.0f} MB written")
        overlay.abandon()
        timed("  opening after a kill", lambda: repo.open_overlay().abandon())


def memory(directory: Path, files: int) -> None:
    """Makes new files and commits them."""
    with repository(directory) as repo, repo.open_overlay() as overlay:
        before = resident_mb()
        fill(overlay, files, touch=False)
        after = resident_mb()
        say(f"memory of {files} new files: {after - before:.0f} MB, {(after - before) * 1e6 / files:.0f} bytes each")
        forget_peak()
        commit(repo, overlay, "m", "a")
        say(f"  peak of the commit: {peak_mb() - before:.0f} MB")


def commits(directory: Path, files: int) -> None:
    """Commits new files that the kernel knows of, and returns how long other callers wait for it."""
    with repository(directory) as repo, repo.open_overlay() as overlay:
        fill(overlay, files)
        lock = TimedLock()
        overlay.lock = lock  # type: ignore[assignment]
        frozen = overlay.freeze()
        froze, lock.longest_s = lock.longest_s, 0.0
        overlay.thaw(frozen)
        thawed, lock.longest_s = lock.longest_s, 0.0
        commit(repo, overlay, "m", "a")
        say(f"{files} new files, computing with the lock held:")
        say(
            f"  {froze * 1e3:.1f} ms in freezing, {thawed * 1e3:.1f} in thawing, {lock.longest_s * 1e3:.1f} in a commit"
        )


def one_of_many(directory: Path, files: int) -> None:
    """Commits one changed file among many committed ones."""
    source = directory.with_name(directory.name + "-source")
    shutil.rmtree(source, ignore_errors=True)
    for number in range(files):
        if not number % 1000:
            place = source / f"d{number}"
            place.mkdir(parents=True)
        (place / f"file-{number}").write_bytes(b"%d" % number)
    with repository(directory) as repo, repo.open_overlay() as overlay:
        timed(f"importing {files} files", lambda: import_directory(repo, source, "m", "a", overlay=overlay))
        ino = overlay.lookup(overlay.lookup(1, b"d0").ino, b"file-7").ino
        overlay.write(ino, 0, b"changed")
        forget_peak()
        before = resident_mb()
        timed(f"committing one changed file of {files}", lambda: commit(repo, overlay, "m", "a"))
        say(f"  {peak_mb() - before:.1f} MB more memory at its peak")
    shutil.rmtree(source)


PARTS: dict[str, tuple[Callable[[Path, int], None], tuple[int, ...]]] = {
    "opening": (opening, (100_000,)),
    "overwriting": (overwriting, (1_000_000,)),
    "memory": (memory, (200_000,)),
    "commits": (commits, (10, 1000, 100_000)),
    "one-of-many": (one_of_many, (1_000_000,)),
}


def main() -> None:
    """Measures the parts that the command line names, or all."""
    parser = argparse.ArgumentParser(description="Measure what the working layer costs.")
    parser.add_argument("part", nargs="*", choices=[[], *PARTS], help="all if none is named")
    parser.add_argument("--count", type=int, help="of files or writes, in place of the usual ones")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        for name in wanted.part or PARTS:
            measure, counts = PARTS[name]
            for count in (wanted.count,) if wanted.count else counts:
                measure(Path(directory) / "repo", count)


if __name__ == "__main__":
    main()
