"""Where a mount may go, in words; and the kernel's mount table."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from support.calls import User, as_user
from vfs.api.hints import hint_text
from vfs.errors import Busy, InvalidInput, NotADirectory, NotEmpty, NotFound, VfsError
from vfs.fuse.session.mount_options import MountOptions
from vfs.fuse.session.mountpoint import claimed, mounted_at, source_of, unmount

TABLE = rb"""22 1 8:1 / / rw - ext4 /dev/root rw
40 22 0:51 / /mnt/my\040data rw,nosuid - fuse.vfs /srv/a%20b rw
41 22 0:52 / /mnt/my\040data ro shared:1 master:2 - fuse.vfs /srv/other ro
"""

# It has a name, without which fusermount3 ends no mount.
_NOBODY = User(65534, 65534, ())


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    repository, mountpoint = tmp_path / "repo", tmp_path / "mnt"
    repository.mkdir()
    mountpoint.mkdir()
    return repository, mountpoint


def test_an_empty_directory_is_ready_and_comes_back_with_its_real_path(places: tuple[Path, Path]) -> None:
    repository, mountpoint = places
    link = mountpoint.parent / "link"
    link.symlink_to(mountpoint)
    with claimed(link, repository) as path:
        assert path == mountpoint


def test_a_mount_point_is_one_command_s_at_a_time(places: tuple[Path, Path]) -> None:
    repository, mountpoint = places
    other = claimed(mountpoint, repository, timeout_s=0.01)
    with claimed(mountpoint, repository), pytest.raises(Busy, match="being made"), other:
        pass
    with claimed(mountpoint, repository):
        pass


def test_a_mount_waits_for_the_last_process_of_a_killed_one_and_says_so(places: tuple[Path, Path]) -> None:
    repository, mountpoint = places
    told: list[str] = []
    with ExitStack() as leaving:
        leaving.enter_context(claimed(mountpoint, repository))

        def waiting(words: str) -> None:
            told.append(words)
            leaving.close()

        with claimed(mountpoint, repository, waiting=waiting):
            pass
    assert told == [f"waited for another process to leave the mount point {mountpoint}"]


def test_a_missing_mount_point_says_how_to_make_it(places: tuple[Path, Path]) -> None:
    with pytest.raises(NotFound) as caught, claimed(places[1] / "no", places[0]):
        pass
    assert "mkdir" in hint_text(caught.value.hint)


def test_a_file_is_no_mount_point(places: tuple[Path, Path]) -> None:
    file = places[1] / "file"
    file.touch()
    with pytest.raises(NotADirectory), claimed(file, places[0]):
        pass


def test_a_directory_with_something_in_it_is_refused(places: tuple[Path, Path]) -> None:
    (places[1] / "file").touch()
    with pytest.raises(NotEmpty, match="hide"), claimed(places[1], places[0]):
        pass


@pytest.mark.parametrize("inside", ["repo", "repo/below", "."])
def test_mount_and_repository_do_not_contain_each_other(places: tuple[Path, Path], inside: str) -> None:
    repository, mountpoint = places
    (repository / "below").mkdir()
    mountpoint.rmdir()
    with pytest.raises(InvalidInput, match="inside"), claimed(repository.parent / inside, repository):
        pass


def test_the_mount_table_is_read_with_its_escapes_and_the_topmost_mount_counts() -> None:
    found = mounted_at(Path("/mnt/my data"), TABLE)
    assert found is not None
    assert (found.type, found.device, found.repository) == ("fuse.vfs", "0:52", Path("/srv/other"))
    assert found.is_read_only
    assert mounted_at(Path("/mnt"), TABLE) is None


def test_any_path_of_a_repository_survives_as_a_mount_source() -> None:
    path = Path("/srv/a b,c\\d%e=ö")
    source = source_of(path)
    assert not set(source) & set(" ,\\=")
    assert source.isascii()
    line = b"1 1 0:1 / /m rw - fuse.vfs " + source.encode() + b" rw\n"
    found = mounted_at(Path("/m"), line)
    assert found is not None
    assert found.repository == path


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/", "/ was mounted by another user, who can end it, as root can"),
        # As one that has ended meanwhile.
        ("/etc", "/etc: nothing is mounted there"),
    ],
)
def test_a_user_is_told_why_a_mount_is_not_theirs_to_end(path: str, words: str) -> None:
    def refused() -> str:
        try:
            unmount(Path(path))
        except VfsError as error:
            return error.message
        return ""

    assert as_user(_NOBODY, Path("/"), refused) == words


def test_options_forbid_devices_and_set_user_id_unless_asked() -> None:
    plain = MountOptions().for_kernel(Path("/srv/repo"))
    assert {"nodev", "nosuid", "noatime", "default_permissions", "subtype=vfs", "fsname=/srv/repo"} == plain
    asked = MountOptions(dev=True, suid=True, read_only=True, allow_other=True).for_kernel(Path("/srv/repo"))
    assert {"dev", "suid", "ro", "allow_other"} < asked
    assert not {"nodev", "nosuid"} & asked
