"""Merge, restore and undo, cut off at any of their durable steps: done or not done, and never half of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from support.engine import Crash
from support.lines import TEXT, put
from support.repository_copies import copy_closed
from support.steps import Steps
from support.trees import Picture, picture_of_overlay, picture_of_version
from vfs.errors import VfsError
from vfs.overlay.overlay import Overlay
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit
from vfs.repo.describe import amend
from vfs.repo.fsck import fsck
from vfs.repo.merge import abort_merge, merge
from vfs.repo.merge_conflicts import resolve_conflicts, unresolved
from vfs.repo.merge_state import merge_state
from vfs.repo.repository import Repository
from vfs.repo.restore import restore
from vfs.repo.stash import NotReplaced
from vfs.repo.undo import last_operation, undo

STEPS_MAX = 80

Act = Callable[[Repository, Overlay], object]


def _merge(repo: Repository, overlay: Overlay) -> None:
    merge(repo, overlay, "exp", repo.resolve("exp"), "a")


def _merge_clean(repo: Repository, overlay: Overlay) -> None:
    merge(repo, overlay, "clean", repo.resolve("clean"), "a")


def _abandon(repo: Repository, overlay: Overlay) -> None:
    abort_merge(repo, overlay, "a")


def _finish(repo: Repository, overlay: Overlay) -> None:
    commit(repo, overlay, "", "a")


def _restore(repo: Repository, overlay: Overlay) -> None:
    restore(repo, overlay, repo.resolve("v1"), discard=True, author="a")


def _undo(repo: Repository, overlay: Overlay) -> None:
    undo(repo, overlay, last_operation(repo), "a")


def _amend(repo: Repository, overlay: Overlay) -> None:
    amend(repo, overlay, "a", "amended")


def _change(repo: Repository, overlay: Overlay) -> None:
    put(overlay, b"t", b"uncommitted")
    put(overlay, b"new/uncommitted", b"u" * 5000)
    overlay.sync()


def _decide(repo: Repository, overlay: Overlay) -> None:
    put(overlay, b"t", b"decided")
    resolve_conflicts(repo, overlay, [], "resolved")


def _commit(repo: Repository, overlay: Overlay) -> None:
    _change(repo, overlay)
    commit(repo, overlay, "second", "a")


SCENES: dict[str, tuple[list[Act], Act]] = {
    "merge": ([], _merge_clean),
    "merge-begin": ([], _merge),
    "merge-abort": ([_merge, _decide], _abandon),
    "merge-continue": ([_merge, _decide], _finish),
    "restore": ([_change], _restore),
    "amend": ([_change], _amend),
    "undo of a commit": ([_commit], _undo),
    "undo of a merge": ([_merge_clean], _undo),
    "undo of a merge with conflicts": ([_merge, _decide, _finish], _undo),
    "undo of a restore": ([_change, _restore], _undo),
    "undo of an abandoned merge": ([_merge, _decide, _abandon], _undo),
    "undo of a restore in a merge": ([_merge, _decide, _restore], _undo),
    "undo of an undo": ([_commit, _undo], _undo),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a version on main, and two branches: `exp` is in conflict with it, `clean` is not."""
    path = tmp_path_factory.mktemp("undo") / "template"
    with Repository.init(path) as repo, repo.open_overlay() as overlay:
        put(overlay, b"t", TEXT)
        put(overlay, b"d/large", b"x" * 20_000)
        first = commit(repo, overlay, "first", "a").version
        for name, data in (("exp", TEXT.replace(b"two", b"zwei")), ("clean", TEXT)):
            create_branch(repo, name, first, author="a")
            with repo.open_overlay(name) as other:
                put(other, b"t", data)
                put(other, b"d/" + name.encode(), b"theirs")
                commit(repo, other, "theirs", "b")
        put(overlay, b"t", TEXT.replace(b"two", b"deux"))
        put(overlay, b"d/ours", b"ours")
        commit(repo, overlay, "ours", "a")
    return path


State = tuple[dict[str, bytes], Picture, list[bytes], list[bytes] | None, int]


def look(path: Path) -> State:
    """Returns refs, files, uncommitted paths, what a merge has left to resolve, and the number of operations."""
    with Repository.open(path) as repo:
        assert fsck(repo, read_data=True).damage == []
        with repo.open_overlay("main") as overlay:
            state = merge_state(repo, "main")
            left = None if state is None else [conflict.path for conflict in unresolved(overlay, state)]
            changed = [change.path for change in overlay.changes()]
            count = sum(1 for _ in repo.refs.operations())
            return dict(repo.refs.list()), picture_of_overlay(overlay), changed, left, count


def with_id_apart(state: State) -> tuple[object, ...]:
    """Commits made in different runs differ by their times alone; what they hold is compared."""
    return len(state[0]), *state[1:]


@pytest.mark.slow
@pytest.mark.parametrize("scene", list(SCENES))
def test_a_crash_at_every_step_leaves_it_done_or_not_done(template: Path, tmp_path: Path, scene: str) -> None:
    prepare, act = SCENES[scene]
    start = tmp_path / "start"
    copy_closed(template, start)
    with Repository.open(start) as repo, repo.open_overlay() as overlay:
        for step in prepare:
            step(repo, overlay)
    before = look(start)
    after: State | None = None
    found: list[State] = []
    for count in range(STEPS_MAX):
        crashed, left = tmp_path / "crashed", tmp_path / "left"
        copy_closed(start, crashed)
        steps = Steps(Crash)
        repo = Repository.open(crashed, on_step=steps)
        overlay = repo.open_overlay()
        steps.arm(count)
        with suppress(Crash):
            act(repo, overlay)
        shutil.copytree(crashed, left)
        steps.disarm()
        overlay.abandon()
        repo.close()
        found.append(look(left))
        # Whatever was found, opening it again finds the same.
        assert look(left) == found[-1], steps.stopped_at
        shutil.rmtree(crashed)
        shutil.rmtree(left)
        if not steps.stopped_at:
            after = found[-1]
            break
    assert after is not None
    assert len(found) > 3
    assert with_id_apart(before) != with_id_apart(after)
    for state in found:
        is_done = state[-1] == after[-1]
        if is_done:
            assert with_id_apart(state) == with_id_apart(after)
        elif scene == "restore":
            # The working layer is changed first, and what it was is kept; the log says so last.
            assert state[1] in (before[1], after[1])
        else:
            assert state == before


@pytest.mark.parametrize("scene", list(SCENES))
def test_a_disk_that_fails_at_every_step_loses_nothing(template: Path, tmp_path: Path, scene: str) -> None:
    prepare, act = SCENES[scene]
    start = tmp_path / "start"
    copy_closed(template, start)
    with Repository.open(start) as repo, repo.open_overlay() as overlay:
        for step in prepare:
            step(repo, overlay)
    before = look(start)
    for count in range(STEPS_MAX):
        path = tmp_path / "failed"
        copy_closed(start, path)
        steps = Steps(lambda name: OSError(28, f"no space left at {name}"))
        with Repository.open(path, on_step=steps) as repo, repo.open_overlay() as overlay:
            steps.arm(count)
            with suppress(OSError, VfsError):
                act(repo, overlay)
            steps.disarm()
            operations = sum(1 for _ in repo.refs.operations())
            if operations == before[-1] and scene != "restore":
                assert picture_of_overlay(overlay) == before[1], steps.stopped_at
                put(overlay, b"later", b"l")
        state = look(path)
        if operations == before[-1] and scene != "restore":
            assert state[1] == before[1] | {b"later": b"l"}, steps.stopped_at
        shutil.rmtree(path)
        if not steps.stopped_at:
            return
    pytest.fail("it never came through")


def test_a_layer_that_could_not_follow_takes_no_changes_until_it_is_opened_again(
    template: Path, tmp_path: Path
) -> None:
    path = tmp_path / "failed"
    copy_closed(template, path)
    stopping = Steps(lambda name: OSError(28, name))

    def fail_in_base(name: str) -> None:
        if "base" in name:
            stopping(name)

    with Repository.open(path, on_step=fail_in_base) as repo, repo.open_overlay() as overlay:
        _commit(repo, overlay)
        stopping.arm(0)
        with pytest.raises(NotReplaced):
            _undo(repo, overlay)
        stopping.disarm()
        with pytest.raises(OSError, match="opened again"):
            put(overlay, b"later", b"l")
    with Repository.open(path) as repo, repo.open_overlay() as overlay:
        head = repo.head()
        assert head is not None
        assert head.name == "v2"
        assert picture_of_overlay(overlay)[b"t"] == b"uncommitted"
        assert picture_of_version(repo.store, head)[b"t"] == TEXT.replace(b"two", b"deux")
