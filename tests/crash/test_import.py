"""An import that is cut off at any of its durable steps: the version is whole or absent, the working layer clean."""

from __future__ import annotations

import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from support.engine import Crash
from support.repository_copies import copy_closed
from support.steps import Steps
from support.trees import Picture, picture_of_directory, picture_of_overlay, picture_of_version, write_file
from vfs.errors import Conflict, NothingToDo
from vfs.repo.commit import commit
from vfs.repo.fsck import fsck
from vfs.repo.import_directory import import_directory
from vfs.repo.repository import Repository
from vfs.repo.restore import restore

STEPS_MAX = 60


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with small, tiny and large files."""
    noise = random.Random(5)
    root = tmp_path / "source"
    (root / "sub").mkdir(parents=True)
    (root / "tiny").write_bytes(b"tiny")
    (root / "sub/small").write_bytes(noise.randbytes(50_000))
    (root / "sub/large").write_bytes(noise.randbytes(1 << 18) * 36)
    return root


def bring_in(repo: Repository, source: Path) -> None:
    """Imports a directory into a repository that is not mounted."""
    with repo.open_overlay() as overlay:
        import_directory(repo, source, "m", "a", overlay=overlay, jobs=2)


def look(path: Path) -> list[Picture]:
    """Returns what the versions of a repository hold, newest first, once it is found in order."""
    with Repository.open(path) as repo, repo.open_overlay() as overlay:
        assert fsck(repo, read_data=True).damage == []
        assert overlay.is_clean()
        versions = [picture_of_version(repo.store, version) for version in repo.versions()]
        assert picture_of_overlay(overlay) == (versions[0] if versions else {})
        return versions


@pytest.mark.slow
def test_a_crash_at_every_step_leaves_the_version_whole_or_absent(source: Path, tmp_path: Path) -> None:
    template = tmp_path / "template"
    with Repository.init(template) as repo:
        bring_in(repo, source)
    first = picture_of_directory(source)
    (source / "sub/large").write_bytes(random.Random(6).randbytes(1 << 18) * 36)
    (source / "tiny").unlink()
    second = picture_of_directory(source)
    stopped = []
    for count in range(STEPS_MAX):
        crashed, left = tmp_path / f"crashed{count}", tmp_path / f"left{count}"
        copy_closed(template, crashed)
        steps = Steps(Crash)
        repo = Repository.open(crashed, on_step=steps)
        overlay = repo.open_overlay()
        steps.arm(count)
        with suppress(Crash):
            import_directory(repo, source, "m", "a", overlay=overlay, jobs=2)
        shutil.copytree(crashed, left)
        with suppress(Crash):
            overlay.close()
        repo.close()
        stopped.append(steps.stopped_at)

        assert look(left) in ([first], [second, first]), steps.stopped_at
        if not steps.stopped_at:
            break
        with Repository.open(left) as repo, suppress(NothingToDo):
            bring_in(repo, source)
        assert look(left) == [second, first]
        shutil.rmtree(crashed)
        shutil.rmtree(left)
    assert stopped[-1] == ""
    assert "append log" in stopped
    assert len(stopped) > 10


def test_a_disk_that_fails_at_every_step_of_the_last_step_undoes_no_version(source: Path, tmp_path: Path) -> None:
    (source / "sub/large").unlink()
    template = tmp_path / "template"
    with Repository.init(template) as repo:
        bring_in(repo, source)
    (source / "more").write_bytes(b"more")
    imported = picture_of_directory(source)
    refused = 0
    for count in range(STEPS_MAX):
        path = tmp_path / f"failed{count}"
        copy_closed(template, path)
        steps = Steps(lambda name: OSError(28, f"no space left at {name}"))
        with Repository.open(path, on_step=steps) as repo, repo.open_overlay() as overlay:
            before = picture_of_overlay(overlay)
            steps.arm(count)
            with suppress(OSError):
                import_directory(repo, source, "m", "a", overlay=overlay, jobs=2)
            steps.disarm()
            made = repo.refs.version_count("main") == 2
            write_file(overlay, b"later", b"written afterwards")
            try:
                commit(repo, overlay, "m", "a")
            except Conflict:
                assert made, steps.stopped_at
                refused += 1
        with Repository.open(path) as repo, repo.open_overlay() as overlay:
            head = repo.head()
            assert head is not None
            if overlay.base is not None and overlay.base.id == head.id:
                with suppress(NothingToDo):
                    head = commit(repo, overlay, "m", "a").version
                wanted = (imported if made else before) | {b"later": b"written afterwards"}
                assert picture_of_version(repo.store, head) == wanted, steps.stopped_at
                if not steps.stopped_at:
                    break
                continue
            # The version could not be followed, and is not undone either; the way out is the one that the error names.
            assert picture_of_version(repo.store, head) == imported
            assert picture_of_overlay(overlay) == before | {b"later": b"written afterwards"}
            restore(repo, overlay, head, discard=True)
            assert picture_of_overlay(overlay) == imported
            assert overlay.is_clean()
    assert refused > 0
    assert count < STEPS_MAX - 1


def test_init_that_is_cut_off_at_every_step_can_be_done_again(tmp_path: Path) -> None:
    for count in range(STEPS_MAX):
        path = tmp_path / f"repo{count}"
        steps = Steps(Crash)
        steps.arm(count)
        with suppress(Crash):
            Repository.init(path, on_step=steps).close()
        if not (path / "vfs.json").exists():
            Repository.init(path).close()
        assert look(path) == []
        if not steps.stopped_at:
            assert count > 3
            return
    pytest.fail("init never came through")
