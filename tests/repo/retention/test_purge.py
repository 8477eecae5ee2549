"""purge: a path leaves every version, and no byte that only it had is anywhere in the repository."""

from __future__ import annotations

import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from support.engine import Crash
from support.repositories import Repositories
from support.steps import Steps
from support.trees import Picture, picture_of_overlay, picture_of_version, write_file
from vfs.errors import Conflict, InvalidInput, NotFound
from vfs.history.revision import UnknownVersion
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.overlay import Overlay
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit
from vfs.repo.describe import describe
from vfs.repo.fsck import fsck
from vfs.repo.import_directory import import_directory
from vfs.repo.notes import described
from vfs.repo.protection import protect
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import forget
from vfs.repo.retention.purge import Purged, purge
from vfs.repo.tags import create_tag
from vfs.store.packs.blocks import open_block, parse_header
from vfs.store.packs.index import backend_packs
from vfs.store.packs.pack_file import read_info
from vfs.store.refs.refs import Protected

_noise = random.Random(64)
MARK = _noise.randbytes(24)
"""Bytes that are in purged content alone."""
# Incompressible, and text that the packs compress; tiny files stand in tree nodes.
SECRETS = {
    b"d/photo": _noise.randbytes(90_000) + MARK + _noise.randbytes(90_000),
    b"d/text": (b"name and address " * 500) + MARK,
    b"d/tiny": b"tiny " + MARK,
}
STEPS_MAX = 150


def traces(repo: Repository) -> list[str]:
    """Returns the places of the repository, plain and decompressed, where the mark is found."""
    found = [str(path) for path in repo.path.rglob("*") if path.is_file() and MARK in path.read_bytes()]
    for name, size in backend_packs(repo.backend):
        for block in read_info(repo.backend, name, size).blocks:
            raw = memoryview(repo.backend.read_range(name.key, block.offset, block.block_bytes))
            header = parse_header(raw)
            for stored, view in open_block(header, raw[header.header_bytes :], repo.store.compression).good:
                if MARK in bytes(view):
                    found.append(f"{name.key}: {stored}")
    return found


def fill(repo: Repository, overlay: Overlay) -> None:
    """Five versions, most with the secrets, one forgotten; a branch, a tag; in the journal what was removed again."""
    write_file(overlay, b"a", _noise.randbytes(50_000))
    commit(repo, overlay, "before", "a")
    for path, data in SECRETS.items():
        write_file(overlay, path, data)
    write_file(overlay, b"d/kept", _noise.randbytes(20_000))
    linked = overlay.lookup(overlay.lookup(ROOT_INO, b"d").ino, b"text").ino
    directory = overlay.lookup(ROOT_INO, b"d").ino
    overlay.link(linked, directory, b"text-too")
    overlay.link(linked, directory, b"text-three")
    commit(repo, overlay, "with", "a")
    write_file(overlay, b"d/kept", _noise.randbytes(20_000))
    commit(repo, overlay, "to be forgotten", "a")
    overlay.unlink(directory, b"photo")
    commit(repo, overlay, "one removed", "a")
    create_branch(repo, "side", repo.resolve("v2"), author="a")
    create_tag(repo, "paper", repo.resolve("v2"), author="a")
    write_file(overlay, b"b", b"b" * 5000)
    commit(repo, overlay, "after", "a")
    forget(repo, [repo.resolve("v3")], author="a")
    write_file(overlay, b"passing", SECRETS[b"d/text"])
    overlay.unlink(ROOT_INO, b"passing")
    assert overlay.is_clean()


PATHS = [b"d/photo", b"d/tiny", b"d/text", b"d/text-too"]


def without(picture: Picture) -> Picture:
    return {path: data for path, data in picture.items() if path not in PATHS}


def pictures(repo: Repository) -> dict[str, Picture]:
    """Returns what every name leads to."""
    return {
        name: picture_of_version(repo.store, repo.resolve(name)) for name in ("v1", "v2", "v4", "v5", "side", "paper")
    }


def run(repo: Repository) -> Purged:
    return purge(repo, PATHS, author="a")


@pytest.fixture
def filled(repo: Repository) -> Repository:
    with repo.open_overlay() as overlay:
        fill(repo, overlay)
    return repo


def test_a_purged_path_leaves_every_version_and_the_disk(filled: Repository) -> None:
    repo = filled
    before = pictures(repo)
    commits = {name: repo.resolve(name) for name in before}
    assert traces(repo)
    said = purge(repo, PATHS, author="a", dry_run=True)
    assert (said.swept, said.rewritten) == (None, 0)
    assert pictures(repo) == before

    done = run(repo)

    # Text has a third name, and with it its bytes; that name goes next.
    assert (sorted(done.versions), done.files) == (sorted(said.versions), said.files)
    assert pictures(repo) == {name: without(picture) for name, picture in before.items()}
    found = purge(repo, [b"d/text-three"], author="a")
    assert found.swept is not None
    assert found.swept.objects_unneeded == 0
    assert traces(repo) == []
    for name, old in commits.items():
        new = repo.resolve(name)
        assert (new.id == old.id) == (name == "v1")
        kept = (new.commit.number, new.commit.time_ns, new.commit.message, new.commit.author)
        assert kept == (old.commit.number, old.commit.time_ns, old.commit.message, old.commit.author)
    with pytest.raises(UnknownVersion):
        repo.resolve(commits["v2"].id.hex())
    assert [version.name for version in repo.versions()] == ["v5", "v4", "v2", "v1"]
    assert [version.name for version in repo.history()] == ["v5", "v4", "v3", "v2", "v1"]


def test_work_continues_after_a_purge(filled: Repository) -> None:
    run(filled)
    with filled.open_overlay() as overlay:
        assert overlay.is_clean()
        write_file(overlay, b"d/photo", SECRETS[b"d/photo"])
        wanted = picture_of_overlay(overlay)
        made = commit(filled, overlay, "again", "a").version
        assert made.name == "v6"
        assert picture_of_version(filled.store, made) == wanted
    purge(filled, [b"d/photo"], author="a")
    assert b"d/photo" not in picture_of_version(filled.store, filled.resolve("v6"))


def test_a_purged_import_is_read_again(repo: Repository, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a", "b"):
        (source / name).write_bytes(_noise.randbytes(40_000))
    with repo.open_overlay() as overlay:
        import_directory(repo, source, "m", "a", overlay=overlay)
    purge(repo, [b"a"], author="a")
    with repo.open_overlay() as overlay:
        import_directory(repo, source, "m", "a", overlay=overlay)
    held = picture_of_version(repo.store, repo.resolve("v2"))
    assert held == {name.encode(): (source / name).read_bytes() for name in ("a", "b")}


def test_what_would_lose_or_hide_something_is_refused_and_nothing_changes(
    filled: Repository, repositories: Repositories
) -> None:
    before = pictures(filled)
    with pytest.raises(InvalidInput, match="root"):
        purge(filled, [b""], author="a")
    with pytest.raises(NotFound, match="no version has nowhere"):
        purge(filled, [b"nowhere"], author="a")
    protect(filled, "tags/paper", author="a")
    with pytest.raises(Protected):
        run(filled)
    protect(filled, "tags/paper", author="a", on=False)
    overlay = repositories.overlay(filled)
    write_file(overlay, b"uncommitted", b"u")
    overlay.close()
    with pytest.raises(Conflict, match="uncommitted changes"):
        run(filled)
    lost = filled.path / "work/main/journal-1.lost"
    lost.write_bytes(b"")
    with pytest.raises(Conflict, match="were quarantined"):
        run(filled)
    lost.unlink()
    assert pictures(filled) == before


@pytest.mark.slow
def test_a_crash_at_every_step_leaves_all_or_nothing_and_the_next_purge_finishes(tmp_path: Path) -> None:
    template = tmp_path / "template"
    with Repository.init(template) as repo, repo.open_overlay() as overlay:
        fill(repo, overlay)
    with Repository.open(template) as repo:
        before = pictures(repo)
    after = {name: without(picture) for name, picture in before.items()}
    stopped = []
    for count in range(STEPS_MAX):
        path = tmp_path / f"crashed{count}"
        shutil.copytree(template, path)
        Repository.open(path).close()
        steps = Steps(Crash)
        repo = Repository.open(path, on_step=steps)
        steps.arm(count)
        with suppress(Crash):
            run(repo)
        repo.close()
        stopped.append(steps.stopped_at)
        with Repository.open(path) as repo:
            assert fsck(repo, read_data=True).damage == [], steps.stopped_at
            assert pictures(repo) in (before, after), steps.stopped_at
            with suppress(NotFound):
                run(repo)
            assert pictures(repo) == after
            purge(repo, [b"d/text-three"], author="a")
            assert traces(repo) == [], steps.stopped_at
            assert fsck(repo, read_data=True).damage == []
        shutil.rmtree(path)
        if not steps.stopped_at:
            break
    assert stopped[-1] == ""
    assert "append log" in stopped


def test_what_was_said_of_a_version_later_is_said_of_the_one_in_its_place(repositories: Repositories) -> None:
    repo = repositories.make()
    with repo.open_overlay() as overlay:
        fill(repo, overlay)
        describe(repo, repo.resolve("v2"), "a", "other words", {"acc": "0.9"})
    before = repo.resolve("v2").id
    purge(repo, [b"d/photo"], author="a")
    after = repo.resolve("v2")
    assert after.id != before
    words = described(repo, after).commit
    assert (words.message, words.meta) == ("other words", (("acc", "0.9"),))
