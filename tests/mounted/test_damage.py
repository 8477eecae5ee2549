"""Damage on disk, seen through a mount: an error on the files that have it, named in the log, and on no other."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from support.ended import have_ended, watched
from support.mounts import TIMEOUT_S, Mount, mounted
from support.repositories import Repositories
from support.run_killing import VFS
from support.waiting import let_names_expire, wait_until
from vfs.fuse.session.mountpoint import mounted_at, unmount
from vfs.repo.commit import commit
from vfs.repo.file_metadata import MOUNT_XATTR
from vfs.repo.repository import Repository

pytestmark = pytest.mark.mount


def _flip_a_bit(path: Path, offset: int) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def _noise(size: int) -> bytes:
    """Returns bytes that stand in the pack as they are."""
    return os.urandom(size)


def _text(size: int) -> bytes:
    """Returns bytes that are compressed."""
    return os.urandom(size // 2).hex().encode()


@pytest.mark.parametrize("make", [_noise, _text])
@pytest.mark.parametrize("size", [1 << 20, 60_000])
def test_a_flipped_bit_is_an_error_on_the_file_that_has_it(
    mount: Mount, repositories: Repositories, size: int, make: Callable[[int], bytes]
) -> None:
    (mount / "d").mkdir()
    damaged, sound = make(size), make(size)
    (mount / "d/damaged").write_bytes(damaged)
    mount.commit()
    (pack,) = (mount.repository / "packs/data").rglob("*.pack")
    (mount / "d/sound").write_bytes(sound)
    mount.commit()
    mount.end()
    _flip_a_bit(pack, pack.stat().st_size // 2)
    with mounted(mount.repository, mount.path) as again:
        assert (again / "@v2/d/sound").read_bytes() == sound
        for name in ("@v1/d/damaged", "@v2/d/damaged", "d/damaged"):
            with pytest.raises(OSError, match=r"\w") as caught:
                (again / name).read_bytes()
            assert caught.value.errno == errno.EIO
        # The mount lives, and what is written over the damage is good again.
        (again / "d/damaged").write_bytes(b"mended")
        assert again.commit().number == 3
        assert (again / "@v3/d/damaged").read_bytes() == b"mended"
        assert "d/damaged of v1" in again.log.read_text()
    with Repository.open(mount.repository) as repo:
        repositories.expect_damage(repo)


def _commit_that_can_be_damaged(repo: Repository) -> tuple[Path, int]:
    """Commits nothing; returns the pack of the commit, and the offset of a byte of it."""
    with repo.open_overlay() as overlay:
        head = commit(repo, overlay, "a test", "tester", allow_empty=True).version
    place = repo.store.index.lookup(head.id)
    assert place is not None
    return repo.path / repo.store.index.pack_key(place.pack), place.offset + place.block_bytes - 1


def test_a_read_only_mount_of_a_damaged_version_says_so(repositories: Repositories, tmp_path: Path) -> None:
    made = repositories.make()
    repositories.expect_damage(made)
    _flip_a_bit(*_commit_that_can_be_damaged(made))
    made.close()
    path = tmp_path / "mnt"
    path.mkdir()
    command = [VFS, "mount", "--read-only", str(made.path), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 5
    assert "vfs fsck --read-data" in done.stderr
    assert mounted_at(path) is None


def test_a_read_only_mount_of_a_version_that_is_damaged_later_survives_its_daemons(
    mount: Mount, tmp_path: Path
) -> None:
    (mount / "file").write_bytes(b"content")
    mount.commit()
    mount.end()
    with (
        mounted(mount.repository, tmp_path / "shown", "read_only", "survives") as shown,
        (shown / "@v1/file").open("rb", buffering=0) as file,
        ExitStack() as stack,
    ):
        daemon = json.loads(os.getxattr(shown.path, MOUNT_XATTR))["process"]
        with Repository.open(mount.repository) as repo:
            place = _commit_that_can_be_damaged(repo)
        _flip_a_bit(*place)
        last = -1
        for _ in range(2):
            # The kernel asks for the root's attributes again.
            let_names_expire()
            os.kill(daemon, signal.SIGKILL)
            daemon = _successor_of(daemon, shown)
            (last,) = stack.enter_context(watched([daemon]))
            assert os.pread(file.fileno(), 10, 0) == b"content"
            with pytest.raises(OSError, match=r"\w") as caught:
                os.listdir(shown.path)
            assert caught.value.errno == errno.EIO
            _wait_until_it_prefetches(daemon)
        _flip_a_bit(*place)
        assert os.listdir(shown.path) == ["file"]
        file.close()
        unmount(shown.path)
        assert have_ended([last])


def _wait_until_it_prefetches(daemon: int) -> None:
    """Returns when the workers of a daemon have its connection."""
    wait_until(lambda: any(map(_has_connection, _children_of(daemon))))


def _children_of(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def _has_connection(process: str) -> bool:
    names = Path(f"/proc/{process}/fd")
    # The worker closes what it does not need, or ends.
    with suppress(OSError):
        return any(os.readlink(names / name) == "/dev/fuse" for name in os.listdir(names))
    return False


def _successor_of(daemon: int, mount: Mount) -> int:
    """Waits for the daemon that takes over from a killed one, and returns its process."""

    def took_over() -> list[int]:
        found = re.findall(r"process (\d+) takes the mount over", mount.log.read_text())
        return [int(number) for number in found[-1:] if int(number) != daemon]

    wait_until(took_over)
    return took_over()[0]
