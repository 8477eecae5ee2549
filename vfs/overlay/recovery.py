"""Opening a working layer whatever state it was left in."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from vfs.backend.rooted import RootedPath
from vfs.model.objects import Entry, Version
from vfs.overlay.changes import changes
from vfs.overlay.journal import Journal, OnStep
from vfs.overlay.opening import (
    BaseState,
    RecoveryReport,
    Taken,
    create_journal,
    find_generations,
    first_root,
    from_summary,
    load_version,
    open_base_file,
    open_journals,
    remove_journals,
    replay,
    take_lock,
)
from vfs.overlay.rebase import complete, drop_old_journals, freeze_before, next_journal, switch_base
from vfs.overlay.replacing import begin_on, set_base, show
from vfs.overlay.state import State
from vfs.store.objectstore import ObjectSource


class Opened(NamedTuple):
    """A working layer, opened."""

    state: State
    lock_fd: int
    report: RecoveryReport


def open_working_layer(
    directory: RootedPath,
    source: ObjectSource,
    base: Version | None,
    *,
    branch: str,
    consumed_generation: int,
    taken: Callable[[], Taken],
    on_step: OnStep | None,
    ino_bits: int,
    now: Callable[[], int],
) -> Opened:
    """Opens a working layer; see Overlay.open."""
    directory.make_directory()
    lock_fd = take_lock(directory)
    opened: list[Journal] = []
    try:
        base_state = open_base_file(directory, branch, base, consumed_generation, on_step)
        opened.append(base_state.file)
        summarised, generations = from_summary(directory, find_generations(directory, base_state.generation))
        journals, cut, dropped = open_journals(directory, generations, on_step)
        opened.extend(journals)
        remove_journals(directory, summarised)
        state = State(
            directory,
            branch,
            source,
            load_version(source, base_state.base),
            base_state.file,
            now=now,
            ino_bits=ino_bits,
            on_step=on_step,
        )
        for place, ino in base_state.pins.items():
            state.numbers.pin(place, ino)
        unclosed = not all(journal.was_closed for journal in opened)
        with _no_garbage():
            records, rebased = _bring_up(state, base_state, journals, base, consumed_generation, taken)
    except BaseException:
        for journal in opened:
            journal.close()
        os.close(lock_fd)
        raise
    report = RecoveryReport(records, (*base_state.cut, *cut), tuple(dropped), rebased, unclosed)
    return Opened(state, lock_fd, report)


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Lets Python look for no garbage: replaying makes many objects and drops none, and looking takes a fifth of it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _bring_up(
    state: State,
    base_state: BaseState,
    journals: list[Journal],
    head: Version | None,
    consumed_generation: int,
    taken: Callable[[], Taken],
) -> tuple[int, bool]:
    """Replays, finishes an operation that was cut off behind its commit point, and follows the branch if it can."""
    is_rebase = base_state.generation <= consumed_generation
    later = [journal for journal in journals if not is_rebase or journal.generation > consumed_generation]
    older = journals[: len(journals) - len(later)]
    if is_rebase:
        outcome = taken()
        if outcome.tree is not None:
            records = _finish_replacing(state, older, later, consumed_generation, outcome.version, outcome.tree)
        else:
            records = _finish_commit(state, older, later, consumed_generation, outcome.version)
    else:
        records = sum(replay(state, journal) for journal in later)
        if not state.journals:
            first_generation(state, base_state.generation)
        elif state.journal.heading.is_summary:
            # Nothing is ever appended to a summary. The journal behind it, durable before it, has been taken away.
            journal = next_journal(state)
            state.journals[journal.generation] = state.journal = journal
    if head is not None and (state.base is None or state.base.id != head.id) and is_clean(state):
        set_base(state, head)
    return records, is_rebase


def _finish_commit(
    state: State, older: list[Journal], later: list[Journal], consumed_generation: int, version: Version | None
) -> int:
    """Lets a layer stand on the version that its older generations have become; returns how many records it has."""
    records = sum(replay(state, journal) for journal in older)
    if not state.journals:
        first_generation(state, consumed_generation)
    frozen = freeze_before(state, later[0] if later else next_journal(state))
    records += sum(replay(state, journal) for journal in later)
    assert version is not None
    complete(state, frozen, version)
    return records


def _finish_replacing(
    state: State,
    older: list[Journal],
    later: list[Journal],
    consumed_generation: int,
    version: Version | None,
    tree: tuple[Entry, bytes],
) -> int:
    """Lets a layer whose older generations do not count any more show a tree, if it does not yet."""
    begin_on(state, version)
    for journal in older:
        state.journals[journal.generation] = state.journal = journal
    records = sum(replay(state, journal) for journal in later)
    if not later:
        first_seq = older[-1].next_seq if older else 1
        made = create_journal(state.directory, state.branch, consumed_generation + 1, version, first_seq, state.on_step)
        state.journals[made.generation] = state.journal = made
    if all(journal.seq == journal.heading.first_seq for journal in later):
        show(state, *tree)
    switch_base(state, version, {})
    drop_old_journals(state, consumed_generation)
    return records


def first_generation(state: State, generation: int) -> None:
    """Makes the first journal of a working layer."""
    journal = create_journal(state.directory, state.branch, generation, state.base, 1, state.on_step)
    state.journals[generation] = state.journal = journal
    if state.base is None:
        first_root(state)


def is_clean(state: State) -> bool:
    """Whether the working layer is what its base version is."""
    return next(changes(state, contextlib.nullcontext()), None) is None
