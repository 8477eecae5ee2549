"""A gc that is cut off at any of its durable steps: nothing that is needed goes, and the next one finishes."""

from __future__ import annotations

import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from support.engine import Crash
from support.repository_copies import claim_index, copy_closed
from support.steps import Steps
from support.trees import Picture, picture_of_overlay, picture_of_version, write_file
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.repo.commit import commit
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import gc
from vfs.repo.retention.policy import Rules
from vfs.repo.tags import create_tag
from vfs.store.object_writer import ObjectWriter
from vfs.store.packs.index import RETIRED_KEY, backend_packs

STEPS_MAX = 120
_noise = random.Random(61)
CONTENTS = [_noise.randbytes(size) for size in (40_000, 150_000, 90_000, 20_000, 70_000)]


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Five versions, each with content of its own, shared and tiny; uncommitted changes; packs that are not indexed."""
    path = tmp_path / "template"
    with Repository.init(path) as repo, repo.open_overlay() as overlay:
        for number, data in enumerate(CONTENTS):
            write_file(overlay, b"changing", data)
            write_file(overlay, b"d/%d" % number, data[:9000])
            write_file(overlay, b"d/tiny", b"tiny %d" % number)
            commit(repo, overlay, "m", "a")
        create_tag(repo, "kept", repo.resolve("v2"), author="a")
        overlay.unlink(ROOT_INO, b"changing")
        write_file(overlay, b"new", CONTENTS[0][:30_000])
    steps = Steps(Crash)
    repo = Repository.open(path, on_step=steps)
    writer = ObjectWriter(repo.store)
    writer.put_chunk(CONTENTS[0][::-1])
    steps.arm(3)
    with suppress(Crash):
        writer.flush()
    assert steps.stopped_at == "commit index"
    repo.close()
    return path


def look(path: Path) -> tuple[dict[str, Picture], Picture]:
    """Returns what the versions that are left and the working layer hold, once all is found in order."""
    with Repository.open(path) as repo, repo.open_overlay() as overlay:
        assert fsck(repo, read_data=True).damage == []
        return {v.name: picture_of_version(repo.store, v) for v in repo.versions()}, picture_of_overlay(overlay)


def bring_all_back(path: Path) -> None:
    """Commits all that was forgotten again: what is on disk must not pretend to be whole."""
    with Repository.open(path) as repo, repo.open_overlay() as overlay:
        for number, data in enumerate(CONTENTS):
            write_file(overlay, b"changing", data)
            write_file(overlay, b"d/%d" % number, data[:9000])
            write_file(overlay, b"d/tiny", b"tiny %d" % number)
            wanted = picture_of_overlay(overlay)
            made = commit(repo, overlay, "m", "a", allow_empty=True).version
            assert picture_of_version(repo.store, made) == wanted
        assert fsck(repo, read_data=True).damage == []


def collect(repo: Repository) -> None:
    gc(repo, Rules(last=2), grace_s=0, undo_s=0, thorough=True)


@pytest.mark.slow
def test_a_crash_at_every_step_loses_nothing_and_the_next_gc_finishes(template: Path, tmp_path: Path) -> None:
    before, working = look(template)
    left_over = {name: before[name] for name in ("v2", "v4", "v5")}
    stopped = []
    for count in range(STEPS_MAX):
        crashed = tmp_path / f"crashed{count}"
        copy_closed(template, crashed)
        steps = Steps(Crash)
        repo = Repository.open(crashed, on_step=steps)
        steps.arm(count)
        with suppress(Crash):
            collect(repo)
        repo.close()
        stopped.append(steps.stopped_at)

        # With the index as it was left, and with one that is made again from what is on disk.
        for suffix, fresh in (("kept", False), ("fresh", True)):
            left = tmp_path / f"{suffix}{count}"
            shutil.copytree(crashed, left)
            if fresh:
                shutil.rmtree(left / "index")
            else:
                claim_index(left)
            versions, found = look(left)
            assert versions in (before, left_over), steps.stopped_at
            assert found == working, steps.stopped_at
            bring_all_back(left)
            shutil.rmtree(left)
        with Repository.open(crashed) as repo:
            collect(repo)
            assert repo.index.object_count() == sum(row.objects for row in repo.index.packs())
            assert {name for name, _ in backend_packs(repo.backend)} == {row.name for row in repo.index.packs()}
            assert not (crashed / RETIRED_KEY).exists()
        assert look(crashed) == (left_over, working)
        shutil.rmtree(crashed)
        if not steps.stopped_at:
            break
    assert stopped[-1] == ""
    assert {"append log", "commit index", f"fsync {RETIRED_KEY}", f"delete {RETIRED_KEY}"} <= set(stopped)


def test_a_disk_failure_at_any_step_loses_nothing_and_the_process_can_continue(template: Path, tmp_path: Path) -> None:
    before, working = look(template)
    for count in range(STEPS_MAX):
        path = tmp_path / f"failed{count}"
        copy_closed(template, path)
        steps = Steps(lambda name: OSError(28, f"no space left at {name}"))
        with Repository.open(path, on_step=steps) as repo:
            steps.arm(count)
            with suppress(OSError):
                collect(repo)
            steps.disarm()
            assert fsck(repo, read_data=True).damage == []
            collect(repo)
        assert look(path) == ({name: before[name] for name in ("v2", "v4", "v5")}, working)
        shutil.rmtree(path)
        if not steps.stopped_at:
            return
    pytest.fail("gc never came through")
