"""Trees in blocks without ids: who writes them, what they share with older repositories, what damage in one takes."""

from __future__ import annotations

import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from support.repositories import Repositories
from support.sharing import Person, content
from support.trees import write_file
from vfs.backend.locations import parse_location
from vfs.errors import Corrupt
from vfs.model.objects import Kind
from vfs.remote.format import decode_config as decode_remote
from vfs.repo.commit import commit
from vfs.repo.config import Config
from vfs.repo.fsck import fsck
from vfs.repo.import_directory import import_directory
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import forget, gc
from vfs.store.packs.blocks import parse_header
from vfs.store.packs.compression import NODE_BLOCKS, Codec
from vfs.store.packs.index import backend_packs
from vfs.store.packs.pack_file import PackKind, read_info
from vfs.store.trees.directories import entries, walk
from vfs.store.trees.file_reader import open_file

COMPACT = Config(features=(NODE_BLOCKS,))
FROZEN = Path(__file__).parents[1] / "format/data"


def codecs(repo: Repository) -> set[int]:
    """Returns how the blocks of trees are stored, but for single ones that do not compress."""
    found = set()
    for name, size in backend_packs(repo.backend):
        if name.kind == PackKind.TREE:
            for block in read_info(repo.backend, name, size).blocks:
                raw = repo.backend.read_range(name.key, block.offset, block.block_bytes)
                found.add(parse_header(raw).codec)
    return found - {Codec.RAW}


def files_of(repo: Repository, name: str) -> dict[bytes, bytes]:
    """Returns the regular files of a version that can be read."""
    found: dict[bytes, bytes] = {}
    root = repo.resolve(name).commit.root
    for top in entries(repo.store, root):
        if top.kind == Kind.FILE:
            found[top.name] = bytes(open_file(repo.store, root, top, top.name).read(0, top.size))
            continue
        with suppress(Corrupt):
            for path, directory, entry in walk(repo.store, top, top.name):
                with suppress(Corrupt):
                    found[path] = bytes(open_file(repo.store, directory, entry, path).read(0, entry.size))
    return found


def make_source(directory: Path) -> dict[bytes, bytes]:
    """Writes directories of tiny files, some of them equal, and a large one; returns their bytes."""
    files = {
        b"dir%d/file%03d" % (number % 3, number): b"%d," % (number * 7919 % 50) * (number * 5 % 300)
        for number in range(400)
    }
    files[b"large"] = content(1, 300_000)
    for path, data in files.items():
        place = directory / path.decode()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return files


def import_source(repo: Repository, source: Path) -> None:
    with repo.open_overlay() as overlay:
        import_directory(repo, source, "m", "a", overlay=overlay)


def test_old_and_new_repositories_have_the_same_ids(repositories: Repositories, tmp_path: Path) -> None:
    """A tree is one tree, however its nodes are stored; the older form goes on where a repository has it."""
    source = tmp_path / "source"
    files = make_source(source)
    new, old = repositories.make("new", COMPACT), repositories.make("old")
    for repo in (new, old):
        import_source(repo, source)
    assert new.resolve("v1").commit.root.content == old.resolve("v1").commit.root.content
    assert files_of(new, "v1") == files_of(old, "v1") == files
    assert (codecs(new), codecs(old)) == ({Codec.NODES}, {Codec.ZSTD})
    sizes = [
        sum(size for name, size in backend_packs(repo.backend) if name.kind == PackKind.TREE) for repo in (new, old)
    ]
    assert sizes[0] < 0.8 * sizes[1]


def test_an_index_is_made_again_from_new_blocks(repositories: Repositories, tmp_path: Path) -> None:
    source = tmp_path / "source"
    files = make_source(source)
    repo = repositories.make(config=COMPACT)
    import_source(repo, source)
    before = sorted(repo.index.locations())
    for deep in (False, True):
        rebuilt = repo.index.rebuild(repo.backend, repo.store.compression, deep=deep)
        assert not rebuilt.damage
        assert len(sorted(repo.index.locations())) == len(before)
        assert files_of(repo, "v1") == files


def test_what_is_left_of_a_block_after_a_sweep_is_whole(repositories: Repositories) -> None:
    """Blocks that lose a leaf are written anew: the ids that followed from it are stored then."""
    repo = repositories.make(config=COMPACT)
    with repo.open_overlay() as overlay:
        for number in range(60):
            write_file(overlay, b"d/file%02d" % number, b"%d " % number * 90)
        first = commit(repo, overlay, "first", "a").version
        write_file(overlay, b"d/file30", b"changed")
        commit(repo, overlay, "second", "a")
        before = files_of(repo, "v2")
        forget(repo, [first], author="a")
        gc(repo, undo_s=0, grace_s=0, thorough=True)
    repo = repositories.reopen(repo)
    assert codecs(repo) == {Codec.NODES}
    assert files_of(repo, "v2") == before


def test_damage_takes_the_part_of_its_block_and_what_follows_from_it(
    repositories: Repositories, tmp_path: Path
) -> None:
    """Whichever byte of a tree is damaged: what is still read is right, and `fsck` names damage."""
    source = tmp_path / "source"
    files = make_source(source)
    repo = repositories.make(config=COMPACT)
    import_source(repo, source)
    path = max((repo.path / "packs/tree").rglob("*.pack"), key=lambda found: found.stat().st_size)
    good = path.read_bytes()
    path.chmod(0o600)
    lost = []
    for at in range(100, len(good), len(good) // 12):
        path.write_bytes(good[:at] + bytes((good[at] ^ 0x10,)) + good[at + 1 :])
        repo = repositories.reopen(repo)
        report = fsck(repo, read_data=True)
        assert not report.is_clean
        try:
            found = files_of(repo, "v1")
        except Corrupt:
            lost.append(len(files))
            continue
        assert found.items() <= files.items()
        lost.append(len(files) - len(found))
    repositories.expect_damage(repo)
    assert any(0 < count < len(files) for count in lost)


def test_a_remote_and_its_clones_have_the_form_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "remote").mkdir()
    location = parse_location(str(tmp_path / "remote"))
    Repository.init(tmp_path / "ana", COMPACT).close()
    ana, ben = Person("ana", tmp_path / "ana"), Person("ben", tmp_path / "ben")
    ana.reopen()
    ana.add_remote(location)
    for number in range(40):
        ana.write(f"file{number}", b"%d " % number * 100)
    ana.commit("large", content(1))
    ana.push()
    assert decode_remote((tmp_path / "remote/vfs-remote.json").read_bytes()).features == (NODE_BLOCKS,)
    ben.clone(location)
    assert NODE_BLOCKS in ben.repo.config.features
    assert ben.read("file7") == b"7 " * 100
    ben.commit("file7", b"changed" * 90)
    ben.push()
    ana.pull()
    assert ana.read("file7") == b"changed" * 90
    for person in (ana, ben):
        assert codecs(person.repo) == {Codec.NODES}
        assert fsck(person.repo, read_data=True).is_clean
        person.close()


@pytest.mark.parametrize(
    ("archive", "written"), [("remote-format-2", Codec.ZSTD), ("remote-format-2-node-blocks", Codec.NODES)]
)
def test_a_clone_of_an_old_remote_writes_what_old_programs_read(tmp_path: Path, archive: str, written: Codec) -> None:
    with tarfile.open(FROZEN / f"{archive}.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    ana = Person("ana", tmp_path / "ana")
    ana.clone(parse_location(str(tmp_path / "remote")))
    for number in range(40):
        ana.write(f"file{number}", b"%d " % number * 100)
    ana.commit("large", content(1))
    ana.push()
    assert codecs(ana.repo) == {written}
    ana.close()


def test_a_frozen_repository_keeps_its_form(tmp_path: Path) -> None:
    for name, written in (("format-1-runs", Codec.ZSTD), ("format-1-node-blocks", Codec.NODES)):
        with tarfile.open(FROZEN / f"{name}.tar.gz") as packed:
            packed.extractall(tmp_path / name, filter="fully_trusted")
        with Repository.open(tmp_path / name / "repository") as repo:
            assert codecs(repo) == {written}
            with repo.open_overlay() as overlay:
                for number in range(40):
                    write_file(overlay, b"new/file%d" % number, b"%d " % number * 100)
                commit(repo, overlay, "more", "a")
            assert codecs(repo) == {written}
            assert fsck(repo).is_clean
