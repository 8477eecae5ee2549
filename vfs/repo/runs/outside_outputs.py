"""Files that a run wrote outside of the mount: found by their change times, hashed as versions would hash them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from vfs.model.ids import chunk_id
from vfs.model.run_record import Output
from vfs.repo.ingest.source_reader import data_runs, has_holes
from vfs.repo.paths import CONFIG
from vfs.repo.repository import Repository
from vfs.store.dry_run_sink import DryRunSink
from vfs.store.trees.content_writer import ContentWriter
from vfs.store.trees.file_reader import Run

SEARCHED_MAX = 50_000
"""Names below the current directory that are looked at for outputs."""
FOUND_MAX = 1000
_LEFT_OUT = frozenset({"node_modules", "__pycache__", "site-packages", "wandb", "mlruns"})
_MARKS_LEFT_OUT = ("pyvenv.cfg", CONFIG)
"""Files that only such directories have."""


def written_below(directory: str, since_ns: int, until_ns: int, notes: list[str]) -> list[str]:
    """Returns the regular files below a directory whose change time lies within a run, sorted.

    Hidden names, virtual environments, repositories of this program and other filesystems are left out, and files that
    a process which is not below this one has open for writing.
    """
    found: list[str] = []
    if any((above / CONFIG).exists() for above in (Path(directory), *Path(directory).parents)):
        # The run was started inside a repository: all that changes there is the repository's own.
        return []
    try:
        device = os.stat(directory).st_dev
    except OSError:
        return []
    looked = 0
    stack = [directory]
    while stack:
        try:
            entries = list(os.scandir(stack.pop()))
        except OSError:
            continue
        for entry in entries:
            looked += 1
            if looked > SEARCHED_MAX or len(found) >= FOUND_MAX:
                notes.append(
                    "there are too many files below the current directory to look at all: name outputs by --out"
                )
                return _without_others(found)
            if entry.name.startswith(".") or entry.name in _LEFT_OUT:
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if status.st_dev != device:
                continue
            if stat.S_ISDIR(status.st_mode):
                if not any(os.path.lexists(os.path.join(entry.path, mark)) for mark in _MARKS_LEFT_OUT):
                    stack.append(entry.path)
            elif stat.S_ISREG(status.st_mode) and since_ns <= status.st_ctime_ns <= until_ns:
                found.append(entry.path)
    return _without_others(found)


def _without_others(paths: list[str]) -> list[str]:
    """Returns the paths, sorted, without files that a process which is not below this one has open for writing.

    The programs of the run have ended, or were adopted by this process.
    """
    if not paths:
        return []
    by_file = {}
    for path in paths:
        with suppress(OSError):
            status = os.stat(path, follow_symlinks=False)
            by_file[status.st_dev, status.st_ino] = path
    theirs = {by_file.get(file) for file in _written_by_others()}
    return sorted(path for path in paths if path not in theirs)


def _written_by_others() -> Iterator[tuple[int, int]]:
    """Yields device and inode of the files that other processes have open for writing, as far as this one may see."""
    for process in filter(str.isdigit, os.listdir("/proc")):
        directory = f"/proc/{process}/fd"
        try:
            names = os.listdir(directory)
            if not names or _is_below(int(process), os.getpid()):
                continue
        except OSError:
            continue
        for name in names:
            with suppress(OSError):
                # The mode of the link is that of the descriptor.
                if os.lstat(f"{directory}/{name}").st_mode & stat.S_IWUSR:
                    status = os.stat(f"{directory}/{name}")
                    if stat.S_ISREG(status.st_mode):
                        yield status.st_dev, status.st_ino


def _is_below(process: int, above: int) -> bool:
    while process > 1:
        if process == above:
            return True
        with open(f"/proc/{process}/stat", "rb") as file:
            # Behind the name, which may have any characters: state, parent.
            process = int(file.read().rpartition(b")")[2].split()[1])
    return False


def named_files(paths: Sequence[str], notes: list[str]) -> Iterator[str]:
    """Yields the files that `--out` names, of directories all that are in them."""
    for path in paths:
        if os.path.isdir(path):
            for directory, _, names in os.walk(path):
                yield from sorted(os.path.join(directory, name) for name in names)
        elif os.path.exists(path):
            yield path
        else:
            notes.append(f"{path} was named by --out and is not there")


def hashed(repo: Repository, paths: Sequence[str], notes: list[str]) -> list[Output]:
    """Returns files with their size, SHA-256, and the id that their content would have in this repository."""
    outputs = []
    for path in paths:
        try:
            outputs.append(_hashed(repo, path))
        except OSError as error:
            notes.append(f"{path} could not be read: {error.strerror}")
    return outputs


def _hashed(repo: Repository, path: str) -> Output:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is no regular file")
        size = status.st_size
        holes = (
            list(data_runs(descriptor, size)) if has_holes(descriptor, status) else [(0, size, False)] if size else []
        )
        runs = [Run(start, end, is_hole) for start, end, is_hole in holes]

        def read(offset: int, buffer: memoryview) -> int:
            return os.preadv(descriptor, [buffer], offset)

        def runs_from(offset: int) -> Iterator[Run]:
            return iter([Run(max(run.start, offset), run.end, run.is_hole) for run in runs if run.end > offset])

        content = ContentWriter(DryRunSink(repo.store), repo.config.ingest).from_reader(size, read, runs_from)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Output(path, "outside", size, (content.id or chunk_id(b"")).hex(), digest)
