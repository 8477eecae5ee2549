"""Finding the repository and the place in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.calls import ALICE, as_user
from vfs.api.hints import hint_text
from vfs.cli.opening.locate import (
    Place,
    find_place,
    named_repository,
    path_in,
    position_in,
)
from vfs.control.mount_points import MountPoint, parse_mounts
from vfs.control.mount_table import MountLine, parse_table
from vfs.errors import InvalidInput, NotFound
from vfs.repo.paths import CONFIG

MOUNT = MountPoint(Path("/mnt/data"), Path("/srv/repo"))


def table_of(top: Path, root: str = "/") -> list[MountLine]:
    """Returns a table with the repository `repo` of a directory mounted at `mnt`, beside it."""
    line = f"40 22 0:51 {root} {top}/mnt rw - fuse.vfs {top}/repo rw\n"
    return parse_table(b"22 1 8:1 / / rw - ext4 /dev/root rw\n" + line.encode())


def make_repository(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / CONFIG).write_bytes(b"{}")
    return path


def test_another_users_repository_is_not_called_none(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repo")
    repository.chmod(0o700)
    assert as_user(ALICE, tmp_path, lambda: str(named_repository("repo"))) == "EACCES"
    assert as_user(ALICE, tmp_path, lambda: Place(Path("repo"), MOUNT).require_there()) == "EACCES"


def test_mount_table_gives_vfs_mounts_with_spaces_and_percent_signs() -> None:
    table = (
        b"22 27 0:21 / /proc rw,relatime shared:1 - proc proc rw\n"
        b"99 27 0:55 / /mnt/my\\040data rw,nosuid shared:5 master:1 - fuse.vfs /srv/100%25%20repo%5C rw,user_id=0\n"
        b"98 27 0:54 / /mnt/other rw - fuse.sshfs /x rw\n"
        b"cut off\n"
    )
    assert parse_mounts(table) == [MountPoint(Path("/mnt/my data"), Path("/srv/100% repo\\"), device="0:55")]


def test_mount_table_keeps_names_that_are_no_utf8() -> None:
    (mount,) = parse_mounts(b"1 1 0:1 / /mnt/\xff ro,nosuid - fuse.vfs /r%FE rw\n")
    assert os.fsencode(mount.path) == b"/mnt/\xff"
    assert os.fsencode(mount.repository) == b"/r\xfe"
    assert mount.is_read_only


@pytest.mark.parametrize(
    ("path", "position"),
    [
        ("/mnt/data", b""),
        ("/mnt/data/images/cats", b"images/cats"),
        ("/mnt/data/@v3/images", b"images"),
        ("/mnt/data/@v3..@v4/added/images", b"images"),
        ("/mnt/data/@/versions/v3/images", b"images"),
        ("/mnt/data/@/versions", b""),
    ],
)
def test_position_leaves_out_the_names_of_versions(path: str, position: bytes) -> None:
    assert position_in(MOUNT, Path(path)) == position


def test_relative_paths_start_at_the_position_and_absolute_ones_at_the_root() -> None:
    place = Place(MOUNT.repository, MOUNT, b"images/cats")
    assert path_in(place, "1.png") == b"images/cats/1.png"
    assert path_in(place, "../dogs/./2.png") == b"images/dogs/2.png"
    assert path_in(place, ".") == b"images/cats"
    assert path_in(place, "/labels.csv") == b"labels.csv"
    assert path_in(place, "/mnt/data/@v2/labels.csv") == b"labels.csv"
    assert path_in(Place(MOUNT.repository), "a//b/") == b"a/b"


def test_empty_path_is_not_everything() -> None:
    with pytest.raises(InvalidInput, match="empty"):
        path_in(Place(MOUNT.repository, MOUNT, b"images"), "")


def test_path_that_leaves_the_root_is_refused() -> None:
    with pytest.raises(InvalidInput, match="leads out"):
        path_in(Place(MOUNT.repository), "../x")


def test_repository_is_found_from_a_directory_in_it(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repo")
    (repository / "packs").mkdir()
    assert find_place(None, None, directory=str(repository / "packs")) == Place(repository)


def test_option_wins_over_directory_and_directory_over_environment(tmp_path: Path) -> None:
    here, given, named = (make_repository(tmp_path / name) for name in ("here", "given", "named"))
    assert find_place(str(given), str(named), directory=str(here)).repository == given
    assert find_place(None, str(named), directory=str(here)).repository == here
    assert find_place(None, str(named), directory=str(tmp_path)).repository == named


def test_nothing_found_names_every_way(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        find_place(None, None, directory=str(tmp_path))
    for way in ("--repo", "VFS_REPO", "vfs init"):
        assert way in hint_text(caught.value.hint)


def test_mount_point_stands_for_its_repository(tmp_path: Path) -> None:
    lines = table_of(tmp_path)
    (tmp_path / "mnt" / "images").mkdir(parents=True)
    assert named_repository(str(tmp_path / "mnt"), lines) == tmp_path / "repo"
    assert named_repository(str(tmp_path / "mnt" / "images"), lines) == tmp_path / "repo"


def test_an_absent_path_in_a_mount_stands_for_no_repository(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing is there"):
        named_repository(str(tmp_path / "mnt" / "absent"), table_of(tmp_path))


def test_directory_that_is_no_repository_is_misuse_and_a_missing_one_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no repository"):
        named_repository(str(tmp_path))
    with pytest.raises(NotFound, match="nothing is there"):
        named_repository(str(tmp_path / "absent"))
