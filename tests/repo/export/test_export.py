"""Goal: plain files with everything the version keeps, nowhere but in the target."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from support.repositories import Repositories
from support.trees import picture_of_directory, write_file
from vfs.errors import InvalidInput, IsADirectory, NotADirectory, NotEmpty, NotFound
from vfs.model.objects import Version
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.repo.commit import commit
from vfs.repo.export.export import export
from vfs.repo.import_directory import import_directory
from vfs.repo.repository import Repository


@pytest.fixture
def version(repo: Repository) -> Version:
    with repo.open_overlay() as overlay:
        write_file(overlay, b"a/b/deep", b"deep")
        write_file(overlay, b"a/large", b"0123456789" * 50_000)
        ino = write_file(overlay, b"top", b"top")
        overlay.setattr(ino, mode=0o400, mtime_ns=1_234_567_890_123_456_789)
        a = overlay.lookup(ROOT_INO, b"a").ino
        overlay.link(ino, a, b"linked")
        overlay.setattr(a, mode=0o500, mtime_ns=5)
        return commit(repo, overlay, "m", "a").version


def test_all_of_a_version_is_written_and_nothing_is_left_beside_it(
    repo: Repository, version: Version, tmp_path: Path
) -> None:
    exported = export(repo, version, tmp_path / "out")
    assert picture_of_directory(tmp_path / "out") == {
        b"a": None,
        b"a/b": None,
        b"a/b/deep": b"deep",
        b"a/large": b"0123456789" * 50_000,
        b"a/linked": b"top",
        b"top": b"top",
    }
    assert (exported.files, exported.bytes, exported.losses) == (4, 500_010, [])
    status = (tmp_path / "out/top").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns, status.st_nlink) == (0o400, 1_234_567_890_123_456_789, 2)
    assert (tmp_path / "out/a").stat().st_mtime_ns == 5
    assert sorted(os.listdir(tmp_path)) == ["out", "repo"]


def test_paths_are_written_with_the_directories_that_lead_there(
    repo: Repository, version: Version, tmp_path: Path
) -> None:
    export(repo, version, tmp_path / "out", [b"a/b", b"a/linked"])
    found = picture_of_directory(tmp_path / "out")
    assert found == {b"a": None, b"a/b": None, b"a/b/deep": b"deep", b"a/linked": b"top"}
    assert (tmp_path / "out/a").stat().st_mtime_ns == 5
    assert (tmp_path / "out/a/linked").stat().st_nlink == 1


def test_a_path_inside_another_adds_nothing(repo: Repository, version: Version, tmp_path: Path) -> None:
    export(repo, version, tmp_path / "out", [b"a/b/deep", b"a"])
    assert len(picture_of_directory(tmp_path / "out")) == 5
    export(repo, version, tmp_path / "all", [b"a", b"."])
    assert len(picture_of_directory(tmp_path / "all")) == 6


def test_a_missing_path_leaves_no_target(repo: Repository, version: Version, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        export(repo, version, tmp_path / "out", [b"a/missing"])
    assert os.listdir(tmp_path) == ["repo"]


def test_a_full_target_is_refused_unless_asked_and_then_only_its_namesakes_go(
    repo: Repository, version: Version, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_bytes(b"mine")
    (out / "top").write_bytes(b"old")
    with pytest.raises(NotEmpty):
        export(repo, version, out)
    export(repo, version, out, into_existing=True)
    found = picture_of_directory(out)
    assert found[b"mine"] == b"mine"
    assert found[b"top"] == b"top"


def test_a_target_inside_the_repository_is_refused(repo: Repository, version: Version) -> None:
    with pytest.raises(InvalidInput, match="inside the repository"):
        export(repo, version, repo.path / "out")
    assert not (repo.path / "out").exists()


def test_an_empty_target_is_used(repo: Repository, version: Version, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export(repo, version, tmp_path / "out")
    assert len(picture_of_directory(tmp_path / "out")) == 6


def test_links_in_the_target_lead_nothing_out_of_it(repo: Repository, version: Version, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "top").write_bytes(b"outside")
    out = tmp_path / "out"
    out.mkdir()
    (out / "top").symlink_to(outside / "top")
    export(repo, version, out, [b"top"], into_existing=True)
    assert (outside / "top").read_bytes() == b"outside"
    (out / "a").symlink_to(outside)
    with pytest.raises(NotADirectory, match="something else"):
        export(repo, version, out, [b"a/large"], into_existing=True)
    assert os.listdir(outside) == ["top"]


def test_a_directory_is_never_replaced_by_a_file(repo: Repository, version: Version, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "top").mkdir(parents=True)
    with pytest.raises(IsADirectory):
        export(repo, version, out, [b"top"], into_existing=True)


def test_damage_leaves_no_half_made_target(repositories: Repositories, tmp_path: Path) -> None:
    repo = repositories.make("damaged")
    with repo.open_overlay() as overlay:
        write_file(overlay, b"a", b"a" * 5000)
        write_file(overlay, b"b", os.urandom(50_000))
        version = commit(repo, overlay, "m", "a").version
    repo = repositories.reopen(repo)
    repositories.expect_damage(repo)
    for pack in (repo.path / "packs/data").rglob("*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(bytes(byte ^ 1 for byte in pack.read_bytes()))
    with pytest.raises(Exception, match="object"):
        export(repo, version, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["damaged"]


def test_progress_ends_at_the_total(repo: Repository, version: Version, tmp_path: Path) -> None:
    calls: list[tuple[int, int, int | None]] = []
    export(repo, version, tmp_path / "out", progress=lambda *at: calls.append(at))
    assert calls[-1] == (4, 500_010, 4)


def test_a_target_that_cannot_be_made_is_named_itself(repo: Repository, version: Version) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        export(repo, version, Path("/proc/exported"))
    assert caught.value.filename == "/proc/exported"


def test_progress_moves_within_a_large_file(repo: Repository, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "large").write_bytes(os.urandom(20_000_000))
    with repo.open_overlay() as overlay:
        version = import_directory(repo, tmp_path / "in", "m", "a", overlay=overlay).version
    calls: list[tuple[int, int, int | None]] = []
    export(repo, version, tmp_path / "out", progress=lambda *at: calls.append(at))
    sizes = [size for files, size, _ in calls if files == 0]
    assert len(sizes) > 2
    assert sizes == sorted(sizes)
    assert calls[-1] == (1, 20_000_000, 1)
