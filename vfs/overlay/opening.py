"""Opening a working layer: which journals count, what they stand on, and replaying them.

The base file says on which commit the journals stand and from which generation on they count. It is a journal of its
own, whose Base records move the working layer from one version to the next in one step (docs/durability.md, W7).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from typing import NamedTuple

from vfs.backend.rooted import RootedPath
from vfs.errors import Busy, Corrupt
from vfs.model.ids import CommitId
from vfs.model.objects import Entry, Version
from vfs.overlay.apply import apply_attributes, apply_record
from vfs.overlay.framing import FORMAT, Heading
from vfs.overlay.journal import NEW_SUFFIX, Journal, OnStep, read_heading_of
from vfs.overlay.nodes import ROOT_INO, Place
from vfs.overlay.records import Base, Pin, SetAttributes
from vfs.overlay.state import State
from vfs.store.objectstore import ObjectSource

BASE_NAME = "base"
LOCK_NAME = "lock"
JOURNALS = "journal-*[0-9]"
"""What the journals of all generations are called, for `glob`."""
LOST_SUFFIX = ".lost"
"""Of a journal that cannot count; nothing reads it, but what is in it may be worth more to its owner than its space."""
_JOURNAL_PREFIX = "journal-"
_JOURNAL = re.compile(r"journal-(?:0|[1-9][0-9]{0,18})")


class RecoveryReport(NamedTuple):
    """What opening had to do.

    `records`: how many were replayed. `cut`: journals that did not end with a whole record and were cut. `dropped`:
    journals that could not count, as one before them had lost its end. `rebased`: an interrupted commit was finished.
    `unclosed`: whoever had it last did not close it.
    """

    records: int = 0
    cut: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    rebased: bool = False
    unclosed: bool = False

    @property
    def is_clean(self) -> bool:
        """Whether the last use ended as it should."""
        return not (self.cut or self.dropped or self.rebased or self.unclosed)

    def notices(self) -> list[str]:
        """Returns what a person should know, nothing if the last use ended as it should."""
        if self.is_clean:
            return []
        words = [f"the last use did not end cleanly: recovered {self.records:,} records of uncommitted changes"]
        if self.rebased:
            words.append("a commit that was cut off behind its last durable step was finished")
        words += [f"{name} did not end with a whole record: what came after its last one is lost" for name in self.cut]
        words += [
            f"{name} does not count, as the journal before it has lost its end; it is kept as {name}{LOST_SUFFIX}"
            for name in self.dropped
        ]
        return words


class Taken(NamedTuple):
    """What the operation that took up generations of a working layer made of them.

    `version`: what the layer stands on since. `tree`: the root and the root of the link map that it shows since; None
    where the generations became the version.
    """

    version: Version | None
    tree: tuple[Entry, bytes] | None = None


class BaseState(NamedTuple):
    """What the base file says: the commit (empty: none), the first generation that counts, and the pins."""

    file: Journal
    base: bytes
    generation: int
    pins: dict[Place, int]
    cut: tuple[str, ...]


def take_lock(directory: RootedPath) -> int:
    """Takes the working layer for this process and returns the descriptor that holds it; raises Busy."""
    fd = (directory / LOCK_NAME).open(os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise Busy(
            f"another process uses the working layer in {directory}",
            hint="Unmount it, or let the command run where the mount answers it.",
        ) from error
    return fd


def journal_path(directory: RootedPath, generation: int) -> RootedPath:
    """Returns where a generation's journal is."""
    return directory / f"{_JOURNAL_PREFIX}{generation}"


def create_journal(
    directory: RootedPath, branch: str, generation: int, base: Version | None, first_seq: int, on_step: OnStep | None
) -> Journal:
    """Makes the journal of a new generation."""
    heading = Heading(FORMAT, branch, generation, base.id if base is not None else b"", first_seq)
    return Journal.create(journal_path(directory, generation), heading, on_step=on_step)


def open_base_file(
    directory: RootedPath, branch: str, base: Version | None, consumed_generation: int, on_step: OnStep | None
) -> BaseState:
    """Reads the base file; makes it where there is none, for journals behind the consumed generation."""
    path = directory / BASE_NAME
    if not path.exists():
        file = Journal.create(path, Heading(FORMAT, branch, 0, b"", 1), on_step=on_step)
        record = Base(consumed_generation + 1, base.id if base is not None else b"")
        file.append(record)
        file.sync()
        return BaseState(file, record.base, record.generation, {}, ())
    file = Journal.open(path, on_step=on_step)
    commit, generation = b"", 0
    pins: dict[Place, int] = {}
    for found in file.records():
        match found.decode():
            case Base(generation=generation, base=commit, pinned=pinned, unpinned=unpinned):
                for place in unpinned:
                    pins.pop(place, None)
                pins.update(pinned)
            case Pin(place=place, ino=ino):
                pins[place] = ino
            case _:
                pass
    if not generation:
        # The file was made and the process died before its first record: nothing else can have been written.
        record = Base(consumed_generation + 1, base.id if base is not None else b"")
        file.append(record)
        file.sync()
        commit, generation = record.base, record.generation
    return BaseState(file, commit, generation, pins, (path.name,) if file.was_cut else ())


def find_generations(directory: RootedPath, first: int) -> list[int]:
    """Returns the generations that count, in order; removes what is left of older ones and of unfinished files."""
    generations = []
    for path in directory.iterdir():
        if path.name.endswith(NEW_SUFFIX):
            path.unlink()
        elif _JOURNAL.fullmatch(path.name):
            number = int(path.name.removeprefix(_JOURNAL_PREFIX))
            if number < first:
                path.unlink()
            else:
                generations.append(number)
    return sorted(generations)


def from_summary(directory: RootedPath, generations: list[int]) -> tuple[list[int], list[int]]:
    """Divides generations into those that the newest summary stands for, and itself with those after it."""
    for at, generation in reversed(list(enumerate(generations))):
        # Whatever else is wrong with a journal is said by whoever opens it.
        with contextlib.suppress(Corrupt):
            if read_heading_of(journal_path(directory, generation)).is_summary:
                return generations[:at], generations[at:]
    return [], generations


def remove_journals(directory: RootedPath, generations: list[int]) -> None:
    """Removes journals that a summary stands for, once its name is durable (docs/durability.md, W11)."""
    if generations:
        directory.sync()
    for generation in generations:
        journal_path(directory, generation).unlink()


def open_journals(
    directory: RootedPath, generations: list[int], on_step: OnStep | None
) -> tuple[list[Journal], list[str], list[str]]:
    """Opens journals up to the first that has lost its end; returns them, the names of those cut and of those dropped.

    What came after a lost end was never said to be durable, and stands on what is lost (docs/durability.md, W5).
    """
    journals: list[Journal] = []
    cut: list[str] = []
    dropped: list[str] = []
    for generation in generations:
        path = journal_path(directory, generation)
        if not dropped:
            journal = Journal.open(path, on_step=on_step)
            if not journals or journal.heading.first_seq == journals[-1].next_seq:
                journals.append(journal)
                if journal.was_cut:
                    cut.append(path.name)
                continue
            journal.close()
        path.rename(path.with_name(path.name + LOST_SUFFIX))
        dropped.append(path.name)
    return journals, cut, dropped


def replay(state: State, journal: Journal) -> int:
    """Applies a journal's records to the active layer and returns their number."""
    state.journals[journal.generation] = journal
    count = 0
    for found in journal.records():
        apply_record(state, found.decode(), found, journal.generation)
        count += 1
    state.journal = journal
    return count


def first_root(state: State) -> None:
    """Records who owns the root of a working layer that stands on nothing."""
    now = state.now()
    record = SetAttributes(ROOT_INO, now, mode=0o755, uid=os.getuid(), gid=os.getgid(), atime_ns=now, mtime_ns=now)
    state.journal.append(record)
    apply_attributes(state, record)


def load_version(source: ObjectSource, commit: bytes) -> Version | None:
    """Returns the version of a commit id, None for an empty one."""
    return Version(CommitId(commit), source.get_commit(CommitId(commit))) if commit else None
