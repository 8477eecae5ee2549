"""Goal: whatever is damaged is reported, under the names that people know; whatever is whole is not."""

from __future__ import annotations

import random
import re
import shutil
import threading
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import msgspec
import pytest

from support.repositories import Repositories
from support.trees import write_file
from vfs.model.ids import ChunkId, NodeId, chunk_id
from vfs.model.nodes import ENTRIES, LINKS, TINY, NodeKind
from vfs.model.objects import ChunkRef, Commit, Entry, Form, Kind, LinkItem, TinyItem, Version
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.repo.commit import commit, move_branch, put_commit
from vfs.repo.fsck import Report, fsck
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import forget
from vfs.store.object_store import ObjectSink
from vfs.store.object_writer import ObjectWriter
from vfs.store.packs.blocks import ObjectType
from vfs.store.trees.chunk_lists import list_build
from vfs.store.trees.maps import map_build

NOISE = random.Random(3).randbytes(600_000)


@pytest.fixture
def filled(repositories: Repositories) -> Repository:
    """Three versions: `large` is in all, `second` from the second on, `tiny/…` are many small files."""
    repo = repositories.make()
    with repo.open_overlay() as overlay:
        write_file(overlay, b"large", NOISE)
        for number in range(200):
            write_file(overlay, b"tiny/%03d" % number, b"%d" % number * 50)
        ino = write_file(overlay, b"name", b"linked")
        overlay.link(ino, ROOT_INO, b"other name")
        commit(repo, overlay, "1", "a")
        write_file(overlay, b"second", NOISE[:70_000][::-1])
        commit(repo, overlay, "2", "a")
        overlay.unlink(ROOT_INO, b"other name")
        write_file(overlay, b"tiny/003", b"changed")
        commit(repo, overlay, "3", "a")
    return repo


def check(repo: Repository, *, read_data: bool = True) -> Report:
    """Checks a repository opened afresh, so that no cache hides anything."""
    path = repo.path
    repo.close()
    with Repository.open(path) as again:
        return fsck(again, read_data=read_data)


def test_a_group_of_hard_links_may_get_another_leader(repositories: Repositories) -> None:
    repo = repositories.make()
    with repo.open_overlay() as overlay:
        ino = write_file(overlay, b"m", b"linked")
        overlay.link(ino, ROOT_INO, b"z")
        commit(repo, overlay, "1", "a")
        overlay.link(ino, ROOT_INO, b"a")
        commit(repo, overlay, "2", "a")
        overlay.unlink(ROOT_INO, b"a")
        overlay.unlink(ROOT_INO, b"m")
        overlay.link(ino, ROOT_INO, b"b")
        other = write_file(overlay, b"another", b"linked too")
        overlay.link(other, ROOT_INO, b"m")
        commit(repo, overlay, "3", "a")
    assert check(repo).damage == []


def packs(repo: Repository, kind: str) -> list[Path]:
    """Returns the packs of one kind, the largest first."""
    return sorted((repo.path / "packs" / kind).rglob("*.pack"), key=lambda path: -path.stat().st_size)


def flip(path: Path, at: int) -> None:
    """Flips a bit of a file."""
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def test_a_whole_repository_is_clean_and_everything_is_counted(filled: Repository) -> None:
    report = check(filled)
    assert (report.damage, report.notes, report.versions) == ([], [], 3)
    assert report.bytes_read == sum(path.stat().st_size for kind in ("data", "tree") for path in packs(filled, kind))
    assert report.is_clean


def test_an_empty_repository_is_clean(repo: Repository) -> None:
    assert check(repo).is_clean


@pytest.mark.parametrize("seed", range(25))
def test_any_flipped_bit_of_a_pack_is_reported_and_the_repository_stays_checkable(
    repositories: Repositories, filled: Repository, seed: int
) -> None:
    repositories.expect_damage(filled)
    chosen = random.Random(seed)
    pack = chosen.choice(packs(filled, "data") + packs(filled, "tree"))
    flip(pack, chosen.randrange(pack.stat().st_size))
    assert not check(filled).is_clean


def test_a_flipped_bit_in_a_chunk_names_exactly_the_files_that_hold_it(
    repositories: Repositories, filled: Repository
) -> None:
    repositories.expect_damage(filled)
    pack = packs(filled, "data")[0]
    flip(pack, 300_000)
    assert check(filled, read_data=False).is_clean, "the structure is whole; the bytes were not read"
    report = check(filled)
    named = [damage for damage in report.damage if damage.path is not None]
    assert [(damage.path, damage.versions) for damage in named] == [(b"large", ("v1", "v2", "v3"))]
    assert pack.name in named[0].reason


def test_a_missing_pack_names_the_files_and_versions_that_need_it(
    repositories: Repositories, filled: Repository
) -> None:
    repositories.expect_damage(filled)
    pack = packs(filled, "data")[1]
    pack.unlink()
    report = check(filled, read_data=False)
    assert {(damage.path, damage.versions) for damage in report.damage if damage.path is not None} == {
        (b"second", ("v2", "v3"))
    }


def test_a_missing_tree_pack_is_reported_without_an_end(repositories: Repositories, filled: Repository) -> None:
    repositories.expect_damage(filled)
    packs(filled, "tree")[0].unlink()
    report = check(filled)
    assert any("is missing" in damage.reason for damage in report.damage)
    assert any(damage.versions for damage in report.damage)


def test_a_damaged_log_line_is_reported(repositories: Repositories, filled: Repository) -> None:
    repositories.expect_damage(filled)
    flip(filled.path / "log", 60)
    assert any("operation log at byte 0" in damage.reason for damage in check(filled).damage)


def test_a_torn_line_at_the_end_of_the_log_is_a_note(filled: Repository) -> None:
    with (filled.path / "log").open("ab") as log:
        log.write(b"0123456789abcdef {unfini")
    report = check(filled)
    assert report.is_clean
    assert any("unfinished line" in note for note in report.notes)


def test_a_pack_that_no_index_knows_is_a_note_until_the_index_is_made_again(
    filled: Repository, repositories: Repositories
) -> None:
    other = repositories.make("other")
    with ObjectWriter(other.store) as writer:
        writer.put_chunk(b"what a crash left" * 1000)
        writer.flush()
    (pack,) = packs(other, "data")
    target = filled.path / pack.relative_to(other.path)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(pack.read_bytes())
    report = check(filled)
    assert report.is_clean
    assert len(report.notes) == 1
    with Repository.open(filled.path) as repo:
        report = fsck(repo, rebuild_index=True)
    assert (report.damage, report.notes) == ([], [])


def test_a_changed_configuration_is_reported(repositories: Repositories, filled: Repository) -> None:
    repositories.expect_damage(filled)
    (filled.path / "vfs.json").write_bytes(b"{}")
    assert any("vfs.json" in damage.reason for damage in fsck(filled).damage)


def test_making_the_index_again_while_reading_everything_finds_whole_copies(
    repositories: Repositories, filled: Repository
) -> None:
    repositories.expect_damage(filled)
    spare = repositories.make("spare")
    with ObjectWriter(spare.store) as writer:
        writer.put_chunk(b"what makes another pack of it" * 2000)
        for object_id, place in filled.index.locations():
            if place.type == ObjectType.CHUNK:
                writer.put_chunk(filled.store.get_chunk(ChunkId(object_id)))
        writer.flush()
    damaged = packs(filled, "data")[0]
    for pack in packs(spare, "data"):
        target = filled.path / pack.relative_to(spare.path)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(pack.read_bytes())
    flip(damaged, 300_000)
    assert any(damage.path == b"large" for damage in check(filled).damage)
    with Repository.open(filled.path) as repo:
        mended = fsck(repo, read_data=True, rebuild_index=True)
    assert [damage.path for damage in mended.damage] == [None], "the pack is damaged, and no file needs it"


# Structures that no writer of ours makes.


def commit_tree(repo: Repository, build: Callable[[ObjectSink], tuple[Entry, bytes]]) -> None:
    """Commits whatever tree a function stores."""
    with ObjectWriter(repo.store) as writer:
        root, links = build(writer)
        version = put_commit(writer, repo.head(), root, links, "m", "a")
        writer.flush()
    move_branch(repo, version, repo.head(), "commit", "main", None)


def directory(sink: ObjectSink, *entries: Entry, tiny: tuple[TinyItem, ...] = ()) -> Entry:
    """Stores a directory of these entries, as they are, and returns its entry with right sums."""
    tree = map_build(sink, ENTRIES, sorted(entries, key=attrgetter("name")))
    small = map_build(sink, TINY, tiny)
    return Entry(b"", Kind.DIR, 0o755, 0, 0, 0, tree.size, tree.id, 0, small.id, tree.files)  # type: ignore[arg-type]


def file(name: bytes, **fields: object) -> Entry:
    """Returns an entry of a tiny file of four bytes, with other fields where given."""
    made = Entry(name, Kind.FILE, 0o644, 0, 0, 0, 4, chunk_id(b"tiny"), Form.TINY)
    return msgspec.structs.replace(made, **fields)


GOOD = TinyItem(b"f", b"tiny")
CHUNK = b"c" * 5000
LIES: dict[str, tuple[str, Callable[[ObjectSink], tuple[Entry, bytes]]]] = {
    "mode": ("<= 4095", lambda s: (directory(s, file(b"f", mode=0o100644), tiny=(GOOD,)), b"")),
    "xattrs": (
        "attributes",
        lambda s: (directory(s, file(b"f", xattrs=((b"user.b", b""), (b"user.a", b""))), tiny=(GOOD,)), b""),
    ),
    "tiny bytes missing": ("missing from its directory", lambda s: (directory(s, file(b"f")), b"")),
    "tiny bytes of another file": (
        "not those that it names",
        lambda s: (directory(s, file(b"f"), tiny=(TinyItem(b"f", b"TINY"),)), b""),
    ),
    "tiny bytes without a name": (
        "a name that it does not have",
        lambda s: (directory(s, file(b"f"), tiny=(GOOD, TinyItem(b"g", b"x"))), b""),
    ),
    "missing chunk": (
        "missing",
        lambda s: (directory(s, file(b"f", size=5000, content=chunk_id(b"?"), form=Form.CHUNK)), b""),
    ),
    "chunk of another size": (
        "not one of 5001 bytes",
        lambda s: (directory(s, file(b"f", size=5001, content=s.put_chunk(CHUNK), form=Form.CHUNK)), b""),
    ),
    "list with another size": (
        "together and its entry says",
        lambda s: (
            directory(
                s,
                file(
                    b"f",
                    size=9999,
                    content=list_build(s, [ChunkRef(s.put_chunk(CHUNK), 5000)] * 2).id,
                    form=Form.LIST,
                ),
            ),
            b"",
        ),
    ),
    "holes that are not there": (
        "bytes of holes",
        lambda s: (
            directory(
                s,
                file(
                    b"f",
                    size=10_000,
                    content=list_build(s, [ChunkRef(s.put_chunk(CHUNK), 5000)] * 2).id,
                    form=Form.LIST,
                    hole_bytes=5000,
                ),
            ),
            b"",
        ),
    ),
    "small file that is not kept tiny": (
        "not kept as one",
        lambda s: (directory(s, file(b"f", content=s.put_chunk(b"tiny"), form=Form.CHUNK)), b""),
    ),
    "sums of a directory": (
        "sums",
        lambda s: (msgspec.structs.replace(directory(s, file(b"f"), tiny=(GOOD,)), size=5), b""),
    ),
    "link without a group": (
        "hard link without a group",
        lambda s: (directory(s, file(b"f", linked=True), tiny=(GOOD,)), b""),
    ),
    "group of what is no link": (
        "it is no link|not the same file",
        lambda s: (
            directory(s, file(b"f"), tiny=(GOOD,)),
            map_build(s, LINKS, [LinkItem(b"f", b"f", (b"f", b"g"))]).id,
        ),
    ),
    "group with a name that does not exist": (
        "does not",
        lambda s: (
            directory(s, file(b"f", linked=True), tiny=(GOOD,)),
            map_build(s, LINKS, [LinkItem(b"f", b"f", (b"f", b"g")), LinkItem(b"g", b"f")]).id,
        ),
    ),
    "group of different files": (
        "not the same file",
        lambda s: (
            directory(
                s, file(b"f", linked=True), file(b"g", linked=True, mode=0), tiny=(GOOD, TinyItem(b"g", b"tiny"))
            ),
            map_build(s, LINKS, [LinkItem(b"f", b"f", (b"f", b"g")), LinkItem(b"g", b"f")]).id,
        ),
    ),
    "node that is not cut where its items say": (
        "ends",
        lambda s: (
            msgspec.structs.replace(
                directory(s),
                content=s.put_node(
                    NodeKind.ENTRIES, 0, [file(b"%05d" % n, form=0, content=b"", size=0) for n in range(1500)]
                ),
                files=1500,
            ),
            b"",
        ),
    ),
    "a missing node": ("missing", lambda s: (msgspec.structs.replace(directory(s), content=NodeId(b"n" * 32)), b"")),
    "a node of another kind": (
        "kind",
        lambda s: (
            msgspec.structs.replace(directory(s), content=s.put_node(NodeKind.TINY, 0, [GOOD])),
            b"",
        ),
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_structure_that_contradicts_itself_is_reported(
    repositories: Repositories, repo: Repository, lie: str
) -> None:
    repositories.expect_damage(repo)
    words, build = LIES[lie]
    commit_tree(repo, build)
    report = fsck(repo)
    assert any(re.search(words, damage.reason) for damage in report.damage), report.damage
    assert all(damage.versions == ("v1",) for damage in report.damage)


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found_where_it_differs_from_a_good_parent(
    repositories: Repositories, repo: Repository, lie: str
) -> None:
    repositories.expect_damage(repo)
    words, build = LIES[lie]
    commit_tree(repo, lambda sink: (directory(sink, file(b"f"), tiny=(GOOD,)), b""))
    assert fsck(repo).is_clean
    commit_tree(repo, build)
    report = fsck(repo)
    assert any(re.search(words, damage.reason) for damage in report.damage), report.damage
    assert all(damage.versions == ("v2",) for damage in report.damage)


def test_versions_out_of_order_are_reported(repositories: Repositories, repo: Repository) -> None:
    repositories.expect_damage(repo)
    with ObjectWriter(repo.store) as writer:
        root = directory(writer)
        wrong = writer.put_commit(Commit(7, (), root, b"", 5, "a", "m"))
        writer.flush()
    made = repo.store.get_commit(wrong)
    move_branch(repo, Version(wrong, made), None, "commit", "main", None)
    assert any("number 7 and has no parent" in damage.reason for damage in fsck(repo).damage)


@pytest.mark.parametrize("table", ["refs", "lineage", "operations", "refs-meta", "forgotten", "packs", "pack-numbers"])
@pytest.mark.parametrize("how", ["another value", "gone", "a row too many", "a wrong checksum"])
def test_every_row_of_the_index_is_compared_with_packs_and_log(
    repositories: Repositories, filled: Repository, table: str, how: str
) -> None:
    repositories.expect_damage(filled)
    forget(filled, [filled.resolve("v2")], author="a")
    tables = filled._tables  # noqa: SLF001
    assert tables is not None
    rows = dict(tables.scan(table))
    # Programs before this one did not note the consumer, and the log's end is a matter of course.
    key = next(key for key in sorted(rows) if not key.startswith((b"followed", b"consumer/")))
    with tables.write() as batch:
        if how == "another value":
            batch.put(table, key, bytes((rows[key][0] ^ 1,)) + rows[key][1:])
        elif how == "gone":
            batch.delete(table, key)
        elif how == "a row too many" and table != "lineage":
            batch.put(table, bytes((key[0] ^ 1,)) + key[1:], rows[key])
        else:
            handle = tables.handle(table)
            batch._transaction.put(key, b"\0\0\0\0" + rows[key], db=handle)  # noqa: SLF001
    assert not fsck(filled).is_clean


def test_a_lost_or_doubled_log_line_is_reported_by_fsck_and_once_by_the_opening(
    repositories: Repositories, filled: Repository
) -> None:
    repositories.expect_damage(filled)
    log = filled.path / "log"
    lines = log.read_bytes().splitlines(keepends=True)
    for changed, words in (
        (lines[:1] + lines[2:], "operation 2 is missing"),
        ([*lines, lines[1]], "stands there again"),
    ):
        log.write_bytes(b"".join(changed))
        assert any(words in damage.reason for damage in fsck(filled).damage)
        filled.close()
        shutil.rmtree(filled.path / "index")
        with Repository.open(filled.path) as again:
            assert any(words in notice.text for notice in again.notices)
            assert [version.name for version in again.history()] == ["v3", "v2", "v1"]
        with Repository.open(filled.path) as again:
            assert again.notices == []
            assert not fsck(again).is_clean
        filled = repositories.open(filled.path)
        repositories.expect_damage(filled)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_log_that_has_lost_its_end_is_noticed_without_the_index_too(
    repositories: Repositories, filled: Repository, cut: int
) -> None:
    repositories.expect_damage(filled)
    log = filled.path / "log"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-cut]))
    filled.close()
    with Repository.open(filled.path) as again:
        assert any("shorter than it was" in notice.text for notice in again.notices)
        assert any("shorter than it was" in damage.reason for damage in fsck(again).damage)
    shutil.rmtree(filled.path / "index")
    with Repository.open(filled.path) as again:
        assert any("the operation log has lost its end" in notice.text for notice in again.notices)
        report = fsck(again)
        assert any("the operation log has lost its end" in note for note in report.notes)
        assert any("stands on version 3, which the branch does not have" in damage.reason for damage in report.damage)


def test_concurrent_writers_cause_no_false_alarm(repositories: Repositories) -> None:
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    write_file(overlay, b"large", NOISE)
    commit(repo, overlay, "first", "a")
    failed: list[Exception] = []
    done = threading.Event()

    def write() -> None:
        try:
            for number in range(40):
                write_file(overlay, b"file", NOISE[number * 1000 :][:50_000])
                write_file(overlay, b"tiny/%d" % number, b"%d" % number)
                made = commit(repo, overlay, f"{number}", "a").version
                if number % 8 == 7:
                    forget(repo, [repo.resolve(f"v{made.commit.number - 1}")], author="a", undo_s=0)
        except Exception as error:  # noqa: BLE001
            failed.append(error)
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    looks = 0
    while not done.is_set() or not looks:
        report = fsck(repo)
        assert report.damage == []
        looks += 1
    writer.join()
    assert failed == []
