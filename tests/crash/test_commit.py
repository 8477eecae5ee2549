"""A commit that is cut off at any of its durable steps: the version is whole or absent, and nothing is lost."""

from __future__ import annotations

import errno
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from support.engine import Crash
from support.repository_copies import copy_closed
from support.steps import Steps
from support.trees import Picture, picture_of_overlay, picture_of_version, write_file
from vfs.errors import NothingToDo
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit
from vfs.repo.fsck import fsck
from vfs.repo.ignore_rules import Excluded, Rules, rules_of
from vfs.repo.partial_commit import Selection
from vfs.repo.repository import Repository

STEPS_MAX = 60


def fill(overlay: Overlay) -> None:
    """Changes a working layer: new, changed and removed names."""
    write_file(overlay, b"kept/tiny", b"new bytes of a tiny file")
    write_file(overlay, b"kept/large", b"0123456789abcdef" * 30_000)
    write_file(overlay, b"new/deep/er", b"x" * 5000)
    overlay.unlink(ROOT_INO, b"gone")
    overlay.symlink(ROOT_INO, b"link", b"kept/tiny", 0, 0)
    overlay.sync()


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A repository with a version and uncommitted changes over it, closed."""
    path = tmp_path / "template"
    with Repository.init(path) as repo, repo.open_overlay() as overlay:
        for name in (b"kept/tiny", b"kept/large", b"gone"):
            write_file(overlay, name, name * 400)
        commit(repo, overlay, "first", "a")
        fill(overlay)
    return path


def look(path: Path) -> tuple[Picture, list[Picture], bool]:
    """Returns what a repository holds after a crash: the working layer, all versions, and whether it is clean."""
    with Repository.open(path) as repo:
        assert fsck(repo, read_data=True).damage == []
        with repo.open_overlay() as overlay:
            versions = [picture_of_version(repo.store, version) for version in repo.versions()]
            return picture_of_overlay(overlay), versions, overlay.is_clean()


def test_a_crash_at_every_step_leaves_the_version_whole_or_absent(template: Path, tmp_path: Path) -> None:
    before, versions, _ = look(template)
    first = versions[0]
    stopped = []
    for count in range(STEPS_MAX):
        crashed, left = tmp_path / f"crashed{count}", tmp_path / f"left{count}"
        copy_closed(template, crashed)
        steps = Steps(Crash)
        repo = Repository.open(crashed, on_step=steps)
        overlay = repo.open_overlay()
        steps.arm(count)
        with suppress(Crash):
            commit(repo, overlay, "second", "a")
        # The process is over: what is on disk now is what the next one finds.
        shutil.copytree(crashed, left)
        with suppress(Crash):
            overlay.close()
        repo.close()
        stopped.append(steps.stopped_at)

        working, versions, is_clean = look(left)
        assert working == before, steps.stopped_at
        assert versions in ([first], [before, first]), steps.stopped_at
        # Changes that are in a version are changes no more, and the others still are.
        assert is_clean == (len(versions) == 2), steps.stopped_at
        if not steps.stopped_at:
            break
        finish(left, before)
    assert stopped[-1] == ""
    assert any(name == "append log" for name in stopped)
    assert len(stopped) > 10


@pytest.mark.parametrize("rest", [b"new", b"new.tmp"])
def test_a_crash_at_every_step_of_a_commit_of_nothing_loses_nothing(tmp_path: Path, rest: bytes) -> None:
    """A file that was written as it was is no change; what is left out stays one."""
    template = tmp_path / "template"
    with Repository.init(template) as repo, repo.open_overlay() as overlay:
        for message in ("first", ""):
            write_file(overlay, b"a", b"1" * 5000)
            overlay.setattr(overlay.lookup(ROOT_INO, b"a").ino, mtime_ns=10**18)
            if message:
                commit(repo, overlay, message, "a")
        if rest.endswith(b".tmp"):
            write_file(overlay, rest, b"2" * 5000)
    before, first, _ = look(template)
    selection = Selection(rules_of(Excluded([b"*.tmp"])))
    stopped = []
    for count in range(STEPS_MAX):
        crashed, left = tmp_path / f"crashed{count}", tmp_path / f"left{count}"
        copy_closed(template, crashed)
        steps = Steps(Crash)
        repo = Repository.open(crashed, on_step=steps)
        overlay = repo.open_overlay()
        steps.arm(count)
        with suppress(Crash, NothingToDo):
            commit(repo, overlay, "second", "a", selection=selection)
        shutil.copytree(crashed, left)
        with suppress(Crash):
            overlay.close()
        repo.close()
        stopped.append(steps.stopped_at)
        assert look(left)[:2] == (before, first), steps.stopped_at
        if not steps.stopped_at:
            break
        finish(left, before)
    assert stopped[-1] == ""
    assert len(stopped) > 4


def test_a_crash_at_every_step_of_a_commit_of_paths_loses_nothing_of_the_rest(template: Path, tmp_path: Path) -> None:
    before, [first], _ = look(template)
    part = {path: before[path] for path in (b"kept", b"kept/tiny", b"kept/large")} | {b"gone": first[b"gone"]}
    stopped = []
    for count in range(STEPS_MAX):
        crashed, left = tmp_path / f"crashed{count}", tmp_path / f"left{count}"
        copy_closed(template, crashed)
        steps = Steps(Crash)
        repo = Repository.open(crashed, on_step=steps)
        overlay = repo.open_overlay()
        steps.arm(count)
        with suppress(Crash):
            commit(repo, overlay, "second", "a", selection=Selection(Rules(), [b"kept"]))
        shutil.copytree(crashed, left)
        with suppress(Crash):
            overlay.close()
        repo.close()
        stopped.append(steps.stopped_at)

        for _ in range(2):
            working, versions, is_clean = look(left)
            assert working == before, steps.stopped_at
            assert versions in ([first], [part, first]), steps.stopped_at
            assert not is_clean, steps.stopped_at
        if not steps.stopped_at:
            break
        finish(left, before)
    assert stopped[-1] == ""
    assert any(name == "append log" for name in stopped)
    assert len(stopped) > 10


def finish(path: Path, wanted: Picture) -> None:
    """Commits what is left to commit; in the end the newest version is what was meant to be."""
    with Repository.open(path) as repo, repo.open_overlay() as overlay:
        with suppress(NothingToDo):
            commit(repo, overlay, "again", "a")
        head = repo.head()
        assert head is not None
        assert picture_of_version(repo.store, head) == wanted
        assert fsck(repo, read_data=True).damage == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken"), MemoryError()])
def test_a_failure_at_any_step_loses_nothing_and_the_process_can_continue(
    template: Path, tmp_path: Path, error: Exception
) -> None:
    before, _, _ = look(template)
    for count in range(STEPS_MAX):
        path, left = tmp_path / f"failed{count}", tmp_path / f"left{count}"
        copy_closed(template, path)
        steps = Steps(lambda _name: error)
        with Repository.open(path, on_step=steps) as repo, repo.open_overlay() as overlay:
            steps.arm(count)
            failed = False
            try:
                commit(repo, overlay, "second", "a")
            except type(error):
                failed = True
            steps.disarm()
            assert picture_of_overlay(overlay) == before, steps.stopped_at
            # What it says is true: a commit behind its commit point has not failed.
            assert repo.refs.version_count("main") == (1 if failed else 2), steps.stopped_at
            write_file(overlay, b"later", b"written after the failure")
            wanted = before | {b"later": b"written after the failure"}
            overlay.compactor.run()
            shutil.copytree(path, left)
            commit(repo, overlay, "third", "a")
            head = repo.head()
            assert head is not None
            assert picture_of_version(repo.store, head) == wanted
            assert fsck(repo, read_data=True).damage == []
        # A kill instead of the third commit.
        working, versions, _ = look(left)
        assert working == wanted, steps.stopped_at
        assert len(versions) == (1 if failed else 2)
        if not steps.stopped_at:
            return
    pytest.fail("the commit never came through")
