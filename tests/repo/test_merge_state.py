"""Goal: what was decided in an unfinished merge is told right, or refused: never taken for no merge."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from support.descriptors import descriptors_left
from support.lines import TEXT, Lines
from support.repositories import Repositories
from support.trees import write_file
from vfs.api.hints import hint_text
from vfs.errors import Conflict, Corrupt
from vfs.repo.commit import commit
from vfs.repo.fsck import fsck
from vfs.repo.merge import abort_merge
from vfs.repo.merge_conflicts import UnresolvedConflicts, resolve_conflicts, unresolved
from vfs.repo.merge_state import LostState, MergeState, decode_file, encode_file, merge_state
from vfs.repo.undo import last_operation, undo


@pytest.fixture
def lines(repositories: Repositories) -> Lines:
    """Two branches, in the middle of a merge: `t` has marks, `bin` is to be decided."""
    made = Lines(repositories)
    made.on_exp({b"t": TEXT.replace(b"two", b"zwei"), b"bin": b"\0theirs"})
    made.on_main({b"t": TEXT.replace(b"two", b"deux"), b"bin": b"\0ours"})
    made.merge()
    return made


def path_of(lines: Lines) -> Path:
    return lines.repo.path / "work" / "main" / "merge"


def state_of(lines: Lines) -> MergeState:
    state = merge_state(lines.repo, "main")
    assert state is not None
    return state


def refused(lines: Lines) -> None:
    """Nothing that depends on the state goes on without it, and fsck tells."""
    head = lines.repo.head()
    with pytest.raises(LostState, match=r"its state \(work/main/merge\)") as error:
        commit(lines.repo, lines.overlay, "", "a")
    assert "vfs merge --abort" in hint_text(error.value.hint)
    with pytest.raises(LostState):
        resolve_conflicts(lines.repo, lines.overlay, [], "ours")
    with pytest.raises(LostState):
        lines.merge()
    assert lines.repo.head() == head
    assert ["work/main/merge" in damage.reason for damage in fsck(lines.repo).damage] == [True]


@pytest.mark.parametrize("seed", range(20))
def test_any_change_of_the_file_is_refused(lines: Lines, seed: int) -> None:
    resolve_conflicts(lines.repo, lines.overlay, [b"bin"], "theirs")
    chosen = random.Random(seed)
    data = bytearray(path_of(lines).read_bytes())
    at = chosen.randrange(len(data))
    changes: list[Callable[[], bytes]] = [
        lambda: bytes(data[:at]) + bytes((data[at] ^ 1 << chosen.randrange(8),)) + bytes(data[at + 1 :]),
        lambda: bytes(data[:at]),
        lambda: bytes(data[:at]) + bytes(len(data) - at),
        lambda: bytes(data) + b"more",
    ]
    path_of(lines).write_bytes(changes[seed % len(changes)]())
    refused(lines)
    abort_merge(lines.repo, lines.overlay, "a")


def test_a_missing_file_is_refused_and_the_merge_can_be_abandoned_and_restored(lines: Lines) -> None:
    before = lines.picture()
    resolve_conflicts(lines.repo, lines.overlay, [b"bin"], "theirs")
    write_file(lines.overlay, b"t", b"decided")
    path_of(lines).unlink()
    refused(lines)
    lines.reopen()
    refused(lines)
    abort_merge(lines.repo, lines.overlay, "a")
    assert merge_state(lines.repo, "main") is None
    assert lines.overlay.is_clean()
    assert fsck(lines.repo).is_clean
    with pytest.raises(Conflict, match="no merge is under way"):
        abort_merge(lines.repo, lines.overlay, "a")
    undo(lines.repo, lines.overlay, last_operation(lines.repo), "a")
    assert lines.picture() == before | {b"t": b"decided", b"bin": b"\0theirs"}
    assert [conflict.path for conflict in unresolved(lines.overlay, state_of(lines))] == [b"bin"]
    with pytest.raises(UnresolvedConflicts):
        commit(lines.repo, lines.overlay, "", "a")
    resolve_conflicts(lines.repo, lines.overlay, [b"bin"], "resolved")
    assert len(commit(lines.repo, lines.overlay, "", "a").version.commit.parents) == 2


def test_recovery_without_the_journal_shows_the_conflicts_again(lines: Lines) -> None:
    before = lines.picture()
    lines.overlay.close()
    journal = path_of(lines).with_name(f"journal-{state_of(lines).generation + 1}")
    journal.write_bytes(b"X" + journal.read_bytes()[1:])
    with pytest.raises(Corrupt, match=journal.name):
        lines.repo.open_overlay()
    lines.repo.open_overlay(passes_damage=True).close()
    lines.reopen()
    assert lines.picture() == before
    assert [conflict.path for conflict in unresolved(lines.overlay, state_of(lines))] == [b"bin", b"t"]


def test_the_state_of_another_branch_is_refused(lines: Lines) -> None:
    other = msgspec.structs.replace(state_of(lines), theirs=state_of(lines).ours)
    path_of(lines).write_bytes(encode_file([other]))
    refused(lines)
    path_of(lines).write_bytes(msgspec.json.encode(other))
    refused(lines)
    abort_merge(lines.repo, lines.overlay, "a")


def test_the_file_of_a_program_that_wrote_no_checksum_is_read_and_replaced(lines: Lines) -> None:
    state = state_of(lines)
    path_of(lines).write_bytes(msgspec.json.encode(state))
    assert state_of(lines) == state
    assert fsck(lines.repo).is_clean
    resolve_conflicts(lines.repo, lines.overlay, [b"bin"], "theirs")
    assert decode_file(path_of(lines).read_bytes()) == [state_of(lines)]
    assert path_of(lines).read_bytes()[16:18] == b" {"


@pytest.mark.parametrize("kind", ["directory", "loop", "fifo"])
def test_special_files_are_refused(lines: Lines, kind: str) -> None:
    path = path_of(lines)
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    else:
        os.mkfifo(path)
    with pytest.raises((OSError, Corrupt)):
        commit(lines.repo, lines.overlay, "", "a")
    assert len(fsck(lines.repo).damage) == 1
    shutil.rmtree(path) if kind == "directory" else path.unlink()
    abort_merge(lines.repo, lines.overlay, "a")


def test_a_process_without_descriptors_does_not_take_it_for_no_merge(lines: Lines) -> None:
    before = state_of(lines)
    with descriptors_left(0), pytest.raises(OSError, match="Too many open files"):
        merge_state(lines.repo, "main")
    assert state_of(lines) == before


def test_a_state_in_force_stays_beside_one_that_an_undo_was_about_to_restore(lines: Lines) -> None:
    before = state_of(lines)
    later = msgspec.structs.replace(before, generation=before.generation + 5, name="later")
    path_of(lines).write_bytes(encode_file([before, later]))
    assert state_of(lines) == before


def test_a_merge_that_is_over_needs_no_file_and_minds_none(lines: Lines) -> None:
    left = path_of(lines).read_bytes()
    abort_merge(lines.repo, lines.overlay, "a")
    for data in (left, b"nonsense"):
        path_of(lines).write_bytes(data)
        assert merge_state(lines.repo, "main") is None
        assert fsck(lines.repo).is_clean
