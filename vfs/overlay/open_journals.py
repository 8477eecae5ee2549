"""Opens the base file and the journals of a working layer, and finds out which of them count.

The base file names the commit that the journals change, and the first generation that counts. It is a journal itself,
whose Base records move the working layer from one version to the next in one step (docs/durability.md, W7).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from typing import NamedTuple

from vfs.backend.durable import OnStep
from vfs.backend.rooted_path import RootedPath
from vfs.errors import Corrupt, Unsupported
from vfs.model.ids import CommitId
from vfs.model.objects import Entry, Version
from vfs.overlay.apply import apply_attributes
from vfs.overlay.journal.durable_mark import forget_mark
from vfs.overlay.journal.framing import FORMAT, Heading, read_heading
from vfs.overlay.journal.journal import NEW_SUFFIX, Journal
from vfs.overlay.journal.journal_records import Base, Pin, SetAttributes, decode_stored
from vfs.overlay.journal.quarantine import LOST_SUFFIX, quarantine_copy, quarantine_path
from vfs.overlay.journal.recovery_hints import RECOVER_HINT
from vfs.overlay.layer_files import BASE_NAME, JOURNAL_PREFIX
from vfs.overlay.layer_nodes import ROOT_INO, Place
from vfs.overlay.state import State
from vfs.store.object_store import ObjectSource

_JOURNAL = re.compile(r"journal-(?:0|[1-9][0-9]{0,18})")


class RecoveryReport(NamedTuple):
    """What an opening had to repair.

    `records`: how many were replayed. `cut`: journals that did not end with a whole record and were cut. `dropped`:
    journals that do not count, as one before them had lost its end. `finished_commit`: an interrupted commit was
    finished. `unclosed`: the last process did not close the layer. `notes`: further warnings for the user, in words.
    """

    records: int = 0
    cut: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    finished_commit: bool = False
    unclosed: bool = False
    notes: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """True if the last use ended properly."""
        return not (self.cut or self.dropped or self.finished_commit or self.unclosed or self.notes)

    def warnings(self) -> list[str]:
        """Returns warnings for the user, none if the last use ended properly."""
        if self.is_clean:
            return []
        words = []
        if self.cut or self.dropped or self.finished_commit or self.unclosed:
            words.append(f"the last use did not end cleanly: recovered {self.records:,} records of uncommitted changes")
        if self.finished_commit:
            words.append("a commit that was interrupted after its last durable step was finished")
        words += [f"{name} did not end with a whole record: the bytes after its last one are lost" for name in self.cut]
        words += [
            f"{name} does not count, as the journal before it has lost its end; it is kept as {name}{LOST_SUFFIX}"
            for name in self.dropped
        ]
        return [*words, *self.notes]


class Consumed(NamedTuple):
    """What the operation that consumed generations of a working layer made of them.

    `version`: the layer's base since then. `tree`: the root entry and the link map of the layer's content since then;
    None if the generations were committed as the version, or as `below`, of which the version has a part.
    """

    version: Version | None
    tree: tuple[Entry, bytes] | None = None
    below: Version | None = None


class BaseState(NamedTuple):
    """The content of the base file: the commit (empty: none), the first generation that counts, and the pins.

    `generation` is 0 if it has no record. `below`: the commit whose tree is changed, empty if that is `base`.
    """

    file: Journal
    base: bytes
    generation: int
    pins: dict[Place, int]
    below: bytes = b""


def journal_path(directory: RootedPath, generation: int) -> RootedPath:
    """Returns the path of a generation's journal."""
    return directory / f"{JOURNAL_PREFIX}{generation}"


def generation_of(path: RootedPath) -> int | None:
    """Returns the generation of a journal's path, None for another file."""
    return int(path.name.removeprefix(JOURNAL_PREFIX)) if _JOURNAL.fullmatch(path.name) else None


def create_journal(
    directory: RootedPath,
    branch: str,
    generation: int,
    base: Version | None,
    first_seq: int,
    on_step: OnStep | None,
    *,
    is_start: bool = False,
) -> Journal:
    """Creates the journal of a new generation; `is_start`: it is the first that counts, and changes `base`."""
    commit = base.id if base is not None else b""
    heading = Heading(FORMAT, branch, generation, commit, first_seq, is_start=is_start)
    return Journal.create(journal_path(directory, generation), heading, on_step=on_step)


def open_base_file(
    directory: RootedPath, branch: str, on_step: OnStep | None, *, passes_damage: bool = False
) -> tuple[BaseState, list[str]]:
    """Reads the base file, created if there is none; returns also warnings for the user.

    Raises Corrupt, Unsupported. `passes_damage`: the undamaged records of a damaged one go into a new one.
    """
    path = directory / BASE_NAME
    heading = Heading(FORMAT, branch, 0, b"", 1)
    if not path.exists():
        return BaseState(Journal.create(path, heading, on_step=on_step), b"", 0, {}), []
    try:
        return _whole_base(Journal.open(path, on_step=on_step), branch)
    except Corrupt:
        if not passes_damage:
            raise
    kept = quarantine_copy(path)
    whole = _salvaged_base(path)
    file = Journal.create(path, heading, on_step=on_step)
    if whole is not None and whole.generation:
        file.append(Base(whole.generation, whole.base, tuple(whole.pins.items()), (), whole.below))
        file.sync()
    words = f"{BASE_NAME} was damaged: some inode numbers may have changed; it is kept as {kept.name}"
    return BaseState(file, *whole[1:]) if whole is not None else BaseState(file, b"", 0, {}), [words]


def _whole_base(file: Journal, branch: str) -> tuple[BaseState, list[str]]:
    try:
        _require_own(file, branch, 0)
        state = _base_state(file)
    except BaseException:
        file.close()
        raise
    return state, [_cut_warning(file)] if file.was_cut else []


def _salvaged_base(path: RootedPath) -> BaseState | None:
    """Returns the undamaged content of a base file and closes it; None if it is no base file."""
    try:
        file = Journal.inspect(path, passes_damage=True)
    except Corrupt:
        return None
    try:
        return _base_state(file)
    finally:
        file.close()


def _base_state(file: Journal) -> BaseState:
    commit, generation, below = b"", 0, b""
    pins: dict[Place, int] = {}
    for found in file.records():
        match decode_stored(found):
            case Base(generation=generation, base=commit, pinned=pinned, unpinned=unpinned, below=below):
                for place in unpinned:
                    pins.pop(place, None)
                pins.update(pinned)
            case Pin(place=place, ino=ino):
                pins[place] = ino
            case _:
                pass
    return BaseState(file, commit, generation, pins, below)


def append_base(base_state: BaseState, generation: int, commit: bytes) -> BaseState:
    """Durably records a commit as the base from a generation on, without pins."""
    base_state.file.append(Base(generation, commit, (), tuple(base_state.pins)))
    base_state.file.sync()
    return BaseState(base_state.file, commit, generation, {})


def find_generations(directory: RootedPath, first: int) -> list[int]:
    """Returns the generations that count, in order; removes older journals and unfinished files."""
    generations = []
    for path in directory.iterdir():
        if path.name.endswith(NEW_SUFFIX):
            path.unlink()
        elif _JOURNAL.fullmatch(path.name):
            number = int(path.name.removeprefix(JOURNAL_PREFIX))
            if number < first:
                path.unlink()
            else:
                generations.append(number)
    return sorted(generations)


def split_at_checkpoint(directory: RootedPath, generations: list[int]) -> tuple[list[int], list[int]]:
    """Splits generations at the newest checkpoint: those that it replaces, and itself with the later ones."""
    for at, generation in reversed(list(enumerate(generations))):
        # Opening the journal later reports its damage.
        with contextlib.suppress(Corrupt, Unsupported):
            if _heading_of(journal_path(directory, generation)).is_checkpoint:
                return generations[:at], generations[at:]
    return [], generations


def remove_journals(directory: RootedPath, generations: list[int]) -> None:
    """Removes journals that a checkpoint replaces, once its name is durable (docs/durability.md, W11)."""
    if generations:
        directory.sync()
    for generation in generations:
        path = journal_path(directory, generation)
        try:
            Journal.inspect(path).close()
        except Corrupt:
            # An interrupted recovery has copied its undamaged records.
            path.rename(quarantine_path(path))
        else:
            path.unlink()


class Journals(NamedTuple):
    """The journals that count, open: the `older` ones that an operation has consumed, and the `later` ones.

    `older` is empty if one of them is damaged: their content is in a version. `notes`: warnings for the user.
    """

    older: list[Journal]
    later: list[Journal]
    dropped: tuple[str, ...]
    notes: list[str]

    def close_older(self) -> None:
        """Closes the older ones, which are not needed."""
        while self.older:
            self.older.pop().close()

    @property
    def all(self) -> list[Journal]:
        """All of them, in order."""
        return [*self.older, *self.later]

    @property
    def cut(self) -> tuple[str, ...]:
        """The names of those that did not end with a whole record."""
        return tuple(journal.path.name for journal in self.all if journal.was_cut)


def open_journals(
    directory: RootedPath,
    branch: str,
    generations: list[int],
    consumed_generation: int,
    on_step: OnStep | None,
    *,
    passes_damage: bool = False,
) -> Journals:
    """Opens the journals of generations; changes nothing before it is known which of them count.

    Journals after one that has lost its end are dropped: they build on lost records (docs/durability.md, W5). Raises
    Corrupt if a record calls a dropped one durable.
    """
    older: list[Journal] = []
    later: list[Journal] = []
    quarantined: list[str] = []
    try:
        for generation in generations:
            is_consumed = generation <= consumed_generation
            try:
                journal = _inspect(journal_path(directory, generation), branch, generation, on_step, passes_damage)
            except Corrupt as error:
                if not (is_consumed or passes_damage):
                    raise
                if not is_consumed:
                    quarantined.append(_quarantine(journal_path(directory, generation), error))
                continue
            (older if is_consumed else later).append(journal)
        if older and not _is_whole(older, consumed_generation):
            while older:
                older.pop().close()
        dropped = _dropped_from([*older[-1:], *later], passes_damage=passes_damage)
        names = tuple(journal.path.name for journal in dropped)
        if dropped:
            forget_mark(directory)
        for journal in dropped:
            later.remove(journal)
            journal.close()
            journal.path.rename(journal.path.with_name(journal.path.name + LOST_SUFFIX))
        for journal in (*older, *later):
            journal.repair()
    except BaseException:
        for journal in (*older, *later):
            journal.close()
        raise
    found = Journals(older, later, names, quarantined)
    found.notes.extend(_cut_warning(journal) for journal in found.all if journal.was_cut)
    return found


def _inspect(path: RootedPath, branch: str, generation: int, on_step: OnStep | None, passes_damage: bool) -> Journal:
    journal = Journal.inspect(path, on_step=on_step, passes_damage=passes_damage)
    try:
        _require_own(journal, branch, generation)
    except BaseException:
        journal.close()
        raise
    return journal


def _quarantine(path: RootedPath, error: Corrupt) -> str:
    """Quarantines a journal whose heading is damaged: none of its records can be trusted."""
    kept = path.with_name(path.name + LOST_SUFFIX)
    forget_mark(path.parent)
    path.rename(kept)
    return f"{error.message}: none of it could be recovered; it is kept as {kept.name}"


def _require_own(journal: Journal, branch: str, generation: int) -> None:
    """Raises Corrupt for a journal of another layer or generation than its name says."""
    heading = journal.heading
    if (heading.branch, heading.generation) != (branch, generation):
        raise Corrupt(
            f"{journal.path} says that it is the journal of generation {heading.generation} of {heading.branch!r}",
            hint=RECOVER_HINT,
        )


def _is_whole(journals: list[Journal], last: int) -> bool:
    """Returns True if journals follow one another without a gap up to a generation, and none is torn."""
    return (
        journals[-1].generation == last
        and not any(journal.is_torn for journal in journals)
        and all(after.heading.first_seq == before.next_seq for before, after in itertools.pairwise(journals))
    )


def _dropped_from(journals: list[Journal], *, passes_damage: bool) -> list[Journal]:
    """Returns the journals that do not count because the one before them has lost its end."""
    for at, (before, after) in enumerate(itertools.pairwise(journals), 1):
        if after.heading.first_seq == before.next_seq or passes_damage:
            continue
        if any(journal.claimed > journal.start for journal in journals[at:]):
            raise Corrupt(
                f"{before.path} has lost its end, which was durable: {after.path.name} continues after it",
                hint=RECOVER_HINT,
            )
        return journals[at:]
    return []


def _cut_warning(journal: Journal) -> str:
    """Returns the warning about a journal whose torn tail was cut off."""
    torn = journal.quarantined
    if torn is None or not torn.size:
        return f"only zeros were cut off {journal.path.name}"
    behind = f" with {journal.behind:,} whole records" if journal.behind else ""
    if torn.path is None:
        return f"{torn.size:,} bytes{behind} were cut off {journal.path.name}; the disk had no space to keep them"
    return f"{torn.size:,} bytes{behind} that were cut off {journal.path.name} are kept as {torn.path}"


def record_root(state: State) -> None:
    """Records the owner and mode of the root of a working layer without a base version."""
    now = state.now()
    record = SetAttributes(ROOT_INO, now, mode=0o755, uid=os.getuid(), gid=os.getgid(), atime_ns=now, mtime_ns=now)
    state.journal.append(record)
    apply_attributes(state, record)


def load_version(source: ObjectSource, commit: bytes) -> Version | None:
    """Returns the version of a commit id, None for an empty one."""
    return Version(CommitId(commit), source.get_commit(CommitId(commit))) if commit else None


def _heading_of(path: RootedPath) -> Heading:
    """Returns the heading of a journal; raises Corrupt, Unsupported."""
    fd = path.open(os.O_RDONLY)
    try:
        return read_heading(fd, path, os.fstat(fd).st_size)[0]
    finally:
        os.close(fd)
