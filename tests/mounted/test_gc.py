"""gc, forget: a real process, killed under a mount that is written to; and versions that go while kernels know them."""

from __future__ import annotations

import errno
import os
import random
import signal
from pathlib import Path
from typing import BinaryIO

import pytest

from support.command_server import ForkedProcess, fork_server
from support.mounts import TIMEOUT_S, Mount, mounted
from support.waiting import let_names_expire
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import forget

pytestmark = pytest.mark.mount


def gc_process(repository: Path, steps: int) -> ForkedProcess:
    words = ["gc", str(repository), str(steps)]
    return fork_server(os.environ).start("support.killed_gc.main", words, Path.cwd(), os.environ, 2)


def read_or_errno(file: BinaryIO) -> bytes | int | None:
    try:
        return file.read()
    except OSError as error:
        return error.errno


@pytest.mark.slow
def test_a_gc_that_is_killed_under_a_mounted_writer_loses_nothing(mount: Mount) -> None:
    chance = random.Random(62)
    pool = [chance.randbytes(chance.choice((500, 5000, 60_000, 300_000))) for _ in range(8)]
    model: dict[str, bytes] = {}
    versions: dict[int, dict[str, bytes]] = {}
    outcomes = set()
    number = 0
    for _ in range(24):
        with gc_process(mount.repository, chance.choice((1, 2, 3, 5, 8, 12, 20, 30, 1000))) as collecting:
            # Contents come back after they were swept, while gc runs.
            for _ in range(6):
                name = f"f{chance.randrange(6)}"
                model[name] = chance.choice(pool)
                (mount / name).write_bytes(model[name])
            (mount / "count").write_bytes(b"%d" % len(versions))
            model["count"] = b"%d" % len(versions)
            made = mount.commit()
            number = made.number
            versions[number] = dict(model)
            outcomes.add(collecting.wait(TIMEOUT_S))
        for recent in (number, number - 1):
            for name, data in versions.get(recent, {}).items():
                assert (mount / f"@v{recent}" / name).read_bytes() == data
    assert outcomes == {0, -signal.SIGKILL}
    mount.drop_kernel_caches()
    for recent in range(number - 2, number + 1):
        assert {path.name: path.read_bytes() for path in (mount / f"@v{recent}").iterdir()} == versions[recent]
    with Repository.open(mount.repository) as repo:
        assert fsck(repo, read_data=True).damage == []


def test_a_version_that_goes_for_good_leaves_every_mount(mount: Mount, tmp_path: Path) -> None:
    for text in (b"one" * 2000, b"two" * 2000):
        (mount / "d").mkdir(exist_ok=True)
        (mount / "d/file").write_bytes(text)
        mount.commit()
    with mounted(mount.repository, tmp_path / "second", "read_only") as other:
        for each in (mount, other):
            assert (each / "@v1/d/file").read_bytes() == b"one" * 2000
        with (mount / "@v1/d/file").open("rb") as kept, Repository.open(mount.repository) as repo:
            forget(repo, [repo.resolve("v1")], author="a")
            let_names_expire()
            for each in (mount, other):
                assert not (each / "@v1/d/file").exists()
                assert not (each / "d/@v1/file").exists()
                assert not (each / "@/versions/v1").exists()
                assert (each / "@v2/d/file").read_bytes() == b"two" * 2000
                assert [path.name for path in (each / "@v2/d/file@@").iterdir()] == ["v2"]
            # What is open is what it was, or an error.
            assert read_or_errno(kept) in (b"one" * 2000, errno.EIO)
        assert (mount / "d/file").read_bytes() == b"two" * 2000
