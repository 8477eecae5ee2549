"""Goal: a version is exactly what the directory was, and what has not changed is not read again."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import tempfile
import time
from pathlib import Path

import pytest

from support import waiting
from support.plain_trees import change_some, describe, make_everything
from support.repositories import Repositories
from support.sources import Source
from support.trees import picture_of_overlay, write_file
from vfs.errors import Conflict, InvalidInput, NotADirectory, NothingToDo
from vfs.model.ids import CommitId
from vfs.model.objects import TIME_NS_MAX, TIME_NS_MIN, Kind
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.repo.commit import commit, publish
from vfs.repo.export.export import export
from vfs.repo.import_directory import Imported, Unreadable, import_directory
from vfs.repo.ingest import import_pipeline, source_reader
from vfs.repo.ingest.source_reader import LARGE_BYTES
from vfs.repo.ingest.stat_cache import StatCache, is_settled
from vfs.repo.repository import Repository
from vfs.store.object_writer import ObjectWriter


def bring_in(
    repo: Repository, directory: Path, *, skip_unreadable: bool = False, allow_empty: bool = False
) -> Imported:
    """Imports a directory while the repository is not mounted."""
    with repo.open_overlay() as overlay:
        return import_directory(
            repo,
            directory,
            "m",
            "a",
            overlay=overlay,
            jobs=2,
            skip_unreadable=skip_unreadable,
            allow_empty=allow_empty,
        )


def let_settle(directory: Path) -> None:
    """Waits until the times of all files are so old that a later change would show."""
    waiting.let_settle(
        os.lstat(os.path.join(folder, name)) for folder, _, names in os.walk(directory) for name in names
    )


@pytest.fixture
def source(on_disk: Path) -> Path:
    path = on_disk / "source"
    path.mkdir()
    return path


def test_a_round_trip_keeps_everything_over_several_versions(repo: Repository, source: Path, tmp_path: Path) -> None:
    make_everything(source)
    first = describe(source)
    bring_in(repo, source)
    change_some(source)
    second = describe(source)
    bring_in(repo, source)
    for name, wanted in (("v1", first), ("v2", second)):
        exported = export(repo, repo.resolve(name), tmp_path / name)
        assert exported.losses == []
        assert describe(tmp_path / name) == wanted


def test_importing_an_export_gives_the_same_tree(repositories: Repositories, source: Path, tmp_path: Path) -> None:
    make_everything(source)
    one, other = repositories.make("one"), repositories.make("other")
    version = bring_in(one, source).version
    export(one, version, tmp_path / "out")
    again = bring_in(other, tmp_path / "out").version
    assert again.commit.root == version.commit.root
    assert again.commit.links == version.commit.links


def test_importing_and_committing_the_same_files_give_the_same_contents(
    repositories: Repositories, source: Path
) -> None:
    large = random.Random(1).randbytes(9 << 20)
    files = {b"large": large, b"mid": large[:100_000], b"tiny": b"tiny", b"empty": b"", b"2048": large[:2048]}
    imported, committed = repositories.make("imported"), repositories.make("committed")
    with committed.open_overlay() as overlay:
        for name, data in files.items():
            (source / name.decode()).write_bytes(data)
            write_file(overlay, name, data)
        one = commit(committed, overlay, "m", "a").version
    other = bring_in(imported, source).version
    for entry in Source(committed.store, one).list(b""):
        found = Source(imported.store, other).resolve(entry.name).entry
        assert (found.content, found.form, found.size) == (entry.content, entry.form, entry.size)


def test_a_sparse_file_is_cut_the_same_whether_read_whole_or_in_pieces(repo: Repository, source: Path) -> None:
    data = random.Random(2).randbytes(300_000)
    for name, end in (("small", 4 << 20), ("large", 20 << 20)):
        with (source / name).open("wb") as file:
            file.write(data)
            file.seek(3 << 20)
            file.write(data)
            file.truncate(end)
    version = bring_in(repo, source).version
    small, large = (Source(repo.store, version).open(name) for name in (b"small", b"large"))
    assert list(small.refs())[:-1] == list(large.refs())[:-1]
    for reader in (small, large):
        assert bytes(reader.read(3 << 20, 300_000)) == data
        assert bytes(reader.read(2 << 20, 1000)) == bytes(1000)
    entry = Source(repo.store, version).resolve(b"large").entry
    assert entry.hole_bytes > 16 << 20


def test_an_unchanged_directory_is_not_read_and_makes_no_version(repo: Repository, source: Path) -> None:
    for number in range(300):
        (source / f"{number:03d}").write_bytes(b"%d" % number * 900)
    let_settle(source)
    first = bring_in(repo, source)
    assert (first.tally.files, first.tally.files_read) == (300, 300)
    with pytest.raises(NothingToDo):
        bring_in(repo, source)
    again = bring_in(repo, source, allow_empty=True)
    assert again.tally.files_read == 0
    assert again.version.commit.root == first.version.commit.root
    assert again.version.commit.parents == (first.version.id,)


def test_only_what_changed_is_read(repo: Repository, source: Path) -> None:
    for number in range(100):
        (source / f"{number:03d}").write_bytes(b"%d" % number * 900)
    let_settle(source)
    bring_in(repo, source)
    # The same size and the same modification time: the time of change tells.
    before = (source / "050").stat()
    (source / "050").write_bytes(b"x" * before.st_size)
    os.utime(source / "050", ns=(before.st_atime_ns, before.st_mtime_ns))
    (source / "051").unlink()
    os.chmod(source / "052", 0o600)
    again = bring_in(repo, source)
    assert again.tally.files_read == 2
    found = Source(repo.store, again.version)
    assert bytes(found.open(b"050").read(0, 3)) == b"xxx"
    assert b"051" not in {entry.name for entry in found.list(b"")}
    assert found.resolve(b"052").entry.mode == 0o600


def test_a_file_that_is_too_young_is_read_again(repo: Repository, source: Path) -> None:
    path = source / "file"
    path.write_bytes(b"1")
    status = path.stat()
    assert not is_settled(status, status.st_ctime_ns)
    assert not is_settled(status, status.st_ctime_ns + 1_000_000)
    assert is_settled(status, status.st_ctime_ns + 3_000_000_000)
    os.truncate(path, 1 << 30)
    status = path.stat()
    assert not is_settled(status, status.st_ctime_ns + 60 * 10**9), "one `write` may still be under way"
    assert is_settled(status, status.st_ctime_ns + 70 * 10**9)
    os.truncate(path, 1)
    os.utime(path, ns=(0, time.time_ns() + 3600 * 10**9))
    assert not is_settled(path.stat(), time.time_ns()), "a time in the future says nothing"
    bring_in(repo, source)
    assert bring_in(repo, source, allow_empty=True).tally.files_read == 1


def test_the_cache_may_be_lost_or_damaged(repo: Repository, source: Path) -> None:
    (source / "file").write_bytes(b"x" * 10_000)
    let_settle(source)
    bring_in(repo, source)
    data = repo.path / "cache/data.mdb"
    data.write_bytes(b"\xa5" * data.stat().st_size)
    assert bring_in(repo, source, allow_empty=True).tally.files_read == 1
    shutil.rmtree(repo.path / "cache")
    assert bring_in(repo, source, allow_empty=True).tally.files_read == 1
    with StatCache(repo.path / "cache") as cache:
        assert cache.find((source / "file").stat()) is not None


def test_hard_links_are_groups_of_what_lies_in_the_directory(repo: Repository, source: Path) -> None:
    (source / "sub").mkdir()
    (source / "a").write_bytes(b"tiny")
    os.link(source / "a", source / "sub/b")
    (source / "one").write_bytes(b"its other name is outside")
    os.link(source / "one", source.parent / "outside")
    let_settle(source)
    first = bring_in(repo, source).version
    found = Source(repo.store, first)
    assert [found.resolve(path).entry.linked for path in (b"a", b"sub/b", b"one")] == [True, True, False]
    with pytest.raises(NothingToDo):
        bring_in(repo, source)
    (source / "sub/b").unlink()
    os.link(source / "one", source / "sub/two")
    found = Source(repo.store, bring_in(repo, source).version)
    assert [found.resolve(path).entry.linked for path in (b"a", b"sub/two", b"one")] == [False, True, True]


def test_the_repository_itself_is_left_out(source: Path) -> None:
    (source / "data").write_bytes(b"x")
    with Repository.init(source / "repo") as repo:
        imported = bring_in(repo, source)
        assert imported.excluded == [b"repo"]
        assert [entry.name for entry in Source(repo.store, imported.version).list(b"")] == [b"data"]
        for inside in (repo.path, repo.path / "packs"):
            with pytest.raises(InvalidInput):
                bring_in(repo, inside)


def test_links_are_kept_and_not_followed(repo: Repository, source: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"secret")
    (source / "link").symlink_to(tmp_path / "outside")
    version = bring_in(repo, source).version
    entry = Source(repo.store, version).resolve(b"link").entry
    assert (entry.kind, entry.content) == (Kind.SYMLINK, os.fsencode(tmp_path / "outside"))


def test_a_time_beyond_those_that_are_kept_becomes_the_nearest_one(repo: Repository) -> None:
    # Memory's filesystem keeps times that others do not.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as source:
        for name, seconds in (("late", 2**40), ("early", -(2**40))):
            Path(source, name).touch()
            os.utime(Path(source, name), (seconds, seconds))
        assert bring_in(repo, Path(source)).version is not None
        with pytest.raises(NothingToDo):
            bring_in(repo, Path(source))
    with repo.open_overlay() as overlay:
        times = [overlay.lookup(ROOT_INO, name).mtime_ns for name in (b"late", b"early")]
    assert times == [TIME_NS_MAX, TIME_NS_MIN]


def test_names_that_would_mean_versions_in_a_mount_are_refused_in_the_root_alone(
    repo: Repository, source: Path
) -> None:
    (source / "@types").mkdir()
    (source / "sub/@types").mkdir(parents=True)
    with pytest.raises(Unreadable, match="@types"):
        bring_in(repo, source)
    assert repo.head() is None
    imported = bring_in(repo, source, skip_unreadable=True)
    assert [problem.path for problem in imported.skipped] == [b"@types"]
    assert Source(repo.store, imported.version).resolve(b"sub/@types")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_file_for_which_no_descriptor_is_left_is_never_left_out(
    repo: Repository, source: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (source / "directory").mkdir()
    (source / "directory" / "file").write_bytes(b"1")
    monkeypatch.setattr(source_reader, "_open", lambda _target: OSError(number, os.strerror(number)))
    with pytest.raises(OSError, match="Too many open files") as caught:
        bring_in(repo, source, skip_unreadable=True)
    assert caught.value.filename == b"directory/file"
    assert repo.head() is None


def test_uncommitted_changes_are_not_replaced(repo: Repository, source: Path) -> None:
    with repo.open_overlay() as overlay:
        write_file(overlay, b"mine", b"uncommitted")
        with pytest.raises(Conflict, match="uncommitted"):
            import_directory(repo, source, "m", "a", overlay=overlay)
        assert picture_of_overlay(overlay) == {b"mine": b"uncommitted"}
    assert repo.head() is None


def test_a_replaced_last_step_sees_concurrent_changes(repo: Repository, source: Path) -> None:
    (source / "file").write_bytes(b"1")
    with repo.open_overlay() as overlay:

        def late(commit_id: CommitId, expected: CommitId | None) -> CommitId:
            write_file(overlay, b"meanwhile", b"written while the import went on")
            return publish(repo, overlay, commit_id, expected).version.id

        with pytest.raises(Conflict):
            import_directory(repo, source, "m", "a", publish_with=late)
        assert repo.head() is None
        commit(repo, overlay, "m", "a")
        with pytest.raises(Conflict, match="newer version"):
            import_directory(
                repo,
                source,
                "m",
                "a",
                publish_with=lambda commit_id, _expected: publish(repo, overlay, commit_id, None).version.id,
            )
        import_directory(
            repo,
            source,
            "m",
            "a",
            publish_with=lambda made, expected: publish(repo, overlay, made, expected).version.id,
        )
        assert picture_of_overlay(overlay) == {b"file": b"1"}
        assert overlay.is_clean()
        assert overlay.getattr(ROOT_INO).mode & 0o7777 == stat.S_IMODE(source.stat().st_mode)


def test_a_file_is_no_directory_to_import(repo: Repository, source: Path) -> None:
    (source / "file").touch()
    with pytest.raises(NotADirectory):
        bring_in(repo, source / "file")


def test_progress_counts_every_file(repo: Repository, source: Path) -> None:
    for number in range(10):
        (source / str(number)).write_bytes(b"x" * number)
    calls: list[tuple[int, int, int | None]] = []
    with repo.open_overlay() as overlay:
        import_directory(repo, source, "m", "a", overlay=overlay, progress=lambda *at: calls.append(at))
    assert calls[-1] == (10, 45, None)


def test_progress_moves_within_a_large_file(repo: Repository, source: Path) -> None:
    (source / "large").write_bytes(os.urandom(30_000_000))
    calls: list[tuple[int, int, int | None]] = []
    with repo.open_overlay() as overlay:
        import_directory(repo, source, "m", "a", overlay=overlay, progress=lambda *at: calls.append(at))
    sizes = [size for files, size, _ in calls if files == 0]
    assert len(sizes) > 2
    assert sizes == sorted(sizes)
    assert calls[-1] == (1, 30_000_000, None)


def test_an_error_of_the_repository_is_not_one_of_the_file_that_is_read(
    repo: Repository, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_prepared(*_: object) -> list[bytes]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a pack")

    # Each piece is stored before the next one is read.
    monkeypatch.setattr(import_pipeline, "_IN_FLIGHT_BYTES", 0)
    monkeypatch.setattr(ObjectWriter, "add_prepared", add_prepared)
    (source / "large").write_bytes(bytes(LARGE_BYTES + 1))
    with pytest.raises(OSError, match="No space left") as caught:
        bring_in(repo, source)
    assert caught.value.filename == "a pack"
