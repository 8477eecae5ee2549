"""gc: unreferenced objects leave the disk, all others stay, also with concurrent writers."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from support.lines import Lines
from support.repositories import Repositories
from support.trees import Picture, picture_of_overlay, picture_of_version, write_file
from vfs.errors import Busy, Conflict, NotPermitted
from vfs.history.revision import ForgottenVersion
from vfs.model.objects import Entry, Form, Kind, Version
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit, put_commit
from vfs.repo.import_directory import import_directory
from vfs.repo.lock import file_lock
from vfs.repo.repository import Repository
from vfs.repo.restore import restore
from vfs.repo.retention.forget import forget_commits
from vfs.repo.retention.gc import Collected, forget, gc
from vfs.repo.retention.policy import Rules
from vfs.repo.stash import stash_layer
from vfs.repo.tags import create_tag
from vfs.store.object_writer import ObjectWriter
from vfs.store.packs.index import backend_packs
from vfs.store.packs.pack_file import read_info
from vfs.store.refs.operation import Operation, RefChange
from vfs.store.refs.operation_args import RestoreLogArgs
from vfs.store.trees.directories import edit_directory

noise = random.Random(60)
DAY_NS = 24 * 3600 * 10**9


def make(repo: Repository, overlay: Overlay, name: bytes, data: bytes) -> Version:
    """Writes one file and commits."""
    write_file(overlay, name, data)
    return commit(repo, overlay, "m", "a").version


def sweep(repo: Repository, rules: Rules | None = None, *, grace_s: float = 0, thorough: bool = True) -> Collected:
    """Collects with nothing kept for its age."""
    return gc(repo, rules or Rules(), grace_s=grace_s, undo_s=0, thorough=thorough)


def only_forget(repo: Repository, versions: list[Version]) -> None:
    """Forgets versions and leaves what they had on the disk."""
    with repo.write_lock():
        forget_commits(repo, versions, author="a", reason="forget")


def on_disk(repo: Repository) -> set[bytes]:
    """Returns the ids of all objects in all packs."""
    return {
        stored.id
        for name, size in backend_packs(repo.backend)
        for block in read_info(repo.backend, name, size).blocks
        for stored in block.objects
    }


def pictures(repo: Repository) -> dict[str, Picture]:
    """Returns what all versions hold, by name."""
    return {version.name: picture_of_version(repo.store, version) for version in repo.versions()}


def test_without_anything_to_remove_nothing_happens(repo: Repository, repositories: Repositories) -> None:
    overlay = repositories.overlay(repo)
    make(repo, overlay, b"a", noise.randbytes(50_000))
    before = on_disk(repo)
    done = sweep(repo)
    assert (done.packs, done.objects, done.bytes_after) == (0, 0, done.bytes_before)
    assert on_disk(repo) == before


def test_a_forgotten_versions_own_content_leaves_the_disk_and_its_number_stays_taken(
    repo: Repository, repositories: Repositories
) -> None:
    overlay = repositories.overlay(repo)
    first = make(repo, overlay, b"secret", noise.randbytes(300_000))
    make(repo, overlay, b"shared", noise.randbytes(200_000))
    overlay.unlink(ROOT_INO, b"secret")
    third = make(repo, overlay, b"d/other", noise.randbytes(100_000))
    before, held = on_disk(repo), pictures(repo)

    said = forget(repo, [repo.resolve("v2"), first], author="a", dry_run=True)
    assert on_disk(repo) == before
    done = forget(repo, [repo.resolve("v2"), first], author="a")

    assert (said.objects, said.object_bytes) == (done.objects, done.object_bytes)
    assert (done.objects_checked, done.objects_unneeded) == (len(on_disk(repo)), 0)
    assert done.object_bytes > 300_000
    assert done.bytes_after < done.bytes_before - 290_000
    assert sum(size for _, size in backend_packs(repo.backend)) == done.bytes_after
    assert pictures(repo) == {"v3": held["v3"]}
    assert on_disk(repo) < before
    with pytest.raises(ForgottenVersion, match=r"v1 .* was forgotten on"):
        repo.resolve("v1")
    assert repo.resolve("v3").id == third.id
    assert make(repo, overlay, b"x", b"x").name == "v4"


def test_a_dry_run_says_the_same_and_changes_nothing(repo: Repository, repositories: Repositories) -> None:
    overlay = repositories.overlay(repo)
    for number in range(4):
        make(repo, overlay, b"a", noise.randbytes(200_000 + number))
    before = on_disk(repo)
    rules = Rules(last=2)
    said = gc(repo, rules, dry_run=True, grace_s=0, undo_s=0, thorough=True)
    assert on_disk(repo) == before
    assert len(list(repo.versions())) == 4
    done = sweep(repo, rules)
    assert [version.name for version in said.forgotten] == [version.name for version in done.forgotten] == ["v1", "v2"]
    assert (said.objects, said.object_bytes, said.packs) == (done.objects, done.object_bytes, done.packs)
    assert abs(said.bytes_after - done.bytes_after) < 0.05 * done.bytes_after


def test_rules_keep_the_newest_of_each_period_and_tagged_versions(
    repo: Repository, repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay = repositories.overlay(repo)
    # Two versions a day for 40 days from a Monday on.
    moment = 1_704_067_200 * 10**9
    for number in range(80):
        monkeypatch.setattr("time.time_ns", lambda at=moment + number * DAY_NS // 2: at)
        make(repo, overlay, b"a", b"%d" % number)
    monkeypatch.undo()
    create_tag(repo, "first", repo.resolve("v1"), author="a")
    sweep(repo, Rules(last=1, daily=3, weekly=3, monthly=2))
    # Days: v80, v78, v76. Weeks end on Sundays: 2024-02-04 is day 35 (v70), 01-28 is v56. January ends with v62.
    assert [version.name for version in repo.versions()] == ["v80", "v78", "v76", "v70", "v62", "v56", "v1"]
    sweep(repo, Rules(tagged=True))
    assert [version.name for version in repo.versions()] == ["v80", "v1"]


def test_young_packs_are_kept_with_all_that_they_name(repo: Repository, repositories: Repositories) -> None:
    overlay = repositories.overlay(repo)
    make(repo, overlay, b"a", noise.randbytes(100_000))
    make(repo, overlay, b"a", noise.randbytes(100_000))
    only_forget(repo, [repo.resolve("v1")])
    before = on_disk(repo)
    assert sweep(repo, grace_s=3600).packs == 0
    assert on_disk(repo) == before
    assert sweep(repo).objects > 0


def test_operations_that_can_be_taken_back_keep_their_commits(repo: Repository, repositories: Repositories) -> None:
    overlay = repositories.overlay(repo)
    write_file(overlay, b"a", noise.randbytes(100_000))
    first = commit(repo, overlay, "m", "a").version
    with repo.write_lock(), ObjectWriter(repo.store) as writer:
        data = writer.put_chunk(noise.randbytes(50_000))
        entry = Entry(b"b", Kind.FILE, 0o644, 0, 0, 0, 50_000, data, Form.CHUNK)
        made = edit_directory(writer, None, {b"b": (entry, b"")})
        root = Entry(b"", Kind.DIR, 0o755, 0, 0, 0, made.size, made.content, files=made.files)
        lost = put_commit(writer, first, root, b"", "on a branch that is removed", "a")
        writer.flush()
        move(repo, RefChange("branches/side", "", lost.id.hex()))
        move(repo, RefChange("branches/side", lost.id.hex(), ""))
    gc(repo, grace_s=0, thorough=True)
    assert len(picture_of_version(repo.store, lost)[b"b"] or b"") == 50_000
    assert sweep(repo).objects == 3
    assert not repo.index.has(lost.id)


def move(repo: Repository, change: RefChange) -> None:
    """Moves a ref, as an operation of now."""
    repo.refs.move(Operation(time_ns=time.time_ns(), kind="branch", refs=(change,)))


@pytest.mark.parametrize("compacts", [False, True])
def test_the_working_layer_keeps_what_it_stands_on_and_what_was_put_into_it(
    repo: Repository, repositories: Repositories, compacts: bool
) -> None:
    overlay = repositories.overlay(repo)
    first = make(repo, overlay, b"d/old", noise.randbytes(150_000))
    write_file(overlay, b"d/tiny", b"tiny")
    make(repo, overlay, b"d/old", noise.randbytes(150_000))
    overlay.unlink(overlay.lookup(ROOT_INO, b"d").ino, b"old")
    make(repo, overlay, b"e", b"e")
    restore(repo, overlay, repo.resolve("v2"), [b"d"])
    restore(repo, overlay, first, [b"d/old"], discard=True)
    wanted = picture_of_overlay(overlay)
    only_forget(repo, [first, repo.resolve("v2")])
    if compacts:
        assert overlay.compactor.run()
    sweep(repo)
    assert picture_of_overlay(overlay) == wanted
    made = commit(repo, overlay, "m", "a").version
    assert picture_of_version(repo.store, made) == wanted


def test_content_that_comes_back_while_a_sweep_copies_is_not_lost(
    repo: Repository, repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay = repositories.overlay(repo)
    again = noise.randbytes(150_000)
    make(repo, overlay, b"a", again)
    make(repo, overlay, b"a", noise.randbytes(150_000))
    only_forget(repo, [repo.resolve("v1")])
    inner = Repository.excluding_writers
    committed: list[Version] = []

    def exclude(self: Repository, **rest: object) -> object:
        # The plan is made, what it keeps is copied: now another process commits objects that were to be removed.
        if not committed:
            committed.append(make(repo, overlay, b"again", again))
        return inner(self, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Repository, "excluding_writers", exclude)
    sweep(repo)
    assert picture_of_version(repo.store, committed[0])[b"again"] == again


def test_a_sweep_waits_for_an_import_and_an_import_keeps_what_it_has_seen(
    repo: Repository, repositories: Repositories, tmp_path: Path
) -> None:
    overlay = repositories.overlay(repo)
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(noise.randbytes(100_000))
    import_directory(repo, source, "m", "a", overlay=overlay)
    with repo.keeping_objects(), pytest.raises(Busy), repo.excluding_writers(timeout_s=0):
        pass
    entered = threading.Event()

    def hold() -> None:
        with repo.keeping_objects():
            entered.set()
            words.wait(10)

    words = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(10)
    with repo.excluding_writers(timeout_s=10, waiting=lambda _words: words.set()):
        assert words.is_set()
    holder.join()


def test_a_second_gc_at_the_same_time_is_refused(repo: Repository) -> None:
    with file_lock(repo.path / "gc.lock", timeout_s=0), pytest.raises(Busy, match="another gc"):
        gc(repo)


def test_a_branchs_newest_version_and_a_tagged_one_are_not_forgotten(
    repo: Repository, repositories: Repositories
) -> None:
    overlay = repositories.overlay(repo)
    for data in (b"1", b"2"):
        make(repo, overlay, b"a", data)
    create_tag(repo, "keep", repo.resolve("v1"), author="a")
    with pytest.raises(NotPermitted, match="newest version of the branch main"):
        forget(repo, [repo.resolve("v2")], author="a")
    with pytest.raises(NotPermitted, match="the tag keep names v1"):
        forget(repo, [repo.resolve("v1")], author="a")
    assert forget(repo, [repo.resolve("v1")], author="a", with_tags=True).tags == ["keep"]
    assert repo.refs.get("tags/keep") is None


def test_many_small_packs_become_few(repo: Repository, repositories: Repositories) -> None:
    overlay = repositories.overlay(repo)
    for number in range(70):
        make(repo, overlay, b"a%d" % number, noise.randbytes(3000))
    held = pictures(repo)
    assert len(list(backend_packs(repo.backend))) == 140
    sweep(repo, thorough=False)
    assert len(list(backend_packs(repo.backend))) == 2
    assert pictures(repo) == held


def test_a_reader_with_an_old_place_finds_the_new_one(repo: Repository, repositories: Repositories) -> None:
    overlay = repositories.overlay(repo)
    make(repo, overlay, b"a", noise.randbytes(200_000))
    second = make(repo, overlay, b"b", noise.randbytes(200_000))
    held = picture_of_version(repo.store, second)
    repo.store.chunk_cache.clear()
    only_forget(repo, [repo.resolve("v1")])
    asked = repo.index.lookup
    stale = dict(repo.index.locations())
    seen: set[bytes] = set()

    def lookup(key: bytes) -> object:
        # The first answer is from before the sweep.
        if key in stale and key not in seen:
            seen.add(key)
            return stale[key]
        return asked(key)

    names = {row.number: row.name for row in repo.index.packs()}
    sweep(repo)
    repo.store.tree_cache.clear()
    repo.store.node_cache.clear()
    repo.index.lookup = lookup  # type: ignore[method-assign, assignment]
    named = repo.index.pack_name
    repo.index.pack_name = lambda number: names.get(number) or named(number)  # type: ignore[method-assign]
    repo.backend.close()
    assert picture_of_version(repo.store, second) == held
    assert seen


def test_a_layer_that_has_not_followed_an_operation_yet_keeps_what_it_needs_for_that(
    repo: Repository, repositories: Repositories
) -> None:
    overlay = repo.open_overlay()
    make(repo, overlay, b"a", noise.randbytes(50_000))
    write_file(overlay, b"a", noise.randbytes(60_000))
    with repo.write_lock():
        kept = stash_layer(repo, overlay, "a").version
        head = repo.head()
        with overlay.lock:
            generation = overlay.begin_replacing()
        args = RestoreLogArgs(branch="main", after=kept.id.hex(), base=head.id.hex() if head is not None else "")
        work = ("main", generation)
        repo.refs.move(Operation(time_ns=time.time_ns(), kind="restore", work=work, args=args))
    # The process dies here; nothing says any more that the operation could be undone.
    overlay.abandon()
    wanted = picture_of_version(repo.store, kept)
    sweep(repo)
    # Another process, without anything in its caches.
    assert picture_of_overlay(repositories.overlay(repositories.reopen(repo))) == wanted


def test_rules_keep_where_branches_part_so_that_they_can_be_merged(repositories: Repositories) -> None:
    lines = Lines(repositories)
    theirs = lines.on_exp({b"new": b"n"})
    for number in range(4):
        lines.on_main({b"d/y": b"%d" % number})
        lines.on_exp({b"new": b"n%d" % number})
    sweep(lines.repo, Rules(last=1))
    assert [version.name for version in lines.repo.versions()] == ["v5", "v1"]
    assert lines.repo.refs.is_forgotten(theirs.id)
    assert lines.merge().version is not None
    assert lines.picture()[b"new"] == b"n3"
    # What was merged is where the next merge starts.
    merged = lines.repo.resolve("exp")
    lines.on_exp({b"new": b"later"})
    lines.on_exp({b"new": b"later still"})
    sweep(lines.repo, Rules(last=1))
    assert not lines.repo.refs.is_forgotten(merged.id)
    assert lines.merge().version is not None
    assert lines.picture()[b"new"] == b"later still"


def test_a_merge_from_a_forgotten_version_says_so(repositories: Repositories) -> None:
    lines = Lines(repositories)
    lines.on_exp({b"new": b"n"})
    lines.on_main({b"d/y": b"y"})
    forget(lines.repo, [lines.base], author="a")
    with pytest.raises(Conflict, match=r"what both sides come from, v1 .* was forgotten"):
        lines.merge()
