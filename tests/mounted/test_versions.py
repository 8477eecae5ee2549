"""Versions as directories, through the kernel."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.mounts import Mount, mounted
from vfs.fuse.event_loop import READ_AHEAD_KIB
from vfs.fuse.prefetch.prefetch_policy import PUSH_BYTES_MAX
from vfs.repo.repository import Repository
from vfs.repo.tags import create_tag

pytestmark = pytest.mark.mount


def _fill(mount: Mount) -> None:
    """Puts one of everything into the working layer."""
    (mount / "a" / "b").mkdir(parents=True)
    (mount / "a" / "b" / "text").write_bytes(b"words\n" * 1000)
    (mount / "a" / "large").write_bytes(os.urandom(3 << 20))
    (mount / "a" / "tiny").write_bytes(b"tiny")
    (mount / "empty").touch()
    (mount / "a" / "link").symlink_to("b/text")
    os.link(mount / "a" / "tiny", mount / "a" / "b" / "other name")
    os.mkfifo(mount / "fifo", 0o600)
    os.setxattr(mount / "empty", b"user.colour", b"blue")
    os.utime(mount / "a" / "tiny", ns=(1, 1_234_567_890_123_456_789))
    os.truncate(mount / "a" / "b" / "text", 1 << 20)


def _differences(source: Path, copy: Path) -> str:
    command = ["rsync", "-naHAX", "--checksum", "--delete", "--itemize-changes", f"{source}/", f"{copy}/"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_version_is_what_was_committed_to_the_last_attribute(mount: Mount) -> None:
    _fill(mount)
    mount.commit()
    assert _differences(mount.path, mount / "@v1") == ""
    (mount / "a" / "b" / "text").unlink()
    (mount / "a" / "tiny").chmod(0o600)
    assert _differences(mount.path, mount / "@v1") != ""
    assert (mount / "@v1" / "a" / "b" / "text").read_bytes()[:6000] == b"words\n" * 1000


def test_an_unchanged_file_is_one_inode_in_all_versions_and_a_directory_is_not(mount: Mount) -> None:
    _fill(mount)
    mount.commit()
    (mount / "a" / "large").write_bytes(b"changed")
    mount.commit()
    numbers = [
        [(mount / version / "a" / name).lstat().st_ino for version in ("@v1", "@v2")]
        for name in ("b/text", "link", "tiny", "large", "b")
    ]
    assert [first == second for first, second in numbers] == [True, True, True, False, False]


def test_hard_links_of_a_version_share_inode_and_count(mount: Mount) -> None:
    _fill(mount)
    mount.commit()
    one, other = (mount / "@v1/a/tiny").stat(), (mount / "@v1/a/b/other name").stat()
    assert (one.st_ino, one.st_nlink) == (other.st_ino, 2)
    assert (mount / "@v1/a/large").stat().st_nlink == 1


def test_numbers_are_the_same_after_forgetting_and_remounting(mount: Mount) -> None:
    _fill(mount)
    mount.commit()

    def numbers(root: Path) -> dict[str, int]:
        walked = (Path(folder, name) for folder, folders, files in os.walk(root) for name in folders + files)
        return {str(path.relative_to(root)): path.lstat().st_ino for path in walked}

    before = numbers(mount / "@v1"), numbers(mount.path)
    mount.drop_kernel_caches()
    assert (numbers(mount / "@v1"), numbers(mount.path)) == before
    mount.end()
    with mounted(mount.repository, mount.path) as again:
        assert (numbers(again / "@v1"), numbers(again.path)) == before


def test_every_name_of_a_version_leads_to_its_one_directory(mount: Mount) -> None:
    _fill(mount)
    first = mount.commit().id.hex()
    (mount / "new").touch()
    mount.commit()
    names = {name: os.readlink(mount / name) for name in ("@latest", f"@{first[:8]}", f"@{first}")}
    assert names == {"@latest": "@v2", f"@{first[:8]}": "@v1", f"@{first}": "@v1"}
    today = datetime.now(UTC).date()
    assert os.readlink(mount / f"@{today}") == "@v2"
    assert not os.path.lexists(mount / f"@{today - timedelta(days=2)}")
    assert os.readlink(mount / "a/b/@v1") == "../../@v1/a/b"
    assert os.readlink(mount / "@v2/a/b/@v1") == "../../../@v1/a/b"
    assert os.readlink(mount / "@v2/@latest") == "../@v2"
    assert (mount / "a/b/@latest/text").samefile(mount / "@v2/a/b/text")
    assert os.path.realpath(mount / "@latest/a") == str(mount / "@v2/a")


def test_the_list_of_names(mount: Mount) -> None:
    _fill(mount)
    mount.commit()
    assert sorted(os.listdir(mount / "@")) == ["branches", "runs", "tags", "versions"]
    assert os.listdir(mount / "@/versions") == ["v1"]
    assert os.readlink(mount / "@/versions/v1") == "../../@v1"
    with Repository.open(mount.repository) as repo:
        create_tag(repo, "paper", repo.resolve("v1"), author="tester")
    assert os.listdir(mount / "@/tags") == ["paper"]
    assert (mount / "@/tags/paper").samefile(mount / "@v1")
    assert os.readlink(mount / "@paper") == "@v1"
    assert not {name for name in os.listdir(mount.path) if name.startswith("@")}


def test_a_version_appears_at_once_in_every_mount_that_looked_for_it_before(mount: Mount, tmp_path: Path) -> None:
    with mounted(mount.repository, tmp_path / "other", "read_only") as other:
        for place in (mount, other):
            for name in ("@v1", "@latest", "@paper"):
                assert not os.path.lexists(place / name)
        (mount / "file").write_text("one")
        mount.commit()
        for place in (mount, other):
            assert (place / "@v1/file").read_text() == "one"
            assert os.readlink(place / "@latest") == "@v1"
        with Repository.open(mount.repository) as repo:
            create_tag(repo, "paper", repo.resolve("v1"), author="tester")
        assert os.readlink(mount / "@paper") == os.readlink(other / "@paper") == "@v1"


WRITES: dict[str, Callable[[Path, Path], object]] = {
    "create": lambda version, _: (version / "new").touch(),
    "open": lambda version, _: (version / "a/tiny").open("r+"),
    "truncate": lambda version, _: os.truncate(version / "a/tiny", 0),
    "mkdir": lambda version, _: (version / "a/new").mkdir(),
    "symlink": lambda version, _: (version / "new").symlink_to("x"),
    "mkfifo": lambda version, _: os.mkfifo(version / "new"),
    "unlink": lambda version, _: (version / "a/tiny").unlink(),
    "rmdir": lambda version, _: (version / "a/b").rmdir(),
    "chmod": lambda version, _: (version / "a/tiny").chmod(0o777),
    "chown": lambda version, _: os.chown(version / "a/tiny", 1, 1),
    "utime": lambda version, _: os.utime(version / "a/tiny"),
    "setxattr": lambda version, _: os.setxattr(version / "a/tiny", b"user.x", b"y"),
    "removexattr": lambda version, _: os.removexattr(version / "empty", b"user.colour"),
    "rename": lambda version, _: (version / "a/tiny").rename(version / "a/other"),
    "rename out": lambda version, root: (version / "a/tiny").rename(root / "out"),
    "rename in": lambda version, root: (root / "empty").rename(version / "in"),
    "link in": lambda version, root: os.link(root / "empty", version / "in"),
    "remove the version": lambda version, _: version.rmdir(),
    "rename the version": lambda version, root: version.rename(root / "out"),
    "write among names": lambda _, root: (root / "@" / "new").touch(),
    "remove a name": lambda _, root: (root / "@latest").unlink(),
    "remove a nested name": lambda _, root: (root / "a/@v1").unlink(),
}


def test_every_way_to_write_below_a_version_is_refused_as_on_a_read_only_filesystem(mount: Mount) -> None:
    _fill(mount)
    mount.commit()
    outcomes = {}
    for name, write in WRITES.items():
        with pytest.raises(OSError, match=r"\w") as caught:
            write(mount / "@v1", mount.path)
        outcomes[name] = errno.errorcode[caught.value.errno or 0]
    assert outcomes == dict.fromkeys(WRITES, "EROFS")
    with pytest.raises(OSError, match="cross-device"):
        os.link(mount / "@v1/a/tiny", mount / "out")
    assert _differences(mount.path, mount / "@v1") == ""


def test_attributes_tell_of_content_and_version_and_are_not_listed(mount: Mount) -> None:
    _fill(mount)
    commit = mount.commit()
    version = mount / "@v1"
    assert os.getxattr(version, b"user.vfs.version") == b"v1"
    assert os.getxattr(version, b"user.vfs.commit").decode() == commit.id.hex()
    hashes = {os.getxattr(version / name, b"user.vfs.hash") for name in ("a/tiny", "a/b/other name")}
    assert {len(value) for value in hashes} == {64}
    assert len(hashes) == 1
    assert len(os.getxattr(version / "a", b"user.vfs.hash")) == 64
    assert os.listxattr(version) == []
    assert os.listxattr(version / "empty") == ["user.colour"]
    with pytest.raises(OSError, match="No data"):
        os.getxattr(version / "a", b"user.vfs.commit")


def test_a_read_only_mount_shows_the_newest_version_and_follows_it(mount: Mount, tmp_path: Path) -> None:
    _fill(mount)
    mount.commit()
    with mounted(mount.repository, tmp_path / "other", "read_only") as other:
        assert _differences(mount.path, other.path) == ""
        assert os.readlink(other / "a/b/@v1") == "../../@v1/a/b"
        assert (other / "a/tiny").samefile(other / "@v1/a/tiny")
        assert (other / "a").stat().st_ino != (other / "@v1/a").stat().st_ino
        with pytest.raises(OSError, match="Read-only"):
            (other / "new").touch()
        (mount / "more").write_text("more")
        mount.commit()
        # A name that was absent from the root is asked for again each time.
        assert (other / "more").read_text() == "more"
        assert os.path.lexists(other / "@v2")


def test_versions_are_listed_in_the_root_on_request_only(mount: Mount, tmp_path: Path) -> None:
    _fill(mount)
    mount.commit()
    (mount / "more").touch()
    mount.commit()
    mount.end()
    for options in (("list_versions",), ("list_versions", "read_only")):
        with mounted(mount.repository, tmp_path / "listed", *options) as listed:
            names = os.listdir(listed.path)
            assert names == [*sorted(name for name in names if name[0] != "@"), "@v1", "@v2"]


def test_the_kernel_reads_ahead_as_far_as_configured(mount: Mount) -> None:
    device = mount.path.stat().st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    assert int(setting.read_text()) == READ_AHEAD_KIB


def test_files_of_every_size_are_read_and_mapped_whole_the_first_time_and_later(mount: Mount) -> None:
    """Small ones are given to the kernel with their open, their neighbours before it, large ones are asked for."""
    sizes = [
        0,
        1,
        2048,
        2049,
        4095,
        4096,
        4097,
        70_000,
        131_072,
        200_001,
        PUSH_BYTES_MAX,
        PUSH_BYTES_MAX + 1,
        3_000_000,
    ]
    contents = {f"{number:02d}": os.urandom(size) for number, size in enumerate(sizes * 2)}
    (mount / "d").mkdir()
    for name, data in contents.items():
        (mount / "d" / name).write_bytes(data)
    mount.commit()
    mount.drop_kernel_caches()
    for _ in range(2):
        for name in sorted(os.listdir(mount / "@v1/d")):
            assert (mount / "@v1/d" / name).read_bytes() == contents[name]
    mount.drop_kernel_caches()
    for name, data in contents.items():
        with (mount / "@v1/d" / name).open("rb") as file:
            if data:
                with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                    assert mapped[:] == data
            assert os.pread(file.fileno(), 10, max(0, len(data) - 5)) == data[-5:]


@pytest.mark.parametrize("option", ["read_only", "branch=main"])
def test_a_directory_is_listed_whole_by_whatever_answers(repository: Path, tmp_path: Path, option: str) -> None:
    """Hard links and pipes among files are listed by Python, the others natively, and again when files were read."""
    with mounted(repository, tmp_path / "working") as mount:
        expected = {}
        for number in range(20):
            folder = mount / f"d{number:02}"
            folder.mkdir()
            for at in range(231):
                (folder / f"{at:04}").write_bytes(b"x" * at)
            for at in (3 * number, 70 + number, 229):
                os.link(folder / f"{at:04}", folder / f"{at:04}l")
            os.mkfifo(folder / f"{100 + number:04}p")
            expected[folder.name] = sorted(os.listdir(folder))
        mount.commit("first")
    with mounted(repository, tmp_path / "shown", option) as mount:
        root = mount / "@v1"
        for _ in range(3):
            for name, names in expected.items():
                # In the order of the directory, each once.
                assert os.listdir(root / name) == names
                assert [entry.name for entry in os.scandir(root / name) if entry.stat().st_ino] == names
            for name, names in expected.items():
                for each in names:
                    if not each.endswith("p"):
                        assert (root / name / each).read_bytes() == b"x" * int(each[:4])
