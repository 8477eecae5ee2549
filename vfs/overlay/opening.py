"""Opens a working layer in any state that the last process left it in: replays its journals, finishes operations."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from vfs.backend.durable import OnStep
from vfs.backend.rooted_path import RootedPath
from vfs.errors import Advice, Corrupt, Hint
from vfs.model.objects import Entry, Version
from vfs.overlay.compaction.compactor import Compactor
from vfs.overlay.freezing import complete, drop_old_journals, freeze_before, next_journal, switch_base
from vfs.overlay.journal.durable_mark import DurableMark, Mark, read_mark
from vfs.overlay.journal.journal import Journal
from vfs.overlay.journal.quarantine import quarantine_path
from vfs.overlay.journal.recovery_hints import RECOVER_HINT
from vfs.overlay.layer_changes import is_clean
from vfs.overlay.layer_lock import take_lock
from vfs.overlay.layer_nodes import Place
from vfs.overlay.open_journals import (
    BaseState,
    Consumed,
    Journals,
    RecoveryReport,
    append_base,
    create_journal,
    find_generations,
    journal_path,
    load_version,
    open_base_file,
    open_journals,
    record_root,
    remove_journals,
    split_at_checkpoint,
)
from vfs.overlay.replacing import CommittedTree, reset_to, set_base
from vfs.overlay.replay import Replayer
from vfs.overlay.state import State
from vfs.store.object_store import ObjectSource

if TYPE_CHECKING:
    from vfs.store.remote_blocks import RemoteBlocks


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
    consumed: Callable[[], Consumed],
    on_step: OnStep | None,
    ino_bits: int,
    now: Callable[[], int],
    passes_damage: bool = False,
) -> Opened:
    """Opens a working layer; see Overlay.open."""
    directory.make_directory()
    lock_fd = take_lock(directory)
    opened: list[Journal | DurableMark] = []
    try:
        base_state, notes = open_base_file(directory, branch, on_step, passes_damage=passes_damage)
        opened.append(base_state.file)
        mark = read_mark(directory, branch)
        first = base_state.generation or consumed_generation + 1
        superseded, generations = split_at_checkpoint(directory, find_generations(directory, first))
        journals = open_journals(
            directory, branch, generations, consumed_generation, on_step, passes_damage=passes_damage
        )
        opened.extend(journals.all)
        notes += journals.notes
        if mark is not None:
            notes += _check_mark(mark, directory, generations, journals, first, passes_damage=passes_damage)
        base_state, words = _find_base(base_state, journals, base, consumed_generation, passes_damage=passes_damage)
        notes += words
        remove_journals(directory, superseded)
        state = State(
            directory,
            branch,
            source,
            load_version(source, base_state.base),
            base_state.file,
            below=load_version(source, base_state.below),
            now=now,
            ino_bits=ino_bits,
            on_step=on_step,
        )
        opened.append(state.mark)
        for place, ino in base_state.pins.items():
            state.numbers.pin(place, ino)
        unclosed = not all(journal.was_closed for journal in (base_state.file, *journals.all))
        replayer = Replayer(state, passes_damage=passes_damage)
        with _gc_paused():
            finished_commit = _replay_all(
                state, replayer, base_state, journals, base, consumed_generation, consumed, passes_damage=passes_damage
            )
        notes += replayer.notes()
        damaged = [journal for journal in journals.later if journal.gaps]
        notes += [_lost_warning(journal) for journal in damaged]
        if damaged:
            # Until the checkpoint has its final name the damaged journals count, and the next recovery begins again.
            Compactor(state, threading.RLock()).run()
    except BaseException:
        for file in opened:
            file.close()
        os.close(lock_fd)
        raise
    cut = (*((base_state.file.path.name,) if base_state.file.was_cut else ()), *journals.cut)
    report = RecoveryReport(replayer.records, cut, journals.dropped, finished_commit, unclosed, tuple(notes))
    return Opened(state, lock_fd, report)


def _lost_warning(journal: Journal) -> str:
    kept = quarantine_path(journal.path)
    lost = sum(gap.lost for gap in journal.gaps)
    return f"{journal.path.name} was damaged: {lost:,} records in it cannot be read; it is kept as {kept}"


def _check_mark(
    mark: Mark, directory: RootedPath, generations: list[int], journals: Journals, first: int, *, passes_damage: bool
) -> list[str]:
    """Returns what to tell of a newest journal that has less than was durable; raises Corrupt where it is gone."""
    newest = max(generations, default=0)
    if first <= newest < mark.generation:
        missing = journal_path(directory, mark.generation)
        if not passes_damage:
            raise Corrupt(f"{missing} is missing, with the uncommitted changes in it", hint=RECOVER_HINT)
        return [f"{missing} was missing: the changes in it are lost"]
    return [
        f"{journal.path.name} has lost its end: {lost:,} bytes of uncommitted changes that were durable"
        for journal in journals.later
        if (lost := mark.lost_bytes(journal))
    ]


def _find_base(
    base_state: BaseState,
    journals: Journals,
    head: Version | None,
    consumed_generation: int,
    *,
    passes_damage: bool,
) -> tuple[BaseState, list[str]]:
    """Returns the base of the journals, also if the base file has lost its record of it; and warnings for the user.

    In that case the first journal names it, or the operation log, which is read later. Raises Corrupt if neither does.
    """
    first = next(iter(journals.all), None)
    missing = _missing(base_state, journals, consumed_generation)
    if missing and not passes_damage:
        raise Corrupt(f"{missing} is missing, with the uncommitted changes in it", hint=RECOVER_HINT)
    lost = [f"{missing} was missing: the changes in it are lost"] if missing else []
    if first is None:
        if base_state.generation:
            return base_state, lost
        # There is no journal yet; the base is recorded with the first one (`_replay_all`).
        commit = head.id if head is not None else b""
        return base_state._replace(generation=consumed_generation + 1, base=commit), []
    heading = first.heading
    if heading.is_checkpoint:
        is_named = 0 < base_state.generation <= heading.generation and base_state.base == heading.base
    else:
        is_named = base_state.generation == heading.generation
    if is_named:
        return base_state, lost
    if not base_state.file.records_count and not first.records_count:
        # The last process died just after it had created both.
        return append_base(base_state, heading.generation, heading.base), lost
    words = [*lost, f"{base_state.file.path.name} had lost its end: some inode numbers may have changed"]
    if journals.older:
        # Their base is unknown, and their content is in a version.
        journals.close_older()
        return base_state._replace(generation=consumed_generation), words
    if heading.is_checkpoint or heading.is_start:
        return append_base(base_state, heading.generation, heading.base), words
    if heading.generation == consumed_generation + 1:
        # As if the process had died between the operation and its record in the base file.
        return base_state._replace(base=b"", generation=consumed_generation), words
    if passes_damage:
        words.append(f"{first.path.name} does not name its base: the version that was its base at first was assumed")
        return append_base(base_state, heading.generation, heading.base), words
    raise Corrupt(
        f"{base_state.file.path} does not name the base of {first.path.name}, and the operation log does not either",
        hint=RECOVER_HINT,
    )


def _missing(base_state: BaseState, journals: Journals, consumed_generation: int) -> RootedPath | None:
    """Returns the path of a journal that must exist but is missing, or None.

    A journal is durable before anything refers to it: before the base file names it, before an operation consumes the
    generations in front of it, and before a checkpoint in front of it is written.
    """
    directory = base_state.file.path.parent
    if base_state.generation and not journals.later:
        return journal_path(directory, max(base_state.generation, consumed_generation + 1))
    if journals.later and journals.later[-1].heading.is_checkpoint:
        return journal_path(directory, journals.later[-1].generation + 1)
    return None


@contextlib.contextmanager
def _gc_paused() -> Iterator[None]:
    """Disables garbage collection: a replay drops none of its many objects, and collecting took a fifth of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _replay_all(
    state: State,
    replayer: Replayer,
    base_state: BaseState,
    journals: Journals,
    head: Version | None,
    consumed_generation: int,
    consumed: Callable[[], Consumed],
    *,
    passes_damage: bool,
) -> bool:
    """Replays, finishes an operation that was interrupted after its commit point, and follows the branch if it can.

    Returns True if there was such an operation.
    """
    is_interrupted = base_state.generation <= consumed_generation
    if is_interrupted:
        _finish(state, replayer, journals, consumed_generation, consumed())
    else:
        for journal in journals.later:
            replayer.replay(journal)
        if not state.journals:
            first_generation(state, base_state.generation)
            if not base_state.file.records_count:
                append_base(base_state, base_state.generation, base_state.base)
            if passes_damage and base_state.generation == consumed_generation + 1:
                # What an operation gave the layer (marks of a merge) is in a commit as well.
                _show_again(state, consumed)
        elif state.journal.heading.is_checkpoint:
            # A checkpoint is never appended to.
            journal = next_journal(state)
            state.journals[journal.generation] = state.journal = journal
    if head is not None and (state.base is None or state.base.id != head.id) and is_clean(state):
        set_base(state, head)
    return is_interrupted


def _show_again(state: State, consumed: Callable[[], Consumed]) -> None:
    # Where the log cannot say it either, recovery goes on without.
    with contextlib.suppress(Corrupt):
        outcome = consumed()
        if outcome.tree is not None:
            CommittedTree(state.source, outcome.version, *outcome.tree).graft_into(state)


def _finish(state: State, replayer: Replayer, journals: Journals, consumed_generation: int, outcome: Consumed) -> None:
    """Gives a layer the base that an operation has made of its consumed generations."""
    if outcome.tree is not None:
        _finish_replacing(state, replayer, journals, consumed_generation, outcome.version, outcome.tree)
    elif outcome.version is None:
        raise Corrupt(
            f"the operation log does not record what became of the changes in {state.directory}",
            hint=Hint(Advice.CHECK_LOG),
        )
    elif journals.older:
        _finish_commit(state, replayer, journals, outcome.version, outcome.below)
    else:
        # Without them the inodes' numbers are unknown.
        _replay_later(state, replayer, journals.later, consumed_generation, outcome.version, outcome.below)
        switch_base(state, outcome.version, _no_pins(state), outcome.below)
        drop_old_journals(state, consumed_generation)


def _no_pins(state: State) -> dict[Place, None]:
    return {place: None for place, _ in state.numbers.pins()}


def _finish_commit(
    state: State, replayer: Replayer, journals: Journals, version: Version, below: Version | None
) -> None:
    """Gives a layer the version that its consumed generations were committed as for its base."""
    for journal in journals.older:
        replayer.replay(journal)
    frozen = freeze_before(state, journals.later[0] if journals.later else next_journal(state))
    for journal in journals.later:
        replayer.replay(journal)
    complete(state, frozen, version, below)


def _finish_replacing(
    state: State,
    replayer: Replayer,
    journals: Journals,
    consumed_generation: int,
    version: Version | None,
    tree: tuple[Entry, bytes],
) -> None:
    """Gives a layer whose consumed generations were discarded a committed tree as its content, if it has not yet."""
    content = CommittedTree(state.source, version, *tree)
    for journal in journals.older:
        state.journals[journal.generation] = state.journal = journal
    _replay_later(state, replayer, journals.later, consumed_generation, version)
    if all(journal.seq == journal.heading.first_seq for journal in journals.later):
        content.graft_into(state)
    switch_base(state, version, {})
    drop_old_journals(state, consumed_generation)


def _replay_later(
    state: State,
    replayer: Replayer,
    later: list[Journal],
    consumed_generation: int,
    version: Version | None,
    below: Version | None = None,
) -> None:
    """Replays the journals after an operation, on the base version that the operation gave the layer."""
    first_seq = state.journal.next_seq if state.journals else 1
    reset_to(state, version, below)
    for journal in later:
        replayer.replay(journal)
    if not later:
        made = create_journal(state.directory, state.branch, consumed_generation + 1, version, first_seq, state.on_step)
        state.journals[made.generation] = state.journal = made


def first_generation(state: State, generation: int) -> None:
    """Creates the first journal of a working layer."""
    journal = create_journal(state.directory, state.branch, generation, state.base, 1, state.on_step, is_start=True)
    state.journals[generation] = state.journal = journal
    if state.base is None:
        record_root(state)


def layer_lock(remote: RemoteBlocks | None) -> contextlib.AbstractContextManager[object]:
    """Returns a reentrant lock. `remote`: how blocks are read, if not from a local backend."""
    if remote is None:
        return threading.RLock()
    from vfs.overlay.event_loop_lock import LayerLock

    return LayerLock(remote)
